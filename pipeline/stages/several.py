"""Whether a model takes several images together, which is faster wherever many are looked at."""

from __future__ import annotations

import numpy as np
from torch import nn

from ..data import Images
from ..errors import ConversionError
from ..program import evaluate

_ALIKE = 1e-3
"""Of the largest output: sums in another order differ by less, and what one image does to another's output by more."""


def why_not(module: nn.Module, images: Images) -> str:
    """Why a module in evaluation mode does not take the first and the last image together; empty where it gives of both what
    it gives of each."""
    pair = images[[0, len(images) - 1]]
    alone = evaluate(module, pair)
    try:
        both = evaluate(module, pair, 2)
    except Exception as error:  # of many types: whatever the user's code or torch raises
        return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
    if not np.isfinite(alone).all():
        return ""  # nothing can be told; what looks at the original says so
    if both.shape != alone.shape:
        return f"of two images it gives {both.size} values, of each {alone[0].size}"
    apart, size = float(np.abs(both - alone).max()), float(np.abs(alone).max())
    if apart <= _ALIKE * size:
        return ""
    return f"beside another image it gives something else, {apart:.3g} apart of {size:.3g}"


def check(module: nn.Module, images: Images, use: str) -> None:
    """Raise a ConversionError where a module in evaluation mode takes one image alone.

    Args:
        use: that gives it several.
    """
    if why := why_not(module, images):
        raise ConversionError(
            f"the model takes one image alone, and {use} gives it several together: {why}. The usual cause is a number of "
            "images in its code: write x.flatten(1) for x.view(1, -1), x.shape[0] for such a 1, and x.flatten(1) for "
            "x.squeeze()."
        )
