from . import calibration as calibration, checkpoint as checkpoint, fold as fold, ladder as ladder, saved as saved, train as train, weights as weights
from .history import Epoch as Epoch
from .history import Rung as Rung
from .saved import DESCRIPTIVE as DESCRIPTIVE
from .saved import SavedProgram as SavedProgram
