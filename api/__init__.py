"""Deploy a torch vision model from Python: ``twinkeel.build(model, images)``. Nothing is imported before it is asked for."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pipeline.cli.calling import build as build
    from .pipeline.errors import TwinkeelError as TwinkeelError

__all__ = ["TwinkeelError", "build"]


def __getattr__(name: str) -> Any:
    if name == "build":
        from .pipeline.cli.calling import build

        return build
    if name == "TwinkeelError":
        from .pipeline.errors import TwinkeelError

        return TwinkeelError
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
