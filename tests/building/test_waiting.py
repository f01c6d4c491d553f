"""What a build says while workers are at work: something every half minute, and nothing twice before."""

from __future__ import annotations

from concurrent.futures import Future
from itertools import pairwise
from types import SimpleNamespace

import pytest
from twinkeel.pipeline.building import waiting
from twinkeel.pipeline.building.jobs import artifact, compress, latency, reference
from twinkeel.pipeline.building.site import Made


class Workers:
    """Workers and a clock that goes on only while somebody waits.

    Args:
        ends: the second at which each call in turn ends.
        stored: the second from which the store has a job, by its key.
    """

    def __init__(self, monkeypatch, results, ends, stored):
        self.now, self.lines, self.results, self.stored = (
            0.0,
            [],
            dict(zip(map(float, ends), results, strict=True)),
            stored,
        )
        self.ends = list(self.results)
        self.futures = {}
        self.number = len(self.ends)
        self.shop = SimpleNamespace(lookup=lambda key: True if self.now >= stored[key] else None, asked={})
        monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(waiting, "wait", self.wait)
        self.order, self.peak = SimpleNamespace(wanted=[], targets={}), 0

    def say(self, line, progress=None):
        self.lines.append((self.now, line, progress))

    def submit(self, function, *args):
        future = Future()
        self.futures[future] = self.ends[len(self.futures)]
        return future

    def wait(self, futures, timeout, mode):
        first = min(self.futures[one] for one in futures)
        self.now = min(self.now + timeout, max(first, self.now))
        done = {one for one in futures if self.futures[one] <= self.now}
        for one in done:
            one.set_result(self.results[self.futures[one]])
        return SimpleNamespace(done=done)


def _compress(workers, monkeypatch):
    monkeypatch.setattr(compress, "keys", lambda order: ["w4", "w8"])
    missing = {f"compress {key}": SimpleNamespace(key=key) for key in ("w4", "w8")}
    found = compress.make(workers, None, missing)
    assert found == {"compress w4": 1, "compress w8": 2}
    assert [line for _, line, _ in workers.lines if line in ("one", "two")] == ["two", "one"]  # as they end


def _references(workers, monkeypatch):
    monkeypatch.setattr(reference.references, "keys", lambda wanted: ["w4", "w8"])
    missing = {f"reference {key}": SimpleNamespace(key=key) for key in ("w4", "w8")}
    assert reference.make(workers, None, missing) == {"reference w4": 1, "reference w8": 2}


def _artifacts(workers, monkeypatch):
    target = SimpleNamespace(NAME="a/b", build=_artifacts, __name__="b")
    workers.order = SimpleNamespace(wanted=[(target, "w4"), (target, "w8")], targets={"a/b": target})
    monkeypatch.setattr(artifact.lower, "lower_job", lambda site, target, precision: SimpleNamespace(key=precision))
    monkeypatch.setattr(artifact, "_tasks", lambda *_: [[[("a/b", "w4")]], [[("a/b", "w8")]]])
    made = artifact.make(workers, None, {"lower a/b w4": None, "lower a/b w8": None})
    assert len(made) == 4


def _latency(workers, monkeypatch):
    monkeypatch.setattr(latency, "running", lambda order, site: {})
    assert latency.taken(workers, None) == {"a": [1.0]}


NOT_MADE = [Made(lowered=None, measured=None, error="no")]


@pytest.mark.parametrize(
    ("make", "results", "ends"),
    [
        (_compress, [(1, "one"), (2, "two")], [440, 95]),
        (_references, [{"w4": 1}, {"w8": 2}], [440, 95]),
        (_artifacts, [NOT_MADE, NOT_MADE], [440, 95]),
        (_latency, [{"a": [1.0]}], [440]),
    ],
)
def test_workers_are_never_silent_for_more_than_half_a_minute_and_nothing_is_said_twice_before(
    monkeypatch, make, results, ends
):
    workers = Workers(monkeypatch, results, ends, {"w4": 300, "w8": 94})
    make(workers, monkeypatch)
    times = [0.0, *(when for when, _, _ in workers.lines), workers.now]
    assert max(b - a for a, b in pairwise(times)) <= waiting.SILENT, workers.lines
    said = {}
    for when, line, _ in workers.lines:
        what = line.split(" after ")[0]
        assert when - said.get(what, -99) >= waiting.SILENT, workers.lines
        said[what] = when
    assert workers.now == 440 and 14 <= len(workers.lines) <= 24, workers.lines


def test_what_the_store_has_more_than_before_is_said_at_once(monkeypatch):
    workers = Workers(monkeypatch, [{"w4": 1}, {"w8": 2}], [440, 95], {"w4": 301, "w8": 12})
    _references(workers, monkeypatch)
    told = [(when, line, progress) for when, line, progress in workers.lines if progress]
    assert (15.0, "references: 1 of 2 after 15 s", (1, 2)) in told
    assert next(when for when, _, progress in told if progress == (2, 2)) <= 301 + waiting.EVERY


def test_a_worker_that_fails_ends_the_waiting(monkeypatch):
    failed, at_work = Future(), Future()
    failed.set_exception(ZeroDivisionError())
    found = waiting.completed(lambda *_: None, [at_work, failed], "work")
    with pytest.raises(ZeroDivisionError):
        next(found).result()


def test_references_are_dealt_out_by_what_they_take():
    """Sums in float64 take five times as long as integers: two of the three that have them are not for one worker of two with the rest."""
    keys = ["fp32", "int8", "int8-fp16", "int8-fp16-unrounded", "int8-onnxruntime", "int8-xnnpack"]
    slow, rest = reference.shares_of(keys, 2)
    assert slow == ["int8", "int8-fp16-unrounded"] and set(rest) == set(keys) - set(slow)
    assert reference.shares_of(["fp32", "int8"], 4) == [["int8"], ["fp32"]]
    assert reference.shares_of(keys, 1) == [[*sorted(keys, key=lambda key: (-reference.references.cost(key), key))]]
