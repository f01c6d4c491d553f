"""Features: any tensors, an embedding, several heads, a map. Nothing is known of what they mean: what a runtime gives is held
against the float model by noise, direction and range."""

from .comparing import MEANING as MEANING
from .comparing import answers as answers
from .comparing import meaning as meaning
from .reading import asks_weights as asks_weights
from .reading import doubts as doubts
from .reading import ingredients as ingredients
from .reading import load as load
from .reading import marked as marked
from .telling import DEFAULTS as DEFAULTS
from .telling import DESCRIBES as DESCRIBES
from .telling import OUTPUTS as OUTPUTS
from .telling import SCORE as SCORE
from .telling import SOURCES as SOURCES
from .telling import augmented as augmented
from .telling import columns as columns
from .telling import described as described
from .telling import doubt as doubt
from .telling import fault as fault
from .telling import files as files
from .telling import labels as labels
from .telling import look as look
from .telling import loss as loss
from .telling import misfit as misfit
from .telling import names_of as names_of
from .telling import settings as settings
from .telling import shares as shares
from .telling import size as size
from .telling import told as told
from .telling import trouble as trouble
