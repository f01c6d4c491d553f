"""Where the command begins: before anything is imported that takes time."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the command `twinkeel`."""
    from . import unchanged

    if unchanged.said_again(sys.argv[1:]):
        return
    from . import command

    command.main()
