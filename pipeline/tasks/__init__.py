"""What outputs mean, a task in a file each: the data it wants, what is right, what is counted, and how it is told."""

import lazy_loader

# names and modules that other rooms may use stand in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
