"""What is said where torch.export cannot follow a model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..errors import ConversionError


@contextmanager
def followed(what: str, *shapes: Sequence[int]) -> Iterator[None]:
    """Raise a ConversionError where the user's code, a copy or the tracing of it raises anything.

    Args:
        what: is followed, in words.
        shapes: of the inputs.
    """
    # torch tells the same at length
    talkative = logging.getLogger("torch._subclasses.fake_tensor")
    was_silent, talkative.disabled = talkative.disabled, True
    try:
        yield
    except Exception as error:  # of many types
        first = next(iter(str(error).strip().splitlines()), "")
        causes = (
            "Usual causes are another input size than the model takes, inputs that [[input]] (from Python: tensors=) does not "
            "name, and branches on what a tensor holds."
        )
        if "deepcopy protocol" in first:
            causes = (
                "An attribute of it is a tensor that was computed with gradients, as torch.nn.utils.weight_norm keeps "
                "its weight: take torch.nn.utils.parametrizations, or call remove_weight_norm first."
            )
        raise ConversionError(
            f"torch.export cannot follow {what} on an input of shape {' and '.join(str(tuple(one)) for one in shapes)}: "
            f"{type(error).__name__}: {first[:500]}. {causes}"
        ) from error
    finally:
        talkative.disabled = was_silent
