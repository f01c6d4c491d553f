"""Keras's HDF5 files: their arrays, in the order of the layers, under the names of a torch model with the same layers.

Layers are matched by their order and their kind, not by their names, which differ between projects and versions: the
first convolution of the file is the first of the model, and so on; every shape must fit. Where the file holds the model's
configuration, it must say the same as the model: strides, epsilon, activations. Preprocessing in front (a rescaling) is
left to `[data] mean` and `std`; a softmax behind is left out, for artifacts give logits.

Sources: `keras/src/legacy/saving/legacy_h5_format.py` for the layout, the documentation of Keras's layers for the shapes.
h5py reads arrays and text; nothing in such a file is code to it. What leads out of the file (external links, external
storage, virtual datasets) is refused, and so is what would unpack to more than the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import WeightsError
from ..reading import MAX_JSON_BYTES, parse_json, shown

if TYPE_CHECKING:
    import h5py

SUFFIXES = (".h5", ".hdf5", ".keras")
MAX_ARRAYS = 20_000
"""EfficientNet-Lite4 has 520."""

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
    arrays: dict[str, h5py.Dataset] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Of the torch module that it would be."""
        if "moving_mean" in self.arrays:
            return "BatchNorm2d"
        kernel = self.arrays.get("depthwise_kernel", self.arrays.get("kernel"))
        return {4: "Conv2d", 2: "Linear"}.get(0 if kernel is None else kernel.ndim, "unknown")


def read(path: Path, model: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict of `model` with the arrays of the file at `path`.

    Raises:
        WeightsError: h5py is not there, or a layer does not fit.
    """
    if path.suffix == ".keras":
        raise WeightsError(f"'{path}' is an archive of Keras 3. Save the model as HDF5: model.save('weights.h5').")
    try:
        import h5py
    except ImportError as error:
        raise WeightsError(f"'{path}' is Keras's HDF5, which h5py reads: pip install 'twinkeel[keras]'") from error
    with h5py.File(path, "r") as file:
        layers, configs = _layers(file, path)
        modules = [(name, m) for name, m in model.named_modules() if _kind(m) in _VARIABLES]
        _check_order(modules, layers, path)
        for config in configs:
            _check_config(config, path)
        state: dict[str, torch.Tensor] = {}
        for (name, module), layer in zip(modules, layers, strict=True):
            _check_module(name, module, layer, path)
            state |= _tensors(name, module, layer, path)
        _check_activations(model, configs, path)
        return state


def _kind(module: nn.Module) -> str:
    return "Conv2d" if isinstance(module, nn.Conv2d) else type(module).__name__


def _check_order(modules: Sequence[tuple[str, nn.Module]], layers: Sequence[_Layer], path: Path) -> None:
    """Raise a WeightsError where the file has other kinds of layers than the model, or another number."""
    for (name, module), layer in zip(modules, layers, strict=False):
        if _kind(module) != layer.kind:
            raise WeightsError(
                f"'{path}': layer '{shown(layer.name)}' ({layer.kind}) stands where the model has '{name}' "
                f"({_kind(module)}). Is it another architecture?"
            )
    if len(modules) != len(layers):
        over = layers[len(modules)].name if len(layers) > len(modules) else modules[len(layers)][0]
        raise WeightsError(
            f"'{path}' has {len(layers)} layers with weights, the model {len(modules)}; '{shown(over)}' is the first that "
            "is over. Is it another architecture, or does it have a head of its own?"
        )


def _layers(file: h5py.File, path: Path) -> tuple[list[_Layer], list[Mapping[str, Any]]]:
    """The layers with arrays in the order of the network, and the configurations of all, where the file holds them."""
    root = _group(file, "model_weights", path) if "model_weights" in file else file
    names = _texts(root, "layer_names", path)
    if not names:
        raise WeightsError(
            f"'{path}' names no layers: it is not the HDF5 of a whole Keras model. Save it by model.save('weights.h5')."
        )
    found: dict[str, _Layer] = {}
    is_flat, number, total = True, 0, 0
    for group_name in names:
        group = _group(root, group_name, path)
        inside = set()
        for weight_name in _texts(group, "weight_names", path):
            dataset = _dataset(group, weight_name, path)
            *scopes, variable = weight_name.split("/")
            owner, variable = (scopes[-1] if scopes else group_name), variable.partition(":")[0]
            inside.add(owner)
            arrays = found.setdefault(owner, _Layer(owner)).arrays
            if variable in arrays:
                raise WeightsError(f"'{path}': '{shown(weight_name)}' occurs twice. Is it one network alone?")
            arrays[variable] = dataset
            number, total = number + 1, total + math.prod(dataset.shape) * dataset.dtype.itemsize
            if number > MAX_ARRAYS:
                raise WeightsError(f"'{path}' has more than {MAX_ARRAYS:,} arrays")
        is_flat &= len(inside) <= 1
    size = path.stat().st_size
    if total > size:
        raise WeightsError(
            f"'{path}' has {size:,} bytes and would unpack to {total:,}, which Keras's files do not: it is damaged, or "
            "made to fill the memory."
        )
    configs = list(_configs(file, path))
    if not configs and not is_flat:
        raise WeightsError(
            f"'{path}' holds weights of a network inside another without saying their order. Save the whole model: "
            "model.save('weights.h5')."
        )
    if not configs:
        return list(found.values()), []
    order = {str(config["config"].get("name")): config for config in configs}
    missing = sorted(found.keys() - order.keys())
    if missing:
        raise WeightsError(
            f"'{path}': layer '{shown(missing[0])}' has arrays, but the model in the file does not have it"
        )
    for name, layer in found.items():
        layer.config = order[name]
    return [found[name] for name in order if name in found], configs


def _configs(file: h5py.File, path: Path) -> Iterator[Mapping[str, Any]]:
    """Of each layer, networks inside the network opened, as the file's configuration lists them."""
    texts = _texts(file, "model_config", path)
    if not texts:
        return
    if len(texts[0]) > MAX_JSON_BYTES:
        raise WeightsError(f"'{path}': the model's configuration has {len(texts[0]):,} characters")
    waiting = [parse_json(texts[0].encode())]
    while waiting:
        config = waiting.pop(0)
        if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
            raise WeightsError(f"'{path}': the model's configuration is none of Keras's")
        inside = config["config"].get("layers")
        if isinstance(inside, list):
            waiting = [*inside, *waiting]
        else:
            yield config


def _tensors(name: str, module: nn.Module, layer: _Layer, path: Path) -> dict[str, torch.Tensor]:
    """The tensors of one module, in torch's order of dimensions."""
    state: dict[str, torch.Tensor] = {}
    taken = set()
    for key, variables in _VARIABLES[layer.kind].items():
        variable = next((v for v in variables if v in layer.arrays), None)
        if variable is None:
            continue
        taken.add(variable)
        dataset = layer.arrays[variable]
        order = _order(module, dataset.ndim)
        tensor = getattr(module, key)
        shape = tuple(dataset.shape[axis] for axis in order)
        if tensor is None or shape != tuple(tensor.shape):
            # the caller says what the cause may be; nothing of the wrong size is read
            state[f"{name}.{key}"] = torch.empty(shape, device="meta")
            continue
        state[f"{name}.{key}"] = torch.from_numpy(dataset[()].transpose(order).copy())
    other = sorted(layer.arrays.keys() - taken)
    if other:
        raise WeightsError(f"'{path}': layer '{shown(layer.name)}' has '{shown(other[0])}', which the model does not")
    return state


def _order(module: nn.Module, rank: int) -> tuple[int, ...]:
    """Where each of torch's dimensions is in Keras's array."""
    if isinstance(module, nn.Conv2d):
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


def _texts(owner: h5py.Group, name: str, path: Path) -> list[str]:
    """An attribute of texts; Keras splits one that is too long for HDF5 into parts with numbers."""
    parts = takewhile(lambda part: part in owner.attrs, (f"{name}{number}" for number in count()))
    found: list[str] = []
    for part in [name] if name in owner.attrs else parts:
        value = owner.attrs[part]
        for text in value.tolist() if hasattr(value, "tolist") else [value]:
            if not isinstance(text, (str, bytes)):
                raise WeightsError(f"'{path}': the attribute '{part}' is no text")
            found.append(text.decode() if isinstance(text, bytes) else text)
    return found


def _member(owner: h5py.Group, name: str, path: Path) -> Any:
    """A member by its path, every part of it in this file."""
    import h5py

    for part in name.split("/"):
        if part in ("", ".", "..") or not isinstance(owner, h5py.Group) or part not in owner:
            raise WeightsError(f"'{path}' names '{shown(name)}', which it does not hold. Is the file whole?")
        if not isinstance(owner.get(part, getlink=True), h5py.HardLink):
            raise WeightsError(f"'{path}': '{shown(name)}' is a link, maybe out of the file; it is not followed")
        owner = owner[part]
    return owner


def _group(owner: h5py.Group, name: str, path: Path) -> h5py.Group:
    import h5py

    found = _member(owner, name, path)
    if not isinstance(found, h5py.Group):
        raise WeightsError(f"'{path}': '{shown(name)}' is no group")
    return found


def _dataset(owner: h5py.Group, name: str, path: Path) -> h5py.Dataset:
    """An array of real numbers whose values are in this file."""
    import h5py

    found = _member(owner, name, path)
    if not isinstance(found, h5py.Dataset) or found.dtype.kind != "f" or found.shape is None:
        raise WeightsError(f"'{path}': '{shown(name)}' is no array of real numbers")
    if found.external or found.is_virtual:
        raise WeightsError(f"'{path}': '{shown(name)}' has its values in another file; it is not opened")
    return found
