"""A folder on a phone for what is measured there; it is gone in the end, however that comes."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DeviceError
from ..reading import shown
from ..saying import Say
from .adb import Cut, Done, Lost, Phone, Slow

PARENT = "/data/local/tmp"
"""Where Android lets adb's user write programs and run them."""
_PID = "pid"
_CLEANING = 20.0


@dataclass(frozen=True, kw_only=True)
class Remote:
    """The folder, `place`, on a phone. Names of files in it are this project's own, but those of libraries."""

    phone: Phone
    place: str

    def push(self, source: Path, name: str, *, is_program: bool = False) -> None:
        self.phone.push(source, f"{self.place}/{name}")
        if is_program:
            self._must(f"chmod 755 {self._path(name)}", f"make '{source.name}' executable")

    def remove(self, *names: str) -> None:
        self._must(f"rm -rf {' '.join(map(self._path, names))}", "remove files")

    def call(self, arguments: str, seconds: float) -> Done:
        """Run a program of the folder there, with the libraries beside it. One that is given up is ended.

        Args:
            arguments: as its shell reads them, the program first.

        Raises:
            Lost, Slow, Cut: as `Phone.shell`.
        """
        own = f"echo $$ > {_PID}; export LD_LIBRARY_PATH=. ADSP_LIBRARY_PATH=.; exec {arguments}"
        try:
            return self.phone.shell(f"cd {self.place} && sh -c {shlex.quote(own)}", seconds)
        except BaseException as error:
            if not isinstance(error, Lost):
                with contextlib.suppress(Slow, Cut, DeviceError):
                    self._end()
            raise

    def logged(self, tag: str) -> str:
        """What the program that ran last told Android's log."""
        command = f"cd {self.place} && logcat -d -v raw --pid=$(cat {_PID}) -s {shlex.quote(tag)}:V"
        done = self.phone.shell(command)
        return "" if done.code else done.output

    def text(self, pattern: str) -> str:
        """Content of the files of these names, a pattern of the shell's; empty where there is none."""
        done = self.phone.shell(f"cd {self.place} && cat {pattern}")
        return "" if done.code else done.output

    def _path(self, name: str) -> str:
        return f"{self.place}/{name}" if name.isalnum() or "*" in name else shlex.quote(f"{self.place}/{name}")

    def _must(self, command: str, what: str) -> None:
        try:
            done = self.phone.shell(command)
        except (Slow, Cut) as error:
            raise Lost(
                f"the phone {self.phone.serial} does not answer: {error}. Reconnect it, and run this again."
            ) from error
        if done.code:
            raise DeviceError(
                f"the phone {self.phone.serial} does not {what} in {PARENT}: {shown(done.output.strip())}"
            )

    def _end(self) -> None:
        """End what runs there."""
        self.phone.shell(f"kill -9 $(cat {self.place}/{_PID}) ; true", _CLEANING)

    def clear(self, say: Say) -> None:
        """Remove all of it; where that cannot be, say how to."""
        try:
            self._end()
            done = self.phone.shell(f"rm -rf {self.place}", _CLEANING)
            why = shown(done.output.strip()) if done.code else ""
        except (Slow, Cut, DeviceError) as error:
            why = str(error)
        if why:
            say(
                f"WARNING {self.place} is left on the phone {self.phone.serial}: {why} When it is back: "
                f"`adb -s {self.phone.serial} shell rm -rf {self.place}`"
            )


@contextlib.contextmanager
def claimed(phone: Phone, say: Say) -> Iterator[Remote]:
    """A new folder on the phone, removed at the end, after an error and after Ctrl-C too.

    Raises:
        DeviceError: it cannot be made.
    """
    remote = Remote(phone=phone, place=f"{PARENT}/twinkeel-{secrets.token_hex(4)}")
    try:
        others = phone.shell(f"ls -d {PARENT}/twinkeel-*")
    except (Slow, Cut) as error:
        raise Lost(f"the phone {phone.serial} does not answer: {error}. Reconnect it, and run this again.") from error
    if others.code == 0 and (names := others.output.split()):
        say(
            f"WARNING on the phone there is {shown(', '.join(names[:3]))} of another run: if that is still at work, both measure each "
            f"other; if it was killed, `adb -s {phone.serial} shell rm -rf {PARENT}/twinkeel-*` removes it"
        )
    try:
        remote._must(f"mkdir {remote.place}", "make a folder")
        yield remote
    finally:
        with _undisturbed():
            remote.clear(say)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not end the cleaning that the first one has begun."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
