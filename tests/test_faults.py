"""Parity cannot be fooled: one fault at a time in a saved package, and each is found.

A fault is a function on an opened package. Where one weight is meant, it is the largest of its layer: a rule, so that
no weight was picked because its fault shows.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.delivery import manifest
from twinkeel.targets.ios import mil_executor

IMAGES = slice(None, None, 2)
"""Golden images that a fault must show on: every other one, digits and some that are none, coloured noise among them."""

# name of the type in MIL.proto: numpy type; 4-bit values are packed, two in a byte
_HALF_BYTES = ("UINT4", "INT4")
_DTYPES = {"FLOAT16": "<f2", "FLOAT32": "<f4", "INT8": "i1", "UINT8": "u1", "INT32": "<i4", "INT4": "i1", "UINT4": "u1"}


class Package:
    """A saved package that can be changed."""

    def __init__(self, folder: Path) -> None:
        from coremltools.proto import Model_pb2

        self._model = folder / "Data" / "com.apple.CoreML" / "model.mlmodel"
        self._weights = self._model.parent / "weights" / "weight.bin"
        self.spec = Model_pb2.Model()
        self.spec.ParseFromString(self._model.read_bytes())
        self.blob = bytearray(self._weights.read_bytes())
        function = self.spec.mlProgram.functions["main"]
        self.block = function.block_specializations[function.opset]

    def save(self) -> None:
        self._model.write_bytes(self.spec.SerializeToString(deterministic=True))
        self._weights.write_bytes(self.blob)

    def ops(self, *types):
        return [op for op in self.block.operations if op.type in types]

    def source(self, op, key):
        """The stored value of an operation's input, wherever the package keeps it."""
        if key in op.attributes:
            return op.attributes[key]
        binding = op.inputs[key].arguments[0]
        if binding.HasField("value"):
            return binding.value
        return self.maker(binding.name).attributes["val"]

    def maker(self, name):
        return next(op for op in self.block.operations for output in op.outputs if output.name == name)

    def read(self, value):
        raw, dtype, shape = self._raw(value)
        if self._kind(value) in _HALF_BYTES:
            both = np.frombuffer(raw, "u1")
            values = np.stack([both & 15, both >> 4], 1).reshape(-1)[: int(np.prod(shape))].reshape(shape)
            # the highest bit of a signed one is its sign
            return values if self._kind(value) == "UINT4" else (values.astype("i1") ^ 8) - 8
        return np.frombuffer(raw, dtype).reshape(shape).copy()

    def write(self, value, array):
        if self._kind(value) in _HALF_BYTES:
            flat = array.astype("u1").reshape(-1) & 15
            flat = np.append(flat, np.zeros(flat.size % 2, "u1"))
            raw = (flat[::2] | flat[1::2] << 4).tobytes()
        else:
            raw = array.astype(_DTYPES[self._kind(value)]).tobytes()
        if value.HasField("blobFileValue"):
            start = self._start(value)
            self.blob[start : start + len(raw)] = raw
            return
        tensor = value.immediateValue.tensor
        field = tensor.WhichOneof("value")
        if field == "bytes":
            tensor.bytes.values = raw
        else:
            getattr(tensor, field).values[:] = array.reshape(-1).tolist()

    def change(self, op, key, function):
        """Replace a stored value by ``function(array)``; the array may be changed in place."""
        value = self.source(op, key)
        array = self.read(value)
        result = function(array)
        self.write(value, array if result is None else np.asarray(result))

    def _kind(self, value):
        kind = value.type.tensorType
        return kind.DESCRIPTOR.fields_by_name["dataType"].enum_type.values_by_number[kind.dataType].name

    def _start(self, value):
        return int(np.frombuffer(self.blob, "<u8", 1, value.blobFileValue.offset + 16)[0])

    def _raw(self, value):
        dtype = _DTYPES[self._kind(value)]
        shape = [d.constant.size for d in value.type.tensorType.dimensions]
        if value.HasField("blobFileValue"):
            count = int(np.prod(shape))
            size = (count + 1) // 2 if self._kind(value) in _HALF_BYTES else count * np.dtype(dtype).itemsize
            start = self._start(value)
            return bytes(self.blob[start : start + size]), dtype, shape
        tensor = value.immediateValue.tensor
        field = tensor.WhichOneof("value")
        if field == "bytes":
            return tensor.bytes.values, dtype, shape
        return np.array(getattr(tensor, field).values, dtype).tobytes(), dtype, shape


def _middle(package):
    """A pointwise convolution in the middle of the network."""
    found = [op for op in package.ops("conv") if len(package.read(package.source(op, "bias"))) > 8]
    pointwise = [op for op in found if package.read(package.source(op, "pad")).sum() == 0]
    return pointwise[len(pointwise) // 2]


def _depthwise(package):
    return next(op for op in package.ops("conv")[10:] if package.read(package.source(op, "groups")) > 1)


def _stem(package):
    return package.ops("conv")[0]


def _last(package):
    return package.ops("linear")[0]


def _weight(change, layer=_middle):
    """Change the dense weight of a layer."""

    def fault(package):
        package.change(layer(package), "weight", change)

    return fault


def _stored(key, change, layer=_middle):
    """Change what the compressed weight of a layer is made of; of the nearest to it that has such a thing, for a build
    chooses how each layer is stored."""

    def fault(package):
        chosen, layers = layer(package), [*package.ops("conv"), *package.ops("linear")]
        place = next(n for n, op in enumerate(layers) if op.outputs[0].name == chosen.outputs[0].name)
        for other in sorted(range(len(layers)), key=lambda n: abs(n - place)):
            maker = package.maker(layers[other].inputs["weight"].arguments[0].name)
            keys = [name for name in key.split("|") if name in maker.inputs or name in maker.attributes]
            if keys:
                return package.change(maker, keys[0], change)
        raise AssertionError(f"no layer has {key}")

    return fault


def _largest(array, change):
    index = np.unravel_index(np.abs(array.astype(np.float64)).argmax(), array.shape)
    array[index] = change(array[index])


def _value(kind, key, change, number=0):
    """Change a stored input of the operation `number` of a kind."""

    def fault(package):
        package.change(package.ops(kind)[number], key, change)

    return fault


def _swap(array, a=0, b=1):
    array[[a, b]] = array[[b, a]]


def _bias_sign(layer):
    def fault(package):
        package.change(layer(package), "bias", lambda b: _largest(b, lambda v: -v))

    return fault


def _stride(package):
    package.change(_depthwise(package), "strides", lambda s: 3 - s)


def _pad(package):
    op = next(o for o in package.ops("conv")[1:] if package.read(package.source(o, "pad")).sum() > 0)
    package.change(op, "pad", lambda p: np.array([p[0] + 1, p[1] - 1, p[2], p[3]]))


def _dilation(package):
    package.change(_depthwise(package), "dilations", lambda d: d + 1)


class Fullest:
    """The ReLU6 that sees the largest value on the golden images, counted from the end, and that value. On digits few
    see values above 6, and which ones depends on the training: a bound that nothing reaches has no effect."""

    number, value = 0, 0.0


@pytest.fixture(scope="module", autouse=True)
def fullest(fixed_build):
    folder = fixed_build.folders["ios"]
    entry = _entry(manifest.read_manifest(folder), "ios/coreml", "fp32")
    model = mil_executor.Model(folder / entry["path"])
    clips = Package(folder / entry["path"]).ops("clip")[1:]  # the first makes a plane of alpha
    inputs = [op.inputs["x"].arguments[0].name for op in clips]
    largest = np.zeros(len(clips))
    for pixels in _golden(folder).inputs:
        given = {model.image.name: pixels[..., :3]}
        found = model.predict(given, also=inputs).arrays
        largest = np.maximum(largest, [found[name].max() for name in inputs])
    Fullest.number, Fullest.value = int(largest.argmax()) - len(clips), float(largest.max())


def _lower_clip(package):
    """Lower the bound of the ReLU6 that sees the largest value, below that value and what a quantizer behind it holds."""
    op, top = package.ops("clip")[Fullest.number], Fullest.value
    for quantize in package.ops("quantize"):
        if quantize.inputs["input"].arguments[0].name == op.outputs[0].name:
            scale = float(package.read(package.source(quantize, "scale")))
            has_zero = "zero_point" in quantize.inputs
            top = min(
                top, scale * (127 - (float(package.read(package.source(quantize, "zero_point"))) if has_zero else 0))
            )
    package.change(op, "beta", lambda b: 0.98 * np.minimum(b, top))


def _raised_clip(package):
    """Raise the other bound of a ReLU6 in an early block."""
    package.change(package.ops("clip")[-28], "alpha", lambda a: a + 0.01)


def _remove(kind, number):
    """Take an operation out and let its readers read its input."""

    def fault(package):
        op = package.ops(kind)[number]
        source = op.inputs["x" if "x" in op.inputs else "input"].arguments[0].name
        for reader in package.block.operations:
            for argument in reader.inputs.values():
                for binding in argument.arguments:
                    if binding.name == op.outputs[0].name:
                        binding.name = source
        package.block.operations.remove(op)

    return fault


def _residual(package):
    """A residual addition adds its input to itself."""
    op = package.ops("add")[4]
    op.inputs["y"].arguments[0].name = op.inputs["x"].arguments[0].name


def _two_weights(package):
    """Two layers of equal shape read each other's weights."""
    layers: dict[tuple[int, ...], object] = {}
    for op in package.ops("conv"):
        value = package.source(op, "weight")
        shape = tuple(d.constant.size for d in value.type.tensorType.dimensions)
        if shape in layers:
            other = layers[shape].blobFileValue  # type: ignore[attr-defined]
            mine = value.blobFileValue
            mine.offset, other.offset = other.offset, mine.offset
            return
        layers[shape] = value
    raise AssertionError("no two layers of equal shape")


def _bgr(package):
    kind = package.spec.description.input[0].type.imageType
    kind.colorSpace = type(kind).ColorSpace.Value("BGR")


def _alpha_first(package):
    values = package.ops("concat")[0].inputs["values"].arguments
    names = [binding.name for binding in values]
    for binding, name in zip(values, reversed(names), strict=True):
        binding.name = name


def _labels(package):
    values = package.ops("classify")[0].inputs["classes"].arguments[0].value.immediateValue.list.values
    first, second = (v.immediateValue.tensor.strings.values for v in values[:2])
    first[0], second[0] = second[0], first[0]


def _label_missing(package):
    values = package.ops("classify")[0].inputs["classes"].arguments[0].value.immediateValue.list.values
    del values[-1]


def _no_classifier(package):
    package.block.operations.remove(package.ops("classify")[0])


def _unnamed_label(package):
    package.spec.description.predictedFeatureName = ""


def _image_size(package):
    package.spec.description.input[0].type.imageType.width += 1


def _unknown_op(package):
    package.ops("clip")[1].type = "clip_gently"


def _other_type(package):
    """float16 results declared as whole numbers."""
    package.ops("clip")[1].outputs[0].type.tensorType.dataType = 22  # INT16 in MIL.proto


def _truncated(package):
    del package.blob[len(package.blob) // 2 :]


def _no_blob(package):
    package.blob[:] = b""


def _blob_entry(package):
    value = package.source(_middle(package), "weight")
    package.blob[value.blobFileValue.offset] ^= 255


def _spec_truncated(package):
    package.save()
    content = package._model.read_bytes()
    package.save = lambda: package._model.write_bytes(content[: len(content) // 2])


def _percent(value):
    return value * 1.01


FLOAT_FAULTS = {
    "weight-sign": _weight(lambda w: _largest(w, lambda v: -v)),
    "weight-one-percent": _weight(lambda w: _largest(w, _percent)),
    "weight-zero": _weight(lambda w: _largest(w, lambda v: 0)),
    "depthwise-weight-sign": _weight(lambda w: _largest(w, lambda v: -v), _depthwise),
    "depthwise-weight-one-percent": _weight(lambda w: _largest(w, _percent), _depthwise),
    "classifier-weight-one-percent": _weight(lambda w: _largest(w, _percent), _last),
    "channels-swapped": _weight(_swap),
    "classes-swapped": _weight(_swap, _last),
    "layers-swapped": _two_weights,
    "bias-sign": _bias_sign(_middle),
    "classifier-bias-sign": _bias_sign(_last),
    "stride": _stride,
    "pad": _pad,
    "dilation": _dilation,
    "clip-bound-lower": _lower_clip,
    "clip-bound-0-to-0.01": _raised_clip,
    "alpha-254": _value("clip", "alpha", lambda a: a - 1),
    "mean-one-level": _value("sub", "y", lambda y: y + 1),
    "std-of-red": _weight(lambda w: np.concatenate([w[:, :1] * 1.01, w[:, 1:]], 1), _stem),
    "stem-red-and-blue": _weight(lambda w: w[:, [2, 1, 0, 3]], _stem),
    "mean-of-all": _weight(lambda w: np.concatenate([w[:, :3], w[:, 3:] * 1.01], 1), _stem),
    "image-bgr": _bgr,
    "image-size": _image_size,
    "alpha-first": _alpha_first,
    "label-order": _labels,
    "label-missing": _label_missing,
    "classifier-removed": _no_classifier,
    "label-unnamed": _unnamed_label,
    "clip-removed": _remove("clip", -1),
    "subtraction-removed": _remove("sub", 0),
    "residual": _residual,
    "unknown-operation": _unknown_op,
    "other-type": _other_type,
    "blob-truncated": _truncated,
    "blob-empty": _no_blob,
    "blob-entry": _blob_entry,
    "model-truncated": _spec_truncated,
}
INT8_FAULTS = {
    "weight-one-step": _stored("data|quantized_data", lambda w: _largest(w, lambda v: v - np.sign(v))),
    "weight-sign": _stored("data|quantized_data", lambda w: _largest(w, lambda v: -v)),
    "channels-swapped": _stored("data|quantized_data", _swap),
    "weight-scale-one-percent": _stored("scale", lambda s: _largest(s, _percent)),
    "weight-scale-all": _stored("scale", _percent, _depthwise),
    "classifier-weight-scale": _stored("scale", _percent, _last),
    "quantize-scale": _value("quantize", "scale", _percent, 20),
    "dequantize-scale": _value("dequantize", "scale", _percent, 20),
    "quantize-zero-point": _value("quantize", "zero_point", lambda z: z + 1, 0),
    "dequantize-zero-point": _value("dequantize", "zero_point", lambda z: z + 1, 0),
    "output-scale": _value("dequantize", "scale", _percent, -1),
    "bias-sign": _bias_sign(_middle),
    "quantizer-removed": _remove("quantize", 10),
    "clip-bound": _lower_clip,
    "stride": _stride,
    "pad": _pad,
    "mean-one-level": _value("sub", "y", lambda y: y + 1),
    "image-bgr": _bgr,
    "label-order": _labels,
    "blob-truncated": _truncated,
}
W8_FAULTS = {
    "weight-one-step": _stored("data|quantized_data", lambda w: _largest(w, lambda v: v - np.sign(v))),
    "weight-sign": _stored("data|quantized_data", lambda w: _largest(w, lambda v: -v)),
    "channels-swapped": _stored("data|quantized_data", _swap),
    "scale-one-percent": _stored("scale", lambda s: _largest(s, _percent)),
    "depthwise-weight-one-step": _stored("data|quantized_data", lambda w: _largest(w, lambda v: v - np.sign(v)), _depthwise),
    "classifier-weight-one-step": _stored("data|quantized_data", lambda w: _largest(w, lambda v: v - np.sign(v)), _last),
    "bias-sign": _bias_sign(_middle),
    "mean-one-level": _value("sub", "y", lambda y: y + 1),
    "image-bgr": _bgr,
    "label-order": _labels,
    "blob-truncated": _truncated,
}  # fmt: skip
W4_FAULTS = {
    "palette-entry-or-scale-one-percent": _stored("lut|scale", lambda p: _largest(p, _percent)),
    "palettes-or-scales-swapped": _stored("lut|scale", _swap),
    "index-one-step": _stored("indices|data", lambda i: _largest(i, lambda v: v - np.sign(v))),
    "classifier-index-one-step": _stored("indices|data", lambda i: _largest(i, lambda v: v - np.sign(v)), _last),
    "channels-swapped": _stored("indices|data", _swap),
    "depthwise-weight-one-step": _stored("data|quantized_data", lambda w: _largest(w, lambda v: v - np.sign(v)), _depthwise),
    "depthwise-scale": _stored("scale", lambda s: _largest(s, _percent), _depthwise),
    "bias-sign": _bias_sign(_middle),
    "clip-removed": _remove("clip", -1),
    "label-order": _labels,
    "blob-truncated": _truncated,
}  # fmt: skip
_NOT_IN_A_PAYLOAD = (
    "alpha-254", "image-bgr", "image-size", "alpha-first", "label-order", "label-missing", "classifier-removed",
    "label-unnamed", "blob-empty",
)  # fmt: skip
"""Faults of what a delegated payload does not have: the image, the labels, the alpha channel that is made of it. And
ExecuTorch's packer crashes on an empty file before there is a payload."""


def _of_payload(faults):
    return {name: fault for name, fault in faults.items() if name not in _NOT_IN_A_PAYLOAD}  # fmt: skip


FAULTS = {
    ("ios/coreml", "fp32"): FLOAT_FAULTS,
    ("ios/coreml", "fp16"): FLOAT_FAULTS,
    ("ios/coreml", "int8"): INT8_FAULTS,
    ("ios/coreml", "w8"): W8_FAULTS,
    ("ios/coreml", "w4"): W4_FAULTS,
    ("ios/executorch_coreml", "fp16"): _of_payload(FLOAT_FAULTS),
    ("ios/executorch_coreml", "int8"): _of_payload(INT8_FAULTS),
}
CASES = [(target, precision, name) for (target, precision), faults in FAULTS.items() for name in faults]


def test_there_are_enough_kinds():
    assert len(CASES) >= 40
    assert {precision for _, precision, _ in CASES} == {"fp32", "fp16", "int8", "w8", "w4"}


def _entry(content, target, precision):
    return next(e for e in content["artifacts"] if (e["target"], e["precision"]) == (target, precision))


def _golden(folder):
    """A few of the golden vectors: what these show, all of them show."""
    whole = manifest.read_golden(folder / "golden")
    few = {key: logits[IMAGES] for key, logits in whole.expected.items()}
    return replace(whole, names=whole.names[IMAGES], inputs=whole.inputs[IMAGES], expected=few)


def _replay(folder, entry, changed):
    content, target = manifest.read_manifest(folder), common.targets()[entry["target"]]
    return manifest.replay_artifact(folder, entry | {"path": str(changed)}, target, _golden(folder), content)


def _with_payload(path, fault, scratch):
    """Apply a fault to the Core ML payload of an ExecuTorch program."""
    from executorch.backends.apple.coreml import executorchcoreml
    from executorch.exir._serialize._program import deserialize_pte_binary, serialize_pte_binary

    package = Package(mil_executor.unpack_delegate(path, scratch))
    fault(package)
    package.save()
    file = deserialize_pte_binary(path.read_bytes())
    file.program.backend_delegate_data[0].data = executorchcoreml.flatten_directory_contents(
        str(scratch / "lowered_module")
    )
    path.write_bytes(bytes(serialize_pte_binary(file)))


def _nothing(package):
    pass


@pytest.mark.parametrize(("target", "precision", "name"), CASES, ids=lambda value: value)
def test_a_fault_fails_parity_and_the_message_names_the_leg(target, precision, name, fixed_build, tmp_path):
    folder = fixed_build.folders["ios"]
    entry = _entry(manifest.read_manifest(folder), target, precision)
    source, fault = folder / entry["path"], FAULTS[target, precision][name]
    changed = tmp_path / source.name
    if source.is_dir():
        package = Package(shutil.copytree(source, changed))
        fault(package)
        package.save()
    else:
        shutil.copy(source, changed)
        _with_payload(changed, fault, tmp_path / "payload")
    failed = [str(check) for check in _replay(folder, entry, changed) if not check.is_met]
    assert failed, f"{target} {precision}: {name} was not seen"
    assert all(message.startswith("lower: ") for message in failed), failed


@pytest.mark.parametrize(("target", "precision"), FAULTS, ids=lambda value: value)
def test_an_untouched_package_passes_after_the_same_round_trip(target, precision, fixed_build, tmp_path):
    folder = fixed_build.folders["ios"]
    entry = _entry(manifest.read_manifest(folder), target, precision)
    source = folder / entry["path"]
    copy = tmp_path / source.name
    if source.is_dir():
        Package(shutil.copytree(source, copy)).save()
    else:
        shutil.copy(source, copy)
        _with_payload(copy, _nothing, tmp_path / "payload")
    checks = _replay(folder, entry, copy)
    assert len(checks) >= 2
    assert all(check.is_met for check in checks), [str(check) for check in checks]


def test_other_instructions_than_the_cast_and_the_call_are_refused(fixed_build, tmp_path):
    from executorch.exir._serialize._program import deserialize_pte_binary, serialize_pte_binary
    from twinkeel.pipeline.errors import PackageError

    folder = fixed_build.folders["ios"]
    entry = _entry(manifest.read_manifest(folder), "ios/executorch_coreml", "fp16")
    file = deserialize_pte_binary((folder / entry["path"]).read_bytes())
    instructions = file.program.execution_plan[0].chains[0].instructions
    instructions.append(instructions[0])
    changed = tmp_path / "changed.pte"
    changed.write_bytes(bytes(serialize_pte_binary(file)))
    with pytest.raises(PackageError, match="a cast and one call of Core ML are known"):
        common.targets()["ios/executorch_coreml"].load(changed)
