"""One pass over the jobs of a build, in the order of `STEPS`: what the store has is taken, the rest is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..delivery import migration, outputs
from ..report import Built
from ..saying import Say
from ..store import Entry, Job
from .jobs import (
    artifact,
    compress,
    cost,
    data,
    folder,
    latency,
    original,
    program,
    reference,
    report,
    rounds,
    rows,
    weights,
)
from .site import Site
from .telling import comparison, is_there, result_of
from .work import Failure, Step, ToDo, Work

TRAINED: tuple[Step, ...] = (data, weights)
"""What gives weights."""
_MADE = (*TRAINED, original, program, compress, reference, artifact)
STEPS: tuple[Step, ...] = (*_MADE, folder, latency, cost, report)
"""What a build does, in order; building, explaining and the commands that need a part of it walk it alike."""
QUANTIZED: Step = program
"""The step that ends a build whose int8 cannot be."""
JUDGED: tuple[Step, ...] = (*_MADE, rows)
"""What tells what artifacts are worth, without a folder of them; `latency` is taken when all is quiet."""
ROUNDS: Sequence[Step] = (rounds,) * rounds.ROUNDS
"""By which a sweep takes latencies: every model has its turn in each of them, and `latency` gives the median."""


_OF_OTHERS = tuple(f"{table}.{suffix}" for table in ("sensitivity", "calibration") for suffix in ("csv", "png"))
"""What commands that need no finished build write into `out`, perhaps before there is one; `train` writes the weights."""


def build(work: Work) -> Built:
    """All steps, and what they gave put into its place."""
    order, shop = work.order, work.shop
    site = walk(work, STEPS)
    folders, files = _unplaced(work, site)
    if not work.only_looks:
        _place(work, site, folders, files)
        shop.remember(order.place)
    elif folders or files:
        raise ToDo(", ".join([*folders, *files]))
    return Built(
        comparison=comparison(shop, site) if len(site.finished) > 1 else None,
        results=[result_of(order, shop, site, platform, has_answers=False) for platform in order.plans],
        ran=work.ran,
        peak=work.peak,
        files=sorted(site.results[report.NAME].files),
        is_placed=bool(folders or files),
    )


def walk(work: Work, steps: Sequence[Step]) -> Site:
    """What is known behind the last of these steps."""
    order, shop = work.order, work.shop
    site = Site.of(order.config, order.create, shop)
    for step in steps:
        jobs = step.jobs(order, shop, site)
        found: dict[str, Entry | Failure] = {
            name: entry for name, job in jobs.items() if isinstance(job, Job) and (entry := shop.find(job)) is not None
        }
        if missing := {name: job for name, job in jobs.items() if name not in found and isinstance(job, Job)}:
            if work.only_looks:
                raise ToDo(", ".join(missing))
            work.ran += [name for name in jobs if name not in found]
            found |= step.make(work, site, missing)
        before, site = site, step.take(order, shop, site, found)
        for line in site.told[len(before.told) :]:
            work.say(line)
    return site


def _unplaced(work: Work, site: Site) -> tuple[dict[str, Entry], dict[str, bytes]]:
    """Platforms' folders, and files beside them, that are not in `out` as they are to be there."""
    shop, out, page = work.shop, work.order.out, site.results[report.NAME]
    folders = {
        platform: entry for platform, entry in site.finished.items() if not is_there(shop, entry, out / platform)
    }
    files = {name: shop.read(page, name) for name in page.files}
    return folders, {
        name: content
        for name, content in files.items()
        if not (out / name).is_file() or (out / name).read_bytes() != content
    }


def _place(work: Work, site: Site, folders: Mapping[str, Entry], files: Mapping[str, bytes]) -> None:
    """Put what is not there already into `out`: folders first, then the files beside them, the index last."""
    shop, out, page = work.shop, work.order.out, site.results[report.NAME]
    staged = {}
    for platform, entry in folders.items():
        staging = work.folder / platform
        shop.fetch(entry, staging, "folder")
        staged[platform] = staging / "folder"
    sections = [
        section
        for platform, staging in staged.items()
        if (section := migration.section(platform, out / platform / "sdk", staging / "sdk"))
    ]
    for platform, staging in staged.items():
        outputs.replace_folder(staging, out / platform, work.folder.parent)
    for name, content in files.items():
        outputs.save(content, out / name)
    if sections:
        _note(out, sections, work.say)
    known = {
        *outputs.files_in(out),
        *page.files,
        *([migration.NAME] if sections else []),
        f"{work.order.config.project.name}.safetensors",
        *_OF_OTHERS,
    }
    outputs.keep_line_ends(out, known)
    outputs.write_index(out, known)


def _note(out: Path, sections: list[str], say: Say) -> None:
    """Tell apps' developers what a rebuild changed; a file of that name that is somebody else's stays."""
    place = out / migration.NAME
    text = place.read_text(encoding="utf-8", errors="replace") if place.is_file() else ""
    if place.is_symlink() or (place.exists() and not (place.is_file() and migration.is_ours(text))):
        say(f"WARNING what apps rely on has changed, and '{place}' is no note of a build: move it away and build again")
        return
    outputs.save(migration.noted(text, sections), place)
    say(f"sdk: what apps rely on has changed: {place}")
