"""Of masks: the pixels that are answered as by the float32 artifact, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...data import Gathered
from ...errors import DataError
from ...parity import Counted, Values
from ...tasks import agreement_of, masks_of
from . import Nearness

if TYPE_CHECKING:
    from ..planning import Plan
    from . import Kept, Shards

SAME = 0.99
"""Of an image's pixels, from which on two artifacts answer it alike: those on the edge of things turn by a hair."""


def truth_of(there: Gathered, names: Sequence[str], naming: Path | None) -> tuple[NDArray[np.int64], list[str]]:
    raise DataError(
        "masks beside images are not read here: add --unlabelled, which counts the pixels that are answered as by the float32 artifact"
    )


def kept(outputs: Sequence[Values], plan: Plan) -> dict[str, NDArray[Any]]:
    """``alike`` ``(artifacts, n)``, the share of pixels that are the reference's."""
    masks = [masks_of(one.reshape(len(one), *plan.outputs[0].shape), plan.size) for one in outputs]

    def alike(one: int, other: int) -> NDArray[np.float64]:
        found: NDArray[np.float64] = (masks[one] == masks[other]).reshape(len(masks[one]), -1).mean(1)
        return found

    own = [alike(n if one.reference is None else one.reference, n) for n, one in enumerate(plan.artifacts)]
    same = [alike(one, other) >= SAME for one, other in plan.pairs]
    return {"alike": np.array(own), "same": np.array(same, bool).reshape(-1, len(outputs[0]))}


@dataclass(kw_only=True)
class _Counting(Nearness):
    """Images, and of each artifact the sum over them of the shares of pixels that are alike ``(artifacts,)``."""

    alike: NDArray[np.float64]

    def against_reference(self, artifact: int) -> dict[str, Counted]:
        return {"agreement": agreement_of(self.images, float(self.alike[artifact]))}


def counting(plan: Plan, shards: Shards) -> _Counting:
    alike, images = np.zeros(len(plan.artifacts)), 0
    for shard in shards():
        images += len(shard["index"])
        alike += shard["alike"].sum(1)
    return _Counting(plan=plan, images=images, alike=alike)


def columns(kept: Kept, artifact: int, plan: Plan) -> dict[str, Any]:
    return {"alike": kept["alike"][artifact]}


def said(kept: Mapping[str, NDArray[Any]], place: int, artifact: int, plan: Plan) -> tuple[str, bool | None]:
    return f"{100 * float(kept['alike'][artifact, place]):.2f} % of the pixels alike", None
