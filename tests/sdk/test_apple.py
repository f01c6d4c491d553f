"""The table of Apple's API that kits use is as the SDK has it, and what is not there, or not yet, is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from real import apple
from real.fetched import fetched

STUBS = Path(__file__).parent / "stubs" / "ios"
PREDICTION = "CoreML.MLModel.prediction(from: CoreML.MLFeatureProvider) throws -> CoreML.MLFeatureProvider"
VALUE = "CoreML.MLFeatureProvider.featureValue(for: Swift.String) -> CoreML.MLFeatureValue"
ALL = "CoreML.MLComputeUnits.all(CoreML.MLComputeUnits.Type) -> CoreML.MLComputeUnits"
PREDICTS = "CoreML MLModel.predictionFromFeaturesError"


@pytest.fixture(scope="module")
def sdk():
    return apple.Sdk(fetched("ios"))


@pytest.fixture(scope="module")
def values():
    """Raw values of the stubs' enumerations."""
    return {
        name: value for path in STUBS.glob("*.swift") for name, value in apple.cases(path.read_text("utf-8")).items()
    }


def test_table_is_as_the_sdk(sdk, values):
    known = apple.table()
    compared = [api for api in known.values() if not api.origin.startswith("Swift")]
    print(f"{len(compared)} of {len(known)} API compared with the SDK of iOS 26.4, the others are Swift's alone")
    assert [*apple.differences(known, sdk, values)] == []


@pytest.mark.parametrize(
    ("name", "ios", "origin", "said"),
    [
        (
            PREDICTION,
            11,
            "CoreML MLModel.predictionFromFeatureError",
            "there is no CoreML MLModel.predictionFromFeatureError",
        ),
        (PREDICTION, 10, PREDICTS, "from iOS 10 on, in truth 11"),
        (PREDICTION.replace(") throws", ", options: Swift.Int) throws"), 11, PREDICTS, "takes 2, in truth 1"),
        (VALUE, 11, "CoreML MLFeatureProvider.featureValueForName", "is not optional, in truth nullable"),
        (ALL, 12, "CoreML MLComputeUnits.CPUAndGPU", "is 2, in truth 1"),
    ],
    ids=["selector", "availability", "parameter", "nullability", "value"],
)
def test_what_differs_from_the_sdk_is_caught(name, ios, origin, said, sdk, values):
    assert [*apple.differences({name: apple.Api(ios, origin)}, sdk, values)] == [f"{name}: {said}"]


def test_what_is_missing_or_came_later_is_caught():
    names = {
        PREDICTION: {"Model.swift"},
        "CoreML.MLModel.makeState() -> CoreML.MLState": {"Model.swift"},
        "CoreML.MLShapedArray.scalars : [A]": {"Model.swift", "Old.swift"},
        "Swift.Duration": {"Model.swift"},
        "CoreAIRuntime.NDArray.shape : [Swift.Int]": {"Model.swift"},
        "CoreAIRuntime.NDArray.shape : Swift.Span<Swift.Int>": {"Model.swift"},
    }
    assert [*apple.absent(names, {"": 15, "Old.swift": 14}, apple.table())] == [
        "Model.swift: CoreAIRuntime.NDArray.shape : Swift.Span<Swift.Int> is no API that tests/sdk/real/apple.txt knows",
        "Model.swift: CoreAIRuntime.NDArray.shape : [Swift.Int] is there from iOS 27 on, used from 15 on",
        "Model.swift: CoreML.MLModel.makeState() -> CoreML.MLState is no API that tests/sdk/real/apple.txt knows",
        "Old.swift: CoreML.MLShapedArray.scalars : [A] is there from iOS 15 on, used from 14 on",
        "Model.swift: Swift.Duration is there from iOS 16 on, used from 15 on",
    ]


def test_core_ai_has_the_names_and_types_of_apples_identifiers(demangle):
    identified = {
        name: found[1] for name, api in apple.table().items() if (found := re.match(r"Swift: s:(\w+), ", api.origin))
    }
    assert len(identified) > 20
    spelled = demangle("".join(f"$s{one}\n" for one in identified.values())).splitlines()
    assert [apple.plain_name(name) for name in spelled] == list(identified)


def test_names_are_those_of_frameworks_alone():
    plain = {
        "CoreML.MLModelConfiguration.computeUnits.setter : CoreML.MLComputeUnits": "CoreML.MLModelConfiguration.computeUnits : CoreML.MLComputeUnits",
        "FoundationEssentials.URL.path.getter : Swift.String": "Foundation.URL.path : Swift.String",
        "Swift.Array.count : Swift.Int": None,
        "(extension in Kit):CoreGraphics.CGImage.placed() -> Kit.Placed": None,
        "data #1 : FoundationEssentials.Data in Sample.Photo.init(data: FoundationEssentials.Data) -> Sample.Photo": None,
    }
    assert {name: apple.plain_name(name) for name in plain} == plain
