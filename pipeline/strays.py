"""What file managers, archivers and network drives leave among files, unasked: no part of a finished folder, and no sign that
somebody changed it."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

_FILES = frozenset((".DS_Store", "Icon\r", "Thumbs.db", "desktop.ini", ".directory"))
_FOLDERS = frozenset(("__MACOSX", ".Spotlight-V100", ".Trashes", ".fseventsd"))
"""At the top of a folder alone: one that lies deeper could hold sources, which a kit's own tools would compile."""
_UNLINKED = re.compile(r"\.nfs[0-9a-f]{16,32}")
"""A file on a network drive that was deleted while a process had it open."""
_DOUBLE, _DOUBLE_MAGIC = "._", b"\x00\x05\x16\x07"
"""AppleDouble: what a Mac keeps beside the file ``x`` as ``._x``. The name alone could be a source file's."""


def is_stray(path: Path) -> bool:
    """Whether a plain file is of a name that other programs give without being asked."""
    if path.is_symlink() or not path.is_file():
        return False
    if path.name.startswith(_DOUBLE):
        with contextlib.suppress(OSError), path.open("rb") as stream:
            return stream.read(len(_DOUBLE_MAGIC)) == _DOUBLE_MAGIC
        return False
    return path.name in _FILES or _UNLINKED.fullmatch(path.name) is not None


def is_stray_folder(path: Path) -> bool:
    """The same of a folder at the top of another, with all that it holds."""
    return path.name in _FOLDERS and path.is_dir() and not path.is_symlink()


def sorted_out(folder: Path) -> tuple[list[Path], list[Path]]:
    """All that lies below a folder, folders and links too, and apart from it the strays; of a stray folder itself alone."""
    dropped = [path for path in sorted(folder.iterdir()) if is_stray_folder(path)]
    names = {path.name for path in dropped}
    found: list[Path] = []
    strays = list(dropped)
    for path in sorted(folder.rglob("*")):
        if path.relative_to(folder).parts[0] not in names:
            (strays if is_stray(path) else found).append(path)
    return found, sorted(strays)
