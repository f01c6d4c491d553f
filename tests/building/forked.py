"""Builds in processes that have torch and the converters already: forked from one that imported them once.

All that is asked of the process of a build is asked of a fork as well: that it is killed, that two of them are at work, that
there is no room. Its jobs run in itself.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

IMPORTED = (
    "torch", "torchao.quantization.pt2e.quantize_pt2e", "executorch.backends.xnnpack.quantizer.xnnpack_quantizer", "onnx",
    "onnxscript", "onnxruntime", "sklearn.datasets", "scipy.stats", "scipy.optimize", "matplotlib.figure", "psutil",
    "twinkeel.pipeline.building.runner", "twinkeel.pipeline.cli",
)  # fmt: skip


class Started:
    """A build at work, with what tests ask of `subprocess.Popen`."""

    def __init__(self, arguments: list[str], largest: int | None) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(IMPORTED))
        self._log = tempfile.NamedTemporaryFile(prefix="twinkeel-build-", suffix=".log")  # noqa: SIM115
        self._process = context.Process(target=_work, args=(self._log.name, arguments, largest))
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("twinkeel", timeout or 0)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        self.wait(timeout)
        return Path(self._log.name).read_text(), None


def start(root: Path, out: Path, store: Path, *arguments: str, largest: int | None = None) -> Started:
    """As `disturbed.start`; no file that it writes becomes larger than the `largest` bytes, as on a full disk."""
    given = ["build", "all", "-c", root / "twinkeel.toml", "-o", out, "--store", store, *arguments]
    return Started(list(map(str, given)), largest)


def _work(log: str, arguments: list[str], largest: int | None) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    if largest is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    from twinkeel.pipeline.building import runner
    from twinkeel.pipeline.cli import main
    from twinkeel.pipeline.store import Here

    runner.Workers = lambda *_: Here()  # type: ignore[attr-defined]
    sys.argv = ["twinkeel", *arguments]
    main()
