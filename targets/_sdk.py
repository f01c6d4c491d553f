"""What both kits share: templates, and text that cannot break out of them."""

from __future__ import annotations

import math
import re
import shutil
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from twinkeel.pipeline.delivery import Contents, migration

_ESCAPED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that a source file does not show as they are: controls, direction marks, unassigned, lines."""

WORDS: Mapping[str, Mapping[str, str]] = {
    "classification": {
        "api": "Classifier",
        "instance": "classifier",
        "call": "classify",
        "work": "a classification",
        "doing": "classifying",
        "done": "classified",
        "purpose": "names what is in",
        "failure": "a picture could not be classified",
        "values": "logits",
        "shown": "classes",
    },
    "detection": {
        "api": "Detector",
        "instance": "detector",
        "call": "detect",
        "work": "a detection",
        "doing": "detecting",
        "done": "detected",
        "purpose": "finds objects in",
        "failure": "no objects could be looked for in a picture",
        "values": "outputs",
        "shown": "objects",
    },
    "features": {
        "api": "FeatureExtractor",
        "instance": "extractor",
        "call": "extract",
        "work": "an extraction",
        "doing": "extracting",
        "done": "extracted",
        "purpose": "computes the features of",
        "failure": "no features of a picture could be computed",
        "values": "outputs",
        "shown": "outputs",
    },
    "segmentation": {
        "api": "Segmenter",
        "instance": "segmenter",
        "call": "segment",
        "work": "a segmentation",
        "doing": "segmenting",
        "done": "segmented",
        "purpose": "tells the class of each pixel of",
        "failure": "no mask of a picture could be made",
        "values": "outputs",
        "shown": "classes",
    },
}
"""By task: its class, what an instance of that is called (on Android its module too) and its function, and what it does in words: `values`
are the model's, `shown` is what the sample app shows."""


def render(
    templates: Path,
    out: Path,
    contents: Contents,
    *,
    trees: Sequence[str],
    names: Mapping[str, str],
    filters: Mapping[str, Callable[..., Any]],
    words: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Write every file below `templates` into `out`: those of ``all/``, of the task and of `trees`, the runtimes'.

    A file that ends in ``.j2`` is a Jinja template, which reads `contents` as ``sdk``, the task's `WORDS` and `words`, and loses
    the suffix; the others are copied. A leading underscore means a part of other templates, which is not written. Beside
    them `migration.CONTRACT` tells the next build what apps rely on.

    Args:
        trees: folders of templates; of files with one name the last one's is written.
        names: what stands for a path's part, ``__package__`` for example.
        filters: the language's own, beside ``one_line``, and ``shape`` and ``size`` of a tensor's shape.
        words: what else templates read.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        autoescape=lambda name: (name or "").endswith((".xml.j2", ".xcprivacy.j2", ".plist.j2")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "one_line": one_line,
        "shape": lambda shape: str(tuple(shape)),
        "size": math.prod,
        **filters,
    }
    out.mkdir(parents=True, exist_ok=True)
    migration.write_contract(contents.contract, contents.version, out)
    of_task = WORDS[contents.task]
    read = {**of_task, **words}
    names = {**names, "__api__": of_task["api"]}
    for tree in ("all", contents.task, *trees):
        for source in sorted(p for p in (templates / tree).rglob("*") if p.is_file() and not _is_part(p)):
            parts = [names.get(part, part) for part in source.relative_to(templates / tree).parts]
            for placeholder, name in names.items():
                parts[-1] = parts[-1].replace(placeholder, name)
            path = out.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            if source.suffix == ".j2":
                template = environment.get_template(source.relative_to(templates).as_posix())
                path.with_suffix("").write_text(template.render(sdk=contents, **read), encoding="utf-8", newline="\n")
            else:
                shutil.copyfile(source, path)


def _is_part(template: Path) -> bool:
    return template.name.startswith("_") and not template.name.startswith("__")


def settle(out: Path) -> None:
    """Modes 755 and 644 below a finished kit, whatever the umask and the artifact's own: equal kits are equal files."""
    for path in (out, *out.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def copy_artifact(artifact: Path, folder: Path) -> Path:
    """An artifact, a file or a folder, below `folder` under its own name."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / artifact.name
    if artifact.is_dir():
        shutil.copytree(artifact, target)
    else:
        shutil.copyfile(artifact, target)
    return target


def escape(text: str, special: Mapping[str, str], other: Callable[[str], str]) -> str:
    """The inside of a string literal: `special` characters as it says, invisible ones as `other` writes them."""
    return "".join(special.get(c, other(c) if unicodedata.category(c) in _ESCAPED else c) for c in text)


def one_line(text: str) -> str:
    """Text for a comment or a README: on one line, nothing invisible, and no end of a comment in it."""
    shown = "".join(" " if unicodedata.category(c) in _ESCAPED else c for c in text)
    return " ".join(shown.split()).replace("*/", "* /").replace("/*", "/ *")


def camel_case(name: str) -> str:
    """``heatMap17`` of ``heat_map17`` or ``HeatMap17``."""
    first, *others = _parts(name)
    return first.lower() + "".join(part[0].upper() + part[1:].lower() for part in others)


def constant_case(name: str) -> str:
    """``HEAT_MAP17`` of the same."""
    return "_".join(_parts(name)).upper()


def identifiers(
    names: Iterable[str], spelled: Callable[[str], str], taken: Collection[str], suffix: str
) -> dict[str, str]:
    """By name, what code calls each: as `spelled`, and with `suffix` or a number more where that is taken.

    Args:
        names: each ``[A-Za-z][A-Za-z0-9_]*``, no two alike.
        taken: words that an identifier must not be.
    """
    found: dict[str, str] = {}
    for name in names:
        plain = spelled(name)
        candidates = (plain, spelled(f"{name}_{suffix}"), *(spelled(f"{name}_{suffix}{n}") for n in range(2, 1000)))
        found[name] = next(one for one in candidates if one not in taken and one not in found.values())
    return found


def _parts(name: str) -> list[str]:
    return re.findall(r"[A-Z]+(?![a-z])[0-9]*|[A-Z]?[a-z]+[0-9]*|[0-9]+", name)
