"""`twinkeel.toml`: every setting, its meaning, its default and its check, in this one place."""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .errors import ConfigError, nearest
from .files import real
from .names import JAVA_WORDS, PLATFORM_PACKAGES, SWIFT_WORDS, WINDOWS_DEVICES
from .reading import read_bytes, shown, why_unreadable

MAX_BYTES = 2**20
"""Of the file: a template with every setting has some thousand."""

SIDES = 16, 1024
"""Pixels that a side of the input has at least and at most."""

MOST_TENSORS = 16
"""That a model may take beside the image."""

VARIED = ("model", "data", "weights", "train", "quantize")
"""Sections whose settings `[sweep]` varies."""

ZOOS = ("timm", "torchvision")
"""Packages whose networks `model.name` takes."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


Reason = Annotated[str, StringConstraints(strip_whitespace=True)]
"""Blanks are none."""


class Section(BaseModel):
    """A frozen table of the file: unknown keys and wrong types are errors, nothing is converted silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _check_file_name(value: str) -> None:
    """Raise a ValueError where folders and files of this name could not be copied to Windows."""
    if value.lower() in WINDOWS_DEVICES:
        raise ValueError(f"'{value}' is a device on Windows, where no file or folder can have this name")


class Project(Section):
    name: str = Field("mobilenet_v2", description="stem of the artifacts' file names: letters, digits, - and _")
    author: str = Field("", max_length=1000, description="written into the packages that have a place for it")
    license: str = Field("", max_length=10_000, description="the same")
    version: str = Field("1", max_length=100, description="the same: version of the model")
    description: str = Field("", max_length=10_000, description="the same; made from the model where it is empty")

    @field_validator("name")
    @classmethod
    def _is_file_stem(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", value):
            raise ValueError("must be 1 to 64 letters, digits, - or _, and start with a letter or digit")
        _check_file_name(value)
        return value


class Model(Section):
    name: str = Field(
        "mobilenet_v2",
        description="architecture; `twinkeel models` lists them. 'timm:NAME' or 'torchvision:NAME': one of a package that is "
        "installed, made without weights",
    )
    factory: str | None = Field(
        None,
        description="your own in its place: 'file.py:function' or 'package.module:function' that gives an nn.Module on "
        "normalized images; it is run",
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description="what the function, or timm or torchvision, is called with; num_classes by itself, where it takes that",
    )
    exported: str | None = Field(
        None,
        description="a saved torch.export program, .pt2, with its weights: one float32 image (1, 3, H, W), normalized RGB, to one "
        "tensor; nothing in it is run but operators of aten",
    )
    task: str = Field("classification", description="what its outputs mean: a module of pipeline/tasks")
    width: float = Field(
        0.35, gt=0, le=4, description="width multiplier (alpha); 1.0 of networks with a published resolution"
    )
    resolution: int | list[int] = Field(
        32,
        description="of the input in pixels, a number or [height, width], each 16 to 1024; as published of all but "
        "MobileNetV1 and V2, residual and inception",
    )
    activation: Literal["relu6", "relu"] = Field(
        "relu6", description="after each convolution but the linear ones; 'relu' of residual and inception"
    )
    padding: Literal["torch", "tensorflow"] = Field(
        "torch",
        description="zeros around maps, and with them the epsilon of BatchNorm: 'torch' (as many on each side, 1e-5) "
        "or 'tensorflow' (its 'same', 1e-3) for weights that were trained there; 'tensorflow' of an EfficientNet-Lite",
    )

    @property
    def given_by(self) -> str:
        """The setting that a model comes from which is none of `model/`; empty for those."""
        if self.exported is not None:
            return "exported"
        return "factory" if self.factory is not None else "name" if ":" in self.name else ""

    @field_validator("name")
    @classmethod
    def _is_a_network(cls, value: str) -> str:
        package, colon, name = value.partition(":")
        if colon and (package not in ZOOS or not re.fullmatch(r"\w[\w.-]{0,99}", name, re.ASCII)):
            raise ValueError(
                f"'{value}' is not {' or '.join(f'{zoo}:NAME' for zoo in ZOOS)}, with a name of that package"
            )
        return value

    @field_validator("factory")
    @classmethod
    def _is_a_function(cls, value: str | None) -> str | None:
        if value is None:
            return None
        source, _, function = value.rpartition(":")
        is_module = re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", source)
        if not function.isidentifier() or not (source.endswith(".py") or is_module):
            raise ValueError(f"'{value}' is not 'file.py:function' or 'package.module:function'")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Model:
        if self.exported is not None:
            others = self.model_fields_set & {"name", "factory", "arguments", "width", "activation", "padding"}
            if others:
                raise ValueError(
                    f"{sorted(others)[0]} does not apply to an exported program, which is whole; leave it out"
                )
            return self
        if not self.given_by and self.arguments:
            raise ValueError("arguments are the factory's: give factory = 'file.py:function', or leave them out")
        given = self.model_fields_set & {"name", "width", "activation", "padding"}
        if self.given_by == "name":
            given -= {"name"}
        if self.given_by and given:
            other = "a factory" if self.given_by == "factory" else f"'{self.name}'"
            raise ValueError(f"{sorted(given)[0]} does not apply to {other}; give it under [model.arguments]")
        return self

    @field_validator("resolution", mode="before")
    @classmethod
    def _is_size(cls, value: object) -> object:
        sides: list[Any] = value if isinstance(value, list) else [value, value]
        if len(sides) != 2 or not all(type(side) is int for side in sides):
            raise ValueError(f"must be a number of pixels, or [height, width], not {value!r}")
        if not all(SIDES[0] <= side <= SIDES[1] for side in sides):
            raise ValueError(f"must be {SIDES[0]} to {SIDES[1]} pixels each way, not {value!r}")
        return sides if sides[0] != sides[1] else sides[0]  # one size, one key, however it is written

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        height, width = self.resolution if isinstance(self.resolution, list) else (self.resolution, self.resolution)
        return height, width


class Data(Section):
    source: Literal["digits", "shapes", "folder", "images"] = Field(
        "digits",
        description="'digits' (scikit-learn, embedded), 'shapes' (drawn, embedded; of detection and segmentation), 'folder' (with what is "
        "right of each image: a folder per class, or as the task has it), or 'images' (without labels, for given weights: int8 is judged by "
        "agreement with the float model)",
    )
    path: str | None = Field(
        None,
        description="folder of class folders for 'folder', of images for 'images'; or of train, val and test with these in them; or a "
        ".zip, .tar or .tar.gz of it; or WebDataset shards; or a list, .csv or .tsv, with the columns path, label and perhaps split",
    )
    labels: str | None = Field(
        None,
        description="class names in the order of the weights' outputs: a text file, one a line, or a JSON index; class folders are found "
        "in it by name; else the folders' names, or 'class 0' and so on",
    )
    skip_damaged: bool = Field(
        False, description="pass over images that cannot be decoded, and say which, instead of stopping"
    )
    held_out: float | None = Field(
        None,
        gt=0,
        lt=0.9,
        description="share of images kept for parity and the score; 0.5 of digits, shapes and images, 0.2 of a folder; not where "
        "the data bring sets",
    )
    calibration: int = Field(256, ge=1, le=100_000, description="images that set the int8 ranges, never held-out ones")
    calibration_path: str | None = Field(
        None, description="folder, archive or list of images to calibrate on instead, with or without class folders"
    )
    accept_accuracy: Reason = Field(
        "",
        max_length=1000,
        description="why a float model at chance, or with classes in another order, is to be built all the same",
    )
    seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of the split")
    fit: Literal["crop", "letterbox"] = Field(
        "crop",
        description="how images of another shape become the input, here and in apps: 'crop' (the largest centred part of its "
        "shape) or 'letterbox' (the whole image, centred on black)",
    )
    channels: Literal["rgb", "bgr", "grayscale"] = Field(
        "rgb",
        description="what the model's first layer takes: three channels in this order, or one, 0.299 R + 0.587 G + 0.114 B; "
        "apps hand over the same RGBA always",
    )
    mean: list[float] = Field(
        list(IMAGENET_MEAN), description="subtracted from the channels in 0..1, in their order; one number of grayscale"
    )
    std: list[float] = Field(list(IMAGENET_STD), description="the channels are divided by it after the mean")

    @property
    def has_truth(self) -> bool:
        """Whether it is known what is right of the images."""
        return self.source not in ("images", "arrays")

    @property
    def is_trained_on(self) -> bool:
        """Whether some of the images are for training; the others are calibrated or judged on, all of them."""
        return self.source in ("digits", "shapes", "folder")

    @property
    def held_out_share(self) -> float:
        """As asked for. Of what is embedded a half: with fewer images a score that is kept could not be told from one that is
        not, and they train in seconds."""
        if self.held_out is not None:
            return self.held_out
        return 0.2 if self.source == "folder" else 0.5

    @field_validator("mean", "std")
    @classmethod
    def _is_of_channels(cls, value: list[float], info: ValidationInfo) -> list[float]:
        channels = info.data.get("channels", "rgb")
        names = ["luma"] if channels == "grayscale" else list(channels.upper())
        if len(value) != len(names):
            of = f"numbers, one for each of {', '.join(names)}" if len(names) > 1 else "number, of the luma"
            raise ValueError(f"needs {len(names)} {of}, not {len(value)}: channels = '{channels}'")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Data:
        missing = [name for name in ("mean", "std") if name not in self.model_fields_set]
        if self.channels != "rgb" and missing:
            raise ValueError(
                f"channels = '{self.channels}' needs {' and '.join(missing)} in the order of these channels, for the "
                "defaults are ImageNet's of R, G, B: give those that the model was trained with, mean = [0.5] and std = "
                "[0.5] of grayscale for example"
            )
        if any(not 0 <= m < 1 for m in self.mean):
            raise ValueError(f"mean must be in 0..1, not {self.mean}: the usual cause is a mean given in 0..255")
        if any(not 0 < s <= 10 for s in self.std):
            raise ValueError(f"std must be in 0..10 and not 0, not {self.std}: is it given in 0..255?")
        if self.source == "folder" and self.path is None:
            raise ValueError("source = 'folder' needs path = 'folder of class folders'")
        if self.source == "images" and self.path is None:
            raise ValueError("source = 'images' needs path = 'folder of images'")
        if self.source in ("digits", "shapes") and self.path is not None:
            raise ValueError("path is only read with source = 'folder' or 'images'")
        return self


class Arrays(Data):
    """Images in memory, put into a folder for one build: what `twinkeel.build` takes, and no file can ask for."""

    source: Literal["arrays", "arrays with truth"]  # type: ignore[assignment]


class Weights(Section):
    path: str | None = Field(
        None,
        description="checkpoint: .safetensors, .pth, .pt, .ckpt or .bin, an .index.json of shards, a folder with one of these, or "
        "Keras's .h5",
    )
    url: str | None = Field(None, description="https address of a checkpoint, fetched only if given")
    sha256: str | None = Field(None, description="SHA-256 of the checkpoint; required with url")
    key: str | None = Field(
        None,
        min_length=1,
        max_length=500,
        description="which state dict in the checkpoint, where several fit: its path joined by dots, 'state_dict'; by default "
        "averaged weights (EMA), else the outermost",
    )
    head: Literal["load", "train"] = Field(
        "load",
        description="'train': the last layer is trained on class folders, on what the others give, which stay as they are; of ssdlite_ and "
        "deeplab_v3_ networks all behind the backbone, whose weights may be a classifier's",
    )
    from_factory: bool = Field(False, description="those that the model of model.factory has, instead of training it")

    @model_validator(mode="after")
    def _fits_together(self) -> Weights:
        if self.from_factory and (self.path is not None or self.url is not None):
            raise ValueError("give path or url, or from_factory = true, not both")
        if self.path is not None and self.url is not None:
            raise ValueError("give path or url, not both")
        if self.key is not None and self.path is None and self.url is None:
            raise ValueError("key chooses in a checkpoint: give path or url")
        if self.head == "train" and not self.is_given:
            raise ValueError(
                "head = 'train' trains the last layer of given weights: give path or url, or from_factory = true"
            )
        if self.url is not None and self.sha256 is None:
            raise ValueError("url needs sha256, so that only the file you mean is loaded")
        if self.url is not None and not re.match(r"(https|http|file)://", self.url):
            raise ValueError(f"'{self.url}' is no http(s) or file address")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", self.sha256):
            raise ValueError("sha256 must be 64 hexadecimal digits")
        return self

    @property
    def is_given(self) -> bool:
        return self.path is not None or self.url is not None or self.from_factory


class Train(Section):
    epochs: int = Field(60, ge=1, le=10_000, description="passes over the training set")
    batch_size: int = Field(64, ge=2, le=65_536, description="images per step, of all processes together")
    learning_rate: float = Field(0.1, gt=0, le=10, description="peak of the one-cycle schedule")
    weight_decay: float = Field(5e-4, ge=0, le=1, description="L2 penalty on all weights")
    label_smoothing: float = Field(0.05, ge=0, lt=1, description="share of the target spread over all classes")
    rotation_degrees: float = Field(11.5, ge=0, le=180, description="largest random rotation")
    zoom: float = Field(0.1, ge=0, lt=1, description="largest random zoom, as a share of the size")
    shift: float = Field(0.06, ge=0, lt=1, description="largest random shift both ways, as a share of the size")
    mirror: bool = Field(False, description="half of the images left for right, by chance; true of detection")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of initialization, order and augmentation")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to train")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="of a network's activations in training (torch's autocast); weights, losses and statistics stay float32, and float16 scales "
        "its gradients",
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of an exponential moving average of the weights, 0.999 for example, which is scored and is the result; 0: none",
    )
    accumulate: int = Field(
        1,
        ge=1,
        le=65_536,
        description="parts in which the images of a step go through a network, one after another, to take less memory; BatchNorm sees each "
        "part by itself",
    )

    @model_validator(mode="after")
    def _has_whole_parts(self) -> Train:
        if self.batch_size % self.accumulate or self.batch_size < 2 * self.accumulate:
            near = next(n for n in range(min(self.accumulate, self.batch_size // 2), 0, -1) if self.batch_size % n == 0)
            raise ValueError(
                f"accumulate = {self.accumulate} does not divide batch_size = {self.batch_size} into parts of 2 images or more: set it to {near} for example"
            )
        return self

    @property
    def recipe(self) -> dict[str, Any]:
        """What results depend on, for their keys: settings that came later only where they say something."""
        later = ("precision", "ema", "accumulate")
        off = {name for name in later if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump(exclude=off)

    @property
    def steps_recipe(self) -> dict[str, Any]:
        """The same of what looks at batches and augmentation alone."""
        return self.model_dump(exclude={"precision", "ema", "accumulate"})


When = Literal["always", "auto", "never"]


class Quantize(Section):
    """The rungs of the ladder: ``always`` whatever it is worth, ``auto`` where it is best, or ``never``."""

    minutes: float = Field(
        5.0,
        ge=0,
        le=100_000,
        description="for methods that cost nothing at run time; the best is taken. With 0 none is tried but what the gate needs, and w8 and w4 are rounded as they stand",
    )
    equalize: When = Field("auto", description="make channel ranges even")
    bias_correction: When = Field("auto", description="mean errors of channels into the biases")
    range_estimator: Literal["auto", "minmax", "percentile", "mse"] = Field(
        "auto", description="ranges of activations; auto: minmax, or another where it is better"
    )
    learned_rounding: When = Field("auto", description="weights rounded up or down by what blocks make of it")
    reconstruction: When = Field("auto", description="weights solved and rounded layer by layer")
    float_layers: When = Field(
        "auto", description="keep the most sensitive layers in float; auto: where the gate is missed"
    )
    max_float_layers: int = Field(6, ge=2, le=1000, description="at most so many, each with the one that reads it")
    qat: When = Field(
        "auto", description="quantization-aware training, on training images; auto: gate missed, and time for it"
    )
    qat_epochs: int = Field(5, ge=1, le=10_000, description="passes over the training set, at least 1000 steps in all")
    qat_learning_rate: float = Field(
        0.003, gt=0, le=1, description="of Adam, as a share of each weight tensor's size; falls to 0 along a cosine"
    )
    weights: Literal["per-channel", "per-tensor"] = Field(
        "per-channel", description="scales of the weights; per-tensor collapses on most mobile networks"
    )


class Android(Section):
    sdk: Literal["litert", "executorch", "none"] = Field("litert", description="runtime of the Kotlin library")
    sdk_precision: Literal["fp32", "fp16", "int8"] = Field("int8", description="of the artifact in it")
    package: str = Field("com.example.classifier", description="namespace, Kotlin package and Maven group")
    min_sdk: int = Field(24, ge=24, le=99, description="lowest Android API level; both runtimes need 24")

    @field_validator("package")
    @classmethod
    def _is_package(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+", value) or len(value) > 200:
            raise ValueError("must be two or more names with dots between them, as com.example.classifier")
        taken = [part for part in value.split(".") if part in JAVA_WORDS]
        if taken:
            raise ValueError(f"'{taken[0]}' is a word of Java, which the build tools refuse in a namespace")
        if value.split(".")[0] in PLATFORM_PACKAGES:
            raise ValueError(f"packages below '{value.split('.')[0]}' belong to the platform")
        for part in value.split("."):
            _check_file_name(part)
        return value


class Ios(Section):
    sdk: Literal["coreml", "coreai", "executorch", "none"] = Field(
        "coreml",
        description="runtime of the Swift package; 'coreai' takes Core ML's package of the same precision along, for iOS before 27",
    )
    sdk_precision: Literal["fp32", "fp16", "int8", "w8", "w4"] = Field("int8", description="of the artifact in it")
    module: str = Field("ImageClassifier", description="name of the Swift package and of its module")
    minimum_deployment_target: Literal["iOS15", "iOS16", "iOS17", "iOS18", "iOS26", "iOS27"] = Field(
        "iOS18",
        description="lowest iOS that the packages must run on: w8 needs iOS16, int8 iOS17, w4 iOS18; Core AI packages run from iOS27 on",
    )

    @field_validator("module")
    @classmethod
    def _is_module(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", value):
            raise ValueError("must be 1 to 64 letters, digits or _, and start with a letter")
        if value in SWIFT_WORDS:
            raise ValueError(
                f"'{value}' is a word of Swift, a framework of Apple's, or a type that the package has itself"
            )
        _check_file_name(value)
        return value

    @property
    def version(self) -> int:
        return int(self.minimum_deployment_target.removeprefix("iOS"))


class Parity(Section):
    require: Literal["unmissed", "shown"] = Field(
        "unmissed",
        description="of limits counted on images: 'unmissed' (none is certainly missed) or 'shown' (all certainly hold)",
    )
    images: int = Field(
        2000,
        ge=1,
        le=10_000_000,
        description="held-out images that artifacts are judged on at most, evenly chosen of more",
    )


class Cache(Section):
    """Named ``store`` in the file."""

    url: str = Field("", description="folder or address that fsspec knows; empty: this user's cache folder")
    max_gigabytes: float = Field(10.0, gt=0, le=1e6, description="what a build lets it grow to; a folder's, not others")


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", value):
        raise ValueError(f"must be 1 to 64 of a-z, A-Z, 0-9 and _, a letter first, not {value!r}")
    return value


Name = Annotated[str, AfterValidator(_name)]


class Input(Section):
    """Named ``input`` in the file: what the model is given beside the image, in the order of its arguments."""

    name: Name = Field(description="as apps give it")
    shape: list[Annotated[int, Field(ge=1, le=10_000)]] = Field(
        max_length=5, description="of one image's, without the batch; float32"
    )
    range: list[float] = Field(
        min_length=2, max_length=2, description="least and largest value; without data of it, int8 is made for it"
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> Input:
        if not self.range[0] < self.range[1]:
            raise ValueError(f"range must be [least, largest], the second above the first, not {self.range}")
        return self


Positive = Annotated[float, Field(gt=0, le=1e6)]
_CELLS = {"boxes", "packed", "sizes"}
_READ_OF = {  # which outputs a setting speaks of
    "layout": {"boxes", "scores", "objectness", "packed", "heat", "sizes", "offsets"},
    "format": {"boxes", "packed"},
    "unit": _CELLS,
    "strides": _CELLS,
    "maps": {"boxes", "packed"},
    "anchors": {"boxes", "packed"},
    "variances": {"boxes", "packed"},
    "center": _CELLS,
    "activation": {"scores", "heat", "packed"},
    "background": {"scores", "packed"},
    "objectness": {"packed"},
}


class Output(Section):
    """Named ``output`` in the file: one for each that the model gives, in order."""

    name: Name = Field(description="as apps find it")
    holds: Literal["boxes", "scores", "objectness", "packed", "heat", "sizes", "offsets"] | None = Field(
        None,
        description="of a detector: 'boxes', 'scores', 'objectness', 'packed' (boxes, objectness, scores side by side), or maps "
        "of 'heat' (scores whose peaks are boxes), 'sizes', 'offsets'",
    )
    layout: Literal["rows", "columns"] | None = Field(
        None,
        description="'rows' (candidates, numbers) or (h, w, numbers), 'columns' (numbers, candidates) or (numbers, h, w); by default "
        "what the shape tells, 'columns' of maps",
    )
    format: Literal["xyxy", "cxcywh", "ltrb", "anchors"] | None = Field(
        None,
        description="of boxes: corners, centre and size, distances of the sides from the cell's centre, or offsets from anchors",
    )
    unit: Literal["pixels", "share", "cells"] | None = Field(
        None,
        description="of boxes: pixels of the input, share of it, or cells; 'cells' of ltrb and sizes, else 'pixels'",
    )
    strides: list[Positive] = Field(
        default_factory=list, max_length=20, description="pixels of a cell, of each map in the order of the candidates"
    )
    maps: list[Annotated[list[Annotated[int, Field(ge=1, le=1024)]], Field(min_length=2, max_length=2)]] = Field(
        default_factory=list, max_length=20, description="rows and columns of each map, in the place of strides"
    )
    anchors: list[
        Annotated[
            list[Annotated[list[Positive], Field(min_length=2, max_length=2)]], Field(min_length=1, max_length=20)
        ]
    ] = Field(
        default_factory=list, max_length=20, description="[[width, height], ...] in pixels at each cell, of each map"
    )
    variances: list[Positive] = Field(
        default_factory=list,
        description="of anchors: what offsets of centre and size are multiplied with, two numbers or four; 1 by default",
    )
    center: float | None = Field(None, ge=0, le=1, description="where in its cell a centre lies; 0.5 by default")
    activation: Literal["softmax", "sigmoid", "none"] | None = Field(
        None, description="what scores still have to go through: 'none' where the model has it inside"
    )
    background: Literal["first", "last", "none"] | None = Field(
        None, description="where its number stands among the scores; 'none' by default: there is none"
    )
    objectness: bool | None = Field(None, description="of packed: whether the fifth number is one; false by default")

    @model_validator(mode="after")
    def _fits_together(self) -> Output:
        given = sorted(self.model_fields_set - {"name", "holds"}, key=list(Output.model_fields).index)
        if self.holds is None and given:
            raise ValueError(
                f"{given[0]} says how an output of a detector is read: give holds = 'boxes' for example, too"
            )
        wrong = next((name for name in given if self.holds not in _READ_OF[name]), None)
        if wrong:
            kinds = " or ".join(f"'{kind}'" for kind in sorted(_READ_OF[wrong]))
            raise ValueError(f"{wrong} speaks of {kinds}, and '{self.name}' holds '{self.holds}': leave it out")
        if self.holds in ("boxes", "packed") and self.format is None:
            raise ValueError(f"'{self.name}' holds boxes in which format? Give format = 'cxcywh' for example")
        if self.holds in ("scores", "packed", "heat") and self.activation is None:
            raise ValueError(
                f"the scores in '{self.name}' have to go through what? Give activation = 'none' where the model has it inside, or "
                "'sigmoid', or 'softmax'"
            )
        self._has_fitting_cells()
        return self

    def _has_fitting_cells(self) -> None:
        if self.strides and self.maps:
            raise ValueError("strides and maps say the same: give one of them")
        if (self.format == "anchors") != bool(self.anchors):
            raise ValueError("format = 'anchors' and anchors belong together: give both or neither")
        maps = max(1, len(self.strides or self.maps))
        if self.anchors and len(self.anchors) != maps:
            raise ValueError(f"anchors are given for {len(self.anchors)} of {maps} maps")
        if self.variances and (self.format != "anchors" or len(self.variances) not in (2, 4)):
            raise ValueError("variances are two numbers (of centre and size) or four, and belong to format = 'anchors'")
        if self.unit is not None and self.format == "anchors":
            raise ValueError(
                "unit does not apply to format = 'anchors', whose numbers are shares of an anchor: leave it out"
            )
        if self.activation == "softmax" and (self.holds == "heat" or self.objectness):
            raise ValueError(
                f"activation = 'softmax' does not go with {'heat' if self.holds == 'heat' else 'objectness'}"
            )


class Detection(Section):
    score: float = Field(0.3, ge=0, le=1, description="boxes below are left out; metrics look at all")
    overlap: float = Field(
        0.5,
        gt=0,
        le=1,
        description="intersection over union above which the box with the lower score is left out; 1: none is",
    )
    per_class: bool = Field(True, description="whether only boxes of one class suppress each other")
    most: int = Field(100, ge=1, le=1000, description="boxes of an image")


class Limit(Section):
    leg: Literal["fold", "quantize", "lower", "device"] = Field(
        description="parity leg, or 'device': what `twinkeel parity --device-results` judges by"
    )
    precision: Literal["float", "fp32", "fp16", "int8", "w8", "w4"] = Field("float", description="row of the leg")
    unit: Literal["", "CPU", "GPU", "NPU"] = Field("", description="of the leg 'device': what computed; any by default")
    metric: str = Field(description="measured quantity, for example snr_db")
    value: float = Field(description="allowed bound")
    reason: Reason = Field("", description="why; required where the limit is loosened")
    _place: str = PrivateAttr("")

    @property
    def place(self) -> str:
        """The file and the line that it stands in, for errors; empty where it stands in none."""
        return self._place


class Config(Section):
    """The whole file."""

    project: Project = Field(Project(), description="names")
    model: Model = Field(Model(), description="the architecture")
    data: Data = Field(Data(), description="images for training, calibration and parity")
    weights: Weights = Field(Weights(), description="given weights; without them the model is trained")
    train: Train = Field(Train(), description="training recipe")
    quantize: Quantize = Field(Quantize(), description="int8: 'always', 'auto' (where it helps) or 'never'")
    android: Android = Field(Android(), description="Kotlin library; sdk = 'none' leaves it out")
    ios: Ios = Field(Ios(), description="iOS packages and the Swift package; sdk = 'none' leaves it out")
    detection: Detection = Field(
        Detection(), description="what apps see of boxes; only read by model.task = 'detection'"
    )
    parity: Parity = Field(Parity(), description="how certain a verdict must be")
    store: Cache = Field(Cache(), description="results of earlier builds; --store and TWINKEEL_STORE go before it")
    targets: dict[str, list[str]] = Field(
        default_factory=dict,
        description="precisions per target, for example \"android/litert\" = ['int8']; all by default",
    )
    sweep: dict[str, Any] = Field(
        default_factory=dict,
        description="what `twinkeel sweep` varies: lists of values, by setting, of target and of precision",
    )
    input: list[Input] = Field(
        default_factory=list, max_length=MOST_TENSORS, description="tensors that the model takes beside the image"
    )
    output: list[Output] = Field(
        default_factory=list,
        max_length=100,
        description="names of what the model gives, its own by default; and what a detector's hold",
    )
    limit: list[Limit] = Field(default_factory=list, description="tightened, or with a reason loosened, parity limits")

    @property
    def brings_weights(self) -> bool:
        """Whether the model itself has the weights: nothing is loaded into it or trained."""
        return self.weights.from_factory or self.model.exported is not None

    @property
    def is_trained(self) -> bool:
        """Whether the build trains the weights."""
        return not self.brings_weights and not self.weights.is_given

    @property
    def trains_head(self) -> bool:
        """Whether the build trains the last layer of given weights."""
        return self.weights.head == "train"

    @property
    def trains(self) -> bool:
        """Whether the build trains anything: all weights, or the last layer of given ones."""
        return self.is_trained or self.trains_head

    @model_validator(mode="after")
    def _has_what_it_learns_from(self) -> Config:
        if self.model.exported is not None and self.weights.is_given:
            raise ValueError("model.exported has its weights inside: leave [weights] out")
        if self.weights.from_factory and self.model.factory is None:
            raise ValueError("weights.from_factory takes the weights of model.factory, which is not given")
        if self.data.source == "images" and self.is_trained:
            raise ValueError("data.source = 'images' has no labels to train on: give [weights] path, or class folders")
        if self.data.source == "images" and self.trains_head:
            raise ValueError(
                "weights.head = 'train' takes labels, and data.source = 'images' has none: give class folders (data.source = "
                "'folder'), or leave it out"
            )
        if self.input and self.trains:
            raise ValueError(
                "a model that takes more than an image is not trained here: give [weights] path, or from_factory = true"
            )
        if self.quantize.learned_rounding == self.quantize.reconstruction == "always":
            raise ValueError(
                "quantize.learned_rounding and quantize.reconstruction are both 'always', and both round the same weights: the second "
                "undoes the first. Set one of them to 'auto'"
            )
        if self.input and self.quantize.qat == "always":
            raise ValueError(
                "quantize.qat = 'always' trains models of one image alone, without [[input]]: set it to 'auto'"
            )
        if self.data.source == "images" and self.quantize.qat == "always":
            raise ValueError(
                "quantize.qat = 'always' takes training images, and data.source = 'images' has none: set it to 'auto', or "
                "give class folders"
            )
        return self

    @field_validator("input", "output")
    @classmethod
    def _has_own_names(cls, value: list[Any]) -> list[Any]:
        names = [one.name for one in value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice or "image" in names:
            raise ValueError(f"'{twice}' stands twice" if twice else "'image' is the image's own name; choose another")
        seen: dict[str, str] = {}
        for name in names:
            if (other := seen.setdefault(name.lower(), name)) != name:
                raise ValueError(f"'{other}' and '{name}' differ by case alone, which files on many disks cannot")
        return value

    @field_validator("sweep")
    @classmethod
    def _varies_settings(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, values in axes(value).items():
            section, _, key = name.partition(".")
            if name == "model.task":
                raise ValueError("'model.task' cannot be varied: what two tasks count cannot be compared")
            if section not in (*VARIED, "target", "precision"):
                raise ValueError(f"'{name}' cannot be varied. {nearest(section, [*VARIED, 'target', 'precision'])}")
            if key and key.split(".")[0] not in (known := cls.model_fields[section].annotation.model_fields):  # type: ignore[union-attr]
                raise ValueError(f"'{name}' is no setting. {nearest(key, known)}")
            if not isinstance(values, list) or not values:
                raise ValueError(
                    f"{name} = {values!r} is no list of values; {name} = [{values!r}] is one of a single one"
                )
            if any(one in values[:at] for at, one in enumerate(values)):
                raise ValueError(f"{name} = {values!r} names a value twice")
        return value

    @field_validator("limit")
    @classmethod
    def _is_one_each(cls, value: list[Limit]) -> list[Limit]:
        seen: dict[tuple[str, str, str], float] = {}
        for one in value:
            key = one.leg, one.precision, one.metric
            if key in seen:
                raise ValueError(f"{' '.join(key)} stands twice, as {seen[key]:g} and as {one.value:g}; keep one")
            seen[key] = one.value
        return value

    def settings(self, platform: str) -> Android | Ios:
        """The section of a platform."""
        return self.android if platform == "android" else self.ios


def load(path: Path | None) -> Config:
    """The configuration in a file; the defaults where `path` is None.

    Relative paths in the file are taken from the file's own folder.

    Raises:
        ConfigError: with the key, its line, the known choices and the nearest right one.
    """
    if path is None:
        return Config()
    raw, text = read(path)
    return of(raw, str(path), path.parent, text)


def read(path: Path) -> tuple[dict[str, Any], str]:
    """The settings in a file by section, as they stand there, and its text.

    Raises:
        ConfigError: it cannot be read, or is no TOML.
    """
    try:
        text = read_bytes(path, MAX_BYTES).decode("utf-8-sig")  # the mark is an editor's
    except (OSError, UnicodeDecodeError) as error:
        hint = "Save it as UTF-8." if isinstance(error, UnicodeDecodeError) else "`twinkeel init` writes one."
        raise ConfigError(f"cannot read the configuration '{path}': {why_unreadable(error)}. {hint}") from error
    try:
        return tomllib.loads(text), text
    except (ValueError, RecursionError) as error:  # the first also for whole numbers of thousands of digits
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def of(settings: Mapping[str, Any], where: str, base: Path | None = None, text: str = "") -> Config:
    """The configuration of settings in memory, by section.

    Args:
        where: what errors begin with: a file's path, or what is in its place.
        base: folder from which relative paths are taken; the current one where it is None.
        text: of the file, where errors name its lines.

    Raises:
        ConfigError: as `load`.
    """
    try:
        found = Config.model_validate(dict(settings))
    except ValidationError as error:
        raise ConfigError("\n".join(_describe(where, text, e) for e in error.errors())) from error
    for number, one in enumerate(found.limit):
        line = _line_of(text, ["limit", str(number)])
        one._place = f"{where}:{line}" if line else where
    return _resolve_paths(found, Path.cwd() if base is None else base)


def choices(section: str, key: str) -> tuple[str, ...]:
    """What a setting can be that is one of some words."""
    return typing.get_args(Config.model_fields[section].annotation.model_fields[key].annotation)  # type: ignore[union-attr]


def axes(table: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """What `[sweep]` varies, ``model.width`` for example, with what it names for each."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        found |= axes(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return found


def check_targets(config: Config, known: dict[str, tuple[str, ...]]) -> None:
    """Raise a ConfigError where `[targets]` names a target or precision that there is not."""
    for name, precisions in config.targets.items():
        if name not in known:
            raise ConfigError(f"targets: unknown target '{name}'. {nearest(name, known)}")
        for precision in precisions:
            if precision not in known[name]:
                raise ConfigError(
                    f"targets.\"{name}\": it has no precision '{precision}'. {nearest(precision, known[name])}"
                )
    if config.targets and not any(config.targets.values()):
        raise ConfigError("targets: no precision is left to build. Name at least one, or leave [targets] out.")


def check_source(config: Config, known: Collection[str]) -> None:
    """Raise a ConfigError where the task cannot read the data.

    Args:
        known: sources that it can.
    """
    source, task = config.data.source, config.model.task
    if source not in known:
        given = "images in memory" if isinstance(config.data, Arrays) else f"data.source = '{source}'"
        read = ", ".join(f"'{one}'" for one in known if not one.startswith("arrays"))
        raise ConfigError(
            f"{given} {'have' if isinstance(config.data, Arrays) else 'has'} nothing for model.task = '{task}', which reads {read}."
        )


def check_outputs(config: Config) -> None:
    """Raise a ConfigError where outputs hold what the task does not read."""
    holding = next((one for one in config.output if one.holds), None)
    if holding and config.model.task != "detection":
        raise ConfigError(
            f"output: '{holding.name}' holds '{holding.holds}', which model.task = 'detection' reads, not '{config.model.task}'"
        )


def check_model(
    config: Config, known: Mapping[str, Collection[str]], settings: Collection[str], tasks: Mapping[str, str]
) -> None:
    """Raise a ConfigError where `[model]` names an architecture that there is not, or one of another task, or sets what it does not take.

    Args:
        known: by name of the architecture, which of `settings` it takes.
        tasks: by the same name, what its outputs mean.
    """
    name = config.model.name
    if name not in known:
        raise ConfigError(f"model.name: unknown architecture '{name}'. {nearest(name, known)} {_OF_OTHERS}")
    if "task" in config.model.model_fields_set:  # by default it is the network's own
        _check_task(name, config.model.task, tasks)
    for setting in settings:
        value = getattr(config.model, setting)
        if setting not in known[name] and value != Model.model_fields[setting].default:
            raise ConfigError(
                f"model.{setting}: '{value}' does not apply to '{name}', which takes no {setting}. Leave it out."
            )


_OF_OTHERS = (
    "Any other network: model.factory = 'file.py:function', a function of yours that makes it; timm's and torchvision's are 'timm:NAME' and "
    "'torchvision:NAME'."
)


def _check_task(name: str, task: str, tasks: Mapping[str, str]) -> None:
    """Raise a ConfigError where a network's outputs mean one thing, and the task is one that others are made for."""
    own = tasks[name]
    if task == own or task not in tasks.values():
        return
    default = Model.model_fields["task"].default
    # detectors and the like are called by the classifier whose body they have
    bodies = [one for one in tasks if tasks[one] == default and f"_{name}".endswith(f"_{one}")]
    body = max(bodies, key=len, default=name)
    of_task = [one for one in tasks if tasks[one] == task]
    same = sorted((one for one in of_task if f"_{one}".endswith(f"_{body}")), key=len)
    which = " or ".join(f"'{one}'" for one in same) if same else f"one of {', '.join(of_task)}"
    raise ConfigError(
        f"model.name: '{name}' is a network for '{own}', and model.task is '{task}': set model.name to {which}, or leave model.task out. {_OF_OTHERS}"
    )


def with_defaults(config: Config, defaults: Mapping[str, Mapping[str, Any]]) -> Config:
    """With an architecture's own defaults, by section, where the file gives no value."""
    sections = {}
    for name, values in defaults.items():
        section: Section = getattr(config, name)
        missing = {key: value for key, value in values.items() if key not in section.model_fields_set}
        sections[name] = section.model_copy(update=missing)
    return config.model_copy(update=sections)


def with_outputs(config: Config, outputs: Sequence[Mapping[str, Any]]) -> Config:
    """With what an architecture says of its outputs, by the names in the file where these are given.

    Raises:
        ConfigError: the file says what they hold, too, or names another number of them.
    """
    given, known = config.output, [Output.model_validate(one) for one in outputs]
    if any(one.holds for one in given):
        raise ConfigError(f"output: what '{config.model.name}' gives is known: leave holds and what belongs to it out")
    if given and len(given) != len(known):
        raise ConfigError(
            f"output: '{config.model.name}' gives {', '.join(one.name for one in known)}: name each, in this order"
        )
    names = [one.name for one in given or known]
    return config.model_copy(
        update={"output": [one.model_copy(update={"name": name}) for one, name in zip(known, names, strict=True)]}
    )


def template() -> str:
    """A commented `twinkeel.toml` with every setting at its default."""
    lines = ["# twinkeel.toml: every setting with its default. A line that is commented out has none."]
    for name, field in Config.model_fields.items():
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, Section)):
            continue
        lines += ["", f"# {field.description}", f"[{name}]"]
        for key, setting in field.annotation.model_fields.items():
            default = setting.get_default(call_default_factory=True)
            value = "" if default is None else _toml(default)
            lines.append(
                f"{'# ' if default is None else ''}{key} = {value}  # {setting.description}".replace("=  #", '= ""  #')
            )
    lines += [
        "",
        f"# {Config.model_fields['targets'].description}",
        "# [targets]",
        '# "android/litert" = ["fp32", "fp16", "int8"]',
        "",
        f"# {Config.model_fields['sweep'].description}",
        "# [sweep]",
        "# model.width = [0.2, 0.35]",
        '# precision = ["fp32", "int8"]',
        "",
        *(
            line
            for name, section in (("input", Input), ("output", Output), ("limit", Limit))
            for line in _listed(name, section)
        ),
    ]
    return "\n".join(lines)


def _listed(name: str, section: type[Section]) -> list[str]:
    """A table that may stand several times."""
    keys = (f"# {key} = ...  # {field.description}" for key, field in section.model_fields.items())
    return [f"# {Config.model_fields[name].description}", f"# [[{name}]]", *keys, ""]


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return repr(value)


def _resolve_paths(config: Config, base: Path) -> Config:
    def absolute(value: str | None) -> str | None:
        return None if value is None else str(real(base / Path(value).expanduser()))

    return config.model_copy(
        update={
            "data": config.data.model_copy(
                update={
                    "path": absolute(config.data.path),
                    "calibration_path": absolute(config.data.calibration_path),
                    "labels": absolute(config.data.labels),
                }
            ),
            "weights": config.weights.model_copy(update={"path": absolute(config.weights.path)}),
            "model": config.model.model_copy(
                update={
                    "factory": _absolute_factory(config.model.factory, base),
                    "exported": absolute(config.model.exported),
                }
            ),
        }
    )


def _absolute_factory(value: str | None, base: Path) -> str | None:
    """A file, or a module beside the configuration, by its path; other modules by their names."""
    if value is None:
        return None
    source, _, function = value.rpartition(":")
    if source.endswith(".py"):
        return f"{real(base / Path(source).expanduser())}:{function}"
    inner = base.joinpath(*source.split("."))
    beside = next((p for p in (inner.with_suffix(".py"), inner / "__init__.py") if p.is_file()), None)
    return value if beside is None else f"{real(beside)}:{function}"


def _describe(path: str, text: str, error: Any) -> str:
    """One line for one validation error: file, line, key, what is wrong, what is known."""
    location = [str(part) for part in error["loc"]]
    key, where = location[-1] if location else "", ".".join(location)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = f"unknown key '{key}'. {nearest(key, _keys(location[:-1]))}"
    elif error["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        message = f"unknown value {error['input']!r}. {nearest(str(error['input']), choices)}"
    elif error["type"] == "too_long" and isinstance(error["input"], list):
        message = f"{len(error['input'])} are given, and at most {error['ctx']['max_length']} can be"
    elif error["type"] != "value_error" and not isinstance(error["input"], dict):  # our own say what was given
        given = repr(error["input"])
        message = f"{message}, not {given if len(given) < 80 else given[:77] + '...'}"
    line = _line_of(text, location)
    return f"{path}{f':{line}' if line else ''}: {f'{shown(where)}: ' if where else ''}{shown(message, 1000)}"


def _keys(location: list[str]) -> list[str]:
    section: type[BaseModel] = Config
    for part in location:
        if part.isdigit():
            continue
        annotation = section.model_fields[part].annotation
        section = typing.get_args(annotation)[0] if typing.get_origin(annotation) is list else annotation  # type: ignore[assignment]
    return list(section.model_fields)


def _line_of(text: str, location: list[str]) -> int | None:
    """The line of a key: the first `key =` after its table's header, of tables that stand several times the one that is meant; of another
    list's item, the list's."""
    skipped = int(location[1]) if len(location) > 1 and location[1].isdigit() else 0
    location = [part for part in location if not part.isdigit()]
    section, current = (location[0] if len(location) > 1 else ""), ""
    if not re.search(rf"^\s*\[\[\s*{re.escape(''.join(location[:1]))}\s*\]\]", text, re.MULTILINE):
        skipped = 0
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line)
        if header:
            current = header.group(1).split(".")[0].strip("\"' ")
            if location and current == location[0] and skipped > 0:
                current, skipped = "", skipped - 1
                continue
            if len(location) == 1 and current == location[0]:
                return number
        elif current == section and location and re.match(rf"\s*[\"']?{re.escape(location[-1])}[\"']?\s*=", line):
            return number
    return None
