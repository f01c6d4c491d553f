"""The command that looks at this machine."""

from __future__ import annotations

import click

from ..errors import ConfigError
from . import common

_WORDS = {"ok": "ok", "differs": "DIFFERS", "broken": "BROKEN", "missing": "MISSING", "absent": "–"}


@click.command()
def doctor() -> None:
    """Compare what is installed with what was verified together, and say what does not work, and what each missing thing would give.

    Packages are imported and compilers asked for their versions, which takes some seconds.
    """
    from .. import doctor as stage

    common.echo("importing what is installed, some seconds ...", is_error=True)
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
    if broken := [one for one in found if one.state == "broken" and one.is_needed]:
        raise ConfigError(
            f"{', '.join(one.name for one in broken)} {'is' if len(broken) == 1 else 'are'} installed and "
            f"{'does' if len(broken) == 1 else 'do'} not import, and a build needs {'it' if len(broken) == 1 else 'them'}: "
            "above stands why, and what to type"
        )


TITLE = "This machine"
COMMANDS = (doctor,)
