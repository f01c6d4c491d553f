"""What is said where no rung of the ladder passes the gate: the gate, every rung, the layers to blame, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..parity import sensitivity
from ..saying import duration
from . import quantize

if TYPE_CHECKING:
    from .candidates import Ladder, Measured

_BLAMED = 5


def told(ladder: Ladder, best: Measured, forbidden: Sequence[str]) -> str:
    """Why no rung passes: the gate, every rung, the layers to blame.

    Args:
        best: what came nearest.
        forbidden: rungs that the configuration leaves out.
    """
    missed = [str(check) for check in best.checks if not check.is_met]
    ladder.say(f"quantize: looking for the layers that lose most, about {duration(ladder.sensitivity_seconds())}")
    found = ladder.sensitivities(best)
    in_int8 = [layer for layer in found.layers if f"model.{layer.name}" not in best.state.settings.float_layers]
    blamed = sorted(in_int8, key=lambda layer: layer.alone_db)[:_BLAMED]
    order = quantize.weighted_layers(best.quantized.module)
    last = {order[-1].removeprefix("model."): "; it stays in int8, for apps read its steps"} if order else {}
    left_out = [f"There was no time for: {'; '.join(ladder.left_out)} (--minutes)."] if ladder.left_out else []
    left_out += [f"There was no {name}: {why}." for name, why in ladder.wanting.items()]
    return "\n".join(
        [
            f"int8 misses its gate on every rung that was tried, and nothing was built; nearest to it, {best.state.note.partition(',')[0]}:",
            *(f"  {line}" for line in missed),
            *(f"  {rung}" for rung in ladder.rungs),
            f"layers that lose most, SNR on {found.images} calibration images with each of them alone quantized (all: {found.all_db:.1f} dB):",
            *(f"  {layer.name} ({layer.kind}): {layer.alone_db:.1f} dB{last.get(layer.name, '')}" for layer in blamed),
            *_explained(blamed, found),
            *([f"The configuration forbids {', '.join(forbidden)}."] if forbidden else []),
            *left_out,
            *_advice(
                ladder,
                [check.metric for check in best.checks if not check.is_met],
                is_more_to_try=bool(forbidden or ladder.left_out),
            ),
        ]
    )


def _explained(blamed: Sequence[sensitivity.Layer], found: sensitivity.Sensitivity) -> list[str]:
    if not blamed or blamed[0].alone_db >= found.all_db:
        return []
    return ["One alone may lose more than all together: their biases and weights are fitted to each other's errors."]


def _advice(ladder: Ladder, missed: Sequence[str], *, is_more_to_try: bool) -> list[str]:
    """What to type next.

    Args:
        missed: the metrics of the gate that are.
    """
    ways = ["allow more rungs or minutes under [quantize]"] if is_more_to_try else []
    ways += ["more epochs there"] if len(ladder.data.train.images) and ladder.config.quantize.qat != "never" else []
    ours = {(one.leg, one.precision, one.metric) for one in ladder.config.limit}
    is_own = all(("quantize", "int8", metric) in ours for metric in missed)
    ways += [
        "give more calibration images",
        "loosen your [[limit]]" if is_own else "write a [[limit]] for the leg 'quantize' with a reason",
    ]
    told = f"{', '.join(ways[:-1])}, or {ways[-1]}."
    told = told[0].upper() + told[1:]
    if ladder.config.quantize.weights == "per-tensor":
        return [f'One scale for all channels of a layer loses most: set [quantize] weights = "per-channel". {told}']
    return [told]
