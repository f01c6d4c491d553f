"""Results of jobs, kept by what went into them, on any file system that fsspec knows.

Files lie by the hash of their content below ``objects``; a record below ``records`` lists the files of one job's result
and carries a hash of itself. Everything is written whole or not at all, and every read is checked: a store that is
damaged, full, read-only or gone costs the time to compute again, never the result.

A hash tells damage, not malice: who may write to a store decides what is built from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import StoreError
from ..files import digest
from ..rows import Rows
from .patience import Patient

RECORDS, OBJECTS, LATEST = "records", "objects", "latest"
LARGE = 2**24
"""Bytes of a file that is not read into memory to be kept."""
_MOST_COPIES = 6
"""Open copies of files that lie elsewhere: the sets of two data sets."""
_COPIES: dict[str, Rows] = {}
"""By the hash of their content; in the order in which they were opened."""
_PARTIAL = ".partial-"
_HASH = re.compile("[0-9a-f]{64}")


class Damaged(Exception):
    """A file of a result is gone, or is not what was stored; the job has to run again."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(key, what)
        self.key, self.what = key, what


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The result of a job.

    Attributes:
        key: SHA-256 of all that went in.
        name: of the job, for people.
        ingredients: what went in, by name, each as a hash or a few words.
        files: SHA-256 of each file by its path.
        bytes: of all files.
    """

    key: str
    name: str
    ingredients: Mapping[str, str]
    files: Mapping[str, str]
    bytes: int

    def digest(self, prefix: str = "") -> str:
        """SHA-256 over the files whose path is `prefix` or lies below it: equal contents, equal digests. A KeyError where there is none: a
        key that is made of nothing would be the same for whatever comes."""
        chosen = {name: sha for name, sha in self.files.items() if _is_below(name, prefix)}
        if prefix and not chosen:
            raise KeyError(f"there is no '{prefix}' among {sorted(self.files)[:20]}")
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()

    def has(self, prefix: str) -> bool:
        """Whether there is a file of this path, or below it."""
        return any(_is_below(name, prefix) for name in self.files)


def _is_below(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith(f"{prefix}/")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a store holds: results, the bytes of their files, and damaged files by name."""

    entries: tuple[Entry, ...]
    bytes: int
    damaged: tuple[str, ...]


class Store:
    """A folder on any file system, by its address: a path, or ``s3://bucket/folder`` and the like.

    Args:
        patience: seconds for which a file system that does not answer is asked again.
    """

    def __init__(self, url: str, patience: float = 0.0) -> None:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        self.url = url
        try:
            self._fs, root = url_to_fs(url)
        except Exception as error:  # drivers that are missing, addresses that are none
            raise StoreError(
                f"the store '{url}' cannot be opened: {type(error).__name__}: {error}. "
                "Give a folder or an address that fsspec knows with --store, or set TWINKEEL_STORE."
            ) from error
        self._root = str(root).rstrip("/")
        self.is_local = isinstance(self._fs, LocalFileSystem)
        if not self.is_local and not self._root:
            raise StoreError(
                f"the store '{url}' cannot be opened: it names no bucket or folder. Give one, as in 's3://bucket/twinkeel' "
                "or a folder, with --store, or set TWINKEEL_STORE."
            )
        # of a whole file s3fs asks for the size first, to read parts of it side by side; of one that is not there, whether it is a folder:
        # two and three requests in the place of one
        is_s3 = not self.is_local and "s3" in tuple(self._fs.protocol)
        self._reader = url_to_fs(url, max_concurrency=1)[0] if is_s3 else self._fs
        if patience:
            home = self._root if self.is_local else ""
            self._fs, self._reader = Patient(self._fs, patience, home), Patient(self._reader, patience, home)

    @property
    def folder(self) -> str | None:
        """Of a store on this machine's file systems."""
        return self._root if self.is_local else None

    def begin(self) -> None:
        """Make its folder, where it is one of this machine: who has patience with a store takes one without for a share that is away.

        Raises:
            StoreError: there cannot be one.
        """
        if self.is_local:
            try:
                Path(self._root).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(
                    f"the store '{self.url}' cannot be made: {error}. Give a folder that can be written with --store, or set TWINKEEL_STORE."
                ) from error

    def find(self, key: str) -> Entry | None:
        """The result of a job; None where there is none, or its record is damaged.

        Raises:
            OSError: the store cannot be read.
        """
        path = self._path(RECORDS, key)
        try:
            content = self._reader.cat_file(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        entry = _parsed(content)
        if entry is None or entry.key != key:
            self._discard(path)
            return None
        if self.is_local:
            _touch(path)
        return entry

    def read(self, entry: Entry, name: str) -> bytes:
        """The content of a file of a result.

        Raises:
            Damaged: it is not what was stored; the result is taken out of the store.
        """
        wanted = entry.files[name]
        path = self._path(OBJECTS, wanted)
        try:
            content: bytes = self._reader.cat_file(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            content = b""
        if hashlib.sha256(content).hexdigest() != wanted:
            self._damaged(entry, name)
        return content

    def array(self, entry: Entry, name: str) -> NDArray[Any]:
        """A file that holds an array of numbers."""
        array: NDArray[Any] = np.load(io.BytesIO(self.read(entry, name)), allow_pickle=False)
        return array

    def rows(self, entry: Entry, name: str, folder: Path) -> Rows:
        """The same, read as it is asked for. It is checked here, once, and stays open: what happens to the store changes it no more. Of a
        file that lies on another machine, so does the copy, for who asks in this process next: a worker has many jobs with the same images.

        Args:
            folder: on this machine, for the content of a file that lies on another.
        """
        wanted = entry.files[name]
        if not self.is_local and wanted in _COPIES:
            return _COPIES[wanted]
        path = self._path(OBJECTS, wanted)
        with tempfile.TemporaryDirectory(prefix="rows-", dir=folder) as here:
            file = Path(path)
            try:
                if self.is_local:
                    self._fs.info(path)  # asked for with patience
                else:
                    file = Path(here) / wanted
                    self._fs.get_file(path, str(file))
                found = Rows.of(file)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
                found = None
            if found is None or digest(file) != wanted:
                self._damaged(entry, name)
        if not self.is_local:
            _COPIES[wanted] = found
            if len(_COPIES) > _MOST_COPIES:
                del _COPIES[next(iter(_COPIES))]
        return found

    def json(self, entry: Entry, name: str) -> Any:
        return json.loads(self.read(entry, name))

    def fetch(self, entry: Entry, folder: Path, prefix: str = "") -> None:
        """Write the files whose path is `prefix` or lies below it into `folder`.

        Raises:
            Damaged: one is not what was stored.
        """
        for name in entry.files:
            if _is_below(name, prefix):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(self.read(entry, name))

    def put(self, key: str, name: str, ingredients: Mapping[str, str], folder: Path) -> Entry:
        """Keep all files below `folder` as the result of a job; equal files of several results are kept once.

        Raises:
            OSError: the store cannot be written.
        """
        files, size = {}, 0
        if self.is_local:
            self._fs.exists(
                self._root
            )  # what is written here asks no file system: one with patience waits for its folder
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            sha = digest(path)
            files[path.relative_to(folder).as_posix()] = sha
            size += path.stat().st_size
            if not self._holds(sha, path.stat().st_size):
                self._keep(self._path(OBJECTS, sha), path)
        entry = Entry(key=key, name=name, ingredients=dict(ingredients), files=files, bytes=size)
        self._write(self._path(RECORDS, key), _rendered(entry))  # last: what it lists is there
        return entry

    def remember(self, place: str, jobs: Mapping[str, Mapping[str, str]]) -> None:
        """Note the ingredients of all jobs, by name, of the latest build into a place; `latest` tells them."""
        if self.latest(place) != jobs:
            self._write(self._path(LATEST, _place(place)), _signed(json.dumps(jobs, sort_keys=True)))

    def latest(self, place: str) -> dict[str, dict[str, str]]:
        """Empty where nothing was noted."""
        try:
            body = _body(self._reader.cat_file(self._path(LATEST, _place(place))))
        except OSError:
            return {}
        return {} if body is None else dict(json.loads(body))

    def usage(self, *, is_checked: bool = False) -> Usage:
        """All results, the oldest use first.

        Args:
            is_checked: read every file, and name those that are damaged.
        """
        damaged, entries, sizes = [], [], {}
        for path, info in self._listed(OBJECTS):
            sha = PurePosixPath(path).name
            sizes[sha] = int(info["size"])
            if is_checked and not self._holds(sha, sizes[sha]):
                damaged.append(f"{OBJECTS}/{sha}")
        for path, _ in sorted(self._listed(RECORDS), key=lambda item: _used(item[1])):
            entry = _parsed(self._reader.cat_file(path))
            if entry is None or entry.key != PurePosixPath(path).name:
                damaged.append(f"{RECORDS}/{PurePosixPath(path).name}")
                continue
            entries.append(entry)
            if is_checked:
                missing = set(entry.files.values()) - sizes.keys()
                damaged += [f"{OBJECTS}/{sha} of {entry.name} is missing" for sha in sorted(missing)]
        if is_checked:
            for path, _ in self._listed(LATEST):
                if _body(self._reader.cat_file(path)) is None:
                    damaged.append(f"{LATEST}/{PurePosixPath(path).name}")
        return Usage(entries=tuple(entries), bytes=sum(sizes.values()), damaged=tuple(damaged))

    def prune(self, limit: int, since: float = math.inf) -> tuple[int, int]:
        """Drop the results that were not used for longest until the rest fits into `limit` bytes.

        What a build at the same time still reads is made again there.

        Args:
            since: seconds since 1970; what was used from then on stays, however much it is.

        Returns:
            number of results dropped, bytes freed.
        """
        entries = self.usage().entries
        used = {PurePosixPath(path).name: _used(info) for path, info in self._listed(RECORDS)}
        sizes = {PurePosixPath(path).name: int(info["size"]) for path, info in self._listed(OBJECTS)}
        kept: set[str] = set()
        total, dropped = 0, 0
        for entry in reversed(entries):
            added = set(entry.files.values()) - kept
            size = sum(sizes.get(sha, 0) for sha in added)
            if total + size > limit and used.get(entry.key, 0) < since:
                self._fs.rm_file(self._path(RECORDS, entry.key))
                dropped += 1
                continue
            total, kept = total + size, kept | added
        freed = 0
        for path, info in self._listed(OBJECTS):
            if PurePosixPath(path).name not in kept:
                freed += int(info["size"])
                self._discard(path)
        for path, _ in self._all_files():
            if PurePosixPath(path).name.startswith(_PARTIAL):
                self._discard(path)
        return dropped, freed

    def clear(self) -> None:
        """Drop everything."""
        for part in (RECORDS, LATEST, OBJECTS):
            for path, _ in self._listed(part):
                self._discard(path)

    def _path(self, part: str, name: str) -> str:
        return f"{self._root}/{part}/{name[:2]}/{name}"

    def _listed(self, part: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for path, info in self._all_files(part):
            if not PurePosixPath(path).name.startswith(_PARTIAL):
                yield path, info

    def _all_files(self, part: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
        place = f"{self._root}/{part}" if part else self._root
        found: Mapping[str, Mapping[str, Any]] = self._fs.find(place, detail=True) if self._fs.exists(place) else {}
        yield from sorted(found.items())

    def _holds(self, sha: str, size: int) -> bool:
        """Whether a file of this content is there, which has this size."""
        path = self._path(OBJECTS, sha)
        try:
            return (digest(Path(path)) if self.is_local else self._sha_of(path, size)) == sha
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _sha_of(self, path: str, size: int) -> str:
        """Of a file elsewhere; a large one is not read into memory."""
        if size < LARGE:
            return hashlib.sha256(self._reader.cat_file(path)).hexdigest()
        with tempfile.TemporaryDirectory(prefix="twinkeel-") as here:
            self._fs.get_file(path, f"{here}/file")
            return digest(Path(here) / "file")

    def _damaged(self, entry: Entry, name: str) -> NoReturn:
        self._discard(self._path(OBJECTS, entry.files[name]))
        self._discard(self._path(RECORDS, entry.key))
        raise Damaged(entry.key, f"{entry.name}: {name}")

    def _keep(self, path: str, file: Path) -> None:
        """A file's content, as `_write` does; a large one is not read into memory, and not copied where a link does."""
        if file.stat().st_size < LARGE:
            self._write(path, file.read_bytes())
            return
        if not self.is_local:
            self._fs.put_file(str(file), path)
            return
        with _partial(path) as partial:
            try:
                os.link(file, partial)
            except OSError:  # on another disk, or on one that has no links
                shutil.copyfile(file, partial)

    def _write(self, path: str, content: bytes) -> None:
        """Whole or not at all: an object store does so by itself, a folder by renaming."""
        if not self.is_local:
            self._fs.pipe_file(path, content)
            return
        with _partial(path) as partial:
            partial.write_bytes(content)

    def _discard(self, path: str) -> None:
        try:
            self._fs.rm_file(path)
        except Exception:  # a store that is read-only, or another build was faster
            return


@contextlib.contextmanager
def _partial(path: str) -> Iterator[Path]:
    """A file beside one that takes its name in the end, and is gone where that is not reached."""
    partial = Path(path).parent / f"{_PARTIAL}{uuid.uuid4().hex}"
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _place(place: str) -> str:
    return hashlib.sha256(place.encode()).hexdigest()


def _rendered(entry: Entry) -> bytes:
    return _signed(json.dumps(asdict(entry), sort_keys=True))


def _signed(body: str) -> bytes:
    """One line, and its hash on another."""
    return f"{body}\n{hashlib.sha256(body.encode()).hexdigest()}\n".encode()


def _body(content: bytes) -> str | None:
    """The line; None where a single bit is wrong."""
    try:
        body, sha, rest = content.decode().split("\n")
    except ValueError:
        return None
    return None if rest or hashlib.sha256(body.encode()).hexdigest() != sha else body


def _parsed(content: bytes) -> Entry | None:
    """The entry that a record holds; None where it is damaged."""
    body = _body(content)
    if body is None:
        return None
    try:
        entry = Entry(**json.loads(body))
        is_sound = all(_is_inside(name) and _HASH.fullmatch(sha) for name, sha in entry.files.items())
        return entry if is_sound else None
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _is_inside(name: str) -> bool:
    """Whether a file's path stays below the folder that it is written into."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and not {"..", "."} & set(parts) and not {"\\", ":"} & set(name)


def _used(info: Mapping[str, Any]) -> float:
    """When a record was last used, as far as the file system tells."""
    for key in ("mtime", "LastModified", "last_modified", "updated"):
        if (value := info.get(key)) is not None:
            return float(value.timestamp() if hasattr(value, "timestamp") else value)
    return 0.0


def _touch(path: str) -> None:
    try:
        os.utime(path)
    except OSError:  # a store that is read-only has no order of use
        return
