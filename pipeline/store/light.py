"""What torch and the converters on it do for nothing, left out while they run; what they write stays the same to the byte (torch 2.13).

Of MobileNetV2 in ten artifacts:

- to note at every node of a graph the lines of Python that it comes from, which are read for torch's own errors: a sixth of the time;
- to look for garbage after every 700 new objects, each time through all that the imported modules hold: a tenth;
- to copy where a node comes from, with all before it, at every pass, which nobody changes or reads: as much of those that
  pass through torch's graphs;
- to read the types of a class anew at each of the thousands of values in a program: a twentieth;
- to write a graph as Python, and compile that, after each of two hundred passes, though passes interpret the graph: a sixth;
- to ask a quantizer's Python for the shape of its result at each pass, which torch remembers of its own operators alone: a tenth of those
  that pass through torch's graphs;
- to trace a graph that was decomposed already once more, where none of its operators is to be decomposed further: a seventh in ExecuTorch, a
  fifth in LiteRT.
"""

from __future__ import annotations

import contextlib
import gc
import operator
import typing
import weakref
from collections.abc import Callable, Iterator
from typing import Any

_QUANTIZERS = "quantized_decomposed"
"""The namespace of PT2E's quantizers: functions of what they are given, and of nothing else."""


@contextlib.contextmanager
def light_objects() -> Iterator[None]:
    """For converters, which make millions of objects: see `lighten`."""
    undo = lighten()
    try:
        yield
    finally:
        undo()


def lighten() -> Callable[[], None]:
    """Leave all of it out from now on.

    Returns:
        what puts all of it back.
    """
    import torch.fx.config
    import torch.fx.traceback
    from torch._export.serde import serialize

    threshold = gc.get_threshold()
    gc.set_threshold(50_000, 20, 20)
    sources = getattr(torch.fx.traceback, "NodeSource", type("NodeSource", (), {}))
    undo = [
        _set(torch.fx.config, "do_not_emit_stack_traces", True),
        _set(sources, "__deepcopy__", lambda self, memo: self),
        _set(serialize, "typing", _RememberedHints()),
        *_compile_late(),
        *_remember_quantizers(),
        *_decompose_once(),
    ]

    def put_back() -> None:
        gc.set_threshold(*threshold)
        for back in reversed(undo):
            back()

    return put_back


_NOTHING = object()


def _set(owner: Any, name: str, value: object) -> Callable[[], None]:
    """Set an attribute.

    Returns:
        what puts back what was there.
    """
    before = vars(owner).get(name, _NOTHING)
    setattr(owner, name, value)
    return lambda: delattr(owner, name) if before is _NOTHING else setattr(owner, name, before)


class _RememberedHints:
    """The module `typing`, with hints that are read once."""

    def __init__(self) -> None:
        self._known: dict[Any, dict[str, Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(typing, name)

    def get_type_hints(self, cls: Any, globalns: dict[str, Any] | None = None) -> dict[str, Any]:
        if cls not in self._known:
            self._known[cls] = typing.get_type_hints(cls, globalns=globalns)
        return self._known[cls]


_CODE = ("_code", "_lineno_map", "_prologue_start")
"""What a module keeps of its graph as Python."""


def _compile_late() -> list[Callable[[], None]]:
    """Graphs become Python where somebody calls or reads it, not wherever they change."""
    from torch.fx import GraphModule
    from torch.fx._lazy_graph_module import _LazyGraphModule
    from torch.fx.experimental import _config
    from torch.fx.graph import _PyTreeCodeGen

    at_once = vars(GraphModule)["recompile"]
    if hasattr(at_once, "at_once"):  # as it is already
        return []
    reduce = GraphModule.__reduce__

    def recompile(module: Any) -> Any:
        if isinstance(module, _LazyGraphModule) or _config.enrich_profiler_metadata:
            return at_once(module)
        if isinstance(module._graph._codegen, _PyTreeCodeGen):
            module._in_spec = module._graph._codegen.pytree_info.in_spec
            module._out_spec = module._graph._codegen.pytree_info.out_spec
        for name in _CODE:
            module.__dict__.pop(name, None)
        type(module).forward = _Forward(module, at_once)
        return _Code(module, at_once)

    def reduced(module: Any) -> Any:
        if "_code" not in module.__dict__:
            at_once(module)
        return reduce(module)

    recompile.at_once = at_once  # type: ignore[attr-defined]
    undo = [_set(GraphModule, "recompile", recompile), _set(GraphModule, "__reduce__", reduced)]
    # these stay: a module that is not compiled when all is put back is compiled later
    for name in _CODE:
        setattr(GraphModule, name, _Attribute(name, at_once))
    return undo


class _Forward:
    """A module's method `forward` before it is compiled. Who asks for it has it compiled."""

    def __init__(self, module: Any, at_once: Callable[[Any], Any]) -> None:
        self._module, self._at_once = weakref.ref(module), at_once

    def __get__(self, module: Any, owner: type) -> Any:
        known = self._module() if module is None else module
        if known is None:
            raise AttributeError(f"{owner.__name__} has no forward: its only module is gone")
        self._at_once(known)
        return owner.forward if module is None else module.forward  # type: ignore[attr-defined]


class _Attribute:
    """What a module keeps of its graph as Python, before that is made; its own hides it."""

    def __init__(self, name: str, at_once: Callable[[Any], Any]) -> None:
        self._name, self._at_once = name, at_once

    def __get__(self, module: Any, owner: type) -> Any:
        if module is None:
            return self
        self._at_once(module)
        return module.__dict__[self._name]


class _Code:
    """What recompiling gives, a graph as Python, made when somebody looks at it."""

    def __init__(self, module: Any, at_once: Callable[[Any], Any]) -> None:
        self._make: Callable[[], Any] = lambda: at_once(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)


def _remember_quantizers() -> list[Callable[[], None]]:
    """The shapes that quantizers give are remembered as those of torch's own operators."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    check = FakeTensorMode._validate_cache_key
    if hasattr(check, "usual"):  # as it is already
        return []

    def checked(mode: Any, func: Any, args: Any, kwargs: Any) -> None:
        if getattr(func, "namespace", "") != _QUANTIZERS or func._schema.is_mutable:
            check(mode, func, args, kwargs)

    checked.usual = check  # type: ignore[attr-defined]
    return [_set(FakeTensorMode, "_validate_cache_key", checked)]


_DECOMPOSED = "_twinkeel_decomposed"
"""A mark of programs that decomposing gave: without operators that write into what they are given, and with their constants lifted."""


def _decompose_once() -> list[Callable[[], None]]:
    """Where a program that was decomposed has nothing that is to be decomposed further, it stays as it is."""
    from torch.export import ExportedProgram

    decompose = ExportedProgram.run_decompositions
    if hasattr(decompose, "usual"):  # as it is already
        return []

    def decomposed(program: Any, decomp_table: Any = None, **others: Any) -> Any:
        is_known = _DECOMPOSED in vars(program) and decomp_table is not None and not others
        if is_known and not any(_is_left(target, decomp_table) for target in _targets(program)):
            return program
        found = decompose(program, decomp_table, **others)
        setattr(found, _DECOMPOSED, True)
        return found

    decomposed.usual = decompose  # type: ignore[attr-defined]
    return [_set(ExportedProgram, "run_decompositions", decomposed)]


def _targets(program: Any) -> Iterator[Any]:
    """What the nodes of a program call, those of graphs inside its own too."""
    from torch.fx import GraphModule

    for module in program.graph_module.modules():
        if isinstance(module, GraphModule):
            yield from (node.target for node in module.graph.nodes if node.op == "call_function")


def _is_left(target: Any, table: Any) -> bool:
    """Whether there is something to do: by the table, or since a pass put in what writes into its input, or a function of its own, which
    is traced to operators."""
    from torch._ops import OpOverload

    if not isinstance(target, OpOverload):
        return target is not operator.getitem
    return target in table or bool(target._schema.is_mutable)
