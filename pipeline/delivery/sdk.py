"""What an app's kit is made of: the artifact, its labels, and vectors that the kit replays in its own tests."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..config import Android, Config, Ios, Project
from ..data import Fit, Placed, model_input, upright_size
from ..errors import ConfigError
from ..parity import Limit
from ..program import Output, Target, Tensor
from ..saying import Say
from ..tasks import Form, top
from ..verified import EXTRAS
from . import migration
from .boxes import Boxes
from .device import limits
from .frames import FrameCase, frame_cases
from .frames import write as write_frames
from .manifest import Golden, checks_before, counted_of, outputs_of, tensors_of
from .masks import Masks

TOP = 5
"""Categories of each golden image in the vectors."""

_SHAPES = (  # (name, width, height, EXIF orientation)
    *((f"turned-{number}", 45, 61, number) for number in range(1, 9)),
    ("one-pixel", 1, 1, 1),
    ("one-row", 97, 1, 6),
    ("one-column", 1, 64, 1),
    ("wide", 300, 7, 1),
)


@dataclass(frozen=True, kw_only=True)
class PixelCase:
    """An image, the input made of it, and where it lies there.

    Attributes:
        orientation: EXIF's, 1 to 8.
        source: ``(H, W, 4)`` uint8 RGBA with straight alpha.
        expected: ``(height, width, 4)`` uint8.
        placed: of the upright image.
        boxes: left, top, right and bottom of a box in the input, in the upright image, and in the input again.
    """

    name: str
    orientation: int
    source: NDArray[np.uint8]
    expected: NDArray[np.uint8]
    placed: Placed
    boxes: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]

    @property
    def width(self) -> int:
        return int(self.source.shape[1])

    @property
    def height(self) -> int:
        return int(self.source.shape[0])

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width of the upright image."""
        return upright_size((self.height, self.width), self.orientation)


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All that the templates of a kit read.

    Attributes:
        task: whose outputs these are.
        project: name, author, license, version and description of the model.
        settings: the platform's section of the configuration.
        labels: class names in the order of their numbers, any text; empty for features.
        outputs: in the order in which the artifact gives them; a classifier has one.
        inputs: beside the image, in the order in which the artifact takes them; mostly none.
        height: of the input in pixels.
        width: of the input in pixels.
        fit: how an image of another shape becomes the input.
        target: of the artifact, ``android/litert`` for example.
        precision: of the artifact.
        artifact: file or folder to be copied into the kit.
        sha256: of the artifact.
        bytes: of the artifact.
        reference: key of `golden.expected` that the artifact must equal.
        limits: what a device's outputs are judged by, against `reference`, ``fp32`` and ``int8``.
        unit_limits: the same by what computed them, where that matters to the platform's own test; else empty.
        earlier: what a system runs that is too old for the artifact, of the same model; None where no other is in the kit.
        state: of the artifact's checks, ``verified`` or ``open``.
        counted_before: the verdicts on the reference that it was made from that were counted on held-out images, in words.
        counted: those on itself.
        doubts: what there is to say against the float model, though something was built on it.
        golden: inputs, and expected outputs ``(N, width)``: all of an image, flattened and joined in their order.
        categories: of each golden image, the first `TOP` (class, probability) of the reference's logits; empty for other tasks.
        pixels: images of odd shapes and what they become.
        boxes: how a detector's outputs are read; None for other tasks.
        masks: logits that a segmentation network's kit is tested on; None for other tasks.
        versions: of the packages that made and ran the artifact, by distribution.
    """

    task: str
    project: Project
    settings: Android | Ios
    labels: tuple[str, ...]
    outputs: tuple[Output, ...]
    inputs: tuple[Tensor, ...]
    height: int
    width: int
    fit: Fit
    target: str
    precision: str
    artifact: Path
    sha256: str
    bytes: int
    reference: str
    limits: tuple[Limit, ...]
    state: str
    counted_before: tuple[str, ...]
    counted: tuple[str, ...]
    doubts: tuple[str, ...]
    golden: Golden
    categories: tuple[tuple[tuple[int, float], ...], ...]
    pixels: tuple[PixelCase, ...]
    boxes: Boxes | None = None
    masks: Masks | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    unit_limits: Mapping[str, tuple[Limit, ...]] = field(default_factory=dict)
    earlier: Contents | None = None

    @property
    def runtime(self) -> str:
        """The target without its platform: litert, executorch, coreml or coreai."""
        return self.target.split("/")[1]

    @property
    def frames(self) -> tuple[FrameCase, ...]:
        """Frames of cameras and what they become."""
        return frame_cases(self.height, self.width, self.fit)

    @property
    def version(self) -> str:
        """Of the kit: the model's as a semantic version, and what apps rely on as its build metadata."""
        return migration.semantic_version(self.project.version, self.contract)

    @property
    def contract(self) -> dict[str, str]:
        """By name, what an app's code relies on, in words."""
        settings: Any = self.settings
        form = self.boxes.form if self.boxes is not None else None
        found = {
            "task": self.task,
            "package": getattr(settings, "package", None) or settings.module,
            "labels": json.dumps(list(self.labels)) if self.labels else "",
            "outputs": ", ".join(f"{one.name} {list(one.shape)}" for one in self.outputs),
            "inputs": ", ".join(f"{one.name} {list(one.shape)} {one.low:g} to {one.high:g}" for one in self.inputs),
            "input size": f"{self.height} x {self.width}",
            "fit": self.fit,
            "boxes": ""
            if form is None
            else f"score {form.score_threshold:g}, overlap {form.iou_threshold:g}, {form.most} at most",
            "runtime": self.runtime
            if self.earlier is None
            else f"{self.runtime}, {self.earlier.runtime} {'in simulators' if self.is_for_simulators else 'on older systems'}",
            "oldest system": str(getattr(settings, "min_sdk", None) or settings.minimum_deployment_target),
        }
        return {what: value for what, value in found.items() if value}

    @property
    def is_for_simulators(self) -> bool:
        """Whether what is there for older systems is for simulators alone, whose SDK lacks the artifact's runtime: no older system is asked for."""
        return self.earlier is not None and isinstance(self.settings, Ios) and self.settings.version >= SINCE

    @property
    def counted_lines(self) -> list[str]:
        """What was counted, and of what: the reference is one, whatever was made from it."""
        own = (
            {"Core AI": self.counted, "Core ML": self.earlier.counted}
            if self.earlier
            else {"the artifact": self.counted}
        )
        return [f"the {self.precision} reference that it was made from: {line}" for line in self.counted_before] + [
            f"{name}: {line}" for name, lines in own.items() for line in lines
        ]

    @property
    def seen(self) -> str:
        """What a model is shown of an image, in words."""
        if self.fit == "letterbox":
            return "the whole image"
        return f"the largest centred {'square' if self.height == self.width else 'part with the aspect ratio of the input'}"


_EARLIER = {"ios/coreai": "ios/coreml"}
"""What runs instead of a target on systems that do not have its runtime."""
SINCE = 27
"""The iOS that Core AI came with."""


class Kit(Protocol):
    """What the package ``targets/<platform>/sdk`` has."""

    __name__: str
    TASKS: tuple[str, ...]  # those whose outputs its code knows

    def write(self, contents: Contents, out: Path) -> None:
        """Write the kit, its tests and its sample app into the folder `out`, which does not exist yet."""


def chosen(
    config: Config, platform: str, kit: Kit, wanted: list[tuple[Target, str]], say: Say
) -> tuple[str, str] | None:
    """(target, precision) of the artifact that a platform's kit ships; None where none is wanted.

    Who builds other artifacts alone, and did not ask for a kit, gets none and is told. So does who builds a model whose
    task no kit knows.

    Args:
        kit: of the platform.
        wanted: artifacts that the build makes.

    Raises:
        ConfigError: a kit is asked for whose artifact is not built.
    """
    settings = config.settings(platform)
    if settings.sdk == "none":
        return None
    if config.model.task not in kit.TASKS:
        say(f"sdk: none for {platform}: its templates know {', '.join(kit.TASKS)}, not {config.model.task}")
        return None
    if config.input and config.model.task != "features":
        say(
            f"sdk: none for {platform}: a kit of model.task = '{config.model.task}' is given an image alone, without [[input]]"
        )
        return None
    pair = f"{platform}/{settings.sdk}", settings.sdk_precision
    built = [(target.NAME, precision) for target, precision in wanted]
    if pair in built:
        _check_oldest(settings, pair, built)
        return pair
    if not {"sdk", "sdk_precision"} & settings.model_fields_set:
        say(f"sdk: none for {platform}: {' '.join(pair)} is not among [targets]; [{platform}] sdk chooses another")
        return None
    # what [targets] does not name is built where its packages are there
    extra = settings.sdk if not config.targets and settings.sdk in EXTRAS else ""
    has_any = any(name == pair[0] for name, _ in built)
    raise ConfigError(
        f"{platform}.sdk asks for a kit with {pair[0]} {pair[1]}, which is not built; "
        f"what is: {', '.join(f'{name} {precision}' for name, precision in built)}. "
        + (
            f"Its packages are not installed: pip install 'twinkeel[{extra}]'; or set "
            if extra and not has_any
            else "Set "
        )
        + f"{platform}.sdk and {platform}.sdk_precision to one of these, or sdk = 'none'."
    )


def earlier(
    settings: Android | Ios, pair: tuple[str, str], built: Collection[tuple[str, str]]
) -> tuple[str, str] | None:
    """Target and precision of what a kit takes along for systems that are too old for its artifact.

    None where there is no such target, or where it is not built and no system needs it.

    Args:
        settings: of the platform.
        pair: target and precision of the kit's artifact.
        built: of all artifacts.
    """
    target, precision = pair
    if target not in _EARLIER or not isinstance(settings, Ios):
        return None
    other = _EARLIER[target], precision
    return other if other in built or settings.version < SINCE else None


def _check_oldest(settings: Android | Ios, pair: tuple[str, str], built: Collection[tuple[str, str]]) -> None:
    """Raise a ConfigError where a kit would have nothing to run on the oldest system that it is for."""
    other = earlier(settings, pair, built)
    if other is None or other in built:
        return
    assert isinstance(settings, Ios)
    raise ConfigError(
        f"ios.sdk = 'coreai' has nothing for iOS {settings.version} to {SINCE - 1}: {' '.join(other)}, which the kit takes there, is not "
        f"built; what is: {', '.join(' '.join(one) for one in built)}. Add it, [targets] \"{other[0]}\" = ['{other[1]}'], or set "
        f"ios.minimum_deployment_target = 'iOS{SINCE}'."
    )


def contents(
    config: Config, manifest: Mapping[str, Any], golden: Golden, folder: Path, pair: tuple[str, str]
) -> Contents:
    """The contents of the kit for an artifact of a built `folder`.

    Args:
        manifest: of the folder.
        pair: as `chosen` gives it.
    """
    target, precision = pair
    settings = config.settings(target.split("/")[0])
    other = earlier(settings, pair, [(e["target"], e["precision"]) for e in manifest["artifacts"]])
    entry = next(e for e in manifest["artifacts"] if (e["target"], e["precision"]) == pair)
    reference = entry["reference"]
    task = manifest.get("task", "classification")
    expected, given = golden.expected[reference], manifest["input"]
    how = given.get("fit", "crop")
    outputs = outputs_of(manifest, expected.shape[1])
    return Contents(
        task=task,
        project=config.project,
        settings=settings,
        labels=tuple(manifest.get("labels", ())),
        outputs=outputs,
        inputs=tensors_of(manifest),
        height=given["height"],
        width=given["width"],
        fit=how,
        target=target,
        precision=precision,
        artifact=folder / entry["path"],
        sha256=entry["sha256"],
        bytes=entry["bytes"],
        reference=reference,
        limits=limits(entry, in_kit=True),
        state=entry["parity"],
        counted_before=tuple(counted_of(checks_before(manifest, precision))),
        counted=tuple(counted_of(entry["checks"])),
        doubts=tuple(manifest["doubts"]),
        golden=golden,
        categories=tuple(tuple(top(logits, TOP)) for logits in expected) if task == "classification" else (),
        pixels=pixel_cases(given["height"], given["width"], how),
        boxes=Boxes.of(Form.of(manifest["boxes"]), outputs, expected) if task == "detection" else None,
        masks=Masks.of(outputs, (given["height"], given["width"]), expected) if task == "segmentation" else None,
        versions=dict(manifest.get("versions", {})),
        unit_limits=_unit_limits(entry),
        earlier=contents(config, manifest, golden, folder, other) if other else None,
    )


def _unit_limits(entry: Mapping[str, Any]) -> dict[str, tuple[Limit, ...]]:
    """Of Apple's runtimes, whose tests run on all units, where they are not judged alike. LiteRT's judges the CPU alone."""
    has_units = entry["runtime"] in ("coreml", "coreai")
    found = {unit: limits(entry, (unit,), in_kit=True) for unit in ("CPU", "GPU", "NPU")} if has_units else {}
    return found if len(set(found.values())) > 1 else {}


def pixel_cases(height: int, width: int, how: Fit = "crop") -> tuple[PixelCase, ...]:
    """Noise of odd shapes in every orientation, some of it transparent; the same on every machine."""
    cases, box = [], np.array([[1 / 3, -0.7, width - 0.1, height / 7]])
    for number, (name, columns, rows, orientation) in enumerate(_SHAPES):
        source = np.random.default_rng(number).integers(0, 256, (rows, columns, 4), np.uint8)
        if number % 2:
            source[..., 3] = 255
        placed = Placed.of(upright_size((rows, columns), orientation), (height, width), how)
        there = placed.to_photo(box)
        cases.append(
            PixelCase(
                name=name,
                orientation=orientation,
                source=source,
                expected=model_input(source, orientation, height, width, how),
                placed=placed,
                boxes=tuple(tuple(one[0].tolist()) for one in (box, there, placed.to_input(there))),  # type: ignore[arg-type]
            )
        )
    return tuple(cases)


def write_vectors(contents: Contents, folder: Path) -> None:
    """The raw files of a kit's tests: RGBA bytes, and numbers as little-endian float32.

    ``pixels/<case>.rgba`` and ``pixels/<case>.expected.rgba``; those of ``frames/`` as `write_frames` does; ``golden/<image>.rgba``, and
    ``golden/<image>.<input>.f32`` of each further input; ``golden/<key>.f32`` ``(N, width)`` for the reference, that of what older
    systems run, fp32 and int8. Of a detector `Boxes.write`, of a segmentation network `Masks.write`.
    """
    (folder / "pixels").mkdir(parents=True)
    for case in contents.pixels:
        (folder / "pixels" / f"{case.name}.rgba").write_bytes(case.source.tobytes())
        (folder / "pixels" / f"{case.name}.expected.rgba").write_bytes(case.expected.tobytes())
    write_frames(contents.frames, folder / "frames")
    (folder / "golden").mkdir()
    for name, image in zip(contents.golden.names, contents.golden.inputs, strict=True):
        (folder / "golden" / f"{name}.rgba").write_bytes(image.tobytes())
    for tensor in contents.inputs:
        for name, values in zip(contents.golden.names, contents.golden.tensors[tensor.name], strict=True):
            (folder / "golden" / f"{name}.{tensor.name}.f32").write_bytes(values.astype("<f4").tobytes())
    if contents.masks is not None:
        photos = [(case.name, case.placed, case.upright, case.orientation) for case in contents.pixels]
        contents.masks.write(folder / "masks", photos)
    if contents.boxes is not None:
        contents.boxes.write(folder / "boxes", [(case.placed, case.upright) for case in contents.pixels])
    references = {contents.reference} if contents.earlier is None else {contents.reference, contents.earlier.reference}
    for key in sorted(references | {"fp32", "int8"}):
        (folder / "golden" / f"{key}.f32").write_bytes(contents.golden.expected[key].astype("<f4").tobytes())
