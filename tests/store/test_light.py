"""What is left out while converters run: the results are the same, and behind it all is as before."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import typing

import pytest
import torch
import torch.fx.config
from torch._export.serde import serialize
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram, default_decompositions
from torch.fx import Graph, GraphModule, symbolic_trace
from torch.fx.traceback import NodeSource
from torch.utils._pytree import tree_map
from twinkeel.pipeline.program.evaluation import example_inputs
from twinkeel.pipeline.store import light


@pytest.fixture
def usual(monkeypatch):
    """As it is without: tests have lasting ones."""
    monkeypatch.delattr(NodeSource, "__deepcopy__", raising=False)
    monkeypatch.setattr(torch.fx.config, "do_not_emit_stack_traces", False)
    monkeypatch.setattr(serialize, "typing", typing)
    monkeypatch.setattr(GraphModule, "recompile", getattr(GraphModule.recompile, "at_once", GraphModule.recompile))
    check = FakeTensorMode._validate_cache_key
    monkeypatch.setattr(FakeTensorMode, "_validate_cache_key", getattr(check, "usual", check))
    decompose = ExportedProgram.run_decompositions
    monkeypatch.setattr(ExportedProgram, "run_decompositions", getattr(decompose, "usual", decompose))


@pytest.fixture
def written(monkeypatch):
    """Graphs that became Python."""
    found, write = [], Graph.python_code

    def python_code(graph, *given, **named):
        found.append(graph)
        return write(graph, *given, **named)

    monkeypatch.setattr(Graph, "python_code", python_code)
    return found


def test_what_is_light_for_converters_is_as_before_behind_them(usual):
    before, source = gc.get_threshold(), NodeSource(None)

    def has_lines():
        graph = torch.export.export(torch.nn.ReLU(), (torch.zeros(1),)).graph
        return any(node.meta.get("stack_trace") for node in graph.nodes)

    assert has_lines()
    for fails in (False, True):
        try:
            with light.light_objects():
                assert gc.get_threshold()[0] > before[0] or before[0] >= 50_000
                assert copy.deepcopy([source])[0] is source and not has_lines()
                hints = [serialize.typing.get_type_hints(serialize.TensorMeta, vars(serialize)) for _ in range(2)]
                assert hints[0] is hints[1] and hints[0] == typing.get_type_hints(serialize.TensorMeta, vars(serialize))
                if fails:
                    raise ValueError
        except ValueError:
            pass
        assert gc.get_threshold() == before and copy.deepcopy([source])[0] is not source
        assert has_lines() and serialize.typing is typing


class Doubled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((3,), 2.0))

    def forward(self, x):
        return x * self.weight


def changed(module):
    """With another operation at the end, the graph having been changed by hand."""
    last = next(node for node in reversed(module.graph.nodes) if node.op == "output")
    with module.graph.inserting_before(last):
        last.args = (module.graph.call_function(torch.neg, (last.args[0],)),)
    module.recompile()
    return module


def test_graphs_become_python_where_somebody_reads_or_calls_it(usual, written):
    x = torch.arange(3.0)
    with light.light_objects():
        with light.light_objects():  # once more changes nothing
            module = symbolic_trace(Doubled())
        for _ in range(5):
            changed(module)
        assert not written
        assert torch.equal(torch.fx.Interpreter(module).run(x), -2 * x) and not written
        assert torch.equal(module(x), -2 * x) and len(written) == 1
        assert torch.equal(module(x), -2 * x) and len(written) == 1
        changed(module)
        assert torch.equal(module(x), 2 * x) and len(written) == 2
        late = changed(copy.deepcopy(module))
        assert "neg" in late.code and list(inspect.signature(changed(module).forward).parameters) == ["x"]
        assert list(inspect.signature(type(changed(module)).forward).parameters) == ["self", "x"]
        assert torch.equal(pickle.loads(pickle.dumps(changed(module)))(x), module(x))
        assert "def forward(self, x)" in str(changed(module)) and "neg" in module.recompile().src
        changed(module)
    # what was left for later, behind it
    assert "neg" in module.code and torch.equal(module(x), torch.fx.Interpreter(module).run(x))
    known = len(written)
    module.recompile()
    assert len(written) == known + 1
    with pytest.raises(AttributeError, match="_prologue"):
        torch.nn.Linear(1, 1)._prologue_start  # noqa: B018


def test_what_is_traced_is_the_same(usual, shallow_program):
    """The graph that converters begin with, and the shapes in it."""

    def traced():
        given = example_inputs(shallow_program.contract)
        program = torch.export.export(shallow_program.quantized, given).run_decompositions({})
        shapes = [tree_map(str, node.meta.get("val")) for node in program.graph.nodes]
        return str(program.graph), shapes, str(program.graph_signature)

    usually = traced()
    with light.light_objects():
        assert traced() == usually
        FakeTensorMode.cache_clear()
        assert traced() == usually == traced()
        bypassed = FakeTensorMode.cache_info().bypasses
    assert not bypassed.get("non-builtin"), bypassed


def halved(x):
    return x.relu() / 2


def test_what_was_decomposed_is_not_decomposed_again(usual, shallow_program):
    def traced(table):
        program = torch.export.export(shallow_program.quantized, example_inputs(shallow_program.contract))
        return program.run_decompositions({}).run_decompositions(table())

    def shown(program):
        return str(program.graph), str(program.graph_signature)

    none, all_of_them = traced(dict), traced(default_decompositions)
    assert shown(none) != shown(all_of_them)
    assert none.run_decompositions({}) is not none
    with light.light_objects():
        for table, usually in ((dict, none), (default_decompositions, all_of_them)):
            found = traced(table)
            assert shown(found) == shown(usually)
            assert found.run_decompositions(table()) is found.run_decompositions(decomp_table=table()) is found
        assert "conv2d" in shown(traced(dict))[0]
        assert traced(dict).run_decompositions() is not traced(dict)  # all that torch decomposes
        # one that writes into what it is given, and a function, came in by hand, as converters' passes put them in
        for target in (torch.ops.aten.relu_.default, halved):
            program = traced(default_decompositions)
            last = next(node for node in reversed(program.graph.nodes) if node.op == "output")
            (given,) = last.args[0]
            with program.graph.inserting_before(last):
                changed = program.graph.call_function(target, (given,))
            changed.meta["val"] = given.meta["val"]
            last.args = ((changed,),)
            program.graph_signature.output_specs[0].arg.name = changed.name
            again = program.run_decompositions({})
            assert again is not program
            assert all(node.target not in (target, given) for node in again.graph.nodes), again.graph
    assert not hasattr(ExportedProgram.run_decompositions, "usual")
