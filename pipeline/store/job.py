"""A job: what goes in, the key that follows from it, and where its result is found or made."""

from __future__ import annotations

import errno
import functools
import hashlib
import importlib.metadata
import json
import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import StoreError
from ..rows import Rows
from .advice import advice
from .entries import Damaged, Entry, Store
from .sources import code_digest

_FORMAT = 1
"""Of keys and results; another number makes every result anew."""

Make = Callable[[Path], bool | None]
"""Writes the result of a job into an empty folder. False where it is for this build alone: another might give more."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A pure function of what goes in.

    Attributes:
        kind: which function; with the ingredients it makes the key.
        name: for people, where `kind` does not say enough.
        inputs: anything JSON can hold: hashes of other results, settings. Each is one reason to run again.
        code: modules that compute the result; what they import of this project counts as well.
        glue: modules whose own source counts, without what they import.
        packages: distributions whose versions count.
    """

    kind: str
    name: str
    inputs: Mapping[str, Any]
    code: tuple[str, ...]
    glue: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    @functools.cached_property
    def ingredients(self) -> dict[str, str]:
        """Everything that the key is made of, by name, short enough to be shown."""
        found = {name: _short(value) for name, value in self.inputs.items()}
        found |= {f"version of {name}": _version(name) for name in self.packages}
        found["code of twinkeel"] = code_digest(self.code, self.glue)
        found["machine"] = f"{platform.system()} {platform.machine()}"
        return found

    @functools.cached_property
    def key(self) -> str:
        content = json.dumps([_FORMAT, self.kind, self.ingredients], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


@functools.cache
def _version(package: str) -> str:
    return importlib.metadata.version(package)


def _short(value: Any) -> str:
    """The value where it is a few words, else its hash."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 80 else hashlib.sha256(text.encode()).hexdigest()


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs between the ingredients of two jobs, in words."""
    found = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old != new:
            is_told = max(len(str(old)), len(str(new))) < 40
            found.append(f"{name} changed" + (f" ({old or 'none'} -> {new or 'none'})" if is_told else ""))
    return "; ".join(found) or "its result is gone from the store"


@dataclass
class Workshop:
    """Finds the results of jobs, or makes them.

    Attributes:
        store: shared with other builds; None for a build without.
        scratch: of this build alone: what the store does not take.
        damaged: keys whose stored results are not to be used.
        troubles: what the store could not do, in words.
        asked: ingredients of all jobs so far, by name.
        found: what the store had, by key: it is looked for once.
        is_shared: others go on from what is kept, so a store that fails is an error, and nothing is kept for this build alone.
    """

    store: Store | None
    scratch: Store
    damaged: frozenset[str] = frozenset()
    troubles: list[str] = field(default_factory=list)
    asked: dict[str, dict[str, str]] = field(default_factory=dict)
    found: dict[str, Entry] = field(default_factory=dict)
    is_shared: bool = False

    def find(self, job: Job) -> Entry | None:
        self.asked[job.name] = job.ingredients
        return self.lookup(job.key)

    def lookup(self, key: str) -> Entry | None:
        entry = self.scratch.find(key)
        if entry is not None or self.store is None or key in self.damaged:
            return entry
        if key in self.found:
            return self.found[key]
        try:
            entry = self.store.find(key)
        except Exception as error:  # drivers of remote stores raise anything
            self._check_shared("read", error)
            self._without(f"cannot be read ({type(error).__name__}: {error}); this build does without")
            return None
        if entry is not None:
            self.found[key] = entry
        return entry

    def make(self, job: Job, make: Make) -> Entry:
        """The job's result, made where it is not found.

        Raises:
            StoreError: there is no place for it, here neither.
        """
        found = self.find(job)
        if found is not None:
            return found
        with tempfile.TemporaryDirectory(prefix="job-", dir=self.scratch.url) as name:
            is_for_all = make(Path(name)) is not False
            return self.keep(job, Path(name), is_for_all=is_for_all)

    def keep(self, job: Job, folder: Path, *, is_for_all: bool = True) -> Entry:
        """Put a folder away as the result of a job; for this build alone where it is not for all."""
        if self.store is not None and is_for_all:
            try:
                # of two that make the same at a time, on processors that round differently, perhaps, the first is right: others may
                # have gone on from it
                if self.is_shared and (first := self.store.find(job.key)) is not None:
                    return first
                return self.store.put(job.key, job.name, job.ingredients, folder)
            except Exception as error:
                self._check_shared("written", error)
                self._without(f"cannot be written ({type(error).__name__}: {error}); results are not kept", stays=True)
        try:
            return self.scratch.put(job.key, job.name, job.ingredients, folder)
        except OSError as error:
            raise StoreError(
                f"no place for the result of '{job.name}' in '{self.scratch.url}': {error}. "
                "Make room, or choose another folder with --out."
            ) from error

    def of(self, entry: Entry) -> Store:
        """Where an entry's files lie."""
        if self.store is None or self.scratch.find(entry.key) is not None:
            return self.scratch
        return self.store

    def read(self, entry: Entry, name: str) -> bytes:
        content: bytes = self._guarded(lambda: self.of(entry).read(entry, name), entry)
        return content

    def json(self, entry: Entry, name: str) -> Any:
        return json.loads(self.read(entry, name))

    def array(self, entry: Entry, name: str) -> Any:
        return self._guarded(lambda: self.of(entry).array(entry, name), entry)

    def rows(self, entry: Entry, name: str) -> Rows:
        """A file of an array that may be large, read as it is asked for."""
        found: Rows = self._guarded(lambda: self.of(entry).rows(entry, name, Path(self.scratch.url)), entry)
        return found

    def fetch(self, entry: Entry, folder: Path, prefix: str = "") -> None:
        self._guarded(lambda: self.of(entry).fetch(entry, folder, prefix), entry)

    def remember(self, place: str) -> None:
        """For the next `twinkeel build --explain`; a store that cannot is no trouble."""
        try:
            if self.store is not None:
                self.store.remember(place, self.asked)
        except Exception:  # the next explanation is shorter for it
            return

    def why(self, place: str, job: Job) -> str:
        """Why a job has to run, by comparison with the latest build into `place`."""
        before = {} if self.store is None else self.store.latest(place)
        return changes(before[job.name], job.ingredients) if job.name in before else "it never ran"

    def _guarded(self, read: Callable[[], Any], entry: Entry) -> Any:
        """A store that fails in the middle of a build is as good as one with damaged files."""
        try:
            return read()
        except Damaged:
            raise
        except OSError as error:
            if is_no_room(error):  # here, where it was to be put
                raise
            self._check_shared("read", error)
            raise Damaged(entry.key, f"{entry.name}: {error}") from error

    def _check_shared(self, done: str, error: Exception) -> None:
        if self.is_shared and self.store is not None:
            raise StoreError(
                f"the store '{self.store.url}', which all work shares, cannot be {done}: {type(error).__name__}: {str(error)[:300].rstrip('.')}. "
                + advice(self.store.url, error, is_local=self.store.is_local)
            ) from error

    def _without(self, trouble: str, *, stays: bool = False) -> None:
        assert self.store is not None
        line = f"the store '{self.store.url}' {trouble}"
        if line not in self.troubles:
            self.troubles.append(line)
        if not stays:
            self.store = None


def is_no_room(error: BaseException) -> bool:
    """Whether a disk that is full or read-only is behind an error: what is tried next would fail as well."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
