"""Readers of files that others may have written: damaged ones end in an error of ours, never in anything else."""

from __future__ import annotations

import json
import random
import shutil

import numpy as np
import pytest
from twinkeel.pipeline import config, device, manifest
from twinkeel.pipeline.errors import PackageError, TwinkeelError
from twinkeel.targets.ios import mil_executor

TOKENS = (
    b"nan", b"-1", b"1e999", b'"', b"{", b"[", b"]", b"}", b"\0", b"\xff", b"null", b"true", b"9" * 30, b"[[[[[[",
    b'"\\ud800"', b"..", b"/", b"\n[a]\n", b"a=1\n", b"'''", b"=", b",", b"1979-05-27T07:32:00", b"\xf0\x9f\x98\x80",
)  # fmt: skip


def mangled(whole, draw):
    """Text with bytes changed, tokens put in, and parts cut out, doubled or replaced."""
    found = bytearray(whole)
    for _ in range(draw.choice([1, 1, 2, 4, 16])):
        start = draw.randrange(len(found) + 1)
        kind = draw.randrange(5)
        if kind == 0 and start < len(found):
            found[start] = draw.randrange(256)
        elif kind == 1:
            found[start:start] = draw.choice(TOKENS)
        elif kind == 2:
            del found[start : start + draw.randrange(1, 40)]
        elif kind == 3:
            found[start:start] = found[start : start + draw.randrange(1, 200)]
        else:
            found[start : start + draw.randrange(1, 12)] = draw.choice(TOKENS)
    return bytes(found)


def flipped(whole, draw):
    """Of the same length, for formats in which a wrong length ends everything at once."""
    found = bytearray(whole)
    for _ in range(draw.choice([1, 1, 2, 3])):
        found[draw.randrange(len(found))] = draw.randrange(256)
    return bytes(found)


def fuzz(read, path, change, count):
    """Change a file `count` times and read it; some must still be accepted, or nothing past the syntax is tried."""
    whole, draw, accepted = path.read_bytes(), random.Random(0), 0
    for _ in range(count):
        path.write_bytes(change(whole, draw))
        try:
            read()
            accepted += 1
        except TwinkeelError as error:
            assert len(str(error)) < 20_000
    path.write_bytes(whole)
    print(f"{path.name}: {count} inputs, {accepted} accepted")
    assert 0 < accepted < count


def test_configurations(tmp_path):
    path = tmp_path / "twinkeel.toml"
    path.write_text(config.template())
    fuzz(lambda: config.load(path), path, mangled, 1000)


@pytest.fixture
def folder(default_build, tmp_path):
    return shutil.copytree(default_build.folders["android"], tmp_path / "android")


def test_manifests(folder):
    fuzz(lambda: manifest.read_manifest(folder), folder / "manifest.json", mangled, 500)


def test_golden_vectors(folder):
    fuzz(lambda: manifest.read_golden(folder / "golden"), folder / "golden" / "golden.json", mangled, 500)


def test_results_of_devices(tmp_path):
    path = tmp_path / "results.json"
    run = {"units": "CPU", "logits": {"black": [0.5, None], "white": [1e30, -0.0]}}
    path.write_text(
        json.dumps(
            {
                "schema_version": 1,
                "target": "android/litert",
                "precision": "int8",
                "artifact_sha256": "0" * 64,
                "device": {"system": "Android 15", "machine": "Google Pixel 9"},
                "runs": [run],
            }
        )
    )
    fuzz(lambda: device.read_results(path), path, mangled, 1000)


@pytest.fixture
def package(default_build, tmp_path):
    name = "mobilenet_v2-w4.mlpackage"
    return shutil.copytree(default_build.folders["ios"] / "coreml" / name, tmp_path / name)


@pytest.fixture
def spec_file(package):
    (path,) = package.rglob("*.mlmodel")
    return path


def classify(package):
    mil_executor.Model(package).classify(np.zeros((32, 32, 3), np.uint8))


def test_packages(package, spec_file):
    fuzz(lambda: classify(package), spec_file, flipped, 500)


def nameless(operations):
    del next(op for op in operations if op.type == "const").outputs[:]


def of_no_known_type(operations):
    next(op for op in operations if op.type == "conv").outputs[0].type.tensorType.dataType = 88


def string_without_a_value(operations):
    pad = next(op for op in operations if op.type == "const" and op.attributes["val"].type.tensorType.dataType == 2)
    del pad.attributes["val"].immediateValue.tensor.strings.values[:]


@pytest.mark.parametrize("damage", [nameless, of_no_known_type, string_without_a_value])
def test_packages_that_once_got_through(damage, package, spec_file):
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model.FromString(spec_file.read_bytes())
    function = spec.mlProgram.functions["main"]
    damage(function.block_specializations[function.opset].operations)
    spec_file.write_bytes(spec.SerializeToString())
    with pytest.raises(PackageError):
        classify(package)
