"""What accelerators are documented to take of an artifact's operators."""

from __future__ import annotations

import pytest
from twinkeel.pipeline.cli import common
from twinkeel.pipeline.report import documented

MOBILE = {
    "CAST": 1,
    "SUB": 1,
    "CONV_2D": 35,
    "DEPTHWISE_CONV_2D": 17,
    "PAD": 4,
    "ADD": 10,
    "MEAN": 1,
    "FULLY_CONNECTED": 1,
}
IN_XNNPACK = {
    "delegate": 1,
    "xnnpack:Conv2d": 35,
    "xnnpack:DepthwiseConv2d": 17,
    "xnnpack:Add": 10,
    "xnnpack:Clamp": 35,
}


def looked_up(name, target, precision, operators):
    (delegate,) = [one for one in documented.delegates() if one.name == name]
    return documented.support(delegate, target, precision, operators)


def test_each_list_names_its_source_and_the_version_of_it():
    known = common.targets()
    for delegate in documented.delegates():
        assert delegate.version and delegate.source and delegate.note and delegate.targets.keys() <= known.keys()
        assert delegate.operators or delegate.barred or delegate.is_in_file, delegate.name
        assert set(delegate.names.values()) - delegate.operators.keys() <= {
            "hardswish",
            "floor",
            "ceil",
            "log",
            "elu",
            "prelu",
            "maximum",
            "mul",
        }
        assert set(delegate.barred) <= {
            precision for target in delegate.targets for precision in known[target].PRECISIONS
        }


def test_operators_of_litert_are_called_as_its_schema_calls_them():
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    for delegate in documented.delegates():
        if "android/litert" in delegate.targets:
            assert delegate.operators.keys() <= vars(BuiltinOperator).keys(), delegate.name


def test_what_is_listed_is_told_from_what_is_not():
    of_source = looked_up("LiteRT GPU, its own check", "android/litert", "fp32", MOBILE)
    assert (of_source.verdict, of_source.left) == ("all 70", {})
    of_guide = looked_up("LiteRT GPU, its guide", "android/litert", "fp32", MOBILE)
    assert of_guide.verdict == "68 of 70" and of_guide.left == {"CAST": 1, "MEAN": 1}
    assert of_guide.conditions == {"DEPTHWISE_CONV_2D": "versions 1 and 2"}
    odd = looked_up("LiteRT GPU, its own check", "android/litert", "fp32", MOBILE | {"WHILE": 1})
    assert (odd.verdict, odd.left) == ("70 of 71", {"WHILE": 1})


def test_the_neural_engine_has_no_list_and_takes_no_float32():
    name = "Core ML, Neural Engine"
    assert looked_up(name, "ios/coreml", "fp16", {"conv": 52}).verdict == "not documented"
    barred = looked_up(name, "ios/coreml", "fp32", {"conv": 52})
    assert barred.verdict == "none" and "float32" in barred.barred
    inside = looked_up(
        name,
        "ios/executorch_coreml",
        "fp16",
        {"delegate": 1, "dim_order_ops::_to_dim_order_copy": 1, "coreml:conv": 52},
    )
    assert inside.unknown == {"conv": 52} and inside.left == {"dim_order_ops::_to_dim_order_copy": 1}


@pytest.mark.parametrize(
    "outside", [{}, {"aten::add.out": 2}, {"aten::nonzero.out": 1}], ids=["none", "listed", "not listed"]
)
def test_what_a_delegate_holds_is_read_from_the_file(outside):
    found = looked_up("ExecuTorch, XNNPACK delegate", "android/executorch", "int8", IN_XNNPACK | outside)
    assert found.inside == {"Conv2d": 35, "DepthwiseConv2d": 17, "Add": 10, "Clamp": 35}
    assert {**found.taken, **found.left} == outside
    assert bool(found.left) is ("aten::nonzero.out" in outside)


def test_xnnpacks_nodes_are_looked_up_by_the_operators_that_they_were():
    found = looked_up(
        "ExecuTorch, Vulkan delegate", "android/executorch", "int8", IN_XNNPACK | {"xnnpack:Hardswish": 3}
    )
    assert found.verdict == "97 of 100" and found.left == {"Hardswish": 3}
    assert found.conditions["Conv2d"].startswith("of two dimensions")
