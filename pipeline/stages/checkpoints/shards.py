"""Checkpoints of several files, and folders that hold one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ...errors import WeightsError
from ...files import digest
from ...reading import read_json, shown

INDEX = ".index.json"
"""How the name of a file ends that says which shard has which tensor."""
_USUAL = ("model.safetensors", "pytorch_model.bin")
_ENDINGS = (f".safetensors{INDEX}", ".safetensors", f".bin{INDEX}", ".ckpt", ".pth", ".pt", "model.bin")
"""Of files with weights, what is preferred first."""
_MOST_SHARDS = 1000


def chosen(path: Path) -> Path:
    """The file or the index that holds the weights of a folder; a file as it is.

    Raises:
        WeightsError: the folder has none, or several.
    """
    if not path.is_dir():
        return path
    names = sorted(p.name for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    for ending in _ENDINGS:
        found = [name for name in names if name.endswith(ending)]
        if ending == ".safetensors" and not found:
            continue
        if usual := [name for name in found if name in _USUAL]:
            return path / usual[0]
        if len(found) > 1:
            listed = ", ".join(shown(name) for name in found[:5]) + (" ..." if len(found) > 5 else "")
            raise WeightsError(
                f"weights.path '{path}' is a folder of {len(found)} checkpoints, {listed}: name one of them."
            )
        if found:
            return path / found[0]
    hint = "Give a .safetensors, .pth or .pt file, or a folder with one."
    if any(name.endswith(".distcp") for name in names):
        hint = "It is of torch.distributed: torch.distributed.checkpoint.format_utils.dcp_to_torch_save makes one file of it."
    raise WeightsError(f"weights.path '{path}' is a folder without a checkpoint. {hint}")


def parts_of(index: Path) -> dict[Path, list[str]]:
    """Names of tensors by the file that they are in, all beside the index.

    Raises:
        WeightsError: it is none, or names a file elsewhere.
    """
    try:
        content = read_json(index)
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot read the index '{index}': {shown(error, 300)}. Was it copied whole?") from error
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not named or not all(isinstance(shard, str) for shard in named.values()):
        raise WeightsError(f"'{index}' is no index of a checkpoint: it has no 'weight_map' of tensors and files.")
    found: dict[Path, list[str]] = {}
    for key, shard in named.items():
        _check_name(shard, index)
        found.setdefault(index.parent / shard, []).append(key)
    if len(found) > _MOST_SHARDS:
        raise WeightsError(f"'{index}' names {len(found):,} files; at most {_MOST_SHARDS:,} are read")
    for shard_path in found:
        if not shard_path.is_file():
            raise WeightsError(f"'{index}' names '{shown(shard_path.name)}', which is not beside it. Copy all shards.")
    return found


def digest_of(path: Path) -> str:
    """SHA-256 of a checkpoint; of an index with all its shards."""
    if not path.name.endswith(INDEX):
        return digest(path)
    lines = [f"{digest(one)} {one.name}\n" for one in (path, *sorted(parts_of(path)))]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _check_name(name: str, index: Path) -> None:
    """Raise a WeightsError where a shard is not a file beside the index."""
    if (
        not name
        or name.startswith(".")
        or any(c in name for c in "/\\:\0")
        or not name.endswith((".safetensors", ".bin", ".pth", ".pt"))
    ):
        raise WeightsError(f"'{index}' names '{shown(name)}', which is no file of weights beside it")
