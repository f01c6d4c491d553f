"""What training and quantization leave to be told: points of curves and rungs of the ladder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One point of the training curves; the score is of the held-out images, 0..1."""

    epoch: int
    loss: float
    score: float


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One line of the ladder.

    Attributes:
        name: the method.
        note: what it did.
        calibration_db: mean SNR of an image's outputs against the float model, on the calibration images that judge.
        snr_db: SNR of all outputs on the held-out images.
        shares: what the task counts of them, by name, 0..1.
        cost: what it costs to stay: bytes and speed of the artifacts.
        seconds: for the method, the calibration and the measurement.
        peak_bytes: largest memory of the process so far.
        is_met: the gate of the quantize leg: nothing is missed.
        is_open: it is met, and these images cannot tell whether all of it holds.
        is_kept: the next rung starts from here, or it is the last.
        is_stopped: it is the last because somebody wanted no more of them.
    """

    name: str
    note: str
    calibration_db: float
    snr_db: float
    shares: Mapping[str, float]
    cost: str
    seconds: float
    peak_bytes: int
    is_met: bool
    is_open: bool
    is_kept: bool
    is_stopped: bool = False

    def __str__(self) -> str:
        passes = "passes, some of it open" if self.is_open else "passes"
        verdict = passes if self.is_met else "misses the gate" + ("" if self.is_kept else ", dropped")
        return (
            f"{self.name}{f' ({self.note})' if self.note else ''}: SNR {self.snr_db:.1f} dB held-out, "
            f"{self.calibration_db:.1f} dB calibration, "
            + "".join(f"{name} {100 * share:.2f} %, " for name, share in self.shares.items()).rstrip(", ")
            + f"; cost: {self.cost}; "
            f"{self.seconds:.1f} s, peak {self.peak_bytes / 2**20:.0f} MB: {verdict}"
        )
