"""The other side of a replay: artifacts and golden inputs in, outputs and the machine's description out.

`replay` sends this module, so it knows numpy and what was sent with it, and judges nothing; Python 3.10.
"""

from __future__ import annotations

import base64
import importlib
import importlib.metadata
import importlib.util
import io
import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import machine

REQUEST = "request.json"
"""In the archive: ``runtimes`` (modules by name) and ``tasks`` (number, runtime, artifact, is_folder, and of each of
its inputs name, dtype and shape)."""

MOST_OPERATIONS = 10_000
"""Of a plan; MobileNetV2 has 150."""

Send = Callable[[Mapping[str, Any]], None]


def serve(mark: str, archive: zipfile.ZipFile) -> None:
    """Answer a request with frames on standard output: lines of a mark and JSON.

    Without tasks, runtimes are looked for and not imported, which takes seconds. ``machine`` comes first; then of each runtime ``runtime`` before it is imported and ``imported`` or ``missing`` after it;
    of each task ``begin``, ``plan`` where the runtime has one, ``outputs`` of each of the runtime's units, or ``failed``; ``end`` at last.
    """
    send = _frames(mark)
    request = json.loads(archive.read(REQUEST))
    described = {"machine": machine.here(), "boot": machine.boot(), "python": sys.version.split()[0]}
    send({"kind": "machine", **described})
    for name, module in request["runtimes"].items():
        send({"kind": "runtime", "name": name})
        runtime = importlib.import_module(module)
        if reason := _missing(runtime, is_shallow=not request["tasks"]):
            send({"kind": "missing", "name": name, "reason": reason[:1000]})
            continue
        send({"kind": "imported", "name": name, "versions": _versions(runtime.PACKAGES)})
        for task in request["tasks"]:
            if task["runtime"] == name:
                _run(task, runtime, archive, send)
    send({"kind": "end"})


def _frames(mark: str) -> Send:
    """Writes frames to where standard output went; whatever native code prints goes to standard error from now on."""
    sys.stdout.flush()
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def send(frame: Mapping[str, Any]) -> None:
        # a line of its own, whatever was printed before without an end
        stream.write(f"\n{mark} {json.dumps(frame)}\n".encode("ascii"))
        stream.flush()

    return send


def _missing(runtime: Any, *, is_shallow: bool) -> str:
    """Why a runtime is not there, in words; empty where it is."""
    if reason := getattr(runtime, "missing", str)():
        return str(reason)
    try:
        absent = [module for module in runtime.MODULES if importlib.util.find_spec(module.split(".")[0]) is None]
        if absent:
            return f"not installed: no module '{absent[0].split('.')[0]}'"
        for module in () if is_shallow else runtime.MODULES:
            importlib.import_module(module)
    except ModuleNotFoundError as error:
        return f"not installed: {error}"
    except Exception as error:  # native libraries that do not fit this machine raise anything
        return f"installed, but it cannot be imported: {type(error).__name__}: {error}"
    return ""


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def _run(task: Mapping[str, Any], runtime: Any, archive: zipfile.ZipFile, send: Send) -> None:
    number = task["number"]
    inputs = [np.frombuffer(archive.read(one["name"]), one["dtype"]).reshape(one["shape"]) for one in task["inputs"]]
    for unit in runtime.UNITS:
        send({"kind": "begin", "number": number, "unit": unit})
        try:
            with tempfile.TemporaryDirectory() if task["is_folder"] else io.BytesIO() as place:
                artifact = _artifact(archive, task["artifact"], place)
                run = runtime.load(artifact, unit)
                parts = []
                for image in range(len(inputs[0])):
                    parts.append(np.ascontiguousarray(run(*(one[image : image + 1] for one in inputs)), "<f4"))
                    send({"kind": "alive"})
                outputs = np.concatenate(parts)
                if hasattr(run, "plan"):
                    send({"kind": "plan", "number": number, "unit": unit, **_plan(run)})
                del run  # before its files go
        except Exception as error:  # each runtime has errors of its own for what it does not take
            reason = f"{type(error).__name__}: {str(error).strip()[:500]}"
            send({"kind": "failed", "number": number, "unit": unit, "reason": reason})
            continue
        content = base64.b64encode(outputs.tobytes()).decode("ascii")
        send({"kind": "outputs", "number": number, "unit": unit, "shape": list(outputs.shape), "content": content})


def _plan(run: Any) -> dict[str, Any]:
    """Which operation is computed where; none of them, and why, where the system does not tell."""
    try:
        return {"operations": [[str(word)[:200] for word in one] for one in run.plan()][:MOST_OPERATIONS], "reason": ""}
    except Exception as error:  # what ran is told all the same
        return {"operations": [], "reason": f"{type(error).__name__}: {str(error).strip()[:200]}"}


def _artifact(archive: zipfile.ZipFile, name: str, place: Any) -> Path | bytes:
    """The content of a file, which needs no place on this machine; a folder is written below `place`."""
    if not isinstance(place, str):
        return archive.read(name)
    for member in archive.namelist():
        if member.startswith(f"{name}/"):
            archive.extract(member, place)
    return Path(place) / name
