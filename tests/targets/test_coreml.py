"""Core ML packages: what they say of themselves, every version of iOS, sizes."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from twinkeel.model import mobilenet_v2
from twinkeel.pipeline import data, parity
from twinkeel.pipeline.parity import measuring as measure
from twinkeel.pipeline.parity import metrics
from twinkeel.pipeline.program import compress
from twinkeel.pipeline.program.artifact import seal
from twinkeel.pipeline.tasks import classification
from twinkeel.targets.ios import _mlprogram, coreml, executorch_coreml, mil_executor

IMAGES = data.rgba(np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8))
OPSETS = {15: "CoreML5", 16: "CoreML6", 17: "CoreML7", 18: "CoreML8", 26: "CoreML9"}


@pytest.mark.parametrize("version", OPSETS)
def test_each_precision_at_each_version_that_it_needs(version, shallow_program, tmp_path):
    program = dataclasses.replace(shallow_program, minimum_ios=version)
    for precision in [p for p, needed in coreml.NEEDS.items() if needed <= version]:
        package = coreml.build(program, precision, tmp_path / precision)
        model, loaded = mil_executor.Model(package), coreml.load(package)
        assert model.opset == OPSETS[version]
        found = np.concatenate([loaded.exact(image[None]) for image in IMAGES])
        error = metrics.max_error(program.evaluate(coreml.REFERENCES[precision], IMAGES), found)
        assert error <= 1e-5, f"iOS {version} {precision}: {error:.2e}"


def test_each_way_to_store_a_weight_is_computed_with_exactly_and_takes_the_bytes_that_it_says(
    shallow_program, tmp_path
):
    """Blocks, palettes, 8 bits and float16 beside each other."""
    program = dataclasses.replace(shallow_program)
    folded, weights = program.folded, {}
    for number, (name, layer) in enumerate(compress.weighted(folded)):
        weight = layer.weight.numpy()
        ways = (
            lambda w: compress.in_steps(w, 4, 8) if w.shape[1] % 8 == 0 and w.shape[1] > 8 else compress.in_steps(w, 4),
            compress.with_palettes,
            lambda w: compress.in_steps(w, 8),
            lambda w: None,
        )
        if (packed := ways[number % len(ways)](weight)) is not None:
            weights[name] = packed
    assert any(w.scale is not None and w.scale.ndim == 2 for w in weights.values())
    dense = {name: packed.dense for name, packed in weights.items()}
    module = compress.with_weights(compress.half(folded, biases=True), dense, {})
    vars(program)["w4"] = compress.Compressed(module=module, weights=weights)
    package = coreml.build(program, "w4", tmp_path / "x")
    found = np.concatenate([coreml.load(package).exact(image[None]) for image in IMAGES])
    error = metrics.max_error(program.evaluate("w4", IMAGES), found)
    assert error <= 1e-5, f"{error:.2e}"
    stored = (package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").stat().st_size
    layers = compress.weighted(module)
    said = program.w4.bits_per_weight * sum(layer.weight.numel() for _, layer in layers) / 8
    beside = sum(
        2 * layer.bias.numel() + 4 * 128 for _, layer in layers
    )  # headers, and each tensor at a multiple of 64
    assert said * 0.9 <= stored <= said + beside, f"{stored} bytes for {said:.0f} of weights"


def test_a_package_says_what_it_is(shallow_program, tmp_path):
    spec = mil_executor.Model(coreml.build(shallow_program, "fp16", tmp_path / "x")).spec
    description, about = spec.description, shallow_program.about
    metadata = description.metadata
    assert (metadata.author, metadata.license) == (about.author, about.license)
    assert (metadata.versionString, metadata.shortDescription) == (about.version, about.description)
    assert [feature.name for feature in description.input] == ["image"]
    kind = description.input[0].type.imageType
    assert (kind.width, kind.height, type(kind).ColorSpace.Name(kind.colorSpace)) == (32, 32, "RGB")
    assert {feature.name for feature in description.output} == {"logits", "probabilities", "classLabel"}
    assert all(feature.shortDescription for feature in (*description.input, *description.output))
    assert (description.predictedFeatureName, description.predictedProbabilitiesName) == ("classLabel", "probabilities")
    assert not [key for key in metadata.userDefined if "date" in key]


def test_our_classifier_has_the_form_that_coremltools_gives_one(shallow_program, tmp_path):
    import coremltools
    from torch import nn

    exported = torch.export.export(
        nn.Sequential(nn.Flatten(), nn.Linear(12, 10), nn.Softmax(-1)).eval(), (torch.zeros(1, 3, 2, 2),)
    )
    theirs = coremltools.convert(
        exported.run_decompositions({}),
        inputs=[coremltools.ImageType("image", shape=(1, 3, 2, 2))],
        classifier_config=coremltools.ClassifierConfig(list(shallow_program.labels)),
        compute_precision=coremltools.precision.FLOAT32,
        minimum_deployment_target=coremltools.target.iOS18,
        skip_model_load=True,
    ).get_spec()
    ours = mil_executor.Model(coreml.build(shallow_program, "fp32", tmp_path / "x")).spec

    def operation(spec):
        function = spec.mlProgram.functions["main"]
        found = [o for o in function.block_specializations[function.opset].operations if o.type == "classify"]
        return found[0]

    a, b = operation(ours), operation(theirs)
    assert a.inputs["classes"] == b.inputs["classes"]
    assert [o.type for o in a.outputs] == [o.type for o in b.outputs]
    assert set(a.attributes) == set(b.attributes)
    kinds = [{f.name: f.type for f in spec.description.output} for spec in (ours, theirs)]
    assert kinds[0]["classLabel"] == kinds[1]["classLabel"]
    assert kinds[0]["probabilities"] == kinds[1]["classLabel_probs"]


@pytest.fixture(scope="module")
def large_program(make_program):
    return make_program(mobilenet_v2.create(1000, 1.0), 224)


@pytest.mark.parametrize(("precision", "megabytes"), [("fp16", 7.2), ("int8", 4.1), ("w8", 3.7), ("w4", 2.3)])
def test_size_of_width_1_at_224(precision, megabytes, large_program, tmp_path):
    artifact = seal(coreml.build(large_program, precision, tmp_path / "x"), tmp_path, coreml.NAME, precision)
    assert artifact.bytes <= megabytes * 1e6, f"{precision}: {artifact.bytes:,} bytes"


def test_values_that_float16_cannot_hold_are_seen(make_program, tmp_path):
    """Without BatchNorm statistics, activations shrink from layer to layer, until float16 has none left."""
    torch.manual_seed(0)
    program = make_program(mobilenet_v2.create(10, 0.35), 32, passes=0)
    expected = measure.Expected(
        reference=program.evaluate("fp16-all", IMAGES),
        floating=program.evaluate("fp32", IMAGES),
        quantized=None,
        unrounded=None,
        outputs=program.outputs,
        names=program.labels,
    )
    package = coreml.build(program, "fp16", tmp_path / "x")
    found = measure.measure(coreml, package, "fp16", IMAGES, expected, classification.MEANING).metrics
    limits = parity.limits_for(classification.MEANING, "lower", "fp16", [], coreml.EVIDENCE)
    failed = {check.metric for check in parity.judge("lower", limits, found) if not check.is_met}
    assert found["exact_error"] <= 1e-5
    assert "snr_db" in failed, found


@pytest.mark.parametrize("target", [coreml, executorch_coreml], ids=lambda target: target.NAME)
def test_a_package_is_the_same_where_its_program_is_validated_once(target, shallow_program, tmp_path, monkeypatch):
    from coremltools.converters.mil.mil import Program

    asked, validate = [], Program.validate
    monkeypatch.setattr(Program, "validate", lambda prog, **given: asked.append(1) or validate(prog, **given))
    written, counts = [], []
    for name in ("once", "after each pass"):
        if name != "once":
            monkeypatch.setattr(_mlprogram, "validated_once", contextlib.nullcontext)
        asked.clear()
        path = tmp_path / f"{name}{target.SUFFIX}"
        target.build(shallow_program, "int8" if target is coreml else "fp32", path)
        written.append([p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()] or [path.read_bytes()])
        counts.append(len(asked))
    assert written[0] == written[1] and counts[0] < 20 < counts[1] / 2, counts


def test_a_program_that_a_pass_broke_is_found_behind_all_of_them():
    """Before anything is written of it."""
    import coremltools
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipelineManager
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY, AbstractGraphPass, register_pass

    @register_pass(namespace="twinkeel", name="break")
    class Breaking(AbstractGraphPass):
        def apply(self, prog):
            operations = list(prog.functions["main"].operations)
            operations[-1].outputs[0].child_ops.append(operations[0])

    @Builder.program(input_specs=[Builder.TensorSpec(shape=(1, 6))], opset_version=coremltools.target.iOS17)
    def program(x):
        return Builder.relu(x=Builder.add(x=x, y=np.float32(1.0)))

    pipeline = coremltools.PassPipeline(["twinkeel::break"])
    try:
        with _mlprogram.validated_once(), pytest.raises(Exception, match="should be consumed by op"):
            PassPipelineManager.apply_pipeline(program, pipeline)
        assert "validate" not in vars(program)
    finally:
        del PASS_REGISTRY.passes["twinkeel::break"]
