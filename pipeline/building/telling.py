"""What the finished jobs of a build tell, and whether what they gave is in its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import parity
from ..delivery import device, evidence, manifest
from ..errors import TwinkeelError
from ..files import digest
from ..parity import INTEGERS, REFERENCE, Comparison, Counts, Row, tabulate
from ..program import Artifact, references
from ..report import Result
from ..stages import Epoch, Rung
from ..store import Entry, Workshop
from ..tasks import Answers
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
    said: list[Answers | None] = [None] * (2 + len(table["rows"]))
    if has_answers:
        ran = iter(shop.array(entry, "answers.npy"))
        is_there = [True, True, *(row["evidence"] != "none" for row in table["rows"])]
        said = [_answers(next(ran)) if there else None for there in is_there]
    rows = [
        Row(
            **row
            | {
                "artifact": Artifact(**row["artifact"]),
                "checks": [parity.Check.of(check) for check in row["checks"]],
                "before": [parity.Check.of(check) for check in row["before"]],
                "agreed": _counts(row["agreed"]),
                "paired": _counts(row["paired"]),
                "latency_ms": latency.get(f"{row['artifact']['target']} {row['artifact']['precision']}", np.nan),
                "answers": one,
                "runs": evidence.merged(
                    row["runs"], more.get((row["artifact"]["target"], row["artifact"]["precision"]), ())
                ),
            }
        )
        for row, one in zip(table["rows"], said[2:], strict=True)
    ]
    return Result(
        folder=order.out / platform,
        program_checks=[parity.Check.of(check) for check in table["program_checks"]],
        reference_accuracy=table["reference_accuracy"],
        rows=rows,
        errors=table["errors"],
        rungs=rungs(shop, site.program),
        reference_answers={
            name: answer for name, answer in zip(("float", "int8"), said, strict=False) if answer is not None
        },
        curve=_curve(shop, site.weights),
    )


def comparison(shop: Workshop, site: Site) -> Comparison | None:
    """Of the int8 artifacts, on the golden images; None where there are not two."""
    named = {REFERENCE: site.references["int8"]} | {INTEGERS[key]: site.references.get(key) for key in INTEGERS}
    measured = {name: item.measured for (name, precision), item in site.made.items() if precision == "int8"}
    named |= measured
    logits = {name: shop.array(entry, "logits.npy") for name, entry in named.items() if entry is not None}
    held_out = len(shop.array(site.data, "held-out-labels.npy"))
    golden = references.golden_of(held_out, len(logits[REFERENCE]) - held_out)
    logits = {name: values[golden] for name, values in logits.items()}
    if len(logits.keys() & measured.keys()) < 2:
        return None
    return tabulate(logits, float(shop.json(site.program, "program.json")["output_scale"]))


def rungs(shop: Workshop, program: Entry) -> tuple[Rung, ...]:
    """Of the ladder that the program climbed."""
    return tuple(Rung(**rung) for rung in shop.json(program, "rungs.json"))


def _curve(shop: Workshop, weights: Entry) -> tuple[Epoch, ...]:
    return tuple(Epoch(**epoch) for epoch in shop.json(weights, "origin.json")["curve"])


def _counts(stored: Mapping[str, Any] | None) -> Counts | None:
    return None if stored is None else Counts(**stored)


def _answers(stored: Any) -> Answers:
    """Of classes and probabilities in one array of float64."""
    return Answers(classes=stored[0].astype(np.int64), probabilities=stored[1])


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
