"""Keras's HDF5 files: their arrays, in the order of the layers, under the names of a torch model with the same layers.

Layers are matched by their order and their kind, not by their names, which differ between projects and versions: the
first convolution of the file is the first of the model, and so on; every shape must fit. Where the file holds the model's
configuration, it must say the same as the model: strides, epsilon, activations. Preprocessing in front (a rescaling) is
left to `[data] mean` and `std`; a softmax behind is left out, for artifacts give logits.

The shapes are those in the documentation of Keras's layers. Nothing in such a file is code to h5py, but it is read in a
process of its own all the same: see `h5_arrays.py`.
"""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...errors import WeightsError
from ...reading import parse_json, read_json, shown
from . import h5_arrays, others, telling

SUFFIXES = (".h5", ".hdf5", ".keras")
_SECONDS = 120
_ROOM = 4 * 2**30
"""Bytes of addresses for the libraries of the process that reads."""

_VARIABLES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Conv2d": {"weight": ("kernel", "depthwise_kernel"), "bias": ("bias",)},
    "BatchNorm2d": {
        "weight": ("gamma",),
        "bias": ("beta",),
        "running_mean": ("moving_mean",),
        "running_var": ("moving_variance",),
    },
    "Linear": {"weight": ("kernel",), "bias": ("bias",)},
}
"""By kind of a torch module, its tensors and what Keras's versions call them."""

_WITHOUT_WEIGHTS = {
    "Activation", "Add", "Dropout", "Flatten", "Functional", "GlobalAveragePooling2D", "InputLayer", "Model", "ReLU",
    "Rescaling", "Reshape", "Sequential", "Softmax", "Subtract", "SpatialDropout2D", "TFOpLambda", "TrueDivide",
    "ZeroPadding2D",
}  # fmt: skip
"""Layers that these networks have, or that stand in front for the pixels. Others would compute something else."""
_ENDS = ("linear", "softmax")


@dataclass
class _Layer:
    """A layer with arrays, by their names without scope and number."""

    name: str
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Of the torch module that it would be."""
        if "moving_mean" in self.arrays:
            return "BatchNorm2d"
        kernel = self.arrays.get("depthwise_kernel", self.arrays.get("kernel"))
        return {4: "Conv2d", 2: "Linear"}.get(0 if kernel is None else kernel.ndim, "unknown")


def outputs_in(path: Path) -> int:
    """How many outputs the last dense layer of the file has; 0 where it has none."""
    check_readable(path)
    dense = [layer.arrays["kernel"].shape[1] for layer in _layers(path)[0] if layer.kind == "Linear"]
    return int(dense[-1]) if dense else 0


def check_readable(path: Path) -> None:
    if path.suffix == ".keras":
        raise WeightsError(f"'{path}' is an archive of Keras 3. Save the model as HDF5: model.save('weights.h5').")
    if importlib.util.find_spec("h5py") is None:
        raise WeightsError(f"'{path}' is Keras's HDF5, which h5py reads: pip install 'twinkeel[keras]'")


def read(
    path: Path, model: nn.Module, fresh: frozenset[str] = frozenset(), makes: Mapping[str, others.Make] | None = None
) -> tuple[dict[str, tuple[torch.Tensor, str]], tuple[int, int] | None]:
    """The state dict of `model` with the arrays of the file at `path`, and the name of each there; and height and width of the input that it
    says its network has, None where it does not.

    What the file says of its layers is not looked at where shapes are others: that is what is wrong then.

    Args:
        fresh: names whose shapes may be others.
        makes: the networks of `model/` by name, of which the file may be another.

    Raises:
        WeightsError: h5py is not there, or a layer does not fit.
    """
    check_readable(path)
    layers, configs = _layers(path)
    modules = _modules(model)
    if wrong := _out_of_order(modules, layers):
        hint = telling.of_others(_others(layers, makes or {}))
        raise WeightsError(f"'{path}'{wrong[0]} {hint or wrong[1]}")
    state: dict[str, tuple[torch.Tensor, str]] = {}
    for (name, module), layer in zip(modules, layers, strict=True):
        state |= _tensors(name, module, layer, path)
    wanted = {name: value.shape for name, value in model.state_dict().items() if name not in fresh}
    if any(name in state and state[name][0].shape != shape for name, shape in wanted.items()):
        return state, None
    if pads_otherwise(model, "tensorflow"):
        raise WeightsError(telling.padding(path, "tensorflow"))
    for config in configs:
        _check_config(config, path)
    for (name, module), layer in zip(modules, layers, strict=True):
        _check_module(name, module, layer, path)
    _check_activations(model, configs, path)
    return state, _size(configs)


def _size(configs: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    """Of the first input, ``(None, height, width, channels)``."""
    for config in configs:
        shape = config["config"].get("batch_shape") or config["config"].get("batch_input_shape")
        if isinstance(shape, list) and len(shape) == 4 and all(isinstance(side, int) for side in shape[1:3]):
            return shape[1], shape[2]
    return None


def pads_otherwise(model: nn.Module, padding: str) -> bool:
    """Whether a model pads in another way than this; one that does not say how is taken for one that does."""
    return getattr(model, "padding", padding) != padding


def _modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, m) for name, m in model.named_modules() if _kind(m) in _VARIABLES]


def _others(layers: Sequence[_Layer], makes: Mapping[str, others.Make]) -> list[others.Other]:
    """Of which networks the file may be."""

    def looked_at(model: nn.Module) -> tuple[bool, bool]:
        modules = _modules(model)
        if _out_of_order(modules, layers):
            return False, False
        state: dict[str, torch.Tensor] = {}
        for (name, module), layer in zip(modules, layers, strict=True):
            state |= {key: tensor for key, (tensor, _) in _tensors(name, module, layer, Path()).items()}
        return True, others.is_alike(state, others.shapes_of(model))

    return others.chosen(makes, looked_at)


def _kind(module: nn.Module) -> str:
    return "Conv2d" if isinstance(module, nn.Conv2d) else type(module).__name__


def _out_of_order(modules: Sequence[tuple[str, nn.Module]], layers: Sequence[_Layer]) -> tuple[str, str] | None:
    """What other kind of layer the file has than the model, or what other number, and the likely cause; None where they are the same."""
    for (name, module), layer in zip(modules, layers, strict=False):
        if _kind(module) != layer.kind:
            return (
                f": layer '{shown(layer.name)}' ({layer.kind}) stands where the model has '{name}' ({_kind(module)}).",
                "Is it another architecture?",
            )
    if len(modules) == len(layers):
        return None
    over = layers[len(modules)].name if len(layers) > len(modules) else modules[len(layers)][0]
    return (
        f" has {len(layers)} layers with weights, the model {len(modules)}; '{shown(over)}' is the first that is over.",
        "Is it another architecture, or does it have a head of its own?",
    )


def _layers(path: Path) -> tuple[list[_Layer], list[Mapping[str, Any]]]:
    """The layers with arrays in the order of the network, and the configurations of all, where the file holds them."""
    with tempfile.TemporaryDirectory() as name:
        _read_apart(path, Path(name))
        described = read_json(Path(name) / "layers.json")
        with np.load(Path(name) / "arrays.npz") as arrays:
            values = [arrays[str(number)] for number in range(len(described["arrays"]))]
    found: dict[str, _Layer] = {}
    inside: dict[str, set[str]] = {}
    for (group, owner, variable), value in zip(described["arrays"], values, strict=True):
        layer = found.setdefault(owner, _Layer(owner))
        if variable in layer.arrays:
            raise WeightsError(f"'{path}': '{shown(owner)}/{shown(variable)}' occurs twice. Is it one network alone?")
        layer.arrays[variable] = value
        inside.setdefault(group, set()).add(owner)
    if described["config"] is None:
        if any(len(owners) > 1 for owners in inside.values()):
            raise WeightsError(
                f"'{path}' holds weights of a network inside another without saying their order. Save the whole model: "
                "model.save('weights.h5')."
            )
        return list(found.values()), []
    configs = list(_configs(described["config"], path))
    order = {str(config["config"].get("name")): config for config in configs}
    missing = sorted(found.keys() - order.keys())
    if missing:
        raise WeightsError(
            f"'{path}': layer '{shown(missing[0])}' has arrays, but the model in the file does not have it"
        )
    for owner, layer in found.items():
        layer.config = order[owner]
    return [found[owner] for owner in order if owner in found], configs


def _read_apart(path: Path, folder: Path) -> None:
    """What `h5_arrays` writes of the file, in a folder; a WeightsError where it says what is wrong, or does not live."""
    size = path.stat().st_size

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * size + 2**20, 2 * size + 2**20))
        resource.setrlimit(resource.RLIMIT_AS, (_ROOM + 4 * size, _ROOM + 4 * size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", h5_arrays.__name__, str(path.resolve()), str(folder)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            preexec_fn=limit if os.name == "posix" else None,
        )
    except subprocess.TimeoutExpired as error:
        raise WeightsError(f"cannot read the checkpoint '{path}': it takes longer than {_SECONDS} s") from error
    if done.returncode == h5_arrays.REFUSED:
        cut = " Was it copied whole? Copy or save it again." if done.stderr.startswith(h5_arrays.DAMAGED) else ""
        raise WeightsError(f"cannot read the checkpoint '{path}': {shown(done.stderr, 1000)}{cut}")
    if done.returncode:
        raise WeightsError(
            f"cannot read the checkpoint '{path}': HDF5's library ended with {done.returncode}. Is the file whole?"
        )


def _configs(text: str, path: Path) -> Iterator[Mapping[str, Any]]:
    """Of each layer, networks inside the network opened, as the file's configuration lists them."""
    waiting = [parse_json(text.encode())]
    while waiting:
        config = waiting.pop(0)
        if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
            raise WeightsError(f"'{path}': the model's configuration is none of Keras's")
        inside = config["config"].get("layers")
        if isinstance(inside, list):
            waiting = [*inside, *waiting]
        else:
            yield config


def _tensors(name: str, module: nn.Module, layer: _Layer, path: Path) -> dict[str, tuple[torch.Tensor, str]]:
    """The tensors of one module, in torch's order of dimensions, and their names in the file."""
    state: dict[str, tuple[torch.Tensor, str]] = {}
    taken = set()
    for key, variables in _VARIABLES[layer.kind].items():
        variable = next((v for v in variables if v in layer.arrays), None)
        if variable is None:
            continue
        taken.add(variable)
        array = layer.arrays[variable]
        tensor = torch.from_numpy(array.transpose(_order(module, array.ndim)).copy())
        state[f"{name}.{key}".removeprefix(".")] = tensor, f"{layer.name}/{variable}"
    other = sorted(layer.arrays.keys() - taken)
    if other:
        raise WeightsError(f"'{path}': layer '{shown(layer.name)}' has '{shown(other[0])}', which the model does not")
    return state


def _order(module: nn.Module, rank: int) -> tuple[int, ...]:
    """Where each of torch's dimensions is in Keras's array."""
    if isinstance(module, nn.Conv2d) and rank == 4:
        # (H, W, in, out); depthwise (H, W, channels, 1)
        return (2, 3, 0, 1) if module.groups > 1 else (3, 2, 0, 1)
    return tuple(reversed(range(rank)))


def _check_module(name: str, module: nn.Module, layer: _Layer, path: Path) -> None:
    """Raise a WeightsError where the configuration of a layer says something else than the module is."""
    config = layer.config.get("config", {})
    expected: dict[str, Any] = {}
    if isinstance(module, nn.Conv2d):
        expected = {"strides": list(module.stride), "dilation_rate": list(module.dilation), "activation": "linear"}
    elif isinstance(module, nn.BatchNorm2d) and "epsilon" in config and not math.isclose(config["epsilon"], module.eps):
        raise WeightsError(
            f"'{path}': layer '{shown(layer.name)}' has epsilon {shown(config['epsilon'])}, the model's '{name}' has {module.eps:g}"
        )
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise WeightsError(
                f"'{path}': layer '{shown(layer.name)}' has {key} {shown(config[key])}, the model's '{name}' has {value}. "
                "Is it another architecture?"
            )
    if isinstance(module, nn.Linear) and config.get("activation", "linear") not in _ENDS:
        raise WeightsError(
            f"'{path}': layer '{shown(layer.name)}' ends in {shown(config['activation'])}; a classifier ends in one of "
            f"{', '.join(_ENDS)}"
        )


def _check_config(layer: Mapping[str, Any], path: Path) -> None:
    """Raise a WeightsError where a layer without weights is none that these networks have."""
    name = str(layer.get("class_name"))
    config = layer["config"]
    if config.get("data_format", "channels_last") != "channels_last":
        raise WeightsError(f"'{path}': layer '{shown(config.get('name'))}' has its channels first; they come last here")
    known = {"Conv2D", "DepthwiseConv2D", "BatchNormalization", "Dense"} | _WITHOUT_WEIGHTS
    if name not in known and not name.startswith("Random"):
        raise WeightsError(
            f"'{path}': layer '{shown(config.get('name'))}' is a {shown(name)}, which the model does not have. "
            "Is it another architecture?"
        )


def _check_activations(model: nn.Module, configs: list[Mapping[str, Any]], path: Path) -> None:
    """Raise a WeightsError where the file's activations are others than the model's."""
    own = {"relu6" if isinstance(m, nn.ReLU6) else "relu" for m in model.modules() if isinstance(m, nn.ReLU6 | nn.ReLU)}
    for layer in configs:
        config = layer["config"]
        if layer.get("class_name") == "ReLU":
            found = {6: "relu6", None: "relu"}.get(config.get("max_value"), f"ReLU to {shown(config.get('max_value'))}")
        elif layer.get("class_name") == "Activation" and config.get("activation") not in _ENDS:
            found = str(config.get("activation"))
        else:
            continue
        if own and found not in own:
            raise WeightsError(
                f"'{path}': layer '{shown(config.get('name'))}' is {shown(found)}, the model has {' and '.join(own)}. "
                "Set model.activation to what it was trained with."
            )
