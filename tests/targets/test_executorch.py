"""ExecuTorch runs no transpose together with its inverse, and computes the same."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from twinkeel.pipeline.data import rgba
from twinkeel.targets import _executorch, _xnnpack


def _operations(path):
    """Kinds of XNNPACK's operations, in order."""
    from executorch.exir._serialize._program import deserialize_pte_binary

    program = deserialize_pte_binary(path.read_bytes()).program
    graph, _ = _xnnpack.read_graph(bytes(program.backend_delegate_data[0].data))
    return [node["xnode_union_type"] for node in graph["xnodes"]]


@pytest.mark.parametrize("precision", _executorch.PRECISIONS)
def test_pixels_reach_the_stem_without_a_transpose(shallow_program, tmp_path, monkeypatch, precision):
    short = _executorch.build(shallow_program, precision, tmp_path / "short.pte")
    monkeypatch.setattr(_executorch, "_no_undone_transposes", nullcontext)
    long = _executorch.build(shallow_program, precision, tmp_path / "long.pte")
    before, after = _operations(long), _operations(short)
    assert before[: before.index("XNNConv2d")].count("XNNStaticTranspose") == 2, "executorch does it itself: drop ours"
    assert set(after[: after.index("XNNConv2d")]) == {"XNNConvert"}
    assert len(after) == len(before) - 2
    run, again = _executorch.load(long).run, _executorch.load(short).run
    for image in rgba(np.random.default_rng(7).integers(0, 256, (20, 32, 32, 3), np.uint8)):
        np.testing.assert_array_equal(run(image[None]), again(image[None]))


@pytest.mark.parametrize("precision", _executorch.PRECISIONS)
def test_what_was_traced_already_is_not_traced_again(padded_program, tmp_path, monkeypatch, precision):
    from executorch.exir import pass_base

    traced = []
    trace = pass_base._ExportPassBase.call
    monkeypatch.setattr(pass_base._ExportPassBase, "call", lambda *given: traced.append(1) or trace(*given))
    short = _executorch.build(padded_program, precision, tmp_path / "short.pte")
    few = len(traced)
    monkeypatch.setattr(_executorch, "_no_idle_tracing", nullcontext)
    long = _executorch.build(padded_program, precision, tmp_path / "long.pte")
    assert short.read_bytes() == long.read_bytes()
    assert few <= len(traced) - few - 6, f"{few} traces, {len(traced) - few} before: is ours of use?"


TO_NCHW, TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


def _graph(transposes, reads, outputs):
    """A graph of transposes ``(perm, input, output)`` and additions of two values."""
    from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema

    operations = [schema.XNNStaticTranspose(4, perm, source, to, 0) for perm, source, to in transposes]
    operations += [schema.XNNAdd(a, b, to, 0) for a, b, to in reads]
    nodes = [schema.XNode(operation, 0) for operation in operations]
    return schema.XNNGraph("0", nodes, [], 2, [0], outputs, [])


@pytest.mark.parametrize(
    ("transposes", "reads", "outputs", "left", "read"),
    [
        ([(TO_NCHW, 0, 1), (TO_NHWC, 1, 2)], [(2, 2, 3)], [3], [], (0, 0)),
        ([(TO_NCHW, 0, 1), (TO_NCHW, 1, 2)], [(2, 2, 3)], [3], [1, 2], (2, 2)),
        ([(TO_NCHW, 0, 1), (TO_NHWC, 1, 2)], [(1, 2, 3)], [3], [1], (1, 0)),
        ([(TO_NCHW, 0, 1), (TO_NHWC, 1, 2)], [(2, 2, 3)], [3, 1], [1], (0, 0)),
        ([(TO_NCHW, 0, 1), (TO_NHWC, 1, 2)], [(2, 2, 3)], [3, 2], [1, 2], (2, 2)),
        ([(TO_NCHW, 0, 1), (TO_NHWC, 1, 2), (TO_NHWC, 2, 4)], [(2, 4, 3)], [3], [4], (0, 4)),
    ],
    ids=["undone", "twice the same", "first is read", "first is given", "second is given", "a third"],
)
def test_a_transpose_stays_where_it_is_needed(transposes, reads, outputs, left, read):
    graph = _graph(transposes, reads, outputs)
    _xnnpack.drop_undone_transposes(graph)
    *kept, addition = [node.xnode_union for node in graph.xnodes]
    assert [operation.output_id for operation in kept] == left
    assert (addition.input1_id, addition.input2_id) == read


@pytest.mark.parametrize(
    ("before", "after", "value", "outputs", "sides", "source"),
    [
        ([0, 0, 1, 0], [0, 1, 2, 0], 0.0, [3], [0, 2, 1, 1], 0),
        ([0, 0, 1, 0], [0, 1, 2, 0], 0.0, [3, 1], [0, 2, 1, 1], 0),
        ([0, 0, 1, 0], [0, 1, 2, 0], 1.0, [3], [0, 0, 0, 0], 1),
        ([0, 0, 1, 1], [0, 1, 2, 0], 0.0, [3], [0, 0, 0, 0], 1),
        ([0, 0, 1, 0], [1, 1, 2, 0], 0.0, [3], [0, 0, 0, 0], 1),
    ],
    ids=["zeros", "given too", "ones", "channels", "images"],
)
def test_zeros_go_into_a_convolution_where_they_are_around_the_map(before, after, value, outputs, sides, source):
    from dataclasses import fields

    from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema

    pad = schema.XNNStaticConstantPad(before, after, value, 0, 1, 0)
    convolution = schema.XNNConv2d(**{field.name: 0 for field in fields(schema.XNNConv2d)})
    convolution.input1_id, convolution.output_id = 1, 3
    graph = schema.XNNGraph("0", [schema.XNode(pad, 0), schema.XNode(convolution, 0)], [], 2, [0], outputs, [])
    _xnnpack.pad_in_convolutions(graph)
    found = [getattr(convolution, f"padding_{side}") for side in ("top", "right", "left", "bottom")]
    assert (found, convolution.input1_id) == (sides, source)
    assert len(graph.xnodes) == (1 if source == 0 and 1 not in outputs else 2)
