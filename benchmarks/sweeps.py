"""Sweeps: of 24 variants here, killed and gone on with; the same on a Dask cluster with the store on S3; and how planning and a pass
with nothing to do grow with the number of variants.

sweeps.py local [--out FOLDER]
sweeps.py cluster [--out FOLDER] [--repeats N] [--json FILE]      takes the packages of the extras `cluster` and `test`
sweeps.py speed [--repeats N] [--json FILE]     of these the sweeps by one and by two workers alone, of MobileNetV2
sweeps.py growth [--most N] [--json FILE]

Servers and workers are processes of this machine, and speak over loopback alone. `--json` puts what was found into a file, beside what
another of these found: docs/benchmarks/sweeps.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TWINKEEL = [sys.executable, "-c", "from twinkeel.pipeline.cli import main; main()"]
NETWORK = """
from torch import nn


def create(num_classes, channels=8):
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 3, 2, 1), nn.BatchNorm2d(2 * channels), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8 * channels, num_classes),
    )
"""
CONFIGURATION = """[model]
factory = "net.py:create"
[data]
calibration = 64
[train]
epochs = 4
[quantize]
minutes = 0
[sweep]
model.arguments.channels = [4, 8]
model.resolution = [16, 24]
train.seed = [0, 1]
target = ["android/onnx"]
precision = ["fp32", "int8"]
"""
OF_24 = CONFIGURATION.replace("train.seed = [0, 1]", "train.seed = [0, 1, 2]")
OF_MOBILENETS = """[model]
name = "mobilenet_v2"
[data]
calibration = 64
[train]
epochs = 8
[quantize]
minutes = 0
[sweep]
model.width = [0.2, 0.35]
model.resolution = [24, 32]
train.seed = [0, 1, 2]
target = ["android/onnx"]
precision = ["fp32", "int8"]
"""
WISH = "accuracy >= 0.8, size <= 10kB, min latency"


def written(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.py").write_text(NETWORK)
    (folder / "twinkeel.toml").write_text(text)
    return folder / "twinkeel.toml"


def sweep(config: Path, out: Path, store: str, *more: str, **options: Any) -> subprocess.Popen[str]:
    command = [*TWINKEEL, "sweep", "-c", str(config), "-o", str(out), "--store", store, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def ended(process: subprocess.Popen[str]) -> list[str]:
    told = process.communicate()[0]
    assert process.returncode == 0, told[-4000:]
    return told.splitlines()


def made(lines: list[str]) -> list[str]:
    """The jobs that a sweep made, by their names and trials."""
    return [line.rpartition(": ")[0] for line in lines if line.startswith("made: ")]


def lowered(store: str) -> dict[str, dict[str, str]]:
    """By key of its job, the hashes of each artifact's files."""
    from twinkeel.pipeline.store.entries import Store

    return {entry.key: dict(entry.files) for entry in Store(store).usage().entries if entry.name.startswith("lower ")}


def until(process: subprocess.Popen[str], wanted: int) -> list[str]:
    """What it says, up to so many jobs that were made."""
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip())
        if len(made(lines)) >= wanted:
            break
    return lines


def local(root: Path) -> None:
    config = written(root, OF_24)
    process = sweep(config, root / "sweep", str(root / "store"))
    before = until(process, 20)
    process.send_signal(signal.SIGKILL)
    process.wait()
    began = time.monotonic()
    after = ended(sweep(config, root / "sweep", str(root / "store"), "--pick", WISH, "--kits", str(root / "out")))
    seconds = time.monotonic() - began
    twice = set(made(before)) & set(made(after))
    print(
        f"killed after {len(made(before))} tasks; {len(made(after))} made afterwards in {seconds:.0f} s; twice: {sorted(twice)}"
    )
    print("\n".join(line for line in after if line.startswith(("picked", "sweep:", "all verified"))))
    began = time.monotonic()
    again = ended(sweep(config, root / "sweep", str(root / "store")))
    print(f"once more: {len(made(again))} tasks made, {time.monotonic() - began:.1f} s")
    with (root / "sweep" / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    print(
        f"{len(rows)} variants: {sum(row['state'] in ('verified', 'open') for row in rows)} passed, {sum(bool(row['front']) for row in rows)} on the front"
    )


@contextlib.contextmanager
def process(*command: str, env: dict[str, str] | None = None, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as stream:
        one = subprocess.Popen(command, env=env, stdout=stream, stderr=subprocess.STDOUT)
    try:
        yield one
    finally:
        one.send_signal(signal.SIGCONT)
        one.terminate()
        try:
            one.wait(20)
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def listening(port: int, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < end, f"nothing listens at {port}"
            time.sleep(0.1)


class Counted:
    """A way to a port on which bytes are counted."""

    def __init__(self, to: int) -> None:
        self.port, self.to, self.bytes = free_port(), to, 0
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        listening(self.port)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._joined, "127.0.0.1", self.port)
        async with server:
            await server.serve_forever()

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.to)
        await asyncio.gather(self._passed(reader, back), self._passed(there, writer))

    async def _passed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(1 << 16):
                self.bytes += len(part)
                writer.write(part)
                await writer.drain()
        writer.close()


@contextlib.contextmanager
def bucket(root: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """An S3 server on loopback with a bucket, and the environment that leads to it."""
    port = free_port()
    env = os.environ | {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
    with process(*command, env=env, log=root / "s3.log") as server:
        listening(port)
        os.environ.update(env)
        import s3fs

        s3fs.S3FileSystem().mkdir("s3://twinkeel")
        yield server, env


@contextlib.contextmanager
def cluster(root: Path, number: int, env: dict[str, str]) -> Iterator[tuple[Counted, list[subprocess.Popen[bytes]]]]:
    """A scheduler, a counted way to it, and so many workers of one thread."""
    port = free_port()
    dask = (sys.executable, "-m")
    one_thread = env | {"OMP_NUM_THREADS": "1"}
    with contextlib.ExitStack() as stack:
        scheduler = (
            *dask,
            "distributed.cli.dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--no-dashboard",
        )
        stack.enter_context(process(*scheduler, log=root / "scheduler.log"))
        listening(port)
        way = Counted(port)
        workers = []
        for n in range(number):
            command = (*dask, "distributed.cli.dask_worker", f"tcp://127.0.0.1:{way.port}", "--nthreads", "1", "--no-nanny", "--no-dashboard",
                       "--memory-limit", "0", "--local-directory", str(root / f"worker-{n}"))  # fmt: skip
            workers.append(stack.enter_context(process(*command, env=one_thread, log=root / f"worker-{n}.log")))
        yield way, workers


def processor_seconds(pid: int) -> float:
    """Of a process and all that it started, so far."""
    import psutil

    one = psutil.Process(pid)
    times = [other.cpu_times() for other in (one, *one.children(recursive=True))]
    return sum(each.user + each.system + each.children_user + each.children_system for each in times)


def on_workers(root: Path, number: int, repeat: int, env: dict[str, str], server: int) -> dict[str, Any]:
    """One sweep on so many workers with nothing known, and what it took."""
    store, name = f"s3://twinkeel/{number}-{repeat}", f"cluster-{number}-{repeat}"
    with cluster(root, number, env) as (way, workers):
        load, began, before = os.getloadavg()[0], time.monotonic(), processor_seconds(server)
        command = os.times()
        told = ended(
            sweep(root / "twinkeel.toml", root / name, store, "--scheduler", f"tcp://127.0.0.1:{way.port}", env=env)
        )
        seconds, after = time.monotonic() - began, os.times()
        tasks = len(made(told))
        found = {
            "workers": number,
            "seconds": round(seconds, 1),
            "processor seconds of each worker": [round(processor_seconds(one.pid), 1) for one in workers],
            "processor seconds of the command": round(
                after.children_user + after.children_system - command.children_user - command.children_system, 1
            ),
            "processor seconds of the S3 server": round(processor_seconds(server) - before, 1),
            "tasks": tasks,
            "bytes through the scheduler for a task": round(way.bytes / tasks),
            "load before and after": [round(load, 1), round(os.getloadavg()[0], 1)],
        }
    print(found, flush=True)
    return found | {"artifacts": lowered(store)}


def on_cluster(root: Path, repeats: int) -> dict[str, Any]:
    config = written(root, OF_24)
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    began, load = time.monotonic(), os.getloadavg()[0]
    here = ended(sweep(config, root / "local", str(root / "store"), env=env))
    print(f"here: {len(made(here))} tasks, {time.monotonic() - began:.0f} s, load {load:.1f}", flush=True)
    expected = lowered(str(root / "store"))
    with bucket(root) as (server, way_to_s3):
        runs = pairs(root, repeats, way_to_s3, server.pid)
        equal = [run.pop("artifacts") == expected for run in runs]
        print(f"artifacts equal to those made here: {equal}, {len(expected)} each", flush=True)
        with cluster(root, 2, way_to_s3) as (way, workers):
            store, began = "s3://twinkeel/disturbed", time.monotonic()
            running = sweep(
                config, root / "disturbed", store, "--scheduler", f"tcp://127.0.0.1:{way.port}", env=way_to_s3
            )
            before = until(running, 20)
            server.send_signal(signal.SIGSTOP)
            workers[0].kill()
            time.sleep(20)
            server.send_signal(signal.SIGCONT)
            print(f"disturbed after {len(made(before))} tasks: a worker killed, the store stopped for 20 s", flush=True)
            told = [*before, *ended(running)]
        disturbed = {
            "a worker was killed and the S3 server stopped for 20 s after so many tasks": len(made(before)),
            "seconds": round(time.monotonic() - began, 1),
            "tasks": len(made(told)),
            "artifacts equal to those made here": lowered(store) == expected,
            "what failed": [line for line in told if line.startswith("FAILED")],
        }
        print(disturbed, flush=True)
    return {
        "variants": 24,
        "artifacts": len(expected),
        "runs": runs,
        "artifacts equal to those made here": all(equal),
        **speed_ups(runs),
        "disturbed": disturbed,
    }


def pairs(root: Path, repeats: int, env: dict[str, str], server: int) -> list[dict[str, Any]]:
    """Sweeps by one and by two workers, in turn, so that what else the machine does meets both."""
    return [on_workers(root, number, repeat, env, server) for repeat in range(repeats) for number in (1, 2)]


def speed(root: Path, repeats: int) -> dict[str, Any]:
    written(root, OF_MOBILENETS)
    with bucket(root) as (server, env):
        runs = pairs(root, repeats, env, server.pid)
    artifacts = [run.pop("artifacts") for run in runs]
    is_equal = all(one == artifacts[0] for one in artifacts)
    return {"variants": 24, "runs": runs, "artifacts equal": is_equal, **speed_ups(runs)}


def speed_ups(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of two workers over one, pair by pair: of the seconds, and of the processor seconds that one after another takes, which other work
    on the machine does not change: the command's, and those of the worker that has most."""

    def alone(run: dict[str, Any]) -> float:
        return float(run["processor seconds of the command"] + max(run["processor seconds of each worker"]))

    both = list(zip(runs[::2], runs[1::2], strict=True))
    found = {
        "speed-up in seconds": [round(one["seconds"] / two["seconds"], 2) for one, two in both],
        "speed-up in processor seconds": [round(alone(one) / alone(two), 2) for one, two in both],
    }
    print(found, flush=True)
    return found


OF_ONE = (
    CONFIGURATION.replace("[4, 8]", "[4]")
    .replace("[16, 24]", "[16]")
    .replace("[0, 1]", "[0]")
    .replace(', "int8"]', "]")
)


class StandIn:
    """Makes nothing: each job gets the files of the same job of another trial, and weights of its own, so that all keys differ."""

    number = 1

    def __init__(self, store: Any) -> None:
        self.store = store
        self.known = {entry.name: entry for entry in store.usage().entries}

    def submit(self, task: Any) -> Any:
        from concurrent.futures import Future

        from twinkeel.pipeline.sweeping.tasks import Done

        found = {}
        for name, key in task.keys.items():
            for one in {name, name.replace("lower", "measure")} & self.known.keys():
                entry = self.known[one]
                with tempfile.TemporaryDirectory() as folder:
                    self.store.fetch(entry, Path(folder))
                    if name in ("weights", "quantize"):
                        for file in ("weights.safetensors", "quantized.pt2"):
                            if (Path(folder) / file).exists():
                                (Path(folder) / file).write_text(key)
                    if one == name:
                        found[name] = self.store.put(key, name, {}, Path(folder))
        future: Future[Any] = Future()
        future.set_result(Done(found=found, seconds=0.0, peak=0))
        return future


def since(began: tuple[float, float]) -> list[float]:
    """Seconds, and those of the processor, since a pair of them."""
    return [round(time.monotonic() - began[0], 2), round(time.process_time() - began[1], 2)]


def passed(config: Path, store_url: str, root: Path, *, fills: bool) -> dict[str, Any]:
    """Plan all variants, and go over them: once to fill a store with stand-ins, once where all is there."""
    from twinkeel.pipeline.cli import sweeping as command
    from twinkeel.pipeline.store.entries import Store
    from twinkeel.pipeline.sweeping.running import Yard
    from twinkeel.pipeline.sweeping.sweep import Sweep

    began, store = (time.monotonic(), time.process_time()), Store(store_url)
    plan = command._planned(config, root / "kits", lambda *_: None)
    planned, peak = since(began), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    crew: Any = StandIn(store) if fills else None
    (root / "scratch").mkdir(exist_ok=True)
    began = time.monotonic(), time.process_time()
    quiet = lambda *_: None  # noqa: E731
    yard = Yard(crew=crew or StandIn.__new__(StandIn), store=store, scratch=root / "scratch", say=quiet, patience=0)
    lines = Sweep(plan=plan, yard=yard, say=quiet).lines()
    taken = since(began)
    states = {state: sum(line.state == state for line in lines) for state in {line.state for line in lines}}
    return {
        "variants": len(lines),
        "planning_s": planned,
        "planning_peak_mb": round(peak / 1024, 1),
        "pass_s": taken,
        "pass_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "made": sum(map(len, yard.made.values())),
        "states": states,
    }


def growth(root: Path, most: int) -> dict[str, Any]:
    ended(sweep(written(root / "one", OF_ONE), root / "one" / "sweep", str(root / "store"), "--jobs", "1"))
    count, found = 10, []
    while count <= most:
        seeds = OF_ONE.replace("train.seed = [0]", f"train.seed = {list(range(count))}")
        written(root / str(count), seeds)
        for which in ("fill", "warm"):
            command = [
                sys.executable,
                __file__,
                "pass",
                "--out",
                str(root / str(count)),
                "--store",
                str(root / "store"),
                "--how",
                which,
            ]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            one = {"pass": which, **json.loads(done.stdout), "load": round(os.getloadavg()[0], 1)}
            print(one, flush=True)
            found.append(one)
        count *= 10
    return {"passes": found}


def machine() -> str:
    from twinkeel.pipeline.building.jobs.latency import processor

    return processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["local", "cluster", "speed", "growth", "pass"])
    parser.add_argument("--out", type=Path, help="Folder that keeps what was made; a temporary one without it.")
    parser.add_argument("--most", type=int, default=10_000, help="Variants, of growth.")
    parser.add_argument("--repeats", type=int, default=2, help="Of the sweeps by one and by two workers.")
    parser.add_argument("--json", type=Path, help="Where to put what was found, beside what is there.")
    parser.add_argument("--store", help="Of a pass.")
    parser.add_argument("--how", choices=["fill", "warm"], help="Of a pass.")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = (wanted.out or Path(name)).resolve()
        root.mkdir(parents=True, exist_ok=True)
        if wanted.which == "pass":
            print(json.dumps(passed(root / "twinkeel.toml", wanted.store, root, fills=wanted.how == "fill")))
            return
        found = None
        if wanted.which == "growth":
            found = growth(root, wanted.most)
        elif wanted.which == "cluster":
            found = on_cluster(root, wanted.repeats)
        elif wanted.which == "speed":
            found = speed(root, wanted.repeats)
        else:
            local(root)
        if wanted.json is not None and found is not None:
            known = json.loads(wanted.json.read_text()) if wanted.json.exists() else {}
            known[wanted.which] = {"machine": machine(), **found}
            wanted.json.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
