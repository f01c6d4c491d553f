"""Detection: boxes around what is in an image, of a class and with a score each. The truth is ``(N, most, 5)`` float32: class, left, top,
right, bottom in pixels of the input, -1 in rows that are none."""

from ..classification.telling import files as files
from ..classification.telling import names_of as names_of
from .counting import MEANING as MEANING
from .counting import meaning as meaning
from .original import doubt as doubt
from .original import look as look
from .original import trouble as trouble
from .reading import asks_weights as asks_weights
from .reading import doubts as doubts
from .reading import ingredients as ingredients
from .reading import load as load
from .reading import marked as marked
from .showing import answers as answers
from .telling import DEFAULTS as DEFAULTS
from .telling import DESCRIBES as DESCRIBES
from .telling import IS_SHARE as IS_SHARE
from .telling import OUTPUTS as OUTPUTS
from .telling import SCORE as SCORE
from .telling import SOURCES as SOURCES
from .telling import columns as columns
from .telling import described as described
from .telling import fault as fault
from .telling import labels as labels
from .telling import misfit as misfit
from .telling import settings as settings
from .telling import shares as shares
from .telling import size as size
from .telling import told as told
from .training import augmented as augmented
from .training import loss as loss
