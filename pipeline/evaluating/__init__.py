"""Every artifact of a finished folder over a whole validation set: answers by image, and what is counted of them."""

import lazy_loader

# names and modules that other rooms may use stand in __init__.pyi; each is imported when it is first asked for
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
