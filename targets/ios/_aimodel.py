"""From a torch graph to an ``.aimodel``, equal to the byte whenever it is made again; and back, checked before it is run."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from twinkeel.pipeline.errors import ConversionError, PackageError
from twinkeel.pipeline.program import Program, example_inputs
from twinkeel.pipeline.reading import instead, kind_of, parse_json, read_bytes, shown

from ._aimodel_mended import mended

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch.fx import GraphModule, Node
    from twinkeel.pipeline.program import PackedWeight

PROGRAM, HASH, METADATA = "main.mlirb", "main.hash", "metadata.json"
FILES = {PROGRAM: 2 * 2**30, HASH: 32, METADATA: 32 * 2**20}
"""Of a package, and how many bytes each has at most."""
_COPY = "Copy the package anew from where it was built: `cp -rL` copies what links lead to"
_BROADCAST = "coreai.decomposable.broadcasting_"
_SUMS = ("coreai.conv2d", f"{_BROADCAST}batch_matmul")


def package(program: Program, graph: GraphModule, out: Path) -> Path:
    """Convert a graph and write the package to the folder `out`.

    Args:
        graph: from `compress.graph_of` or `compress.in_half`, or a PT2E graph with int8 weights.

    Raises:
        ConversionError: coreai-torch refuses it.
    """
    import torch
    from coreai_torch import TorchConverter, get_decomp_table

    examples = example_inputs(program.contract)
    exported = torch.export.export(graph, examples, strict=False)
    if (other := mended(known := exported.module())) is not known:
        exported = torch.export.export(other, examples, strict=False)
    exported = exported.run_decompositions(get_decomp_table())
    converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it tells its progress
            converter.add_exported_program(
                exported,
                input_names=["pixels", *(tensor.name for tensor in program.contract.tensors)],
                output_names=list(program.names),
            )
            converted = converter.to_coreai()
    except (RuntimeError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise ConversionError(f"coreai-torch refuses the model: {shown(error, 500)}") from error
    return write(str(converted), out, _metadata(program))


def quantized(module: GraphModule) -> GraphModule:
    """A PT2E graph with Core AI's own operations.

    ::

        quantized_decomposed.quantize_per_tensor(x, s, z)            ==>  coreai.quantize(x, s, int8, z)
        quantized_decomposed.dequantize_per_channel(w, s, z, axis)   ==>  coreai.dequantize(w, s, axis)
    """
    from copy import deepcopy

    import coreai_torch._compression.custom_layers  # noqa: F401  # registers the operations

    owner = deepcopy(module)
    for number, node in enumerate(list(owner.graph.nodes)):
        name = str(node.target)
        if node.op == "call_module" or "assert" in name:
            owner.graph.erase_node(node)
        elif "quantized_decomposed" in name:
            with owner.graph.inserting_before(node):
                node.replace_all_uses_with(_own(owner, node, name, number))
    owner.graph.eliminate_dead_code()
    owner.recompile()
    return owner


def _own(owner: GraphModule, node: Node, name: str, number: int) -> Node:
    import torch
    from twinkeel.pipeline.program import attribute

    operations = torch.ops.coreai
    graph: Any = owner.graph
    x, scale, zero_point, *rest = node.args
    if "per_channel" in name:
        if attribute(owner, str(zero_point.target)).any():  # type: ignore[union-attr]
            raise ConversionError(f"the weights of '{node.name}' have zero points, and symmetric ones are known")
        return graph.call_function(operations.dequantize, (x, scale, None, None, rest[0]))  # type: ignore[no-any-return]

    def constant(value: Any, dtype: torch.dtype, what: str) -> Node:
        owner.register_buffer(f"{what}_{number}", torch.tensor(value, dtype=dtype))
        return graph.get_attr(f"{what}_{number}")  # type: ignore[no-any-return]

    step, point = constant(scale, torch.float32, "step"), constant(zero_point, torch.int8, "zero_point")
    if ".dequantize" in name:
        return graph.call_function(operations.dequantize, (x, step, point, None, 0))  # type: ignore[no-any-return]
    if tuple(rest[:2]) != (-128, 127):
        raise ConversionError(f"'{node.name}' clips to {rest[:2]}, and Core AI to all of int8")
    return graph.call_function(operations.quantize, (x, step, torch.int8, point, None, 0))  # type: ignore[no-any-return]


def stored(module: GraphModule, weights: Mapping[str, PackedWeight]) -> GraphModule:
    """A graph in float16 whose weights are stored in fewer bits, by the name of their layer.

    ::

        conv2d(x, features.0.weight)   ==>   conv2d(x, coreai.lut_to_dense(indices, palettes))
        linear weights' view to 1x1    ==>   coreai.constexpr_blockwise_shift_scale(steps, scale)
    """
    from copy import deepcopy

    import coreai_torch._compression.custom_layers  # noqa: F401  # registers the operations
    import torch

    owner = deepcopy(module)
    found = set()
    for node in list(owner.graph.nodes):
        name = str(node.target).removesuffix(".weight")
        if node.op != "get_attr" or name not in weights:
            continue
        found.add(name)
        views = [user for user in node.users if user.target == torch.ops.aten.view.default]
        for number, replaced in enumerate([*views, node]):
            shape = weights[name].stored.shape if replaced is node else cast("Sequence[int]", replaced.args[1])
            with owner.graph.inserting_before(replaced):
                made = _decompressed(owner, weights[name], shape, f"{len(found)}_{number}")
            replaced.replace_all_uses_with(made)
    if missing := sorted(weights.keys() - found):
        raise ConversionError(f"the weights of {missing} are not in the program as they were")
    owner.graph.eliminate_dead_code()
    owner.recompile()
    return owner


def _decompressed(owner: GraphModule, weight: PackedWeight, shape: Sequence[int], name: str) -> Node:
    """The operation that gives a weight in a shape: outputs, inputs, and perhaps a kernel."""
    import torch

    operations, graph = torch.ops.coreai, owner.graph
    ones = (1,) * (len(shape) - 2)

    def constant(what: str, value: NDArray[Any]) -> Node:
        owner.register_buffer(f"{what}_{name}", torch.from_numpy(value))
        return graph.get_attr(f"{what}_{name}")

    stored = weight.stored.reshape(tuple(shape))
    if weight.palettes is not None:  # coreai-torch knows what has four bits by the names of the constants
        palettes = weight.palettes.reshape(len(weight.palettes), 1, *ones, weight.palettes.shape[1], 1)
        return graph.call_function(operations.lut_to_dense, (constant("indices", stored), constant("lut", palettes), 0))
    assert weight.scale is not None
    scale = weight.scale.reshape(len(weight.scale), -1, *ones)
    return graph.call_function(
        operations.constexpr_blockwise_shift_scale, (constant("steps", stored), constant("scale", scale))
    )


def write(text: str, out: Path, metadata: bytes) -> Path:
    """A package of a program in text.

    coreai-core 1.0.0b3 names large constants by a hash that differs from process to process, and writes the date; the text
    has no locations in the sources either.
    """
    from coreai._compiler.ir import Module
    from coreai.authoring.asset import AIProgram
    from coreai.authoring.context import Context

    names: dict[str, str] = {}
    renamed = re.sub(r"\bresource_\d+\b", lambda m: names.setdefault(m[0], f"constant_{len(names)}"), text)
    made = AIProgram._from_mlir_module(Module.parse(renamed, Context()._mlir_context))
    made.save_asset(out.with_suffix(".aimodel"))
    if out.suffix != ".aimodel":
        out.with_suffix(".aimodel").rename(out)
    (out / METADATA).write_bytes(metadata)
    for file in out.iterdir():
        file.chmod(0o644)
    return out


def _metadata(program: Program) -> bytes:
    about, contract = program.about, program.contract
    custom: dict[str, Any] = {
        "version": about.version,
        "pixels": f"1 x {contract.height} x {contract.width} x 4 bytes, RGBA, alpha always 255. The normalization is inside; "
        "do not apply it before.",
    }
    for tensor in contract.tensors:
        custom[tensor.name] = f"{' x '.join(map(str, tensor.shape))} numbers, {tensor.low:g} to {tensor.high:g}."
    if program.labels:
        custom["labels"] = list(program.labels)
    content = {
        "assetVersion": "2.0",
        "author": about.author,
        "creatorDefinedMetadata": custom,
        "description": about.description,
        "license": about.license,
        "producer": "twinkeel",
    }
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def checked(path: Path) -> dict[str, Any]:
    """The metadata of a package whose files are plain, whole and its own.

    Raises:
        PackageError: they are not.
    """
    try:
        if path.is_symlink():
            raise OSError(f"it is a link, and a package is a folder itself. {_COPY}")
        if not path.is_dir():
            raise OSError(f"it is no folder but {kind_of(path)}" if path.exists() else "it is not there")
        names = {file.name for file in path.iterdir()}
        if names != FILES.keys():
            raise OSError(f"it holds {sorted(map(shown, names))[:10]}, and {', '.join(sorted(FILES))} make a package")
        for name in FILES:
            if (kind := kind_of(path / name)) != "a file":
                raise OSError(f"'{name}' is {kind}, and a package holds plain files. {_COPY}")
        content = {name: read_bytes(path / name, most) for name, most in FILES.items()}
        if hashlib.sha256(content[PROGRAM]).digest() != content[HASH]:
            hint = instead(content[PROGRAM]) or f"'{PROGRAM}' was changed or cut short"
            raise OSError(f"the hash in '{HASH}' is not that of '{PROGRAM}': {hint}")
        metadata = parse_json(content[METADATA])
        if not isinstance(metadata, dict):
            raise ValueError(f"'{METADATA}' is no object")
    except (OSError, ValueError) as error:
        raise PackageError(f"'{path}' is no whole Core AI package: {shown(error, 500)}. Build again.") from error
    return metadata


def labels_of(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """What its outputs stand for, as a package says it; nothing where it does not, or says what are no names."""
    custom = metadata.get("creatorDefinedMetadata")
    found = custom.get("labels") if isinstance(custom, dict) else None
    return tuple(found) if isinstance(found, list) else ()


def text_of(path: Path) -> str:
    """The program of a package, as text with all its constants."""
    from coreai.authoring.asset import AIModelAsset

    return str(AIModelAsset.load(str(path)).program)


def opened(path: Path, out: Path) -> tuple[Path, list[str]]:
    """A copy of an int8 package, written to `out`, that gives after its outputs the steps of each layer; and the layers' kinds."""
    from coreai._compiler import ir
    from coreai.authoring.asset import AIModelAsset

    program = AIModelAsset.load(str(path)).program
    graph = next(op for op in program._module._mlir_module.body.operations if op.name == "coreai.graph")
    *operations, last = graph.regions[0].blocks[0].operations
    layers = [(kind, op.results[0]) for op in operations if op.name == "coreai.quantize" and (kind := _kind(op))]
    values = [value for _, value in layers]
    kind = graph.attributes["function_type"].value
    with program._module._mlir_module.context, ir.Location.unknown(), ir.InsertionPoint(last):
        ir.Operation.create("coreai.output", operands=[*last.operands, *values])
        last.erase()
        types = ir.FunctionType.get(kind.inputs, [*kind.results, *(value.type for value in values)])
        graph.attributes["function_type"] = ir.TypeAttr.get(types)
        names = [{"coreai.name": ir.StringAttr.get(f"twinkeel_layer_{number}")} for number in range(len(values))]
        described = [*graph.attributes["res_attrs"], *map(ir.DictAttr.get, names)]
        graph.attributes["res_attrs"] = ir.ArrayAttr.get(described)
    program.save_asset(out)
    return out, [kind for kind, _ in layers]


def _kind(quantize: Any) -> str:
    """Of the layer whose output is quantized; empty where it is none's."""
    op = _maker(quantize)
    while op is not None and op.name.removeprefix(_BROADCAST) in ("maximum", "minimum"):
        op = _maker(op)
    if op is None:
        return ""
    if op.name == "coreai.reduce_mean":
        return "mean"
    if op.name == f"{_BROADCAST}add":
        read = [_maker(op, number) for number in range(2)]
        summed = next((one for one in read if one is not None and one.name in _SUMS), None)
        if summed is None:
            return "addition"
        op = summed
    if op.name == "coreai.conv2d":
        return "depthwise" if _whole(op.operands[4]) > 1 else "convolution"
    return "linear" if op.name in _SUMS else ""


def _maker(op: Any, number: int = 0) -> Any:
    """The operation that gives an operand; None where it is an input."""
    from coreai._compiler import ir

    owner = op.operands[number].owner
    return None if isinstance(owner, ir.Block) else owner.opview if hasattr(owner, "opview") else owner


def _whole(value: Any) -> int:
    """A constant of one whole number."""
    return int(re.search(r"dense<(\d+)>", str(value.owner.attributes["value"]))[1])  # type: ignore[index]


def operators(path: Path) -> dict[str, int]:
    """How often each operation occurs; constants are none."""
    found: dict[str, int] = {}
    for name in re.findall(r"^ +%\S+ = coreai\.([\w.]+) ", text_of(path), re.MULTILINE):
        found[name] = found.get(name, 0) + 1
    found.pop("constant", None)
    return dict(sorted(found.items()))
