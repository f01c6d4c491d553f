"""A saved `torch.export` program as a model: its weights are inside, and it is known by the hash of its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import WeightsError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that `stages.pt2_graph` reads, each time that the model is wanted.

    Attributes:
        path: of the file, on this machine.
        sha256: of its content.
    """

    path: str
    sha256: str

    @classmethod
    def of(cls, path: str) -> Exported:
        """Raises a WeightsError where there is no such file."""
        from ..stages import pt2_file

        return cls(path=path, sha256=pt2_file.sha256(Path(path)))

    def digest(self) -> str:
        """What the model is known by."""
        return self.sha256

    def __call__(self, outputs: int, width: float) -> nn.Module:
        """The program, with its weights and its own number of outputs.

        Raises:
            WeightsError: it is no program that is known, or another one than before.
        """
        from ..stages import pt2_file, pt2_graph

        if pt2_file.sha256(Path(self.path)) != self.sha256:
            raise WeightsError(
                f"model.exported '{self.path}' changed while it was used. Run the command again when it is at rest."
            )
        return pt2_graph.load(Path(self.path))
