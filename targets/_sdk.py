"""What both kits share: templates, and text that cannot break out of them."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

from twinkeel.pipeline.delivery import Contents

_ESCAPED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that a source file does not show as they are: controls, direction marks, unassigned, lines."""


def render(
    templates: Path,
    out: Path,
    contents: Contents,
    *,
    names: Mapping[str, str],
    filters: Mapping[str, Callable[..., str]],
) -> None:
    """Write every file below `templates`, ``all/`` first and the artifact's runtime after it, into `out`.

    A file that ends in ``.j2`` is a Jinja template, which reads `contents` as ``sdk``, and loses the suffix; the
    others are copied.

    Args:
        names: what stands for a path's part, ``__package__`` for example.
        filters: the language's own, beside ``one_line``.
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
    environment.filters |= {"one_line": one_line, **filters}
    for tree in ("all", contents.runtime):
        for source in sorted(p for p in (templates / tree).rglob("*") if p.is_file()):
            parts = [names.get(part, part) for part in source.relative_to(templates / tree).parts]
            for placeholder, name in names.items():
                parts[-1] = parts[-1].replace(placeholder, name)
            path = out.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            if source.suffix == ".j2":
                template = environment.get_template(source.relative_to(templates).as_posix())
                path.with_suffix("").write_text(template.render(sdk=contents), encoding="utf-8", newline="\n")
            else:
                shutil.copyfile(source, path)


def settle(out: Path) -> None:
    """Modes 755 and 644 below a finished kit, whatever the umask and the artifact's own: equal kits are equal files."""
    for path in (out, *out.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def copy_artifact(contents: Contents, folder: Path) -> Path:
    """The artifact, a file or a folder, below `folder` under its own name."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / contents.artifact.name
    if contents.artifact.is_dir():
        shutil.copytree(contents.artifact, target)
    else:
        shutil.copyfile(contents.artifact, target)
    return target


def escape(text: str, special: Mapping[str, str], other: Callable[[str], str]) -> str:
    """The inside of a string literal: `special` characters as it says, invisible ones as `other` writes them."""
    return "".join(special.get(c, other(c) if unicodedata.category(c) in _ESCAPED else c) for c in text)


def one_line(text: str) -> str:
    """Text for a comment or a README: on one line, nothing invisible, and no end of a comment in it."""
    shown = "".join(" " if unicodedata.category(c) in _ESCAPED else c for c in text)
    return " ".join(shown.split()).replace("*/", "* /").replace("/*", "/ *")
