"""Networks of others by name, `timm:NAME` and `torchvision:NAME`: of a package that is installed, made without weights.

Nothing is fetched: what these packages would fetch, an argument can only ask for, and such arguments are refused. A model is
known by its name, its arguments and the version of the package; the sources of all networks of one are too many.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config import Data
from ..errors import ConfigError
from ..files import keep, rendered
from ..reading import read_json
from .factories import made

if TYPE_CHECKING:
    from torch import nn

FETCHING = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "weights", "weights_backbone")
"""Arguments that fetch or read weights."""


@dataclass(frozen=True, kw_only=True)
class Zoo:
    """A network of a package, which is imported when a model is wanted.

    Attributes:
        package: ``timm`` or ``torchvision``.
        name: as the package calls it.
        arguments: what it is made with.
    """

    package: str
    name: str
    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, text: str, arguments: Mapping[str, Any]) -> Zoo:
        """
        Args:
            text: ``timm:NAME`` or ``torchvision:NAME``.

        Raises:
            ConfigError: the package is not installed, or an argument asks for weights.
        """
        package, _, name = text.partition(":")
        zoo = cls(package=package, name=name, arguments=arguments)
        zoo.version()
        asked = [key for key in FETCHING if arguments.get(key)]
        if asked:
            raise ConfigError(
                f"model.arguments.{asked[0]}: {package} would fetch or read weights by itself. Save them to a file once, with "
                f"`torch.save(model.state_dict(), PATH)`, and name it: [weights] path."
            )
        return zoo

    def version(self) -> str:
        """Of the package."""
        if importlib.util.find_spec(self.package) is None:
            raise ConfigError(
                f"model.name: '{self}' needs {self.package}, which is not installed. pip install 'twinkeel[{self.package}]'"
            )
        return importlib.metadata.version(self.package)

    def digest(self) -> str:
        """What the code of the model is known by."""
        return f"{self.package} {self.version()}"

    def __str__(self) -> str:
        return f"{self.package}:{self.name}"

    def __call__(self, outputs: int, width: float) -> nn.Module:
        """The model without weights; the width is that of our own networks.

        Raises:
            ConfigError: there is no such network, or it does not take the arguments.
        """
        known = self._module().list_models()
        given = ({"num_classes": outputs} if outputs else {}) | {
            k: v for k, v in self.arguments.items() if k not in FETCHING
        }
        shown = ", ".join(f"{key}={value!r}" for key, value in given.items())
        if self.name.split(".")[0] not in known:
            close = difflib.get_close_matches(self.name, known, n=3, cutoff=0.5)
            hint = f"Did you mean {' or '.join(close)}?" if close else f"`{self.package}` lists them: list_models()."
            raise ConfigError(f"model.name: {self.digest()} has no network '{self.name}'. {hint}")
        return made(lambda: self._create(given), f"model.name: {self}({shown})")

    def defaults(self) -> dict[str, dict[str, Any]]:
        """What the package says of the network's published weights, by section of the configuration: resolution, mean and std,
        as far as it says anything.

        It is kept in this user's cache: a build that has nothing to do imports neither the package nor torch.
        """
        import platformdirs

        kept = platformdirs.user_cache_path("twinkeel") / "zoos" / f"{self.digest().replace(' ', '-')}-{self.name}.json"
        try:
            found: dict[str, dict[str, Any]] = read_json(kept)
            Data.model_validate(found.get("data", {}))
        except (OSError, ValueError, AttributeError):  # none, or of something else
            found = self._published()
            keep(rendered(found), kept)
        return found

    def told(self, resolution: Any, mean: list[float], std: list[float]) -> str:
        """One line on the settings of a build beside those of the package."""
        said = self.defaults()
        ours = {"resolution": resolution, "mean": mean, "std": std}
        theirs = {**said.get("model", {}), **said.get("data", {})}
        words = ", ".join(f"{key} {_shown(value)}" for key, value in ours.items())
        others = ", ".join(f"{key} {_shown(value)}" for key, value in theirs.items() if ours[key] != value)
        if not theirs:
            return f"model: {self} of {self.digest()}: {words}; {self.package} says nothing of them"
        return f"model: {self} of {self.digest()}: {words}" + (
            f"; {self.package} says {others}" if others else f", as {self.package} says"
        )

    def _module(self) -> Any:
        """Where the package's functions are."""
        try:
            return importlib.import_module("timm" if self.package == "timm" else "torchvision.models")
        except Exception as error:  # of another version of torch than this one, most often
            raise ConfigError(
                f"model.name: {self.digest()} cannot be imported: {type(error).__name__}: {str(error)[:300]}. Is it of the "
                "installed torch?"
            ) from error

    def _create(self, given: Mapping[str, Any]) -> Any:
        module = self._module()
        if self.package == "timm":
            return module.create_model(self.name, pretrained=False, **given)
        takes = inspect.signature(module.get_model_builder(self.name)).parameters
        without = {key: None for key in ("weights", "weights_backbone") if key in takes}
        return module.get_model(self.name, **given, **without)

    def _published(self) -> dict[str, dict[str, Any]]:
        """As the package has it; nothing of a network that it does not have, for what makes that says so."""
        module = self._module()
        if self.package == "timm":
            try:
                found = module.get_pretrained_cfg(self.name)
            except RuntimeError:
                return {}
            return {} if found is None else _sections(found.input_size[1:], found.mean, found.std)
        if self.name not in module.list_models():
            return {}
        weights = module.get_model_weights(self.name)
        preset = weights.DEFAULT.transforms() if hasattr(weights, "DEFAULT") else None
        if preset is None or not all(hasattr(preset, name) for name in ("crop_size", "mean", "std")):
            return {}  # of another task
        size = preset.crop_size * 2 if len(preset.crop_size) == 1 else preset.crop_size
        return _sections(size, preset.mean, preset.std)


def _sections(size: Any, mean: Any, std: Any) -> dict[str, dict[str, Any]]:
    height, width = (int(side) for side in size)
    return {
        "model": {"resolution": height if height == width else [height, width]},
        "data": {"mean": [float(v) for v in mean], "std": [float(v) for v in std]},
    }


def _shown(value: Any) -> str:
    return f"[{', '.join(f'{v:g}' for v in value)}]" if isinstance(value, list) else str(value)
