from . import device as device, evidence as evidence, finished as finished, folder as folder, machine as machine, manifest as manifest, outputs as outputs, replay as replay, sdk as sdk, signature as signature
from .evidence import is_met as is_met
from .evidence import short as short
from .finished import compare as compare
from .sdk import Contents as Contents
from .sdk import Kit as Kit
from .sdk import write_vectors as write_vectors
