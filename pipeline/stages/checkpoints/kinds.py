"""What a file is that is none of torch's archives, by its content; and what a content holds that is no state dict."""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Any

import torch

from ...reading import shown
from . import stand_ins
from .finding import dictionaries

_ZIP = b"PK\x03\x04"
_MAGIC = 0x1950A86A20F9469CFC6C
"""The number that torch's format before its archives begins with."""
_MAX_HEADER = 100_000_000
"""Bytes of JSON before the tensors that safetensors reads."""
HDF5 = b"\x89HDF\r\n\x1a\n"
"""What such a file begins with."""
_SIGNATURES = {
    HDF5: "it is HDF5, as Keras writes it: let its name end in '.h5'",
    b"\x93NUMPY": "it is an array of NumPy. Make tensors of what it holds and save those as safetensors",
    b"\x1f\x8b": "it is packed by gzip. Unpack it first",
    b"BZh": "it is packed by bzip2. Unpack it first",
    b"\xfd7zXZ": "it is packed by xz. Unpack it first",
    b"7z\xbc\xaf": "it is packed by 7-Zip. Unpack it first",
}
_SAVE = "Save `model.state_dict()` with torch.save, best as safetensors."


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins with the length of a header and JSON, whatever its name ends in."""
    return len(head) > 8 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= _MAX_HEADER


def is_old(path: Path) -> bool:
    """Whether a file begins as torch's format before its archives."""
    with path.open("rb") as stream:
        try:
            for operation, argument, _ in pickletools.genops(stream):
                if operation.name not in ("PROTO", "FRAME"):
                    return bool(argument == _MAGIC)
        except (ValueError, IndexError, MemoryError, OverflowError):
            pass
    return False


def other(path: Path, head: bytes) -> str:
    """What there is to say of a file that has none of the formats' beginnings or ends."""
    if head.startswith(_ZIP):
        return (
            f"cannot read the checkpoint '{path}': it is cut off or damaged: the archive has no end. Was it copied whole? "
            "Copy it again, or save the weights again."
        )
    if not any(head):
        return f"cannot read the checkpoint '{path}': it begins with zeros alone. Was the disk full? Save the weights again."
    if found := next((said for signature, said in _SIGNATURES.items() if head.startswith(signature)), None):
        return f"'{path}' is no checkpoint of torch: {found}."
    if head.startswith(b"\x80") and len(head) > 1 and head[1] <= 5:
        return (
            f"'{path}' is a plain pickle, not a file of torch.save. Open it where it was made and save its tensors: "
            "torch.save(state_dict, 'weights.pth'), best as safetensors."
        )
    if text := _text(head):
        return f"'{path}' is no checkpoint, but text: '{shown(text, 40)}'. {_SAVE}"
    return (
        f"'{path}' is no checkpoint, or one whose beginning is damaged: it begins neither as torch's files nor as safetensors. "
        f"{_SAVE}"
    )


def held(content: object) -> str:
    """What a checkpoint holds in place of a state dict, and what to save, as a sentence's end."""
    if isinstance(content, dict):
        nodes = list(dictionaries(content))
        said = next((said for path, node in nodes if (said := _misnamed(node, path))), None)
        optimizer = next((of_optimizer(path) for path, node in nodes if is_optimizer(node)), None)
        return said or optimizer or f"{_listed(content)}. {_SAVE}"
    if isinstance(content, torch.Tensor):
        return f"one tensor of shape {tuple(content.shape)}. {_SAVE}"
    if not isinstance(content, list | tuple):
        return f"{_kind(content)}. {_SAVE}"
    if content and all(_is_pair(one) for one in content):
        return (
            f"a list of {len(content)} pairs of a name and a tensor. Save them as a dictionary: "
            "torch.save(dict(pairs), 'weights.pth')."
        )
    return (f"a list of {len(content)}, the first {_kind(content[0])}" if content else "an empty list") + f". {_SAVE}"


def of_optimizer(path: str) -> str:
    """What there is to say where all tensors are an optimizer's."""
    return f"the state of an optimizer{_at(path)}. The model's is wanted: save `model.state_dict()` too."


def is_optimizer(node: dict[Any, Any]) -> bool:
    """Whether a dictionary is what `optimizer.state_dict()` gives."""
    state = dict.get(node, "state")
    return isinstance(state, dict) and isinstance(dict.get(node, "param_groups"), list)


def _misnamed(node: dict[Any, Any], path: str) -> str:
    """What a dictionary has that could have been a state dict; empty where it has nothing of the kind."""
    items = list(dict.items(node))
    if strange := [key for key, value in items if isinstance(value, torch.Tensor) and not isinstance(key, str)]:
        named = f"{shown(repr(strange[0]), 40)} ..."
        return (
            f"{len(strange)} tensors{_at(path)} under keys that are no names ({named}). Save them by their names (str)."
        )
    if arrays := [key for key, value in items if isinstance(value, stand_ins.Array)]:
        return (
            f"{len(arrays)} arrays of NumPy{_at(path)} ('{shown(arrays[0])}' ...). Make tensors of them: "
            "torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, 'weights.pth')."
        )
    return ""


def _text(head: bytes) -> str:
    """The first line of what is text; the head may end within a letter."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return ""
        text = head[: error.start].decode("utf-8")
    lines = text.strip().splitlines()
    return lines[0] if lines and all(c.isprintable() or c.isspace() for c in text) else ""


def _is_pair(one: object) -> bool:
    return (
        isinstance(one, list | tuple) and len(one) == 2 and isinstance(one[0], str) and isinstance(one[1], torch.Tensor)
    )


def _listed(content: dict[Any, Any], most: int = 4) -> str:
    named = [f"'{shown(key, 40)}' ({_kind(value)})" for key, value in list(dict.items(content))[:most]]
    more = f" and {len(content) - most} more" if len(content) > most else ""
    return f"a dictionary of {', '.join(named)}{more}" if named else "an empty dictionary"


def _kind(value: object) -> str:
    if isinstance(value, stand_ins.Thing):
        return "an array of NumPy" if isinstance(value, stand_ins.Array) else "an object"
    return "a tensor" if isinstance(value, torch.Tensor) else f"Python's {type(value).__name__}"


def _at(path: str) -> str:
    return f" at '{shown(path)}'" if path else ""
