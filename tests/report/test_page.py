"""The report on one page, from made-up results; what a browser would run or load must not be in it."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from twinkeel.pipeline import parity
from twinkeel.pipeline.building import runner
from twinkeel.pipeline.data import Split
from twinkeel.pipeline.delivery import evidence, outputs
from twinkeel.pipeline.errors import ParityError, TwinkeelError, VerifyError
from twinkeel.pipeline.parity import verdict
from twinkeel.pipeline.parity.drift import LayerDrift, RuntimeDrift
from twinkeel.pipeline.parity.judging import Row
from twinkeel.pipeline.parity.meaning import Worth
from twinkeel.pipeline.parity.sensitivity import Layer, read
from twinkeel.pipeline.program.artifact import Artifact
from twinkeel.pipeline.report import charts, terminal
from twinkeel.pipeline.report import page as html_report
from twinkeel.pipeline.report.page import Insight
from twinkeel.pipeline.report.parts import classification as part
from twinkeel.pipeline.report.results import Built, Report, Result
from twinkeel.pipeline.stages.history import Epoch, Rung
from twinkeel.pipeline.tasks import classification
from twinkeel.pipeline.tasks.classification.ranking import Answers, answered, top

HOSTILE = (
    "</title></style><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' style='position:fixed",
    "<img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "new\nline\r\nand\ttab",
    "\u202eright to left\u202d",
    "שלום عالم",
    "👩‍👩‍👧‍👦 emoji",
    "nul\0 bell\a escape\x1b[31m",
    "lone \ud800 surrogate",
    "&lt;b&gt; &amp;amp; <b>",
    "very long " * 400,
    "javascript:alert(1)",
    "]]><!-- --> <![CDATA[",
    "",
)


class Page(HTMLParser):
    """Tags with their attributes, the text, and the elements that are left open."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text += data


def kept(logits):
    return Answers.of(answered(logits))


def _check(metric="snr_db", measured=120.0, reason="a reason"):
    return parity.Check(
        leg="lower", metric=metric, measured=measured, sense=">=", limit=90, reason=reason, needs_all=False
    )


def _row(target, precision, floating, logits, labels, *, evidence="runtime", measured=120.0):
    return Row(
        artifact=Artifact(target=target, precision=precision, path=f"x/{precision}", bytes=1_234_567, sha256="0" * 64),
        checks=[_check(measured=measured)],
        worth=classification.MEANING.worth(floating, floating, logits, labels, ()),
        latency_ms=1.25,
        operators={"CONV_2D": 35, "ADD": 10},
        evidence=evidence,
        reference="int8" if precision == "int8" else "fp32",
        twin=None,
    )


def made_up(classes=10, images=40, labels=None, curve=True):
    """A result and its manifest."""
    random = np.random.default_rng(0)
    truth = np.arange(images) % classes
    logits = (random.normal(0, 1, (images, classes)) + 3 * np.eye(classes)[truth]).astype(np.float32)
    rough = (logits + random.normal(0, 1, logits.shape)).astype(np.float32)
    result = Result(
        folder=Path("out/android"),
        program_checks=[replace(_check(), leg="fold")],
        task=classification,
        reference_scores={"float": classification.MEANING.score(logits, truth, ()), "int8": classification.MEANING.score(rough, truth, ())},
        rows=[_row("android/litert", "fp32", logits, logits, truth), _row("android/litert", "int8", logits, rough, truth)],
        errors=[],
        rungs=(
            Rung(
                name="equalization", note="5 groups", calibration_db=31.0, snr_db=30.0, shares={"agreement": 1.0, "accuracy": 0.9},
                cost="none", seconds=1.5, peak_bytes=2**30, is_met=True, is_open=False, is_kept=True,
            ),
        ),
        answers={"float": answered(logits), "int8": answered(rough), "android/litert fp32": answered(logits), "android/litert int8": answered(rough)},
        curve=tuple(Epoch(epoch=n, loss=2 / n, score=1 - 1 / n) for n in range(1, 6)) if curve else (),
    )  # fmt: skip
    content = {
        "model": {"name": "mobilenet_v2", "width": 0.35, "weights": "trained on digits", "weights_sha256": "1" * 64},
        "input": {
            "dtype": "uint8",
            "layout": "NHWC",
            "channels": "RGBA",
            "height": 32,
            "width": 48,
            "model_channels": "grayscale",
            "mean": [0.5],
            "std": [1],
        },
        "labels": list(labels or (f"class {n}" for n in range(classes))),
        "calibration_images": 20,
        "calibration_sha256": "2" * 64,
        "warnings": [],
        "manifest_sha256": "3" * 64,
        "versions": {"twinkeel": "0.1.0"},
    }
    return result, content


def _layer(n, name, snr_db=math.inf, equal_values=1.0, is_within=True):
    check = parity.Check(leg="layer", metric="new_values", measured=0 if is_within else 1, sense="<=", limit=0.5,
                         reason="r", needs_all=False)  # fmt: skip
    return LayerDrift(name=f"{name}.{n}", kind="convolution", snr_db=snr_db, equal_values=equal_values, max_steps=1,
                      checks=(check,))  # fmt: skip


def insight(name="features"):
    """A runtime without differences, one that leaves its limit, and the sensitivity of the same layers."""
    same = [_layer(n, name) for n in range(20)]
    apart = [_layer(n, name, 60.0 - 2 * n, 0.9999 - 0.04 * n, is_within=n < 12) for n in range(20)]
    return Insight(
        drift=(
            RuntimeDrift(targets=("android/litert",), reference="int8", layers=tuple(same)),
            RuntimeDrift(targets=("android/onnx", "ios/onnx"), reference="int8", layers=tuple(apart)),
        ),
        sensitivity=[
            Layer(name=x.name, kind="convolution", alone_db=math.inf if n == 0 else 40.0 + n, without_db=31.0)
            for n, x in enumerate(same)
        ],
    )


def _page(result, content, found=None, name="a name"):
    return html_report.page(name, report_of(result, content), found or Insight())


def report_of(result, content):
    return Report(results=[result], manifests=[content], held_out=held_out(result), taken=[], drift=(), drift_errors="")


def held_out(result):
    """As many images as a made-up result has answers to."""
    count = result.answers["float"].shape[1]
    random = np.random.default_rng(1)
    classes = 1 + int(max(answer[0].max() for answer in result.answers.values()))
    return Split(images=random.integers(0, 256, (count, 32, 32, 3), np.uint8), truth=np.arange(count) % classes)


def _assert_self_contained(text):
    page = Page(text)
    assert not page.open
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in page.tags:
        assert not [key for key in attributes if key.startswith("on")], (tag, attributes)
        assert (attributes.get("src") or "data:").startswith("data:image/png;base64,"[:5])
        assert (attributes.get("href") or "#").startswith("#")
        assert "srcset" not in attributes
    assert "url(" not in text and "@import" not in text and "://" not in text
    return page


def test_the_page_is_whole_and_needs_nothing_else():
    result, content = made_up()
    text = _page(result, content, insight())
    page = _assert_self_contained(text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["href"][1:] for tag, attributes in page.tags if tag == "a"} <= set(ids)
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    for words in (
        "2 of 2",
        "android/litert int8",
        "1.23 MB",
        "CONV_2D 35",
        "Training loss",
        "features.12",
        "trained on",
    ):
        assert words in page.text, words
    assert text == _page(*made_up(), insight())


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_stays_text(hostile):
    result, content = made_up(classes=3, labels=[hostile, "b", hostile + "2"])
    content["model"]["weights"] = hostile
    content["warnings"] = [hostile]
    result.errors.append(f"android/litert fp16: {hostile}")
    result.rows[0].checks.append(_check(measured=0.0, reason=hostile))
    result.rows[0].operators[hostile] = 1
    result = replace(result, rungs=(replace(result.rungs[0], name=hostile, note=hostile, cost=hostile),))
    text = _page(result, content, insight(hostile), name=hostile)
    text.encode()
    page = Page(text)
    plain = Page(_page(*made_up(classes=3), insight()))
    assert not page.open
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in plain.tags} | {"section", "strong", "li", "ul"}
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert not re.search("[\0-\x08\x0b-\x1f]", text)
    shown = html_report.shown(hostile)
    assert shown in " ".join(page.text.split()) and len(shown) <= 200 and "\n" not in shown


def test_what_ran_on_a_device_stands_apart_from_what_is_documented():
    """A GPU that ran, one that fell back and says why, and an NPU that another unit ran in place of."""

    def run(asked, ran, *, fell_back=False, reason="", is_met=True):
        check = {"metric": "wrong_units", "measured": 0 if is_met else 1, "sense": "<=", "limit": 0, "is_met": is_met}
        ms = {"median": 2.517, "p90": 3.01, "runs": 50} if ran else None
        told = {
            "ran": ran,
            "fell_back": fell_back,
            "reason": reason,
            "ms": ms,
            "plan": {"GPU": 65, "CPU": 1} if ran else {},
        }
        machine = {"system": "Android 15", "processor": "A phone"}
        return evidence.row(
            evidence="device", by="kit", machine=machine, versions={}, units=asked, checks=[check], accelerator=told
        )

    result, content = made_up()
    runs = [
        run("GPU", ["CPU"], fell_back=True, reason="<b>too old</b>"),
        run("GPU", ["GPU"]),
        run("NPU", [], reason="none here"),
        run("NPU", ["GPU"], is_met=False),
    ]
    result.rows[0] = replace(result.rows[0], runs=runs)
    page = _assert_self_contained(_page(result, content))
    (place,) = [n for n, tag in enumerate(page.tags) if tag == ("h2", {"id": "accelerators"})]
    section = page.text[page.text.index("What ran on devices") : page.text.index("Check by check")]
    measured, documented = section.split("What they are documented to take")
    for words in (
        "CPU, fell back",
        "<b>too old</b>",
        "nothing, it was refused",
        "2.52",
        "CPU 1, GPU 65",
        "wrong_units",
        "✗",
    ):
        assert words in measured, words
    assert (
        "documented, not measured" in documented
        and "LiteRT GPU, its own check" in documented
        and "all 45" in documented
    )
    assert "github.com/google-ai-edge/LiteRT/blob/v2.2.0/" in documented
    assert "✓ device A phone, Android 15 GPU, fell back to CPU" in page.text and place


def test_whose_kernels_ran_core_ai_is_said():
    result, content = made_up()
    assert "Core AI" not in _page(result, content)
    first = result.rows[0]
    built = evidence.row(
        evidence="runtime",
        by="build",
        machine={"system": "Linux", "architecture": "x86-64"},
        versions={"coreai-core": "1.0.0b3"},
    )
    result.rows[0] = replace(first, artifact=replace(first.artifact, target="ios/coreai"), runs=[built])
    page = _assert_self_contained(_page(result, content))
    section = page.text[page.text.index("What they are documented to take") : page.text.index("Check by check")]
    assert "whose kernels for processors are not those of iOS" in section
    assert "runtime for processors" in page.text[: page.text.index("What they are documented to take")]
    assert evidence.short(built).startswith("runtime for processors x86-64")


def test_a_latency_stands_with_the_devices_and_is_no_verdict():
    told = {
        "ran": ["CPU"],
        "fell_back": True,
        "reason": "none of it",
        "plan": {"CPU": 64},
        "notes": ["it <got> slower"],
    }
    told["ms"] = {"median": 2.517, "p90": None, "runs": 80, "rounds": 8, "is_mean": True, "slowdown": 1.5}
    machine = {"system": "Android 15", "processor": "A phone", "soc": "a chip"}
    row = evidence.row(evidence=evidence.LATENCY, by="adb", machine=machine, versions={}, units="GPU", accelerator=told)
    result, content = made_up()
    result.rows[0] = replace(result.rows[0], runs=[row])
    page = _assert_self_contained(_page(result, content))
    section = page.text[page.text.index("What ran on devices") : page.text.index("What they are documented to take")]
    for words in ("2.52 (mean)", "CPU 64", "CPU, fell back", "it <got> slower", "latency alone"):
        assert words in section, words
    assert "✓" not in section and "within its limits" not in section
    assert "latency A phone (a chip), Android 15 GPU, fell back to CPU, 2.52 ms on average" in page.text
    assert "✓ latency" not in page.text and "✗ latency" not in page.text


def test_the_contact_sheet_is_on_the_page_where_there_is_one():
    result, content = made_up()
    without, told = report_of(result, content), replace(report_of(result, content), sheet=b"\x89PNG bytes")
    assert all(tag.get("class") != "sheet" for _, tag in Page(html_report.page("digits", without, insight())).tags)
    page = Page(html_report.page("digits", told, insight()))
    (picture,) = [tag for name, tag in page.tags if name == "img" and tag.get("class") == "sheet"]
    assert picture["src"] == "data:image/png;base64," + base64.b64encode(b"\x89PNG bytes").decode() and picture["alt"]
    assert ("a", {"href": "#sheet"}) in page.tags and ("h2", {"id": "sheet"}) in page.tags


def test_what_weights_alone_lose_stands_beside_an_snr_against_their_own_reference():
    result, content = made_up()
    artifact = replace(result.rows[0].artifact, target="ios/coreml", precision="w4")
    w4 = replace(result.rows[0], artifact=artifact, checks=[_check(measured=53.1)], weights_db=13.82)
    assert math.isnan(result.rows[0].weights_db)
    result = replace(result, rows=[*result.rows, w4])
    _, lines = terminal.cells(result)
    assert lines[2][3] == "snr_db 53.1 against its reference (>= 90)\nweights alone 13.8 dB against float"
    assert lines[0][3] == "snr_db 120 against its reference (>= 90)"
    text = " ".join(Page(_page(result, content)).text.split())
    assert "53.1 against its reference" in text and text.count("weights alone 13.8 dB against float") == 2, text
    described = json.loads(terminal.as_json(Built(results=[result], ran=[], peak=0, files=[], comparison=None)))
    assert [row["weights_db"] for row in described["platforms"][0]["artifacts"]] == [None, None, 13.82]


def test_the_line_of_a_leg_says_which_int8_reference_is_meant():
    result, content = made_up()
    kept, counts = verdict.share_of(32, 28)
    limit = parity.Limit.counted("agreement", ">=", 0.9, "nine of ten")
    checks = [*result.program_checks, *parity.judge("quantize", [limit], {"agreement": (kept, counts)})]
    result = replace(result, program_checks=checks)
    to = terminal.Console(file=io.StringIO(), width=200, highlight=False)
    terminal.print_result(result, to)
    lines = to.file.getvalue().splitlines()
    assert "leg fold, folded against original: snr_db 120 (>= 90)" in [line.strip() for line in lines]
    quantize = "leg quantize, int8 reference in exact arithmetic against float: agreement 0.875 (>= 0.9), open"
    assert quantize in [line.strip() for line in lines], lines
    assert lines[-1].endswith("could: int8 reference in exact arithmetic"), lines[-1]
    assert "int8 reference in exact arithmetic against float" in Page(_page(result, content)).text


def test_a_failed_build_says_so_on_top():
    result, content = made_up()
    result.rows[1] = replace(result.rows[1], checks=[_check("max_error", 1.0)])
    broken = replace(
        result.rows[0],
        artifact=replace(result.rows[0].artifact, target="android/onnx"),
        checks=[_check("runs", 0.0)], worth=Worth(), latency_ms=math.nan, operators={},
        evidence="none",
    )  # fmt: skip
    result.rows.append(broken)
    result.errors.append("android/executorch fp32: RuntimeError: it broke: badly")
    page = _assert_self_contained(_page(result, content))
    top = page.text[: page.text.index("Support and evidence")]
    assert "checks failed" in top and "all artifacts verified" not in page.text and "1 of 3" in top
    assert "3 checks or builds failed" in top and "max_error is 1" in top and "it broke: badly" in top
    assert "✗ not built" in page.text and "android/executorch" in page.text and "nan" not in page.text


def test_a_failed_build_is_an_exit_code_and_its_page_is_named(run_cli, monkeypatch, tmp_path):
    result, _ = made_up()
    failed = replace(result, folder=tmp_path / "out" / "android", errors=["android/onnx fp32: it broke"])
    built = Built(results=[failed], ran=["report"], peak=0, files=["report.html"], comparison=None)
    monkeypatch.setattr(runner, "build", lambda *_: built)
    ended = run_cli("build", "android", "-o", tmp_path / "out")
    assert isinstance(ended.exception, ParityError)
    assert "report.html" in ended.output and "it broke" in ended.output


def test_a_build_of_nothing_that_runs_has_a_page():
    result, content = made_up(curve=False)
    result.rows[:] = [replace(row, evidence="none", worth=Worth()) for row in result.rows]
    page = _assert_self_contained(_page(result, content))
    assert "Training" not in page.text and "Accuracy over" not in page.text


def test_many_classes_are_pairs_and_not_a_matrix():
    result, content = made_up(classes=1000, images=2000)
    text = _page(result, content)
    page = _assert_self_contained(text)
    assert len(text) < 400_000 and "1000 classes are too many" in page.text
    assert sum(tag == "td" for tag, _ in page.tags) < 300
    assert sum(tag == "img" for tag, _ in page.tags) == part.WORST_IMAGES
    assert 'class="confusion' not in text


def test_sections_without_data_name_the_command():
    result, content = made_up()
    assert "twinkeel sensitivity" in Page(_page(result, content)).text
    found = Insight(drift_error="it does not run", sensitivity_error="it is of another model.")
    text = Page(_page(result, content, found)).text
    assert "Not measured: it does not run" in text and "it is of another model." in text
    result.rows[:] = result.rows[:1]
    assert "Layers in int8" not in Page(_page(result, content)).text


def test_the_worst_images_come_first_with_every_answer():
    truth = np.array([0, 1, 0, 1])
    right = kept(np.array([[3, 0], [0, 3], [0.1, 0], [0, 3]], np.float32))
    other = kept(np.array([[3, 0], [3, 0], [0.1, 0], [0, 3]], np.float32))
    images = np.zeros((4, 32, 32, 3), np.uint8)
    found = part.worst_images({"float model": right, "a/x fp32": right, "a/x int8": other}, truth, images)
    assert [image.index for image in found] == [1, 2, 0, 3]
    assert [(said.answer, said.models) for said in found[0].said] == [
        (1, ("float model", "a/x fp32")),
        (0, ("a/x int8",)),
    ]


def test_answers_are_those_of_the_ranking():
    logits = np.random.default_rng(0).normal(0, 20, (50, 7)).astype(np.float32)
    logits[0] = 1.0  # all equal: the first class
    found = kept(logits)
    expected = [top(scores, 1)[0] for scores in logits]
    assert found.classes.tolist() == [index for index, _ in expected]
    assert found.probabilities == pytest.approx([probability for _, probability in expected])


def test_the_interval_of_an_accuracy():
    assert html_report._interval(0.5, 100) == pytest.approx((0.3983, 0.6017), abs=1e-4)  # Clopper and Pearson
    assert html_report._interval(1.0, 10)[1] == 1.0


@pytest.mark.parametrize(
    ("low", "high", "is_log", "expected"),
    [(0, 10, False, [0, 2, 4, 6, 8, 10]), (97.2, 99.6, False, [97.5, 98, 98.5, 99, 99.5]), (0.03, 2, True, [0.05, 0.1, 0.2, 0.5, 1, 2])],
)  # fmt: skip
def test_ticks_are_round(low, high, is_log, expected):
    assert charts.Scale(low=low, high=high, start=0, end=1, is_log=is_log).ticks() == pytest.approx(expected)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = outputs.save("one", tmp_path / "report.html")
    with pytest.raises(UnicodeEncodeError):
        outputs.save("two \ud800", path)
    assert path.read_text() == "one" and [p.name for p in tmp_path.iterdir()] == ["report.html"]
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(TwinkeelError, match="cannot write"):
        outputs.save("two", tmp_path / "file" / "report.html")


def test_a_table_of_the_sensitivity_is_read_back(tmp_path):
    path = tmp_path / "sensitivity.csv"
    path.write_text("layer,kind,alone_db,without_db\ninput,tensor,inf,37.15\n")
    assert read(path) == (Layer(name="input", kind="tensor", alone_db=math.inf, without_db=37.15),)
    path.write_text("something else\n1\n")
    with pytest.raises(VerifyError, match="twinkeel sensitivity"):
        read(path)


def test_a_build_has_a_report(fixed_build):
    path = fixed_build.folders["android"].parent / "report.html"
    page = _assert_self_contained(path.read_text(encoding="utf-8"))
    rows = [row for result in fixed_build.results.values() for row in result.rows]
    certain = sum(row.state == "verified" for row in rows)
    assert f"{certain} of {len(rows)}" in page.text
    assert ("all artifacts verified" if certain == len(rows) else "nothing missed") in page.text
    assert all(html_report.name_of(row) in page.text for row in rows)
    assert page.text.count("within its limits in all 65 layers") == 5
    assert path.stat().st_size < 500_000


def test_a_table_of_another_models_sensitivity_is_not_shown(tmp_path):
    (tmp_path / "sensitivity.csv").write_text("layer,kind,alone_db,without_db\ninput,tensor,inf,37.15\n")
    result, content = made_up()
    said = Report(
        results=[result],
        manifests=[content],
        held_out=held_out(result),
        taken=[("training", "none")],
        drift=insight().drift,
        drift_errors="",
    )
    page = html_report.render("digits", said, tmp_path)["report.html"].decode()
    assert "sensitivity.csv is of another model" in Page(page).text
    assert "data, training" in Page(page).text


def test_an_open_verdict_is_shown_with_what_was_counted_and_how_many_images_could_tell():
    result, content = made_up()
    drop, counts = verdict.drop_of(359, kept=350, lost=2, won=0)
    limit = parity.Limit(metric="accuracy_drop", sense="<=", value=0.005, reason="half a point", needs_all=True)
    checks = parity.judge("lower", [limit], {"accuracy_drop": (drop, counts)})
    worth = Worth(score=0.9, counted={"accuracy_drop": (drop, counts)})
    rows = [replace(result.rows[0], checks=checks, worth=worth), *result.rows[1:]]
    page = Page(html_report.page("name", report_of(replace(result, rows=rows), content), Insight()))
    text = " ".join(page.text.split())
    assert "? open" in text and "some of it open" in text
    assert "2 lost of 359" in text and "359 images cannot tell, about" in text and "−2 +0" in text, text
