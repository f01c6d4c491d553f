from .classification.ranking import Answers as Answers
from .classification.ranking import top as top
from .task import Task as Task
from .task import named as named
