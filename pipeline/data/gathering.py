"""Which images a data set has, which set each belongs to, and what its folder or a list says of it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..reading import quoted, shown
from .files import ImageFile, Listed, counted

SETS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
"""What people call the sets, in small letters."""


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """Images before they are read.

    Attributes:
        words: what is said to be right of each; empty where nothing is.
        sets: ``train``, ``val`` or ``test`` of each; empty where it does not say.
        known: every word there is, in order, those that no image has as well.
        places: where the images are from, in words, by set.
        passed: how many other files there are, by kind in words.
        notes: what is to be said of it, one line each.
        is_numbered: whether words are numbers of classes, from 0 on, and no names.
    """

    files: tuple[ImageFile, ...]
    words: tuple[str, ...]
    sets: tuple[str, ...]
    known: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    passed: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_numbered: bool = False

    @property
    def has_sets(self) -> bool:
        """Whether it says itself what is held out."""
        return len(set(self.sets)) > 1


def of_folder(found: Listed, *, is_sorted: bool, setting: str = "data.path") -> Gathered:
    """The images of a folder or an archive. Where all folders in it are called as sets are, they are the sets.

    Args:
        found: what lies there.
        is_sorted: into class folders, whose names are the words; other images are passed over.
        setting: that gave it, for messages.

    Raises:
        DataError: there is no image, or folders of sets are not what they are called.
    """
    root = found.root
    top = _unwrapped(found)
    given = _sets(root, [folder for folder in _inside(found, top) if found.below(folder)])
    if not found.files:
        there = counted(found.passed) or "nothing"
        raise DataError(f"{setting} '{root}' is no folder with images: it has {there}.")
    if not is_sorted:
        return _unsorted(found, given)
    return _sorted(found, given or {"": top})


def _unsorted(found: Listed, given: Mapping[str, str]) -> Gathered:
    files = [(file, name) for name, folder in given.items() for file in found.below(folder)]
    files = files or [(file, "") for file in found.files]
    passed = Counter(found.passed)
    passed["image outside of the sets"] += len(found.files) - len(files)
    return Gathered(
        files=tuple(file for file, _ in files),
        words=("",) * len(files),
        sets=tuple(name for _, name in files),
        places={name: f"{folder}/" for name, folder in given.items()} or {"": "all folders"},
        passed=+passed,
    )


def _sorted(found: Listed, given: Mapping[str, str]) -> Gathered:
    """By class folders, in each folder of a set by its name."""
    rows: list[tuple[ImageFile, str, str]] = []
    known: dict[str, None] = {}
    passed, notes = Counter(found.passed), []
    for name, top in given.items():
        classes = _inside(found, top)
        others = [folder for folder in classes if not found.below(folder) and _holds(found, folder)]
        passed["folder without images"] += len(others)
        for folder in (one for one in classes if one not in others):
            # a Mac takes é apart into e and its accent, others do not: the class is the same
            word = unicodedata.normalize("NFC", PurePosixPath(folder).name)
            known[word] = None
            files = found.below(folder)
            rows += [(file, word, name) for file in files]
            if not files:
                notes.append(
                    f"the class folder '{shown(folder)}' is empty: the class is kept, and has no images there."
                )
    passed["image in no class folder"] += len(found.files) - len(rows)
    if len(known) < 2:
        where = found.root / next(iter(given.values()))
        raise DataError(
            f"'{shown(where)}' holds {len(known)} class folder{'s' if len(known) != 1 else ''}; at least 2 are needed. "
            "Images without classes, for given weights: data.source = 'images'."
        )
    notes += _without_classes(found, given, {name for _, _, name in rows}) + _like_sets(found, given)
    return Gathered(
        files=tuple(file for file, _, _ in rows),
        words=tuple(word for _, word, _ in rows),
        sets=tuple(name for _, _, name in rows),
        known=tuple(sorted(known)),
        places={name: f"{folder}/" if folder else "class folders" for name, folder in given.items()},
        passed=+passed,
        notes=(*notes, *of_case(known)),
    )


def of_case(words: Collection[str]) -> list[str]:
    """What is to be said of words that differ by case alone, a line each."""
    alike: dict[str, list[str]] = {}
    for word in sorted(words):
        alike.setdefault(word.casefold(), []).append(word)
    return [
        f"{quoted([shown(word, 60) for word in group])} are classes of their own, and differ by case alone: rename one where they are the same."
        for group in alike.values()
        if len(group) > 1
    ]


def _without_classes(found: Listed, given: Mapping[str, str], sets: Collection[str]) -> list[str]:
    """What is to be said of folders of sets whose images lie in no class folder; a DataError where nothing else can be held out."""
    loose = [(folder, len(found.below(folder))) for name, folder in given.items() if name not in sets]
    if not loose:
        return []
    named = " and ".join(f"'{shown(folder)}/' ({counted({'image': count})})" for folder, count in loose)
    if len(sets) < 2:
        raise DataError(
            f"'{found.root}': there are no class folders in {named}, so nothing says what the images there show. Sort them into class folders as in "
            f"'{shown(given[next(iter(sets))])}/', or take them away: all other images are divided then. Images without classes, for given "
            "weights: data.source = 'images'."
        )
    return [f"there are no class folders in {named}: the images there are passed over."]


def _like_sets(found: Listed, given: Mapping[str, str]) -> list[str]:
    """What is to be said of class folders that are rather sets: called nearly so, with the same folders in each."""
    if set(given) != {""}:
        return []
    inner: dict[tuple[str, ...], list[str]] = {}
    for folder in _inside(found, given[""]):
        if any(part in SETS for part in re.split(r"[\W_]+", PurePosixPath(folder).name.lower())):
            below = [one for one in _inside(found, folder) if found.below(one)]
            inner.setdefault(tuple(sorted(PurePosixPath(one).name for one in below)), []).append(folder)
    notes = []
    for names, folders in inner.items():
        if len(names) > 1 and len(folders) > 1:
            same = quoted([shown(name, 60) for name in names], 5)
            both = " and ".join(f"'{shown(folder)}'" for folder in folders)
            notes.append(
                f"{both} were taken for classes, and hold the same folders {same}: if they are sets, call them 'train', 'val' or 'test', and "
                "leave no other folder with images beside them."
            )
    return notes


def _sets(root: Path, folders: list[str]) -> dict[str, str]:
    """Folder by set, where all of them are called so and they are several; nothing else."""
    names = [SETS.get(PurePosixPath(folder).name.lower(), "") for folder in folders]
    if len(folders) < 2 or not all(names):
        return {}
    for name, count in Counter(names).items():
        if count > 1:
            both = " and ".join(f"'{shown(folder)}'" for folder, one in zip(folders, names, strict=True) if one == name)
            raise DataError(f"'{root}': {both} are both called as a {name} set is. Keep one, or rename the other.")
    found = dict(zip(names, folders, strict=True))
    return {name: found[name] for name in ("train", "val", "test") if name in found}


def _unwrapped(found: Listed) -> str:
    """The folder in which there are several with images: below folders that hold another one and nothing else."""
    top = ""
    while not any(file.name.rpartition("/")[0] == top for file in found.files):
        inside = [folder for folder in _inside(found, top) if found.below(folder)]
        if len(inside) != 1:
            return top
        top = inside[0]
    return ""


def _inside(found: Listed, top: str) -> list[str]:
    """The folders that lie in one."""
    return [folder for folder in found.folders if folder and folder.rpartition("/")[0] == top]


def _holds(found: Listed, folder: str) -> bool:
    """Whether files lie anywhere below a folder, images or not."""
    return folder in found.occupied
