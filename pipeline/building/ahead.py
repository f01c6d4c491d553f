"""Work that needs no quantized program, done by a worker while the ladder is at work in the build's own process.

The ladder is one long job on one core, and of what follows nothing can begin without it but this: weights in fewer bits, and
what float references say. It lies in the store when its step looks for it there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from ..program import UNROUNDED, compressed_in, is_quantized, references
from ..store import Job
from .jobs import compress, reference
from .site import Site, compress_name
from .waiting import completed
from .work import Work, in_store


@contextlib.contextmanager
def beside(work: Work, site: Site) -> Iterator[None]:
    """Begin it before the ladder, and wait for it after. What fails is left to its own step, which makes it again and says why."""
    order, shop = work.order, work.shop
    if work.number < 2 or not order.wanted:  # nobody else is there, or nothing is to follow
        yield
        return
    floating = [
        key
        for key in references.keys(order.wanted)
        if not (is_quantized(key.removesuffix(UNROUNDED)) or compressed_in(key))
    ]
    known = compress.jobs(order, shop, site)
    known |= {reference.name_of(key): reference.reference_job(site, key) for key in floating}
    missing = {name: job for name, job in known.items() if isinstance(job, Job) and shop.find(job) is None}
    weights = [key for key in compress.keys(order) if compress_name(key) in missing]
    first = [key for key in floating if reference.name_of(key) in missing]
    if not missing:
        yield
        return
    work.say(f"meanwhile: {', '.join(missing)}")
    then = [key for key in references.keys(order.wanted) if compressed_in(key) in weights]
    begun = work.submit(make, site, first, weights, then)
    yield
    (ended,) = completed(work.say, [begun], "meanwhile", in_store(work, list(missing.values())))
    if ended.exception() is None:
        ran, lines = ended.result()
        work.ran += ran
        for line in lines:
            work.say(line)


def make(site: Site, first: Sequence[str], weights: Sequence[str], then: Sequence[str]) -> tuple[list[str], list[str]]:
    """In a worker: some references, compressed weights, and the references that have those.

    Returns:
        names of the jobs, and what was said of the weights.
    """
    reference.make_references(site, first)
    names, lines = [reference.name_of(key) for key in (*first, *then)], []
    for key in weights:
        entry, line = compress.compressed(site, key)
        site = site.knowing({compress_name(key): entry})
        lines.append(line)
        names.append(compress_name(key))
    reference.make_references(site, then)
    return names, lines
