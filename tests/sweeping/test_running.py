"""Trials on their way: what is made once, what fails alone, and what ends a sweep."""

from __future__ import annotations

import errno
import json
import math
import pickle
import shutil
import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
from twinkeel.pipeline.building.jobs import data, latency
from twinkeel.pipeline.building.site import Site
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.errors import ConfigError, StoreError, SweepError, WorkerError
from twinkeel.pipeline.store.entries import Store
from twinkeel.pipeline.store.job import Job, Workshop
from twinkeel.pipeline.store.patience import Patient
from twinkeel.pipeline.sweeping import crews, running, sweep
from twinkeel.pipeline.sweeping.running import Yard
from twinkeel.pipeline.sweeping.tasks import Done, Task, Unfit, perform, versions


class Crew:
    """Keeps tasks until they are asked for; `answer` says what becomes of one."""

    number = 2

    def __init__(self, store, answer):
        self.store, self.answer, self.begun = store, answer, []

    def submit(self, task):
        self.begun.append(sorted(task.keys))
        future = Future()
        try:
            found = {name: self.answer(name, task) for name in task.keys}
            for name, key in task.keys.items():
                if found[name] is None:
                    found[name] = self.store.put(key, name, {}, self.store_folder)
            future.set_result(Done(found=found, seconds=0.0, peak=1))
        except Exception as error:
            future.set_exception(error)
        return future

    def leaves_out(self, error):
        return error.address == "late"

    def is_back(self):
        return self.number == 2

    def trouble(self, tasks):
        return f"no worker for {len(tasks)}"


def step(name, jobs):
    """A step whose jobs a function names: by trial, kinds by name."""

    def made(order, shop, site):
        return {
            one: Job(kind=kind, name=one, inputs={}, code=()) if kind else "the artifact comes"
            for one, kind in jobs(order, site).items()
        }

    return SimpleNamespace(
        __name__=f"steps.{name}",
        jobs=made,
        take=lambda order, shop, site, found: site.knowing({}, told=(*site.told, found)),
    )


@pytest.fixture
def yard(tmp_path):
    def make(answer=lambda name, task: None):
        store = Store(str(tmp_path / "store"))
        (tmp_path / "scratch").mkdir(exist_ok=True)
        (tmp_path / "result").mkdir(exist_ok=True)
        (tmp_path / "result" / "a").write_text("a")
        crew = Crew(store, answer)
        crew.store_folder = tmp_path / "result"
        return Yard(crew=crew, store=store, scratch=tmp_path / "scratch", say=lambda *_: None, patience=0)

    return make


def run(yard, count, steps):
    """So many trials through these steps; what each came to."""
    ended = {}
    build = SimpleNamespace(__module__="a converter")
    targets = {"android/onnx": SimpleNamespace(build=build, NAME="android/onnx")}

    def course(number):
        order = SimpleNamespace(config=Config(), create=math.sqrt, targets=targets, wanted=[], plans={}, number=number)
        return yard.course(number, f"trial {number}", order, steps)

    yard.run((course(number) for number in range(count)), lambda one: ended.update({one.number: one}))
    return ended


def test_what_several_need_is_made_once_and_what_is_there_not_at_all(yard):
    steps = [
        step("data", lambda order, site: {"data": "same"}),
        step("weights", lambda order, site: {"weights": f"of {order.number}"}),
    ]
    first = yard()
    ended = run(first, 5, steps)
    assert len(ended) == 5 and not any(one.trouble for one in ended.values())
    assert first.crew.begun.count(["data"]) == 1 and first.crew.begun.count(["weights"]) == 5
    again = yard()
    assert len(run(again, 5, steps)) == 5 and again.crew.begun == []
    assert list(again.made) == ["data", "weights"]  # as the steps come, whatever is made first


def test_a_job_that_fails_fails_those_that_need_it_and_no_other(yard):
    steps = [
        step(
            "weights",
            lambda order, site: {
                f"weights of {'bad' if order.number < 2 else order.number}": "bad" if order.number < 2 else "x"
            },
        )
    ]

    def diverges(name, task):
        if name == "weights of bad":
            raise ConfigError("it diverged")

    one = yard(diverges)
    ended = run(one, 4, steps)
    assert [ended[n].trouble for n in range(4)] == ["it diverged", "it diverged", "", ""]
    assert one.crew.begun.count(["weights of bad"]) == 1  # not again for the second


def test_a_worker_that_dies_of_an_artifact_fails_that_artifact(yard):
    names = [f"lower android/onnx {precision}" for precision in ("fp32", "int8")]

    def dies(name, task):
        if "lower android/onnx int8" in task.keys:
            raise WorkerError("its process was ended by SIGSEGV")

    jobs = lambda order, site: {names[0]: "a", names[1]: "b", "measure android/onnx int8": ""}  # noqa: E731
    one = yard(dies)
    (ended,) = run(one, 1, [step("artifact", jobs)]).values()
    (found,) = ended.site.told
    assert one.crew.begun == [names, names[:1], names[1:]] and not ended.trouble
    assert found[names[0]].name == names[0]
    assert "SIGSEGV" in found[names[1]].error and found["measure android/onnx int8"] == found[names[1]]


def test_a_damaged_result_is_made_anew(yard, tmp_path):
    one = yard()
    data = step("data", lambda order, site: {"data": "same"})

    def read(order, shop, site, found):
        shop.read(found["data"], "a")
        return site

    data.take = read
    run(one, 1, [data])
    for path in (tmp_path / "store" / "objects").rglob("*"):
        if path.is_file():
            path.write_text("b")
    again = yard()
    assert not run(again, 1, [data])[0].trouble and again.crew.begun == [["data"]]


def test_what_a_worker_finds_damaged_is_made_anew_before_it_is_asked_for_again(yard, tmp_path):
    """Of a file that is gone, the worker that reads it knows: the course that waits for it begins once more."""
    keys, known = [], []

    def reads(name, task):
        if name == "data":
            keys.append(task.keys[name])
        elif len(keys) == 1:
            known.append(known[0] if known else one.store.find(keys[0]))
            for path in (tmp_path / "store" / "objects").rglob("*"):
                if path.is_file():
                    path.unlink()
            one.store.read(known[0], "a")

    steps = [
        step("data", lambda order, site: {"data": "same"}),
        step("weights", lambda order, site: {"weights": f"of {order.number}"}),
    ]
    one = yard(reads)
    ended = run(one, 2, steps)
    assert not any(course.trouble for course in ended.values()) and one.crew.begun.count(["data"]) == 2, one.crew.begun


def test_a_shared_folder_that_is_away_is_waited_for(tmp_path):
    store = Store(str(tmp_path / "store"), 30)
    store.begin()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("a")
    np.save(tmp_path / "in" / "b.npy", np.arange(3))
    entry = store.put("0" * 64, "a", {}, tmp_path / "in")
    away = (tmp_path / "store").rename(tmp_path / "away")
    threading.Timer(0.5, away.rename, [tmp_path / "store"]).start()
    assert store.find("0" * 64) == entry
    away = (tmp_path / "store").rename(tmp_path / "away")
    threading.Timer(0.5, away.rename, [tmp_path / "store"]).start()
    assert store.rows(entry, "b.npy", tmp_path)[1] == 1
    (tmp_path / "store").rename(tmp_path / "away")
    with pytest.raises(OSError, match="is gone"):
        Store(str(tmp_path / "store"), 0.3).put("1" * 64, "a", {}, tmp_path / "in")
    assert not (tmp_path / "store").exists()


def test_a_store_that_is_gone_ends_the_sweep_and_a_deadline_begins_nothing_more(yard):
    def gone(name, task):
        raise StoreError("the store does not answer")

    steps = [step("data", lambda order, site: {"data": "same"})]
    with pytest.raises(StoreError, match="does not answer"):
        run(yard(gone), 3, steps)
    late = yard()
    late.deadline = time.monotonic() - 1
    assert run(late, 3, steps) == {} and late.crew.begun == []


def test_the_store_is_not_asked_again_for_what_was_made_or_found_just_now(yard, monkeypatch):
    asked = []
    find = Store.find
    monkeypatch.setattr(Store, "find", lambda store, key: asked.append((store.url, key)) or find(store, key))
    steps = [
        step("data", lambda order, site: {"data": "same"}),
        step("weights", lambda order, site: {"weights": f"of {order.number}"}),
    ]
    for _ in range(2):  # made, then found
        one = yard()
        run(one, 5, steps)
        of_store = [key for url, key in asked if url == one.store.url]
        assert len(of_store) - len(set(of_store)) <= 4, of_store  # those that began before the data were there
        asked.clear()


def test_a_job_that_a_worker_refuses_is_made_by_another(yard):
    said, refused = [], []

    def answer(name, task):
        if len(refused) < 2:
            refused.append(name)
            raise Unfit("other versions", "late")

    one = yard(answer)
    one.say = lambda line, progress=None: said.append(line)
    ended = run(one, 2, [step("data", lambda order, site: {"data": "same"})])
    assert len(refused) == 2 and not any(course.trouble for course in ended.values()) and len(ended) == 2
    assert said[0] == "worker late gets no more jobs: other versions"
    with pytest.raises(Unfit):
        run(yard(lambda name, task: exec("raise error", {"error": Unfit("other", "last")})), 1,
            [step("weights", lambda order, site: {"weights": "w"})])  # fmt: skip
    assert str(pickle.loads(pickle.dumps(Unfit("told", "address")))) == "told"


def test_what_a_scheduler_loses_is_asked_for_again_while_it_is_there(yard, monkeypatch):
    one, lost = yard(), []
    submit = one.crew.submit

    def loses(task):
        if len(lost) == 2:
            return submit(task)
        lost.append(Future())
        lost[-1].cancel()
        lost[-1].set_running_or_notify_cancel()
        return lost[-1]

    one.crew.submit = loses
    steps = [step("data", lambda order, site: {"data": "same"})]
    assert not run(one, 2, steps)[0].trouble and one.crew.begun == [["data"]]
    lost.clear()
    gone = yard()
    gone.crew.submit, gone.crew.number = loses, 1
    with pytest.raises(WorkerError, match="run the same command again"):
        run(gone, 1, [step("weights", lambda order, site: {"weights": "w"})])


def test_who_waits_is_told_why(yard, monkeypatch):
    said = []
    monkeypatch.setattr(running, "_QUIET", 0.02)
    one = yard()
    submit, waiting = one.crew.submit, []

    def late(task):
        future = Future()
        waiting.append((future, submit(task)))
        return future

    def say(line, progress=None):
        said.append(line)
        for future, made in waiting:
            future.set_result(made.result())
        waiting.clear()

    one.crew.submit, one.say = late, say
    run(one, 1, [step("data", lambda order, site: {"data": "same"})])
    assert said[0] == "waiting: no worker for 1"


def test_who_waits_is_told_what_is_at_work_and_for_how_long(yard, monkeypatch):
    monkeypatch.setattr(running, "_QUIET", 0.05)
    said, one = [], yard()
    one.say, one.crew.trouble = lambda line, progress=None: said.append(line), lambda tasks: ""
    submit, waiting = one.crew.submit, []

    def late(task):
        """As processes of this machine take them: the first at once, the others when one has ended."""
        future = Future()
        if not waiting:
            future.set_running_or_notify_cancel()
        made = submit(task)
        waiting.append(future)
        if len(waiting) == 3:
            for number, other in enumerate(waiting):
                threading.Timer(1.1 + 0.2 * number, other.set_result, [made.result()]).start()
        return future

    one.crew.submit = late
    run(one, 3, [step("weights", lambda order, site: {f"weights of {order.number}": f"{order.number}"})])
    told = [line for line in said if line.startswith("at work: ")]
    assert told[0] == "at work: weights of 0 of trial 0 for 0 s; 2 wait for a worker"
    assert "at work: weights of 0 of trial 0 for 1 s; 2 wait for a worker" in told, told


def test_of_two_that_make_the_same_at_a_time_the_first_is_right(tmp_path):
    store = Store(str(tmp_path / "store"))
    job = Job(kind="weights", name="weights", inputs={}, code=())

    def make(content):
        (tmp_path / content).mkdir()
        shop = Workshop(store=store, scratch=Store(str(tmp_path / content)), is_shared=True)

        def made(folder):
            if content == "slow":
                assert make("fast").files == store.find(job.key).files
            (folder / "a").write_text(content)

        return shop.make(job, made)

    assert store.read(make("slow"), "a") == b"fast" and store.read(store.find(job.key), "a") == b"fast"


def test_a_worker_of_other_versions_makes_nothing():
    site = Site(
        store="x",
        scratch="y",
        damaged=frozenset(),
        config=Config(),
        create=math.sqrt,
        results={},
        references={},
        made={},
        finished={},
    )
    task = Task(
        step="data", keys={}, asked=None, site=site, store="x", patience=0, versions={**versions(), "torch": "1.0"}
    )
    with pytest.raises(Unfit, match=r"other versions than the machine that asks: torch .* \(here 1\.0\); install"):
        perform(task)


class NoCredentialsError(Exception):
    """As botocore calls it."""


class NoSuchBucket(Exception):
    pass


def _behind(error, cause):
    error.__cause__ = cause
    return error


_BUCKET = _behind(FileNotFoundError("The specified bucket does not exist"), NoSuchBucket("of PutObject"))
_KEY = "The AWS Access Key Id you provided does not exist in our records."


@pytest.mark.parametrize(
    ("error", "is_local", "told"),
    [
        (_BUCKET, False, r"There is no 's3://results', and it is not made by itself: make it \(aws s3 mb s3://results\), or .* --store\.$"),
        (FileNotFoundError("x"), False, "There is no 's3://results'"),
        (NoCredentialsError("Unable to locate credentials"), False, r"missing, wrong or expired: set them \(AWS_ACCESS_KEY_ID .* every worker"),
        (PermissionError(_KEY), False, r"in our records\. The keys that lead to it"),
        (PermissionError("Access Denied"), False, "Who has these keys may not do that: allow reading, writing"),
        (PermissionError(errno.EACCES, "Permission denied"), True, "This user may not do that: allow .* --store, then run the same"),
        (OSError(errno.EROFS, "Read-only file system"), True, "It is read-only: mount it"),
        (OSError(errno.ENOSPC, "No space left"), True, "It is full: make room"),
        (ConnectionError("refused"), False, "run the same command again when it answers"),
    ],
)  # fmt: skip
def test_a_store_that_cannot_be_used_is_told_with_what_to_do(error, is_local, told, tmp_path):
    class Files:
        url, is_local = "s3://results/store", False

        def find(self, key):
            raise error

    files = Files()
    files.is_local = is_local
    shop = Workshop(store=files, scratch=Store(str(tmp_path)), is_shared=True)
    with pytest.raises(StoreError, match=told) as found:
        shop.lookup("0" * 64)
    assert ("when it answers" in str(found.value)) == isinstance(error, ConnectionError)


def test_a_file_system_without_keys_is_not_asked_again():
    class Files:
        def cat_file(self, path):
            raise NoCredentialsError("Unable to locate credentials")

    began = time.monotonic()
    with pytest.raises(NoCredentialsError):
        Patient(Files(), 2).cat_file("a")
    assert time.monotonic() - began < 0.2


def test_a_file_system_is_asked_again_until_it_answers():
    class Files:
        asked = 0

        def cat_file(self, path):
            self.asked += 1
            if path == "none":
                raise FileNotFoundError(path)
            if self.asked < 3:
                raise ConnectionError("refused")
            return b"content"

    files = Files()
    assert Patient(files, 5).cat_file("a") == b"content" and files.asked == 3
    with pytest.raises(FileNotFoundError):
        Patient(files, 5).cat_file("none")
    assert files.asked == 4
    files.asked = -100
    with pytest.raises(ConnectionError):
        Patient(files, 0.2).cat_file("a")


def test_resources_are_those_that_jobs_need():
    def task(step, device="cpu", keys=("weights",)):
        asked = SimpleNamespace(config=Config.model_validate({"train": {"device": device}}))
        return SimpleNamespace(step=step, keys=dict.fromkeys(keys, ""), asked=asked)

    needs = crews.parsed(["quantize=BIG", "ios/onnx = MAC"], ["ios/onnx"])
    assert crews.needed(task("weights"), needs) == set() and crews.needed(task("weights", "cuda"), {}) == {"GPU"}
    assert crews.needed(task("program", keys=["quantize"]), needs) == {"BIG"}
    assert crews.needed(task("artifact", keys=["lower ios/onnx fp32"]), needs) == {"MAC"}
    assert crews.needed(task("data"), {"all": "LINUX"}) == {"LINUX"}
    assert crews.is_here("data", Config()) and not crews.is_here("weights", Config())
    for wrong in ("weights", "nothing=GPU", "quantize="):
        with pytest.raises(ConfigError, match="--needs"):
            crews.parsed([wrong], [])


def test_latencies_are_taken_in_rounds_over_all_models_and_gone_on_with(
    tiny, in_this_process, run_cli, monkeypatch, tmp_path
):
    taken, last = [], 7

    def times(site, wanted, rounds):
        if len(taken) == last:
            raise KeyboardInterrupt
        model = site.config.model.arguments["channels"]
        taken.append(model)
        pace = 9.0 if len(taken) in (5, 6) else 1.0  # the machine is busy while the third round is taken
        return {" ".join(pair): [pace * model, 100.0, pace * model] for pair in wanted}

    monkeypatch.setattr(latency, "make_times", times)
    place = ("sweep", "-c", tiny(), "-o", tmp_path / "sweep", "--store", tmp_path / "store")
    stopped = run_cli(*place)
    assert stopped.exit_code != 0 and taken == [4, 6, 4, 6, 4, 6, 4]
    assert (
        "stopped: 2 of 2 variants are done, of which 0 with their latencies. What was made is kept: the same command"
        in stopped.output
    )
    last = 100
    told = run_cli(*place)
    assert told.exit_code == 0 and taken == [4, 6] * 5, (told.output, told.exception)
    assert (
        "the slowest of an artifact's 5 rounds took 9.00 times the fastest (median), 9.00 times at most" in told.output
    )
    assert "latency: 2 models, each timed in 5 rounds" in told.output and ", 0 of" not in told.output
    assert "2 variants: 2 models x 1 artifact, 2 workers" in told.output
    variants = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["variants"]
    assert [one["latency_ms"] for one in variants] == [4.0, 6.0]
    assert run_cli(*place).exit_code == 0 and len(taken) == 10


def test_what_is_done_is_counted_without_models_that_are_half_on_their_way():
    plan = type("Plan", (), {"artifacts": ["fp32", "int8"], "__len__": lambda self: 8})()
    said = []
    one = sweep.Sweep(plan=plan, yard=None, say=lambda line, progress=None: said.append((line, progress)))
    assert one.so_far() == "0 of 8 variants are done"
    one._found, one._half = dict.fromkeys(range(3)), {1}
    one._quiet = [SimpleNamespace(number=2)]
    assert one.so_far() == "4 of 8 variants are done, of which 2 with their latencies"
    one._tell(4)
    assert said[0][0].startswith("sweep: 2 of 4 models") and said[0][1] == (2, 4)


def test_calibration_images_that_are_not_as_many_as_asked_for_are_told_once(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "digests.json").write_text('{"calibration images": 60}')
    store, said = Store(str(tmp_path / "store")), []
    site = SimpleNamespace(data=store.put("0" * 64, "data", {}, tmp_path / "data"))
    shop = Workshop(store=store, scratch=Store(str(tmp_path)))
    plan = SimpleNamespace(artifacts=[], trials=[])
    one = sweep.Sweep(plan=plan, yard=SimpleNamespace(shop=lambda: shop), say=said.append)
    for asked, precision in ((64, "int8"), (64, "w4"), (60, "int8"), (64, "fp32"), (50, "int8")):
        config = Config.model_validate({"data": {"calibration": asked}})
        order = SimpleNamespace(config=config, wanted=[(None, precision)])
        one._through(SimpleNamespace(order=order, site=site), data)
    assert said == [
        "data: data.calibration = 64: 60 images are taken, for there are no more, or as many are of each class",
        "data: data.calibration = 50: 60 images are taken, for as many are of each class",
    ]


def test_a_sweep_from_the_command_to_its_kits(tiny, in_this_process, run_cli, tmp_path):
    place = ("-c", tiny(), "-o", tmp_path / "sweep", "--store", tmp_path / "store")
    shown = run_cli("sweep", *place, "--plan")
    assert (
        shown.output.endswith("2 variants: 2 models x 1 artifact (android/onnx fp32)\n")
        and not (tmp_path / "store").exists()
    )
    planned = json.loads(run_cli("sweep", *place, "--plan", "--json").stdout)
    useless = run_cli("sweep", *place, "--plan", "--kits", tmp_path / "out")
    assert useless.exit_code == 2 and "--kits is the folder of the variant that is picked" in useless.output
    same = run_cli("sweep", *place, "--pick", "min size", "--kits", tmp_path / "sweep")
    assert same.exit_code == 2 and "is the folder of the sweep's tables" in same.output
    (tmp_path / "file").write_text("")
    nowhere = run_cli("sweep", *place, "--pick", "min size", "--kits", tmp_path / "file" / "out")
    assert "another folder with --kits" in str(nowhere.exception) and not (tmp_path / "store").exists()
    first = run_cli("sweep", *place)
    assert first.exit_code == 0, (first.output, first.exception)
    told = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [one["state"] for one in told["variants"]] == ["verified", "verified"] and told["front"]
    assert planned["axes"] == told["axes"] and {one["state"] for one in planned["variants"]} == {"planned"}
    numbered = [[(one["number"], one["varied"]) for one in some["variants"]] for some in (planned, told)]
    assert numbered[0] == numbered[1]
    assert "1 data, 2 weights" in first.output and (tmp_path / "sweep" / "sweep.png").is_file()
    assert all(one["latency_ms"] > 0 and one["bytes"] > 1000 for one in told["variants"])
    again = run_cli("sweep", *place, "--pick", "min size", "--kits", tmp_path / "out", "--hours", "1")
    assert again.exit_code == 0, (again.output, again.exception)
    assert "all results were in the store" in again.output and "picked: 1, android/onnx fp32" in again.output
    artifact = next((tmp_path / "out" / "android" / "onnx").iterdir())
    assert artifact.stat().st_size == told["variants"][0]["bytes"]
    assert json.loads((tmp_path / "sweep" / "sweep.json").read_text())["picked"]["variant"] == 1
    refused = run_cli("sweep", *place, "--pick", "size <= 1kB", "--kits", tmp_path / "none", "--json")
    assert isinstance(refused.exception, SweepError) and not (tmp_path / "none").exists()
    assert len(json.loads(refused.stdout)["variants"]) == 2  # what was found is told all the same
    # a network that fails is a row with its reason
    shutil.rmtree(tmp_path / "sweep")
    broken = tiny(("[4, 6]", "[4, 0]"))
    some = run_cli("sweep", "-c", broken, *place[2:])
    assert some.exit_code == 0, (some.output, some.exception)
    states = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["variants"]
    assert [one["state"] for one in states] == ["verified", "failed"] and "fails on an input" in states[1]["reason"], (
        states[1]
    )
    assert run_cli("sweep", *place[:4], "--store", "none").exception.exit_code == 2
