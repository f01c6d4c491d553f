from .ranking import Answers as Answers
from .ranking import answers as answers
from .ranking import softmax as softmax
from .ranking import top as top
