"""Files that were made to harm: each ends in one clear error, soon, and in little memory."""

from __future__ import annotations

import argparse
import collections
import io
import itertools
import json
import math
import os
import struct
import subprocess
import time
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from twinkeel.pipeline import config, data, reading
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.delivery import device, manifest, signature
from twinkeel.pipeline.errors import (
    ConfigError,
    ConversionError,
    DataError,
    PackageError,
    SignatureError,
    VerifyError,
    WeightsError,
)
from twinkeel.pipeline.files import read_json, write_json
from twinkeel.pipeline.program import layers
from twinkeel.pipeline.stages.weights import load_into
from twinkeel.pipeline.tasks import classification
from twinkeel.targets.ios import classify, mil_executor

SEEDS = Path(__file__).parent / "corpus" / "seeds"
LONGEST = 20.0
"""Seconds of a processor that one file of tensors may take."""
HUGE = 10**12
"""Bytes of sparse files, which take no room on the disk."""


@pytest.fixture
def little_memory():
    """At most 1 GB more than now: what would take more fails with another message than ours."""
    import executorch.exir._serialize._program  # noqa: F401
    from ai_edge_litert.tools import flatbuffer_utils  # noqa: F401

    resource = pytest.importorskip("resource")
    status = Path("/proc/self/statm")
    if not status.exists():
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(status.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + 10**9, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def sparse(path, size=HUGE):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.truncate(size)
    return path


def short(error):
    """The message, which must be one that a person can read."""
    text = str(error.value)
    assert len(text) < 3000 and all(c.isprintable() or c == "\n" for c in text), text
    return text


# JSON: manifest, golden vectors, layers, results of devices

JSON = {
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a little deep": b'{"schema_version": 1, "files": ' + b"[" * 900 + b"]" * 900 + b"}",
    "long number": b'{"schema_version": ' + b"9" * 5000 + b"}",
    "infinite number": b'{"schema_version": 1e999999}',
    "NaN": b'{"schema_version": NaN}',
    "half a character": b'{"schema_version": 1, "files": {"\\ud800": "x"}, "names": ["\\udfff"]}',
    "key twice": b'{"schema_version": 1, "schema_version": 1, "files": {}}',
    "not UTF-8": b'{"schema_version": "\xff"}',
    "empty": b"",
    "null": b"null",
    "number": b"1",
    "controls": b'{"schema_version": "\x1b[2J\\u001b[2J\\n", "names": ["\\u202e"]}',
}


def read_parity(folder):
    write_json({"artifacts": []}, folder / "x.json")
    device._row(read_json(folder / "parity.json"), {"target": "x", "precision": "int8"})


READERS = {
    "manifest.json": manifest.read_manifest,
    "golden.json": manifest.read_golden,
    "layers.json": lambda folder: layers.read(folder, 2),
    "results.json": lambda folder: device.read_results(folder / "results.json"),
    "parity.json": read_parity,
}


@pytest.mark.parametrize("content", JSON)
@pytest.mark.parametrize("name", READERS)
def test_json(name, content, tmp_path):
    (tmp_path / name).write_bytes(JSON[content])
    with pytest.raises(VerifyError) as raised:
        READERS[name](tmp_path)
    assert name in short(raised) or str(tmp_path) in short(raised)


@pytest.mark.parametrize("name", READERS)
def test_json_without_an_end(name, tmp_path, little_memory):
    sparse(tmp_path / name)
    with pytest.raises(VerifyError, match=r"1,000,000,000,000 bytes; at most"):
        READERS[name](tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "endless", "folder"])
@pytest.mark.parametrize("name", READERS)
def test_json_that_is_no_plain_file(name, kind, tmp_path):
    if kind == "pipe":
        os.mkfifo(tmp_path / name)
    elif kind == "endless":
        (tmp_path / name).symlink_to("/dev/zero")
    else:
        (tmp_path / name).mkdir()
    with pytest.raises(VerifyError):
        READERS[name](tmp_path)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"shape": [10**9, 10**9]}, "at most"),
        ({"shape": [1, 10**8]}, "200,000,000"),
        ({"shape": [1] * 100_000}, "shape"),
        ({"shape": [-5, 3]}, "shape"),
        ({"shape": [1.5, 3]}, "shape"),
        ({"shape": [True, 3]}, "shape"),
        ({"scale": -1.0}, "scale"),
        ({"scale": "x"}, "scale"),
        ({"zero_point": 0.5}, "zero point"),
        ({"name": 5}, "no text"),
        ({"more": 5}, "more"),
    ],
)
def test_layers_of_no_size_that_is(layer, message, tmp_path, little_memory):
    good = {"kind": "linear", "name": "x", "shape": [1, 4], "scale": 0.5, "zero_point": 0}
    write_json({"layers": [good | layer], "references": ["int8"]}, tmp_path / "layers.json")
    (tmp_path / "layers-int8.i8").write_bytes(b"\0" * 8)
    with pytest.raises(VerifyError, match=message) as raised:
        layers.read(tmp_path, 2)
    short(raised)


def test_layers_are_read_from_their_own_folder_alone(tmp_path):
    (tmp_path / "golden").mkdir()
    (tmp_path / "layers-x").mkdir()
    (tmp_path / "secret.i8").write_bytes(b"\0" * 8)
    layer = {"kind": "linear", "name": "x", "shape": [1, 4], "scale": 0.5, "zero_point": 0}
    write_json({"layers": [layer], "references": ["x/../../secret"]}, tmp_path / "golden" / "layers.json")
    with pytest.raises(VerifyError, match="no name of a file inside"):
        layers.read(tmp_path / "golden", 2)


def test_golden_vectors_larger_than_any_build_makes(tmp_path, little_memory):
    described = {"names": ["a"], "input_shape": [1, 8, 8, 4], "classes": 2, "references": {"fp32": "", "int8": ""}}
    write_json(described, tmp_path / "golden.json")
    sparse(tmp_path / "a.rgba")
    for name in ("fp32", "int8"):
        sparse(tmp_path / f"expected-{name}.f32", 8)
    with pytest.raises(VerifyError, match=r"1,000,000,000,016 bytes; at most"):
        manifest.read_golden(tmp_path)


def test_an_unknown_file_is_not_read(tmp_path):
    """One byte of each of 10^12 would take hours to hash."""
    content = {"schema_version": 1, "labels": [], "output_scale": 0.1, "artifacts": [], "files": {"a": "0" * 64}}
    manifest.write(content, tmp_path / "manifest.json")
    sparse(tmp_path / "b\n\x1b[2J")
    with pytest.raises(VerifyError, match="unknown: b") as raised:
        manifest.verify(tmp_path)
    assert "missing: a" in short(raised)


def test_a_thousand_foreign_files_are_one_short_error(tmp_path):
    content = {"schema_version": 1, "labels": [], "output_scale": 0.1, "artifacts": [], "files": {}}
    manifest.write(content, tmp_path / "manifest.json")
    for number in range(1000):
        (tmp_path / f"{'x' * 200}{number}").touch()
    with pytest.raises(VerifyError, match="and 980 more") as raised:
        manifest.verify(tmp_path)
    assert len(str(raised.value)) < 6000


@contextmanager
def deep_folders(folder):
    """1500 folders in each other. They are gone afterwards: what cleans up after tests would not manage."""
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    try:
        yield
    finally:
        subprocess.run(["rm", "-rf", str(folder / "d")], check=True)


def test_folders_in_folders(tmp_path):
    content = {"schema_version": 1, "labels": [], "output_scale": 0.1, "artifacts": [], "files": {}}
    manifest.write(content, tmp_path / "manifest.json")
    with deep_folders(tmp_path), pytest.raises(VerifyError, match="hundreds deep"):
        manifest.verify(tmp_path)


@pytest.mark.parametrize("kind", ["endless", "pipe", "huge"])
def test_signatures_and_keys(kind, tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = Ed25519PrivateKey.generate().public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "key.pem").write_bytes(public.public_bytes(serialization.Encoding.PEM, form))
    (tmp_path / "manifest.json").write_text("{}")
    bad = tmp_path / "manifest.json.sig"
    if kind == "pipe":
        os.mkfifo(bad)
    elif kind == "endless":
        bad.symlink_to("/dev/zero")
    else:
        sparse(bad)
    with pytest.raises(SignatureError):
        signature.check(tmp_path, tmp_path / "key.pem")
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "manifest.json").write_text("{}")
    (tmp_path / "good" / "manifest.json.sig").write_bytes(b"\0" * 64)
    with pytest.raises(SignatureError):
        signature.check(tmp_path / "good", bad)


# twinkeel.toml


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "[" * 100_000 + "]" * 100_000,
        "a = " + "{a = " * 50_000 + "1" + "}" * 50_000,
        "data" + ".a" * 5_000 + " = 1",
        "[" + ".".join(["a"] * 5_000) + "]",
        "[data]\npath" + ".a" * 5_000 + " = 1",
        "[data]\nheld_out = 1e999999",
        "[data]\nheld_out = nan",
        "[data]\nmean = [nan, inf, -inf]",
        "[data]\nmean = " + "[" * 100 + "]" * 100,
        "[project]\nname = '" + "x" * 10**6 + "'",
        "[project]\n'" + "x" * 10**6 + "' = 1",
        "[project]\n'\x1b[2J' = 1",
        "[targets]\n'" + "\\n" * 1000 + "' = []\n'x' = ['" + "y" * 10**5 + "']",
        "[project]\nname = '\\ud800'",
        '[project]\nname = "\\ud800"',
        "\0",
    ],
    ids=range(17),
)
def test_settings(text, tmp_path):
    path = tmp_path / "twinkeel.toml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        config.check_targets(config.load(path), {"android/onnx": ("int8",)})


# packages


def _types():
    from coremltools.proto import MIL_pb2

    return MIL_pb2.DataType


def typed(kind, dims, name="FLOAT32"):
    kind.tensorType.dataType = getattr(_types(), name)
    kind.tensorType.rank = len(dims)
    for size in dims:
        kind.tensorType.dimensions.add().constant.size = size


class Program:
    """An ML Program that is written operation by operation."""

    def __init__(self, folder, shape=(1, 1, 8, 8)):
        from coremltools.proto import Model_pb2

        self.folder = folder / "x.mlpackage"
        self.spec = Model_pb2.Model()
        self.function = self.spec.mlProgram.functions["main"]
        self.function.opset = "CoreML7"
        typed(self.function.inputs.add(name="x").type, shape)
        self.block = self.function.block_specializations["CoreML7"]
        self.block.outputs.append("out")

    def const(self, name, dims, values=(0.0,), kind="FLOAT32"):
        op = self.block.operations.add(type="const")
        typed(op.outputs.add(name=name).type, dims, kind)
        value = op.attributes["val"]
        typed(value.type, dims, kind)
        field = {"FLOAT32": "floats", "STRING": "strings", "INT32": "ints"}.get(kind)
        if isinstance(values, bytes):
            value.immediateValue.tensor.bytes.values = values
        elif field:
            getattr(value.immediateValue.tensor, field).values.extend(values)
        return value

    def ints(self, name, *values):
        self.const(name, [len(values)], values, "INT32")

    def op(self, type, out="out", dims=(1,), kind="FLOAT32", **inputs):
        op = self.block.operations.add(type=type)
        typed(op.outputs.add(name=out).type, dims, kind)
        for key, names in inputs.items():
            for name in names if isinstance(names, list) else [names]:
                op.inputs[key].arguments.add(name=name)
        return op

    def write(self):
        inside = self.folder / "Data" / "com.apple.CoreML"
        inside.mkdir(parents=True, exist_ok=True)
        (inside / "model.mlmodel").write_bytes(self.spec.SerializeToString())
        items = {"a": {"path": "com.apple.CoreML/model.mlmodel"}}
        described = {"itemInfoEntries": items, "rootModelIdentifier": "a"}
        (self.folder / "Manifest.json").write_text(json.dumps(described))
        return self.folder

    def run(self):
        model = mil_executor.Model(self.write())
        return model.predict({name: np.zeros(shape, np.float32) for name, shape in model.inputs.items()})


@pytest.fixture
def program(tmp_path):
    return Program(tmp_path)


def test_the_programs_here_run(program):
    program.const("one", [], [1.0])
    program.op("add", dims=(1, 1, 8, 8), x="x", y="one")
    assert (program.run().arrays["out"] == 1).all()


def square(p):
    p.const("big", [10**9, 10**9])
    p.op("add", x="x", y="big")


def nothing_of_something(p):
    p.const("big", [0, 2**63], [])
    p.op("add", x="x", y="big")


def hundred_dimensions(p):
    p.const("big", [2**60] * 100)
    p.op("add", x="x", y="big")


def enlarged(p):
    p.const("by", [], [1e5])
    p.op("upsample_nearest_neighbor", dims=(1, 1, 800_000, 800_000), x="x", scale_factor_height="by", scale_factor_width="by")  # fmt: skip


def enlarged_beyond_numbers(p):
    p.const("by", [], [math.inf])
    p.op("upsample_nearest_neighbor", x="x", scale_factor_height="by", scale_factor_width="by")


def padded(p):
    p.ints("pad", 0, 0, 0, 0, 10**6, 10**6, 10**6, 10**6)
    p.op("pad", x="x", pad="pad")


def padded_convolution(p):
    p.const("weight", [1, 1, 1, 1])
    p.const("type", [], ["custom"], "STRING")
    p.ints("pad", 10**6, 10**6, 10**6, 10**6)
    p.op("conv", x="x", weight="weight", pad="pad", pad_type="type")


def padded_pool(p):
    p.const("type", [], ["custom"], "STRING")
    p.ints("pad", 10**6, 10**6, 10**6, 10**6)
    p.ints("kernel", 1, 1)
    p.op("max_pool", x="x", kernel_sizes="kernel", pad="pad", pad_type="type")


def wide_window(p):
    """A window of 4 million values at 4 million places."""
    p.const("type", [], ["custom"], "STRING")
    p.ints("pad", 2000, 2000, 2000, 2000)
    p.ints("kernel", 2000, 2000)
    p.op("max_pool", x="x", kernel_sizes="kernel", pad="pad", pad_type="type")


def many_filters(p):
    p.const("weight", [10**5, 1, 1, 1], [0.0] * 10**5)
    p.const("by", [], [10.0])
    p.op("upsample_nearest_neighbor", "y", (1, 1, 80, 80), x="x", scale_factor_height="by", scale_factor_width="by")
    p.op("conv", x="y", weight="weight")


def joined(p):
    p.const("column", [30_000, 1], [0.0] * 30_000)
    p.const("row", [1, 30_000], [0.0] * 30_000)
    p.op("add", x="column", y="row")


def product(p):
    p.const("column", [30_000, 1], [0.0] * 30_000)
    p.const("row", [1, 30_000], [0.0] * 30_000)
    p.op("matmul", x="column", y="row")


def dense(p):
    p.const("column", [30_000, 1], [0.0] * 30_000)
    p.const("weight", [30_000, 1], [0.0] * 30_000)
    p.op("linear", x="column", weight="weight")


def scaled(p):
    p.const("data", [30_000, 1], b"\0" * 30_000, "INT8")
    p.const("scale", [30_000], [1.0] * 30_000)
    p.const("zero", [], b"\0", "INT8")
    p.const("axis", [], [1], "INT32")
    p.op("constexpr_affine_dequantize", quantized_data="data", scale="scale", zero_point="zero", axis="axis")


def palette(p):
    p.const("indices", [8], b"\0" * 8, "UINT8")
    p.const("lut", [16], [0.0] * 16)
    p.const("shape", [2], [10**9, 10**9], "INT32")
    p.op("constexpr_lut_to_dense", indices="indices", lut="lut", shape="shape")


def blocks(p):
    p.const("data", [30_000, 1], b"\0" * 30_000, "INT8")
    p.const("scale", [1, 1, 30_000], [1.0] * 30_000)
    p.op("constexpr_blockwise_shift_scale", data="data", scale="scale")


def parts(p):
    p.const("long", [10**5], [0.0] * 10**5)
    p.const("axis", [], [0], "INT32")
    p.const("count", [], [10**5], "INT32")
    p.op("split", x="long", axis="axis", num_splits="count")


def long_shape(p):
    p.ints("shape", *[1] * 20_000)
    p.op("reshape", x="x", shape="shape")


def unknown(p):
    p.ints("shape", 10**9, 10**9)
    p.op("fill", shape="shape")


def too_large_a_number(p):
    p.const("x8", [1], [], "UINT8").immediateValue.tensor.ints.values.append(300)
    p.op("add", x="x", y="x8")


def cut_off(p):
    value = p.const("w", [8])
    value.blobFileValue.fileName = "@model_path/weights/weight.bin"
    value.blobFileValue.offset = 2**63
    p.op("add", x="x", y="w")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (square, r"1,000,000,000,000,000,000 values.*at most"),
        (nothing_of_something, "cannot be read"),
        (hundred_dimensions, "100 dimensions; at most"),
        (enlarged, r"640,000,000,000 values at once; at most"),
        (enlarged_beyond_numbers, "infinity"),
        (padded, r"4,000,032,000,064 values at once; at most"),
        (padded_convolution, r"4,000,032,000,064 values at once; at most"),
        (padded_pool, r"4,000,032,000,064 values at once; at most"),
        (wide_window, r"multiply-adds up to here; at most"),
        (many_filters, r"640,000,000 values at once; at most"),
        (joined, r"900,000,000 values at once; at most"),
        (product, r"900,000,000 values at once; at most"),
        (dense, r"900,000,000 values at once; at most"),
        (scaled, r"900,000,000 values at once; at most"),
        (palette, r"1,000,000,000,000,000,000 values at once; at most"),
        (blocks, "blocks of shape"),
        (parts, "100000 parts"),
        (long_shape, "20,000 numbers where"),
        (unknown, "'fill'.*is not known"),
        (too_large_a_number, "no UINT8"),
        (cut_off, "does not hold"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_programs_of_absurd_size(make, message, program, little_memory):
    make(program)
    with pytest.raises(PackageError, match=message) as raised:
        program.run()
    short(raised)


@pytest.fixture
def small_limits(monkeypatch):
    from twinkeel.targets.ios import _mil_bounds

    monkeypatch.setattr(_mil_bounds, "MAX_VALUES", 1000)
    monkeypatch.setattr(_mil_bounds, "MAX_WORK", 10_000)
    monkeypatch.setattr(_mil_bounds, "MAX_OPERATIONS", 200)


def test_constants_that_lie_in_one_place_are_counted_each(program, small_limits):
    for number in range(11):
        program.const(f"c{number}", [100], [0.0] * 100)
    program.op("identity", dims=(1, 1, 8, 8), x="x")
    with pytest.raises(PackageError, match=r"the constants have 1,100 values"):
        program.run()


def test_values_that_are_kept_are_counted(program, small_limits):
    for number in range(20):
        program.op("identity", f"y{number}", (1, 1, 8, 8), x="x")
        program.block.outputs.append(f"y{number}")
    with pytest.raises(PackageError, match=r"1,024 values are in use"):
        program.run()


def test_values_that_are_not_read_again_are_not_counted(program, small_limits):
    names = ["x", *(f"y{number}" for number in range(40)), "out"]
    for before, name in itertools.pairwise(names):
        program.op("identity", name, (1, 1, 8, 8), x=before)
    assert program.run().arrays["out"].shape == (1, 1, 8, 8)


def test_a_program_without_an_end(program, small_limits):
    for number in range(150):
        program.op("relu", f"y{number % 2}", (1, 1, 8, 8), x="x")
    with pytest.raises(PackageError, match=r"multiply-adds up to here; at most 10,000"):
        program.run()
    for number in range(100):
        program.op("relu", f"y{number}", (1, 1, 8, 8), x="x")
    with pytest.raises(PackageError, match="250 operations; at most 200"):
        program.run()


@pytest.mark.parametrize("damage", ["size", "negative", "colour", "label", "probabilities"])
def test_descriptions_that_do_not_fit(damage, program, tmp_path):
    from coremltools.proto import FeatureTypes_pb2

    program.op("identity", dims=(1, 1, 8, 8), x="x")
    kind = program.spec.description.input.add(name="x").type.imageType
    kind.height = kind.width = {"size": 10**6, "negative": -8}.get(damage, 8)
    kind.colorSpace = 99 if damage == "colour" else FeatureTypes_pb2.ImageFeatureType.GRAYSCALE
    if damage == "label":
        program.spec.description.predictedFeatureName = "\x1b[2J" * 1000
    if damage == "probabilities":
        program.spec.description.predictedProbabilitiesName = "out"
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    with pytest.raises(PackageError) as raised:
        classify.classify(program.write(), tmp_path / "x.png")
    short(raised)


@pytest.mark.parametrize("damage", ["spec", "manifest", "weights", "link", "pipe", "named", "loop", "zip"])
def test_packages_that_are_no_folder_of_plain_files(damage, program, tmp_path, little_memory):
    program.op("identity", dims=(1, 1, 8, 8), x="x")
    package = program.write()
    weights = package / "Data" / "com.apple.CoreML" / "weights"
    weights.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"secret")
    if damage == "spec":
        sparse(package / "Data" / "com.apple.CoreML" / "model.mlmodel")
    elif damage == "manifest":
        sparse(package / "Manifest.json")
    elif damage == "weights":
        sparse(weights / "weight.bin")
    elif damage == "link":
        (weights / "weight.bin").symlink_to(tmp_path / "secret.bin")
    elif damage == "pipe":
        os.mkfifo(weights / "weight.bin")
    elif damage == "named":
        entries = {"a": {"path": "../../secret.bin"}}
        (package / "Manifest.json").write_text(json.dumps({"itemInfoEntries": entries, "rootModelIdentifier": "a"}))
    elif damage == "loop":
        (package / "Data" / "com.apple.CoreML" / "model.mlmodel").unlink()
        (package / "Data" / "com.apple.CoreML" / "model.mlmodel").symlink_to("model.mlmodel")
    else:
        package = tmp_path / "x.mlpackage.zip"
        with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x", b"\0" * 10**6)
    with pytest.raises(PackageError) as raised:
        mil_executor.open_model(package)
    short(raised)


def test_labels(program, tmp_path):
    program.spec.description.input.add(name="x").type.imageType.height = 8
    program.spec.description.input[0].type.imageType.width = 8
    program.spec.description.input[0].type.imageType.colorSpace = 10
    program.ints("shape", 1, 64)
    program.op("reshape", dims=(1, 64), x="x", shape="shape")
    package = program.write()
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (sparse(tmp_path / "labels.txt"), "at most"),
        (tmp_path / "pipe", "no plain file"),
        (Path("/dev/zero"), "no plain file"),
        (tmp_path, "no plain file"),
        (tmp_path / "x.png", "cannot read"),
    ):
        with pytest.raises(DataError, match=message):
            classify.classify(package, tmp_path / "x.png", path)
    (tmp_path / "names.txt").write_text("\x1b[2J" + "x" * 10**6 + "\na" * 63)
    found = classify.classify(package, tmp_path / "x.png", tmp_path / "names.txt").ranking
    assert max(len(name) for name, _ in found) < 300 and all(name.isprintable() for name, _ in found)


# ExecuTorch and LiteRT


def payload(nodes, contents=b""):
    return contents + json.dumps({"nodes": nodes}).encode()[::-1]


def node(name, children=None, size=0, offset=0):
    kind = 0 if children is None else 1
    return {"name": name, "kind": kind, "dataRegion": {"offset": offset, "size": size}, "children": children or {}}


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "..", ".", "", "a/b", "a\\b", "c:x", "x\0y", "../../evil"])
def test_payloads_do_not_leave_their_folder(name, tmp_path):
    nodes = [node(name, size=4), node("lowered_module", {name: 0})]
    for given in (nodes, [node("x", size=4), node(name, {"x": 0})]):
        with pytest.raises(ValueError, match="no name of a file"):
            mil_executor._unflatten(payload(given, b"EVIL"), tmp_path / "a" / "b")
    assert not list(tmp_path.rglob("*evil*")) and not Path("/tmp/evil").exists()


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("a", {"a": 0})], "holds itself"),
        ([node("x", size=4), node("a", {"y": 0})], "two names"),
        ([node("x", size=10**9), node("a", {"x": 0})], "1,000,000,000 bytes"),
        ([node("x", size=-4), node("a", {"x": 0})], "-4 bytes"),
        ([node("x", size=4, offset=10**9), node("a", {"x": 0})], "at 1,000,000,000"),
        ([node("x", size=4), node("a", {"x": 7})], "index"),
        ([node("x", size=4), *(node("a", {"x": 0}) for _ in range(40))], None),
        ([], "index"),
    ],
)
def test_payloads_that_are_no_folder(nodes, message, tmp_path):
    if message is None:
        mil_executor._unflatten(payload(nodes, b"EVIL"), tmp_path)
        return
    with pytest.raises((ValueError, LookupError), match=message):
        mil_executor._unflatten(payload(nodes, b"EVIL"), tmp_path)


def test_a_payload_of_folders_that_hold_the_same_folders(tmp_path):
    """2^40 files from 40 lines."""
    nodes = [node("x", size=1)]
    for number in range(40):
        nodes.append(node("a" if number % 2 else "b", {nodes[-1]["name"]: number}))
    nodes = [n | {"children": n["children"] | {f"{k}": v for k, v in n["children"].items()}} for n in nodes]
    shared = [node("f", size=1), *(node(f"d{n}", {}) for n in range(40))]
    for number in range(1, 41):
        shared[number]["children"] = {shared[max(0, number - 1)]["name"]: number - 1, "f": 0}
    mil_executor._unflatten(payload(nodes, b"EVIL"), tmp_path / "straight")
    with pytest.raises(ValueError, match="holds itself"):
        mil_executor._unflatten(payload(shared, b"EVIL"), tmp_path / "shared")


def shared_tables(width, build):
    """A flatbuffer whose vectors hold the same table `width` times: width x width tables in all."""
    import flatbuffers

    builder = flatbuffers.Builder(0)

    def repeated(offset):
        builder.StartVector(4, width, 4)
        for _ in range(width):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    return build(builder, repeated)


def litert_bomb(builder, repeated):
    from ai_edge_litert import schema_py_generated as schema

    schema.TensorStart(builder)
    tensors = repeated(schema.TensorEnd(builder))
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    graphs = repeated(schema.SubGraphEnd(builder))
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def executorch_bomb(builder, repeated):
    """ExecutionPlan's `values` is its third field, Program's `execution_plan` its second."""
    builder.StartObject(2)
    values = repeated(builder.EndObject())
    builder.StartObject(10)
    builder.PrependUOffsetTRelativeSlot(2, values, 0)
    plans = repeated(builder.EndObject())
    builder.StartObject(8)
    builder.PrependUOffsetTRelativeSlot(1, plans, 0)
    builder.Finish(builder.EndObject(), b"ET12")
    return bytes(builder.Output())


def test_flatbuffers_that_unfold(tmp_path, little_memory):
    from twinkeel.targets import _pte
    from twinkeel.targets.android import litert

    (tmp_path / "x.tflite").write_bytes(shared_tables(20_000, litert_bomb))
    with pytest.raises(ConversionError, match="200,000 tables"):
        litert.read(tmp_path / "x.tflite")
    (tmp_path / "x.pte").write_bytes(shared_tables(20_000, executorch_bomb))
    with pytest.raises(ConversionError, match=r"200,000 tables|times the"):
        _pte.read_program(tmp_path / "x.pte")
    with pytest.raises(PackageError, match="no readable ExecuTorch program"):
        mil_executor.open_model(tmp_path / "x.pte")
    for name, read in (("y.pte", _pte.read_program), ("y.tflite", litert.read)):
        with pytest.raises(ConversionError, match="at most"):
            read(sparse(tmp_path / name))


def test_segments_that_overlap(tmp_path):
    from twinkeel.targets import _pte

    program = _pte.read_program(SEEDS / "xnnpack.pte").program

    class Segment:
        offset, size = 0, 4000

    program.segments = [Segment()] * 1000
    with pytest.raises(ValueError, match=r"1000 segments of 4,000,000 bytes"):
        _pte._check_segments(program, 5000)


def test_what_is_no_graph_of_xnnpack(tmp_path):
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
    from twinkeel.targets import _xnnpack

    binary = struct.pack("<I", 2**31 - 8) + b"\xff" * 400
    start = 32
    header = XNNHeader(
        flatbuffer_offset=start,
        flatbuffer_size=len(binary),
        constant_data_offset=start + len(binary),
        constant_data_size=0,
    )
    with pytest.raises(ConversionError, match="graph of XNNPACK"):
        _xnnpack.read_graph(header.to_bytes().ljust(start, b"\0") + binary)


# checkpoints


def zip_bomb(path, model):
    torch.save(model.state_dict(), path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, b"\0" * 10**8 if name.endswith("/data/0") else content)


def safetensors_of(header, size=None, body=b"\0" * 32):
    def make(path, model):
        text = json.dumps(header).encode() if isinstance(header, dict) else header
        path.write_bytes(struct.pack("<Q", len(text) if size is None else size) + text + body)

    return make


def tensors(**values):
    return lambda path, model: torch.save({k: v() for k, v in values.items()}, path)


def huge(path, model):
    sparse(path)


def view_of_nothing():
    """10^12 values that are one."""
    return torch.zeros(1).expand(10**6, 10**6)


class Reserve:
    def __reduce__(self):
        return bytearray, (10**12,)


W, B = "weight", "bias"
F32 = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


@pytest.mark.parametrize(
    ("suffix", "make", "message"),
    [
        (".pth", zip_bomb, "would unpack to 100,0"),
        (".pth", huge, "at most"),
        (".safetensors", huge, "at most"),
        (".safetensors", safetensors_of(b"{}", 2**60), "cannot read"),
        (".safetensors", safetensors_of(b"{}", 2**64 - 1), "cannot read"),
        (".safetensors", safetensors_of({W: F32, B: F32 | {"shape": [2], "data_offsets": [0, 8]}}), "cannot read"),
        (".safetensors", safetensors_of({W: F32 | {"shape": [2**40, 2**40]}}), "cannot read"),
        (".safetensors", safetensors_of({W: F32 | {"shape": [2**63]}}), "cannot read"),
        (".safetensors", safetensors_of({W: F32 | {"data_offsets": [0, 2**62]}}), "cannot read"),
        (".safetensors", safetensors_of(b"[" * 100_000), "cannot read"),
        (".pth", tensors(weight=view_of_nothing, bias=lambda: torch.zeros(2)), "another width"),
        (".pth", tensors(weight=lambda: torch.zeros(2, 3).to_sparse(), bias=lambda: torch.zeros(2)), "sparse"),
        (".pth", tensors(weight=lambda: torch.zeros(2, 3, dtype=torch.complex64), bias=lambda: torch.zeros(2)), "complex"),
        (".pth", tensors(weight=lambda: torch.zeros(2, 3, device="meta"), bias=lambda: torch.zeros(2)), "meta"),
        (".pth", tensors(weight=lambda: torch.full((2, 3), math.nan), bias=lambda: torch.zeros(2)), "NaN"),
        (".pth", tensors(weight=lambda: torch.full((2, 3), -math.inf), bias=lambda: torch.zeros(2)), "NaN"),
        (".pth", tensors(weight=lambda: torch.full((2, 3), 1e300, dtype=torch.float64), bias=lambda: torch.zeros(2)), "NaN"),
        (".pth", lambda path, model: torch.save({5: torch.zeros(2)}, path), "no state dict"),
        (".pth", lambda path, model: torch.save({"\x1b[2J" * 10**5: torch.zeros(2)}, path), "which the model does not"),
        (".pth", lambda path, model: torch.save([[[]]], path), "no state dict"),
        (".pth", lambda path, model: torch.save({"weight": Reserve()}, path), "checkpoint|more than tensors|no state"),
        (".pt", lambda path, model: path.write_bytes(b"\x80\x02" + b"(" * 10**6 + b"."), "a plain pickle, not a file of torch.save"),
        (".pt", lambda path, model: path.write_bytes(b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b"."), "a plain pickle, not a file of torch.save"),
    ],
    ids=range(23),
)  # fmt: skip
def test_checkpoints(suffix, make, message, tmp_path, little_memory):
    model = torch.nn.Linear(3, 2)
    path = tmp_path / f"x{suffix}"
    make(path, model)
    with pytest.raises(WeightsError, match=message) as raised:
        load_into(model, path)
    short(raised)


class Called:
    """What torch is asked to call, with what, and what it is to fill the result with."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def nested(depth):
    content = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    for _ in range(depth):
        content = {"model": content}
    return content


def circle():
    content = {"x": torch.zeros(1)}
    content["model"] = content
    return content


def many(count):
    return {f"d{n}": {"weight": torch.zeros(1), "more": {}} for n in range(count)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: {"a": Called(collections.OrderedDict, (), {"items": 5, "keys": "x"}), "weight": torch.zeros(1)},
            "lacks the key 'bias'",
        ),
        (lambda: nested(400), "no state dict"),
        (circle, "has the key 'x'"),
        (lambda: many(5_000), "has the key|lacks the key|no state dict"),
        (lambda: {"." * 10**5 + "weight": torch.zeros(2, 3), "x" * 10**6: torch.zeros(2)}, "has the key|lacks the key"),
        (lambda: {".".join("a" * 5000) + ".weight": torch.zeros(2, 3)}, "has the key|lacks the key"),
        (lambda: {"a": np.zeros(10), "weight": Called(argparse.Namespace, ())}, "no state dict"),
        (lambda: {"state_dict": Called(os.path.join, ("a", "b"))}, "more than tensors: 'posixpath.join'"),
        (lambda: {"state_dict": {}, "x": Called(eval, ("1/0",))}, "more than tensors: 'builtins.eval'"),
    ],
    ids=range(9),
)
def test_what_stands_beside_tensors(make, message, tmp_path, little_memory):
    path = tmp_path / "x.pth"
    torch.save(make(), path)
    start = time.process_time()
    with pytest.raises(WeightsError, match=message) as raised:
        load_into(torch.nn.Linear(3, 2), path)
    assert time.process_time() - start < LONGEST
    short(raised)
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({W: "../x.safetensors", B: "x.safetensors"}, "no file of weights beside it"),
        ({W: "x.safetensors\0", B: "x.safetensors"}, "no file of weights beside it"),
        ({f"k{n}": f"{n}.safetensors" for n in range(5000)}, "at most 1,000"),
        ({W: "pipe.safetensors", B: "pipe.safetensors"}, "not beside it"),
        ({W: "loop.safetensors", B: "loop.safetensors"}, "not beside it"),
    ],
    ids=range(5),
)
def test_indexes_of_shards(named, message, tmp_path, little_memory):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": named}))
    with pytest.raises(WeightsError, match=message) as raised:
        load_into(torch.nn.Linear(3, 2), index)
    short(raised)


# images


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, *more):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(b"\0" * (3 * width + 1) * height)) if width * height < 10**6 else b""
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + body + png_chunk(b"IEND", b"")


def tiff(width, height):
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 2**31)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def bomb(kind, size=50_000):
    if kind == "png":
        return png(size, size)
    if kind == "tiff":
        return tiff(size, size)
    if kind == "gif":
        return b"GIF89a" + struct.pack("<HHBBB", size, size, 0x80, 0, 0) + b"\0" * 6 + b",\0\0\0\0" + struct.pack("<HHB", size, size, 0) + b"\2\1\0;"  # fmt: skip
    if kind == "bmp":
        return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, size, size, 1, 24, 0, 0, 0, 0, 0, 0)  # fmt: skip
    if kind == "ppm":
        return b"P6 %d %d 255\n" % (size, size)
    assert kind == "webp"
    side = (16_383).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + side + side


@pytest.mark.parametrize("kind", ["png", "tiff", "gif", "bmp", "ppm", "webp"])
def test_images_that_declare_fifty_thousand_pixels_a_side(kind, tmp_path, little_memory):
    path = tmp_path / f"x.{kind}"
    path.write_bytes(bomb(kind))
    with pytest.raises(DataError, match=f"x.{kind}"):
        data.read_image(path)


@pytest.mark.parametrize("chunk", ["text", "many texts", "profile"])
def test_what_unpacks_beside_the_pixels(chunk, tmp_path, little_memory):
    packed = zlib.compress(b"\0" * 10**8)
    if chunk == "text":
        more = [png_chunk(b"zTXt", b"x\0\0" + packed)]
    elif chunk == "many texts":
        more = [png_chunk(b"zTXt", b"x%d\0\0" % n + zlib.compress(b"\0" * 10**6)) for n in range(100)]
    else:
        more = [png_chunk(b"iCCP", b"x\0\0" + packed)]
    path = tmp_path / "x.png"
    path.write_bytes(png(8, 8, *more))
    try:
        assert data.read_image(path).shape == (8, 8, 3)
    except DataError as error:
        assert "x.png" in str(error)


def test_of_a_hundred_thousand_frames_the_first_is_read(tmp_path):
    stream = io.BytesIO()
    Image.new("L", (8, 8), 200).save(stream, "GIF")
    whole = stream.getvalue()
    frame = whole[whole.index(b",", 13) : -1]
    (tmp_path / "x.gif").write_bytes(whole[:-1] + frame * 10**5 + b";")
    assert (data.read_image(tmp_path / "x.gif") == 200).all()


def test_no_program_is_started_for_an_image(tmp_path):
    """Ghostscript for EPS, whatever the file is called."""
    (tmp_path / "x.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) run\nshowpage\n%%EOF\n"
    )
    with pytest.raises(DataError, match="cannot identify"):
        data.read_image(tmp_path / "x.png")


@pytest.mark.parametrize("kind", ["pipe", "endless", "huge", "folder"])
def test_images_that_are_no_plain_file(kind, tmp_path, little_memory):
    path = tmp_path / "x.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path = Path("/dev/zero")
    elif kind == "huge":
        sparse(path)
    else:
        path.mkdir()
    with pytest.raises(DataError):
        data.read_image(path)


def wide_and_flat(program, side=(8, 16)):
    program.spec.description.input.add(name="x").type.imageType.height = side[0]
    program.spec.description.input[0].type.imageType.width = side[1]
    program.spec.description.input[0].type.imageType.colorSpace = 10
    return program


def test_an_image_that_is_all_width_is_cropped_before_it_takes_memory(tmp_path, little_memory):
    program = wide_and_flat(Program(tmp_path, (1, 1, 224, 300)), (224, 300))
    program.ints("shape", 1, 224 * 300)
    program.op("reshape", dims=(1, 224 * 300), x="x", shape="shape")
    Image.new("L", (10**6, 2), 7).save(tmp_path / "x.png")
    found = classify.classify(program.write(), tmp_path / "x.png")
    assert {probability for _, probability in found.ranking} == {1 / (224 * 300)}  # one grey, all over


def images(root, name, count=3):
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        value = int.from_bytes(os.urandom(3), "little")
        Image.new("RGB", (8, 8), (value >> 16, value >> 8 & 255, value & 255)).save(folder / f"{number}.png")
    return folder


def load(root, **more):
    return classification.load(Config.model_validate({"data": {"source": "folder", "path": str(root), **more}}))


def test_loops_pipes_and_devices_in_a_folder_of_images_are_passed_by(tmp_path):
    root = tmp_path / "images"
    one, two = images(root, "one"), images(root, "two")
    (one / "again").symlink_to(root)
    (one / "self").symlink_to("self")
    (two / "up").symlink_to("..")
    (two / "endless.png").symlink_to("/dev/zero")
    (two / "nothing.png").symlink_to("missing")
    os.mkfifo(one / "pipe.png")
    found = load(root)
    assert found.names == ("one", "two")
    assert sum(len(part.images) for part in (found.train, found.calibration, found.held_out)) == 6


def test_a_class_may_be_a_link_to_a_folder_elsewhere(tmp_path):
    """A data set that the user names is the user's own; links in it are followed once."""
    images(tmp_path / "elsewhere", "two")
    images(tmp_path / "images", "one")
    (tmp_path / "images" / "two").symlink_to(tmp_path / "elsewhere" / "two")
    assert load(tmp_path / "images").names == ("one", "two")


@pytest.mark.parametrize(
    "name",
    ["a\nb", "a\x1b[2Jb", "a\u202eb", "a\u2028b", "a\x85b", "a\x7f", b"\xff".decode(errors="surrogateescape")],
    ids=range(7),
)  # fmt: skip
def test_names_of_classes_that_are_no_line_of_text(name, tmp_path):
    images(tmp_path, "one")
    images(tmp_path, name)
    with pytest.raises(DataError, match="Rename it") as raised:
        load(tmp_path)
    short(raised)


@pytest.mark.parametrize("name", ["..a", "x" * 250, "ש", "العربية", "a b", "a, b; c'\"", "...", "-rf", "CON", "👩‍🔬"])
def test_names_of_classes_that_are_strange_and_nothing_else(name, tmp_path):
    images(tmp_path, "one")
    images(tmp_path, name)
    if name.startswith("."):
        with pytest.raises(DataError, match="holds 1 class folder;"):
            load(tmp_path)
        return
    assert set(load(tmp_path).names) == {"one", name}


def test_folders_of_images_in_folders(tmp_path):
    images(tmp_path, "one")
    two = images(tmp_path, "two")
    with deep_folders(two):
        assert load(tmp_path).names == ("one", "two")


def test_text_of_strangers_is_shown_printable_and_short():
    assert reading.shown("a\x1b[2J\n\ud800é") == "a\\x1b[2J\\n\\ud800é"
    assert len(reading.shown("x" * 10**7)) < 250
