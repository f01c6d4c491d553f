"""An exponential moving average of the weights while they are trained (Polyak and Juditsky, "Acceleration of Stochastic Approximation by
Averaging", 1992; as Szegedy et al. score Inception, 2016).

Early steps count less than the decay says, ``(1 + steps) / (10 + steps)`` at most, as TensorFlow's `ExponentialMovingAverage` has it: in a short training
the weights of the beginning would be most of the average.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn


class Average:
    """Of all that a model's state dict holds in floating point, BatchNorm's statistics too; other numbers are those of the model.

    Args:
        decay: 0..1; with 0 there is no average, and the model's own weights stand for it.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay, self._steps = model, decay, 0
        self._mean = self._copied() if decay else {}

    @torch.no_grad()
    def update(self) -> None:
        """After a step of the optimizer."""
        if not self._decay:
            return
        self._steps += 1
        share = 1 - min(self._decay, (1 + self._steps) / (10 + self._steps))
        for name, value in self._model.state_dict().items():
            mean = self._mean[name]
            if mean.is_floating_point():
                mean.lerp_(value, share)
            else:
                mean.copy_(value)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averaged weights in here."""
        if not self._decay:
            yield
            return
        own = self._copied()
        self._model.load_state_dict(self._mean)
        try:
            yield
        finally:
            self._model.load_state_dict(own)

    def take(self) -> None:
        """The model has the averaged weights from now on."""
        if self._decay:
            self._model.load_state_dict(self._mean)

    def state(self) -> dict[str, Any]:
        return {"steps": self._steps, "mean": self._mean}

    def load(self, state: Mapping[str, Any]) -> None:
        self._steps = state["steps"]
        for name, value in state["mean"].items():
            self._mean[name].copy_(value)

    def _copied(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().clone() for name, value in self._model.state_dict().items()}
