"""Run as a process of its own: the arrays and the configuration in a Keras ``.h5``, written anew in formats that end no
process. HDF5's library is C and trusts its files: a byte that was changed can end the process that reads it.

    python -P -m twinkeel.pipeline.stages.checkpoints.h5_arrays FILE FOLDER

writes ``arrays.npz`` and ``layers.json`` into FOLDER, or says what is wrong on its error stream and ends with `REFUSED`.

Source of the layout: `keras/src/legacy/saving/legacy_h5_format.py`. What leads out of the file (links, external storage,
virtual datasets) is refused, and so is what would unpack to more than the file.
"""

from __future__ import annotations

import json
import math
import sys
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np

REFUSED = 3
MAX_ARRAYS = 20_000
"""EfficientNet-Lite4 has 520."""
DAMAGED = "it is damaged, or not whole"
"""How a text begins where HDF5's library stumbles over the file."""


class _Refused(Exception):
    """With what is wrong, for people."""


def _write(path: Path, folder: Path) -> None:
    import h5py

    arrays, described, size = {}, [], path.stat().st_size
    with h5py.File(path, "r") as file:
        root = _member(file, "model_weights", h5py.Group) if "model_weights" in file else file
        groups = _texts(root, "layer_names")
        if not groups:
            raise _Refused(
                "it names no layers, so it is not the HDF5 of a whole Keras model. Save that: model.save('weights.h5')"
            )
        for name in groups:
            group = _member(root, name, h5py.Group)
            for weight in _texts(group, "weight_names"):
                dataset = _member(group, weight, h5py.Dataset)
                if dataset.dtype.kind != "f" or dataset.shape is None:
                    raise _Refused(f"'{weight}' is no array of real numbers")
                if dataset.external or dataset.is_virtual:
                    raise _Refused(f"'{weight}' has its values in another file, which is not opened")
                *scopes, variable = weight.split("/")
                described.append([name, scopes[-1] if scopes else name, variable.partition(":")[0]])
                size -= math.prod(dataset.shape) * dataset.dtype.itemsize
                if size < 0:
                    raise _Refused("it would unpack to more than it has, so it is damaged, or made to fill the memory")
                if len(described) > MAX_ARRAYS:
                    raise _Refused(f"it has more than {MAX_ARRAYS:,} arrays")
                arrays[f"{len(described) - 1}"] = dataset[()]
        config = "".join(_texts(file, "model_config")) or None
    np.savez(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]
    (folder / "layers.json").write_text(json.dumps({"arrays": described, "config": config}))


def _texts(owner: Any, name: str) -> list[str]:
    """An attribute of texts; Keras splits one that is too long for HDF5 into parts with numbers."""
    parts = takewhile(lambda part: part in owner.attrs, (f"{name}{number}" for number in count()))
    found = []
    for part in [name] if name in owner.attrs else parts:
        value = owner.attrs[part]
        for text in np.ravel(value).tolist() if isinstance(value, np.ndarray) else [value]:
            if not isinstance(text, (str, bytes)):
                raise _Refused(f"the attribute '{part}' is no text")
            found.append(text.decode() if isinstance(text, bytes) else text)
    return found


def _member(owner: Any, name: str, kind: Any) -> Any:
    """A member by its path, every part of it in this file."""
    import h5py

    for part in name.split("/"):
        if part in ("", ".", "..") or not isinstance(owner, h5py.Group) or part not in owner:
            raise _Refused(f"it names '{name}', which it does not hold. Is the file whole?")
        if not isinstance(owner.get(part, getlink=True), h5py.HardLink):
            raise _Refused(f"'{name}' is a link, maybe out of the file, and is not followed")
        owner = owner[part]
    if not isinstance(owner, kind):
        raise _Refused(f"'{name}' is a {type(owner).__name__}, not a {kind.__name__}")
    return owner


if __name__ == "__main__":
    try:
        _write(*map(Path, sys.argv[1:]))
    except Exception as error:  # h5py raises errors of many types
        text = str(error) if isinstance(error, _Refused) else f"{DAMAGED} ({type(error).__name__}: {error})."
        sys.stderr.write(ascii(text[:1000])[1:-1])
        sys.exit(REFUSED)
