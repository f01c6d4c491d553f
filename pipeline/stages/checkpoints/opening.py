"""What a file of weights holds, as nested dictionaries of tensors; nothing in it is run."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch

from ...errors import WeightsError
from ...reading import MAX_CHECKPOINT_BYTES, instead, plain_size, shown
from . import stand_ins
from .shards import INDEX, parts_of

_MAX_PICKLE = 256 * 2**20
"""Bytes of what a checkpoint says of its tensors; a network of a thousand layers, and its optimizer's state, take one million."""
_HEAD = 200
_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_NAMES = {"builtins.long": "builtins.int", "builtins.unicode": "builtins.str", "builtins.xrange": "builtins.range"}
"""Names of Python 2, which pickles of protocol 2 use, and of Python 3."""


def opened(path: Path) -> dict[Any, Any]:
    """The content of a checkpoint: a dictionary, perhaps of dictionaries.

    Raises:
        WeightsError: it cannot be read, is something else, or holds what could run code.
    """
    try:
        if path.name.endswith(INDEX):
            return _joined(path)
        content = _content(path)
    except WeightsError:
        raise
    except Exception as error:  # each format has errors of its own; the file's name is what helps
        raise WeightsError(unreadable(path, error)) from error
    if isinstance(content, stand_ins.Thing):
        raise WeightsError(_whole_model(path, "an object"))
    if not isinstance(content, dict):
        raise WeightsError(f"'{path}' holds no state dict. Save `model.state_dict()`.")
    return content


def check_size(path: Path) -> int:
    """Bytes of a plain file; a WeightsError where they are too many, or where what lies there is not the file itself."""
    if (size := plain_size(path)) > MAX_CHECKPOINT_BYTES:
        raise WeightsError(f"'{path}' has {size:,} bytes; at most {MAX_CHECKPOINT_BYTES:,} are read")
    with path.open("rb") as stream:
        if found := instead(stream.read(_HEAD)):
            raise WeightsError(f"'{path}' is no checkpoint: {found}.")
    return size


def unreadable(path: Path, error: Exception) -> str:
    """What there is to say of a file that is no checkpoint."""
    if not path.stat().st_size:
        return f"cannot read the checkpoint '{path}': it is empty. Was it copied whole? Save the weights again."
    return (
        f"cannot read the checkpoint '{path}': {type(error).__name__}: {shown(error, 500)}. It is damaged, or no checkpoint of "
        f"the kind that '{path.suffix}' stands for; save `model.state_dict()`, best as safetensors."
    )


def _joined(path: Path) -> dict[Any, Any]:
    """The tensors of all shards that an index names."""
    found: dict[Any, Any] = {}
    total = 0
    for shard, keys in parts_of(path).items():
        if (total := total + check_size(shard)) > MAX_CHECKPOINT_BYTES:
            raise WeightsError(f"'{path}': its shards have more than {MAX_CHECKPOINT_BYTES:,} bytes together")
        try:
            content = _content(shard)
        except WeightsError:
            raise
        except Exception as error:  # as of a file alone
            raise WeightsError(unreadable(shard, error)) from error
        lacking = next((key for key in keys if not isinstance(content, dict) or key not in content), None)
        if lacking is not None:
            raise WeightsError(f"'{path}' says that '{shard.name}' has '{shown(lacking)}', which it has not")
        found |= {key: content[key] for key in keys}
    return found


def _content(path: Path) -> Any:
    size = check_size(path)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    if size and tarfile.is_tarfile(path):
        raise WeightsError(
            f"'{path}' is an archive of tar: torch's format until 2017, or a packed folder. Unpack it, or open it with the torch "
            "that wrote it and save `model.state_dict()`, best as safetensors."
        )
    _check_archive(path, size)
    names = _names(path)
    if unknown := stand_ins.refused(names):
        raise WeightsError(_refusal(path, unknown))
    known = [(made, name) for name in names if (made := stand_ins.stand_in(name)) is not None]
    try:
        with torch.serialization.safe_globals(known):  # type: ignore[arg-type]  # pairs since torch 2.6
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise WeightsError(_refusal(path, [named.group(1)] if named else [])) from error


def _check_archive(path: Path, size: int) -> None:
    """Raise a WeightsError where a zip archive is no checkpoint, or would unpack to more than it is.

    torch stores without compression, so all entries together are smaller than the file.
    """
    if not zipfile.is_zipfile(path):
        return  # torch's older format, or no checkpoint
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename.partition("/")[2]: entry.file_size for entry in archive.infolist()}
        plain = archive.namelist()
    unpacked = sum(entries.values())
    if "constants.pkl" in entries and any(name.startswith("code/") for name in entries):
        raise WeightsError(
            f"'{path}' is a TorchScript program, code and all. Save what it holds: "
            "torch.save(torch.jit.load(...).state_dict(), 'weights.pth')."
        )
    if "archive_format" in entries or "models/model.json" in entries:
        raise WeightsError(
            f"'{path}' is a torch.export program, with its weights: name it as [model] exported, without [weights]."
        )
    if plain and all(name.endswith(".npy") for name in plain):
        raise WeightsError(f"'{path}' holds NumPy's arrays. Make tensors of them and save those as safetensors.")
    if unpacked > size:
        raise WeightsError(
            f"'{path}' has {size:,} bytes and would unpack to {unpacked:,}, which torch's checkpoints do not: it is "
            "damaged, or made to fill the memory. Save `model.state_dict()` with torch, best as safetensors."
        )


def _names(path: Path) -> list[str]:
    """Dotted names of all classes and functions that a checkpoint speaks of; none is looked up.

    What is missing here, for the file is none of torch's, is refused by torch.
    """
    found: dict[str, None] = {}
    for stream in _pickles(path):
        try:
            for operation, argument, _ in pickletools.genops(stream):
                if operation.name in ("GLOBAL", "INST"):
                    module, _, name = str(argument).partition(" ")
                    name = f"{_MODULES.get(module, module)}.{name}"
                    found[_NAMES.get(name, name)] = None
        except (ValueError, IndexError, MemoryError):
            break
    return list(found)


def _pickles(path: Path) -> Iterator[IO[bytes]]:
    """Where each pickle of a checkpoint begins."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as stream:
            for _ in range(4):  # a number, a version, the machine, and the content
                yield stream
        return
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith("data.pkl"):
                if entry.file_size > _MAX_PICKLE:
                    raise WeightsError(
                        f"'{path}': '{shown(entry.filename)}' has {entry.file_size:,} bytes; it is damaged"
                    )
                yield io.BytesIO(archive.read(entry))


def _refusal(path: Path, names: list[str]) -> str:
    if any(stand_ins.is_part_of_model(name) for name in names):
        return _whole_model(
            path, f"'{shown(next((name for name in names if not name.startswith('torch.')), names[0]))}'"
        )
    what = f": '{shown(names[0])}'" + (f" and {len(names) - 1} others" if len(names) > 1 else "") if names else ""
    return (
        f"'{path}' holds more than tensors{what}, and is not opened, since that could run code from it. "
        "Save `model.state_dict()`, best as safetensors."
    )


def _whole_model(path: Path, what: str) -> str:
    return (
        f"'{path}' holds a whole model, pickled ({what}), and is not opened, since that would run code from it. Where it can be "
        "opened, save its weights, torch.save(model.state_dict(), 'weights.pth'), or the model with torch.export.save, for "
        "[model] exported."
    )
