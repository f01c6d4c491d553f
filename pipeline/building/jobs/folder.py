"""The finished folders: each platform's artifacts, with all that is told of them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...delivery import evidence
from ...delivery import folder as folders
from ...errors import ConversionError
from ...parity import Check, Judge, Measured, Outputs, Row
from ...program import ORIGINAL, Target, is_quantized, seal
from ...store import Entry, Job, Workshop
from ..order import Order
from ..site import Site, contract_of, job, meaning_of
from ..telling import rungs
from ..work import Found, Work, artifacts_awaited, entries
from .data import all_images, judged, judged_in
from .program import outputs_of
from .reference import load_recording


def jobs(order: Order, shop: Workshop, site: Site) -> dict[str, Job | str]:
    wait = artifacts_awaited(order, site)
    return {_name(platform): wait or folder_job(order, site, platform) for platform in order.plans}


def make(work: Work, site: Site, missing: Mapping[str, Job]) -> Found:
    return {
        name: work.shop.make(missing[name], partial(make_folder, work, site, platform))
        for platform in work.order.plans
        if (name := _name(platform)) in missing
    }


def take(order: Order, shop: Workshop, site: Site, found: Found) -> Site:
    known = entries(found)
    finished = {platform: known[name] for platform in order.plans if (name := _name(platform)) in known}
    return site.knowing({}, finished=finished)


def _name(platform: str) -> str:
    return f"folder {platform}"


def folder_job(order: Order, site: Site, platform: str) -> Job:
    """A platform's folder: of its artifacts and measurements, the references, and what the manifest and kit tell."""
    config = order.config
    inputs: dict[str, Any] = {
        "platform": platform,
        "project": config.project.model_dump(),
        "settings of the kit": config.settings(platform).model_dump(),
        "kit": list(order.shipped[platform] or ()),
        "limits": [limit.model_dump() for limit in config.limit],
        "open verdicts": config.parity.require,
        "int8 is shipped": order.has_int8,
        # what is told of it; what it is, is in the results
        "model": config.model.model_dump(exclude={"exported", "factory"}) | {"given by": config.model.given_by},
        "input contract": asdict(contract_of(config)),
        "how images are fitted": config.data.fit,
        "names": list(site.names),
        "images": judged_in(site),
        "truth": site.data.digest("held-out-truth.npy"),
        "doubts about the float model": list(site.doubts),
        "calibration": [site.data.digest(n) for n in ("digests.json", "warnings.json")],
        "weights": site.weights.digest(),
        "quantization": [site.program.digest(n) for n in ("program.json", "ladder.json")],
    }
    inputs |= meaning_of(config)
    for key, entry in site.references.items():
        inputs[f"reference {key}"] = entry.digest()
    packages, modules = {"twinkeel"}, set()
    for target, precision in order.plans[platform]:
        item = site.made[target.NAME, precision]
        packages |= set(target.PACKAGES)
        modules.add(target.__name__)
        inputs[f"{target.NAME} {precision}"] = [
            item.lowered.digest() if item.lowered else "",
            item.measured.digest() if item.measured else "",
            item.error,
        ]
    code = (site.task.__name__, "twinkeel.pipeline.delivery.folder", order.kits[platform].__name__, *sorted(modules))
    return job("folder", _name(platform), inputs, code, sorted(packages), by=__name__)


def make_folder(work: Work, site: Site, platform: str, result: Path) -> None:
    """A finished folder, and beside it what tables and reports tell of it."""
    order, shop, config = work.order, work.shop, site.config
    outputs = {key: shop.array(entry, "outputs.npy") for key, entry in site.references.items()}
    judge = judge_of(order, shop, site, outputs)
    given, in_float = judge.outputs.outputs, judge.outputs.in_float
    (result / "folder").mkdir()
    measured, errors = collect(work, site, platform, result / "folder")
    if not measured:
        raise ConversionError("no artifact could be built:\n" + "\n".join(errors))
    checks = judge.program_checks(has_int8=order.has_int8)
    rows = judge.rows(measured, checks)
    images, golden = all_images(site)
    wanted = {key: entry for key, entry in site.references.items() if is_quantized(key)}
    contents = folders.Contents(
        config=config,
        task=site.task,
        contract=contract_of(config),
        names=site.names,
        images=images,
        golden=golden,
        references=outputs,
        recording=load_recording(shop, wanted),
        outputs=given,
        in_float=in_float,
        weights_source=shop.json(site.weights, "origin.json")["source"],
        weights_sha256=site.weights.files["weights.safetensors"],
        calibration_sha256=shop.json(site.data, "digests.json")["calibration"],
        calibration_images=shop.json(site.data, "digests.json")["calibration images"],
        warnings=shop.json(site.data, "warnings.json"),
        doubts=site.doubts,
        rungs=rungs(shop, site.program),
        rows=rows,
        program_checks=checks,
        reference_scores=judge.scores,
        errors=errors,
        shipped=order.shipped[platform],
    )
    folders.write(contents, order.targets, order.kits[platform], result / "folder", work.say)
    (result / "result.json").write_text(json.dumps(table(judge, checks, rows, errors)))
    ran = [row.outputs for row in rows if row.outputs is not None and row.images is None]
    found = (judge.outputs.of(ORIGINAL), judge.outputs.of("int8"), *ran)
    np.save(result / "answers.npy", site.task.answers(found, judge.outputs.truth, config, given))


def judge_of(order: Order, shop: Workshop, site: Site, outputs: Mapping[str, Any]) -> Judge:
    """What artifacts are judged by.

    Args:
        outputs: of the references, ``(N, ...)`` by key.
    """
    config = order.config
    return Judge(
        outputs=Outputs(
            references=outputs,
            truth=judged(shop, site.data, config.parity.images).truth,
            outputs=outputs_of(shop, site.program),
            in_float=tuple(shop.json(site.program, "program.json")["in_float"]),
        ),
        targets=order.targets,
        config=config,
        meaning=site.task.meaning(config),
    )


def table(judge: Judge, checks: Sequence[Check], rows: Sequence[Row], errors: Sequence[str]) -> dict[str, Any]:
    """What was judged, as JSON holds it."""
    return {
        "program_checks": [asdict(check) for check in checks],
        "reference_scores": judge.scores,
        "rows": [asdict(replace(row, outputs=None)) for row in rows],
        "errors": list(errors),
    }


def collect(work: Work, site: Site, platform: str, into: Path) -> tuple[list[Measured], list[str]]:
    """A platform's artifacts, put where they belong below `into`, and why the others are not there."""
    shop, found, errors = work.shop, [], []
    for target, precision in work.order.plans[platform]:
        item = site.made[target.NAME, precision]
        if item.lowered is None:
            errors.append(f"{target.NAME} {precision}: {item.error}")
            continue
        runtime, stem = target.NAME.split("/")[1], f"{site.config.project.name}-{precision}"
        path = into / runtime / f"{stem}{target.SUFFIX}"
        twin = into / "evidence" / runtime / f"{stem}-float32{target.SUFFIX}"
        _fetch(work, item.lowered, f"artifact{target.SUFFIX}", path)
        has_twin = item.lowered.has(f"twin{target.SUFFIX}")
        if has_twin:
            _fetch(work, item.lowered, f"twin{target.SUFFIX}", twin)
        numbers = {} if item.measured is None else shop.json(item.measured, "metrics.json")
        found.append(
            Measured(
                artifact=seal(path, into, target.NAME, precision),
                twin=twin.relative_to(into).as_posix() if has_twin else None,
                operators=shop.json(item.lowered, "operators.json"),
                outputs=None if item.measured is None else shop.array(item.measured, "outputs.npy"),
                metrics=numbers.get("metrics", {}),
                decodes=numbers.get("decodes", False),
                images=numbers.get("images"),
                runs=[] if item.measured is None else [_run(target, numbers)],
                error=item.error,
            )
        )
    return found, errors


def _fetch(work: Work, entry: Entry, name: str, path: Path) -> None:
    """One file or folder of a result under another name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work.folder) as here:
        work.shop.fetch(entry, Path(here), name)
        (Path(here) / name).rename(path)


def _run(target: Target, numbers: Mapping[str, Any]) -> evidence.Run:
    """The build's own row of evidence."""
    return evidence.row(evidence=target.EVIDENCE, by="build", machine=numbers["machine"], versions=numbers["versions"])
