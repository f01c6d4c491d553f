"""The runtimes that run artifacts: one module each, a `Runtime`. `twinkeel replay` sends them to other machines, so they
import nothing of this project but errors, and numpy; Python 3.10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def packed(outputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """All outputs of one image, flattened, one behind the other: ``(1, width)``."""
    if len(outputs) == 1:
        return np.asarray(outputs[0], np.float32).reshape(1, -1)
    return np.concatenate([np.asarray(one, np.float32).reshape(1, -1) for one in outputs], 1)
