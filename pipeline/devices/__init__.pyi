from . import android as android
from . import apple as apple
from . import binaries as binaries
from . import found as found
