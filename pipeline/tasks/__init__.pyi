from .classification.ranking import Answers as Answers
from .classification.ranking import top as top
from .detection.decoding import Detections as Detections
from .detection.decoding import decode as decode
from .detection.decoding import in_photo as in_photo
from .detection.form import Form as Form
from .task import Task as Task
from .task import named as named
