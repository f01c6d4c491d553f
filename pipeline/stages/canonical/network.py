"""A network as its exported graph and the values of its parameters: what rewrites change, and what is built of it in the end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_aggregate
from torch.utils._pytree import tree_flatten_with_path, tree_unflatten

from ...errors import ConversionError
from ...program import TRANSPOSED, WEIGHTED, Output
from ..tracing import followed

aten = torch.ops.aten


class Network:
    """Of one image ``(1, C, H, W)`` float32, and what else the model takes.

    Attributes:
        graph: of aten operations. A rewrite may change it, and gives ``meta["val"]`` to what it adds.
        values: of the ``get_attr`` nodes, by path in the user's model.
        input: the placeholder of the image.
    """

    def __init__(self, model: nn.Module, examples: Sequence[torch.Tensor]) -> None:
        """
        Args:
            model: in evaluation mode.
            examples: the image, and one of each further input.

        Raises:
            ConversionError: torch.export cannot follow the model, or it gives nothing.
        """
        with followed("the model", *(example.shape for example in examples)):
            exported = torch.export.export(model, tuple(examples), strict=False)
        signature = exported.graph_signature
        paths = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        stored = {**exported.state_dict, **exported.constants}
        self.values: dict[str, torch.Tensor] = {}
        self.graph = Graph()
        copies: dict[Node, Node] = {}
        given: list[Node] = []
        for node in exported.graph.nodes:
            if node.op == "placeholder" and node.name in paths:
                path = paths[node.name]
                self.values[path] = stored[path].detach()
                copies[node] = self.graph.get_attr(path)
            elif node.op == "placeholder":
                copies[node] = self.graph.placeholder("image" if not given else node.name)
                given.append(copies[node])
            elif node.op == "output":
                found = node.args[0]
                self._given = exported.call_spec.out_spec, [getattr(one, "meta", {}).get("val") for one in found]
                if not found or not all(isinstance(one, Node) for one in found):
                    raise ConversionError(
                        f"the model gives {[one for one in found if not isinstance(one, Node)] or 'nothing'}; a tensor, or several in a "
                        "tuple or a dictionary, are wanted"
                    )
                self.graph.output(copies[found[0]] if len(found) == 1 else tuple(copies[one] for one in found))
            else:
                copies[node] = self.graph.node_copy(node, copies.__getitem__)
            copies.get(node, node).meta = dict(node.meta)
        self.input = given[0]

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What the model gives: the leaves of what it returns, named by the keys under which it does; ``output``, or ``output_0``
        and so on, where there are none.

        Raises:
            ConversionError: one is no float32 tensor of one image.
        """
        return _outputs(*self._given)

    def calls(self, *targets: Any) -> list[Node]:
        """The nodes that call one of these operations, in order."""
        return [node for node in self.graph.nodes if node.op == "call_function" and node.target in targets]

    def skip(self, node: Node) -> None:
        """Take an operation out: what read it reads its first argument."""
        self.put(node, node.args[0])  # type: ignore[arg-type]

    def put(self, node: Node, other: Node) -> None:
        """Take an operation out: what read it reads another one."""
        node.replace_all_uses_with(other)
        self.graph.erase_node(node)

    def insert(self, before: Node, target: Any, *args: Any) -> Node:
        """A new operation, with its shape, and with the place in the user's code of the one that it stands before."""
        with self.graph.inserting_before(before):
            node = self.graph.call_function(target, args)
        given = map_aggregate(args, lambda a: a.meta["val"] if isinstance(a, Node) else a)
        node.meta = {**before.meta, "val": target(*given)}
        return node

    def constant(self, before: Node, path: str, value: torch.Tensor, instead_of: Node | None = None) -> Node:
        """A new value at this path, or beside it where another operation than `instead_of` reads that."""
        owner, _, name = path.rpartition(".")
        readers = {str(n.target): set(n.users) for n in self.graph.nodes if n.op == "get_attr"}
        numbered = (
            path if n == 0 else f"{owner}_{n}.{name}" if owner else f"{name}_{n}" for n in range(len(readers) + 1)
        )
        free = next(p for p in numbered if not readers.get(p, set()) - {instead_of})
        self.values[free] = value
        with self.graph.inserting_before(before):
            node = self.graph.get_attr(free)
        mode: Any = self.input.meta["val"].fake_mode
        node.meta = {"val": mode.from_tensor(value, static_shapes=True)}
        return node

    def set_layer(self, layer: Node, path: str, weight: torch.Tensor, bias: torch.Tensor) -> None:
        """Give a layer a weight and a bias of its own, at this path where no other layer reads that."""
        one = self.constant(layer, path, weight.float(), layer)
        beside = f"{str(one.target).removesuffix('.weight')}.bias"
        layer.args = (layer.args[0], one, self.constant(layer, beside, bias.float(), layer), *layer.args[3:])

    def layer(self, node: Node) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Weight and bias of a convolution or linear layer in float64, zeros where it has none; None of anything else, and
        where the model computes one of them from the image."""
        if node.target not in (*WEIGHTED, *TRANSPOSED):
            return None
        weight, given = self.value(node.args[1]), node.args[2] if len(node.args) > 2 else None
        bias = torch.zeros(width(node)) if given is None else self.value(given)
        return None if weight is None or bias is None else (weight.double(), bias.double())

    def value(self, node: Any) -> torch.Tensor | None:
        """Of a parameter or buffer; None of what is no such."""
        return self.values[str(node.target)] if isinstance(node, Node) and node.op == "get_attr" else None

    def owner(self, node: Node) -> str:
        """The path of the module in the user's code that an operation is, or below the one that calls it."""
        stack = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
        if not stack or not stack[-1]:
            return node.name
        is_whole = not any(path.startswith(f"{stack[-1]}.") for path in self.values)
        return str(stack[-1] if is_whole else f"{stack[-1]}.{node.name}")

    def described(self, node: Node) -> str:
        """An operation and where it stands in the user's code, for people."""
        name = str(node.target).removeprefix("aten.").split(".")[0]
        stack = list(node.meta.get("nn_module_stack", {}).values())
        return f"'{name}' in '{stack[-1][0]}'" if stack and stack[-1][0] else f"'{name}'"

    def built(self) -> GraphModule:
        """A module of what the graph is now. Each convolution and linear layer is a module at the path of its weight."""
        self.graph.eliminate_dead_code()
        root = nn.Module()
        graph = Graph()
        taken: set[str] = set()
        copies: dict[Node, Node] = {}
        layers = set(self.calls(*WEIGHTED))
        for node in self.graph.nodes:
            if node in layers:
                weight = node.args[1]
                path = _free(str(weight.target).removesuffix(".weight"), taken)  # type: ignore[union-attr]
                _place(root, path, self._layer(node))
                copies[node] = graph.call_module(path, (copies[node.args[0]],))  # type: ignore[index]
            elif node.op != "get_attr":
                copies[node] = graph.node_copy(node, lambda n: copies[n])
            elif any(user not in layers for user in node.users):
                path = _free(str(node.target), taken)
                _place(root, path, self.values[str(node.target)])
                copies[node] = graph.get_attr(path)
        return GraphModule(root, graph, "Canonical").eval()

    def _layer(self, node: Node) -> nn.Module:
        weight, bias = self.value(node.args[1]), self.value(node.args[2])
        assert weight is not None and bias is not None
        layer: nn.Module
        if node.target == aten.linear.default:
            layer = nn.Linear(weight.shape[1], weight.shape[0])
        else:
            stride, padding, dilation, groups = convolution(node)
            height, width = weight.shape[2:]
            inputs, outputs = weight.shape[1] * groups, len(weight)
            layer = nn.Conv2d(inputs, outputs, (height, width), stride, padding, dilation, groups)
        layer.weight = nn.Parameter(weight.float(), requires_grad=False)
        layer.bias = nn.Parameter(bias.float(), requires_grad=False)
        return layer


def _outputs(spec: Any, found: Sequence[Any]) -> tuple[Output, ...]:
    keys = tree_flatten_with_path(tree_unflatten(list(found), spec))[0]
    named: list[Output] = []
    for number, (path, value) in enumerate(keys):
        if (
            not isinstance(value, torch.Tensor)
            or value.dtype != torch.float32
            or not value.shape
            or value.shape[0] != 1
            or not value.numel()
        ):
            told = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, torch.Tensor) else repr(value)
            raise ConversionError(
                f"output {number} of the model is {told} for one image; float32 (1, ...) is wanted: the scores themselves, and "
                "the images in the first dimension"
            )
        words = [str(getattr(part, "key", getattr(part, "name", getattr(part, "idx", "")))) for part in path]
        name = re.sub(r"\W", "_", "_".join(words), flags=re.ASCII)
        name = name if name[:1].isalpha() else f"output_{name}".rstrip("_")
        taken = {one.name for one in named}
        free = next(n for k in range(len(keys) + 1) if (n := name[:60] if k == 0 else f"{name[:60]}_{k}") not in taken)
        named.append(Output(name=free, shape=tuple(value.shape[1:])))
    return tuple(named)


def convolution(node: Node) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]:
    """Stride, padding and dilation ``(vertical, horizontal)`` and groups of a conv2d."""

    def pair(place: int, default: int) -> tuple[int, int]:
        given: Any = node.args[place] if len(node.args) > place else default
        first, *rest = given if isinstance(given, (list, tuple)) else [given]
        return first, rest[0] if rest else first

    groups: Any = node.args[6] if len(node.args) > 6 else 1
    return pair(3, 1), pair(4, 0), pair(5, 1), groups


def width(layer: Node) -> int:
    """Of a convolution or linear layer, for each pixel or row."""
    return int(layer.meta["val"].shape[-1 if layer.target == aten.linear.default else 1])


def _free(path: str, taken: set[str]) -> str:
    """This path, or one like it: several operations may read one weight, and what else a module holds may be read beside its
    weight, where a layer stands now."""
    if any(t.startswith(f"{path}.") or path.startswith(f"{t}.") for t in taken):
        path = path.replace(".", "_")
    found = next(p for n in range(len(taken) + 1) if (p := path if n == 0 else f"{path}_{n}") not in taken)
    taken.add(found)
    return found


def _place(root: nn.Module, path: str, what: nn.Module | torch.Tensor) -> None:
    *owners, name = path.split(".")
    for owner in owners:
        if not hasattr(root, owner):
            root.add_module(owner, nn.Module())
        root = getattr(root, owner)
    if isinstance(what, nn.Module):
        root.add_module(name, what)
    else:
        root.register_buffer(name, what)
