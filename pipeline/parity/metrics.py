"""What is measured of outputs by arithmetic alone, whatever they mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
"""Outputs of a model, ``(N, ...)``."""


def snr_db(reference: Values, candidate: Values) -> float:
    """Signal to noise in dB; infinite where they are equal."""
    signal = np.square(reference, dtype=np.float64).sum()
    noise = np.square(reference.astype(np.float64) - candidate).sum()
    return float("inf") if noise == 0 else float(10 * np.log10(signal / noise))


def image_snr_db(reference: Values, candidate: Values) -> float:
    """Signal to noise of each image, its mean in dB: a single image with large errors does not decide. At most 120 dB count."""
    signal = np.square(reference.reshape(len(reference), -1), dtype=np.float64).sum(1)
    apart = reference.reshape(len(reference), -1).astype(np.float64) - candidate.reshape(len(candidate), -1)
    noise = np.maximum(np.square(apart).sum(1), 1e-12 * signal)
    return float(np.mean(10 * np.log10(np.maximum(signal, 1e-30) / np.maximum(noise, 1e-30))))


def snr_loss_db(floating: Values, quantized: Values, candidate: Values) -> float:
    """How much noisier against float the candidate is than the quantized reference, in dB."""
    return snr_db(floating, quantized) - snr_db(floating, candidate)


def max_error(reference: Values, candidate: Values) -> float:
    """Largest difference over the reference's range."""
    return float(np.abs(reference - candidate).max() / max(float(np.ptp(reference)), 1e-30))


def steps(reference: Values, candidate: Values, scale: float) -> NDArray[np.float64]:
    """Differences in whole steps of the int8 outputs."""
    apart: NDArray[np.float64] = np.abs(np.rint((reference.astype(np.float64) - candidate) / scale))
    return apart


def output_metrics(
    reference: Values, candidate: Values, floating: Values, quantized: Values | None, scale: float
) -> dict[str, float]:
    """Everything that outputs alone say of an artifact.

    Args:
        quantized: the int8 reference, for an int8 artifact.
        scale: step of the int8 outputs.
    """
    metrics = {"snr_db": snr_db(reference, candidate), "max_error": max_error(reference, candidate)}
    if quantized is None:
        return metrics
    return {
        **metrics,
        **step_metrics(reference, candidate, scale),
        "snr_loss_db": snr_loss_db(floating, quantized, candidate),
    }


def step_metrics(reference: Values, candidate: Values, scale: float) -> dict[str, float]:
    """``max_steps``, the largest difference in steps, and ``equal_logits``, the share 0..1 of those without one."""
    apart = steps(reference, candidate, scale)
    return {"max_steps": float(apart.max()), "equal_logits": float((apart == 0).mean())}
