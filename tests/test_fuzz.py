"""Readers of files that others may have written: damaged ones end in an error of ours, never in anything else.

`TWINKEEL_FUZZ=20` tries 20 times as many inputs, `TWINKEEL_SEED=1` others. An input that gets through is written to
the folder that the test names; made small, it belongs into `tests/corpus`.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import random
import shutil
import time
import zipfile
from contextlib import suppress
from copy import deepcopy
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from phones import elf
from PIL import Image
from safetensors.torch import save_file
from twinkeel.pipeline import config, data
from twinkeel.pipeline.data import archives, files, lists
from twinkeel.pipeline.delivery import device, manifest
from twinkeel.pipeline.devices import apple, binaries, found, tools
from twinkeel.pipeline.devices.tools import asking
from twinkeel.pipeline.errors import PackageError, TwinkeelError
from twinkeel.pipeline.files import write_json
from twinkeel.pipeline.program import layers
from twinkeel.pipeline.stages import pt2_graph
from twinkeel.pipeline.store import workers
from twinkeel.pipeline.tasks.classification import names
from twinkeel.targets.ios import mil_executor

CORPUS = Path(__file__).parent / "corpus"
SEEDS = CORPUS / "seeds"
TIMES, SEED = float(os.environ.get("TWINKEEL_FUZZ", "1")), int(os.environ.get("TWINKEEL_SEED", "0"))
LONGEST = 20.0
"""Seconds that one input may take; 0.1 are usual."""

TOKENS = (
    b"nan", b"-1", b"1e999", b'"', b"{", b"[", b"]", b"}", b"\0", b"\xff", b"null", b"true", b"9" * 30, b"[[[[[[",
    b'"\\ud800"', b"..", b"/", b"\n[a]\n", b"a=1\n", b"'''", b"=", b",", b"1979-05-27T07:32:00", b"\xf0\x9f\x98\x80",
    b"0", b"1e-400", b"9" * 5000, b"[" * 2000, b"a." * 2000, b"\x1b[2J", b"\xe2\x80\xae", b"NaN", b"-Infinity", b"0.5",
)  # fmt: skip
WORDS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0, 0x10000, 0x40000000)


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


def revalued(whole, draw):
    """JSON with a value, or a few, replaced by one of another kind: what mangled text hardly reaches."""
    strange = [None, True, -1, 0, 10**18, 1e308, "", "..", "\0", "x" * 5000, [], {}, [[]], [1], {"a": 1}, ["fp32"]]
    content = json.loads(whole)
    for _ in range(draw.choice([1, 1, 2])):
        parent, key = None, None
        node = content
        while isinstance(node, (dict, list)) and node and (parent is None or draw.random() < 0.8):
            parent, key = node, draw.choice(list(node) if isinstance(node, dict) else range(len(node)))
            node = parent[key]
        if parent is not None and draw.random() < 0.15:
            del parent[key]
        elif parent is not None:
            parent[key] = deepcopy(draw.choice(strange))
    return json.dumps(content).encode()


def flipped(whole, draw):
    """Of the same length, for formats in which a wrong length ends everything at once."""
    found = bytearray(whole)
    for _ in range(draw.choice([1, 1, 2, 3])):
        found[draw.randrange(len(found))] = draw.randrange(256)
    return bytes(found)


def rewritten(whole, draw):
    """Bits, bytes, and words with sizes and offsets at their limits; sometimes cut off."""
    found = bytearray(whole)
    for _ in range(draw.choice([1, 1, 2, 4])):
        at, kind = draw.randrange(len(found)), draw.randrange(5)
        if kind == 0:
            found[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            found[at] = draw.randrange(256)
        elif kind == 2:
            at = at // 4 * 4
            found[at : at + 4] = draw.choice(WORDS).to_bytes(4, "little")
        elif kind == 3:
            at = at // 4 * 4
            word = int.from_bytes(found[at : at + 4], "little") + draw.choice([-64, -8, -4, -1, 1, 4, 8, 64])
            found[at : at + 4] = (word % 2**32).to_bytes(4, "little")
        elif draw.random() < 0.2:
            del found[draw.randrange(1, len(found)) :]
    return bytes(found)


def fuzz(read, path, change, count):
    """Change a file `count` times and read it; some must still be accepted, or nothing past the syntax is tried."""
    whole, draw, accepted, slowest = path.read_bytes(), random.Random(SEED), 0, 0.0
    count = max(1, int(count * TIMES))
    with suppress(TwinkeelError):
        read()  # what is imported for the first is not the time of an input
    for number in range(count):
        path.write_bytes(change(whole, draw))
        start = time.perf_counter()
        try:
            read()
            accepted += 1
        except TwinkeelError as error:
            assert len(str(error)) < 20_000
        except BaseException:
            print(f"input {number} got through: {path}")
            raise
        slowest = max(slowest, time.perf_counter() - start)
        assert slowest < LONGEST, path
    path.write_bytes(whole)
    print(f"{path.name}: {count} inputs, {accepted} accepted, at most {slowest:.2f} s")
    assert 0 < accepted < count


def test_configurations(tmp_path):
    path = tmp_path / "twinkeel.toml"
    path.write_text(config.template())
    fuzz(lambda: config.load(path), path, mangled, 400)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished folder with all that is read of one, and no artifact that could run."""
    folder = tmp_path_factory.mktemp("made") / "android"
    (folder / "golden").mkdir(parents=True)
    (folder / "golden").rmdir()
    images = np.zeros((2, 8, 8, 4), np.uint8)
    logits = np.eye(2, 3, dtype=np.float32)
    expected = {"fp32": logits, "int8": logits}
    manifest.write_golden(
        manifest.Golden(names=("black", "white"), inputs=images, expected=expected), folder / "golden"
    )
    layer = layers.Layer(name="features.0.0", kind="convolution", shape=(1, 2, 3, 3), scale=0.5, zero_point=-128)
    steps = {"int8": np.zeros((2, 18), np.int8)}
    layers.write(layers.Recording(layers=(layer,), steps=steps), folder / "golden", ["int8"])
    (folder / "onnx").mkdir()
    (folder / "onnx" / "x-int8.onnx").write_bytes(b"no model")
    check = {"leg": "lower", "metric": "snr_db", "measured": 99.0, "sense": ">=", "limit": 20, "reason": "enough"}
    counted = {
        "leg": "lower", "metric": "accuracy_drop", "measured": 0.0, "sense": "<=", "limit": 0.005, "reason": "half a point",
        "needs_all": True, "is_met": True, "verdict": "open", "images_needed": 770,
        "counts": {"images": 359, "kept": 350, "lost": 1, "won": 1, "low": -0.01, "high": 0.01},
    }  # fmt: skip
    entry = {
        "target": "android/onnx",
        "precision": "int8",
        "path": "onnx/x-int8.onnx",
        "twin": None,
        "sha256": "0" * 64,
        "runtime": "onnxruntime",
        "reference": "int8",
        "checks": [check | {"needs_all": False, "is_met": True}, counted],
    }
    write_json({"artifacts": [entry]}, folder / manifest.PARITY)
    content = {"schema_version": 1, "labels": ["a", "b", "c"], "output_scale": 0.1, "artifacts": [entry]}
    content |= {"is_verified": False, "program_checks": [counted | {"leg": "quantize"}], "doubts": ["a doubt"]}
    manifest.write(content | {"files": manifest.hash_files(folder)}, folder / manifest.MANIFEST)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "android")


@pytest.mark.parametrize("change", [mangled, revalued])
def test_manifests(change, folder):
    def told():
        content = manifest.read_manifest(folder)
        return manifest.counted(content) + manifest.unmet(content)

    assert len(told()) == 3
    fuzz(told, folder / "manifest.json", change, 200)


@pytest.mark.parametrize("change", [mangled, revalued])
def test_golden_vectors(change, folder):
    fuzz(lambda: manifest.read_golden(folder / "golden"), folder / "golden" / "golden.json", change, 200)


@pytest.mark.parametrize("change", [mangled, revalued])
def test_layers(change, folder):
    fuzz(lambda: layers.read(folder / "golden", 2), folder / "golden" / "layers.json", change, 200)


def results(folder):
    run = {"units": "CPU", "logits": {"black": [0.5, None, 1], "white": [1e30, -0.0, 2]}}
    content = {
        "schema_version": 1,
        "target": "android/onnx",
        "precision": "int8",
        "artifact_sha256": "0" * 64,
        "device": {"system": "Android 15", "machine": "Google Pixel 9"},
        "runs": [run],
    }
    path = folder / "results.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("change", [mangled, revalued])
def test_results_of_devices(change, tmp_path):
    path = results(tmp_path)
    fuzz(lambda: device.read_results(path), path, change, 250)


@pytest.mark.parametrize("name", ["manifest.json", "parity.json", "golden/golden.json"])
def test_folders_that_an_attacker_has_sealed_again(name, folder, tmp_path):
    """Every hash is right, so all of the content is used: by a replay here, and by results of a device."""
    path, file = folder / name, results(tmp_path)
    whole = {path.name: path.read_bytes() for path in (folder / "manifest.json", folder / "parity.json")}

    def use():
        try:
            used(folder, file)
        finally:
            for name, content in whole.items():
                (folder / name).write_bytes(content)

    fuzz(use, path, revalued, 60)


def used(folder, file):
    """Seal a folder and use all of it."""
    from twinkeel.targets.android import onnx

    try:
        content = json.loads((folder / manifest.MANIFEST).read_bytes())
        content["files"] = manifest.hash_files(folder)
        manifest.write(content, folder / manifest.MANIFEST)
    except (ValueError, TypeError, RecursionError):
        return  # not even an attacker could seal it
    manifest.replay(folder, {"android/onnx": onnx})
    device.take_in(folder, file)


def test_a_runtime_that_dies_fails_its_artifact_alone(folder, tmp_path, monkeypatch):
    """As ExecuTorch's native code does of some damaged programs."""
    (tmp_path / "runtime.py").write_text(
        "import os\ndef load(path):\n    if 'dies' in path.name:\n        os.abort()\n    raise ValueError('not a model')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    content = json.loads((folder / manifest.MANIFEST).read_bytes())
    entry = content["artifacts"][0]
    content["artifacts"] = [
        entry | {"path": name, "precision": precision} for name, precision in (("dies", "int8"), ("raises", "fp32"))
    ]
    manifest.write(content, folder / manifest.MANIFEST)
    processes = workers.Workers(1)
    found = manifest.replay(folder, {entry["target"]: importlib.import_module("runtime")}, processes)
    processes.shutdown()
    (dead, (first,)), (alive, (second,)) = found
    assert dead == "android/onnx int8" and "ended by SIGABRT" in first.reason and not first.is_met
    assert alive == "android/onnx fp32" and "not a model" in second.reason and not second.is_met


@pytest.fixture
def package(fixed_build, tmp_path):
    name = "mobilenet_v2-w4.mlpackage"
    return shutil.copytree(fixed_build.folders["ios"] / "coreml" / name, tmp_path / name)


@pytest.fixture
def spec_file(package):
    (path,) = package.rglob("*.mlmodel")
    return path


def classify(package):
    mil_executor.Model(package).classify(np.zeros((32, 32, 3), np.uint8))


def test_packages(package, spec_file):
    fuzz(lambda: classify(package), spec_file, flipped, 200)


@pytest.fixture
def small_package(tmp_path):
    """The package in the payload of a small program: a convolution, a mean, a linear layer."""
    return mil_executor.unpack_delegate(SEEDS / "coreml.pte", tmp_path / "unpacked")


def run_small(model):
    model.predict({name: np.zeros(shape or [1], np.float32) for name, shape in model.inputs.items()})


@pytest.mark.parametrize(
    ("name", "change"),
    [("*.mlmodel", flipped), ("*.mlmodel", rewritten), ("*.bin", rewritten), ("Manifest.json", mangled)],
)
def test_small_packages(name, change, small_package):
    (path,) = small_package.rglob(name)
    fuzz(lambda: run_small(mil_executor.Model(small_package)), path, change, 100)


def test_payloads_of_programs(tmp_path):
    """The list of files is JSON with its bytes reversed, at the end."""
    from twinkeel.targets import _pte

    program = _pte.read_program(SEEDS / "coreml.pte").program
    payload = bytes(program.backend_delegate_data[-1].data)
    path = tmp_path / "payload"
    path.write_bytes(payload)
    draw = random.Random(SEED)
    kept = payload[:-1000]

    def unpack():
        folder = tmp_path / f"{draw.random()}"
        try:
            mil_executor._unflatten(path.read_bytes(), folder / "inside")
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise PackageError(str(error)[:100]) from error  # as `unpack_delegate` does
        finally:
            assert sorted(p.name for p in folder.glob("*")) in ([], ["inside"])
            shutil.rmtree(folder, ignore_errors=True)

    fuzz(unpack, path, lambda whole, draw: kept + mangled(whole[-1000:][::-1], draw)[::-1], 150)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["payload"]


def test_programs(tmp_path):
    from twinkeel.targets import _pte

    path = Path(shutil.copy(SEEDS / "xnnpack.pte", tmp_path))
    fuzz(lambda: _pte.read_program(path), path, rewritten, 150)


def test_programs_with_a_package(tmp_path):
    path = Path(shutil.copy(SEEDS / "coreml.pte", tmp_path))
    fuzz(lambda: run_small(mil_executor.open_model(path)), path, rewritten, 80)


def test_graphs_of_xnnpack(tmp_path):
    from twinkeel.targets import _pte, _xnnpack

    program = _pte.read_program(SEEDS / "xnnpack.pte").program
    path = tmp_path / "payload"
    path.write_bytes(bytes(program.backend_delegate_data[-1].data))

    def read():
        _xnnpack.read_graph(path.read_bytes())

    fuzz(read, path, rewritten, 30)


def test_litert_files(tmp_path):
    from twinkeel.targets.android import litert

    path = Path(shutil.copy(SEEDS / "tiny.tflite", tmp_path))
    fuzz(lambda: litert.read(path), path, rewritten, 150)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pt", ".h5"])
def test_checkpoints(suffix, tmp_path):
    from twinkeel.pipeline.stages.weights import load_into

    model = torch.nn.Linear(3, 2)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(model.state_dict(), path)
    elif suffix == ".h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            group = file.create_group("dense")
            file.attrs["layer_names"], group.attrs["weight_names"] = ["dense"], ["dense/kernel:0", "dense/bias:0"]
            group["dense/kernel:0"], group["dense/bias:0"] = np.ones((3, 2), np.float32), np.ones(2, np.float32)
    else:
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=suffix == ".pth")
    # HDF5 is read in a process for each file
    fuzz(lambda: load_into(model, path), path, rewritten, 40 if suffix == ".h5" else 150)


@pytest.mark.parametrize("is_old", [False, True], ids=["zip", "old format"])
def test_checkpoints_of_programs_that_train(is_old, tmp_path):
    """Settings, states and two state dicts beside each other; what a change names is never run."""
    from twinkeel.pipeline.stages.weights import load_into

    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.zeros(1, 3)).sum().backward()
    optimizer.step()
    content = {
        "args": SimpleNamespace(rate=np.float64(0.1), path=PurePosixPath("x")),
        "optimizer": optimizer.state_dict(),
        "state_dict": {f"module.{key}": value for key, value in model.state_dict().items()},
        "state_dict_ema": model.state_dict(),
    }
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not is_old)
    fuzz(lambda: load_into(model, path), path, rewritten, 150)
    fuzz(lambda: load_into(model, path), path, renamed, 150)


def renamed(whole, draw):
    """A class or function that a pickle names becomes another of the same length, where its size is not told."""
    words = [
        b"os\nsystem\n",
        b"builtins\neval\n",
        b"builtins\ngetattr\n",
        b"numpy\nload\n",
        b"torch\nload\n",
        b"posix\nsystem\n",
    ]
    at = [n for n in range(len(whole) - 1) if whole[n : n + 1] == b"c" and whole[n + 1 : n + 40].count(b"\n") >= 2]
    if not at:
        return rewritten(whole, draw)
    start = draw.choice(at) + 1
    end = whole.index(b"\n", whole.index(b"\n", start) + 1) + 1
    found = draw.choice(words)
    return (
        whole[:start] + found.ljust(end - start, b" ")[: end - start] + whole[end:]
        if len(found) <= end - start
        else flipped(whole, draw)
    )


def test_indexes_of_shards(tmp_path):
    from twinkeel.pipeline.stages.weights import load_into

    model = torch.nn.Linear(3, 2)
    save_file(model.state_dict(), tmp_path / "model-1.safetensors")
    path = tmp_path / "model.safetensors.index.json"
    named = dict.fromkeys(model.state_dict(), "model-1.safetensors")
    for change in (mangled, revalued):
        path.write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": named}))
        fuzz(lambda: load_into(model, path), path, change, 150)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["model-1.safetensors", "model.safetensors.index.json"]


@pytest.fixture
def program(tmp_path):
    """A saved program."""
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.MaxPool2d(2), torch.nn.Flatten()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(900, 2)).eval()
    torch.export.save(torch.export.export(model, (torch.zeros(1, 3, 32, 32),)), tmp_path / "x.pt2")
    return tmp_path / "x.pt2"


def test_exported_programs(program):
    fuzz(lambda: pt2_graph.load(program), program, rewritten, 60)


@pytest.mark.parametrize("change", [mangled, revalued])
@pytest.mark.parametrize("name", ["models/model.json", "data/weights/model_weights_config.json"])
def test_what_exported_programs_say(name, change, program, tmp_path):
    with zipfile.ZipFile(program) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    path, told = tmp_path / "told.json", next(n for n in members if n.endswith(name))
    path.write_bytes(members[told])

    def read():
        with zipfile.ZipFile(program, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, path.read_bytes() if member == told else content)
        pt2_graph.load(program)

    fuzz(read, path, change, 60)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO"])
def test_images(kind, tmp_path):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(stream, kind)
    path = tmp_path / f"image.{kind.lower()}"
    path.write_bytes(stream.getvalue())
    fuzz(lambda: data.read_image(path), path, rewritten, 80)


@pytest.mark.parametrize("kind", [".zip", ".tar", ".tgz"])
def test_archives(kind, tmp_path):
    path, stream = tmp_path / f"x{kind}", io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)).save(stream, "PNG")
    for number in range(3):
        (tmp_path / "x" / f"{number}").mkdir(parents=True)
        (tmp_path / "x" / f"{number}" / "x.png").write_bytes(stream.getvalue())
    shutil.make_archive(str(tmp_path / "x"), {".zip": "zip", ".tar": "tar", ".tgz": "gztar"}[kind], tmp_path / "x")
    if kind == ".tgz":
        (tmp_path / "x.tar.gz").rename(path)

    def read():
        archives._opened.cache_clear()  # two versions of one size may come within a tick of the clock
        for file in files.listed(path).files:
            data.read_image(file)

    fuzz(read, path, rewritten, 80)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_lists_of_images(suffix, tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"x")
    path = tmp_path / f"x{suffix}"
    comma = "\t" if suffix == ".tsv" else ","
    rows = [("path", "label", "split"), *((f"{n}.png", f'"a {n}"', ("train", "test")[n % 2]) for n in range(3))]
    path.write_text("".join(comma.join(row) + "\n" for row in rows))
    fuzz(lambda: lists.of_list(path, is_sorted=True), path, mangled, 300)


@pytest.mark.parametrize("change", [mangled, revalued])
@pytest.mark.parametrize(
    "content", ["n01440764 tench, Tinca\nn01443537 goldfish\n", '{"0": ["n01440764", "tench"], "1": "x"}']
)
def test_names_of_classes(content, change, tmp_path):
    if change is revalued and not content.startswith("{"):
        pytest.skip("no JSON")
    path = tmp_path / ("x.json" if content.startswith("{") else "x.txt")
    path.write_text(content)
    fuzz(lambda: names.matched(["goldfish", "x"], names.read_entries(path)), path, change, 300)


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


@pytest.mark.parametrize("path", sorted(p for p in CORPUS.iterdir() if p.is_file()), ids=lambda path: path.name)
def test_corpus(path, folder, tmp_path):
    """Files that got through once, each called after its reader: an error of ours now, or taken as it is meant."""
    from twinkeel.targets import _pte, _xnnpack

    kind = path.name.split("-")[0]
    inside = {"manifest": "manifest.json", "parity": "parity.json", "golden": "golden/golden.json", "layers": "golden/layers.json"}  # fmt: skip
    if kind in inside:
        shutil.copy(path, folder / inside[kind])
    read = {
        "layers": lambda: layers.read(folder / "golden", 2),
        "program": lambda: _pte.read_program(path),
        "graph": lambda: _xnnpack.read_graph(path.read_bytes()),
        "delegate": lambda: run_small(mil_executor.open_model(path)),
    }.get(kind, lambda: used(folder, results(tmp_path)))
    try:
        read()
    except TwinkeelError as error:
        assert len(str(error)) < 3000


BENCHMARKS = """INFO: NNAPI accelerators available: [qti-dsp,nnapi-reference]
VERBOSE: Replacing 60 out of 64 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions for subgraph 0.
INFO: Explicitly applied GPU delegate, and the model graph will be partially executed by the delegate w/ 2 delegate kernels.
INFO: count=10 first=2600 curr=2500 min=2400 max=2900 avg=2555.5 std=90 p5=2400 median=2500 p95=2900
INFO: Inference timings in us: Init: 5685, First inference: 9000, Warmup (avg): 3.1e+03, Inference (avg): 2555.5
Iteration 1 of 4: 5.5 ms
Iteration 2 of 4: 5.4 ms
Iteration 3 of 4: 5.4 ms
Iteration 4 of 4: 5.6 ms
Model executed successfully 4 time(s) in 22 ms.
Average inference time cost: 5 ms
P50 Latency: 0.0051 s
model,0.005,51200000,12,0
[{"name": "conv_kernel_time", "args": {"provider": "CPUExecutionProvider", "op_name": "Conv"}}]
"""
"""Of all three programs at once."""


def test_damaged_words_of_a_phones_benchmarks(tmp_path):
    def read():
        text = (tmp_path / "words").read_bytes().decode(errors="replace")
        for tool in tools.TOOLS.values():
            for unit in ("CPU", "NPU"):
                ask = asking.Ask(unit=unit, runs=1, threads=1)
                assert tool.placed(text, text[text.rfind("[") :], ask).ran.told
                try:
                    assert tool.read(text, text, ask).middle > 0
                except found.Unreadable as error:
                    raise TwinkeelError(str(error)) from error

    (tmp_path / "words").write_text(BENCHMARKS)
    fuzz(read, tmp_path / "words", mangled, 400)


def test_damaged_heads_of_programs_and_lists_of_phones(tmp_path):
    def read_program():
        try:
            assert binaries.read(tmp_path / "program").abi
        except binaries.Unusable as error:
            raise TwinkeelError(str(error)) from error

    def read_phones():
        listed = apple.listed((tmp_path / "phones").read_bytes())
        if not listed:
            raise TwinkeelError("no list")

    (tmp_path / "program").write_bytes(elf())
    fuzz(read_program, tmp_path / "program", rewritten, 400)
    hardware = {"platform": "iOS", "marketingName": "iPhone 16", "udid": "00008140-1"}
    write_json(
        {"result": {"devices": [{"hardwareProperties": hardware, "deviceProperties": {"name": "one"}}]}},
        tmp_path / "phones",
    )
    for change in (mangled, revalued):
        fuzz(read_phones, tmp_path / "phones", change, 200)
