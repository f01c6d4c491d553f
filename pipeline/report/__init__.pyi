from . import differences as differences
from . import page as page
from . import parts as parts
from . import terminal as terminal
from .outcome import Outcome as Outcome
from .results import Built as Built
from .results import Report as Report
from .results import Result as Result
