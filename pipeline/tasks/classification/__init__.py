"""Classification: one class of many for an image. Outputs are logits ``(N, classes)``, the truth is the label ``(N,)``."""

from .counting import MEANING as MEANING
from .counting import meaning as meaning
from .original import doubt as doubt
from .original import look as look
from .original import trouble as trouble
from .ranking import answers as answers
from .reading import asks_weights as asks_weights
from .reading import doubts as doubts
from .reading import ingredients as ingredients
from .reading import load as load
from .telling import OUTPUTS as OUTPUTS
from .telling import SCORE as SCORE
from .telling import columns as columns
from .telling import described as described
from .telling import fault as fault
from .telling import files as files
from .telling import labels as labels
from .telling import names_of as names_of
from .telling import shares as shares
from .telling import size as size
from .telling import told as told
from .training import augmented as augmented
from .training import loss as loss
