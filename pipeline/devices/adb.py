"""Android phones through `adb`: which there are, what they say of themselves, and commands that run on them.

What comes back is a stranger's text. Whether a command ended, and how, is asked of the phone itself: older ones give no exit code
through adb, and a connection that breaks looks like an output that is over.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DeviceError
from ..reading import shown

SECONDS = 60.0
"""For all that is no measurement: starting adb's server takes some, pushing a large artifact too."""
MAX_OUTPUT = 16 * 2**20
"""Bytes that are read of a command's output; a profile of 1,000 operations has some 500,000."""

_ENDED = "twinkeel-ended:"
_PROPERTY = re.compile(r"^\[([^\]]+)\]: \[(.*?)\]$", re.MULTILINE | re.DOTALL)
_LISTED = re.compile(
    r"^(.+?)\s+(device|unauthorized|authorizing|offline|connecting|recovery|rescue|sideload|bootloader|host|no permissions)(?=\s|$)(.*)$"
)
"""A serial and a state; that of a phone on the network may hold a space: ``adb-8A1X0-k3 (2)._adb-tls-connect._tcp``."""
_UNKNOWN = re.compile(r"^(\S+)\s+(\S+)(.*)$")
_GONE = re.compile(
    r"device '[^']*' not found|device offline|no devices/emulators found|error: closed|device still authorizing|"
    r"device unauthorized|protocol fault|connection reset|broken pipe",
    re.IGNORECASE,
)
_STATES: Mapping[str, str] = {
    "unauthorized": "it did not allow this computer. Unlock it, and answer 'Allow USB debugging?' on its screen with yes",
    "authorizing": "it is being asked to allow this computer. Unlock it, answer on its screen, and run this again",
    "offline": "adb does not reach it. Reconnect the cable, or `adb kill-server` and run this again",
    "no permissions": "this user may not use its USB port. Add a udev rule for it (on Debian: `apt-get install android-sdk-platform-tools-common`, "
    "and the group plugdev), reconnect it, and `adb kill-server`",
}
"""What adb says of a phone that cannot be used, and what to do."""


class Lost(DeviceError):
    """The phone went away, or adb did."""


class Slow(Exception):
    """A command took longer than it may."""


class Cut(Exception):
    """A command's output ended before the command did."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A line of `adb devices -l`.

    Attributes:
        state: ``device`` where it can be used.
        model: as adb writes it; empty where it does not.
    """

    serial: str
    state: str
    model: str = ""

    def __str__(self) -> str:
        told = ", ".join(filter(None, (self.model.replace("_", " "), "" if self.state == "device" else self.state)))
        return f"{self.serial} ({told})" if told else self.serial


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a command on the phone came to."""

    code: int
    output: str


def program() -> str:
    """Path of adb: on PATH, or where `ANDROID_HOME` says that the SDK is.

    Raises:
        DeviceError: there is none.
    """
    if found := shutil.which("adb"):
        return found
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        if (home := os.environ.get(name)) and (found := shutil.which("adb", path=str(Path(home) / "platform-tools"))):
            return found
    raise DeviceError(
        "no adb: it is neither on PATH nor in platform-tools of ANDROID_HOME. Phones are reached through it: install Android's SDK "
        "Platform-Tools (on Debian: `apt-get install adb`), connect a phone, and `adb devices` lists it."
    )


def listed(adb: str) -> list[Listed]:
    """The phones that adb knows."""
    text = _ran([adb, "devices", "-l"], SECONDS).output
    lines = text.partition("List of devices attached")[2].splitlines()
    return [one for line in lines if (one := _listed(line.strip())) is not None]


def _listed(line: str) -> Listed | None:
    found = _LISTED.match(line) or _UNKNOWN.match(line)
    if found is None or line.startswith("*"):  # what adb says as its server starts
        return None
    model = re.search(r"\bmodel:(\S+)", found[3])
    return Listed(serial=shown(found[1]), state=shown(found[2]), model=shown(model[1]) if model else "")


def chosen(phones: Sequence[Listed], serial: str | None) -> Listed:
    """The phone to use.

    Raises:
        DeviceError: there is none, several without a serial, none of this serial, or it cannot be used.
    """
    names = ", ".join(map(str, phones))
    if serial is not None and all(phone.serial != serial for phone in phones):
        there = f"There are: {names}" if phones else "It lists none"
        raise DeviceError(f"no phone '{shown(serial)}' in `adb devices`. {there}.")
    if not phones:
        raise DeviceError(
            "no phone: `adb devices` lists none. Connect one by USB, with USB debugging on (Settings, Developer options), or by "
            "`adb connect HOST:PORT`."
        )
    if serial is None and len(phones) > 1:
        raise DeviceError(f"{len(phones)} phones: {names}. Choose one with --serial SERIAL.")
    phone = next(one for one in phones if serial in (None, one.serial))
    if phone.state != "device":
        why = _STATES.get(phone.state, f"adb calls it '{phone.state}'. Start Android on it, and run this again")
        raise DeviceError(f"the phone {phone.serial} cannot be used ({phone.state}): {why}.")
    return phone


@dataclass(frozen=True, kw_only=True)
class Phone:
    """A phone that can be used.

    Attributes:
        name: maker and model, ``Google Pixel 9``.
        android: version, ``15``.
        soc: what computes; empty where the phone does not say.
        abis: instruction sets that its programs may have, the best first.
        is_emulator: Android on a computer, whose times are that computer's.
    """

    adb: str
    serial: str
    name: str
    android: str
    soc: str
    abis: tuple[str, ...]
    is_emulator: bool = False

    @property
    def machine(self) -> dict[str, str]:
        """As rows of evidence hold it."""
        found = {"system": f"Android {self.android}", "processor": self.name, "soc": self.soc, "abi": self.abis[0]}
        return {key: value for key, value in found.items() if value} | (
            {"emulator": "Android emulator"} if self.is_emulator else {}
        )

    def shell(self, command: str, seconds: float = SECONDS) -> Done:
        """Run a line of the phone's own shell, its errors in its output.

        Raises:
            Lost: the phone went away.
            Slow: it took longer.
            Cut: the output is not whole.
        """
        done = _ran(
            [self.adb, "-s", self.serial, "shell", f"{{ {command}\n}} 2>&1; c=$?; echo; echo {_ENDED}$c"], seconds
        )
        text, mark, code = done.output.replace("\r\n", "\n").rpartition(f"\n{_ENDED}")
        if mark and code.strip().isdigit():
            return Done(code=int(code), output=text)
        last = done.output.strip().splitlines()[-1:] or ["no output"]
        if _GONE.search(done.output[-2000:]) or not self._is_there():
            raise Lost(
                f"the phone {self.serial} ({self.name}) went away: {shown(last[0])}. Reconnect it, and run this again."
            )
        raise Cut(f"its output was cut behind {len(done.output):,} characters: {shown(last[0])}")

    def push(self, source: Path, place: str, seconds: float = 600.0) -> None:
        """Copy a file to the phone.

        Raises:
            DeviceError: it cannot be written there; `Lost`, the phone went away.
        """
        try:
            done = _ran([self.adb, "-s", self.serial, "push", str(source), place], seconds)
        except Slow as error:
            raise Lost(
                f"'{source}' was not copied to the phone {self.serial}: {error}. Reconnect it, and run this again."
            ) from error
        if done.code:
            last = shown((done.output.strip().splitlines() or ["adb says nothing"])[-1], 400)
            if _GONE.search(done.output) or not self._is_there():
                raise Lost(
                    f"the phone {self.serial} ({self.name}) went away: {last}. Reconnect it, and run this again."
                )
            raise DeviceError(f"'{source}' cannot be copied to the phone {self.serial}: {last}")

    def _is_there(self) -> bool:
        try:
            return any(one.serial == self.serial and one.state == "device" for one in listed(self.adb))
        except (DeviceError, Slow):
            return False


def opened(serial: str | None) -> Phone:
    """The phone of this serial, or the only one, and what it says of itself.

    Raises:
        DeviceError: there is no adb, or no such phone that can be used.
    """
    adb = program()
    try:
        phone = chosen(listed(adb), serial)
        blank = Phone(adb=adb, serial=phone.serial, name=phone.model or phone.serial, android="", soc="", abis=("",))
        properties = dict(_PROPERTY.findall(blank.shell("getprop").output))
    except (Slow, Cut) as error:
        raise Lost(
            f"adb or the phone does not answer: {error}. `adb kill-server`, reconnect it, and run this again."
        ) from error
    return _described(blank, {key: shown(value.strip(), 80) for key, value in properties.items()})


def _described(phone: Phone, properties: Mapping[str, str]) -> Phone:
    def first(*names: str) -> str:
        return next((properties[name] for name in names if properties.get(name)), "")

    maker, model = first("ro.product.manufacturer"), first("ro.product.model") or phone.name
    soc = f"{first('ro.soc.manufacturer')} {first('ro.soc.model')}".strip() or first("ro.board.platform", "ro.hardware")
    abis = first("ro.product.cpu.abilist", "ro.product.cpu.abi")
    if not abis:
        raise DeviceError(f"the phone {phone.serial} does not say which instruction set it has (`adb shell getprop`).")
    hardware = first("ro.hardware")
    return Phone(
        adb=phone.adb,
        serial=phone.serial,
        name=model if model.lower().startswith(maker.lower()) else f"{maker} {model}",
        android=first("ro.build.version.release") or "of an unknown version",
        soc=soc,
        abis=tuple(filter(None, (abi.strip() for abi in abis.split(",")))),
        is_emulator="1" in (first("ro.kernel.qemu"), first("ro.boot.qemu")) or hardware in ("ranchu", "goldfish"),
    )


def _ran(command: Sequence[str], seconds: float) -> Done:
    """A program's exit code, and its outputs together. It is in a session of its own, so that Ctrl-C ends this program alone, which
    then has adb to clean up with."""
    with tempfile.TemporaryFile() as stream:
        try:
            done = subprocess.run(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Slow(f"nothing came of it within {seconds:g} s") from error
        except OSError as error:
            raise DeviceError(f"'{command[0]}' cannot be started: {error}") from error
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(size - MAX_OUTPUT, 0))  # the end of it says how it ended
        return Done(code=done.returncode, output=stream.read().decode(errors="replace"))
