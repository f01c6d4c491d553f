"""Bilinear resizing: the runtimes themselves, over sizes of every kind."""

from __future__ import annotations

import platform

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from twinkeel.pipeline.program import integer, resizing
from twinkeel.targets.runtimes import litert

CASES = 40
"""Of each kind; each has its own sizes, grid and values."""


def cases(align_corners):
    """(map ``(1, 4, H, W)`` of bytes, size, scale, zero point)."""
    random = np.random.default_rng(int(align_corners))
    for number in range(CASES):
        before, after = random.integers(1, 20, 2), random.integers(1, 40, 2)
        after = after if number % 3 else before * int(random.integers(2, 5))
        pixels = random.integers(0, 256, (1, 4, *before), np.uint8)
        yield pixels, [int(side) for side in after], float(random.uniform(0.003, 0.2)), int(random.integers(0, 256))


def _resized_by_litert(pixels, size, scale, zero_point, align_corners):
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    steps = (pixels.astype(np.int16) - 128).astype(np.int8).transpose(0, 2, 3, 1)
    grid = {"scale": np.array([scale], np.float32), "zeroPoint": np.array([zero_point - 128])}

    def tensor(name, shape, kind, buffer, **quantization):
        made = schema.QuantizationParametersT(**quantization) if quantization else None
        return schema.TensorT(name=name, shape=np.array(shape, np.int32), type=kind, buffer=buffer, quantization=made)

    int8, int32, resize = schema.TensorType.INT8, schema.TensorType.INT32, schema.BuiltinOperator.RESIZE_BILINEAR
    options = schema.ResizeBilinearOptionsT(alignCorners=align_corners, halfPixelCenters=not align_corners)
    operator = schema.OperatorT(
        opcodeIndex=0, inputs=np.array([0, 1], np.int32), outputs=np.array([2], np.int32),
        builtinOptionsType=schema.BuiltinOptions.ResizeBilinearOptions, builtinOptions=options,
    )  # fmt: skip
    graph = schema.SubGraphT(
        tensors=[
            tensor("x", steps.shape, int8, 0, **grid),
            tensor("size", [2], int32, 1),
            tensor("y", [1, *size, steps.shape[3]], int8, 0, **grid),
        ],
        inputs=np.array([0], np.int32), outputs=np.array([2], np.int32), operators=[operator],
    )  # fmt: skip
    model = schema.ModelT(
        version=3,
        operatorCodes=[schema.OperatorCodeT(builtinCode=resize, deprecatedBuiltinCode=resize, version=3)],
        buffers=[schema.BufferT(), schema.BufferT(data=np.frombuffer(np.array(size, np.int32).tobytes(), np.uint8))],
        subgraphs=[graph],
    )
    interpreter = litert.interpreter(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], steps)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("align_corners", [False, True])
def test_xnnpack_resizes_steps(align_corners):
    for pixels, size, scale, zero_point in cases(align_corners):
        found = _resized_by_litert(pixels, size, scale, zero_point, align_corners)
        expected = resizing.of_steps(torch.from_numpy(pixels).double() - 128, size, align_corners).numpy()
        assert (found == expected).all(), (pixels.shape, size, np.abs(found - expected).max())


def _resized_by_onnxruntime(pixels, size, scale, zero_point, align_corners):
    import onnx
    import onnxruntime

    constants = {"scale": np.float32(scale), "zero": np.uint8(zero_point), "size": np.array([1, 4, *size], np.int64)}
    mode = "align_corners" if align_corners else "half_pixel"
    make, kind = onnx.helper, onnx.TensorProto.UINT8
    graph = make.make_graph(
        [
            make.make_node("DequantizeLinear", ["x", "scale", "zero"], ["real"]),
            make.make_node(
                "Resize", ["real", "", "", "size"], ["resized"], mode="linear", coordinate_transformation_mode=mode
            ),
            make.make_node("QuantizeLinear", ["resized", "scale", "zero"], ["y"]),
        ],
        "resizing",
        [make.make_tensor_value_info("x", kind, pixels.shape)],
        [make.make_tensor_value_info("y", kind, [1, 4, *size])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    content = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=8).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": pixels})[0]


@pytest.mark.parametrize("align_corners", [False, True])
def test_onnxruntime_resizes_floats_as_one_of_two_does(align_corners):
    """On x86 the one that the reference takes; on arm64 the other, which is another one in few values."""
    apart, values = dict.fromkeys(("x86_64", "arm64"), 0), 0
    for pixels, size, scale, zero_point in cases(align_corners):
        found = _resized_by_onnxruntime(pixels, size, scale, zero_point, align_corners)
        x = integer.Steps(torch.from_numpy(pixels).float() - 128, scale, zero_point - 128)
        for machine, resize in (("x86_64", integer.KERNELS["onnxruntime"].resize), ("arm64", integer.resized_on_arm64)):
            real = resize(x, size, align_corners)
            steps = integer._quantize(integer.KERNELS["onnxruntime"], real, scale, zero_point - 128, -128, 127)
            apart[machine] += int((steps.values.numpy() + 128 != found).sum())
        values += found.size
    machine = "x86_64" if platform.machine() in ("x86_64", "AMD64") else "arm64"
    assert apart[machine] == 0 and max(apart.values()) <= 0.01 * values, (apart, values)


@pytest.mark.parametrize("align_corners", [False, True])
def test_both_are_what_torch_computes_but_for_rounding(align_corners):
    for pixels, size, _, _ in cases(align_corners):
        steps = torch.from_numpy(pixels).double()
        wanted = F.interpolate(steps, size=size, mode="bilinear", align_corners=align_corners)
        # XNNPACK's weights are off by 2**-12 of 255 at most, along each axis
        assert (resizing.of_steps(steps, size, align_corners) - wanted).abs().max() <= 0.5 + 2 * 255 / 2**12
        assert (resizing.of_floats(steps.float(), size, align_corners) - wanted).abs().max() <= 1e-3
