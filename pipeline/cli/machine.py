"""The command that looks at this machine."""

from __future__ import annotations

import click

from ..errors import ConfigError
from . import common

_WORDS = {"ok": "ok", "differs": "DIFFERS", "missing": "MISSING", "absent": "–"}


@click.command()
def doctor() -> None:
    """Compare what is installed with what was verified together, and say what each missing thing would give."""
    from .. import doctor as stage

    found = stage.look()
    longest = max(len(one.name) for one in found)
    title = ""
    for one in found:
        if one.title != title:
            title = one.title
            common.echo(f"{title}:")
        rest = "  ".join(filter(None, (one.found, one.told)))
        common.echo(f"  {_WORDS[one.state]:8} {one.name.ljust(longest)}  {rest}".rstrip())
    if missing := [one.name for one in found if one.state == "missing"]:
        raise ConfigError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed, and a build needs "
            f"{'it' if len(missing) == 1 else 'them'}: pip install twinkeel"
        )


TITLE = "This machine"
COMMANDS = (doctor,)
