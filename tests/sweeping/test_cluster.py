"""The same jobs on Dask's workers, with a store on S3 as the only thing that they share."""

from __future__ import annotations

import json
import pickle

import pytest
from twinkeel.pipeline.errors import ConfigError, WorkerError
from twinkeel.pipeline.store.entries import Store
from twinkeel.pipeline.sweeping import crews, tasks


@pytest.fixture
def bucket(monkeypatch):
    """The address of a folder on an S3 server on loopback."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (("AWS_ENDPOINT_URL", f"http://{host}:{port}"), ("AWS_ACCESS_KEY_ID", "testing"),
                        ("AWS_SECRET_ACCESS_KEY", "testing"), ("AWS_DEFAULT_REGION", "us-east-1")):  # fmt: skip
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("s3://results")
    yield "s3://results/store"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def cluster():
    """The address of a scheduler with two workers, in threads of this process, one of which has a GPU, as it says."""
    distributed = pytest.importorskip("distributed")
    workers = {
        0: {"cls": distributed.Worker, "options": {"nthreads": 1}},
        1: {"cls": distributed.Worker, "options": {"nthreads": 1, "resources": {"GPU": 1}}},
    }
    scheduler = {
        "cls": distributed.Scheduler,
        "options": {"dashboard": False, "dashboard_address": None, "port": 0, "protocol": "tcp", "host": "127.0.0.1"},
    }
    with distributed.SpecCluster(workers=workers, scheduler=scheduler, silence_logs=40) as one:
        yield one.scheduler_address


def lowered(store):
    return {entry.key: dict(entry.files) for entry in store.usage().entries if entry.name.startswith("lower ")}


def test_a_cluster_makes_what_this_machine_makes(
    tiny, in_this_process, run_cli, bucket, cluster, monkeypatch, tmp_path
):
    sent = []
    submit = crews.Crew.submit
    monkeypatch.setattr(crews.Crew, "submit", lambda crew, task: sent.append(task) or submit(crew, task))
    monkeypatch.setattr(crews, "Staff", _here)
    path = tiny(("[4, 6]", "[4]"))
    here = run_cli("sweep", "-c", path, "-o", tmp_path / "here", "--store", tmp_path / "store")
    assert here.exit_code == 0, (here.output, here.exception)
    expected, count = lowered(Store(str(tmp_path / "store"))), len(sent)
    far = ("sweep", "-c", path, "-o", tmp_path / "far", "--store", bucket, "--scheduler", cluster, "--patience", 20)
    there = run_cli(*far, "--needs", "weights=GPU")
    assert there.exit_code == 0, (there.output, there.exception)
    assert lowered(Store(bucket)) == expected and len(expected) == 1 and len(sent) == 2 * count
    scores = [
        [one["score"] for one in json.loads((tmp_path / place / "sweep.json").read_text())["variants"]]
        for place in ("here", "far")
    ]
    assert scores[0] == scores[1]
    assert max(len(pickle.dumps(task)) for task in sent) < 40_000  # no model travels
    again = run_cli(*far)
    assert again.exit_code == 0 and "all results were in the store" in again.output, again.output
    usage = Store(bucket).usage(is_checked=True)
    assert not usage.damaged and len(usage.entries) >= count
    lacking = run_cli(*far, "--needs", "weights=TPU")
    assert isinstance(lacking.exception, WorkerError) and 'resources "TPU=1"' in str(lacking.exception)
    found = tasks.described()
    monkeypatch.setattr(crews, "versions", lambda: {**found["versions"], "torch": "1.0"})
    other = run_cli(*far)
    assert isinstance(other.exception, WorkerError) and f"torch {found['versions']['torch']} (here 1.0)" in str(
        other.exception
    )


def _here(number):
    from twinkeel.pipeline.store import Here

    return Here()


def test_a_scheduler_that_is_not_there_is_one_clear_error(tiny, run_cli, monkeypatch, tmp_path):
    pytest.importorskip("distributed")
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
