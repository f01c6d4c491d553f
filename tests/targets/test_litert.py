"""An int8 .tflite that is written anew computes the same, and is smaller."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from twinkeel.model import count, mobilenet_v2
from twinkeel.pipeline.data import rgba
from twinkeel.pipeline.errors import ConversionError
from twinkeel.pipeline.stages import quantize
from twinkeel.targets.android import _flatbuffer, litert

BIGGEST = 1.10
"""Bytes of an int8 file at width 1.0 and 1000 classes, for each parameter."""


@pytest.fixture(scope="module")
def files(shallow_program, tmp_path_factory):
    """An int8 file as litert-torch writes it, and as it is shipped."""
    folder = tmp_path_factory.mktemp("litert")
    return litert._convert(shallow_program, "int8", folder / "long"), litert.build(
        shallow_program, "int8", folder / "short"
    )


def _read(path):
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.convert_bytearray_to_object(path.read_bytes())


def _assert_same(a, b, where):
    """All that two unpacked files say, but for the names of tensors."""
    assert type(a) is type(b), where
    if isinstance(a, list):
        assert len(a) == len(b), where
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            _assert_same(x, y, f"{where}[{number}]")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and np.array_equal(a, b), where
    elif hasattr(a, "Pack"):
        assert vars(a).keys() == vars(b).keys(), where
        for name in vars(a).keys() - {"name"}:
            _assert_same(vars(a)[name], vars(b)[name], f"{where}.{name}")
    else:
        assert a == b, where


def test_the_file_says_the_same_behind_its_pixels(files, shallow_program):
    long, short = map(_read, files)
    _flatbuffer._take_pixels_as_quantized(long, shallow_program.contract.grey)
    _flatbuffer._empty_unread_buffers(long)
    _assert_same(long, short, "model")
    before, after = ([t.name for t in model.subgraphs[0].tensors] for model in (long, short))
    assert len(set(after)) == len(after) == len(before)
    assert before[0] == after[0] and before[-1] == after[-1], "the input and the output keep their names"
    assert b"Shipped/0;" in after


def test_contents_of_buffers_are_aligned(files):
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(files[1].read_bytes(), 0)
    buffers = [model.Buffers(n) for n in range(model.BuffersLength())]
    starts = [b._tab.Vector(b._tab.Offset(4)) for b in buffers if b.DataLength()]
    found = litert.operators(files[1])
    weighted = sum(found[kind] for kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"))
    assert weighted == 14 and len(starts) >= 2 * weighted and not any(start % 16 for start in starts)


@pytest.mark.parametrize("kernels", ["AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "BUILTIN_REF"])
def test_every_logit_is_the_same(files, kernels):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType[kernels]
    long, short = (Interpreter(str(path), num_threads=1, experimental_op_resolver_type=resolver) for path in files)
    for interpreter in (long, short):
        interpreter.allocate_tensors()
    for image in rgba(np.random.default_rng(7).integers(0, 256, (20, 32, 32, 3), np.uint8)):
        expected, found = (litert._invoke(interpreter, image[None]) for interpreter in (long, short))
        np.testing.assert_array_equal(expected, found)


def test_its_layers_can_be_looked_at(files):
    image = rgba(np.random.default_rng(7).integers(0, 256, (1, 32, 32, 3), np.uint8))
    long, short = (litert.trace(path)(image) for path in files)
    assert len(short) == 16, "14 with weights, an addition and a mean"
    for a, b in zip(long, short, strict=True):
        np.testing.assert_array_equal(a.steps, b.steps)


def test_pixels_are_one_operator_away_from_int8(files):
    from ai_edge_litert.interpreter import Interpreter

    found = litert.operators(files[1])
    assert (found["DEQUANTIZE"], found["QUANTIZE"]) == (1, 1) and not found.keys() & {"CAST", "SUB"}, found
    assert len(_read(files[1]).operatorCodes) == len(found), "no code of an operator that is gone"
    (pixels,) = Interpreter(str(files[1])).get_input_details()
    assert pixels["dtype"] == np.uint8 and pixels["shape"].tolist() == [1, 32, 32, 4]


def test_pixels_of_a_stem_in_float(shallow_program, tmp_path):
    images = rgba(np.random.default_rng(7).integers(0, 256, (8, 32, 32, 3), np.uint8))
    settings = quantize.Settings(float_layers=frozenset({"model.features.0.0", "model.features.1.conv.0.0"}))
    made = quantize.quantize(shallow_program.folded, images, shallow_program.contract, settings)
    program = replace(shallow_program, quantized=made.module, quantized_unfolded=made.unfolded)
    long = litert.load(litert._convert(program, "int8", tmp_path / "long")).run
    short = litert.load(litert.build(program, "int8", tmp_path / "short")).run
    for image in images:
        np.testing.assert_array_equal(long(image[None]), short(image[None]))


def test_a_graph_that_begins_otherwise_is_refused(files, shallow_program, tmp_path):
    grey = shallow_program.contract.grey
    with pytest.raises(ConversionError, match="does not begin with a CAST and a SUB"):
        _flatbuffer.rewrite(shutil.copy(files[1], tmp_path / "twice"), grey)
    with pytest.raises(ConversionError, match=f"does not begin with pixels less {grey + 1}"):
        _flatbuffer.rewrite(shutil.copy(files[0], tmp_path / "other"), grey + 1)


def test_an_int8_file_has_little_beside_its_weights(make_program, tmp_path):
    torch.manual_seed(0)
    model = mobilenet_v2.create(1000, 1.0)
    path = litert.build(make_program(model, 32, passes=1), "int8", tmp_path / "x.tflite")
    assert path.stat().st_size <= BIGGEST * count.count(model, 32, 32).parameters


def test_names_stay_where_two_would_become_one():
    class Tensor:
        def __init__(self, name):
            self.name = name

    tensors = [Tensor(b"a.First_0;"), Tensor(b"b.Second_0;"), Tensor(b"input")]
    _flatbuffer._shorten_names(tensors)
    assert [t.name for t in tensors] == [b"a.First_0;", b"b.Second_0;", b"input"]
    tensors[1].name = b"b.Second_1;"
    _flatbuffer._shorten_names(tensors)
    assert [t.name for t in tensors] == [b"0;", b"1;", b"input"]
