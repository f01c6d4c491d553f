"""Weights of a checkpoint into a model; nothing in the file is ever executed.

Which of its tensors are meant is found in `checkpoints/`, where what differs between projects is `layouts.py`, and for Keras
`keras_h5.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ..errors import WeightsError
from ..reading import shown
from .checkpoints import fitting, keras_h5, kinds, opening, others, telling
from .checkpoints.finding import Found
from .checkpoints.opening import check_size, opened, unreadable
from .checkpoints.telling import Asked as Asked

T = TypeVar("T")

_NOBODY = Asked()
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_LARGEST = 1e12
"""Of a value: variances of 1e8 are seen where images are not normalized, and a flipped bit of an exponent gives 1e20 and more."""


def load_into(
    model: nn.Module,
    path: Path,
    key: str | None = None,
    head: str | None = None,
    asked: Asked = _NOBODY,
) -> str:
    """Load a checkpoint strictly into `model`; gives what was loaded and what was left, in a line.

    Accepts every state dict in nested dictionaries under any common prefix, in torchvision's, timm's and
    efficientnet-lite-pytorch's names, shards by their index, and Keras's ``.h5``. Of several that fit, averaged weights are taken.

    Args:
        key: path of the state dict that is meant, joined by dots.
        head: name of the model's layer that is to be trained: nothing is loaded into it.
        asked: what an error says of the model.

    Raises:
        WeightsError: naming the first key that does not fit, both shapes and the likely cause.
    """
    wanted = model.state_dict()
    fresh = frozenset() if head is None else frozenset(name for name in wanted if name.rpartition(".")[0] == head)
    theirs: dict[str, str] = {}
    size = None
    if path.suffix in keras_h5.SUFFIXES:
        content, theirs, size = _of_keras(model, path, key, fresh, asked)
    else:
        content = opened(path)
    shapes = {name: value.shape for name, value in wanted.items()}
    fits = _of_file(path, lambda: fitting.fits(content, shapes, key, fresh, theirs=theirs))
    best = fits[0]
    _put(best, model, path, asked, lambda: others.of_content(content, key, asked.makes))
    others_too = [fit for fit in fits[1:] if fit.is_whole and fit.name != best.name]
    return telling.told(best, others_too) + telling.of_size(size, asked.size)


def load_body(body: nn.Module, path: Path, key: str | None = None) -> tuple[str, frozenset[str]]:
    """Load what a checkpoint has of a network's body, strictly: of a classifier, or of a network with another head.

    The body's last layer is left where that alone has another shape: narrow networks widen their last map for a classifier, and not for other heads.

    Args:
        body: with `features`, named as in the classifier.

    Returns:
        What was loaded and what was left, in a line; and the names of the tensors of the last layer, where that was left.

    Raises:
        WeightsError: naming the first key that does not fit.
    """
    if path.suffix in keras_h5.SUFFIXES:
        raise WeightsError(
            f"'{path}': of Keras's files a whole classifier is read, and no body alone. Build it once with model.name of the classifier, and give the "
            "weights that `twinkeel train` writes."
        )
    wanted = body.state_dict()
    shapes = {name: value.shape for name, value in wanted.items()}
    content = opened(path)
    best = _of_file(path, lambda: fitting.fits(content, shapes, key, is_body=True))[0]
    last = frozenset(name for name in wanted if name.startswith(f"features.{len(body.features) - 1}."))  # type: ignore[arg-type]
    if not best.missing and best.misshapen and last.issuperset(best.misshapen):
        best = fitting.fits(content, shapes, key, last, is_body=True)[0]
    _put(best, body, path, _NOBODY)
    return telling.told(best, []), best.fresh


def _put(
    best: fitting.Fit,
    module: nn.Module,
    path: Path,
    asked: Asked,
    alike: Callable[[], Sequence[others.Other]] = lambda: (),
) -> None:
    """What a checkpoint has of a module, into it; what is fresh stays as it is.

    Args:
        alike: gives the networks that the checkpoint may be of, where it does not fit.
    """
    if not best.is_whole:
        raise WeightsError(telling.mismatch(best, path, asked, alike))
    # behind what fits: of another architecture it would be the wrong advice
    if (
        best.layout is not None
        and best.layout.padding is not None
        and keras_h5.pads_otherwise(module, best.layout.padding)
    ):
        raise WeightsError(telling.padding(path, best.layout.padding))
    state = {
        name: _checked(best.state[name], value, f"'{path}': {telling.named(best, name)}")
        if name in best.state and name not in best.fresh
        else value
        for name, value in module.state_dict().items()
    }
    module.load_state_dict(state, strict=True)


def check_kind(path: Path) -> None:
    """Raise a WeightsError where it is known at once that a checkpoint cannot be read: it is of no known kind, or h5py is missing."""
    if path.suffix not in keras_h5.SUFFIXES:
        opening.check_kind(path)
        return
    _check_signature(path)
    keras_h5.check_readable(path)


def outputs_in(path: Path, key: str | None = None) -> int:
    """How many outputs a checkpoint's last dense layer has.

    Raises:
        WeightsError: it cannot be read, or has no dense layer.
    """
    if path.suffix in keras_h5.SUFFIXES:
        found = _guarded(path, lambda: keras_h5.outputs_in(path))
    else:
        content = opened(path)
        dense = _dense(_of_file(path, lambda: fitting.largest(content, key)))
        found = dense[-1].shape[0] if dense else 0
    if not found:
        raise WeightsError(
            f"'{path}' has no dense layer that says how many classes there are. Name them: [data] labels."
        )
    return found


def _dense(found: Found) -> list[torch.Tensor]:
    return [value for name, value in found.tensors.items() if value.ndim == 2 and name.endswith("weight")]


def _of_file(path: Path, read: Callable[[], T]) -> T:
    """With the file's name before what is wrong with its content."""
    try:
        return read()
    except WeightsError as error:
        raise WeightsError(f"'{path}' {error}") from error


def _checked(given: torch.Tensor, value: torch.Tensor, where: str) -> torch.Tensor:
    """A tensor of the checkpoint as one of the model's kind."""
    if not _is_dense(given) or (value.is_floating_point() and given.dtype not in _FLOATS):
        raise WeightsError(
            f"{where} is {given.dtype}, {given.layout} on {given.device}; dense real numbers are known. Save the float model's "
            "`state_dict()`."
        )
    found = given.to(value.dtype)
    if not torch.isfinite(found).all():
        raise WeightsError(f"{where} holds NaN or infinite values. Was the training stable?")
    largest = float(found.abs().max()) if found.is_floating_point() and found.numel() else 0.0
    if largest > _LARGEST:
        raise WeightsError(
            f"{where} holds values up to {largest:.1e}, as no trained network does. Is the file damaged?"
        )
    return found


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether it holds plain numbers: not sparse, quantized, complex, nor without any values."""
    is_plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_nested
    return is_plain and not tensor.is_quantized and not tensor.is_complex()


def _of_keras(
    model: nn.Module, path: Path, key: str | None, fresh: frozenset[str], asked: Asked
) -> tuple[dict[Any, Any], dict[str, str], tuple[int, int] | None]:
    """The tensors by the model's names, their names in the file, and the size of the input that it says."""
    _check_signature(path)
    if key is not None:
        raise WeightsError(f"weights.key '{shown(key)}': '{path}' is Keras's and holds one network; leave it out")
    found, size = _guarded(path, lambda: keras_h5.read(path, model, fresh, asked.makes))
    return {name: value for name, (value, _) in found.items()}, {name: own for name, (_, own) in found.items()}, size


def _check_signature(path: Path) -> None:
    """Raise a WeightsError where a file is not HDF5 at all."""
    check_size(path)
    with path.open("rb") as stream:
        found = stream.read(len(kinds.HDF5))
    if path.suffix != ".keras" and found != kinds.HDF5:  # that is a zip, which the reader says what to do with
        raise WeightsError(f"cannot read the checkpoint '{path}': it is no HDF5 file. Was it copied whole?")


def _guarded(path: Path, read: Callable[[], T]) -> T:
    try:
        check_size(path)
        return read()
    except WeightsError:
        raise
    except Exception as error:  # HDF5 has errors of many types
        raise WeightsError(unreadable(path, error)) from error
