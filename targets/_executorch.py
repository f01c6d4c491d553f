"""ExecuTorch with the XNNPACK delegate, for both platforms: one delegate call, pixels included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from twinkeel.pipeline.program import LayerValue, Loaded, Program, Trace, example_inputs

from . import _layers, _pte, _xnnpack
from .runtimes import executorch as runtime
from .runtimes import packed

if TYPE_CHECKING:
    from torch.fx import GraphModule

SUFFIX = ".pte"
PRECISIONS = ("fp32", "int8")
KERNELS = "xnnpack"
PACKAGES = ("executorch", "torch", "torchao")
EVIDENCE = "runtime"
RUNTIME = runtime
REFERENCES = {"fp32": "fp32", "int8": "int8-xnnpack"}
READS: tuple[str, ...] = ()


def build(program: Program, precision: str, out: Path) -> Path:
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    example = example_inputs(program.contract)
    graph = torch.export.export(program.reference(precision), example, strict=False).module()
    graph = _with_pixels_as_quantized(graph, program.contract.grey)  # type: ignore[arg-type]
    with (
        _unsigned_pixels(),
        _zeros_of_float_layers(),
        _no_undone_transposes(),
        _zeros_in_convolutions(),
        _resizing_in_integers(),
        _no_idle_tracing(),
    ):
        edge = to_edge_transform_and_lower(torch.export.export(graph, example), partitioner=[XnnpackPartitioner()])
        out.write_bytes(edge.to_executorch().buffer)
    load(out)  # a program can lower and still be refused by the runtime
    return out


def load(path: Path) -> Loaded:
    return Loaded(run=runtime.load(path))


def trace(path: Path) -> Trace:
    """The layers of an int8 artifact, by a copy of the program whose delegate gives their values as outputs.

    The delegate's graph keeps all its operations and constants, floats bit for bit; the program hands more buffers
    to its call.
    """
    content, kinds = _xnnpack.with_layers(path)
    execute = runtime.method(content)

    def opened(*inputs: NDArray[Any]) -> tuple[NDArray[np.float32], list[LayerValue]]:
        given = execute(*inputs)
        count = len(given) - len(kinds)
        outputs, values = packed(given[:count]), given[count:]
        return outputs, [LayerValue(kind=kind, steps=_layers.nchw(v)) for kind, v in zip(kinds, values, strict=True)]

    return _layers.checked(opened, load(path).run, path)


def operators(path: Path) -> dict[str, int]:
    """Instructions of the program: ``delegate`` calls and the kernels outside them."""
    from executorch.exir.schema import DelegateCall, KernelCall

    plan = _pte.read_program(path).program.execution_plan[0]
    count: dict[str, int] = {}
    for instruction in plan.chains[0].instructions:
        call = instruction.instr_args
        if isinstance(call, DelegateCall):
            count["delegate"] = count.get("delegate", 0) + 1
        elif isinstance(call, KernelCall):
            name = plan.operators[call.op_index].name
            count[name] = count.get(name, 0) + 1
    return dict(sorted(count.items()))


def inside(path: Path) -> dict[str, int]:
    """Behind ``xnnpack:``, the nodes of XNNPACK's graphs in the program."""
    program = _pte.read_program(path).program
    plan = program.execution_plan[0]
    count: dict[str, int] = {}
    for delegate in plan.delegates:
        if delegate.id == "XnnpackBackend":
            payload = program.backend_delegate_data[delegate.processed.index]
            for name, times in _xnnpack.nodes(bytes(payload.data)).items():
                count[f"xnnpack:{name}"] = count.get(f"xnnpack:{name}", 0) + times
    return count


def _with_pixels_as_quantized(graph: GraphModule, grey: int) -> GraphModule:
    """to(float32) -> sub(grey)  ==>  dequantize(scale 1, zero point grey), the same numbers.

    XNNPACK has no cast from bytes, so ExecuTorch would run a slow one outside the delegate (0.2 of 1.2 ms at 224);
    it does convert unsigned quantized values.
    """
    import torch

    changed = deepcopy(graph)
    nodes = changed.graph
    subtraction = next(n for n in nodes.nodes if n.target == torch.ops.aten.sub.Tensor)
    cast: Any = subtraction.args[0]
    with nodes.inserting_before(cast):
        pixels = nodes.call_function(
            torch.ops.quantized_decomposed.dequantize_per_tensor.default,
            (cast.args[0], 1.0, grey, 0, 255, torch.uint8),
        )
    subtraction.replace_all_uses_with(pixels)
    nodes.erase_node(subtraction)
    nodes.eliminate_dead_code()
    changed.recompile()
    return changed


@contextmanager
def _unsigned_pixels() -> Iterator[None]:
    """Let ExecuTorch's XNNPACK lowering pass an unsigned quantized input on.

    The serialized format and the runtime know quint8; the Python side of executorch 1.5 writes every per-tensor
    type as qint8 and does not offer bytes to the partitioner. Can go when it does.
    """
    import torch
    from executorch.backends.xnnpack.operators import node_visitor
    from executorch.backends.xnnpack.partition.config import xnnpack_config
    from executorch.backends.xnnpack.serialization.xnnpack_graph_schema import XNNDatatype

    visitor, config = node_visitor.NodeVisitor, xnnpack_config.XNNPartitionerConfig
    serialized, is_valid = visitor.get_serialized_dtype, config._check_node_has_valid_dtype

    def with_unsigned(self: Any, quant_params: Any, node: Any, force_fp32: bool = False) -> Any:
        if quant_params is not None and not quant_params.per_channel and quant_params.dtype == torch.uint8:
            return XNNDatatype.xnn_datatype_quint8
        return serialized(self, quant_params, node, force_fp32)

    def or_pixels(self: Any, node: Any) -> Any:
        if "dequantize_per_tensor" in str(node.target) and node.args[0].meta["val"].dtype == torch.uint8:
            return True
        return is_valid(self, node)

    visitor.get_serialized_dtype, config._check_node_has_valid_dtype = with_unsigned, or_pixels
    try:
        yield
    finally:
        visitor.get_serialized_dtype, config._check_node_has_valid_dtype = serialized, is_valid


@contextmanager
def _zeros_of_float_layers() -> Iterator[None]:
    """Let ExecuTorch's XNNPACK lowering leave zeros in float where the convolution behind them is kept in float.

    executorch 1.5 quantizes zeros behind a quantized map whatever reads them, and then refuses a float convolution on
    quantized values. Can go when `InsertPadQDQPass` looks at what reads the zeros.
    """
    from executorch.backends.xnnpack._passes.insert_pad_qdq import InsertPadQDQPass
    from executorch.exir.dialects._ops import ops
    from executorch.exir.pass_base import PassResult

    insert = InsertPadQDQPass.call

    def call(self: Any, graph_module: Any) -> Any:
        result, graph = insert(self, graph_module), graph_module.graph
        for pad in [n for n in graph.nodes if n.target == ops.edge.aten.constant_pad_nd.default]:
            pairs = [(q, dq) for q in pad.users for dq in q.users if "quantize" in str(q.target)]
            for quantized, back in pairs:
                if all("dequantize" not in str(reader.args[1].target) for reader in back.users):
                    back.replace_all_uses_with(pad)
                    graph.erase_node(back)
                    graph.erase_node(quantized)
        graph_module.recompile()
        return PassResult(graph_module, result.modified)

    InsertPadQDQPass.call = call
    try:
        yield
    finally:
        InsertPadQDQPass.call = insert


@contextmanager
def _resizing_in_integers() -> Iterator[None]:
    """Let ExecuTorch's XNNPACK lowering resize quantized maps as they are.

    XNNPACK and the runtime do; executorch 1.5 offers bilinear resizing in float alone, between a dequantize and a quantize.
    Can go when `UpsampleBilinear2dConfig` knows static quantization, and its visitor writes the tensors' grids.
    """
    from executorch.backends.xnnpack.operators import node_visitor
    from executorch.backends.xnnpack.partition.config.generic_node_configs import UpsampleBilinear2dConfig
    from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType

    # the module of a visitor has None in the place of its class
    visitor, config = node_visitor._node_visitor_dict["aten.upsample_bilinear2d.vec"], UpsampleBilinear2dConfig
    define, precisions = visitor.define_node, config.supported_precision_types

    def with_grids(self: Any, node: Any, graph: Any, ids: Any, handle: int) -> None:
        self.define_nodes_tensor_inputs_outputs(node, graph, ids, convert_to_nhwc=True)
        define(self, node, graph, ids, handle)  # of tensors that are there already

    visitor.define_node = with_grids
    config.supported_precision_types = lambda _: [ConfigPrecisionType.FP32, ConfigPrecisionType.STATIC_QUANT]
    try:
        yield
    finally:
        visitor.define_node, config.supported_precision_types = define, precisions


@contextmanager
def _no_idle_tracing() -> Iterator[None]:
    """Let ExecuTorch trace no graph again that is as the last trace left it.

    Each pass of its XNNPACK lowering ends with a trace of the whole graph, whether it changed anything or not: in executorch
    1.5 a half of such passes find nothing to do in a MobileNet, an eighth of the time. The program is the same to the byte.
    Can go when a pass says so itself.
    """
    from executorch.exir.pass_base import ExportPass, PassResult

    before, trace = vars(ExportPass).get("call"), ExportPass.call
    # a pass with one of these of its own changes the graph while it is traced
    tracing = [
        name for name in dir(ExportPass) if name.startswith(("call_", "placeholder", "output", "inputs", "on_attr"))
    ]

    def call(self: Any, graph_module: GraphModule) -> Any:
        is_idle = all(getattr(type(self), name) is getattr(ExportPass, name) for name in tracing)
        if is_idle and graph_module.meta.get(_TRACED) == _as_told(graph_module):
            return PassResult(graph_module, True)
        result = trace(self, graph_module)
        result.graph_module.meta[_TRACED] = _as_told(result.graph_module)
        return result

    ExportPass.call = call
    try:
        yield
    finally:
        if before is None:
            del ExportPass.call
        else:
            ExportPass.call = before


_TRACED = "twinkeel_traced"
"""In a graph's notes: what the last trace left."""


def _as_told(graph_module: GraphModule) -> list[tuple[Any, ...]]:
    """All that a graph says of its nodes."""
    return [(node.name, node.op, node.target, str(node.args), str(node.kwargs)) for node in graph_module.graph.nodes]


def _no_undone_transposes() -> AbstractContextManager[None]:
    """Let ExecuTorch's XNNPACK lowering write no transpose together with its inverse.

    The graph turns the pixels to NCHW, as torch's convolutions want them; executorch 1.5 turns them back before the
    first one, as XNNPACK's want them, and runs both: 6 % of the latency in int8. Can go when it runs neither.
    """
    return _graphs_changed_by(_xnnpack.drop_undone_transposes)


def _zeros_in_convolutions() -> AbstractContextManager[None]:
    """Let ExecuTorch's XNNPACK lowering give convolutions the zeros that they read.

    Zeros that are more on one side than on the other are an operation of their own in torch, and stay one in executorch
    1.5, which copies the map. Can go when it puts them into the convolutions.
    """
    return _graphs_changed_by(_xnnpack.pad_in_convolutions)


@contextmanager
def _graphs_changed_by(change: Callable[[Any], None]) -> Iterator[None]:
    """Change each graph of XNNPACK before it is written."""
    from executorch.backends.xnnpack import xnnpack_preprocess

    serialize = xnnpack_preprocess.serialize_xnnpack_binary

    def changed(graph: Any, constants: bytearray) -> bytes:
        change(graph)
        return bytes(serialize(graph, constants))

    xnnpack_preprocess.serialize_xnnpack_binary = changed
    try:
        yield
    finally:
        xnnpack_preprocess.serialize_xnnpack_binary = serialize
