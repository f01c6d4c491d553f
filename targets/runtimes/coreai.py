"""Core AI's own runtime, in a process of its own: on Linux the kernels for processors that its packages bring.

coreai-core 1.0.0b3 ends the process that reads a program which is none, and one in ten of those that have run a good one, as they end.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from twinkeel.pipeline.errors import PackageError

from . import packed

NAME = "Core AI"
PACKAGES = ("coreai-core",)
MODULES = ("coreai.runtime", "coreai.authoring.asset")
UNITS = ("CPU",)
EVIDENCE = "runtime"

SECONDS = 300.0
"""After which a run is given up; an image of 224 pixels takes one."""
_LENGTH = 8
"""Bytes in front of each message that say how many it has."""

_DOES_NOT_IMPORT = ("ImportError: ", "ModuleNotFoundError: ")
_NOTHING_SAID = "returned a result with an exception set"
"""What Python says of an error that native code lost: coreai-core 1.0.0b3 does as it reads what is no program of its own."""
_PROGRAM = "main.mlirb"

# what is told to the standard output is the answers alone: the runtime's own words go to the standard error
_CHILD = """
import asyncio, io, os, sys
import numpy as np

answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
from coreai.authoring.asset import AIModelAsset
from coreai.runtime import NDArray

def send(arrays):
    content = io.BytesIO()
    np.savez(content, *arrays)
    answers.write(content.tell().to_bytes(8, "little") + content.getvalue())
    answers.flush()

async def serve():
    async with AIModelAsset.load(sys.argv[1]).executable() as model:
        function = model.load_function("main")
        names = function.desc.input_names, function.desc.output_names
        send([])
        while length := sys.stdin.buffer.read(8):
            given = np.load(io.BytesIO(sys.stdin.buffer.read(int.from_bytes(length, "little"))), allow_pickle=False)
            inputs = [NDArray(np.ascontiguousarray(given[key])) for key in given.files]
            outputs = await function(dict(zip(names[0], inputs, strict=True)))
            send([outputs[name].numpy() for name in names[1]])

asyncio.run(serve())
os._exit(0)
"""


def load(artifact: Path | bytes, unit: str = "CPU") -> Callable[..., NDArray[np.float32]]:
    """A package, a folder, ready to run."""
    call = function(artifact)
    return lambda *inputs: packed(call(*inputs))


def function(artifact: Path | bytes) -> Callable[..., list[NDArray[Any]]]:
    """The one function of a package: its inputs, pixels first -> all its outputs.

    Raises:
        PackageError: Core AI refuses it, or ends its process, or does not answer; a run of it raises that too.
    """
    words = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the process
    command = [sys.executable, "-c", _CHILD, str(artifact)]
    # on macOS too the kernels that the package brings, and not those of the system: limits speak of them
    own = os.environ | {"USE_LOCAL_COREAI": "1"}
    is_loaded = False
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, env=own)

    def call(*inputs: NDArray[Any]) -> list[NDArray[Any]]:
        content = io.BytesIO()
        np.savez(content, *inputs)
        return answer(content.getvalue())

    def answer(content: bytes | None = None) -> list[NDArray[Any]]:
        nonlocal is_loaded
        try:
            with _no_longer_than(SECONDS, process):
                if content is not None:
                    _send(process, content)
                said = _received(process)
        except (OSError, EOFError) as error:
            how = _ending(process, words, is_loaded=is_loaded)
            raise PackageError(f"'{_name(artifact)}' does not run: {how}") from error
        is_loaded = True
        found = np.load(io.BytesIO(said), allow_pickle=False)
        return [found[key] for key in found.files]

    weakref.finalize(call, _end, process, words)
    answer()  # it is loaded
    return call


def _name(artifact: Path | bytes) -> str:
    return artifact.name if isinstance(artifact, Path) else "the artifact"


def _send(process: subprocess.Popen[bytes], content: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(len(content).to_bytes(_LENGTH, "little") + content)
    process.stdin.flush()


def _received(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    length = int.from_bytes(_whole(process.stdout, _LENGTH), "little")
    return _whole(process.stdout, length)


def _whole(stream: IO[bytes], length: int) -> bytes:
    content = stream.read(length)
    if len(content) < length:
        raise EOFError
    return content


@contextlib.contextmanager
def _no_longer_than(seconds: float, process: subprocess.Popen[bytes]) -> Iterator[None]:
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _ending(process: subprocess.Popen[bytes], words: IO[bytes], *, is_loaded: bool) -> str:
    """How it ended, its last words, and what to do.

    Args:
        is_loaded: it ended later than as it read the package.
    """
    code = process.wait()
    words.seek(0)
    last = words.read()[-10_000:].decode(errors="replace").strip().splitlines()[-1:]
    said = "".join(letter if letter.isprintable() else " " for letter in "".join(last))[:300]
    if said.startswith(_DOES_NOT_IMPORT):
        return f"Core AI itself does not import: {said}. `twinkeel doctor` says what to type."
    how = f"Core AI refuses it (exit code {code})" if code >= 0 else f"it ends Core AI's process by signal {-code}"
    if code < 0 and not is_loaded and (not said or _NOTHING_SAID in said):
        how += f" as that reads '{_PROGRAM}', which is damaged, or of another version of Core AI"
        said = ""
    return f"{how}: {said}. Build again." if said else f"{how}. Build again."


def _end(process: subprocess.Popen[bytes], words: IO[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    words.close()
