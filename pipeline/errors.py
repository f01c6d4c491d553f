"""Everything that a user can mend, one class each, with the exit code of the command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class TwinkeelError(Exception):
    """Base of all errors that are reported without a traceback."""

    exit_code = 1


class ConfigError(TwinkeelError):
    """`twinkeel.toml` asks for something that does not exist or cannot be."""

    exit_code = 2


class DataError(TwinkeelError):
    """Images, or what is right of them, cannot be used."""

    exit_code = 3


class WeightsError(TwinkeelError):
    """A checkpoint cannot be read or does not fit the model."""

    exit_code = 4


class ConversionError(TwinkeelError):
    """A converter refused the model."""

    exit_code = 5


class ParityError(TwinkeelError):
    """An artifact computes something else than the reference."""

    exit_code = 6


class VerifyError(TwinkeelError):
    """A folder does not hold what its manifest says."""

    exit_code = 7


class PackageError(TwinkeelError):
    """A Core ML package is damaged, or holds something that the executor does not know."""

    exit_code = 8


class DeviceError(TwinkeelError):
    """A check needs a machine that this one is not."""

    exit_code = 9


class SignatureError(TwinkeelError):
    """A key cannot be used, or a folder is not signed with it."""

    exit_code = 10


class StoreError(TwinkeelError):
    """The store of results cannot be used as it is asked for."""

    exit_code = 11


class WorkerError(TwinkeelError):
    """A process that did a part of the work died."""

    exit_code = 12


class OriginalError(TwinkeelError):
    """The float model does not know the images that everything would be judged by."""

    exit_code = 13


class DiffError(TwinkeelError):
    """A new build lost more against an old one than was allowed, or changed what apps rely on."""

    exit_code = 14


class SweepError(TwinkeelError):
    """No variant of a sweep is what was asked for."""

    exit_code = 15


_DIGITS = re.compile(r"[0-9]+")


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that lists the known names and the one most like `name`: one that differs in case alone, else in its number alone, by the
    smallest step, else by letters."""
    names = sorted(known)
    same = [one for one in names if one.casefold() == name.casefold()]
    if not same and (numbers := _numbers(name)):
        alike = [one for one in names if _DIGITS.sub("0", one).casefold() == _DIGITS.sub("0", name).casefold()]
        same = sorted(alike, key=lambda one: [abs(a - b) for a, b in zip(_numbers(one), numbers, strict=True)])
    close = same or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"Known: {', '.join(names)}.{hint}"


def _numbers(name: str) -> list[int]:
    return [int(one[:18]) for one in _DIGITS.findall(name)]
