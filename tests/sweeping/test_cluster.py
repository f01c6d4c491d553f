"""The same jobs on Dask's workers, with a store on S3 as the only thing that they share."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import pickle
import threading
import time
from types import SimpleNamespace

import pytest
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.errors import ConfigError, WorkerError
from twinkeel.pipeline.store import Here
from twinkeel.pipeline.store.entries import Store
from twinkeel.pipeline.store.job import Job, Workshop
from twinkeel.pipeline.sweeping import crews, tasks
from twinkeel.pipeline.sweeping.running import Yard
from twinkeel.pipeline.sweeping.tasks import Done, Unfit


def needed(name):
    """A package of the extra `cluster`, or for its tests: skipped where it is not installed, an error where `CI` is set."""
    return importlib.import_module(name) if os.environ.get("CI") else pytest.importorskip(name)


class Bucket:
    """A folder on an S3 server on loopback, which counts what it is asked. While it `is_away` it answers as one does that restarts."""

    url = "s3://results/store"

    def __init__(self):
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self._answer, self.asked, self.refused = DomainDispatcherApplication(create_backend_app), 0, 0
        self.is_away = threading.Event()
        self.server = make_server("127.0.0.1", 0, self, threaded=True)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def __call__(self, environ, start):
        self.asked += 1
        if self.is_away.is_set():
            self.refused += 1
            start("503 Service Unavailable", [("Content-Length", "0")])
            return [b""]
        return self._answer(environ, start)


@pytest.fixture
def bucket(monkeypatch):
    s3fs = needed("s3fs")
    needed("moto.server")
    one = Bucket()
    for name, value in (("AWS_ENDPOINT_URL", f"http://127.0.0.1:{one.server.port}"), ("AWS_ACCESS_KEY_ID", "testing"),
                        ("AWS_SECRET_ACCESS_KEY", "testing"), ("AWS_DEFAULT_REGION", "us-east-1")):  # fmt: skip
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("s3://results")
    yield one
    s3fs.S3FileSystem.clear_instance_cache()
    one.server.shutdown()
    one.server.server_close()
    one.thread.join()


@pytest.fixture
def cluster():
    """A scheduler with two workers, in threads of this process, one of which has a GPU, as it says."""
    dask, distributed = needed("dask"), needed("distributed")
    workers = {
        0: {"cls": distributed.Worker, "options": {"nthreads": 1}},
        1: {"cls": distributed.Worker, "options": {"nthreads": 1, "resources": {"GPU": 1}}},
    }
    scheduler = {
        "cls": distributed.Scheduler,
        "options": {"dashboard": False, "dashboard_address": None, "port": 0, "protocol": "tcp", "host": "127.0.0.1"},
    }
    # of one that a test ends nobody is waited for
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "2s"}),
        distributed.SpecCluster(workers=workers, scheduler=scheduler, silence_logs=40) as one,
    ):
        yield one


def lowered(store):
    return {entry.key: dict(entry.files) for entry in store.usage().entries if entry.name.startswith("lower ")}


def test_a_cluster_makes_what_this_machine_makes(
    tiny, in_this_process, run_cli, bucket, cluster, monkeypatch, tmp_path
):
    sent, made_by = [], []
    submit, perform = crews.Crew.submit, tasks._performed

    def submitted(crew, task):
        sent.append(task)
        if len(sent) == count + 4:  # in the middle of the second sweep
            bucket.is_away.set()
            threading.Timer(1.5, bucket.is_away.clear).start()
        return submit(crew, task)

    def performed(task):
        made_by.append((task.step, tasks._address()))
        return perform(task)

    count = math.inf
    monkeypatch.setattr(crews.Crew, "submit", submitted)
    monkeypatch.setattr(tasks, "_performed", performed)
    monkeypatch.setattr(crews, "Staff", lambda number: Here())
    path = tiny(("[4, 6]", "[4]"))
    here = run_cli("sweep", "-c", path, "-o", tmp_path / "here", "--store", tmp_path / "store")
    assert here.exit_code == 0, (here.output, here.exception)
    expected, count = lowered(Store(str(tmp_path / "store"))), len(sent)
    address, (cpu, gpu) = cluster.scheduler_address, (cluster.workers[n].worker_address for n in (0, 1))
    far = ("sweep", "-c", path, "-o", tmp_path / "far", "--store", bucket.url, "--scheduler", address)
    made_by.clear()
    there = run_cli(*far, "--patience", 60, "--needs", "weights=GPU")
    assert there.exit_code == 0, (there.output, there.exception)
    assert lowered(Store(bucket.url)) == expected and len(expected) == 1 and len(sent) == 2 * count
    assert bucket.refused > 0
    assert ("weights", gpu) in made_by and ("data", "") in made_by and made_by[-1] == ("latency", "")
    assert {where for step, where in made_by if step not in crews.HERE} <= {cpu, gpu}
    scores = [
        [one["score"] for one in json.loads((tmp_path / place / "sweep.json").read_text())["variants"]]
        for place in ("here", "far")
    ]
    assert scores[0] == scores[1]
    assert max(len(pickle.dumps(task)) for task in sent) < 40_000  # no model travels
    before = bucket.asked
    again = run_cli(*far)
    assert again.exit_code == 0 and "all results were in the store" in again.output, again.output
    assert bucket.asked - before < 40  # each result, and the small files that say what comes next
    usage = Store(bucket.url).usage(is_checked=True)
    assert not usage.damaged and len(usage.entries) >= count
    lacking = run_cli(*far, "--needs", "weights=TPU")
    assert isinstance(lacking.exception, WorkerError) and 'resources "TPU=1"' in str(lacking.exception)


@pytest.fixture
def yard(cluster, tmp_path, monkeypatch):
    """Where one job is made by workers of the cluster: what `answer` gives is its result, in the worker."""
    distributed, ended = needed("distributed"), []

    @contextlib.contextmanager
    def opened(answer):
        store = Store(str(tmp_path / "store"))
        (tmp_path / "scratch").mkdir()

        def perform(task):
            where = distributed.get_worker().address
            folder = tmp_path / f"made-{where.rpartition(':')[2]}"
            folder.mkdir(exist_ok=True)
            shop = Workshop(store=store, scratch=Store(str(tmp_path / "scratch")), is_shared=True)

            def make(result):
                (result / "a").write_text(answer(where))

            done = Done(found={"weights": shop.make(job, make)}, seconds=0.0, peak=1)
            ended.append(where)
            return done

        monkeypatch.setattr(tasks, "_performed", perform)
        monkeypatch.setattr(tasks, "_ALONE", contextlib.nullcontext())  # workers have a process each, but here
        with distributed.Client(cluster.scheduler_address, timeout=2, set_as_default=False) as client:
            crew = crews.Crew(number=2, here=Here(), cluster=client)
            yield Yard(crew=crew, store=store, scratch=tmp_path / "scratch", say=lambda *_: None, patience=0)

    job = Job(kind="weights", name="weights", inputs={}, code=())
    opened.ended = ended
    opened.step = SimpleNamespace(
        __name__="steps.weights",
        jobs=lambda order, shop, site: {"weights": job},
        take=lambda order, shop, site, found: site.knowing(found),
    )
    return opened


def run(one, step):
    """The course of one trial, at its end."""
    ended = []
    order = SimpleNamespace(config=Config(), create=math.sqrt, wanted=[], plans={}, targets={})
    one.run(iter([one.course(0, "a", order, (step,))]), ended.append)
    return ended[0]


def test_a_worker_that_is_lost_costs_its_jobs_time_though_it_works_on(yard, cluster):
    began, is_over = [], threading.Event()

    def answer(where):
        began.append(where)
        if len(began) == 1:  # a network that is gone, for the scheduler: the job goes on
            scheduler = cluster.scheduler
            cluster.sync(scheduler.remove_worker, where, stimulus_id="lost")
            assert is_over.wait(20)
        return where

    with yard(answer) as one:
        course = run(one, yard.step)
        assert not course.trouble and len(set(began)) == 2
        assert one.shop().read(course.site.weights, "a") == began[1].encode()
        is_over.set()
        end = time.monotonic() + 20
        while len(yard.ended) < 2 and time.monotonic() < end:
            time.sleep(0.02)
    assert yard.ended == began[::-1]
    assert one.store.read(one.store.find(course.site.weights.key), "a") == began[1].encode()


def test_a_worker_that_comes_later_with_other_versions_is_worked_without(yard):
    refused = []

    def answer(where):
        if not refused or where in refused:
            refused.append(where)
            raise Unfit("it has other versions", where)
        return where

    with yard(answer) as one:
        course = run(one, yard.step)
    assert len(refused) == 1 and not course.trouble and one.crew.unfit == set(refused)


def test_a_scheduler_that_goes_ends_the_sweep_with_one_clear_error(yard, cluster):
    def answer(where):
        threading.Thread(target=cluster.sync, args=(cluster.scheduler.close,)).start()
        time.sleep(0.5)
        return where

    with yard(answer) as one, pytest.raises(WorkerError, match="same command again when it answers"):
        run(one, yard.step)


def test_versions_are_compared_before_there_is_work(tiny, in_this_process, run_cli, cluster, monkeypatch, tmp_path):
    found = tasks.described()["versions"]
    monkeypatch.setattr(crews, "versions", lambda: {**found, "torch": "1.0"})
    asked = ("sweep", "-c", tiny(), "-o", tmp_path / "far", "--store", tmp_path / "store")
    other = run_cli(*asked, "--scheduler", cluster.scheduler_address)
    assert isinstance(other.exception, WorkerError) and f"torch {found['torch']} (here 1.0)" in str(other.exception)
    assert not (tmp_path / "store").exists()


def test_a_scheduler_that_is_not_there_is_one_clear_error(tiny, run_cli, monkeypatch, tmp_path):
    needed("distributed")
    monkeypatch.setattr(crews, "_TIMEOUT", 1)
    result = run_cli(
        "sweep",
        "-c",
        tiny(),
        "-o",
        tmp_path / "sweep",
        "--store",
        tmp_path / "store",
        "--scheduler",
        "tcp://127.0.0.1:9",
    )
    assert isinstance(result.exception, ConfigError) and "no Dask scheduler answers at 'tcp://127.0.0.1:9'" in str(
        result.exception
    )
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("address", ["foo", "tcp://127.0.0.1", "http://127.0.0.1:8787", "gopher://127.0.0.1:70"])
def test_what_is_no_address_of_a_scheduler_is_refused_before_anything_is_begun(address):
    with (
        pytest.raises(ConfigError, match=f"'{address}' is no address of a Dask scheduler"),
        crews.of_cluster(address, {}, [], print),
    ):
        pass
