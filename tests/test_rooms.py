"""The house: its rooms, their doors, and the one direction of its imports, read from the sources."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "twinkeel"
ROOMS = (
    "store",
    "data",
    "program",
    "parity",
    "tasks",
    "stages",
    "delivery",
    "devices",
    "evaluating",
    "report",
    "building",
    "sweeping",
    "cli",
)
"""Of the pipeline, in the order of the imports: a room knows those before it and the modules beside them all."""
TOP = ("model", "pipeline", "targets")


def sources(root: Path = ROOT) -> dict[str, str]:
    """Source by dotted name, stubs of the doors as ``room.__init__.pyi``."""
    found = {}
    for top in TOP:
        for path in (root / top).rglob("*.py*"):
            if path.suffix in (".py", ".pyi") and "templates" not in path.parts:
                name = ".".join((PACKAGE, *path.relative_to(root).with_suffix("").parts))
                found[name + (".pyi" if path.suffix == ".pyi" else "")] = path.read_text(encoding="utf-8")
    return found


def imports(name: str, source: str) -> Iterator[tuple[str, str]]:
    """(module, name taken from it) of all that a source imports from this project, in functions and for types too."""
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module.split(".")[0] == PACKAGE:
                yield from ((module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == PACKAGE)


def doors(files: Mapping[str, str]) -> dict[str, set[str]]:
    """By room, the names that its door has."""
    found = {}
    for room in ROOMS:
        stub = files.get(f"{PACKAGE}.pipeline.{room}.__init__.pyi", "")
        found[room] = {alias.name for n in ast.parse(stub).body if isinstance(n, ast.ImportFrom) for alias in n.names}
    return found


def room_of(name: str) -> str:
    """The room of a module of the pipeline; empty for those that stand beside the rooms."""
    parts = name.split(".")
    return parts[2] if parts[1] == "pipeline" and len(parts) > 2 and parts[2] in ROOMS else ""


def faults(files: Mapping[str, str]) -> list[str]:
    """What breaks the rules of the house, one line each."""
    known, found = doors(files), []
    for name, source in files.items():
        top, here = name.split(".")[1], room_of(name)
        if name.endswith(".pyi"):
            continue
        for module, taken in imports(name, source):
            parts = module.split(".")
            if len(parts) < 2:
                continue
            where = f"{name} takes {taken or 'all'} from {module}"
            if TOP.index(parts[1]) > TOP.index(top) and here != "cli":
                found.append(f"back up: {where}")
            elif parts[1] == "model" and top != "model" and here != "cli":
                found.append(f"a model: {where}")
            if parts[1] != "pipeline":
                continue
            other = parts[2] if len(parts) > 2 else taken
            if other not in ROOMS or other == here:
                continue
            if top == "pipeline" and (not here or ROOMS.index(other) > ROOMS.index(here)):
                found.append(f"back up: {where}")
            elif len(parts) > 3:
                found.append(f"through a window: {where}")
            elif len(parts) == 3 and taken not in known[other]:
                found.append(f"no such name at the door: {where}")
    return found


def graph(files: Mapping[str, str]) -> dict[str, set[str]]:
    """Module -> the modules that it imports at any time, doors opened."""
    behind = {}
    for room in ROOMS:
        stub = files.get(f"{PACKAGE}.pipeline.{room}.__init__.pyi")
        for module, taken in imports(f"{PACKAGE}.pipeline.{room}.__init__", stub or ""):
            behind[f"{PACKAGE}.pipeline.{room}", taken] = module if module in files else f"{module}.{taken}"
    found: dict[str, set[str]] = {}
    for name, source in files.items():
        if name.endswith((".pyi", "__init__")):
            continue
        found[name] = set()
        for module, taken in imports(name, source):
            for one in (behind.get((module, taken)), f"{module}.{taken}", module):
                if one in files:
                    found[name].add(one)
                    break
    return found


def test_imports_go_one_way_and_through_doors():
    assert faults(sources()) == []


def test_no_circle_of_files():
    files = sources()
    # a target's type is a module of the project, and a saved program is a program: these name each other for types alone
    try:
        list(graphlib.TopologicalSorter(graph(files)).static_order())
    except graphlib.CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_a_door_has_no_name_that_nobody_asks_for():
    files = sources()
    used = {room: set() for room in ROOMS}
    for name, source in files.items():
        aliases = {}
        for module, taken in imports(name, source):
            parts = module.split(".")
            if len(parts) == 3 and parts[1] == "pipeline" and parts[2] in ROOMS and parts[2] != room_of(name):
                used[parts[2]].add(taken)
            elif module == f"{PACKAGE}.pipeline" and taken in ROOMS:
                aliases[taken] = taken
        if aliases:
            text = ast.parse(source)
            names = {
                a.asname or a.name: a.name for n in ast.walk(text) if isinstance(n, ast.ImportFrom) for a in n.names
            }
            for node in ast.walk(text):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    room = names.get(node.value.id, "")
                    if room in aliases:
                        used[room].add(node.attr)
    unused = {room: sorted(names - used[room]) for room, names in doors(files).items() if names - used[room]}
    assert unused == {}


@pytest.mark.parametrize(
    ("name", "line", "told"),
    [
        ("pipeline.parity.verdict", "from ..building import Order", "back up"),
        ("pipeline.data.images", "def f():\n    from ..program import Program", "back up"),
        ("pipeline.errors", "from .store import Store", "back up"),
        ("pipeline.report.page", "from ..parity.verdict import drop_of", "through a window"),
        ("pipeline.report.page", "from ..parity import tested", "no such name at the door"),
        ("pipeline.stages.fold", "from ...model import mobilenet_v2", "a model"),
        ("pipeline.delivery.sdk", "import twinkeel.targets.android", "back up"),
        ("targets.android.litert", "from twinkeel.pipeline.program.program import Program", "through a window"),
        ("model.blocks", "from ..pipeline.errors import ConfigError", "back up"),
    ],
)
def test_what_breaks_the_rules_is_found(name, line, told):
    files = sources()
    files[f"{PACKAGE}.{name}"] += f"\n{line}\n"
    (fault,) = faults(files)
    assert fault.startswith(told), fault


def test_a_circle_is_found():
    files = sources()
    files[f"{PACKAGE}.pipeline.errors"] += "\nfrom .config import Config\n"
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter(graph(files)).static_order())


def test_every_room_says_what_it_is_for():
    files = sources()
    for room in ROOMS:
        assert ast.get_docstring(ast.parse(files[f"{PACKAGE}.pipeline.{room}.__init__"])), room


CLASSIFICATION = re.compile(
    r"(?<![a-z])(logits?|softmax|argmax|accurac(y|ies)|labels?|top-1|top1|classif\w+)(?![a-z])", re.IGNORECASE
)
OTHER_MEANINGS = re.compile(r"aria-label\w*|\b[xy]_?label\b|set_\w+labels|\blabel=")
ELSEWHERE = {
    "model/backbones.py": "takes the layers of classifiers, without their last",
    "model/blocks.py": "`MobileClassifier`, the head that the networks share",
    "model/count.py": "the published tables' own: parameters and top-1 of ImageNet classifiers",
    "model/efficientnet_lite.py": "these networks are classifiers, and their last layer is called so in checkpoints",
    "model/inception.py": "the same",
    "model/mobilenet_v1.py": "the same",
    "model/mobilenet_v2.py": "the same",
    "model/mobilenet_v3.py": "the same",
    "model/residual.py": "the same",
    "model/ssdlite.py": "what its scores go through: softmax, as `[[output]]` says it",
    "pipeline/building/jobs/original.py": "data.accept_accuracy, a setting of before there was a second task",
    "pipeline/building/jobs/data.py": "data.labels, a setting, in an error",
    "pipeline/building/jobs/measure.py": "Program.labels, which a target may read",
    "pipeline/building/jobs/program.py": "the same",
    "pipeline/building/site.py": "the same",
    "pipeline/cli/calling.py": "`twinkeel.build(labels=...)` and data.labels",
    "pipeline/cli/looking.py": "`twinkeel run` ranks the classes of a package of any origin; `models` counts published classifiers",
    "pipeline/config.py": "settings of classifiers: data.labels, data.accept_accuracy, train.label_smoothing; names of the kits",
    "pipeline/data/images.py": "the digits come with their labels",
    "pipeline/data/lists.py": "what people call the columns of their lists",
    "pipeline/data/masks.py": "data.labels, a setting, in an error",
    "pipeline/data/shards.py": "what WebDataset calls its files and keys, and data.labels in an error",
    "pipeline/cli/common.py": "data.labels, a setting",
    "pipeline/delivery/masks.py": "the kits' part of segmentation",
    "pipeline/delivery/results.py": "the file that the kits of classifiers write on a phone",
    "pipeline/delivery/manifest.py": "keys of files of before: the task that is not named, and the width of outputs in golden.json",
    "pipeline/delivery/migration.py": "what an app has to look at where names or numbers of classes change",
    "pipeline/delivery/sdk.py": "the kits' part of the task",
    "pipeline/exact.py": "the operation softmax",
    "pipeline/names.py": "words that a kit's names must not be",
    "pipeline/parity/allowed.py": "equal_logits, a metric that configurations, manifests and kits name",
    "pipeline/parity/accelerators.py": "the same",
    "pipeline/parity/limits.py": "the same",
    "pipeline/parity/metrics.py": "the same",
    "pipeline/program/coreai.py": "the operation softmax",
    "pipeline/program/program.py": "Program.labels: what artifacts that decode their outputs themselves name them",
    "pipeline/stages/saved.py": "Program.labels",
    "pipeline/stages/checkpoints/keras_h5.py": "the last layer of Keras's networks: what it ends in, and what is left out of it",
    "pipeline/stages/checkpoints/layouts.py": "the last layer's name in checkpoints of classifiers",
    "pipeline/stages/pt2_graph.py": "what an operation is called",
    "pipeline/stages/weights.py": "data.labels, a setting, in an error",
    "pipeline/stages/checkpoints/telling.py": "the same",
    "pipeline/building/order.py": "what an error says that a limit's metric takes: labels",
    "pipeline/tasks/__init__.pyi": "the door: ranking, for kits and `twinkeel run`",
    "pipeline/tasks/features/__init__.py": "the Protocol's function labels",
    "pipeline/tasks/features/telling.py": "the same: it has none",
    "pipeline/tasks/task.py": "what the Protocol explains by an example",
    "targets/_onnx.py": "what a reason in a docstring was measured on: logits",
    "targets/_sdk.py": "what a kit calls its class, by task",
    "targets/android/sdk/__init__.py": "the kit",
    "pipeline/stages/canonical/attention.py": "the operation softmax",
    "targets/ios/_mil_ops.py": "operations of ML Programs: softmax, classify",
    "targets/ios/_aimodel.py": "Core AI's metadata has a place for names of the model's own",
    "targets/ios/_mlprogram.py": "Core ML has classifiers: labels and probabilities inside the package",
    "targets/ios/classify.py": "classifies an image with a package of any origin",
    "targets/ios/coreai.py": "which of a program's names a package has",
    "targets/ios/coreml.py": "Core ML has classifiers",
    "targets/ios/mil_executor.py": "Core ML has classifiers; also what an operation is called in an error",
    "targets/ios/_mil_bounds.py": "what an operation is called in an error",
    "targets/ios/sdk/__init__.py": "the kit",
}
"""Files that speak of classification though they are no part of the task, its report or its kits, and why. Segmentation classifies pixels."""


def test_what_a_class_is_is_known_to_the_task_alone():
    speaking = set()
    for top in TOP:
        for path in (ROOT / top).rglob("*"):
            name = path.relative_to(ROOT).as_posix()
            is_its_part = (
                re.search(r"/(tasks|parts)/(classification|detection|segmentation)[/.]", name)
                or "/sdk/templates/" in name
            )
            if path.suffix not in (".py", ".pyi", ".j2") or is_its_part:
                continue
            text = OTHER_MEANINGS.sub("", path.read_text(encoding="utf-8"))
            if CLASSIFICATION.search(text):
                speaking.add(name)
    assert speaking == set(ELSEWHERE), (sorted(speaking - set(ELSEWHERE)), sorted(set(ELSEWHERE) - speaking))
