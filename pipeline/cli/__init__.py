"""The command line; the one room that sees models, pipeline and targets. Its two names are imported when they are asked for."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .command import cli as cli
    from .start import main as main

__all__ = ["cli", "main"]


def __getattr__(name: str) -> Any:
    if name == "main":
        from .start import main

        return main
    if name == "cli":
        from .command import cli

        return cli
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
