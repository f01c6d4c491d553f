"""What a file of weights holds, as nested dictionaries of tensors; nothing in it is run."""

from __future__ import annotations

import pickle
import pickletools
import re
import struct
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch

from ...errors import WeightsError
from ...reading import MAX_CHECKPOINT_BYTES, instead, plain_size, shown
from . import archive, kinds, stand_ins
from .shards import INDEX, parts_of

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
        raise WeightsError(f"'{path}' holds no state dict, but {kinds.held(content)}")
    return content


def check_kind(path: Path) -> None:
    """Raise a WeightsError where a file is none of the kinds that are read, as far as its beginning and its end tell: this takes no time."""
    if path.name.endswith(INDEX):
        return
    head = _head(path) if check_size(path) else b""
    is_known = path.suffix == ".safetensors" or kinds.is_safetensors(head)
    if not head or not (is_known or archive.is_archive(path) or kinds.is_old(path)):
        opened(path)  # says what it is instead


def check_size(path: Path) -> int:
    """Bytes of a plain file; a WeightsError where they are too many, or where what lies there is not the file itself."""
    if (size := plain_size(path)) > MAX_CHECKPOINT_BYTES:
        raise WeightsError(f"'{path}' has {size:,} bytes; at most {MAX_CHECKPOINT_BYTES:,} are read")
    if found := instead(_head(path)):
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
    head = _head(path)
    if path.suffix == ".safetensors" or kinds.is_safetensors(head):
        return _of_safetensors(path, head)
    is_archive = archive.is_archive(path)
    if is_archive:
        archive.check(path, size)
    elif any(head) and tarfile.is_tarfile(path):
        raise WeightsError(
            f"'{path}' is an archive of tar: torch's format until 2017, or a packed folder. Unpack it, or open it with the torch "
            "that wrote it and save `model.state_dict()`, best as safetensors."
        )
    names = _names(path)
    if unknown := stand_ins.refused(names):
        raise WeightsError(_refusal(path, unknown))
    if size and not is_archive and not kinds.is_old(path):
        raise WeightsError(kinds.other(path, head))
    try:
        return _loaded(path, names)
    except (KeyError, IndexError, ValueError, struct.error, EOFError, RuntimeError) as error:
        if is_archive and "PytorchStreamReader" in str(error):
            raise WeightsError(archive.damaged(path, "what the archive says of its entries")) from error
        if is_archive or not size:
            raise
        raise WeightsError(
            f"'{path}' begins as torch's older format does, but is damaged or cut off after that. Was it copied whole? Copy it "
            "again, or save the weights again."
        ) from error


def _of_safetensors(path: Path, head: bytes) -> dict[str, torch.Tensor]:
    if archive.is_archive(path):
        raise WeightsError(
            f"'{path}' is no safetensors, but a zip archive, as torch.save writes: let its name end in '.pth'."
        )
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        if not kinds.is_safetensors(head):
            raise
        raise WeightsError(
            f"cannot read the checkpoint '{path}': it is safetensors, and cut off or damaged ({shown(error)}). Was it copied "
            "whole? Copy it again, or save the weights again."
        ) from error


def _loaded(path: Path, names: list[str]) -> Any:
    """What torch reads without running anything, with stand-ins for these names."""
    known = [(made, name) for name in names if (made := stand_ins.stand_in(name)) is not None]
    try:
        with torch.serialization.safe_globals(known), warnings.catch_warnings():  # type: ignore[arg-type]  # pairs since torch 2.6
            warnings.simplefilter("ignore", UserWarning)  # of pickles' protocols and torch's own older classes
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported operand" in str(error):
            raise WeightsError(
                f"'{path}' is pickled in a protocol that torch does not read without running code from it, or damaged. Save it without "
                "pickle_protocol: torch.save(model.state_dict(), 'weights.pth'), best as safetensors."
            ) from error
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise WeightsError(_refusal(path, [named.group(1)] if named else [])) from error


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEAD)


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
    if archive.is_archive(path):
        yield from archive.pickles(path)
        return
    with path.open("rb") as stream:
        for _ in range(4):  # a number, a version, the machine, and the content
            yield stream


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
