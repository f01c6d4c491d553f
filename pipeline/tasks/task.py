"""What a task is: all that is known of what a model's outputs mean."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..data import Dataset
from ..errors import ConfigError, nearest
from ..parity import Meaning, Truth, Values, Worth
from ..program import Output

if TYPE_CHECKING:
    import torch


AddUp = Callable[["torch.Tensor"], "torch.Tensor"]
"""Sums a tensor over all processes that train together; gives it back where there is one."""


class Task(Protocol):
    """What a module below `tasks/` has. A file that is dropped in is a task: ``model.task`` names it.

    What the module of a function imports is part of the key of what the function makes: a task of several files keeps
    what reads its data apart from what judges it.
    The report shows more of a task where `report/parts/` has a module of its name, and a kit is written where the
    platform's templates know it.
    """

    __name__: str  # the module's own
    SCORE: str  # what its score is called, in a word or two
    OUTPUTS: tuple[
        str, ...
    ]  # names of the outputs that a model has to give; none where it may give any, by its own names
    DESCRIBES: tuple[str, ...]  # keys of the manifest that `described` gives
    MEANING: Meaning  # its metrics and limits, where the truth is known
    SOURCES: tuple[str, ...]  # which of `data.source` it can read
    DEFAULTS: Mapping[
        str, Mapping[str, Any]
    ]  # by section, what settings are where neither the user nor the network says

    def meaning(self, config: Config) -> Meaning:
        """`MEANING`, or what of it the data of a configuration allows."""

    def misfit(self, shapes: Sequence[tuple[int, ...]], outputs: int, config: Config) -> str:
        """What a model of the user's own has to give, in words, where it does not; empty where it does.

        Args:
            shapes: of its outputs for one image, as many as `OUTPUTS` names.
            outputs: how many names the data has.
        """

    def settings(self, config: Config, *, trains: bool = False) -> Mapping[str, Any]:
        """What of a configuration says what outputs mean, beside the model and the data: for the keys of results that depend on it.

        Args:
            trains: only what training lowers depends on, and its score.
        """

    def ingredients(self, config: Config) -> Mapping[str, Any]:
        """Settings and hashes of files that `load` reads, for the key of its result; the size of the input is known."""

    def asks_weights(self, config: Config) -> bool:
        """Whether the data does not tell how many outputs there are, and the given weights have to."""

    def load(self, config: Config, outputs: Callable[[], int]) -> Dataset:
        """Images of the model's size, what is right of each, and the names of the outputs.

        Args:
            outputs: gives how many the given weights have; to be called where `asks_weights` says so.

        Raises:
            DataError: a file cannot be read, or a set would be empty.
        """

    def doubts(self, data: Dataset) -> list[str]:
        """What is wrong with the calibration set as far as the truth tells, one line each."""

    def marked(self, image: NDArray[np.uint8], truth: Any, scale: float) -> NDArray[np.uint8]:
        """An image ``(H, W, 3)`` RGB with what is right of it drawn onto it, for people to look at; as it is, where that is a number.

        Args:
            truth: of this image.
            scale: pixels of `image` for one of the model's input.
        """

    def augmented(
        self, images: torch.Tensor, truth: torch.Tensor, drawn: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Training images ``(N, C, H, W)`` float32, normalized, changed as drawn, and what is right of them then.

        Args:
            drawn: of `turns`, for these images.
        """

    def loss(self, outputs: Any, truth: torch.Tensor, config: Config, add_up: AddUp) -> torch.Tensor:
        """The loss that training lowers, a scalar, of a batch; where several processes have a part of it each, this one's summand of it.

        Args:
            outputs: as the model gives them, a tensor ``(N, ...)`` or several.
            truth: ``(N, ...)``.
            add_up: of a tensor of counts, the sum over all processes. A loss that is divided by a count is divided by that sum. It is called equally
                often in all of them.
        """

    def look(self, outputs: Values, truth: Truth, config: Config, layout: Sequence[Output]) -> dict[str, Any]:
        """What the original's outputs say of held-out images, as JSON holds it. ``is_finite`` false says that some are NaN or infinite: no
        reason lets a build go on then.

        Args:
            outputs: packed, ``(N, width)``.
            layout: what stands where in them.
        """

    def trouble(self, look: Mapping[str, Any], names: Sequence[str], *, is_trained: bool) -> str:
        """Why nothing shall be built on the original, with what was counted and the likely cause; empty where nothing
        speaks against it.

        Args:
            is_trained: whether the weights were trained by this build, not given.
        """

    def doubt(self, look: Mapping[str, Any], names: Sequence[str]) -> str:
        """What these images speak for and are too few to show; empty where there is nothing."""

    def answers(
        self, models: Sequence[Values], truth: Truth, config: Config, layout: Sequence[Output]
    ) -> NDArray[np.float64]:
        """What the report keeps of the packed outputs ``(N, width)`` of several models, the float model first: ``(models, ...)``, small."""

    def told(self, worth: Worth) -> dict[str, Any]:
        """The same as JSON holds it, by the names of `parity.json`."""

    def shares(self, worth: Worth) -> dict[str, float]:
        """What one line of text says of it, 0..1 by name."""

    def columns(self, worth: Worth) -> dict[str, str]:
        """Cells of the table by heading; the headings are the same for any worth."""

    def size(self, names: Sequence[str]) -> str:
        """How many outputs of what kind, in words: ``10 classes``."""

    def labels(self, names: Sequence[str]) -> tuple[str, ...]:
        """What artifacts that decode outputs themselves name them; empty where the names are none of that kind."""

    def described(self, names: Sequence[str], config: Config, layout: Sequence[Output]) -> dict[str, Any]:
        """The task's own part of the manifest.

        Args:
            layout: the model's outputs.
        """

    def names_of(self, manifest: Mapping[str, Any]) -> tuple[str, ...]:
        """The names that `described` was given, from the manifest."""

    def files(self, names: Sequence[str]) -> dict[str, bytes]:
        """The task's own files of a finished folder, by name."""

    def fault(self, manifest: Mapping[str, Any], width: int) -> str:
        """What does not fit together in a finished folder whose golden outputs are ``(N, width)``; empty where nothing."""


def names() -> tuple[str, ...]:
    """Of all tasks; none is imported."""
    return _names_below(tuple(importlib.import_module(__package__ or "").__path__))


@functools.cache
def _names_below(folders: tuple[str, ...]) -> tuple[str, ...]:
    known = (entry.name for entry in pkgutil.iter_modules(folders))
    return tuple(sorted(name for name in known if name != __name__.rpartition(".")[2]))


def named(name: str) -> Task:
    """The task of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in names():
        raise ConfigError(f"model.task: unknown task '{name}'. {nearest(name, names())}")
    return cast("Task", importlib.import_module(f"{__package__}.{name}"))
