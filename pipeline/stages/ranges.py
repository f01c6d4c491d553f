"""Ranges of activations from calibration: min/max, percentile, or least squared error.

- ``minmax``: every value fits. One outlier widens the step of all others.
- ``percentile``: all but 0.01 % of the values fit, half of these on each side (Wu et al., "Integer Quantization for
  Deep Learning Inference", 2020, section 5.1).
- ``mse``: the clipping whose squared error, of rounding and of clipping together, is least (Nagel et al., "A White
  Paper on Neural Network Quantization", 2021, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch.fx import GraphModule

Estimator = Literal["minmax", "percentile", "mse"]

OUTSIDE = 1e-4
"""Share of the values that ``percentile`` leaves outside."""

_SAMPLES = 2**18
_SHARES = np.linspace(1.0, 0.2, 41)


def observe(prepared: GraphModule, images: NDArray[Any], estimator: Estimator) -> None:
    """Run the images ``(N, H, W, 4)`` uint8 through a prepared graph, and set the ranges of its observers."""
    samples: dict[Any, list[NDArray[np.float32]]] = {}
    per_image = max(1, _SAMPLES // len(images))

    def keep(observer: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        flat = inputs[0].detach().reshape(-1)
        # an odd stride meets all channels and columns
        stride = max(1, flat.numel() // per_image) | 1
        samples.setdefault(observer, []).append(flat[::stride].numpy().copy())

    hooks = []
    if estimator != "minmax":
        hooks = [module.register_forward_pre_hook(keep) for module in _activation_observers(prepared)]
    with torch.no_grad():
        for image in images:
            prepared(torch.from_numpy(image[None]))
    for hook in hooks:
        hook.remove()
    find: Callable[[NDArray[np.float32]], tuple[float, float]] = _percentile if estimator == "percentile" else _mse
    for observer, parts in samples.items():
        low, high = find(np.concatenate(parts))
        observer.min_val = torch.tensor(max(low, float(observer.min_val)))
        observer.max_val = torch.tensor(min(high, float(observer.max_val)))


def of_each_image(prepared: GraphModule, images: NDArray[np.uint8]) -> dict[Any, NDArray[np.float64]]:
    """By observer of an activation: the least and largest value of each image, ``(N, 2)``."""
    found: dict[Any, list[list[tuple[float, float]]]] = {module: [] for module in _activation_observers(prepared)}

    def keep(observer: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        found[observer][-1].append((float(inputs[0].min()), float(inputs[0].max())))

    hooks = [module.register_forward_pre_hook(keep) for module in found]
    with torch.no_grad():
        for image in images:
            for rows in found.values():  # tensors that share a range share an observer, which then runs more than once
                rows.append([])
            prepared(torch.from_numpy(image[None]))
    for hook in hooks:
        hook.remove()
    return {
        module: np.array([(min(low for low, _ in row), max(high for _, high in row)) for row in rows])
        for module, rows in found.items()
    }


def set_from(per_image: dict[Any, NDArray[np.float64]], chosen: NDArray[np.int64]) -> None:
    """Give the observers the ranges of the chosen images."""
    for observer, rows in per_image.items():
        observer.min_val = torch.tensor(rows[chosen, 0].min(), dtype=torch.float32)
        observer.max_val = torch.tensor(rows[chosen, 1].max(), dtype=torch.float32)


def set_all(prepared: GraphModule, found: Sequence[tuple[float, float]]) -> None:
    """Give each observer of an activation its range, in order of the graph."""
    for observer, (low, high) in zip(_activation_observers(prepared), found, strict=True):
        observer.min_val, observer.max_val = torch.tensor(low), torch.tensor(high)


def trained(prepared: GraphModule) -> tuple[tuple[float, float], ...]:
    """What the fake quantizers of activations have come to, in order of the graph."""
    observers = [getattr(module, "activation_post_process", module) for module in _activation_observers(prepared)]
    return tuple((min(float(o.min_val), 0.0), max(float(o.max_val), 0.0)) for o in observers)


def _activation_observers(prepared: GraphModule) -> list[Any]:
    """Those whose input is no weight."""
    found = {
        str(node.target): prepared.get_submodule(str(node.target))
        for node in prepared.graph.nodes
        if node.op == "call_module" and "activation_post_process" in str(node.target) and node.args[0].op != "get_attr"
    }
    return list(dict.fromkeys(found.values()))


def _percentile(values: NDArray[np.float32]) -> tuple[float, float]:
    low, high = np.quantile(values, [OUTSIDE / 2, 1 - OUTSIDE / 2])
    return min(float(low), 0.0), max(float(high), 0.0)


def _mse(values: NDArray[np.float32]) -> tuple[float, float]:
    """The ends are moved in turn: the best share of the upper one, then of the lower one."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    high = min((_error(values, low, high * share), high * share) for share in _SHARES)[1]
    low = min((_error(values, low * share, high), low * share) for share in _SHARES)[1]
    return low, high


def _error(values: NDArray[np.float32], low: float, high: float) -> float:
    step = max((high - low) / 255, 1e-12)
    zero = round(-low / step)
    steps = np.clip(np.rint(values / step) + zero, 0, 255)
    return float(np.square((steps - zero) * step - values, dtype=np.float64).mean())
