from . import answers as answers
from . import planning as planning
from . import running as running
from . import summary as summary
from .summary import Evaluation as Evaluation
from .summary import Told as Told
from .summary import summarized as summarized
