"""Names of classes: files of them in the order of a checkpoint's outputs, and which output a class folder or a word of a list means."""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...reading import parse_json, quoted, read_bytes, shown, why_unreadable

MAX_LABELS = 10_000_000
"""Bytes of a file of class names."""
BACKGROUND = "background"
_OF_IMAGENET = 1000
"""Classes; networks from TensorFlow have one more, which comes first."""
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They show a text in another order than it has; Arabic and Hebrew do without."""
_NUMBERED = re.compile(r"(\d{1,9})(?:\s*[:,;]\s*|[.)]?\s+)(\S.*)", re.ASCII)
_WORDNET = re.compile(r"(n\d{8})[\s,:]+(\S.*)")


@dataclass(frozen=True)
class Entry:
    """A class.

    Attributes:
        others: what it is called too, such as its number in WordNet.
    """

    name: str
    others: tuple[str, ...] = ()


def read_labels(path: Path) -> tuple[str, ...]:
    """The names in a file of them, in order; see `read_entries`."""
    return tuple(entry.name for entry in read_entries(path))


def read_entries(path: Path) -> tuple[Entry, ...]:
    """The classes in a file in UTF-8: a name a line, with its number or one of WordNet before it perhaps, or the JSON of an index, ``{"0": "tench"}``,
    ``{"0": ["n01440764", "tench"]}``, ``{"tench": 0}`` or ``["tench"]``; or one of these as ``id2label`` or ``label2id`` of a larger one.

    Raises:
        DataError: it cannot be read, is far larger than names are, or a name is empty or there twice.
    """
    try:
        text = read_bytes(path, MAX_LABELS).decode("utf-8-sig")  # a byte order mark is an editor's
        if path.suffix.lower() == ".json":
            found = _of_index(_parsed(text))
        else:
            found = _of_lines([line.strip() for line in text.splitlines()])
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read data.labels '{path}': {why_unreadable(error)}. Give a text file, one name a line, or a JSON index."
        ) from error
    if not found:
        raise DataError(f"data.labels '{path}' has no line; every class needs a name")
    found = _told_apart(found)
    seen: set[str] = set()
    for number, entry in enumerate(found, 1):
        if not entry.name:
            raise DataError(f"data.labels '{path}': line {number} is empty; every class needs a name")
        if _visible(entry.name) in seen:
            raise DataError(
                f"data.labels '{path}': line {number} repeats '{shown(entry.name)}'; every class needs its own. Say which is meant, as in "
                f"'{shown(entry.name)} (2)', or put an identifier in front of each line, as in 'n02012849 crane'"
            )
        check_name(entry.name, f"line {number} of data.labels")
        seen.add(_visible(entry.name))
    return found


def _parsed(text: str) -> Any:
    try:
        return parse_json(text.encode())
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON from line {error.lineno}, column {error.colno} on: {error.msg}") from error


def _of_lines(lines: Sequence[str]) -> tuple[Entry, ...]:
    """In the order of the lines, or of the numbers before all of them."""
    found = _numbered(lines)
    if not found:
        return _of_wordnet(lines)
    entries = _of_wordnet([name for _, name, _ in found])
    # of lines `1 eel` and so on, the number may be taken for one from 0: it is a name of none then
    return tuple(
        Entry(entry.name, (*([str(number)] if found[0][0] == 0 else []), *entry.others, line))
        for entry, (number, _, line) in zip(entries, found, strict=True)
    )


def _numbered(lines: Sequence[str]) -> list[tuple[int, str, str]]:
    """Number, name and line, in the order of the numbers; nothing where these are not all from 0 or 1 on, or the names belong to them,
    as in ``1 star``, ``2 stars``."""
    parts = [_NUMBERED.fullmatch(line) for line in lines]
    found = sorted((int(part[1]), part[2], line) for part, line in zip(parts, lines, strict=True) if part)
    names = {_loose(name).rstrip("s") for _, name, _ in found}
    if len(found) < max(2, len(lines)) or 2 * len(names) <= len(found):
        return []
    first = found[0][0]
    is_counted = first in (0, 1) and [number for number, _, _ in found] == list(range(first, first + len(found)))
    return found if is_counted else []


def _of_wordnet(lines: Sequence[str]) -> tuple[Entry, ...]:
    numbered = [_WORDNET.fullmatch(line) for line in lines]
    of_wordnet = [match for match in numbered if match]
    if not lines or len(of_wordnet) < len(lines) - 1:  # a background has no number
        return tuple(Entry(line) for line in lines)
    return tuple(Entry(m[2], (m[1],)) if m else Entry(line) for m, line in zip(numbered, lines, strict=True))


def _of_index(content: Any) -> tuple[Entry, ...]:
    """A ValueError where it is no index of 0 to the number of classes less one."""
    if isinstance(content, dict):  # a model's config.json, as Hugging Face's transformers write it
        content = next((content[key] for key in ("id2label", "label2id") if content.get(key)), content)
    if isinstance(content, list):
        content = dict(enumerate(content))
    elif isinstance(content, dict) and content and all(type(value) is int for value in content.values()):
        by_name, content = content, {str(number): name for name, number in content.items()}
        if len(content) < len(by_name):
            raise ValueError("a number stands twice")
    if not isinstance(content, dict):
        raise ValueError("it is neither an object nor a list")
    by_number = {str(key): value for key, value in content.items()}
    found = []
    for number in range(len(by_number)):
        value = by_number.get(str(number))
        words: list[Any] = value if isinstance(value, list) else [value]
        if not words or not all(isinstance(word, str) for word in words):
            raise ValueError(f"it has no name of number {number}; 0 to {len(by_number) - 1} are wanted")
        # the last is for people: ["n01440764", "tench"]
        found.append(Entry(words[-1].strip(), tuple(words[:-1])))
    return tuple(found)


def _told_apart(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """With its number behind a name that several have: ImageNet has two cranes."""
    count = Counter(entry.name for entry in entries)
    return tuple(
        Entry(f"{e.name} ({e.others[0]})", (e.name, *e.others)) if count[e.name] > 1 and e.others else e
        for e in entries
    )


def with_background(entries: tuple[Entry, ...], outputs: int) -> tuple[tuple[Entry, ...], list[str]]:
    """With a background in front where a network has one output more than ImageNet has classes, and a line that says so."""
    if len(entries) != _OF_IMAGENET or outputs != _OF_IMAGENET + 1:
        return entries, []
    return (Entry(BACKGROUND), *entries), [
        f"the weights have {outputs} outputs and data.labels {len(entries)} names: the first output is taken for a '{BACKGROUND}', as "
        "TensorFlow's networks have it."
    ]


def may_lack_background(entries: Sequence[Entry]) -> bool:
    return len(entries) == _OF_IMAGENET and _loose(entries[0].name) not in (BACKGROUND, "dummy")


def matched(words: Sequence[str], entries: Sequence[Entry]) -> tuple[list[int], list[str]]:
    """Which class each word means, and what is to be said of it, a line each.

    By name, exactly; else without regard to case, spaces, ``_`` and ``-``, where one class alone is meant; else as a number, where all
    words are numbers; else in the order of both, where they are equally many and no word is a name.

    Raises:
        DataError: some words are names and others are not, or two mean one class.
    """
    exact, loose = _index(entries, str), _index(entries, _loose)
    found = [exact.get(word) or loose.get(_loose(word)) for word in words]
    numbers = [next(iter(one)) if one is not None and len(one) == 1 else None for one in found]
    known = [number for number in numbers if number is not None]
    if not known:
        return _by_place(words, entries)
    if len(known) < len(words):
        missing = [word for word, number in zip(words, numbers, strict=True) if number is None]
        several = sum(one is not None for one in found) - len(known)
        names = quoted([shown(word, 100) for word in missing])
        raise DataError(
            f"data.labels names {len(known)} of the {len(words)} classes, and not {names}"
            f"{f' ({several} mean several of its names)' if several else ''}. {_hint(missing[0], entries)} {_both(words, entries)}"
        )
    _check_single(words, known)
    inexact = [
        f"'{shown(word, 60)}' for '{shown(entries[n].name, 60)}'"
        for word, n in zip(words, known, strict=True)
        if word not in exact
    ]
    notes = []
    if inexact:
        rest = " ..." if len(inexact) > 5 else ""
        notes.append(
            f"{len(inexact)} class{'es were' if len(inexact) > 1 else ' was'} found in data.labels but for case, spaces or '_': {', '.join(inexact[:5])}{rest}."
        )
    return known, notes


def _by_place(words: Sequence[str], entries: Sequence[Entry]) -> tuple[list[int], list[str]]:
    if all(re.fullmatch(r"0|[1-9]\d{0,8}", word, re.ASCII) for word in words) and max(map(int, words)) < len(entries):
        return [int(word) for word in words], []
    if len(words) != len(entries):
        raise DataError(
            f"data.labels has {len(entries)} lines, the data {len(words)} classes, and none of these is a name in it: "
            f"{_hint(words[0], entries)} Give one name a line, in the order of the outputs. {_both(words, entries)}"
        )
    return list(range(len(words))), [
        f"no class is called as one in data.labels: its names were given in order, '{shown(entries[0].name, 60)}' to "
        f"'{shown(words[0], 60)}' and so on."
    ]


def _check_single(words: Sequence[str], numbers: Sequence[int]) -> None:
    first: dict[int, str] = {}
    for word, number in zip(words, numbers, strict=True):
        if first.setdefault(number, word) != word:
            raise DataError(
                f"the classes '{shown(first[number])}' and '{shown(word)}' both mean line {number + 1} of data.labels. Rename one, or put "
                "their images together."
            )


def _index(entries: Sequence[Entry], form: Any) -> dict[str, set[int]]:
    """Numbers of the classes by each of their names in a form."""
    found: dict[str, set[int]] = {}
    for number, entry in enumerate(entries):
        synonyms = [part.strip() for part in entry.name.split(",")] if form is _loose else []
        for name in {form(one) for one in (entry.name, *entry.others, *synonyms)}:
            found.setdefault(name, set()).add(number)
    return found


def _loose(name: str) -> str:
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFC", name).casefold())


def _hint(word: str, entries: Sequence[Entry]) -> str:
    close = difflib.get_close_matches(word, [entry.name for entry in entries], n=1, cutoff=0.5)
    return f"Did you mean '{shown(close[0], 60)}'?" if close else f"The first is '{shown(entries[0].name, 60)}'."


def _both(words: Sequence[str], entries: Sequence[Entry]) -> str:
    """Both lists."""
    ours, theirs = ([shown(name, 60) for name in names] for names in (words, [entry.name for entry in entries]))
    return f"The data have {quoted(ours)}; data.labels has {quoted(theirs)}."


def _visible(name: str) -> str:
    """What people see of a name: without what has no width, in one form of composed letters."""
    return unicodedata.normalize("NFC", "".join(c for c in name if unicodedata.category(c) != "Cf"))


def check_name(name: str, where: str) -> None:
    """Raise a DataError where a name cannot be a line of ``labels.txt``, would look like another one, or like none."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where} {name!r} has a name that is no UTF-8 text. Rename it.") from error
    if not _visible(name).strip():
        raise DataError(f"{where} {name!r} has a name of which nothing is to be seen. Give it one.")
    wrong = [c for c in name if unicodedata.category(c) in ("Cc", "Zl", "Zp") or c in _REORDERING]
    if wrong:
        raise DataError(
            f"{where} '{shown(name)}' has {unicodedata.name(wrong[0], 'a control character')} "
            f"(U+{ord(wrong[0]):04X}) in its name, which is a line of labels.txt. Rename it."
        )
