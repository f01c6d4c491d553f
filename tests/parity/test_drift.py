"""Drift: clean artifacts show none, and each planted fault is named at its own layer.

A fault is planted in a copy of a shipped file, by its own format: flatbuffer, protobuf, XNNPACK payload, weight blob.
A fault is one that shows with any weights: a single weight behind a channel that is always 0 changes nothing, and a
small bias no step. So the largest weight of every output channel is meant, and the scales and biases of all.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.delivery import manifest
from twinkeel.pipeline.errors import ConversionError, ParityError, VerifyError
from twinkeel.pipeline.files import write_json
from twinkeel.pipeline.parity import drift, limits
from twinkeel.pipeline.program import layers
from twinkeel.pipeline.program.artifact import LayerValue

STEM, DEPTHWISE, EXPAND = "features.0.0", "features.6.conv.1.0", "features.8.conv.0.0"
PROJECT, ADDITION, MEAN, CLASSIFIER = "features.5.conv.2", "features.9.conv.2 + residual", "mean", "classifier.1"
INTEGERS = ("int8", "int8-onnxruntime", "int8-xnnpack")
LAYERS = 65
"""Of MobileNetV2 at the width of the kept weights: 52 convolutions, 11 additions, mean, classifier."""
ROLES = (STEM, DEPTHWISE, EXPAND, PROJECT, ADDITION, MEAN, CLASSIFIER)


def wrong_scale(scale):
    return scale * 1.05


def one_higher(zero_point):
    return zero_point + 1


def wrong_channel(scales):
    """Each channel's scale at its neighbour."""
    return np.roll(scales, 1)


def wrong_weight(weights):
    """The largest weight of each output channel, which is 127 steps from 0, has the other sign."""
    return np.where(np.abs(weights.astype(np.int16)) == 127, -weights, weights)


def wrong_bias(biases):
    """At a scale that is four times as large, as a converter has once left one."""
    return 4 * biases


def lower_bound(_):
    return 1.0


class LiteRT:
    """A .tflite that can be changed: `change` is given an array and returns another."""

    def __init__(self, path, number):
        from ai_edge_litert.tools import flatbuffer_utils
        from twinkeel.targets.android import litert

        self.path = path
        self.model = flatbuffer_utils.convert_bytearray_to_object(path.read_bytes())
        graph = self.model.subgraphs[0]
        output = list(litert._layers_of(self.model))[number]
        op = next(op for op in graph.operators if op.outputs[0] == output)
        self.output = graph.tensors[output]
        self.weight, self.bias = (graph.tensors[n] if n >= 0 else None for n in [*op.inputs, -1, -1][1:3])

    def scale(self, change):
        self.output.quantization.scale = change(np.array(self.output.quantization.scale, np.float32))

    def zero_point(self, change):
        self.output.quantization.zeroPoint = change(np.array(self.output.quantization.zeroPoint))

    def weight_scale(self, change):
        self.weight.quantization.scale = change(np.array(self.weight.quantization.scale, np.float32))

    def weights(self, change):
        self._change(self.weight, np.int8, change)

    def biases(self, change):
        self._change(self.bias, np.int32, change)

    def _change(self, tensor, dtype, change):
        buffer = self.model.buffers[tensor.buffer]
        buffer.data = change(np.array(buffer.data, np.uint8).view(dtype)).view(np.uint8)

    def save(self):
        from ai_edge_litert.tools import flatbuffer_utils

        self.path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(self.model)))


class ExecuTorch:
    """The XNNPACK payload of a .pte."""

    def __init__(self, path, number):
        from executorch.exir._serialize._program import deserialize_pte_binary
        from twinkeel.targets import _xnnpack

        self.path = path
        self.file = deserialize_pte_binary(path.read_bytes())
        self.payload = self.file.program.backend_delegate_data[0]
        self.graph, self.constants = _xnnpack.read_graph(bytes(self.payload.data))
        self.values = {}
        for value in self.graph["xvalues"]:
            tensor = value["xvalue_union"].get("tensor_value", value["xvalue_union"])
            self.values[tensor["id_out"]] = (tensor, value["xvalue_union"].get("quant_params"))
        self.layer = [node for node in self.graph["xnodes"] if node["xnode_union_type"] in _xnnpack._LAYERS][number]
        self.node = self.layer["xnode_union"]

    def scale(self, change):
        """Of the output, and of the values that only move it: XNNPACK refuses a move that changes a scale."""
        moved = [self.node["output_id"]]
        for node in self.graph["xnodes"]:
            if "Static" in node["xnode_union_type"] and node["xnode_union"]["input_id"] in moved:
                moved.append(node["xnode_union"]["output_id"])
        for number in moved:
            parameters = self.values[number][1]
            parameters["scale"] = bits_of(change(float_of(parameters["scale"])))

    def zero_point(self, change):
        parameters = self.values[self.node["output_id"]][1]
        parameters["zero_point"] = change(parameters["zero_point"])

    def weight_scale(self, change):
        self._change(self.values[self.node["filter_id"]][1]["scale_buffer_idx"], np.float32, change)

    def weights(self, change):
        self._change(self.values[self.node["filter_id"]][0]["constant_buffer_idx"], np.int8, change)

    def biases(self, change):
        self._change(self.values[self.node["bias_id"]][0]["constant_buffer_idx"], np.int32, change)

    def upper_bound(self, change):
        bounds = self.layer["output_min_max"]
        bounds["output_max"] = bits_of(change(float_of(bounds["output_max"])))

    def _change(self, index, dtype, change):
        stored = self.file.named_data
        place = stored.pte_data[self.graph["constant_data"][index]["named_key"]].buffer_index
        stored.buffers[place] = change(np.frombuffer(stored.buffers[place], dtype)).tobytes()

    def save(self):
        from executorch.exir._serialize._program import serialize_pte_binary
        from twinkeel.targets import _xnnpack

        self.payload.data = _xnnpack.written_graph(self.graph, self.constants)
        self.path.write_bytes(bytes(serialize_pte_binary(self.file)))


def float_of(bits):
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def bits_of(value):
    return struct.unpack("<I", struct.pack("<f", value))[0]


class Onnx:
    """An .onnx; a constant that several nodes share is copied first."""

    def __init__(self, path, number):
        import onnx

        self.path = path
        self.model = onnx.load(path)
        self.makers = {name: node for node in self.model.graph.node for name in node.output}
        behind = ("Conv", "Add", "GlobalAveragePool", "Gemm")
        found = [
            (node, chain)
            for node in self.model.graph.node
            if node.op_type == "QuantizeLinear" and (chain := self._chain(node))[-1].op_type in behind
        ]
        self.quantize, self.chain = found[number]

    def _chain(self, node):
        """What is between a quantizer and its layer, the layer last."""
        chain = [self.makers[node.input[0]]]
        while chain[-1].op_type == "Clip":
            chain.append(self.makers[chain[-1].input[0]])
        return chain

    def scale(self, change):
        self._change(self.quantize, 1, change)
        for node in self.model.graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] == self.quantize.output[0]:
                node.input[1] = self.quantize.input[1]

    def zero_point(self, change):
        self._change(self.quantize, 2, change)

    def weight_scale(self, change):
        self._change(self.makers[self.chain[-1].input[1]], 1, change)

    def weights(self, change):
        """Those that are stored as uint8 have the zero point 128."""

        def on_either(stored):
            is_unsigned = stored.dtype == np.uint8
            return change(stored.astype(np.int16) - 128 * is_unsigned) + 128 * is_unsigned

        self._change(self.makers[self.chain[-1].input[1]], 0, on_either)

    def biases(self, change):
        self._change(self.chain[-1], 2, change)

    def upper_bound(self, change):
        from onnx import numpy_helper

        bound = numpy_helper.from_array(np.float32(change(6)), "lower bound")
        self.model.graph.initializer.append(bound)
        self.chain[0].input[2] = "lower bound"

    def _change(self, node, place, change):
        from onnx import numpy_helper

        name = node.input[place]
        array = numpy_helper.to_array(next(i for i in self.model.graph.initializer if i.name == name))
        changed = np.asarray(change(array), array.dtype)
        self.model.graph.initializer.append(numpy_helper.from_array(changed, f"{name} changed"))
        node.input[place] = f"{name} changed"

    def save(self):
        self.path.write_bytes(self.model.SerializeToString())


class CoreML:
    """The ML Program of an .mlpackage: protobuf and weight blob."""

    def __init__(self, path, number):
        from coremltools.proto import Model_pb2
        from twinkeel.targets.ios import mil_executor

        self.model = path / "Data" / "com.apple.CoreML" / "model.mlmodel"
        self.blob = self.model.parent / "weights" / "weight.bin"
        self.spec = Model_pb2.Model()
        self.spec.ParseFromString(self.model.read_bytes())
        self.content = bytearray(self.blob.read_bytes())
        function = self.spec.mlProgram.functions["main"]
        self.operations = function.block_specializations[function.opset].operations
        self.makers = {output.name: op for op in self.operations for output in op.outputs}
        self.quantize = self.makers[list(mil_executor.Model(path).quantized_layers)[number]]
        self.layer = self.makers[self.quantize.inputs["input"].arguments[0].name]
        self.clip = self.layer if self.layer.type == "clip" else None
        if self.clip is not None:
            self.layer = self.makers[self.clip.inputs["x"].arguments[0].name]

    def scale(self, change):
        self._change(self.quantize, "scale", change)

    def zero_point(self, change):
        inputs = self.quantize.inputs
        if "zero_point" not in inputs:  # coremltools leaves one of 0 out
            other = next(op for op in self.operations if op.type == "quantize" and "zero_point" in op.inputs)
            binding = other.inputs["zero_point"].arguments[0]
            value = binding.value if binding.HasField("value") else self.makers[binding.name].attributes["val"]
            inputs["zero_point"].arguments.add().value.CopyFrom(value)
            self._change(self.quantize, "zero_point", lambda stored: 0 * stored)
        self._change(self.quantize, "zero_point", change)

    def weight_scale(self, change):
        self._change(self._weight(), "scale", change)

    def weights(self, change):
        self._change(self._weight(), "data", change)

    def biases(self, change):
        self._change(self.layer, "bias", change)

    def upper_bound(self, change):
        self._change(self.clip, "beta", change)

    def _weight(self):
        return self.makers[self.layer.inputs["weight"].arguments[0].name]

    def _change(self, op, key, change):
        """Change the value of an input, which is its own, a constant's, or in the blob."""
        binding = op.inputs[key].arguments[0]
        value = binding.value if binding.HasField("value") else self.makers[binding.name].attributes["val"]
        kind = {10: "<f2", 11: "<f4", 21: "i1", 31: "u1", 23: "<i4"}[value.type.tensorType.dataType]  # MIL.proto
        if value.HasField("blobFileValue"):
            size, start = struct.unpack_from("<QQ", self.content, value.blobFileValue.offset + 8)
            array = np.frombuffer(bytes(self.content[start : start + size]), kind)
            self.content[start : start + size] = np.asarray(change(array), kind).tobytes()
            return
        tensor = value.immediateValue.tensor
        field = tensor.WhichOneof("value")
        if field == "bytes":
            tensor.bytes.values = np.asarray(change(np.frombuffer(tensor.bytes.values, kind)), kind).tobytes()
        else:
            stored = getattr(tensor, field).values
            stored[:] = np.atleast_1d(change(np.array(stored))).tolist()

    def save(self):
        self.model.write_bytes(self.spec.SerializeToString())
        self.blob.write_bytes(self.content)


class ExecuTorchCoreML(CoreML):
    """The same inside a .pte."""

    def __init__(self, path, number):
        from twinkeel.targets.ios import mil_executor

        self.path, self.folder = path, path.parent / "payload"
        super().__init__(mil_executor.unpack_delegate(path, self.folder), number)

    def save(self):
        from executorch.backends.apple.coreml import executorchcoreml
        from executorch.exir._serialize._program import deserialize_pte_binary, serialize_pte_binary

        super().save()
        file = deserialize_pte_binary(self.path.read_bytes())
        packed = executorchcoreml.flatten_directory_contents(str(self.folder / "lowered_module"))
        file.program.backend_delegate_data[0].data = packed
        self.path.write_bytes(bytes(serialize_pte_binary(file)))


EDITORS = {
    "android/litert": LiteRT,
    "android/executorch": ExecuTorch,
    "android/onnx": Onnx,
    "ios/coreml": CoreML,
    "ios/executorch_coreml": ExecuTorchCoreML,
}
FAULTS = {
    "activation-scale": ("scale", wrong_scale, ROLES),
    "zero-point": ("zero_point", one_higher, (PROJECT, ADDITION, CLASSIFIER)),
    "channel-weight-scale": ("weight_scale", wrong_channel, (STEM, DEPTHWISE, EXPAND, PROJECT, CLASSIFIER)),
    "weight": ("weights", wrong_weight, (STEM, DEPTHWISE, EXPAND, PROJECT, CLASSIFIER)),
    "bias": ("biases", wrong_bias, (STEM, DEPTHWISE, EXPAND, PROJECT, CLASSIFIER)),
    "relu6-bound": ("upper_bound", lower_bound, (STEM, DEPTHWISE, EXPAND)),
}
CASES = [
    (target, fault, layer)
    for target, editor in EDITORS.items()
    for fault, (what, _, places) in FAULTS.items()
    for layer in places
    if hasattr(editor, what)
]


@pytest.fixture(scope="module")
def finished(fixed_build):
    """The build whose artifacts are looked at."""
    return fixed_build


@pytest.fixture(scope="module")
def shipped(finished):
    """Artifact, recording and golden inputs by target."""
    found = {}
    for folder in finished.folders.values():
        golden = manifest.read_golden(folder / "golden")
        recording = layers.read(folder / "golden", len(golden.inputs))
        for entry in manifest.read_manifest(folder)["artifacts"]:
            if entry["precision"] == "int8":
                found[entry["target"]] = (folder / entry["path"], recording, golden.inputs, entry["reference"])
    return found


def drifted(path, target, recording, inputs, reference):
    module = common.targets()[target]
    candidate = drift.candidates(module.trace(path), inputs, recording, reference, target)
    found = drift.compare(recording, reference, candidate, module.KERNELS)
    return drift.RuntimeDrift(targets=(target,), reference=reference, layers=found)


def planted(target, shipped, folder, number, what, change):
    """A copy of the artifact with a fault in one layer."""
    source = shipped[target][0]
    copy = folder / source.name
    if source.is_dir():
        shutil.copytree(source, copy)
    else:
        shutil.copy(source, copy)
    editor = EDITORS[target](copy, number)
    getattr(editor, what)(change)
    editor.save()
    return copy


@pytest.mark.parametrize(("target", "fault", "layer"), CASES, ids=lambda value: value)
def test_a_fault_is_named_at_its_own_layer(target, fault, layer, shipped, tmp_path):
    what, change, _ = FAULTS[fault]
    _, recording, inputs, reference = shipped[target]
    number = [x.name for x in recording.layers].index(layer)
    found = drifted(planted(target, shipped, tmp_path, number, what, change), target, recording, inputs, reference)
    assert found.first is not None, f"{target}: {fault} in {layer} was not seen"
    assert found.first.name == layer, str(found)


def test_faults_are_planted_in_every_runtime_kind_and_role():
    assert len(CASES) >= 100
    assert {(target, layer) for target, _, layer in CASES} == {(t, layer) for t in EDITORS for layer in ROLES}


@pytest.mark.parametrize("target", EDITORS)
def test_a_clean_artifact_shows_none_and_passes_after_the_same_round_trip(target, shipped, tmp_path):
    path, *expected = shipped[target]
    nothing = planted(target, shipped, tmp_path, 0, "scale", lambda scale: scale)
    for clean in (path, nothing):
        found = drifted(clean, target, *expected)
        assert found.first is None, str(found)
        assert len(found.layers) == LAYERS
        share = min(layer.equal_values for layer in found.layers)
        assert share >= (0.999 if target == "android/onnx" else 1), f"{target}: {share}"


def test_a_scale_that_only_the_reader_has_wrong_shows_at_the_reader(shipped, tmp_path):
    _, recording, inputs, reference = shipped["android/onnx"]
    copy = tmp_path / "model.onnx"
    shutil.copy(shipped["android/onnx"][0], copy)
    names = [layer.name for layer in recording.layers]
    editor = Onnx(copy, names.index(EXPAND))
    reader = next(n for n in editor.model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == editor.quantize.output[0])  # fmt: skip
    editor._change(reader, 1, wrong_scale)
    editor.save()
    found = drifted(copy, "android/onnx", recording, inputs, reference)
    assert found.first is not None
    assert found.first.name == names[names.index(EXPAND) + 1], str(found)


def test_the_recorded_steps_of_the_last_layer_are_the_expected_logits(finished):
    for folder, keys in (("android", INTEGERS), ("ios", (*INTEGERS, "int8-fp16"))):
        golden = manifest.read_golden(finished.folders[folder] / "golden")
        recording = layers.read(finished.folders[folder] / "golden", len(golden.inputs))
        assert set(recording.steps) == set(keys)
        last = recording.layers[-1]
        for key in keys:
            scale = np.float64(np.float16(last.scale)) if key == "int8-fp16" else last.scale
            logits = (recording.of(key)[-1].astype(np.float64) - last.zero_point) * scale
            assert np.allclose(logits, golden.expected[key], rtol=1e-6, atol=1e-7), key


def test_recording_is_the_same_each_time_and_small(small_program, tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 4), np.uint8)
    files = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        layers.write(layers.watch(small_program, "int8", images)[1], tmp_path / name, ["int8"])
        files.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert files[0] == files[1]
    assert len(files[0]["layers-int8.i8"]) <= 2 * LAYERS * layers.SAMPLES


@pytest.mark.parametrize(
    "shape",
    [(1, 1280, 7, 7), (1, 96, 112, 112), (1, 32, 112, 112), (1, 144, 28, 28), (1, 2400, 3, 3), (1, 1280)],
    ids=str,
)
def test_samples_come_from_every_channel_row_and_column(shape):
    index = np.unravel_index(layers.sampled(shape), shape)
    assert [len(set(axis)) for axis in index] == list(shape)
    assert len(index[0]) <= max(layers.SAMPLES, 2 * shape[1])


def _recording(steps):
    layer = layers.Layer(name="a", kind="convolution", shape=(1, 8, 16, 16), scale=1.0, zero_point=0)
    return layers.Recording(layers=(layer, dataclasses.replace(layer, name="b")), steps={"int8": steps})


def test_one_rounding_is_allowed_where_sums_are_rounded_and_nowhere_else():
    count = len(layers.sampled((1, 8, 16, 16)))
    reference = np.full((4, 2 * count), 50, np.int8)
    flipped = reference.copy()
    flipped[0, 3] += 1
    flipped[:2, count : count + 3] += 1  # six times more behind it
    recording, candidate = _recording(reference), np.split(flipped, 2, axis=1)
    for kernels, first in (("onnxruntime", None), ("coreml", None), ("xnnpack", "a")):
        found = drift.compare(recording, "int8", candidate, kernels)
        assert next((layer.name for layer in found if not layer.is_within), None) == first
    flipped[:, count : 2 * count : 50] += 1
    found = drift.compare(recording, "int8", np.split(flipped, 2, axis=1), "onnxruntime")
    assert [layer.is_within for layer in found] == [True, False]
    flipped[0, 3] += 1  # two steps at once are no rounding
    found = drift.compare(recording, "int8", np.split(flipped, 2, axis=1), "coreml")
    assert not found[0].is_within


@pytest.mark.parametrize("change", ["kind", "shape", "missing", "more"])
def test_layers_that_do_not_match_are_one_error_that_names_both(change):
    values = [LayerValue(kind="convolution", steps=np.zeros((1, 8, 16, 16), np.int8))] * 2
    changed = {
        "kind": [values[0], dataclasses.replace(values[1], kind="depthwise")],
        "shape": [values[0], LayerValue(kind="convolution", steps=np.zeros((1, 16, 16, 8), np.int8))],
        "missing": values[:1],
        "more": [*values, values[0]],
    }[change]
    recording = _recording(np.zeros((1, 2 * len(layers.sampled((1, 8, 16, 16)))), np.int8))
    image, number = np.zeros((1, 16, 16, 4), np.uint8), 3 if change == "more" else 2
    with pytest.raises(VerifyError, match=f"some/target has {len(changed)} layers, the reference 2; layer {number} is"):
        drift.candidates(lambda _: changed, image, recording, "int8", "some/target")
    assert drift.candidates(lambda _: values, image, recording, "int8", "some/target")


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 1, 3), (3, 2, 1, 0), (0, 3, 2, 1)], ids=str)
@pytest.mark.parametrize("fault", [None, 0, 1, 2])
def test_layers_beside_each_other_are_told_apart_by_their_values_in_whatever_order_they_run(order, fault):
    """Heads of a detector: three of one kind and shape, behind ReLUs, and one of another."""
    random = np.random.default_rng(0)
    shapes = [(1, 8, 16, 16), (1, 8, 16, 16), (1, 8, 16, 16), (1, 2, 16, 16)]
    given = [[random.integers(-255, 128, shape).clip(-128).astype(np.int8) for shape in shapes] for _ in range(2)]
    named = [
        layers.Layer(name=name, kind="convolution", shape=shape, scale=1.0, zero_point=-128)
        for name, shape in zip("abcd", shapes, strict=True)
    ]
    kept = [[one.reshape(-1)[layers.sampled(one.shape)] for one in image] for image in given]
    recording = layers.Recording(
        layers=tuple(named), steps={"int8": np.stack([np.concatenate(image) for image in kept])}
    )

    def trace(image):
        values = list(given[image[0, 0, 0, 0]])
        if fault is not None:
            values[fault] = np.roll(values[fault], 1, axis=1)
        return [LayerValue(kind="convolution", steps=values[number]) for number in order]

    images = np.zeros((2, 16, 16, 4), np.uint8)
    images[1] = 1
    found = drift.compare(
        recording, "int8", drift.candidates(trace, images, recording, "int8", "some/target"), "xnnpack"
    )
    assert [layer.name for layer in found if not layer.is_within] == ([] if fault is None else ["abcd"[fault]])


def test_layers_of_a_file_that_computes_something_else_when_opened_are_refused():
    from twinkeel.targets import _layers

    logits = np.zeros((1, 10), np.float32)
    trace = _layers.checked(lambda _: (logits + 1, []), lambda _: logits, Path("model.onnx"))
    with pytest.raises(ConversionError, match=r"model.onnx' gives other outputs"):
        trace(np.zeros((1, 2, 2, 4), np.uint8))


def _copied(finished, out, platforms=("android", "ios")):
    for platform in platforms:
        shutil.copytree(finished.folders[platform], out / platform)
    return out


def _seal(folder, artifacts=None):
    """Hash a changed folder again, as someone who cheats would."""
    listed = json.loads((folder / "manifest.json").read_text())
    listed["artifacts"] = artifacts if artifacts is not None else listed["artifacts"]
    manifest.write(listed | {"files": manifest.hash_files(folder)}, folder / "manifest.json")


def test_the_command_writes_a_table_and_a_picture(finished, run_cli, tmp_path):
    out = _copied(finished, tmp_path / "out")
    result = run_cli("drift", out)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    rows = list(csv.DictReader((out / "drift.csv").read_text().splitlines()))
    assert len(rows) == 7 * LAYERS
    assert {row["within_limit"] for row in rows} == {"yes"}
    assert (out / "drift.png").read_bytes().startswith(b"\x89PNG")
    assert (
        result.output.count(f"within its limits in all {LAYERS} layers") == 5
    )  # ExecuTorch and ONNX are the same for both
    for platform in ("android", "ios"):
        manifest.verify(out / platform)


def test_an_artifact_that_differs_between_the_platforms_is_measured_twice(finished, run_cli, tmp_path, shipped):
    out = _copied(finished, tmp_path)
    editor = Onnx(out / "ios" / "onnx" / shipped["android/onnx"][0].name, 0)
    editor.scale(wrong_scale)
    editor.save()
    _seal(out / "ios")
    result = run_cli("drift", out)
    assert str(result.exception).startswith("ios/onnx: leaves its limit first at features.0.0 "), result.exception
    assert "android/onnx: within its limits" in result.output


def test_folders_of_two_builds_are_not_drawn_together(finished, run_cli, tmp_path):
    out = _copied(finished, tmp_path)
    path = out / "ios" / "golden" / "layers-int8.i8"
    path.write_bytes(path.read_bytes()[::-1])
    _seal(out / "ios")
    with pytest.raises(VerifyError, match="different models or images"):
        raise run_cli("drift", out).exception


def test_the_command_names_the_layer_and_fails_as_parity_does(finished, run_cli, tmp_path, shipped):
    folder = _copied(finished, tmp_path, ["android"]) / "android"
    number = [layer.name for layer in shipped["android/litert"][1].layers].index(PROJECT)
    editor = LiteRT(folder / "litert" / shipped["android/litert"][0].name, number)
    editor.weights(wrong_weight)
    editor.save()
    _seal(folder)
    result = run_cli("drift", folder)
    assert isinstance(result.exception, ParityError)
    assert f"android/litert: leaves its limit first at {PROJECT} (convolution, layer {number + 1} of {LAYERS})" in str(
        result.exception
    )
    assert "android/onnx" not in str(result.exception)
    rows = list(csv.DictReader((tmp_path / "drift.csv").read_text().splitlines()))
    assert next(row for row in rows if row["within_limit"] == "no")["layer"] == PROJECT
    manifest.verify(folder)  # nothing was written into it


def _without_layers(folder):
    for path in (folder / "golden").glob("layers*"):
        path.unlink()


def _cut(folder):
    path = folder / "golden" / "layers-int8-xnnpack.i8"
    path.write_bytes(path.read_bytes()[:-1])


def _no_list(folder):
    (folder / "golden" / "layers.json").write_text('{"layers": [{"name": 1}], "references": []}')


def _other_network(folder):
    path = folder / "golden" / "layers.json"
    described = json.loads(path.read_text())
    described["layers"][4]["kind"] = "linear"
    write_json(described, path)


def _float_only(folder):
    listed = json.loads((folder / "manifest.json").read_text())["artifacts"]
    _seal(folder, [entry for entry in listed if entry["precision"] != "int8"])


def _damaged(folder):
    path = next((folder / "onnx").glob("*-int8.onnx"))
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_layers, "keeps no layers of the reference"),
        (_cut, "layers of the reference .* are not whole"),
        (_no_list, "layers of the reference .* are not whole"),
        (_other_network, "layer 5 is convolution .* there and linear .* in the reference"),
        (_float_only, "no int8 artifact"),
        (_damaged, "android/onnx int8 does not run"),
    ],
    ids=["old", "cut-off", "no-list", "other-network", "no-int8", "damaged"],
)
def test_a_folder_that_cannot_be_looked_at_is_one_clear_error(damage, message, finished, run_cli, tmp_path):
    folder = _copied(finished, tmp_path, ["android"]) / "android"
    damage(folder)
    _seal(folder)
    result = run_cli("drift", tmp_path)
    assert isinstance(result.exception, VerifyError), repr(result.exception)
    with pytest.raises(VerifyError, match=message):
        raise result.exception
    assert not (tmp_path / "drift.csv").exists()


def test_a_runtime_whose_file_hides_its_layers_is_left_out_and_named(finished, run_cli, tmp_path, monkeypatch):
    """As an ExecuTorch program of several delegates does. Where every one does so, that is the error."""
    _copied(finished, tmp_path, ["android"])
    hidden = {name for name in common.targets() if name.startswith("android/")}
    for name in sorted(hidden, reverse=True):

        def trace(path, name=name):
            raise ConversionError(f"'{path}' of {name} is more than one call")

        monkeypatch.setattr(common.targets()[name], "trace", trace)
        result = run_cli("drift", tmp_path)
        hidden.discard(name)
        if hidden:
            assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
            assert f"{name} int8 is left out" in result.output
            assert len((tmp_path / "drift.csv").read_text().splitlines()) == 1 + LAYERS * len(hidden)
    assert isinstance(result.exception, ConversionError)


def test_an_empty_folder_is_a_clear_error(run_cli, tmp_path):
    assert isinstance(run_cli("drift", tmp_path).exception, VerifyError)


def test_every_limit_of_a_layer_has_a_reason():
    assert set(limits.LAYER_LIMITS) == {target.KERNELS for target in common.targets().values()}
    assert all(limit.reason for limits in limits.LAYER_LIMITS.values() for limit in limits)
