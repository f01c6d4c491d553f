"""WebDataset shards: ``.tar`` archives in which files of one name belong together, ``000017.jpg`` and ``000017.cls``.

One archive, or a folder of them, is read where it lies. What is right of an image is in ``.cls``, a number or a name, or in ``.json`` under a key that is called
so. Members of a sample share all up to the first dot of their name (webdataset's own rule).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..reading import parse_json, quoted, shown
from . import archives
from .files import ImageFile, Listed, listed, others
from .gathering import SETS, Gathered, of_case

SUFFIXES = (".tar", ".tar.gz", ".tgz")
MOST_CLASSES = 100_000
"""That a number can say there are; a wrong one would be as many names."""
_LABELS = (".cls", ".json")
_KEYS = ("cls", "label", "class", "class_id", "label_id", "target", "class_name", "label_name")
_MOST_BYTES = 2**20
"""Of a ``.cls`` or ``.json``."""
_NUMBER = re.compile(r"-?\d{1,18}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class _Said:
    """What one shard has: its images, the word of each, empty where there is none, and how many other files there are by kind."""

    files: tuple[ImageFile, ...]
    words: tuple[str, ...]
    passed: Counter[str]


def in_folder(root: Path) -> tuple[Path, ...]:
    """The shards below a folder, in the order of their names; none where it is no folder."""
    if not root.is_dir():
        return ()
    files = others(root, (".tar", ".gz", ".tgz"))
    return tuple(file.path for file in files if file.name.lower().endswith(SUFFIXES) and archives.is_archive(file.path))


def is_shard(found: Listed) -> bool:
    """Whether an archive says in files beside its images what these are."""
    if not found.root.name.lower().endswith(SUFFIXES) or not archives.is_archive(found.root):
        return False
    return ".cls" in found.passed or (".json" in found.passed and not _has_class_folders(found))


def _has_class_folders(found: Listed) -> bool:
    return len({file.parts[:-1] for file in found.files}) > 1


def of_shards(root: Path, shards: Sequence[Path], *, is_sorted: bool) -> Gathered:
    """The images of shards. Where all of these lie in folders that are called as sets are, or have such a word in their names, they are the sets.

    Args:
        root: the folder that they lie in, or the one archive.
        is_sorted: whether what is right of each image is wanted; images of which nothing is said are passed over then.

    Raises:
        DataError: a shard cannot be read or has no image, or labels are not what they should be.
    """
    sets = _sets(root, shards)
    rows: list[tuple[ImageFile, str, str]] = []
    passed: Counter[str] = Counter()
    for shard, own in zip(shards, sets, strict=True):
        found = _read(shard, is_sorted=is_sorted)
        passed += found.passed
        rows += [(file, word, own) for file, word in zip(found.files, found.words, strict=True)]
    if is_sorted:
        passed["image without a label"] += sum(not word for _, word, _ in rows)
        rows = [row for row in rows if row[1]]
    if not rows:
        labels = " with a .cls or .json beside it" if is_sorted else ""
        raise DataError(
            f"'{root}' has no image{labels} in its {len(shards):,} shard{'s' if len(shards) != 1 else ''}: a sample is 000017.jpg and 000017.cls. Images "
            "without classes, for given weights: data.source = 'images'."
        )
    is_numbered, known = _known({word for _, word, _ in rows if word}, root)
    return Gathered(
        files=tuple(file for file, _, _ in rows),
        words=tuple(word for _, word, _ in rows),
        sets=tuple(own for _, _, own in rows),
        known=known,
        places={own: _place(root, shards, sets, own) for own in dict.fromkeys(sets)},
        passed=+passed,
        notes=() if is_numbered else tuple(of_case(known)),
        is_numbered=is_numbered,
    )


def _read(shard: Path, *, is_sorted: bool) -> _Said:
    archive = archives.opened(shard)
    found = listed(shard)
    labels: dict[str, str] = {}
    if is_sorted:
        for name in archive.sizes:
            suffix = next((one for one in _LABELS if name.lower().endswith(one)), "")
            key = _key(name)
            # a number in .cls goes before a whole description
            if name[len(key) :].lower() == suffix != "" and (suffix == ".cls" or key not in labels):
                labels[key] = name
    images: dict[str, ImageFile] = {}
    for file in found.files:
        key = _key(file.name)
        # 000017.jpg is the image, 000017.seg.png is something of it
        if key not in images or file.name.count(".") < images[key].name.count("."):
            images[key] = file
    words = tuple(_word(archive, shard, labels[key]) if key in labels else "" for key in images)
    passed = Counter({kind: count for kind, count in found.passed.items() if kind not in _LABELS or not is_sorted})
    passed["further image of a sample"] += len(found.files) - len(images)
    passed["label without an image"] += len(labels.keys() - images.keys())
    return _Said(files=tuple(images.values()), words=words, passed=passed)


def _key(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


def _word(archive: archives.Archive, shard: Path, name: str) -> str:
    """What a label says; empty where a description has no key that does."""
    where = f"'{shown(shard / name)}'"
    try:
        raw = archive.read(name, _MOST_BYTES)
        if name.lower().endswith(".cls"):
            text = raw.decode("utf-8-sig").strip()
            if not text:
                raise ValueError("it is empty")
            return _plain(text)
        content = parse_json(raw)
        if not isinstance(content, dict):
            raise ValueError("it is no object")
        said = next((content[key] for key in _KEYS if content.get(key) is not None), None)
        if said is None:
            return ""
        if isinstance(said, bool) or not isinstance(said, int | str) or said == "":
            raise ValueError(f"its label is {shown(repr(said), 60)}, and no number or name")
        return _plain(str(said))
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read the label {where}: {error}. Mend the shard, or take the sample out of it."
        ) from error


def _plain(text: str) -> str:
    """A name as others write it, and ``7`` for ``007``; a ValueError where it is no line of text."""
    if len(text) > 1000 or "\n" in text:
        raise ValueError(f"'{shown(text, 60)}' is neither a number nor a name")
    return str(int(text)) if _NUMBER.fullmatch(text) else unicodedata.normalize("NFC", text)


def _known(words: Iterable[str], root: Path) -> tuple[bool, tuple[str, ...]]:
    """Whether words are numbers of classes, and all words there are; of numbers those between as well."""
    found = sorted(words)
    numbers = [int(word) for word in found if _NUMBER.fullmatch(word)]
    if not numbers:
        return False, tuple(found)
    if len(numbers) < len(found):
        names = [shown(word, 60) for word in found if not _NUMBER.fullmatch(word)]
        raise DataError(
            f"'{root}': some labels are numbers and others are not, {quoted(names, 5)}. Give all of them as numbers, with their names in data.labels, or all as names."
        )
    for number in (min(numbers), max(numbers)):
        if not 0 <= number < MOST_CLASSES:
            raise DataError(
                f"'{root}': a label is {number}, and classes are numbered from 0 to {MOST_CLASSES - 1:,} at most. Is it an index of a class?"
            )
    return True, tuple(map(str, range(max(numbers) + 1)))


def _sets(root: Path, shards: Sequence[Path]) -> list[str]:
    """The set of each, where all are named after one and they are several; nothing of each else."""
    found = []
    for shard in shards:
        parts = shard.relative_to(root).parts if shard != root else (shard.name,)
        words = [*parts[:-1], *re.split(r"[\W_]+", parts[-1].partition(".")[0])]
        found.append(next((SETS[word.lower()] for word in words if word.lower() in SETS), ""))
    return found if all(found) and len(set(found)) > 1 else [""] * len(shards)


def _place(root: Path, shards: Sequence[Path], sets: Sequence[str], own: str) -> str:
    names = [
        str(PurePosixPath(shard.relative_to(root))) if shard != root else root.name
        for shard, one in zip(shards, sets, strict=True)
        if one == own
    ]
    return shown(names[0], 100) if len(names) == 1 else f"{len(names):,} shards, {shown(names[0], 100)} the first"
