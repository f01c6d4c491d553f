from . import crews as crews
from . import lines as lines
from . import picking as picking
from . import planning as planning
from .running import Yard as Yard
from .sweep import Sweep as Sweep
