"""The program of a `torch.export` archive as a module: its tensors from raw bytes, its graph from the names of operators.

Only operators of aten are looked up, and of these only such as compute tensors from tensors: what reads or writes files takes
text, which no operator but those of `_TEXT` gets.
"""

from __future__ import annotations

import math
import operator
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.fx import Graph, GraphModule, Interpreter, Node
from torch.utils._pytree import tree_map

from ..errors import WeightsError
from ..reading import shown
from . import pt2_file
from .pt2_file import Pt2

MAX_VALUE_BYTES = 2**31
"""Of what one operation gives for an image."""

_TEXT = ("conv2d.padding", "gelu.default", "pad.default", "div.Tensor_mode", "div.Scalar_mode")
"""Operators that take text: how to pad, or how to approximate or round."""
_PRIVATE = ("_to_copy", "_softmax", "_log_softmax", "_unsafe_view")
"""Of the operators whose names begin so; others of these check nothing, or belong to one kind of processor."""
_PARTS = ("convolution", "_native_batch_norm_legit_no_training")
"""What decomposition makes of layers; what follows knows these whole."""
_SYMBOLIC = {f"_operator.{name}": getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "mod", "neg")}
"""Of sizes that depend on the number of images."""
_ASSERTS = re.compile(
    r"torch\.ops\.aten\.(_assert_(scalar|tensor_metadata|async)|sym_constrain_range(_for_size)?)\.\w+"
    r"|_operator\.(eq|ne|le|lt|ge|gt)"
)
"""They give nothing that a program computes with."""

_STRIDED = 7
"""torch's number of dense tensors."""
_DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
_MEMORY = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_PLAIN = {
    "as_int": int,
    "as_float": float,
    "as_bool": bool,
    "as_string": str,
}
_LISTS = {"as_ints": "as_int", "as_floats": "as_float", "as_bools": "as_bool"}
_INFINITE = {"Infinity": math.inf, "-Infinity": -math.inf}


class OneByOne(nn.Module):
    """A program that takes one image, for any number of them. Its tensors keep their paths."""

    run: Callable[..., Any]

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self._parameters, self._buffers, self._modules = program._parameters, program._buffers, program._modules
        self._non_persistent_buffers_set = program._non_persistent_buffers_set
        self.__dict__["run"] = program  # no submodule: its tensors are this module's own

    def forward(self, images: torch.Tensor, *tensors: torch.Tensor) -> Any:
        """``(N, 3, H, W)`` float32, and what belongs to each -> ``(N, ...)``, one or several."""
        if len(images) == 1:
            return self.run(images, *tensors)
        found = [self.run(*(one[n : n + 1] for one in (images, *tensors))) for n in range(len(images))]
        return tree_map(lambda *parts: torch.cat(parts), *found)


def load(path: Path) -> nn.Module:
    """The program with its weights, in evaluation mode: ``(N, 3, H, W)`` float32 -> ``(N, ...)``.

    Raises:
        WeightsError: as `pt2_file.read`, or an operator, an argument or a tensor is none that is known.
    """
    found = pt2_file.read(path)
    try:
        program = _module(found)
        _check_values(program, found)
    except WeightsError:
        raise
    except Exception as error:  # JSON of another form, or a graph whose parts do not fit together
        first = next(iter(str(error).strip().splitlines()), "")
        raise WeightsError(
            f"'{path}' holds no program that can be run: {type(error).__name__}: {shown(first, 300)}. Export it again."
        ) from error
    program.eval().requires_grad_(False)
    return program if found.shape[0] is None else OneByOne(program)


def _module(found: Pt2) -> GraphModule:
    root, graph, values, taken = nn.Module(), Graph(), dict[str, Node](), set[str]()
    with zipfile.ZipFile(found.path) as archive:
        stored = _Stored(found, archive)
        for spec in found.graph["signature"]["input_specs"]:
            ((kind, told),) = spec.items()
            if kind == "user_input":
                name = told["arg"]["as_tensor"]["name"]
                values[name] = graph.placeholder(f"input_{len(values)}" if "image" in taken else "image")
                taken.add("image")
                continue
            path = told[{"parameter": "parameter_name", "buffer": "buffer_name"}.get(kind, "tensor_constant_name")]
            is_kept = bool(told.get("persistent", False))
            _place(root, path, stored.tensor(path), is_parameter=kind == "parameter", is_kept=is_kept)
            values[told["arg"]["name"]] = graph.get_attr(path)
    for node in found.graph["graph"]["nodes"]:
        if not _ASSERTS.fullmatch(node["target"]):
            _call(graph, values, node, found.path)
    given, keys = [values[name] for name in found.output_names], found.output_keys
    graph.output(dict(zip(keys, given, strict=True)) if keys else given[0] if len(given) == 1 else tuple(given))
    graph.eliminate_dead_code()
    return GraphModule(root, graph, "Exported")


def _call(graph: Graph, values: dict[str, Node], node: Mapping[str, Any], path: Path) -> None:
    """One operation, and the names of what it gives."""
    target = _operator(node["target"], path)
    given = [(told["name"], _argument(told["arg"], values, path)) for told in node["inputs"]]
    if any(name in ("train", "training") and value is True for name, value in given):
        raise WeightsError(f"'{path}' was exported in training mode ({shown(node['target'])}). Export model.eval().")
    args, kwargs = _ordered(target, given)
    made = graph.call_function(target, args, kwargs)
    outputs = node["outputs"]
    if len(outputs) == 1 and "as_tensors" not in outputs[0]:
        ((_, told),) = outputs[0].items()
        values[told.get("name", told.get("as_name"))] = made
        return
    names = outputs[0]["as_tensors"] if len(outputs) == 1 else [one.get("as_tensor") for one in outputs]
    for number, told in enumerate(names):
        if told is not None:
            values[told["name"]] = graph.call_function(operator.getitem, (made, number))


def _operator(name: str, path: Path) -> Any:
    if name in _SYMBOLIC:
        return _SYMBOLIC[name]
    match = re.fullmatch(r"torch\.ops\.aten\.(\w+)\.(\w+)", name, re.ASCII)
    packet = None if match is None or match[1].startswith("__") else getattr(torch.ops.aten, match[1], None)
    found = getattr(packet, match[2], None) if match is not None else None
    if not isinstance(found, torch._ops.OpOverload):
        raise WeightsError(
            f"'{path}' calls '{shown(name)}'; operators of aten are known. Export the model without it, or give its code: "
            "model.factory."
        )
    if match[1] in _PARTS:  # type: ignore[index]
        raise WeightsError(
            f"'{path}' calls '{shown(name)}': its layers were decomposed. Save what torch.export.export gave, before "
            "run_decompositions."
        )
    takes_text = any("str" in str(argument.type) for argument in found._schema.arguments)
    gives = [str(returned.type) for returned in found._schema.returns]
    is_pure = bool(gives) and all(kind in ("Tensor", "List[Tensor]", "int", "SymInt") for kind in gives)
    is_pure &= not match[1].startswith("_") or match[1] in _PRIVATE  # type: ignore[index]
    if not is_pure or (takes_text and f"{match[1]}.{match[2]}" not in _TEXT):  # type: ignore[index]
        raise WeightsError(f"'{path}' calls '{shown(name)}', which is no operator of a vision model")
    return found


def _argument(told: Mapping[str, Any], values: Mapping[str, Node], path: Path) -> Any:
    """What an operation is called with."""
    ((kind, value),) = told.items()
    if kind in _PLAIN:
        return _PLAIN[kind](_INFINITE.get(value, value) if kind == "as_float" else value)
    if kind in _LISTS:
        return [_argument({_LISTS[kind]: one}, values, path) for one in value]
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return values[value["name"]]
    if kind == "as_tensors":
        return [values[one["name"]] for one in value]
    if kind in ("as_optional_tensors", "as_sym_ints"):
        return [_argument(one if kind == "as_optional_tensors" else {"as_sym_int": one}, values, path) for one in value]
    if kind == "as_optional_tensor":
        return _argument(value, values, path)
    if kind == "as_sym_int":
        return values[value["as_name"]] if "as_name" in value else int(value["as_int"])
    if kind == "as_scalar_type":
        return _DTYPES[value]
    if kind == "as_memory_format":
        return _MEMORY[value]
    if kind == "as_layout":
        return torch.strided
    if kind == "as_device":
        return torch.device("cpu")
    raise WeightsError(f"'{path}' has an argument '{shown(kind)}', which is not known")


def _ordered(target: Any, given: list[tuple[str, Any]]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional arguments as far as they are, the others by name, as the operator's schema has them."""
    if not isinstance(target, torch._ops.OpOverload):
        return tuple(value for _, value in given), {}
    named = dict(given)
    args: list[Any] = []
    for argument in target._schema.arguments:
        if argument.kwarg_only or argument.name not in named:
            break
        args.append(named.pop(argument.name))
    return tuple(args), named


class _Stored:
    """The tensors of a file; several may be parts of the same bytes."""

    def __init__(self, found: Pt2, archive: zipfile.ZipFile) -> None:
        self._found, self._archive = found, archive
        self._read: dict[str, torch.Tensor] = {}

    def tensor(self, path: str) -> torch.Tensor:
        """Of a parameter, buffer or constant, of its own memory."""
        file, is_weight = self._found.path, path in self._found.weights
        told = (self._found.weights if is_weight else self._found.constants)[path]
        meta, name = told["tensor_meta"], told["path_name"]
        if told["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", name, re.ASCII):
            raise WeightsError(
                f"'{file}': '{shown(path)}' would have to be unpickled, and that could run code from the file. Export plain tensors."
            )
        dtype = _DTYPES.get(meta["dtype"])
        sizes, strides = ([int(one["as_int"]) for one in meta[key]] for key in ("sizes", "strides"))
        offset = int(meta["storage_offset"]["as_int"])
        is_dense = meta["layout"] == _STRIDED and len(sizes) == len(strides)
        if dtype is None or not is_dense or min([*sizes, *strides, offset], default=0) < 0:
            raise WeightsError(f"'{file}': '{shown(path)}' is no dense tensor of real numbers")
        stored = self._numbers(f"data/{'weights' if is_weight else 'constants'}/{name}", dtype)
        count = math.prod(sizes)
        last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True)) if count else -1
        if stored.dtype != dtype or count > len(stored) or last >= len(stored):
            raise WeightsError(
                f"'{file}': '{shown(path)}' of shape {shown(tuple(sizes))} is not in its bytes, {len(stored):,} numbers of "
                f"{stored.dtype}. Was the file copied whole?"
            )
        value = stored.as_strided(sizes, strides, offset).clone(memory_format=torch.contiguous_format)
        if not torch.isfinite(value).all():
            raise WeightsError(f"'{file}': '{shown(path)}' holds NaN or infinite values. Was the training stable?")
        return value

    def _numbers(self, member: str, dtype: torch.dtype) -> torch.Tensor:
        if member not in self._read:
            content = bytearray(self._archive.read(f"{self._found.root}/{member}"))
            is_whole = content and len(content) % dtype.itemsize == 0
            self._read[member] = torch.frombuffer(content, dtype=dtype) if is_whole else torch.empty(0, dtype=dtype)
        return self._read[member]


def _place(root: nn.Module, path: str, value: torch.Tensor, *, is_parameter: bool, is_kept: bool) -> None:
    *owners, name = path.split(".")
    for part in (*owners, name):
        if not re.fullmatch(r"\w+", part) or part.startswith("__"):
            raise WeightsError(f"'{shown(path)}' is no name of a parameter")
    for owner in owners:
        if owner not in root._modules:
            root.add_module(owner, nn.Module())
        root = root._modules[owner]  # type: ignore[assignment]
    if is_parameter and value.is_floating_point():
        root.register_parameter(name, nn.Parameter(value, requires_grad=False))
    else:
        root.register_buffer(name, value, persistent=is_kept)


def _check_values(program: GraphModule, found: Pt2) -> None:
    """Run the program on shapes alone; a WeightsError where a value would fill the memory."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    large: list[str] = []

    class Shapes(Interpreter):
        def run_node(self, n: Node) -> Any:
            value = super().run_node(n)
            for one in value if isinstance(value, (tuple, list)) else [value]:
                if isinstance(one, torch.Tensor) and one.numel() * one.element_size() > MAX_VALUE_BYTES:
                    large.append(f"'{shown(n.target)}' gives a tensor of shape {tuple(one.shape)}")
            return value

    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        Shapes(program).run(torch.empty(1, *found.shape[1:]), *(torch.empty(1, *shape) for shape in found.tensors))
    if large:
        raise WeightsError(f"'{found.path}': {large[0]}; at most {MAX_VALUE_BYTES:,} bytes are computed with")
