"""Of any tensors: how near they are to those of the float32 artifact, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...data import Seen
from ...errors import DataError
from ...parity import Counted, Values, each, share_of
from ...tasks import COSINE, MARGIN, cosines
from . import Known, Nearness

if TYPE_CHECKING:
    from ..planning import Plan
    from . import Kept, Shards


def known(data: Path, names: Sequence[str], naming: Path | None, *, skips_damaged: bool) -> Known:
    raise DataError("nothing is known to be right of features: add --unlabelled")


def right_of(plan: Plan, number: int, seen: Seen) -> None:
    return None


def kept(outputs: Sequence[Values], plan: Plan, right: Sequence[Any]) -> dict[str, NDArray[Any]]:
    """``cosine`` ``(artifacts, n)`` to the reference of each; ``low`` and ``high`` ``(artifacts, n, outputs)``."""
    turned = [[cosines(outputs[a], outputs[b], plan.outputs) for a, b in plan.pairs]]
    own = [
        np.ones(len(outputs[0])) if one.reference is None else cosines(outputs[one.reference], outputs[n], plan.outputs)
        for n, one in enumerate(plan.artifacts)
    ]
    ends = [[(part.min(1), part.max(1)) for (part,) in each(plan.outputs, one)] for one in outputs]
    return {
        "cosine": np.array(own, np.float32),
        "low": np.array([[low for low, _ in one] for one in ends], np.float32).swapaxes(1, 2),
        "high": np.array([[high for _, high in one] for one in ends], np.float32).swapaxes(1, 2),
        "same": (np.array(turned[0]).reshape(-1, len(outputs[0])) >= COSINE),
    }


@dataclass(kw_only=True)
class _Counting(Nearness):
    """Images, and of each artifact those that are alike and in range ``(artifacts, 2)``."""

    found: NDArray[np.int64]

    def against_reference(self, artifact: int) -> dict[str, Counted]:
        alike, in_range = self.found[artifact].tolist()
        return {"alike": share_of(self.images, alike), "in_range": share_of(self.images, in_range)}


def counting(plan: Plan, shards: Shards) -> _Counting:
    """Twice through the shards: what is out of range is known when the whole range of the reference is."""
    count, outputs = len(plan.artifacts), max(1, len(plan.outputs))
    low, high = np.full((count, outputs), np.inf), np.full((count, outputs), -np.inf)
    for shard in shards():
        low = np.fmin(low, shard["low"].min(1, initial=np.inf))
        high = np.fmax(high, shard["high"].max(1, initial=-np.inf))
    more = MARGIN * np.maximum(high - low, 1e-6)
    found, images = np.zeros((count, 2), np.int64), 0
    for shard in shards():
        images += len(shard["index"])
        for number, one in enumerate(plan.artifacts):
            if one.reference is None:
                continue
            least, most = (low - more)[one.reference], (high + more)[one.reference]
            is_inside = ((shard["low"][number] >= least) & (shard["high"][number] <= most)).all(1)
            found[number] += [int((shard["cosine"][number] >= COSINE).sum()), int(is_inside.sum())]
    return _Counting(plan=plan, images=images, found=found)


def columns(kept: Kept, artifact: int, plan: Plan) -> dict[str, Any]:
    return {
        "cosine": kept["cosine"][artifact],
        "low": kept["low"][artifact].min(1),
        "high": kept["high"][artifact].max(1),
    }


def said(kept: Mapping[str, NDArray[Any]], place: int, artifact: int, plan: Plan) -> tuple[str, bool | None]:
    return f"cosine {float(kept['cosine'][artifact, place]):.4f}", None
