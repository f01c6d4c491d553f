"""What is measured of outputs by arithmetic alone, whatever they mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..program import Output, parts

Values = NDArray[np.float32]
"""Outputs of a model, packed: ``(N, width)``, each flattened, one behind the other. Functions that are given what stands where
in them take each output by itself, and tell the worst."""


def each(outputs: Sequence[Output], *values: Values) -> list[tuple[Values, ...]]:
    """Packed values output by output; all of them as one where nothing is said of them."""
    return [tuple(one[:, part] for one in values) for part in parts(outputs)] if len(outputs) > 1 else [values]


def snr_db(reference: Values, candidate: Values, outputs: Sequence[Output] = ()) -> float:
    """Signal to noise in dB, of the worst output; infinite where they are equal."""
    return min(_snr_db(*pair) for pair in each(outputs, reference, candidate))


def _snr_db(reference: Values, candidate: Values) -> float:
    signal = np.square(reference, dtype=np.float64).sum()
    noise = np.square(reference.astype(np.float64) - candidate).sum()
    if noise == 0:
        return float("inf")
    return float("-inf") if signal == 0 else float(10 * np.log10(signal / noise))


def image_snr_db(reference: Values, candidate: Values, outputs: Sequence[Output] = ()) -> float:
    """Signal to noise of each image, its mean in dB: a single image with large errors does not decide. At most 120 dB count.
    Of several outputs their mean."""
    return float(np.mean([_image_snr_db(*pair) for pair in each(outputs, reference, candidate)]))


def _image_snr_db(reference: Values, candidate: Values) -> float:
    signal = np.square(reference.reshape(len(reference), -1), dtype=np.float64).sum(1)
    apart = reference.reshape(len(reference), -1).astype(np.float64) - candidate.reshape(len(candidate), -1)
    noise = np.maximum(np.square(apart).sum(1), 1e-12 * signal)
    return float(np.mean(10 * np.log10(np.maximum(signal, 1e-30) / np.maximum(noise, 1e-30))))


def snr_loss_db(floating: Values, quantized: Values, candidate: Values) -> float:
    """How much noisier against float the candidate is than the quantized reference, in dB; 0 where both are without noise, or
    where there is no signal and both have some."""
    reference, found = snr_db(floating, quantized), snr_db(floating, candidate)
    return 0.0 if reference == found else reference - found


def max_error(reference: Values, candidate: Values) -> float:
    """Largest difference over the range of the reference."""
    return float(np.abs(reference - candidate).max() / max(float(np.ptp(reference)), 1e-30))


def steps(reference: Values, candidate: Values, scale: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences in whole steps of the int8 outputs.

    Args:
        scale: a step, or that of each value ``(width,)``.
    """
    apart: NDArray[np.float64] = np.abs(np.rint((reference.astype(np.float64) - candidate) / scale))
    return apart


def output_metrics(
    reference: Values, candidate: Values, floating: Values, quantized: Values | None, outputs: Sequence[Output]
) -> dict[str, float]:
    """Everything that outputs alone say of an artifact: of each metric the worst of all outputs.

    Args:
        quantized: the int8 reference, for an int8 artifact.
        outputs: what stands where in the values.
    """
    found: list[dict[str, float]] = []
    for number, part in enumerate(parts(outputs)):
        wanted, given = reference[:, part], candidate[:, part]
        metrics = {
            "snr_db": snr_db(wanted, given),
            "max_error": max_error(wanted, given),
            "float_snr_db": snr_db(floating[:, part], given),
        }
        if quantized is not None:
            metrics |= step_metrics(wanted, given, outputs[number].scale)
            metrics["snr_loss_db"] = snr_loss_db(floating[:, part], quantized[:, part], given)
        found.append(metrics)
    return {name: _WORST[name]([one[name] for one in found]) for name in found[0]}


def _least(values: list[float]) -> float:
    return float(np.min(values))  # NaN stays NaN


def _largest(values: list[float]) -> float:
    return float(np.max(values))


_WORST = {
    "snr_db": _least,
    "float_snr_db": _least,
    "equal_logits": _least,
    "max_error": _largest,
    "max_steps": _largest,
    "snr_loss_db": _largest,
}


def step_metrics(reference: Values, candidate: Values, scale: float | NDArray[np.float64]) -> dict[str, float]:
    """``max_steps``, the largest difference in steps, and ``equal_logits``, the share 0..1 of those without one."""
    apart = steps(reference, candidate, scale)
    return {"max_steps": float(apart.max()), "equal_logits": float((apart == 0).mean())}
