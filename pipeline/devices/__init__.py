"""Latency on devices: the runtimes' own benchmark programs on an Android phone, Core ML on a Mac."""

import lazy_loader

# names and modules that other rooms may use stand in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
