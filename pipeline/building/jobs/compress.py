"""The compressed weights: of each reference whose weights alone are in fewer bits, once for all targets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...program import COMPRESSED, compressed_in
from ...store import Entry, Job, Workshop
from ..order import Order
from ..site import CODE, Site, compress_name, job, load_program, module_of, numbers_of
from ..waiting import completed
from ..work import Found, Work, awaited, entries, in_store
from .data import inputs_in, part_of


def jobs(order: Order, shop: Workshop, site: Site) -> dict[str, Job | str]:
    wait = awaited(site, "data", "weights", "original")
    return {compress_name(key): wait or compress_job(site, key) for key in keys(order)}


def make(work: Work, site: Site, missing: Mapping[str, Job]) -> Found:
    wanted = [key for key in keys(work.order) if compress_name(key) in missing]
    work.say(f"compress: {', '.join(wanted)}")
    waiting = {work.submit(compressed, site, key): key for key in wanted}
    found: dict[str, Entry] = {}
    for future in completed(work.say, waiting, "compress", in_store(work, [missing[compress_name(k)] for k in wanted])):
        entry, line = future.result()
        found[compress_name(waiting[future])] = entry
        work.say(line)
    return found


def take(order: Order, shop: Workshop, site: Site, found: Found) -> Site:
    return site.knowing(entries(found))


def keys(order: Order) -> list[str]:
    return sorted({key for t, precision in order.wanted if (key := compressed_in(t.REFERENCES[precision]))})


def compress_job(site: Site, key: str) -> Job:
    inputs = {**numbers_of(site, "fp32"), "bits": COMPRESSED[key]}
    if _is_fitted(site):
        inputs["calibration images"] = inputs_in(site.data, "calibration")
    code = (
        module_of(site.create),
        *(f"{CODE}.stages.{name}" for name in ("weight_only", "equalize", "saved", "fold")),
        f"{CODE}.program.compress",
    )
    return job("compress", compress_name(key), inputs, code, ("torch", "numpy", "safetensors"), by=__name__)


def _is_fitted(site: Site) -> bool:
    """Without any minutes nothing is searched for, here as in the ladder; how many there are changes nothing."""
    return site.config.quantize.minutes > 0


def compressed(site: Site, key: str) -> tuple[Entry, str]:
    """In a worker: the weights, from the store or made, and what was said of them."""
    from ...stages import saved, weight_only
    from ...store import light_objects, one_thread

    shop = site.workshop
    said: list[str] = []

    def write(folder: Path) -> None:
        program = load_program(site, is_quantized=False)
        bits = COMPRESSED[key]

        def say(line: str, *_: object) -> None:
            said.append(line)

        with one_thread(), light_objects():
            if _is_fitted(site):
                images = part_of(shop, site.data, "calibration").inputs
                found = weight_only.compressed(program.folded, images, bits, say)
            else:
                found = weight_only.rounded(program.folded, bits, say)
        (folder / "weights.safetensors").write_bytes(saved.write_compressed(found))

    entry = shop.make(compress_job(site, key), write)
    return entry, said[-1] if said else f"{compress_name(key)}: it was there"
