"""Core AI packages: what is in them, that they are equal to the last bit, and that damaged ones end in one clear error."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from twinkeel.pipeline import parity
from twinkeel.pipeline.errors import PackageError
from twinkeel.pipeline.files import digest
from twinkeel.pipeline.parity import drift
from twinkeel.pipeline.program import artifact, layers, references
from twinkeel.pipeline.tasks import classification
from twinkeel.targets.ios import _aimodel, coreai, coreml

IS_THERE = not artifact.missing(coreai)
needs_runtime = pytest.mark.skipif(not IS_THERE, reason="Core AI's packages are not installed: the extra 'coreai'")


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(3).integers(0, 256, (4, 32, 32, 4), np.uint8)
    pixels[..., 3] = 255
    return pixels


@pytest.fixture(scope="module")
def packages(shallow_program, tmp_path_factory):
    """The package of each precision, made once."""
    if not IS_THERE:
        pytest.skip("Core AI's packages are not installed")
    folder = tmp_path_factory.mktemp("aimodels")
    return {one: coreai.build(shallow_program, one, folder / f"{one}.aimodel") for one in coreai.PRECISIONS}


@needs_runtime
@pytest.mark.parametrize("precision", coreai.PRECISIONS)
def test_packages_equal_their_references_to_the_last_bit(precision, packages, shallow_program, images):
    run = coreai.load(packages[precision]).run
    found = np.concatenate([run(one[None]) for one in images])
    expected = shallow_program.evaluate(coreai.REFERENCES[precision], images)
    assert np.array_equal(found, expected), f"{np.abs(found - expected).max()} apart"


@needs_runtime
def test_packages_say_what_they_are(packages, shallow_program):
    for path in packages.values():
        assert sorted(file.name for file in path.iterdir()) == ["main.hash", "main.mlirb", "metadata.json"]
        found = json.loads((path / "metadata.json").read_text())
        assert found["author"] == "An author" and found["license"] == "A licence"
        assert found["description"] == "A small model" and "creationDate" not in found
        assert found["creatorDefinedMetadata"]["labels"] == list(shallow_program.labels)
        assert found["creatorDefinedMetadata"]["version"] == "1.2"


@needs_runtime
def test_precisions_have_their_sizes_and_operations(packages):
    sizes = {name: sum(file.stat().st_size for file in path.iterdir()) for name, path in packages.items()}
    assert sizes["fp16"] < 0.6 * sizes["fp32"] and sizes["int8"] < 0.6 * sizes["fp32"]
    assert sizes["w8"] < 0.7 * sizes["fp16"] and sizes["w4"] < 0.8 * sizes["w8"], sizes
    assert coreai.operators(packages["w4"])["lut_to_dense"] > 5
    found = coreai.operators(packages["int8"])
    assert found["quantize"] > 10 and found["dequantize"] > 10 and "constant" not in found
    assert "quantize" not in coreai.operators(packages["fp32"])


@needs_runtime
def test_another_process_writes_the_same_bytes(packages, tmp_path):
    """Core AI names constants by a hash that is another one in each process."""
    code = (
        "import sys; from pathlib import Path; from twinkeel.targets.ios import _aimodel; "
        "source, out = map(Path, sys.argv[1:]); "
        "_aimodel.write(_aimodel.text_of(source).replace('constant_', 'resource_'), out, (source / 'metadata.json').read_bytes())"
    )
    for number in range(2):
        out = tmp_path / f"{number}.aimodel"
        subprocess.run([sys.executable, "-c", code, str(packages["fp32"]), str(out)], check=True, capture_output=True)
        assert digest(out) == digest(packages["fp32"])


@needs_runtime
def test_layers_are_seen_and_equal_the_reference(packages, shallow_program, images):
    _, recording = layers.watch(shallow_program, "int8-coreai", images)
    found = drift.candidates(coreai.trace(packages["int8"]), images, recording, "int8-coreai", "ios/coreai int8")
    compared = drift.compare(recording, "int8-coreai", found, "coreai")
    assert len(compared) > 10 and all(one.equal_values == 1 and one.is_within for one in compared)
    kinds = {one.kind for one in compared}
    assert kinds == {"convolution", "depthwise", "addition", "mean", "linear"}


def _no_folder(path):
    shutil.rmtree(path)
    path.write_bytes(b"no folder")


def _gone(path):
    shutil.rmtree(path)


def _program_gone(path):
    (path / "main.mlirb").unlink()


def _hash_gone(path):
    (path / "main.hash").unlink()


def _truncated(path):
    content = (path / "main.mlirb").read_bytes()
    (path / "main.mlirb").write_bytes(content[: len(content) // 2])


def _one_byte(path):
    content = bytearray((path / "main.mlirb").read_bytes())
    content[len(content) // 2] ^= 1
    (path / "main.mlirb").write_bytes(content)


def _pointer(path):
    (path / "main.mlirb").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


def _link(path):
    other = path.parent / "elsewhere.mlirb"
    (path / "main.mlirb").rename(other)
    (path / "main.mlirb").symlink_to(other)


def _pipe(path):
    (path / "main.mlirb").unlink()
    os.mkfifo(path / "main.mlirb")


def _folder(path):
    (path / "main.hash").unlink()
    (path / "main.hash").mkdir()


def _linked_folder(path):
    other = path.parent / "elsewhere"
    path.rename(other)
    path.symlink_to(other)


def _one_more(path):
    (path / "main.odix").write_bytes(b"compiled for something else")


def _metadata(path):
    (path / "metadata.json").write_text('{"a": 1, "a": 2}')


def _deep_metadata(path):
    (path / "metadata.json").write_text("[" * 5000 + "]" * 5000)


DAMAGE = {
    "no-folder": (_no_folder, "it is no folder but a file"),
    "gone": (_gone, "it is not there"),
    "program-gone": (_program_gone, "make a package"),
    "hash-gone": (_hash_gone, "make a package"),
    "truncated": (_truncated, "was changed or cut short"),
    "one-byte": (_one_byte, "was changed or cut short"),
    "git-pointer": (_pointer, "git lfs pull"),
    "link-out": (_link, "'main.mlirb' is a link, .*cp -rL"),
    "pipe": (_pipe, "'main.mlirb' is a pipe, and a package holds plain files"),
    "folder-inside": (_folder, "'main.hash' is a folder"),
    "folder-is-a-link": (_linked_folder, "it is a link, .*cp -rL"),
    "one-file-more": (_one_more, "make a package"),
    "metadata": (_metadata, "no whole Core AI package"),
    "deep-metadata": (_deep_metadata, "no whole Core AI package"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_package_is_one_clear_error(name, tmp_path):
    """Without Core AI: its own reader is not asked."""
    path = tmp_path / "x.aimodel"
    path.mkdir()
    (path / "metadata.json").write_text("{}")
    from aimodels import sealed

    sealed(path, b"ML\xefR" + bytes(1000))
    _aimodel.checked(path)
    damage, words = DAMAGE[name]
    damage(path)
    with pytest.raises(PackageError, match=words) as caught:
        coreai.load(path)
    assert len(str(caught.value)) < 1000 and "Build again" in str(caught.value)


@needs_runtime
@pytest.mark.parametrize(
    "content", [b"", b"no program at all", b"ML\xefR" + bytes(3000)], ids=["empty", "garbage", "head"]
)
def test_a_program_that_ends_core_ai_ends_no_other_process(content, packages, tmp_path):
    from aimodels import sealed

    path = shutil.copytree(packages["int8"], tmp_path / "x.aimodel")
    sealed(path, content)
    for look in (coreai.load, coreai.trace):
        with pytest.raises(PackageError, match="does not run: it ends Core AI's process by signal") as caught:
            look(path)
        assert "as that reads 'main.mlirb', which is damaged, or of another version" in str(caught.value)
        assert "__import__" not in str(caught.value) and str(caught.value).endswith("Build again.")


def test_core_ai_that_does_not_import_names_doctor(packages, monkeypatch):
    code = "raise ImportError('libCoreAI.so: cannot open shared object file')"
    monkeypatch.setattr(coreai.runtime, "_CHILD", code)
    with pytest.raises(
        PackageError, match=r"does not import: ImportError: libCoreAI\.so.* `twinkeel doctor`"
    ) as caught:
        coreai.load(packages["fp32"])
    assert "Build again" not in str(caught.value)
    assert "`twinkeel doctor`" in parity.described(ImportError("libCoreAI.so: cannot open"))
    assert "doctor" not in parity.described(ValueError("no model"))


@needs_runtime
def test_half_of_a_program_ends_no_other_process(packages, tmp_path):
    from aimodels import sealed

    path = shutil.copytree(packages["fp32"], tmp_path / "x.aimodel")
    content = (path / "main.mlirb").read_bytes()
    sealed(path, content[: len(content) // 2])
    with pytest.raises(PackageError, match="does not run"):
        coreai.load(path)


@needs_runtime
def test_wrong_inputs_are_an_error_and_no_hang(packages):
    run = coreai.load(packages["fp32"]).run
    with pytest.raises(PackageError, match="Core AI refuses it"):
        run(np.zeros((1, 5, 5, 4), np.uint8), np.zeros((1, 2), np.float32))


def test_without_its_packages_it_is_left_out_and_named(monkeypatch):
    import importlib.metadata

    from twinkeel.pipeline.building import order
    from twinkeel.pipeline.cli import common
    from twinkeel.pipeline.config import Config
    from twinkeel.pipeline.errors import ConfigError

    known = importlib.metadata.version

    def version(name):
        if name.startswith("coreai"):
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    targets, said = common.targets(), []
    assert "ios/coreai" not in {target.NAME for target, _ in order.plan(Config(), targets, "ios")}
    order._tell_left_out(Config(), targets, ["ios"], said.append)
    assert said == [
        "not built: ios/coreai, whose packages are not installed. To have it: pip install 'twinkeel[coreai]'"
    ]
    order._tell_left_out(Config(), targets, ["android"], said.append)
    named = Config.model_validate({"targets": {"ios/coreai": ["fp16"], "ios/coreml": ["fp16"]}})
    order._tell_left_out(named, targets, ["ios"], said.append)
    assert len(said) == 1
    with pytest.raises(ConfigError, match=r"ios/coreai takes packages .* pip install 'twinkeel\[coreai\]'"):
        order.plan(named, targets, "ios")


def test_something_has_to_run_on_the_oldest_ios(monkeypatch):
    from twinkeel.pipeline.building import order
    from twinkeel.pipeline.cli import common
    from twinkeel.pipeline.config import Config
    from twinkeel.pipeline.errors import ConfigError

    monkeypatch.setattr(order, "missing", lambda target: "")
    asked = {"targets": {"ios/coreai": ["fp16"]}}
    with pytest.raises(ConfigError, match="ios/coreai needs iOS 27"):
        order.plan(Config.model_validate(asked), common.targets(), "ios")
    later = asked | {"ios": {"minimum_deployment_target": "iOS27"}}
    assert len(order.plan(Config.model_validate(later), common.targets(), "ios")) == 1
    beside = {"targets": {"ios/coreai": ["fp16"], "ios/coreml": ["fp16"]}}
    assert len(order.plan(Config.model_validate(beside), common.targets(), "ios")) == 2
    found = {target.NAME for target, _ in order.plan(Config(), common.targets(), "ios")}
    assert "ios/coreai" in found


def test_slow_references_are_run_on_some_images():
    images, golden = np.zeros((2000, 224, 224, 4), np.uint8)[:1].repeat(1, 0), [0, 0]
    many = np.broadcast_to(images, (2000, 224, 224, 4))
    golden = [3, 500, 1999]
    some = references.looked_at("int8-coreai", many, golden)
    assert some is not None and set(golden) <= set(some) and 32 <= len(some) <= 35
    assert references.looked_at("int8", many, golden) is None
    assert references.looked_at("int8-coreai", np.broadcast_to(images[:, :32, :32], (1500, 32, 32, 4)), golden) is None
    spread = references.spread(np.ones((len(some), 2), np.float32), some, 2000)
    assert np.isnan(spread).any(1).sum() == 2000 - len(some) and (spread[golden] == 1).all()


@pytest.mark.parametrize("precision", ("fp32", "fp16", "int8"))
def test_every_precision_has_limits_of_its_own(precision):
    limits = parity.limits_for(classification.MEANING, "lower", precision, (), coreai.EVIDENCE, coreai.KERNELS)
    other = parity.limits_for(classification.MEANING, "lower", precision, (), coreai.EVIDENCE, "")
    assert limits != other and all(limit.reason for limit in limits)


@pytest.mark.parametrize("precision", ["w8", "w4"])
def test_what_fewer_bits_lose_is_judged_as_in_core_ml(precision):
    def allowed(target, kernels):
        rows = parity.limits_for(classification.MEANING, "lower", precision, (), target.EVIDENCE, kernels)
        return {row.metric: row for row in rows}

    here, there = allowed(coreai, coreai.KERNELS), allowed(coreml, coreml.KERNELS)
    counted = classification.MEANING.counted
    assert {name: here[name] for name in counted} == {name: there[name] for name in counted}
    assert here["max_error"].value == 1e-5


class _Some:
    """As much of an artifact and of a target as judging asks for."""

    KERNELS, EVIDENCE, REFERENCES = "coreai", "runtime", coreai.REFERENCES


def _judged(operators, images, precision="fp16", label_errors=None, in_float=()):
    """The row of an artifact whose outputs are the reference's where it ran."""
    from twinkeel.pipeline.config import Config

    made = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0, 1]]
    truth = np.array([0, 1, 2, 0])  # the last two images are at the edges
    known = dict.fromkeys((references.ORIGINAL, "fp32", "int8"), made)
    judge = parity.Judge(
        outputs=parity.Outputs(references=known, truth=truth, outputs=(), in_float=in_float),
        targets={"ios/coreai": _Some},
        config=Config(),
        meaning=classification.MEANING,
    )
    ran = made if images is None else references.spread(made[images], images, len(made))
    measured = parity.Measured(
        artifact=artifact.Artifact(target="ios/coreai", precision=precision, path="x", bytes=1, sha256=""),
        twin=None,
        operators=operators,
        outputs=ran,
        metrics={"max_error": 1e-3, "float_snr_db": 60.0, "label_errors": label_errors},
        decodes=label_errors is not None,
        images=images,
    )
    return judge.rows([measured], [])[0]


def test_what_ran_on_some_images_is_counted_on_these_and_says_so():
    row = _judged({"conv2d": 3}, [0, 3, 5])
    assert row.images == 3 and row.worth.counted["agreement"][1].images == 2 and row.worth.score == 0.5
    assert all(check.reason.endswith("on 3 of 6 images, for it is slow here") for check in row.checks)
    whole = _judged({"conv2d": 3}, None)
    assert whole.images is None and whole.worth.score == 0.75
    assert not any("images" in check.reason for check in whole.checks)


def test_float16_is_judged_to_the_last_bit_where_all_of_it_is_known():
    assert not _judged({"conv2d": 3, "pad": 1}, None).is_verified
    other = _judged({"conv2d": 3, "gelu": 1, "decomposable.broadcasting_mul": 2}, None)
    assert other.is_verified and "rounded otherwise: decomposable.broadcasting_mul, gelu" in other.checks[0].reason


@pytest.mark.parametrize("operators", [{"conv2d": 3}, {"gelu": 1}], ids=["known", "rounded-otherwise"])
@pytest.mark.parametrize("in_float", [(), ("softmax",)], ids=["integers", "floats-between"])
@pytest.mark.parametrize("precision", coreai.PRECISIONS)
def test_labels_are_judged_whatever_is_inside(precision, in_float, operators):
    for errors in (0.0, 1.0):
        row = _judged(operators, None, precision, errors, in_float)
        checks = [check for check in row.checks if check.metric == "label_errors"]
        assert [check.is_met for check in checks] == [errors == 0]
    assert "label_errors" not in {check.metric for check in _judged(operators, None, precision).checks}
