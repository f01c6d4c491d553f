"""Lowering: one artifact from the program, by its target's converter."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from ...program import Target, is_quantized
from ...store import Entry, Job
from ..site import CODE, Site, descriptive, job, load_program, module_of, numbers_of, reads


def name_of(target: str, precision: str) -> str:
    return f"lower {target} {precision}"


def lower_job(site: Site, target: Target, precision: str) -> Job:
    """Targets that share their ``build``, as XNNPACK's on both platforms do, share its results."""
    inputs = numbers_of(site, target.REFERENCES[precision])
    inputs["precision"] = precision
    known = descriptive(site)
    known["about"] = asdict(known["about"])
    inputs |= {name: known[name] for name in reads(target)}
    code = (target.build.__module__, f"{CODE}.stages.saved", f"{CODE}.stages.fold", module_of(site.create))
    return job("lower", name_of(target.NAME, precision), inputs, code, target.PACKAGES, by=__name__)


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """What a converter puts among temporary files, whole packages some of them, is gone with the build even where it forgets them or is killed."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="converter-", dir=folder, ignore_cleanup_errors=True) as name:
        tempfile.tempdir = name
        try:
            yield
        finally:
            tempfile.tempdir = before


def lowered(site: Site, target: Target, precision: str) -> Entry:
    """In a worker: the artifact, from the store or made."""

    def make(folder: Path) -> None:
        key = target.REFERENCES[precision]
        program = load_program(site, is_quantized=is_quantized(key), reads=reads(target), keys=(key,))
        with _temporary_files_in(folder.parent):
            path = target.build(program, precision, folder / f"artifact{target.SUFFIX}")
            if precision in getattr(target, "TWINS", ()):
                target.build_twin(program, precision, folder / f"twin{target.SUFFIX}")  # type: ignore[attr-defined]
        inside: dict[str, int] = target.inside(path) if hasattr(target, "inside") else {}
        (folder / "operators.json").write_text(json.dumps(target.operators(path) | inside))

    return site.workshop.make(lower_job(site, target, precision), make)
