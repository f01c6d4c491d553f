"""What stands in the place of objects beside a checkpoint's tensors: settings, states of optimizers, dates, numbers of NumPy.

No class that a file names is imported. Names on the lists become one of four classes that take anything and do nothing; others
are refused. The lists say what is common and of no use here, not what would be safe: nothing of a file is called at all.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

NAMES = frozenset(
    {
        "argparse.Namespace", "collections.defaultdict", "collections.deque", "copyreg._reconstructor", "decimal.Decimal",
        "fractions.Fraction", "functools.partial", "random.Random", "re._compile", "types.SimpleNamespace", "uuid.UUID",
        # their classes as values, and how old schedulers pickle a method of their own
        *(f"builtins.{name}" for name in ("bool", "bytes", "dict", "float", "frozenset", "getattr", "int", "list", "object",
                                          "range", "slice", "str", "tuple", "type")),
    }
)  # fmt: skip
PREFIXES = (
    "datetime.", "enum.", "pathlib.", "typing.", "zoneinfo.",
    "numpy.", "pandas._libs.tslibs.",
    # recipes: optimizers and schedulers pickled whole, losses and layers named in settings
    "torch.amp.", "torch.cuda.amp.", "torch.optim.", "torch.torch_version.", "torch.nn.modules.activation.",
    "torch.nn.modules.batchnorm.", "torch.nn.modules.loss.", "torch.nn.modules.normalization.",
    "torchvision.transforms.",
    # programs that train
    "accelerate.", "catalyst.", "detectron2.config.", "fvcore.", "ignite.", "lightning.", "lightning_fabric.",
    "lightning_utilities.", "mmcv.utils.", "mmengine.", "pytorch_lightning.", "timm.data.", "timm.loss.", "timm.optim.",
    "timm.scheduler.", "timm.utils.", "torchmetrics.", "transformers.trainer", "transformers.training_args",
    # their settings
    "addict.", "antlr4.", "box.", "easydict.", "hydra.", "ml_collections.", "munch.", "omegaconf.", "yacs.",
)  # fmt: skip
OF_TORCH = frozenset(
    {"_codecs.encode", "builtins.bytearray", "builtins.complex", "builtins.set", "collections.Counter",
     "collections.OrderedDict"}
)  # fmt: skip
"""What torch makes itself, besides its own."""

_PARTS = re.compile(r"(ultralytics|models|torch\.nn|torch\.fx|torchvision\.models|timm\.(models|layers))\.")
"""Of a whole model."""


class Thing:
    """In the place of an object; it keeps nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __new__(cls, *_: Any, **__: Any) -> Thing:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


class Array(Thing):
    """In the place of an array of NumPy."""


class Table:
    """In the place of a class of dictionaries: torch fills plain ones alone."""

    def __new__(cls, *_: Any, **__: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]  # that is what it is for
        return OrderedDict()


class Series:
    """In the place of a class of lists."""

    def __new__(cls, *_: Any, **__: Any) -> list[Any]:  # type: ignore[misc]
        return []


def stand_in(name: str) -> type | None:
    """What stands for a class or function, by its dotted name; None where it is refused."""
    if name not in NAMES and not name.startswith(PREFIXES):
        return None
    if re.search(r"(^|\.)(deque|\w*List)$", name):
        return Series
    if re.fullmatch(r"numpy\..*(multiarray\._reconstruct|numeric\._frombuffer)", name):
        return Array
    return Table if re.search(r"(dict|Dict|CfgNode|Munch|Box)$", name) and name != "builtins.dict" else Thing


def refused(names: Iterable[str]) -> list[str]:
    """Those that neither torch makes nor anything stands in for, in their order."""
    found = [name for name in names if name not in OF_TORCH and stand_in(name) is None]
    # torch says itself which of its own it makes; layers are none of them
    return [name for name in found if not name.startswith("torch.") or is_part_of_model(name)]


def is_part_of_model(name: str) -> bool:
    return bool(_PARTS.match(name)) and name != "torch.nn.parameter.Parameter" and stand_in(name) is None
