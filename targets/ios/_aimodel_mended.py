"""What coreai-torch 0.4.3 makes wrong, written so that it makes it right: for each the reproducer in `tests/targets/test_coreai.py` tells
when it can go.

before   avg_pool2d(x, 3, 1, 1, count_include_pad=False)      the flag is left out, and edges come out too small
after    mul(avg_pool2d(x, 3, 1, 1), 9 / how many values each window has)

before   upsample_nearest2d(x, (20, 17)) of 13 x 11 pixels      other pixels are taken than torch takes
after    index_select(index_select(x, 2, rows), 3, columns)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


def mended(module: GraphModule) -> GraphModule:
    """A copy of a graph of aten operations, whose nodes know their shapes, without these; itself where there are none."""
    import torch

    aten = torch.ops.aten
    rewrites = {
        aten.avg_pool2d.default: _pool_of_what_is_there,
        aten.upsample_nearest2d.vec: _pixels_by_number,
        aten.upsample_nearest2d.default: _pixels_by_number,
    }
    wanted = [node.name for node in module.graph.nodes if node.target in rewrites]
    if not wanted:
        return module
    from copy import deepcopy

    owner = deepcopy(module)
    nodes = {node.name: node for node in owner.graph.nodes}
    for name in wanted:
        rewrites[nodes[name].target](owner, nodes[name])
    owner.graph.eliminate_dead_code()
    owner.recompile()
    return owner


def _constant(owner: GraphModule, node: Node, what: str, value: Any) -> Node:
    """A buffer, read before an operation."""
    name = f"{what}_of_{node.name}"
    owner.register_buffer(name, value)
    with owner.graph.inserting_before(node):
        return owner.graph.get_attr(name)


def _put(owner: GraphModule, node: Node, other: Node) -> None:
    other.meta = dict(node.meta)
    node.replace_all_uses_with(other, delete_user_cb=lambda user: user is not other)
    if node not in other.all_input_nodes:
        owner.graph.erase_node(node)


def _pool_of_what_is_there(owner: GraphModule, node: Node) -> None:
    import torch

    given = dict(zip(("x", "kernel", "stride", "padding", "ceil_mode", "counts"), node.args, strict=False))
    padding = given.get("padding", node.kwargs.get("padding", 0))
    padding = [padding] if isinstance(padding, int) else padding
    counts = given.get("counts", node.kwargs.get("count_include_pad", True))
    if counts or not any(padding):  # type: ignore[arg-type]
        return
    source: Any = node.args[0]
    shape = source.meta["val"].shape
    value = node.meta["val"]
    pool = torch.ops.aten.avg_pool2d.default
    ones = torch.ones(1, 1, *shape[2:], dtype=torch.float64)
    plain = (*node.args[1:4], *node.args[4:5], True) if len(node.args) > 4 else (*node.args[1:4], False, True)
    share = 1 / pool(ones, *plain)
    factor = _constant(owner, node, "values", share.to(value.dtype))
    node.args = (source, *plain)
    with owner.graph.inserting_after(node):
        scaled = owner.graph.call_function(torch.ops.aten.mul.Tensor, (node, factor))
    _put(owner, node, scaled)


def _pixels_by_number(owner: GraphModule, node: Node) -> None:
    import torch

    source: Any = node.args[0]
    before, after = source.meta["val"].shape[2:], node.meta["val"].shape[2:]
    if all(new % old == 0 for old, new in zip(before, after, strict=True)):
        return
    found = source
    # asked of torch itself: what it rounds to is its own affair
    for axis, (old, new) in enumerate(zip(before, after, strict=True), 2):
        numbers = torch.arange(old, dtype=torch.float32).view(1, 1, -1)
        taken = torch.nn.functional.interpolate(numbers, size=int(new), mode="nearest").view(-1).long()
        which = _constant(owner, node, f"places_{axis}", taken)
        with owner.graph.inserting_before(node):
            found = owner.graph.call_function(torch.ops.aten.index_select.default, (found, axis, which))
    _put(owner, node, found)
