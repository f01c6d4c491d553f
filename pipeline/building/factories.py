"""The user's own model: a function that they wrote, in a file of theirs or in a package that is installed.

It is run because the configuration names it. What it gives is known by its sources, and by those of what they import (`own_code.py`), so
that a change of these is a change of the model.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, nearest
from ..files import real
from . import own_code

if TYPE_CHECKING:
    from torch import nn

_OUTPUTS = "num_classes"
"""An argument of this name gets the number of outputs where the configuration does not give it, as torchvision's and
timm's functions take it."""


@dataclass(frozen=True, kw_only=True)
class Factory:
    """A function of a module, which is imported when a model is wanted.

    Attributes:
        source: a file's path, or a module's dotted name.
        function: its name.
        arguments: what it is called with.
    """

    source: str
    function: str
    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, text: str, arguments: Mapping[str, Any]) -> Factory:
        """
        Args:
            text: ``file.py:function`` or ``package.module:function``.

        Raises:
            ConfigError: there is no such file or module; nothing of it is run for that.
        """
        source, _, function = text.rpartition(":")
        factory = cls(source=source, function=function, arguments=arguments)
        factory.file()
        return factory

    def file(self) -> Path:
        """Of the module."""
        if self.source.endswith(".py"):
            path = Path(self.source)
            if not path.is_file():
                raise ConfigError(
                    f"model.factory: '{path}' is no file. Give 'file.py:function', or a module that is installed."
                )
            return path
        top, *rest = self.source.split(".")
        spec = importlib.util.find_spec(top)  # finds without running; of a dotted name it would run the packages before
        places = list(spec.submodule_search_locations or []) if spec is not None else []
        if spec is not None and not rest and spec.origin:
            return Path(spec.origin)
        for place in places:
            inner = Path(place, *rest)
            for path in (inner.with_suffix(".py"), inner / "__init__.py"):
                if path.is_file():
                    return path
        raise ConfigError(
            f"model.factory: there is no module '{self.source}' here. Install it, or give a file: 'file.py:function'."
        )

    def digest(self) -> str:
        """SHA-256 of the sources that the model is made of, and of what is called in them."""
        file = self.file()
        root = _root(file)
        found = own_code.digests(file, root, self.arguments)
        # a file is known by its place in its package, wherever that lies
        name = file.relative_to(root).as_posix() if self.source.endswith(".py") else self.source
        return hashlib.sha256(repr((name, self.function, sorted(found.items()))).encode()).hexdigest()

    def __call__(self, outputs: int, width: float) -> nn.Module:
        """The model as the function gives it; the width is that of our own networks.

        Raises:
            ConfigError: the function is not there, fails, or gives no module.
        """
        make = self._function()
        given = dict(self.arguments)
        try:
            parameters = inspect.signature(make).parameters
        except (TypeError, ValueError):
            parameters = {}  # type: ignore[assignment]
        if _OUTPUTS in parameters and outputs:  # of features the model's own
            given.setdefault(_OUTPUTS, outputs)
        shown = ", ".join(f"{key}={value!r}" for key, value in given.items())
        told = f"model.factory: {self.function}({shown}) of '{self.source}'"
        if not self.source.endswith(".py"):
            return made(lambda: make(**given), told)
        beside = self._beside()
        with own_code.on_path(beside):  # functions may import as well
            found = made(lambda: make(**given), told)
        if str(beside) not in sys.path:
            sys.path.append(str(beside))  # and so may `forward`, to which all that is installed comes first
        return found

    def _beside(self) -> Path:
        """The folder that a file's own imports begin from."""
        file = real(self.file())
        return _root(file).parent if (file.parent / "__init__.py").is_file() else file.parent

    def _function(self) -> Any:
        try:
            module = self._module()
        except Exception as error:  # the same
            raise ConfigError(
                f"model.factory: '{self.source}' cannot be imported: {type(error).__name__}: {str(error)[:500]}"
            ) from error
        make = getattr(module, self.function, None)
        if not callable(make):
            known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
            raise ConfigError(
                f"model.factory: '{self.source}' has no function '{self.function}'. {nearest(self.function, known)}"
            )
        return make

    def _module(self) -> ModuleType:
        if not self.source.endswith(".py"):
            return importlib.import_module(self.source)
        file = real(self.file())
        beside = self._beside()
        if (file.parent / "__init__.py").is_file():  # a part of a package: by its name, so that its own imports work
            parts = file.relative_to(beside).with_suffix("").parts
            with own_code.on_path(beside):
                return importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        name = f"twinkeel_factory_{hashlib.sha256(str(file).encode()).hexdigest()[:16]}"
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            with own_code.on_path(beside):
                spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module


def made(make: Callable[[], Any], told: str) -> nn.Module:
    """What code that is not ours gives.

    Args:
        told: what is called, and the setting that names it.

    Raises:
        ConfigError: it fails, or gives no module.
    """
    from torch import nn

    try:
        found = make()
    except Exception as error:  # the user's own code
        raise ConfigError(f"{told} failed: {type(error).__name__}: {str(error)[:500]}") from error
    if not isinstance(found, nn.Module):
        raise ConfigError(f"{told} gave a {type(found).__name__}, not a torch.nn.Module")
    return found


def _root(file: Path) -> Path:
    """The outermost package that a file is in, or its folder."""
    folder = file.parent
    while (folder / "__init__.py").is_file() and (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    return folder
