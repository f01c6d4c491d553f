"""Where finished things are put: each appears whole, in the place of what was there, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import strays
from ..errors import TwinkeelError, VerifyError
from ..files import digest, read_json, rendered
from ..reading import shown
from ..saying import Say
from . import faults, manifest

INDEX = "build.json"
"""Hash of every file that lies beside the platforms' folders, and of each folder's manifest."""
WORK = ".twinkeel"
"""Hidden folder of what is not finished; a build that was killed leaves it, the next one empties it."""
_SELF = "build_sha256"
_VERSION = 1
_LOCK = "lock"


_MARKS = (manifest.MANIFEST, manifest.PARITY, "sbom.cdx.json", "golden")
"""Two of these are in a folder that a build wrote, even where one was damaged."""
_OTHER = "Choose another folder with --out, or move it away."


def check_place(out: Path, folders: Iterable[str], files: Iterable[str], written_alone: Iterable[str] = ()) -> None:
    """See that a build replaces nothing but what a build wrote.

    Args:
        folders: names of the platforms' folders in `out`.
        files: names of the files beside them.
        written_alone: of files that other commands write there too.

    Raises:
        TwinkeelError: something else lies where one of them would be.
    """
    is_known = (out / INDEX).exists()
    for name in folders:
        place = out / name
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise TwinkeelError(f"'{place}' is no folder, and the build would put one there. {_OTHER}")
        held = sorted(p.name for p in place.iterdir() if not _is_stray(p)) if place.is_dir() else []
        is_ours = sum(mark in held for mark in _MARKS) >= 2
        if held and not is_ours:
            some = ", ".join(held[:3]) + (", ..." if len(held) > 3 else "")
            raise TwinkeelError(
                f"'{place}' holds what no build wrote ({some}), and the build would replace it. {_OTHER}"
            )
        is_known = is_known or is_ours
    alone = tuple(written_alone)
    for name in (*files, *alone, INDEX):
        place = out / name
        if place.is_symlink() or (place.exists() and not place.is_file()):
            raise TwinkeelError(f"'{place}' is no file, and the build would put one there. {_OTHER}")
        if place.exists() and not is_known and name not in alone:
            raise TwinkeelError(f"'{place}' is of no build, and the build would replace it. {_OTHER}")


@contextlib.contextmanager
def claimed(out: Path, say: Say, option: str = "--out") -> Iterator[Path]:
    """Hold the folder `out` against other builds, and give a folder for what is not finished.

    A second build waits, and says so.

    Args:
        option: of the command, that gave the folder.

    Raises:
        TwinkeelError: `out` cannot be written.
    """
    was_there = out.exists()
    if out.is_symlink() and not was_there:
        raise TwinkeelError(
            f"'{out}' is a link to '{out.readlink()}', and nothing is there. Make that folder, or choose another with {option}."
        )
    work = out / WORK
    lock = None
    try:
        lock = _lock(work, lambda: say(f"waiting: another build is at work in '{out}'"))
        _restore(out, work)
        for left in work.iterdir():  # of builds that were killed
            if left.name != _LOCK:
                shutil.rmtree(left, ignore_errors=True)
        yield Path(tempfile.mkdtemp(prefix="build-", dir=work))
    except OSError as error:
        raise TwinkeelError(
            f"cannot write to '{out}': {error}. Make room, or choose another folder with {option}."
        ) from error
    finally:
        if lock is not None:
            shutil.rmtree(work, ignore_errors=True)
            os.close(lock)
        if not was_there:
            with contextlib.suppress(OSError):
                out.rmdir()  # only where nothing came of it


def _lock(work: Path, wait: Callable[[], None]) -> int:
    """Open and lock the file that stands for `work`; the lock goes with the process, however that ends.

    Args:
        wait: called once before waiting for another process.
    """
    has_waited = False
    while True:
        work.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(work / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not has_waited:
                wait()
            has_waited = True
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if (work / _LOCK).stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)  # the build before removed it when it was done


def _restore(out: Path, work: Path) -> None:
    """Put a folder back that a build had moved aside when it was killed."""
    for old in work.glob("old-*"):
        final = out / old.name.removeprefix("old-")
        if not final.exists():
            old.replace(final)


def replace_folder(staging: Path, final: Path, work: Path) -> None:
    """Put a finished folder in its place."""
    staging.chmod(0o755)
    old = work / f"old-{final.name}"
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.replace(old)
    try:
        staging.replace(final)
    except OSError:
        _restore(final.parent, work)
        raise
    shutil.rmtree(old, ignore_errors=True)


def save(content: str | bytes, path: Path) -> Path:
    """Write a file beside its place and put it there when it is whole.

    Raises:
        TwinkeelError: it cannot be written; what was there is untouched.
    """
    partial = None
    try:
        if not path.parent.is_dir():  # on a read-only disk even one that is there cannot be asked for
            path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        partial = Path(name)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
        partial.chmod(0o644)
        partial.replace(path)
    except OSError as error:
        raise TwinkeelError(f"cannot write '{path}': {error}. Make room there, or choose another folder.") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
    return path


def add(out: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files beside the platforms' folders, and list them in the index where there is one.

    Raises:
        TwinkeelError: one cannot be written.
    """
    for name, content in files.items():
        save(content, out / name)
    refresh(out, files)


def refresh(out: Path, names: Iterable[str] = ()) -> None:
    """Write the index of `out` anew, where it has one, after what it lists was changed on purpose.

    Args:
        names: of files that are new.
    """
    if (out / INDEX).is_file():
        write_index(out, {*read_index(out)["files"], *names})


def _is_stray(path: Path) -> bool:
    return strays.is_stray(path) or strays.is_stray_folder(path)


def keep_line_ends(out: Path, names: Iterable[str]) -> None:
    """Keep git from changing the files beside the platforms' folders, where `out` holds nothing but these and files of these
    names: in a folder of the user's own, git does as he says."""
    place = out / manifest.ATTRIBUTES
    own = {INDEX, WORK, *names, *(path.parent.name for path in out.glob(f"*/{manifest.MANIFEST}"))}
    if not os.path.lexists(place) and all(path.name in own or _is_stray(path) for path in out.iterdir()):
        save(manifest.AS_THEY_ARE, place)


def write_index(out: Path, names: Iterable[str]) -> None:
    """Describe the folders below `out`, and the files named that are there."""
    with contextlib.suppress(OSError):
        if (out / manifest.ATTRIBUTES).read_bytes() == manifest.AS_THEY_ARE:
            names = {*names, manifest.ATTRIBUTES}
    folders = {p.parent.name: digest(p) for p in sorted(out.glob(f"*/{manifest.MANIFEST}"))}
    files = {name: digest(out / name) for name in sorted(names) if (out / name).is_file()}
    content = {"schema_version": _VERSION, "folders": folders, "files": files}
    wanted = rendered(manifest.sealed(content, _SELF))
    if not (out / INDEX).is_file() or (out / INDEX).read_bytes() != wanted:
        save(wanted, out / INDEX)


def read_index(out: Path) -> dict[str, Any]:
    """Raises a VerifyError where there is none, or it is damaged."""
    content = read_json(out / INDEX)
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("files"), dict)
        or not isinstance(content.get("folders"), dict)
    ):
        raise VerifyError(f"'{out / INDEX}' is damaged. Build again.")
    return content


def files_in(out: Path) -> set[str]:
    """The files that the index lists; none where it is damaged or missing."""
    with contextlib.suppress(VerifyError):
        return set(read_index(out)["files"])
    return set()


def verify(out: Path) -> int:
    """Check every file below `out`, the platforms' folders with it, and return the number of files.

    Raises:
        VerifyError: naming what is changed, missing or unknown.
    """
    index = read_index(out)
    problems = []
    whole = rendered(manifest.sealed(index, _SELF))
    if (out / INDEX).read_bytes() != whole:
        problems.append(faults.changed(INDEX, out / INDEX, hashlib.sha256(whole).hexdigest()))
    found = {p.name: p for p in sorted(out.iterdir()) if p.name not in (INDEX, WORK) and not _is_stray(p)}
    listed = index["files"] | index["folders"]
    count = 0
    for name in sorted(found.keys() | listed.keys()):
        path = out / name
        if name not in listed:
            problems.append(f"unknown: {shown(name)}")
        elif name == manifest.ATTRIBUTES and name not in found:
            continue  # see there
        elif name not in found or (name in index["folders"]) != path.is_dir() or path.is_symlink():
            problems.append(f"missing: {shown(name)}")
        elif name in index["folders"]:
            try:
                count += manifest.verify(path)
                if digest(path / manifest.MANIFEST) != listed[name]:
                    problems.append(f"changed: {name}/{manifest.MANIFEST}")
            except VerifyError as error:
                problems.append(str(error))
        elif digest(path) != listed[name]:
            problems.append(faults.changed(name, path, str(listed[name])))
        else:
            count += 1
    if problems:
        raise VerifyError(f"'{out}' does not hold what its build wrote:\n{faults.told(problems)}")
    return count


def passed_over(out: Path) -> list[str]:
    """Names of what other programs left below `out`, which `verify` does not count."""
    above = [path.name for path in sorted(out.iterdir()) if _is_stray(path)]
    folders = sorted(path.parent for path in out.glob(f"*/{manifest.MANIFEST}"))
    return above + [f"{folder.name}/{name}" for folder in folders for name in manifest.passed_over(folder)]
