"""The last jobs of a build: each platform's folder, the report, and putting them in their place."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import data as data_module
from ..delivery import device, evidence, folder, manifest, outputs
from .. import parity
from ..program import references
from . import steps
from ..program import Artifact, Target, seal
from ..parity import INTEGERS, REFERENCE, Comparison, tabulate
from ..errors import ConversionError, TwinkeelError
from ..files import digest
from ..stages import Epoch, Rung
from ..store import Job, Workshop
from ..parity import Judge, Measured, Outputs, Row
from .order import Order
from ..program import is_quantized
from ..tasks import Answers
from ..report import Report, Result
from ..saying import Say
from .steps import Made, Site
from ..store import Entry
from ..parity import Counts

if TYPE_CHECKING:
    from ..parity import RuntimeDrift

_GLUE = ("twinkeel.pipeline.build.finish", "twinkeel.pipeline.build.steps")


@dataclass(frozen=True, kw_only=True)
class Finish:
    """The last jobs of a build: folders, report, and putting them in their place.

    Attributes:
        work: folder of what is not finished.
        made: the artifacts by target and precision.
        doubts: what there is to say against the float model, though something was built on it.
    """

    order: Order
    shop: Workshop
    work: Path
    say: Say
    site: Site
    made: Mapping[tuple[str, str], Made]
    doubts: tuple[str, ...]

    def make_folder(self, platform: str, result: Path) -> None:
        """A finished folder, and beside it what tables and reports tell of it."""
        shop, site, config = self.shop, self.site, self.order.config
        logits = {key: shop.array(entry, "logits.npy") for key, entry in site.references.items()}
        scale = float(shop.json(site.program, "program.json")["output_scale"])
        truth = shop.array(site.data, "held-out-labels.npy")
        judge = Judge(
            outputs=Outputs(references=logits, labels=truth, output_scale=scale),
            targets=self.order.targets,
            config=config,
        )
        (result / "folder").mkdir()
        measured, errors = self._collect(platform, result / "folder")
        if not measured:
            raise ConversionError("no artifact could be built:\n" + "\n".join(errors))
        checks = judge.program_checks(has_int8=self.order.has_int8)
        rows = judge.rows(measured, checks)
        images, golden = references.images_of(shop.array(site.data, "held-out-images.npy"))
        wanted = {key: entry for key, entry in site.references.items() if is_quantized(key)}
        contents = folder.Contents(
            config=config,
            contract=steps.contract_of(config),
            labels=site.labels,
            images=images,
            golden=golden,
            references=logits,
            recording=steps.load_recording(shop, wanted),
            output_scale=scale,
            weights_source=shop.json(site.weights, "origin.json")["source"],
            weights_sha256=site.weights.files["weights.safetensors"],
            calibration_sha256=shop.json(site.data, "digests.json")["calibration"],
            calibration_images=shop.json(site.data, "digests.json")["calibration images"],
            warnings=shop.json(site.data, "warnings.json"),
            doubts=self.doubts,
            rungs=_rungs(shop, site.program),
            rows=rows,
            program_checks=checks,
            reference_accuracy=judge.accuracies,
            errors=errors,
            shipped=self.order.shipped[platform],
        )
        folder.write(contents, self.order.targets, self.order.kits[platform], result / "folder", self.say)
        table = {
            "program_checks": [asdict(check) for check in checks],
            "reference_accuracy": judge.accuracies,
            "rows": [asdict(replace(row, answers=None)) for row in rows],
            "errors": errors,
        }
        (result / "result.json").write_text(json.dumps(table))
        said = [judge.answers["float"], judge.answers["int8"], *(row.answers for row in rows if row.answers)]
        np.save(result / "answers.npy", np.array([(a.classes, a.probabilities) for a in said]))

    def _collect(self, platform: str, into: Path) -> tuple[list[Measured], list[str]]:
        """A platform's artifacts, put where they belong below `into`, and why the others are not there."""
        found, errors = [], []
        for target, precision in self.order.plans[platform]:
            item = self.made[target.NAME, precision]
            if item.lowered is None:
                errors.append(f"{target.NAME} {precision}: {item.error}")
                continue
            runtime, stem = target.NAME.split("/")[1], f"{self.order.config.project.name}-{precision}"
            path = into / runtime / f"{stem}{target.SUFFIX}"
            twin = into / "evidence" / runtime / f"{stem}-float32{target.SUFFIX}"
            self._fetch(item.lowered, f"artifact{target.SUFFIX}", path)
            has_twin = item.lowered.has(f"twin{target.SUFFIX}")
            if has_twin:
                self._fetch(item.lowered, f"twin{target.SUFFIX}", twin)
            numbers = {} if item.measured is None else self.shop.json(item.measured, "metrics.json")
            found.append(
                Measured(
                    artifact=seal(path, into, target.NAME, precision),
                    twin=twin.relative_to(into).as_posix() if has_twin else None,
                    operators=self.shop.json(item.lowered, "operators.json"),
                    logits=None if item.measured is None else self.shop.array(item.measured, "logits.npy"),
                    metrics=numbers.get("metrics", {}),
                    names_classes=numbers.get("names_classes", False),
                    runs=[] if item.measured is None else [_run(target, numbers)],
                    error=item.error,
                )
            )
        return found, errors

    def _fetch(self, entry: Entry, name: str, path: Path) -> None:
        """One file or folder of a result under another name."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.work) as here:
            self.shop.fetch(entry, Path(here), name)
            (Path(here) / name).rename(path)

    def make_report(self, finished: Mapping[str, Entry], latency: Mapping[str, float], result: Path) -> None:
        shop, site = self.shop, self.site
        drift, errors = self._drift()
        said = Report(
            results=[self.result(finished[p], p, latency, has_answers=True) for p in self.order.plans],
            manifests=[shop.json(finished[p], f"folder/{manifest.MANIFEST}") for p in self.order.plans],
            held_out=data_module.Split(
                images=shop.array(site.data, "held-out-images.npy"), labels=shop.array(site.data, "held-out-labels.npy")
            ),
            drift=drift,
            drift_errors=errors,
        )
        for name, content in self.order.render(self.order.config.project.name, said, self.order.out).items():
            (result / name).write_bytes(content)
        for name in ("curves.csv", "curves.png"):
            if site.weights.has(name):
                (result / name).write_bytes(shop.read(site.weights, name))

    def _drift(self) -> tuple[tuple[RuntimeDrift, ...], str]:
        """Layer by layer, each artifact that is the same on several platforms once."""
        from ..parity import RuntimeDrift, compare

        recording = steps.load_recording(
            self.shop, {key: entry for key, entry in self.site.references.items() if is_quantized(key)}
        )
        found: dict[str, RuntimeDrift] = {}
        errors = []
        for (name, _), item in self.made.items():
            if item.measured is None or item.lowered is None:
                continue
            target = self.order.targets[name]
            if item.measured.has("layers-error.txt"):
                errors.append(self.shop.read(item.measured, "layers-error.txt").decode())
            if not item.measured.has("layers.npy"):
                continue
            key = item.measured.digest("layers.npy") + target.KERNELS + item.lowered.digest(f"artifact{target.SUFFIX}")
            if key in found:
                found[key] = replace(found[key], targets=(*found[key].targets, name))
                continue
            reference = target.REFERENCES["int8"]
            values = replace(recording, steps={name: self.shop.array(item.measured, "layers.npy")}).of(name)
            compared = compare(recording, reference, values, target.KERNELS)
            found[key] = RuntimeDrift(targets=(name,), reference=reference, layers=compared)
        return tuple(found.values()), "; ".join(sorted(set(errors)))

    def result(self, entry: Entry, platform: str, latency: Mapping[str, float], *, has_answers: bool) -> Result:
        shop = self.shop
        table = shop.json(entry, "result.json")
        more = added_evidence(self.order, shop, {platform: entry})
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
            folder=self.order.out / platform,
            program_checks=[parity.Check.of(check) for check in table["program_checks"]],
            reference_accuracy=table["reference_accuracy"],
            rows=rows,
            errors=table["errors"],
            rungs=_rungs(shop, self.site.program),
            reference_answers={
                name: answer for name, answer in zip(("float", "int8"), said, strict=False) if answer is not None
            },
            curve=_curve(shop, self.site.weights),
        )

    def comparison(self) -> Comparison | None:
        shop, site = self.shop, self.site
        named = {REFERENCE: site.references["int8"]} | {INTEGERS[key]: site.references.get(key) for key in INTEGERS}
        measured = {name: item.measured for (name, precision), item in self.made.items() if precision == "int8"}
        named |= measured
        logits = {name: shop.array(entry, "logits.npy") for name, entry in named.items() if entry is not None}
        held_out = len(shop.array(site.data, "held-out-labels.npy"))
        golden = references.golden_of(held_out, len(logits[REFERENCE]) - held_out)
        logits = {name: values[golden] for name, values in logits.items()}
        if len(logits.keys() & measured.keys()) < 2:
            return None
        return tabulate(logits, float(shop.json(site.program, "program.json")["output_scale"]))

    def place(self, finished: Mapping[str, Entry], page: Entry) -> None:
        """Put what is not there already into `out`: folders first, then the files beside them, the index last."""
        out = self.order.out
        staged = {}
        for platform, entry in finished.items():
            if not _is_there(self.shop, entry, out / platform):
                staging = self.work / platform
                self.shop.fetch(entry, staging, "folder")
                staged[platform] = staging / "folder"
        files = {name: self.shop.read(page, name) for name in page.files}
        for platform, staging in staged.items():
            outputs.replace_folder(staging, out / platform, self.work.parent)
        for name, content in files.items():
            if not (out / name).is_file() or (out / name).read_bytes() != content:
                outputs.save(content, out / name)
        known = outputs.read_index(out)["files"] if (out / outputs.INDEX).is_file() else {}
        outputs.write_index(out, {*known, *files})


def folder_job(
    order: Order, site: Site, platform: str, made: Mapping[tuple[str, str], Made], doubts: Sequence[str]
) -> Job:
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
        "model": config.model.model_dump(),
        "input contract": asdict(steps.contract_of(config)),
        "labels": list(site.labels),
        "images": site.data.digest("held-out-images.npy"),
        "image labels": site.data.digest("held-out-labels.npy"),
        "doubts about the float model": list(doubts),
        "calibration": [site.data.digest(n) for n in ("digests.json", "warnings.json")],
        "weights": site.weights.digest(),
        "quantization": [site.program.digest(n) for n in ("program.json", "ladder.json")],
    }
    for key, entry in site.references.items():
        inputs[f"reference {key}"] = entry.digest()
    packages, modules = {"twinkeel"}, set()
    for target, precision in order.plans[platform]:
        item = made[target.NAME, precision]
        packages |= set(target.PACKAGES)
        modules.add(target.__name__)
        inputs[f"{target.NAME} {precision}"] = [
            item.lowered.digest() if item.lowered else "",
            item.measured.digest() if item.measured else "",
            item.error,
        ]
    return Job(
        kind="folder",
        name=f"folder {platform}",
        inputs=inputs,
        code=("twinkeel.pipeline.delivery.folder", order.kits[platform].__name__, *sorted(modules)),
        glue=_GLUE,
        packages=tuple(sorted(packages)),
    )


def report_job(
    order: Order,
    shop: Workshop,
    site: Site,
    finished: Mapping[str, Entry],
    latency: Mapping[str, float],
    made: Mapping[tuple[str, str], Made],
) -> Job:
    inputs: dict[str, Any] = {f"folder {platform}": entry.digest() for platform, entry in finished.items()}
    inputs |= {
        f"layers of {name} {precision}": item.measured.digest()
        for (name, precision), item in made.items()
        if item.measured is not None and precision == "int8"
    }
    inputs["latency"] = dict(latency)
    if more := added_evidence(order, shop, finished):
        inputs["evidence that was added"] = [[*key, list(runs)] for key, runs in sorted(more.items())]
    inputs["images"] = site.data.digest("held-out-images.npy")
    inputs["training"] = site.weights.digest()
    inputs["rungs"] = site.program.digest("rungs.json")
    for path in sorted(order.out.glob("sensitivity.csv")):
        inputs["sensitivity"] = hashlib.sha256(path.read_bytes()).hexdigest()
    code = ("twinkeel.pipeline.parity.drift", order.render.__module__)
    return Job(kind="report", name="report", inputs=inputs, code=code, glue=_GLUE, packages=("jinja2", "numpy"))


def _run(target: Target, numbers: Mapping[str, Any]) -> evidence.Run:
    """The build's own row of evidence."""
    return evidence.row(evidence=target.EVIDENCE, by="build", machine=numbers["machine"], versions=numbers["versions"])


def _rungs(shop: Workshop, program: Entry) -> tuple[Rung, ...]:
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
        if more and _is_there(shop, entry, order.out / platform):
            found |= more
    return found


def _is_there(shop: Workshop, entry: Entry, final: Path) -> bool:
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
