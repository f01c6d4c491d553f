from . import order as order
from . import runner as runner
from .explaining import explain as explain
from .exported import Exported as Exported
from .factories import Factory as Factory
from .order import Order as Order
from .site import Architecture as Architecture
from .zoos import Zoo as Zoo
