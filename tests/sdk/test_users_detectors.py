"""Detectors of users' own, declared by configuration alone: built for both platforms, verified, their kits compiled and their tests run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from detecting import MAPS, PACKED

ROOT = Path(__file__).parents[1]
DETECTORS = {"packing": (PACKED,), "peaking": MAPS}
BASE = "com.example.detection"


def settings(name):
    """The file as a user writes it."""
    outputs = "".join(
        "[[output]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in one.items())
        for one in DETECTORS[name]
    )
    return (
        f'[model]\ntask = "detection"\nfactory = "{ROOT}/networks/detecting.py:{name}"\nresolution = 96\n'
        f'[weights]\npath = "{ROOT}/weights/{name}.safetensors"\n[quantize]\nminutes = 0\n[parity]\nimages = 400\n'
        f'[targets]\n"android/litert" = ["fp32", "int8"]\n"android/executorch" = ["int8"]\n'
        f'"ios/coreml" = ["fp32", "int8"]\n"ios/executorch" = ["int8"]\n'
        f'[android]\npackage = "{BASE}.{name}"\n[ios]\nmodule = "Users{name.capitalize()}"\n{outputs}'
    )


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    """By name of a detector, the folder of its build, made once; of the first in processes of their own."""
    from click.testing import CliRunner
    from twinkeel.pipeline.building import runner
    from twinkeel.pipeline.cli import cli
    from twinkeel.pipeline.store import Here

    made = {}

    def make(name):
        if name not in made:
            root = tmp_path_factory.mktemp(name)
            (root / "twinkeel.toml").write_text(settings(name))
            arguments = [
                "build",
                "all",
                "-c",
                root / "twinkeel.toml",
                "-o",
                root / "out",
                "--store",
                root / "store",
            ]
            with pytest.MonkeyPatch.context() as patch:
                if name != next(iter(DETECTORS)):
                    patch.setattr(runner, "Workers", lambda *_: Here())
                result = CliRunner().invoke(cli, [str(one) for one in arguments])
            assert result.exit_code == 0, (result.output[-3000:], result.exception)
            made[name] = root / "out"
        return made[name]

    return make


@pytest.mark.parametrize("name", DETECTORS)
def test_it_is_verified_on_the_runtimes_of_the_kits(name, users, run_cli):
    for platform in ("android", "ios"):
        folder = users(name) / platform
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["task"] == "detection" and manifest["is_verified"] and not manifest["errors"]
        assert manifest["labels"] == ["ellipse", "rectangle", "triangle"]
        assert manifest["boxes"]["format"] == {"packing": "cxcywh", "peaking": "size"}[name]
        found = {(one["target"], one["precision"]): one["AP"] for one in manifest["artifacts"]}
        print(f"{name}, {platform}: " + ", ".join(f"{' '.join(key)} AP {ap:.3f}" for key, ap in found.items()))
        assert min(found.values()) > 0.3
        assert run_cli("verify", folder).exit_code == 0


@pytest.mark.parametrize("name", DETECTORS)
def test_its_kotlin_library_compiles_and_finds_the_references_boxes(name, users, kotlin, tmp_path):
    module = users(name) / "android" / "sdk" / "detector"
    kotlin.check(kotlin.libraries([module], tmp_path / "library"))
    kotlin.check(kotlin.tests_of([module], tmp_path / "library", tmp_path / "tests"))
    classpath = [tmp_path / "library", tmp_path / "tests", module / "src" / "golden"]
    tests = [f"{BASE}.{name}.{test}" for test in ("PixelsTest", "DecodingTest")]
    assert kotlin.passed(classpath, "fakes.TestRunner", *tests) == 5 + 5


@pytest.mark.parametrize("name", DETECTORS)
def test_its_swift_package_compiles_and_finds_the_references_boxes(name, users, swift):
    result = swift(users(name) / "ios" / "sdk", "test", "-Xswiftc", "-warnings-as-errors")
    assert result.returncode == 0, result.stdout
    assert "testOutputsBecomeTheExpectedBoxes' passed" in result.stdout
    print(re.findall(r"Executed \d+ tests, with 0 failures", result.stdout)[-1])
