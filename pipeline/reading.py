"""Reading files that others may have written: only plain ones, only up to a size, and JSON without surprises."""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MAX_CHECKPOINT_BYTES = 2 * 2**30
MAX_JSON_BYTES = 32 * 2**20
"""A manifest has some ten thousand bytes; this is room for 100,000 classes and more."""
MAX_JSON_DEPTH = 50
"""Ours have a depth of 6. Python's own limit is where its stack ends, which differs between reading and writing."""
_BEGIN = 200
"""Bytes that show what a file is."""
_HEAD_OF_TEXT = 4096
"""Bytes that are looked through for what no text has."""
SHOWN = 200
"""Characters of a stranger's text that an error repeats."""


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a plain file.

    Raises:
        OSError: it is missing, larger than `most` bytes, or no plain file: a pipe would let the reader wait for ever,
            a device might never end.
    """
    size = plain_size(path)
    if size > most:
        raise OSError(f"'{path}' has {size:,} bytes; at most {most:,} are read")
    with path.open("rb") as stream:
        return stream.read(size)


def why_unreadable(error: Exception) -> str:
    """Why a file of text cannot be read, in words; of other errors their own."""
    if isinstance(error, UnicodeDecodeError):
        place = f"byte {error.start + 1:,} is 0x{error.object[error.start]:02x}"
        controls = sum(byte < 9 for byte in error.object[:_HEAD_OF_TEXT])
        return f"it is no text, for {place}" if controls else f"it is no text in UTF-8, for {place}"
    if isinstance(error, FileNotFoundError):
        return "there is nothing of this name"
    if isinstance(error, PermissionError):
        return "it may not be read by this user"
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return f"the system says '{error.strerror}'"
    return str(error)


def plain_size(path: Path) -> int:
    """Bytes of a plain file; an OSError where it is none."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"'{path}' is no plain file but {_kind(status.st_mode)}")
    return status.st_size


def kind_of(path: Path) -> str:
    """What lies in a place, in words, links not followed: ``a file``, ``a link``, ``a pipe``, ``nothing``."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return "nothing"
    return _kind(mode)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFREG: "a file",
        stat.S_IFLNK: "a link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def instead(begin: bytes) -> str:
    """What lies in the place of a file that was never fetched, and what to do, by its first bytes: git's pointer to it, or a web
    page; empty where it is neither.
    """
    begin = begin[:_BEGIN].lstrip().lower()
    if begin.startswith(b"version https://git-lfs"):
        return "it is git's pointer to the file, which was not fetched. Run `git lfs pull` where it comes from"
    if begin.startswith((b"<!doctype html", b"<html")):
        return "it is a web page in HTML, in the file's place. Open it in a browser to see what was answered, and fetch the file anew"
    return ""


def read_json(path: Path, most: int = MAX_JSON_BYTES) -> Any:
    """The content of a JSON file.

    What readers of JSON disagree on is refused: a key that occurs twice, numbers that are not finite, text that is
    no Unicode.

    Raises:
        OSError: as `read_bytes`.
        ValueError: it is no JSON, or deeper than `MAX_JSON_DEPTH`.
    """
    return parse_json(read_bytes(path, most))


def parse_json(raw: bytes) -> Any:
    """As `read_json`, of bytes in UTF-8."""
    text = raw.decode("utf-8")
    try:
        content = json.loads(
            text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite, parse_int=_integer
        )
    except RecursionError as error:
        raise ValueError(f"nested deeper than {MAX_JSON_DEPTH} levels") from error
    _check_depth(content)
    if "\\ud" in text.lower():  # half of a pair of surrogates cannot be written again
        json.dumps(content, ensure_ascii=False).encode()
    return content


def shown(text: object, most: int = SHOWN) -> str:
    """A stranger's text for a message or a terminal: printable, and cut after `most` characters."""
    whole = str(text)
    if len(whole) <= most and whole.isprintable():
        return whole
    cut = "".join(c if c.isprintable() else repr(c)[1:-1] for c in whole[:most])
    return cut if len(whole) <= most else f"{cut}... ({len(whole):,} characters)"


def quoted(names: Sequence[object], most: int = 10) -> str:
    """Names for a message, the first of them where there are more."""
    return ", ".join(f"'{name}'" for name in names[:most]) + (" ..." if len(names) > most else "")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key '{shown(twice)}' occurs twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shown(text)} is no finite number")
    return value


def _integer(text: str) -> int:
    if len(text) > 20:  # 64 bits have 20 characters; Python would refuse those of 4300 with another message
        raise ValueError(f"a whole number of {len(text):,} digits")
    return int(text)


def _check_depth(content: Any) -> None:
    """Level by level, so that this itself needs no stack."""
    level = [content]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_JSON_DEPTH} levels")
