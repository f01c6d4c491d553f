from . import android as android
from . import apple as apple
from . import binaries as binaries
from . import found as found
from . import stopwatch as stopwatch
from .stopwatch import Stopwatch as Stopwatch
