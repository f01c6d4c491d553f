"""Lists of images: tables of text with a column of paths, and of what is right of each, and of the set it belongs to."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from ..reading import read_bytes, shown, why_unreadable
from .files import ImageFile
from .gathering import SETS, Gathered, of_case

SUFFIXES = (".csv", ".tsv")
MAX_BYTES = 2**29
_PATHS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "image_id")
_WORDS = ("label", "labels", "class", "class_name", "classname", "category", "target", "species")
_SETS = ("split", "set", "subset", "partition", "fold")
_SHOWN = 20


def is_list(path: Path) -> bool:
    """By its name."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def of_list(path: Path, *, is_sorted: bool) -> Gathered:
    """The images of a ``.csv`` or ``.tsv``, whose paths start from its folder. See `docs/first-build.md` for what it may look like.

    Args:
        is_sorted: whether what is right of each image is wanted.

    Raises:
        DataError: it is no such table, or a row of it has no file, nothing that is right, or a set of no known name.
    """
    rows = _table(path)
    columns = _columns(path, rows[0], is_sorted)
    has_heading = columns is not None
    first, word, which = columns or _by_place(path, rows, is_sorted)
    found: dict[str, tuple[str, str]] = {}
    wrong: list[str] = []
    unknown: dict[str, list[int]] = {}
    again = 0
    for number, row in enumerate(rows[has_heading:], 1 + has_heading):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        name, said, own = (cells[n] if n is not None and n < len(cells) else "" for n in (first, word, which))
        said = unicodedata.normalize("NFC", said)
        if which is not None and own.lower() not in SETS:
            unknown.setdefault(own, []).append(number)
        own = SETS.get(own.lower(), "")
        wrong += _wrong_with(number, name, said, is_sorted)
        again += name in found
        if found.setdefault(name, (said, own)) != (said, own):
            wrong.append(f"row {number}: '{shown(name, 100)}' stands there before, with something else")
    wrong += [_no_set(own, numbers) for own, numbers in unknown.items()]
    if wrong or not found:
        raise DataError(f"'{path}': {_told(wrong) or 'it has no row'}. Mend the list.")
    return _of(path, found, again)


def _of(path: Path, found: dict[str, tuple[str, str]], again: int) -> Gathered:
    """With the files of the rows, which have to be there."""
    files = [ImageFile(path.parent, _there(path.parent, name)) for name in found]
    missing = [f"'{shown(file.name, 100)}'" for file in files if not _is_file(file.path)]
    if missing:
        raise DataError(
            f"'{path}': {len(missing)} of {len(files)} files are not there: {_told(missing)}. Paths start from the list's folder."
        )
    found, notes = _whole_numbers(found)
    words = {said for said, _ in found.values() if said}
    is_numbers = all(word.isdecimal() and word.isascii() and len(word) < 10 for word in words)
    return Gathered(
        files=tuple(files),
        words=tuple(said for said, _ in found.values()),
        sets=tuple(own for _, own in found.values()),
        known=tuple(sorted(words, key=int) if is_numbers else sorted(words)),
        places={own: f"{path.name}{f', rows of {own}' if own else ''}" for _, own in found.values()},
        passed={"row of a file that stands there before": again} if again else {},
        notes=(*notes, *of_case(words)),
    )


def _whole_numbers(found: dict[str, tuple[str, str]]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """With ``3`` for ``3.0``, where all labels are such: a table that had a gap turns whole numbers into floats."""
    words = {said for said, _ in found.values() if said}
    if not words or not all(re.fullmatch(r"\d{1,9}\.0+", word, re.ASCII) for word in words):
        return found, []
    first = min(words)
    plain = {name: (said.partition(".")[0], own) for name, (said, own) in found.items()}
    return plain, [
        f"all labels are whole numbers written as floats: '{first}' is taken for '{first.partition('.')[0]}'."
    ]


def _table(path: Path) -> list[list[str]]:
    """The rows. The delimiter is the one that cuts the first row into most cells."""
    try:
        text = read_bytes(path, MAX_BYTES).decode("utf-8-sig")
        delimiters = "\t" if path.suffix.lower() == ".tsv" else ",;\t"
        head = next((line for line in text.splitlines() if line.strip()), "")
        delimiter = max(delimiters, key=lambda one: len(next(csv.reader([head], delimiter=one), [])))
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"cannot read the list '{path}': {why_unreadable(error)}. Save it as UTF-8 text, a row a line."
        ) from error
    if not rows:
        raise DataError(f"'{path}': it has no row. Write a path and what is right of it in each.")
    return rows


def _columns(path: Path, row: Sequence[str], is_sorted: bool) -> tuple[int, int | None, int | None] | None:
    """Numbers of the three columns by their names in the first row; None where it has none of paths."""
    names = [cell.strip().lower() for cell in row]
    found: list[int | None] = []
    for known in (_PATHS, _WORDS, _SETS):
        numbers = [n for n, name in enumerate(names) if name in known]
        if len(numbers) > 1:
            both = " and ".join(f"'{names[n]}'" for n in numbers)
            raise DataError(f"'{path}': the columns {both} mean the same. Keep one of them.")
        found.append(numbers[0] if numbers else None)
    first, word, which = found
    if first is None:
        return None
    if word is None and is_sorted:
        raise DataError(
            f"'{path}': of the columns {[shown(name, 50) for name in names[:20]]} none says what is right. "
            f"Call it one of {', '.join(_WORDS)}; without one, for given weights: data.source = 'images'."
        )
    return first, word, which


def _by_place(path: Path, rows: Sequence[Sequence[str]], is_sorted: bool) -> tuple[int, int | None, int | None]:
    """Of a table without a heading: path, what is right, set."""
    width = len(rows[0])
    least = 2 if is_sorted else 1
    if not least <= width <= 3:
        raise DataError(
            f"'{path}': its first row has {width} cells and names no column of paths. Without a heading a row is a path, what is right of "
            f"it, and perhaps the set; a heading names them: {_PATHS[0]}, {_WORDS[0]}, {_SETS[0]}."
        )
    return 0, 1 if width > 1 else None, 2 if width > 2 else None


def _wrong_with(number: int, name: str, said: str, is_sorted: bool) -> list[str]:
    found = []
    if not name or "\0" in name:
        found.append(f"row {number} has no path")
    if is_sorted and not said:
        found.append(f"row {number}: nothing is right of '{shown(name, 100)}'")
    return found


def _no_set(own: str, numbers: Sequence[int]) -> str:
    rows = f"row {numbers[0]}" if len(numbers) == 1 else f"{len(numbers):,} rows, row {numbers[0]} the first"
    return f"'{shown(own, 100)}' is no set ({rows}); known are {', '.join(SETS)}"


def _there(folder: Path, name: str) -> str:
    """The path as this system writes it: lists come from others too, with ``\\``, or with é taken apart into e and its accent."""
    slashed = name.replace("\\", "/")
    spelled = (name, slashed, unicodedata.normalize("NFC", slashed), unicodedata.normalize("NFD", slashed))
    return next((one for one in spelled if _is_file(folder / one)), slashed)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # the name is too long, or no name at all
        return False


def _told(lines: Sequence[str]) -> str:
    return "; ".join(lines[:_SHOWN]) + (f"; and {len(lines) - _SHOWN:,} more" if len(lines) > _SHOWN else "")
