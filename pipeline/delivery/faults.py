"""What is wrong with a folder that should be a finished one, in words, and what to do about it."""

from __future__ import annotations

import hashlib
import shlex
import tarfile
import zipfile
from pathlib import Path

from ..errors import VerifyError
from ..reading import instead, read_bytes, shown

MANIFEST = "manifest.json"
MOST = 20
"""Files that one error names at most."""
_LINE_ENDS, _POINTER, _EMPTY = " (its line ends alone)", " (git's pointer in its place)", " (it is empty)"
_ADVICE = {
    _LINE_ENDS: "Something wrote CRLF for LF or the other way round: git, where core.autocrlf is on or an attribute says so, or a "
    "transfer of text. Copy the folder anew from where it is whole; git leaves it as it is where the line `* -text` stands "
    "in the folder's .gitattributes before it is committed.",
    _POINTER: "Git keeps such files elsewhere, and they were not fetched: run `git lfs pull` where the folder was cloned.",
    _EMPTY: "A file without content was perhaps never fetched: have the disk of the cloud keep the folder on this machine, or copy it "
    "anew from where it is whole.",
}
"""What to do, by what is known of one of the files."""
_LARGEST = 2**28
"""Bytes of a file that is looked into."""


def no_build(place: Path) -> VerifyError:
    """The error for what is no finished folder: an archive of one, the folder above it, or something else."""
    if place.is_file():
        return VerifyError(f"'{place}' is a file, and a finished build is a folder. {_unpacked(place)}")
    if not place.exists():
        return VerifyError(f"'{place}' does not exist. `twinkeel build all` makes a finished build.")
    below = sorted(path.parent for depth in ("*", "*/*") for path in place.glob(f"{depth}/{MANIFEST}"))
    # archives are often unpacked one folder too deep
    what = f"Give '{below[0]}'." if below else "`twinkeel build all` makes one."
    return VerifyError(f"'{place}' holds no finished build: it has no '{MANIFEST}'. {what}")


def _unpacked(place: Path) -> str:
    """What to type for an archive."""
    file, folder = shlex.quote(str(place)), shlex.quote(str(place.parent / place.name.split(".")[0]) + "-unpacked")
    if zipfile.is_zipfile(place):
        return f"Unpack it: unzip {file} -d {folder}"
    if tarfile.is_tarfile(place):
        return f"Unpack it: mkdir {folder} && tar -xf {file} -C {folder}"
    return f"Give the folder that '{MANIFEST}' lies in."


def changed(name: str, path: Path, sha256: str) -> str:
    """A line on a file whose content has another hash than this one."""
    return f"changed: {shown(name)}{_state(path, sha256)}"


def _state(path: Path, sha256: str) -> str:
    """What is known of the file: it would be the one that is meant with LF for CRLF or the other way round, or was never fetched."""
    try:
        content = read_bytes(path, _LARGEST)
    except OSError:
        return ""
    if not content or instead(content):
        return _POINTER if content else _EMPTY
    plain = content.replace(b"\r\n", b"\n")
    is_meant = sha256 in (hashlib.sha256(one).hexdigest() for one in (plain, plain.replace(b"\n", b"\r\n")))
    return _LINE_ENDS if is_meant else ""


def told(problems: list[str]) -> str:
    """Lines on what is wrong, at most `MOST` of them, and what to do."""
    more = [f"and {len(problems) - MOST} more"] if len(problems) > MOST else []
    known = [advice for state, advice in _ADVICE.items() if any(line.endswith(state) for line in problems)]
    advice = known or ["Build again, or copy the folder anew from where it is whole."]
    return "\n".join([*problems[:MOST], *more, *advice])
