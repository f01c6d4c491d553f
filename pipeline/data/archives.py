"""Archives of images, read where they lie: nothing of one is ever written under a name that it chose."""

from __future__ import annotations

import os
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from .. import noted
from ..errors import DataError
from ..reading import plain_size, shown

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
OTHERS = (".7z", ".bz2", ".gz", ".rar", ".tar.bz2", ".tar.xz", ".tbz2", ".txz", ".xz", ".zst", *SUFFIXES)
"""What is an archive inside of one, and cannot be read there."""
MAX_MEMBERS = 2_000_000
MAX_RATIO = 200
"""Unpacked bytes for one packed. Photographs have 1; drawings without compression 50."""
FREE_BYTES = 2**28
"""Unpacked bytes that any archive may have, whatever the ratio."""


class Archive(Protocol):
    """An archive that is open.

    Attributes:
        sizes: bytes of each plain file by its name, ``a/b.jpg``.
        folders: names of those that are named in it.
    """

    sizes: dict[str, int]
    folders: tuple[str, ...]

    def read(self, name: str, most: int) -> bytes: ...

    def head(self, name: str, count: int) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class _Member:
    """What an archive says of one of its members; `what` is empty for a plain file or a folder."""

    name: str
    size: int
    is_folder: bool
    what: str = ""


def is_archive(path: Path) -> bool:
    """By its name; whether it is one is seen when it is opened."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def opened(path: Path) -> Archive:
    """An archive, open as long as it is used and the same.

    Raises:
        DataError: it is damaged, encrypted, a bomb, or has members that are no plain files below it.
    """
    try:
        plain_size(path)
        status = path.stat()
        noted.files([str(path)])
        return _opened(path, (status.st_ino, status.st_size, status.st_mtime_ns))
    except DataError:
        raise
    except Exception as error:  # zipfile and tarfile raise nearly anything on damaged ones
        raise DataError(
            f"cannot read the archive '{path}': {shown(str(error) or type(error).__name__)}. Is the download whole? Unpack it to see, and give the folder."
        ) from error


@lru_cache(maxsize=4)
def _opened(path: Path, version: tuple[int, int, int]) -> Archive:
    return Zip(path) if path.name.lower().endswith(".zip") else Tar(path)


class Zip:
    """``.zip``; `zipfile` lets several threads read."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, zipfile.ZipFile(path)
        self.sizes, self.folders = _checked(path, map(_zip_member, self._file.infolist()))
        _check_bomb(path, sum(self.sizes.values()))
        self._stored = {_plain(info.filename): info for info in self._file.infolist() if not info.is_dir()}

    def read(self, name: str, most: int) -> bytes:
        _check_size(self._path, name, self.sizes[name], most)
        return self.head(name, most)

    def head(self, name: str, count: int) -> bytes:
        try:
            with self._file.open(self._stored[name]) as stream:
                return stream.read(count)
        except Exception as error:  # as above
            raise OSError(f"the archive is damaged there: {error}") from error


class Tar:
    """``.tar``; a compressed one is unpacked as a whole into a file without a name, for its members are read in any order."""

    def __init__(self, path: Path) -> None:
        self._path, self._stream = path, _unpacked(path)
        with tarfile.open(fileobj=self._stream, mode="r:") as file:
            members = file.getmembers()
            end = file.offset  # type: ignore[attr-defined]
        if os.pread(self._stream.fileno(), tarfile.BLOCKSIZE, end) != bytes(tarfile.BLOCKSIZE):
            # tarfile takes anything that is no header for the end, and what comes behind would be lost without a word
            raise tarfile.ReadError(f"it breaks off or is damaged at byte {end:,}, behind {len(members):,} members")
        self.sizes, self.folders = _checked(path, map(_tar_member, members))
        self._places = {_plain(member.name): member.offset_data for member in members if member.isreg()}

    def read(self, name: str, most: int) -> bytes:
        size = self.sizes[name]
        _check_size(self._path, name, size, most)
        found = self.head(name, size)
        if len(found) != size:
            raise OSError("the archive ends within it")
        return found

    def head(self, name: str, count: int) -> bytes:
        return os.pread(self._stream.fileno(), min(count, self.sizes[name]), self._places[name])


def _unpacked(path: Path) -> IO[bytes]:
    if path.name.lower().endswith(".tar"):
        return path.open("rb")
    import gzip

    found = tempfile.TemporaryFile()  # noqa: SIM115  it is read as long as the archive is
    total = 0
    with gzip.open(path) as packed:
        while block := packed.read(2**20):
            total += len(block)
            _check_bomb(path, total)
            found.write(block)
    found.seek(0)
    return found


def _zip_member(info: zipfile.ZipInfo) -> _Member:
    mode = info.external_attr >> 16
    what = "encrypted" if info.flag_bits & 1 else "a link" if stat.S_ISLNK(mode) else ""
    return _Member(name=info.filename, size=info.file_size, is_folder=info.is_dir(), what=what)


def _tar_member(info: tarfile.TarInfo) -> _Member:
    is_plain = (info.isreg() and not info.issparse()) or info.isdir()
    what = "" if is_plain else "a link" if info.issym() or info.islnk() else "no plain file"
    return _Member(name=info.name, size=info.size, is_folder=info.isdir(), what=what)


def _checked(path: Path, members: Iterable[_Member]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Sizes of the files, and the folders; a DataError that names the first member that is neither."""
    sizes: dict[str, int] = {}
    folders: dict[str, None] = {}
    for number, member in enumerate(members):
        name = _plain(member.name)
        for wrong in _wrong_with(member, name, name in sizes, number):
            raise DataError(
                f"'{path}': '{shown(member.name)}' is {wrong}, which is not read from an archive. Unpack it yourself, look at it, and give "
                "the folder."
            )
        if member.is_folder:
            folders[name] = None
        else:
            sizes[name] = member.size
    return sizes, tuple(folders)


def _wrong_with(member: _Member, name: str, is_known: bool, number: int) -> Iterator[str]:
    if member.what:
        yield member.what
    if member.name.startswith(("/", "\\")) or name[1:2] == ":" or ".." in PurePosixPath(name).parts:
        yield "a path out of it"
    if "\0" in name or (not name and not member.is_folder):
        yield "no name of a file"
    if is_known:
        yield "there twice"
    if member.size < 0:
        yield "of a size below 0"
    if number >= MAX_MEMBERS:
        yield f"one of more than {MAX_MEMBERS:,} files"
    if not member.is_folder and name.lower().endswith(OTHERS):
        yield "an archive itself"


def _plain(name: str) -> str:
    """Without the ``./`` that `tar` puts in front, and the ``/`` behind a folder; some programs of Windows write ``\\`` for it."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _check_bomb(path: Path, unpacked: int) -> None:
    packed = plain_size(path)
    if unpacked > max(FREE_BYTES, MAX_RATIO * packed):
        raise DataError(
            f"'{path}' has {packed:,} bytes and unpacks to {unpacked:,} or more, over {MAX_RATIO} times as many: images do not pack like "
            "that. Unpack it yourself, look at it, and give the folder."
        )


def _check_size(path: Path, name: str, size: int, most: int) -> None:
    if size > most:
        raise DataError(f"'{path / name}' has {size:,} bytes; at most {most:,} are read")
