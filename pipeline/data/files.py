"""The files of a data set, below a folder or in an archive: which are images, and what they hold."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..files import real
from ..reading import read_bytes, shown
from . import archives, remembered
from .kinds import IMAGE_SUFFIXES, RAW_SUFFIXES, TENSORS, has_image_magic

MAX_IMAGE_BYTES = 2**30
_HEAD = 64
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})
_SYSTEM_FOLDERS = frozenset({"__MACOSX", "$RECYCLE.BIN", "System Volume Information"})
"""And whatever begins with a dot: they are no part of a data set."""

_PLURALS = {
    "annotation": "annotations", "box": "boxes", "crowd": "crowds", "file": "files", "folder": "folders", "image": "images", "link": "links",
    "mask": "masks", "outline": "outlines", "row": "rows",
}  # fmt: skip


@dataclass(frozen=True, order=True)
class ImageFile:
    """A file, by where it lies; it is read when it is asked for, and travels to other processes.

    Attributes:
        root: folder, or archive.
        name: path below it, ``a/b.jpg``.
    """

    root: Path
    name: str

    def __str__(self) -> str:
        return shown(self.path)

    @property
    def path(self) -> Path:
        """For messages: of a file in an archive there is none."""
        return self.root / self.name

    @property
    def parts(self) -> tuple[str, ...]:
        """Of the path below the root."""
        return PurePosixPath(self.name).parts

    @property
    def suffix(self) -> str:
        """In small letters, with the dot; as `PurePath.suffix`, of many files."""
        name = self.name.rpartition("/")[2]
        dot = name.rfind(".")
        return name[dot:].lower() if 0 < dot < len(name) - 1 else ""

    def read(self, most: int = MAX_IMAGE_BYTES) -> bytes:
        """The whole content.

        Raises:
            OSError: it is missing, damaged or no plain file.
            DataError: it is larger than `most` bytes, or the archive cannot be read.
        """
        if not archives.is_archive(self.root):
            return read_bytes(self.path, most)
        archive = archives.opened(self.root)
        if self.name not in archive.sizes:
            raise OSError(f"'{self.root}' has no '{self.name}'")
        return archive.read(self.name, most)

    def beside(self, suffix: str) -> ImageFile | None:
        """The file of the same name with another suffix, ``.npz``; None where there is none."""
        other = ImageFile(self.root, str(PurePosixPath(self.name).with_suffix(suffix)))
        if archives.is_archive(self.root):
            return other if other.name in archives.opened(self.root).sizes else None
        return other if other.path.is_file() else None


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What lies below a folder or in an archive.

    Attributes:
        files: the images, in the order of their names.
        tensors: what models are given beside images, ``cat.npz``.
        passed: how many other files there are, by kind in words.
        folders: every folder by its path, ``""`` is the root; links to folders that were followed are among them.
        occupied: those of them below which there is any file.
    """

    root: Path
    files: tuple[ImageFile, ...]
    tensors: tuple[ImageFile, ...] = ()
    passed: dict[str, int] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    occupied: frozenset[str] = frozenset()

    @cached_property
    def _by_folder(self) -> dict[str, list[ImageFile]]:
        found: dict[str, list[ImageFile]] = {}
        for file in self.files:
            for folder in _above(file.name):
                found.setdefault(folder, []).append(file)
        return found

    def below(self, folder: str) -> tuple[ImageFile, ...]:
        """The images in a folder and the folders in it."""
        return tuple(self._by_folder.get(folder or ".", ()))


def listed(root: Path) -> Listed:
    """All files below a folder, or in a ``.zip``, ``.tar`` or ``.tar.gz``. Links are followed, and each folder is looked into once.

    Raises:
        DataError: it is neither, or a folder cannot be looked into.
    """
    if archives.is_archive(root):
        archive = archives.opened(root)
        names = [name for name in archive.sizes if not _is_of_the_system(name)]
        parents = {parent for name in archive.sizes for parent in _above(name)}
        own = ({*archive.folders, *parents} - {"."}) | {""}
        return _sorted_out(root, names, [name for name in own if not _is_of_the_system(name)], Counter())
    if not root.is_dir():
        raise DataError(f"'{root}' is no folder and no archive ({', '.join(archives.SUFFIXES)}).")
    passed: Counter[str] = Counter()
    try:
        names, folders = _walked(root, passed)
    except OSError as error:
        raise DataError(f"cannot list '{root}': {type(error).__name__}: {shown(error)}. Mend or remove it.") from error
    return _sorted_out(root, names, folders, passed)


def others(root: Path, suffixes: Sequence[str]) -> tuple[ImageFile, ...]:
    """Files below a folder or in an archive that are no images, by their suffixes, in the order of their names.

    Raises:
        DataError: as `listed`.
    """
    if archives.is_archive(root):
        names = list(archives.opened(root).sizes)
    else:
        try:
            names, _ = _walked(root, Counter())
        except OSError as error:
            raise DataError(
                f"cannot list '{root}': {type(error).__name__}: {shown(error)}. Mend or remove it."
            ) from error
    files = (ImageFile(root, name) for name in sorted(names) if not _is_of_the_system(name))
    return tuple(file for file in files if file.suffix in suffixes)


def digests(files: Iterable[ImageFile]) -> dict[str, str]:
    """SHA-256 of each file by its name; of an archive as a whole, by its own. Of archives in several folders that are called alike, all of them."""
    files = tuple(files)
    whole = {
        root: ImageFile(root.parent, root.name) for root in {file.root for file in files} if archives.is_archive(root)
    }
    wanted = {(one.name, one) for file in files for one in [whole.get(file.root, file)]}
    found: dict[str, str] = {}
    for root in sorted({file.root for _, file in wanted}):
        names = sorted(name for name, file in wanted if file.root == root)
        try:
            for name, sha in zip(names, remembered.digests(root, names), strict=True):
                found[name] = f"{found[name]} {sha}" if name in found else sha
        except OSError as error:
            raise DataError(
                f"cannot read the image '{shown(error.filename)}': {error}. Mend or remove the file."
            ) from error
    return dict(sorted(found.items()))


def _sorted_out(root: Path, names: Sequence[str], folders: Iterable[str], passed: Counter[str]) -> Listed:
    images, tensors = [], []
    for file in (ImageFile(root, name) for name in sorted(names, key=lambda name: name.split("/"))):
        if file.suffix == TENSORS:
            tensors.append(file)
        elif is_image(file):
            images.append(file)
        else:
            passed[file.suffix or "without a suffix"] += 1
    return Listed(
        root=root,
        files=tuple(images),
        tensors=tuple(tensors),
        passed=dict(sorted(passed.items())),
        folders=tuple(sorted(folders)),
        occupied=frozenset(folder for name in names for folder in _above(name)),
    )


def _above(name: str) -> Iterator[str]:
    """The folders that a file lies in, the innermost first and ``.`` last."""
    end = len(name)
    while (end := name.rfind("/", 0, end)) > 0:
        yield name[:end]
    yield "."


def counted(passed: Mapping[str, int]) -> str:
    """What was passed over, in words, with the first noun of each kind as its number asks for."""
    found = []
    for kind, count in passed.items():
        noun, space, rest = shown(kind, 60).partition(" ")
        found.append(f"{count:,} {noun if count == 1 else _PLURALS.get(noun, noun)}{space}{rest}")
    return ", ".join(found)


def is_image(file: ImageFile) -> bool:
    """By its suffix, or else by how it begins. A raw photograph of a camera is none: what is in it is a preview."""
    if file.suffix in IMAGE_SUFFIXES:
        return True
    return file.suffix not in RAW_SUFFIXES and has_image_magic(_head(file))


def _head(file: ImageFile) -> bytes:
    """The first bytes; none where it cannot be read."""
    try:
        if archives.is_archive(file.root):
            return archives.opened(file.root).head(file.name, _HEAD)
        with file.path.open("rb") as stream:
            return stream.read(_HEAD)
    except OSError:
        return b""


def _is_of_the_system(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part in _SYSTEM_FOLDERS for part in parts) or (
        bool(parts) and parts[-1].lower() in _SYSTEM_FILES
    )


def _walked(root: Path, passed: Counter[str]) -> tuple[list[str], list[str]]:
    """Names of the plain files and of the folders. Links to folders come last, so that a folder has the name of its own place."""
    names: list[str] = []
    folders: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    links: list[str] = []
    while waiting or links:
        if not waiting:
            links.sort()
        folder = waiting.pop() if waiting else links.pop(0)
        status = (root / folder).stat()
        if (status.st_dev, status.st_ino) in seen or (folder and _holds(root / folder, root)):
            passed["link to a folder that is read already"] += 1
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.append(folder)
        for entry in _entries(root / folder):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if _is_of_the_system(entry.name):
                continue
            kind = _kind(entry)
            if kind == "folder":
                (links if entry.is_symlink() else waiting).append(name)
            elif kind == "file":
                names.append(name)
            else:
                passed[kind] += 1
    return names, folders


def _holds(link: Path, root: Path) -> bool:
    return link.is_symlink() and real(root).is_relative_to(real(link))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        yield from found


def _kind(entry: os.DirEntry[str]) -> str:
    """``folder``, ``file``, or what else it is."""
    try:
        mode = entry.stat().st_mode
    except OSError:
        return "link to nothing" if entry.is_symlink() else "unreadable"
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "pipe or device"
