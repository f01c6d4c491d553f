"""The store: what it gives is what was put in, or it says so."""

from __future__ import annotations

import json
import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from twinkeel.pipeline.building.jobs import latency
from twinkeel.pipeline.errors import StoreError, VerifyError
from twinkeel.pipeline.store import entries as stores
from twinkeel.pipeline.store import sources
from twinkeel.pipeline.store.entries import Damaged, Store
from twinkeel.pipeline.store.job import Job, Workshop, changes
from twinkeel.pipeline.store.sources import code_digest


def job(name="a", **inputs):
    return Job(kind="test", name=name, inputs=inputs or {"x": 1}, code=("twinkeel.pipeline.errors",))


def folder_of(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def filled(root, count=12):
    """A store with some results of random bytes, some files of which are equal."""
    store, source = Store(str(root / "store")), random.Random(0)
    entries = []
    for number in range(count):
        files = {"one.bin": source.randbytes(300), "deep/er/two.bin": b"the same everywhere", "empty": b""}
        made = folder_of(root / f"result-{number}", files)
        entries.append(store.put(job(x=number).key, f"job {number}", {"x": str(number)}, made))
    return store, entries


def test_what_is_put_in_comes_out(tmp_path):
    store, entries = filled(tmp_path)
    for number, entry in enumerate(entries):
        assert store.find(entry.key) == entry
        store.fetch(entry, tmp_path / f"out-{number}")
        for path in (tmp_path / f"result-{number}").rglob("*"):
            assert (
                not path.is_file()
                or (tmp_path / f"out-{number}" / path.relative_to(tmp_path / f"result-{number}")).read_bytes()
                == path.read_bytes()
            )
    assert store.find("0" * 64) is None
    assert store.usage().bytes == 12 * 300 + len(b"the same everywhere")  # equal files are kept once
    assert store.usage(is_checked=True).damaged == ()


def test_each_of_200_changed_bits_is_found_and_none_is_read(tmp_path):
    store, entries = filled(tmp_path)
    files = sorted(p for p in (tmp_path / "store").rglob("*") if p.is_file() and p.stat().st_size)
    chance = random.Random(1)
    found = 0
    for _ in range(200):
        path = chance.choice(files)
        content = bytearray(path.read_bytes())
        good = bytes(content)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        found += len(store.usage(is_checked=True).damaged) == 1
        for number, entry in enumerate(entries):
            known = store.find(entry.key)
            assert known in (entry, None)
            for name in entry.files if known else ():
                try:
                    assert store.read(entry, name) == (tmp_path / f"result-{number}" / name).read_bytes()
                except Damaged as error:
                    assert error.key == entry.key
        for number, entry in enumerate(entries):  # made again
            store.put(entry.key, entry.name, entry.ingredients, tmp_path / f"result-{number}")
        assert path.read_bytes() == good
    assert found == 200


def test_a_record_that_names_files_outside_is_none(tmp_path):
    store, (entry, *_) = filled(tmp_path)
    record = next((tmp_path / "store" / "records").rglob(entry.key))
    import hashlib

    for name in ("../x", "/etc/x", "a/../../x", "c:x", "a\\..\\x", "."):
        body = json.dumps(json.loads(record.read_text().split("\n")[0]) | {"files": {name: "0" * 64}}, sort_keys=True)
        record.write_text(f"{body}\n{hashlib.sha256(body.encode()).hexdigest()}\n")
        assert store.find(entry.key) is None, name
        store.put(entry.key, entry.name, entry.ingredients, tmp_path / "result-0")
    precious = tmp_path / "precious"
    precious.write_text("not the store's")
    for sha in ("../../../precious", str(precious), "0" * 63, "0" * 64 + "/x", 5, None):
        body = json.dumps(json.loads(record.read_text().split("\n")[0]) | {"files": {"f": sha}}, sort_keys=True)
        record.write_text(f"{body}\n{hashlib.sha256(body.encode()).hexdigest()}\n")
        assert store.find(entry.key) is None, sha
        store.put(entry.key, entry.name, entry.ingredients, tmp_path / "result-0")
    assert precious.read_text() == "not the store's"


def test_the_results_not_used_for_longest_go_first(tmp_path):
    store, entries = filled(tmp_path)
    paths = [next((tmp_path / "store" / "records").rglob(entry.key)) for entry in entries]
    for number, path in enumerate(paths):
        os.utime(path, (1000 + number, 1000 + number))
    assert store.find(entries[0].key)  # used just now
    (tmp_path / "store" / "objects" / ".partial-left").write_bytes(b"by a build that was killed")
    dropped, freed = store.prune(4 * 300 + 100)
    assert (dropped, freed) == (8, 8 * 300)
    assert {e.name for e in store.usage().entries} == {"job 0", "job 9", "job 10", "job 11"}
    assert store.usage(is_checked=True).damaged == ()
    assert not list((tmp_path / "store").rglob(".partial-*"))
    store.clear()
    assert store.usage().entries == () and store.usage().bytes == 0


def test_a_result_that_was_dropped_meanwhile_is_made_again(tmp_path):
    store, (entry, *_) = filled(tmp_path)
    next((tmp_path / "store" / "objects").rglob(entry.files["one.bin"])).unlink()
    with pytest.raises(Damaged):
        store.read(entry, "one.bin")
    assert store.find(entry.key) is None


def test_many_writers_of_the_same_results_leave_them_whole(tmp_path):
    def work(number):
        store = Store(str(tmp_path / "store"))
        made = folder_of(tmp_path / f"made-{number}", {"f": b"x" * 100_000})
        for turn in range(20):
            store.put(job(x=turn).key, "job", {}, made)
            assert store.read(store.find(job(x=turn).key), "f") == b"x" * 100_000

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert Store(str(tmp_path / "store")).usage(is_checked=True).damaged == ()


class Sick(Store):
    """A store whose `part` fails."""

    part = ""

    def put(self, *arguments):
        if self.part == "put":
            raise OSError(28, "No space left on device")
        return super().put(*arguments)

    def find(self, key):
        if self.part == "find":
            raise ConnectionError("the network is gone")
        return super().find(key)

    def read(self, entry, name):
        if self.part == "read":
            raise TimeoutError("too slow")
        return super().read(entry, name)


@pytest.mark.parametrize(
    ("part", "trouble"), [("put", "No space left"), ("find", "network is gone"), ("", "")], ids=["full", "gone", "well"]
)
def test_a_store_that_cannot_costs_time_and_no_result(part, trouble, tmp_path):
    store = Sick(str(tmp_path / "store"))
    store.part = part
    (tmp_path / "scratch").mkdir()
    shop = Workshop(store=store, scratch=Store(str(tmp_path / "scratch")))
    made = []

    def make(folder):
        made.append(folder)
        (folder / "f").write_bytes(b"content")

    for _ in range(2):
        entry = shop.make(job(), make)
        assert shop.read(entry, "f") == b"content"
    assert len(made) == 1
    assert (trouble in " ".join(shop.troubles)) and len(shop.troubles) == bool(trouble)


def test_a_store_that_fails_in_the_middle_has_damaged_results(tmp_path):
    store = Sick(str(tmp_path / "store"))
    (tmp_path / "scratch").mkdir()
    shop = Workshop(store=store, scratch=Store(str(tmp_path / "scratch")))
    entry = shop.make(job(), lambda folder: (folder / "f").write_bytes(b"content"))
    store.part = "read"
    with pytest.raises(Damaged):
        shop.read(entry, "f")
    again = Workshop(store=store, scratch=shop.scratch, damaged=frozenset([entry.key]))
    assert again.find(job()) is None


def test_no_room_anywhere_is_one_clear_error(tmp_path):
    (tmp_path / "scratch").mkdir()
    scratch = Sick(str(tmp_path / "scratch"))
    scratch.part = "put"
    with pytest.raises(StoreError, match="No space left"):
        Workshop(store=None, scratch=scratch).make(job(), lambda folder: (folder / "f").write_bytes(b""))


def test_other_file_systems_hold_a_store_too(tmp_path):
    store = Store("memory://twinkeel-test")
    made = folder_of(tmp_path / "made", {"f": b"content"})
    entry = store.put(job().key, "job", {}, made)
    assert store.find(job().key) == entry and store.read(entry, "f") == b"content" and not store.is_local
    assert store.usage(is_checked=True).damaged == ()
    store.clear()
    assert store.find(job().key) is None


@pytest.mark.parametrize("url", ["nonsense://x/y", "s3://"])
def test_an_address_that_is_none_is_one_clear_error(url):
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(url)


def test_a_key_follows_everything_that_goes_in(tmp_path):
    one = job(x=1)
    others = [
        job(x=2),
        job(y=1),
        Job(kind="other", name="a", inputs={"x": 1}, code=one.code),
        Job(kind="test", name="a", inputs={"x": 1}, code=("twinkeel.pipeline.names",)),
        Job(kind="test", name="a", inputs={"x": 1}, code=one.code, packages=("numpy",)),
        Job(kind="test", name="a", inputs={"x": 1}, code=one.code, glue=("twinkeel.pipeline.names",)),
    ]
    assert len({one.key, *(other.key for other in others)}) == 7
    assert job("another name", x=1).key == one.key


def test_a_key_is_never_made_of_a_file_that_is_not_there():
    entry = stores.Entry(
        key="", name="data", ingredients={}, bytes=2, files={"images.npy": "a" * 64, "more/x.npy": "b" * 64}
    )
    assert entry.digest("images.npy") != entry.digest("more") != entry.digest()
    with pytest.raises(KeyError, match=r"train-images\.npy"):
        entry.digest("train-images.npy")


def test_code_counts_with_all_that_it_imports(monkeypatch):
    def digest(changed=None):
        sources._source.cache_clear()
        code_digest.cache_clear()
        original = Path.read_bytes

        def read(path):
            content = original(path)
            return content + b"\n# changed\n" if changed and path.as_posix().endswith(changed) else content

        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", read)
            return code_digest(("twinkeel.targets.android.litert",))

    before = digest()
    assert digest() == before
    for part in ("targets/android/litert.py", "targets/_layers.py", "program/program.py", "program/compress.py"):
        assert digest(part) != before, part
    for part in ("targets/ios/coreml.py", "cli/command.py", "building/walk.py", "report/page.py"):
        assert digest(part) == before, part
    sources._source.cache_clear()
    code_digest.cache_clear()


def test_a_change_is_told_in_words():
    before = {"code of twinkeel": "1" * 64, "version of torch": "2.12.0", "labels": "3" * 64}
    now = {"code of twinkeel": "1" * 64, "version of torch": "2.13.0", "labels": "4" * 64}
    assert changes(before, now) == "labels changed; version of torch changed (2.12.0 -> 2.13.0)"
    assert changes(now, now) == "its result is gone from the store"


def test_the_commands_look_at_a_store_and_empty_it(run_cli, tmp_path):
    store, entries = filled(tmp_path)
    shown = json.loads(run_cli("cache", "show", "--store", store.url, "--json").output)
    assert shown["jobs"] == {"job": {"results": 12, "bytes": 12 * 319}}
    assert "12 results" in run_cli("cache", "show", "--store", store.url).output
    assert "none damaged" in run_cli("cache", "check", "--store", store.url).output
    next((tmp_path / "store" / "objects").rglob(entries[3].files["one.bin"])).write_bytes(b"other")
    checked = run_cli("cache", "check", "--store", store.url)
    assert isinstance(checked.exception, VerifyError) and entries[3].files["one.bin"] in checked.output
    assert "dropped 12" in run_cli("cache", "prune", "--store", store.url, "--max-gigabytes", 0).output
    assert "is empty" in run_cli("cache", "clear", "--store", store.url).output
    shutil.rmtree(tmp_path / "store")
    assert "0 results" in run_cli("cache", "show", "--store", store.url).output


def test_the_processor_is_part_of_a_latency():
    assert "cores" in latency.processor() and np.isfinite(len(latency.processor()))


def test_the_store_is_asked_once_for_what_it_has(tmp_path):
    """Targets that share an artifact have one key, and a remote store takes its time for every question."""
    asked = []

    class Counting(Store):
        def find(self, key):
            asked.append(key)
            return super().find(key)

    store, scratch = Counting(str(tmp_path / "store")), Store(str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    entry = Workshop(store=store, scratch=scratch).make(job(), lambda folder: (folder / "f").write_bytes(b"x"))
    asked.clear()
    again = Workshop(store=store, scratch=scratch)
    assert again.find(job()) == again.find(job()) == again.make(job(), lambda _: 1 / 0) == entry
    assert asked == [entry.key]


def test_what_a_job_takes_from_its_neighbours_is_part_of_its_key():
    from twinkeel.pipeline.building import site

    room = site.__package__
    made = site.job("report", "report", {}, (), (), by=f"{room}.jobs.report")
    assert {f"{room}.{name}" for name in ("jobs.report", "jobs.reference", "telling", "site")} <= set(made.glue)


@pytest.fixture(params=["local", "memory"])
def large(request, tmp_path, monkeypatch):
    """A store that takes every file for a large one, an entry with an array, and the array."""
    monkeypatch.setattr(stores, "_COPIES", {})
    monkeypatch.setattr(stores, "LARGE", 1)
    store = Store(str(tmp_path / "store") if request.param == "local" else f"memory://{tmp_path}/store")
    array = np.random.default_rng(0).integers(0, 256, (50, 4, 3), np.uint8)
    (tmp_path / "made").mkdir()
    np.save(tmp_path / "made" / "x.npy", array)
    (tmp_path / "made" / "empty").write_bytes(b"")
    entry = store.put("0" * 64, "large", {}, tmp_path / "made")
    shutil.rmtree(tmp_path / "made")  # as a job's folder goes
    return store, entry, array


def test_a_large_array_is_read_row_by_row(large, tmp_path):
    store, entry, array = large
    assert store.usage(is_checked=True).damaged == () and not list(tmp_path.rglob(".partial-*"))
    found = store.rows(entry, "x.npy", tmp_path)
    assert np.array_equal(np.asarray(found[[3, 40, 4]]), array[[3, 40, 4]])
    assert np.array_equal(store.array(entry, "x.npy"), array)
    store.clear()
    assert np.array_equal(np.asarray(found), array)  # what is open stays
    assert not list(tmp_path.glob("rows-*"))


def test_a_large_array_that_is_not_what_was_stored_is_not_read(large, tmp_path):
    store, entry, _ = large
    path = store._path("objects", entry.files["x.npy"])
    content = bytearray(store._fs.cat_file(path))
    for damage in (bytes(content[:-1]), bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:]), b"", None):
        store._fs.rm_file(path)
        if damage is not None:
            store._fs.pipe_file(path, damage)
        with pytest.raises(Damaged, match=r"large: x\.npy"):
            store.rows(entry, "x.npy", tmp_path)
        assert store.find(entry.key) is None and not store._fs.exists(path)
        store._fs.pipe_file(path, bytes(content))


def test_a_large_array_that_lies_elsewhere_is_copied_once(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "_COPIES", {})
    monkeypatch.setattr(stores, "_MOST_COPIES", 2)
    store, asked = Store(f"memory://{tmp_path}/store"), []
    get = store._fs.get_file
    monkeypatch.setattr(store._fs, "get_file", lambda path, here: asked.append(path[-3:]) or get(path, here))
    (tmp_path / "made").mkdir()
    for number in range(3):
        np.save(tmp_path / "made" / f"{number}.npy", np.full((2, 2), number))
    entry = store.put("0" * 64, "arrays", {}, tmp_path / "made")
    for number, copies in ((0, 1), (1, 2), (0, 2), (2, 3), (1, 3), (0, 4)):
        assert np.asarray(store.rows(entry, f"{number}.npy", tmp_path)).sum() == 4 * number
        assert len(asked) == copies, number


def test_a_large_file_on_another_disk_is_copied(tmp_path, monkeypatch):
    def another_disk(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(stores, "LARGE", 1)
    monkeypatch.setattr(stores.os, "link", another_disk)
    store, entries = filled(tmp_path)
    assert store.usage(is_checked=True).damaged == ()
    assert store.read(entries[3], "one.bin") == (tmp_path / "result-3/one.bin").read_bytes()


def test_what_a_build_used_stays_however_much_it_is(tmp_path):
    store, entries = filled(tmp_path)
    for number, entry in enumerate(entries):
        path = next((tmp_path / "store" / "records").rglob(entry.key))
        os.utime(path, (1000 + number, 1000 + number))
    assert store.prune(0, since=1008) == (8, 8 * 300)
    assert {entry.name for entry in store.usage().entries} == {"job 8", "job 9", "job 10", "job 11"}
    assert store.prune(0) == (4, 4 * 300 + len(b"the same everywhere"))
