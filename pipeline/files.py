"""Files of finished folders: their hashes, their names, and JSON that equal builds write alike."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from pathlib import Path, PurePosixPath
from typing import Any

from . import reading, strays
from .errors import VerifyError
from .reading import shown


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files of a folder but strays."""
    content, is_folder = hashlib.sha256(), path.is_dir()
    for file in files_of(path):
        if is_folder:
            name = file.relative_to(path).as_posix().encode()
            content.update(b"%d %b %d " % (len(name), name, file.stat().st_size))
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                content.update(block)
    return content.hexdigest()


def real(path: Path) -> Path:
    """The whole path, links followed; of one that leads round in a circle, its own place."""
    return Path(os.path.realpath(path))


def files_of(path: Path) -> list[Path]:
    """A file alone, or all files of a folder but what other programs left there."""
    return sorted(p for p in path.rglob("*") if p.is_file() and not strays.is_stray(p)) if path.is_dir() else [path]


def write_json(content: object, path: Path) -> None:
    """Sorted keys and no time or path, so that equal builds give equal files."""
    path.write_bytes(rendered(content))


def rendered(content: object) -> bytes:
    """As JSON, the same bytes from equal contents."""
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def keep(content: bytes, path: Path) -> None:
    """Put what saves time into this user's cache, whole or not at all; where it cannot be, the next command does without."""
    partial = path.with_name(f".partial-{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError:  # a disk that is full or read-only
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Raises a VerifyError where the file is missing or no JSON."""
    try:
        return reading.read_json(path)
    except (OSError, ValueError) as error:
        raise VerifyError(f"cannot read '{path}': {short(error)}. Build again.") from error


def short(error: Exception) -> str:
    """Kind and message, on one line of some length."""
    return f"{type(error).__name__}: {str(error)[:300]}"


def check_inside(name: str) -> None:
    """Raise a VerifyError where a name that a file gives leads out of the file's folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name:
        raise VerifyError(f"'{shown(name)}' is no name of a file inside the folder. Build again.")
