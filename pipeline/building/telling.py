"""What the finished jobs of a build tell, and whether what they gave is in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import parity
from ..delivery import device, evidence, manifest
from ..errors import TwinkeelError
from ..files import digest
from ..parity import INTEGERS, REFERENCE, Comparison, Row, Worth, tabulate
from ..program import Artifact, references, steps
from ..report import Result
from ..stages import Epoch, Rung
from ..store import Entry, Workshop
from .jobs.program import outputs_of
from .order import Order
from .site import Site


def result_of(order: Order, shop: Workshop, site: Site, platform: str, *, has_answers: bool) -> Result:
    """What a build gave for a platform.

    Args:
        has_answers: with each artifact's answers on the held-out images.
    """
    entry, latency = site.finished[platform], site.latency or {}
    table = shop.json(entry, "result.json")
    more = added_evidence(order, shop, {platform: entry})
    rows = [
        row_of(
            row,
            latency.get(f"{row['artifact']['target']} {row['artifact']['precision']}", np.nan),
            more.get((row["artifact"]["target"], row["artifact"]["precision"]), ()),
        )
        for row in table["rows"]
    ]
    return Result(
        folder=order.out / platform,
        program_checks=[parity.Check.of(check) for check in table["program_checks"]],
        task=site.task,
        reference_scores=table["reference_scores"],
        rows=rows,
        errors=table["errors"],
        rungs=rungs(shop, site.program),
        answers=_answers(shop, entry, rows) if has_answers else {},
        curve=_curve(shop, site.weights),
    )


def row_of(stored: Mapping[str, Any], latency_ms: float, more: Sequence[evidence.Run] = ()) -> Row:
    """A row of a table as JSON holds it.

    Args:
        more: what ran the artifact since.
    """
    return Row(
        **dict(stored)
        | {
            "artifact": Artifact(**stored["artifact"]),
            "checks": [parity.Check.of(check) for check in stored["checks"]],
            "before": [parity.Check.of(check) for check in stored["before"]],
            "worth": Worth.of(stored["worth"]),
            "latency_ms": latency_ms,
            "runs": evidence.merged(stored["runs"], more),
        }
    )


def comparison(shop: Workshop, site: Site) -> Comparison | None:
    """Of the int8 artifacts, on the golden images; None where there are not two."""
    named = {REFERENCE: site.references["int8"]} | {INTEGERS[key]: site.references.get(key) for key in INTEGERS}
    measured = {name: item.measured for (name, precision), item in site.made.items() if precision == "int8"}
    named |= measured
    outputs = {name: shop.array(entry, "outputs.npy") for name, entry in named.items() if entry is not None}
    held_out = site.judged or len(shop.array(site.data, "held-out-truth.npy"))
    golden = references.golden_of(held_out, len(outputs[REFERENCE]) - held_out)
    outputs = {name: values[golden] for name, values in outputs.items()}
    if len(outputs.keys() & measured.keys()) < 2:
        return None
    return tabulate(outputs, steps(outputs_of(shop, site.program)))


def rungs(shop: Workshop, program: Entry) -> tuple[Rung, ...]:
    """Of the ladder that the program climbed."""
    return tuple(Rung(**rung) for rung in shop.json(program, "rungs.json"))


def _curve(shop: Workshop, weights: Entry) -> tuple[Epoch, ...]:
    return tuple(Epoch(**epoch) for epoch in shop.json(weights, "origin.json")["curve"])


def _answers(shop: Workshop, folder: Entry, rows: Sequence[Row]) -> dict[str, NDArray[np.float64]]:
    """What the task keeps of the outputs of the references and of the artifacts that run, by name."""
    ran = [
        f"{row.artifact.target} {row.artifact.precision}"
        for row in rows
        if row.evidence != "none" and row.images is None
    ]
    return dict(zip(("float", "int8", *ran), shop.array(folder, "answers.npy"), strict=True))


def added_evidence(
    order: Order, shop: Workshop, finished: Mapping[str, Entry]
) -> dict[tuple[str, str], list[evidence.Run]]:
    """By target and precision, what was added to the folders in place, where they stay there."""
    found: dict[tuple[str, str], list[evidence.Run]] = {}
    for platform, entry in finished.items():
        try:
            more = device.added_evidence(order.out / platform)
        except TwinkeelError:  # damaged, and to be replaced
            continue
        if more and is_there(shop, entry, order.out / platform):
            found |= more
    return found


def is_there(shop: Workshop, entry: Entry, final: Path) -> bool:
    """Whether a folder is what its job gave, but for the evidence that was added since."""
    if not (final / manifest.MANIFEST).is_file():
        return False
    try:
        manifest.verify(final)
    except TwinkeelError:
        return False
    wanted = {name.removeprefix("folder/"): sha for name, sha in entry.files.items() if name.startswith("folder/")}
    found = manifest.read_manifest(final)
    has_more = bool(device.added_evidence(final))
    own = {manifest.MANIFEST} | ({manifest.PARITY} if has_more else set())
    files = {name: sha for name, sha in wanted.items() if name not in own}
    if {name: sha for name, sha in found["files"].items() if name not in own} != files:
        return False
    return has_more or digest(final / manifest.MANIFEST) == wanted[manifest.MANIFEST]
