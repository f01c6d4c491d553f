"""The command `twinkeel`: its groups of commands, its errors and exit codes."""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import Any

import click

from .. import streams
from ..errors import ConfigError, TwinkeelError
from . import cache, common, looking, machine, making, proving

GROUPS = (making, proving, looking, cache, machine)
"""In the order of the help; each names its ``TITLE`` and its ``COMMANDS``."""


class Grouped(click.Group):
    """A group whose help shows its commands under titles."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        longest = max(map(len, self.commands))
        for group in GROUPS:
            with formatter.section(group.TITLE):
                rows = [(str(c.name).ljust(longest), c.get_short_help_str(200)) for c in group.COMMANDS]
                formatter.write_dl(rows)


@click.group(cls=Grouped, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="twinkeel")
def cli() -> None:
    """One torch vision model in; verified Android and iOS artifacts out."""


for group in GROUPS:
    for command in group.COMMANDS:
        cli.add_command(command)


def main() -> None:
    """Entry point: a `TwinkeelError` becomes one message and an exit code."""
    streams.prepare()
    _end_in_order()
    code = 1
    with contextlib.suppress(BrokenPipeError):  # of an error that nobody reads, the exit code is left
        try:
            code = _run()
        except click.ClickException as error:
            code = error.exit_code
            error.show(file=sys.stderr)
        except click.Abort as error:
            if isinstance(
                error.__cause__, EOFError
            ):  # click takes it for the end of what somebody types; nothing is asked for here
                raise error.__cause__ from None
            common.echo("stopped", is_error=True)
        except TwinkeelError as error:
            code = error.exit_code
            why = "" if all(map(str.isascii, sys.argv)) else _of_names()
            common.echo(f"error: {error} {why}".rstrip(), is_error=True)
        except ModuleNotFoundError as error:
            if (package := str(error.name).partition(".")[0]) == __package__.partition(".")[0]:
                raise
            code = ConfigError.exit_code
            common.echo(
                f"error: the package '{package}' is not installed here, and this command needs it. `pip install twinkeel` brings all that it needs; "
                "`twinkeel doctor` says what else is missing.",
                is_error=True,
            )
        except UnicodeEncodeError as error:
            if not (why := _of_names()):
                raise
            common.echo(f"error: {error.object[:200]!a} cannot be the name of a file here. {why}", is_error=True)
    _ends.append(code)
    sys.exit(code)


_ends: list[int] = []
"""The exit code, once it is known: then the process ends by itself."""


def _end_in_order() -> None:
    """SIGTERM and SIGHUP end the command as Ctrl-C does: workers are stopped, and nothing is left that is not finished.

    The next one ends it at once. One that the caller ignores, as `nohup` does, stays ignored.
    """

    def end(number: int, _: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        if not _ends:
            raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def _of_names() -> str:
    """What keeps this Python from using some file names, and what to do; empty where nothing does."""
    if (encoding := sys.getfilesystemencoding()) == "utf-8":
        return ""
    return (
        f"(This Python takes the names of files for {encoding}, as LC_ALL=C with PYTHONUTF8=0 have it: others are not found. Unset "
        "PYTHONUTF8, or set LC_ALL=C.UTF-8.)"
    )


def _run() -> int:
    """The command, and all of its output written: as Python ends, what cannot be is beyond every error."""
    try:
        return cli.main(standalone_mode=False) or 0
    finally:
        sys.stdout.flush()
