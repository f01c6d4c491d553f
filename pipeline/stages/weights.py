"""Weights of a checkpoint into a model; nothing in the file is ever executed.

What differs between projects is in `layouts.py`, and for Keras in `keras_h5.py`.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from ..errors import WeightsError
from ..reading import MAX_CHECKPOINT_BYTES, plain_size, shown
from . import keras_h5, layouts

T = TypeVar("T")

_HDF5 = b"\x89HDF\r\n\x1a\n"
"""What such a file begins with."""


def load_into(model: nn.Module, path: Path) -> None:
    """Load a checkpoint strictly into `model`.

    Accepts torchvision's, timm's and efficientnet-lite-pytorch's keys, with or without a ``module.`` prefix or a wrapping
    ``state_dict`` / ``model`` entry, and Keras's ``.h5``.

    Raises:
        WeightsError: naming the first key that does not fit, both shapes and the likely cause.
    """
    wanted = model.state_dict()
    if path.suffix in keras_h5.SUFFIXES:
        state = _of_keras(model, path)
    else:
        state = _normalize(_read(path))
        if not wanted.keys() <= state.keys() and (layout := layouts.layout_of(state)) is not None:
            _check_padding(model, layout.padding, path)
            state = layouts.renamed(state, layout)
    for key in sorted(state.keys() - wanted.keys()):
        raise WeightsError(
            f"'{path}' has the key '{shown(key)}', which the model does not. Is it another architecture?"
        )
    for key, value in wanted.items():
        if key not in state:
            if key.endswith("num_batches_tracked"):
                state[key] = value
                continue
            raise WeightsError(f"'{path}' lacks the key '{key}'. Is it another architecture, or only a part?")
        if state[key].shape != value.shape:
            raise WeightsError(
                f"'{path}': '{key}' has shape {tuple(state[key].shape)}, the model needs {tuple(value.shape)}. "
                + _likely_cause(key, tuple(state[key].shape))
            )
        if not _is_dense(state[key]):
            raise WeightsError(
                f"'{path}': '{key}' is {state[key].dtype}, {state[key].layout} on {state[key].device}; "
                "dense real numbers are known. Save the float model's `state_dict()`."
            )
        state[key] = state[key].to(value.dtype)
        if not torch.isfinite(state[key]).all():
            raise WeightsError(f"'{path}': '{key}' holds NaN or infinite values. Was the training stable?")
    model.load_state_dict(state, strict=True)


def outputs_in(path: Path) -> int:
    """How many outputs a checkpoint's last dense layer has.

    Raises:
        WeightsError: it cannot be read, or has no dense layer.
    """
    if path.suffix in keras_h5.SUFFIXES:
        found = _guarded(path, lambda: keras_h5.outputs_in(path))
    else:
        dense = [value for key, value in _read(path).items() if value.ndim == 2 and key.endswith("weight")]
        found = dense[-1].shape[0] if dense else 0
    if not found:
        raise WeightsError(
            f"'{path}' has no dense layer that says how many classes there are. Name them: [data] labels."
        )
    return found


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether it holds plain numbers: not sparse, quantized, complex, nor without any values."""
    is_plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_nested
    return is_plain and not tensor.is_quantized and not tensor.is_complex()


def _check_size(path: Path) -> int:
    """Bytes of a plain file; a WeightsError where they are too many."""
    if (size := plain_size(path)) > MAX_CHECKPOINT_BYTES:
        raise WeightsError(f"'{path}' has {size:,} bytes; at most {MAX_CHECKPOINT_BYTES:,} are read")
    return size


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        size = _check_size(path)
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        _check_archive(path, size)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"'{path}' holds more than tensors and is not opened, since that could run code from it. "
            "Save `model.state_dict()`, best as safetensors."
        ) from error
    except WeightsError:
        raise
    except Exception as error:  # each format has errors of its own; the file's name is what helps
        raise WeightsError(_unreadable(path, error)) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items())
    ):
        raise WeightsError(f"'{path}' holds no state dict. Save `model.state_dict()`.")
    return content


def _check_archive(path: Path, size: int) -> None:
    """Raise a WeightsError where a ``.pth``, a zip archive, would unpack to more than it is.

    torch stores without compression, so all entries together are smaller than the file.
    """
    if not zipfile.is_zipfile(path):
        return  # torch's older format, or no checkpoint
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > size:
        raise WeightsError(
            f"'{path}' has {size:,} bytes and would unpack to {unpacked:,}, which torch's checkpoints do not: it is "
            "damaged, or made to fill the memory. Save `model.state_dict()` with torch, best as safetensors."
        )


def _normalize(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix("module."): value for key, value in state.items()}


def _of_keras(model: nn.Module, path: Path) -> dict[str, torch.Tensor]:
    _check_signature(path)
    _check_padding(model, "tensorflow", path)
    return _guarded(path, lambda: keras_h5.read(path, model))


def _check_signature(path: Path) -> None:
    """Raise a WeightsError where a file is not HDF5 at all."""
    _check_size(path)
    with path.open("rb") as stream:
        found = stream.read(len(_HDF5))
    if path.suffix != ".keras" and found != _HDF5:  # that is a zip, which the reader says what to do with
        raise WeightsError(f"cannot read the checkpoint '{path}': it is no HDF5 file. Was it copied whole?")


def _guarded(path: Path, read: Callable[[], T]) -> T:
    try:
        _check_size(path)
        return read()
    except WeightsError:
        raise
    except Exception as error:  # HDF5 has errors of many types
        raise WeightsError(_unreadable(path, error)) from error


def _unreadable(path: Path, error: Exception) -> str:
    """What there is to say of a file that is no checkpoint."""
    if not path.stat().st_size:
        return f"cannot read the checkpoint '{path}': it is empty. Was it copied whole? Save the weights again."
    return (
        f"cannot read the checkpoint '{path}': {type(error).__name__}: {shown(error, 500)}. It is damaged, or no checkpoint of "
        f"the kind that '{path.suffix}' stands for; save `model.state_dict()`, best as safetensors."
    )


def _check_padding(model: nn.Module, padding: str | None, path: Path) -> None:
    """Raise a WeightsError where a checkpoint's networks pad in another way than the model."""
    if padding is not None and getattr(model, "padding", padding) != padding:
        raise WeightsError(
            f"'{path}' is of a network with TensorFlow's padding, which the model does not have: its answers would be "
            f'others. Set model.padding = "{padding}".'
        )


def _likely_cause(key: str, shape: tuple[int, ...]) -> str:
    if key.startswith("classifier."):
        return (
            f"The checkpoint has {shape[0]} classes: use data with as many, or as many lines in the file that data.labels "
            "names, or train the classifier anew."
        )
    return (
        "The checkpoint has another width, or is of another variant: set model.width and model.name to those that it was "
        "trained with."
    )
