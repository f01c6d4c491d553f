"""Runs an ML Program, the content of a Core ML ``.mlpackage``, with torch: on any machine, from the files alone.

Core ML predicts only on Apple's systems. This executor reads the package as they do, protobuf and weight blob, and
computes every operation as its public definition says, so that a wrong weight, scale, stride or label shows where
the package is built. It is no simulator of a device: the order of sums, and the precision inside an operation, are
torch's. What is rounded is what the package says: each value to its declared type.

Sources: the messages `Model.proto`, `FeatureTypes.proto` and `MIL.proto` of coremltools' `mlmodel/format`; the layout
of ``weight.bin`` from its `mlmodel/src/MILBlob/Blob/StorageFormat.hpp`; the operations as named in `_mil_ops.py`.

An operation, type or input that is not known here is a `PackageError` that names it, never a guess.
"""

from __future__ import annotations

import json
import math
import struct
import tempfile
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from twinkeel.pipeline.data import MAX_PIXELS
from twinkeel.pipeline.errors import ConversionError, PackageError
from twinkeel.pipeline.reading import parse_json, read_bytes, read_json, shown

from .. import _pte

if TYPE_CHECKING:
    from ._mil_bounds import Budget

Arithmetic = Literal["declared", "exact", "unrounded"]
"""``declared``: float32 inside an operation, its result rounded to the declared type, as the package says.
``exact``: all values that depend on the input are float64 and never rounded; constants are what the package says.
Two packages with the same constants then differ by nothing but what they compute.
``unrounded``: as exact, and `quantize` does not round either: a step of a single int8 weight, which a rounding
would mostly swallow, reaches the output."""

# name: (numpy type of the stored values, bits of each, code in weight.bin)
_TYPES: Mapping[str, tuple[str, int, int]] = {
    "FLOAT16": ("<f2", 16, 1), "FLOAT32": ("<f4", 32, 2), "UINT8": ("u1", 8, 3), "INT8": ("i1", 8, 4),
    "INT16": ("<i2", 16, 6), "UINT16": ("<u2", 16, 7), "INT4": ("i1", 4, 8), "UINT1": ("u1", 1, 9),
    "UINT2": ("u1", 2, 10), "UINT4": ("u1", 4, 11), "UINT3": ("u1", 3, 12), "UINT6": ("u1", 6, 13),
    "INT32": ("<i4", 32, 14), "UINT32": ("<u4", 32, 15), "BOOL": ("?", 8, 0), "INT64": ("<i8", 64, 0),
}  # fmt: skip
_LAYERS = {"conv": "convolution", "add": "addition", "reduce_mean": "mean", "linear": "linear"}
_DATA = ("x", "y", "values", "input", "probabilities")
"""Inputs of operations whose values do not set a size."""
_CLAMPS = ("clip", "relu", "relu6")
MAX_SPEC_BYTES = 32 * 2**20
"""Of ``model.mlmodel``; weights lie outside of it, and MobileNetV2 has 0.2 MB. In memory it can take 40 times as much."""
MAX_WEIGHT_BYTES = 2 * 2**30
_KEPT_VALUES = 2**24
"""Of constants in the type that operations compute in, which are kept between predictions: 64 MB in float32."""
_MAX_RANK = 32
_MAX_PAYLOAD_NODES = 2**20
"""Bytes of the list of files in a payload; that of a package has 1,000."""
_BLOB_HEADER = struct.Struct("<IIQQ")
_BLOB_MAGIC = 0xDEADBEEF
_NONE = np.zeros(0, np.uint8)
_CHANNELS = {"RGB": [0, 1, 2], "BGR": [2, 1, 0]}
_LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, for packages that take a grey image."""


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """The image that a package takes: its input's name, height and width in pixels, and colour space."""

    name: str
    height: int
    width: int
    colour_space: str


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a package gives: arrays by name; label and probabilities where it is a classifier."""

    arrays: Mapping[str, NDArray[Any]]
    label: str | None
    probabilities: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class _Declared:
    """A type of the program: for a tensor its sizes, None where one is open, and of what its values are."""

    kind: str | None
    name: str = ""
    shape: tuple[int, ...] | None = None
    dtype: Any = None

    @classmethod
    def of(cls, kind: Any) -> _Declared:
        import torch

        if not kind.HasField("tensorType"):
            return cls(kind=kind.WhichOneof("type"))
        name, shape = _type_name(kind), _declared_shape(kind)
        dtype = getattr(torch, np.dtype(_TYPES[name][0]).name) if name in _TYPES else None
        return cls(kind="tensorType", name=name, shape=None if shape is None else tuple(shape), dtype=dtype)


@dataclass(frozen=True, kw_only=True)
class _Step:
    """An operation, ready to run: what is the same for every input was looked up once.

    Attributes:
        computed_in: floats are taken in this type.
        fixed: parameters that do not depend on the input, by name.
        read: other parameters: the name, what it is bound to, and whether it is a list.
        outputs: their names and types.
    """

    type: str
    label: str
    function: Callable[..., Any]
    computed_in: Any
    outputs: Sequence[tuple[str, _Declared]]
    fixed: dict[str, Any] = field(default_factory=dict)
    read: list[tuple[str, Sequence[Any], bool]] = field(default_factory=list)


class Model:
    """An ML Program that is ready to run. Constants are read and decompressed once.

    Args:
        package: the ``.mlpackage`` folder.

    Raises:
        PackageError: a file is missing or damaged, or the program holds something that is not known here.
    """

    def __init__(self, package: Path) -> None:
        from ._mil_bounds import MAX_OPERATIONS, Budget

        self.spec = _read_spec(package)
        self._weights = _read_weights(package)
        program = self.spec.mlProgram
        names = list(program.functions)
        if len(names) != 1:
            raise PackageError(f"'{package}' has the functions {names}; packages with one function are known")
        function = program.functions[names[0]]
        if function.opset not in function.block_specializations:
            raise PackageError(f"'{package}' has no block for its opset '{function.opset}'")
        self.opset: str = function.opset
        self._inputs = {value.name: value.type for value in function.inputs}
        block = function.block_specializations[function.opset]
        if len(block.operations) > MAX_OPERATIONS:
            count = len(block.operations)
            raise PackageError(f"'{package}' has {count:,} operations; at most {MAX_OPERATIONS:,} are run")
        self._outputs = list(block.outputs)
        self._constants: dict[str, Any] = {}
        self._steps: dict[Arithmetic, list[_Step]] = {}
        self._kept, self._prepared, budget = 0, 0, Budget()
        self._operations = [op for op in block.operations if not self._store(op, budget)]
        last_use = {
            binding.name: number
            for number, op in enumerate(self._operations)
            for argument in op.inputs.values()
            for binding in argument.arguments
        }
        self._fitting: set[tuple[object, ...]] = set()
        self._has_fixed_sizes = all(map(self._has_fixed_parameters, self._operations))
        self._last_used: list[list[str]] = [[] for _ in self._operations]
        for name, number in last_use.items():
            self._last_used[number].append(name)

    @property
    def image(self) -> ImageInput | None:
        """The image input; None where the package takes arrays."""
        features = [f for f in self.spec.description.input if f.type.HasField("imageType")]
        if not features:
            return None
        kind = features[0].type.imageType
        if kind.height < 1 or kind.width < 1 or kind.height * kind.width > MAX_PIXELS:
            raise PackageError(
                f"the package takes images of {kind.width} x {kind.height}; at most {MAX_PIXELS:,} pixels are known"
            )
        known = {number: name for name, number in type(kind).ColorSpace.items()}
        space = known.get(kind.colorSpace, f"number {kind.colorSpace}")
        return ImageInput(name=features[0].name, height=kind.height, width=kind.width, colour_space=space)

    @property
    def inputs(self) -> dict[str, list[int] | None]:
        """Declared shape of each input; None where it is open."""
        return {name: _declared_shape(kind) for name, kind in self._inputs.items()}

    @property
    def array_outputs(self) -> list[str]:
        """Names of the outputs that are arrays, in the order of the package: no class, no probabilities."""
        return [one.name for one in self.spec.description.output if one.type.HasField("multiArrayType")]

    @property
    def operations(self) -> dict[str, int]:
        """How often each operation occurs, constants left out."""
        count: dict[str, int] = {}
        for op in self._operations:
            count[op.type] = count.get(op.type, 0) + 1
        return dict(sorted(count.items()))

    @property
    def quantized_layers(self) -> dict[str, str]:
        """Name of what quantizes each layer's output, in order of execution, and the layer's kind."""
        makers = {output.name: op for op in self._operations for output in op.outputs}
        found = {}
        for op in self._operations:
            maker = makers.get(op.inputs["input"].arguments[0].name) if op.type == "quantize" else None
            if maker is not None and maker.type in _CLAMPS:
                maker = makers.get(maker.inputs["x"].arguments[0].name)
            if maker is not None and maker.type in _LAYERS:
                groups = maker.inputs["groups"].arguments if "groups" in maker.inputs else ()
                is_depthwise = any(int(self._bound(binding, self._constants, "conv")) > 1 for binding in groups)
                found[op.outputs[0].name] = "depthwise" if is_depthwise else _LAYERS[maker.type]
        return found

    def predict(
        self,
        inputs: Mapping[str, NDArray[Any]],
        arithmetic: Arithmetic = "declared",
        also: Iterable[str] = (),
    ) -> Prediction:
        """Run the program.

        Args:
            inputs: by name; an image is ``(H, W, 3)`` uint8 RGB, whatever colour space the package has.
            arithmetic: see `Arithmetic`.
            also: names of values inside the program that are given beside its outputs.

        Raises:
            PackageError: an input does not fit, or an operation fails, computes something else than it declares,
                or is not known.
        """
        import torch

        from ._mil_bounds import Budget

        values = ChainMap[str, Any]({}, self._constants)
        missing = sorted(self._inputs.keys() - inputs.keys())
        if missing:
            raise PackageError(f"the package takes {sorted(self._inputs)}; {missing} were not given")
        for name, kind in self._inputs.items():
            array = self._pixels(inputs[name]) if self.image and name == self.image.name else inputs[name]
            given = torch.from_numpy(np.ascontiguousarray(array))
            values[name] = _conform(given, _Declared.of(kind), f"input '{name}'", arithmetic)
        also = tuple(also)
        shapes = (*also, *(tuple(values[name].shape) for name in self._inputs))
        # other pixels take as much as those before; a third of the time would go into counting it
        budget = None if self._has_fixed_sizes and shapes in self._fitting else Budget()
        kept, computed = {*self._outputs, *also}, values.maps[0]
        steps = self._steps.setdefault(arithmetic, [])
        with torch.inference_mode():
            for number, (op, names) in enumerate(zip(self._operations, self._last_used, strict=True)):
                if number == len(steps):
                    steps.append(self._step(op, arithmetic, is_kept=True))
                self._run(steps[number], values, arithmetic, budget)
                for name in names:
                    if name not in kept:
                        computed.pop(name, None)
                if budget is not None:
                    _check_live(computed, op)
        self._fitting.add(shapes)
        undefined = [name for name in self._outputs if name not in values]
        if undefined:
            raise PackageError(f"the outputs {undefined} are computed by no operation")
        return self._prediction(values, also)

    def classify(
        self, image: NDArray[np.uint8], arithmetic: Arithmetic = "declared", also: Iterable[str] = ()
    ) -> Prediction:
        """`predict` on one ``(H, W, 3)`` uint8 RGB image of the package's own size."""
        if self.image is None:
            raise PackageError(f"the package takes {sorted(self._inputs)} and no image")
        return self.predict({self.image.name: image}, arithmetic, also)

    def _pixels(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """``(H, W, 3)`` uint8 RGB -> ``(1, C, H, W)`` float32, 0..255, in the package's colour space."""
        wanted = self.image
        assert wanted is not None
        shape = (wanted.height, wanted.width, 3)
        if image.shape != shape or image.dtype != np.uint8:
            raise PackageError(f"image '{wanted.name}' must be {shape} uint8 RGB, not {image.shape} {image.dtype}")
        if wanted.colour_space == "GRAYSCALE":
            grey = np.rint(image.astype(np.float32) @ np.array(_LUMA, np.float32))
            return grey[None, None]
        if wanted.colour_space not in _CHANNELS:
            raise PackageError(f"image '{wanted.name}' has the colour space {wanted.colour_space}, which is not known")
        return image[..., _CHANNELS[wanted.colour_space]].transpose(2, 0, 1)[None].astype(np.float32)

    def _has_fixed_parameters(self, op: Any) -> bool:
        """Whether all but the values that it computes with are constants, so that shapes follow from shapes."""
        return all(
            key in _DATA or binding.HasField("value") or binding.name in self._constants
            for key, argument in op.inputs.items()
            for binding in argument.arguments
        )

    def _count(self, sizes: Iterable[int]) -> None:
        """Constants that are kept; many can lie in one place of the file."""
        from ._mil_bounds import MAX_VALUES

        self._kept += sum(sizes)
        if self._kept > MAX_VALUES:
            raise PackageError(f"the constants have {self._kept:,} values and more; at most {MAX_VALUES:,} are read")

    def _store(self, op: Any, budget: Budget) -> bool:
        """Read a constant, or decompress one; whether `op` is such."""
        from ._mil_ops import CONSTANT_OPS

        if op.type == "const":
            if not op.outputs:
                raise PackageError("a constant has no name")
            self._constants[op.outputs[0].name] = self._value(op.attributes["val"], op.outputs[0].name)
            self._count([_size(self._constants[op.outputs[0].name])])
            return True
        if op.type in CONSTANT_OPS:
            self._run(self._step(op, "declared", is_kept=False), self._constants, "declared", budget)
            self._count(_size(self._constants.get(output.name)) for output in op.outputs)
            return True
        return False

    def _step(self, op: Any, arithmetic: Arithmetic, *, is_kept: bool) -> _Step:
        """All of an operation that does not depend on the input.

        Args:
            is_kept: for the predictions to come too; not where that would keep more than `_KEPT_VALUES` of constants.
        """
        import torch

        from ._mil_ops import OPS, quantize_unrounded

        label = shown(f"operation '{op.type}' ({op.outputs[0].name if op.outputs else 'without output'})")
        if op.type not in OPS:
            raise PackageError(f"{label} is not known to this executor, opset {self.opset}")
        if op.blocks:
            raise PackageError(f"{label} has nested blocks, which are not known to this executor")
        is_unrounded = (op.type, arithmetic) == ("quantize", "unrounded")
        step = _Step(
            type=op.type,
            label=label,
            function=quantize_unrounded if is_unrounded else OPS[op.type],
            computed_in=torch.float32 if arithmetic == "declared" else torch.float64,
            outputs=[(output.name, _Declared.of(output.type)) for output in op.outputs],
        )
        with _named(label):
            self._fix(step, op, is_kept=is_kept)
        return step

    def _fix(self, step: _Step, op: Any, *, is_kept: bool) -> None:
        """Convert what is constant among an operation's inputs, and note the others as to be read."""
        for key, argument in op.inputs.items():
            bindings, name = list(argument.arguments), key.rstrip("_")
            is_list = key == "values" or len(bindings) != 1
            if all(binding.HasField("value") or binding.name in self._constants for binding in bindings):
                given = [self._bound(binding, self._constants, op.type) for binding in bindings]
                count = sum(map(_size, given)) if is_kept else 0
                if self._prepared + count <= _KEPT_VALUES:
                    self._prepared += count
                    step.fixed[name] = _in_float(given if is_list else given[0], step.computed_in)
                    continue
            step.read.append((name, bindings, is_list))
        if op.type.startswith("constexpr_"):  # in the iOS16 form, constant operations keep theirs as attributes
            for key, value in op.attributes.items():
                if key != "name":
                    step.fixed[key.rstrip("_")] = _in_float(self._value(value, op.type), step.computed_in)

    def _run(
        self, step: _Step, values: MutableMapping[str, Any], arithmetic: Arithmetic, budget: Budget | None
    ) -> None:
        """Compute one operation and put its outputs into `values`."""
        from ._mil_bounds import cost

        with _named(step.label):
            arguments = step.fixed.copy()
            for name, bindings, is_list in step.read:
                given = [_in_float(self._bound(one, values, step.type), step.computed_in) for one in bindings]
                arguments[name] = given if is_list else given[0]
            if budget is not None:
                budget.add(cost(step.type, arguments), step.label)
            results = step.function(**arguments)
        results = results if isinstance(results, list) else [results]
        if len(results) != len(step.outputs):
            raise PackageError(f"{step.label} gives {len(results)} values, the package declares {len(step.outputs)}")
        for (name, declared), result in zip(step.outputs, results, strict=True):
            values[name] = _conform(result, declared, step.label, arithmetic)

    def _bound(self, binding: Any, values: Mapping[str, Any], owner: str) -> Any:
        """What an input is bound to: a value of its own, or one by name."""
        if binding.HasField("value"):
            return self._value(binding.value, owner)
        if binding.name not in values:
            raise PackageError(f"operation '{owner}' reads '{binding.name}', which nothing before it computes")
        return values[binding.name]

    def _value(self, value: Any, owner: str) -> Any:
        """A stored value: a tensor, a string, or a list of strings or numbers."""
        import torch

        if value.type.HasField("listType"):
            return [self._value(item, owner) for item in value.immediateValue.list.values]
        if not value.type.HasField("tensorType"):
            raise PackageError(f"'{owner}' holds a value of type {value.type.WhichOneof('type')}, which is not known")
        kind, shape = _type_name(value.type), _declared_shape(value.type)
        owner = shown(owner)
        if kind == "STRING":
            strings = list(value.immediateValue.tensor.strings.values)
            if not shape and not strings:
                raise PackageError(f"'{owner}' is a string without a value")
            return strings[0] if not shape else strings
        if kind not in _TYPES:
            raise PackageError(f"'{owner}' holds values of type {kind}, which is not known")
        if shape is None:
            raise PackageError(f"'{owner}' is a constant without a shape")
        from ._mil_bounds import MAX_VALUES

        if math.prod(shape) > MAX_VALUES:
            raise PackageError(
                f"'{owner}' declares {math.prod(shape):,} values, {shape}; at most {MAX_VALUES:,} are read"
            )
        try:
            if value.HasField("blobFileValue"):
                array = self._blob(value.blobFileValue, kind, math.prod(shape), owner)
            else:
                array = _immediate(value.immediateValue.tensor, kind, math.prod(shape), owner)
            return torch.from_numpy(array.copy()).reshape(shape)
        except (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError) as error:
            raise PackageError(f"'{owner}' cannot be read: {shown(error)}") from error

    def _blob(self, reference: Any, kind: str, count: int, owner: str) -> NDArray[Any]:
        name = reference.fileName.rpartition("/")[2]
        if name not in self._weights:
            raise PackageError(f"'{owner}' is in '{shown(reference.fileName)}', which the package does not hold")
        blob, offset = self._weights[name], reference.offset
        if offset + 64 > len(blob):
            raise PackageError(f"'{owner}': offset {offset} is outside '{name}' ({len(blob)} bytes): is it cut off?")
        magic, code, size, start = _BLOB_HEADER.unpack_from(blob, offset)
        _, bits, expected = _TYPES[kind]
        if magic != _BLOB_MAGIC or code != expected:
            raise PackageError(f"'{owner}': no {kind} values at offset {offset} of '{name}' (type code {code})")
        if size != math.ceil(count * bits / 8) or start + size > len(blob):
            raise PackageError(
                f"'{owner}': {count} values of {kind} do not fit {size} bytes at {start} of '{name}' "
                f"({len(blob)} bytes): is it cut off?"
            )
        return _unpacked(blob[start : start + size], kind, count)

    def _prediction(self, values: Mapping[str, Any], also: Iterable[str]) -> Prediction:
        """Outputs by the names that the package's description gives them."""
        import torch

        description = self.spec.description
        arrays = {
            name: values[name].to(torch.float32).numpy() if values[name].is_floating_point() else values[name].numpy()
            for name in (*self._outputs, *also)
            if isinstance(values[name], torch.Tensor)
        }
        label, probabilities = description.predictedFeatureName, description.predictedProbabilitiesName
        if label and label not in values:
            raise PackageError(f"the class is in '{shown(label)}', which no operation computes")
        if probabilities and not isinstance(values.get(probabilities), dict):
            raise PackageError(f"the probabilities are in '{shown(probabilities)}', which holds none")
        for feature in description.output:
            if feature.name not in self._outputs:
                raise PackageError(f"the description names an output '{feature.name}', which the program does not have")
        return Prediction(
            arrays=arrays,
            label=str(values[label]) if label else None,
            probabilities={str(k): v for k, v in values[probabilities].items()} if probabilities else {},
        )


def open_model(path: Path) -> Model:
    """The program in an ``.mlpackage`` folder, or in the payload of a Core ML-delegated ``.pte``.

    Raises:
        PackageError: it is neither, or it is damaged.
    """
    if path.is_dir():
        return Model(path)
    if not path.is_file():
        raise PackageError(f"'{path}' does not exist")
    if path.suffix != ".pte":
        raise PackageError(f"'{path}' is no .mlpackage folder and no .pte file")
    with tempfile.TemporaryDirectory() as folder:
        return Model(unpack_delegate(path, Path(folder)))


def unpack_delegate(path: Path, folder: Path) -> Path:
    """Write the one Core ML payload of an ExecuTorch program below `folder`; the path of its ``.mlpackage``."""
    try:
        program = _pte.read_program(path).program
        delegates = [d for plan in program.execution_plan for d in plan.delegates if d.id == "CoreMLBackend"]
        if len(delegates) != 1:
            raise PackageError(
                f"'{path}' has {len(delegates)} Core ML payloads, and programs with one are run: those of ios/executorch_coreml. "
                "Of all other artifacts `twinkeel evaluate` and `twinkeel parity` say what they give."
            )
        payload = bytes(program.backend_delegate_data[delegates[0].processed.index].data)
    except (ConversionError, LookupError) as error:
        raise PackageError(f"'{path}' is no readable ExecuTorch program: {error}") from error
    try:
        _unflatten(payload, folder)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise PackageError(f"the Core ML payload of '{path}' cannot be unpacked: {shown(error)}") from error
    return folder / "lowered_module" / "model.mlpackage"


def _unflatten(payload: bytes, folder: Path) -> None:
    """Write the files of ExecuTorch's flattened folder below `folder`.

    The format (`inmemory_filesystem.cpp` of ExecuTorch's Core ML backend): the files' contents, then JSON with its
    bytes reversed; the last of its nodes is the root. executorch 1.5's own reader writes to whatever path a name
    says, ``../..`` too.
    """
    tail = payload[: -_MAX_PAYLOAD_NODES - 1 : -1].decode("latin-1")
    try:
        end = json.JSONDecoder().raw_decode(tail)[1]  # the contents follow
    except RecursionError as error:
        raise ValueError("the list of files is nested too deeply") from error
    nodes = parse_json(tail[:end].encode("latin-1"))["nodes"]
    waiting, seen, written = [(len(nodes) - 1, folder)], 0, 0
    while waiting:
        number, parent = waiting.pop()
        node, seen = nodes[number], seen + 1
        name, region = node["name"], node["dataRegion"]
        if seen > len(nodes) or number < 0:
            raise ValueError("a folder holds itself")
        if not name or PurePosixPath(name).name != name or name == ".." or "\\" in name or ":" in name or "\0" in name:
            raise ValueError(f"'{shown(name)}' is no name of a file")
        path = parent / name
        if node["kind"] == 1:
            path.mkdir(parents=True)
            for key, child in node["children"].items():
                if nodes[child]["name"] != key:
                    raise ValueError(f"'{shown(key)}' has two names")
                waiting.append((child, path))
            continue
        start, size = region["offset"], region["size"]
        written += size
        if start < 0 or size < 0 or start + size > len(payload) or written > len(payload):
            raise ValueError(f"'{shown(name)}' has {size:,} bytes at {start:,}, the payload {len(payload):,}")
        path.write_bytes(payload[start : start + size])


def _read_spec(package: Path) -> Any:
    from coremltools.proto import Model_pb2
    from google.protobuf.message import DecodeError

    path = _item(package, "rootModelIdentifier")
    spec = Model_pb2.Model()
    try:
        spec.ParseFromString(read_bytes(path, MAX_SPEC_BYTES))
    except (OSError, DecodeError) as error:
        raise PackageError(f"cannot read '{path}': {error}") from error
    if spec.WhichOneof("Type") != "mlProgram":
        raise PackageError(f"'{package}' holds a {spec.WhichOneof('Type')} and no ML Program")
    return spec


def _item(package: Path, key: str) -> Path:
    """The file that ``Manifest.json`` names."""
    if not (package / "Manifest.json").exists():
        raise PackageError(
            f"'{package}' is no .mlpackage: it has no Manifest.json. Was all of it copied, a folder with folders in it?"
        )
    try:
        manifest = read_json(package / "Manifest.json")
        entry = manifest["itemInfoEntries"][manifest[key]]["path"]
        path = (package / "Data" / str(entry)).resolve()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise PackageError(f"'{package}' is no .mlpackage: {type(error).__name__}: {shown(error)}") from error
    if not path.is_relative_to(package.resolve()):
        raise PackageError(f"'{package}' names '{shown(entry)}', which is outside of it")
    return path


def _read_weights(package: Path) -> dict[str, bytes]:
    folder = _item(package, "rootModelIdentifier").parent / "weights"
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob("*.bin")) if folder.is_dir() else ():
        try:
            if not path.resolve().is_relative_to(package.resolve()):
                raise PackageError(f"'{path}' is a link that leads out of the package")
            found[path.name] = read_bytes(path, MAX_WEIGHT_BYTES - sum(map(len, found.values())))
        except (OSError, RuntimeError) as error:
            raise PackageError(f"cannot read '{path}': {error}") from error
    return found


def _immediate(tensor: Any, kind: str, count: int, owner: str) -> NDArray[Any]:
    """A value written into the protobuf itself. float16 and narrow integers are raw bytes there."""
    field = tensor.WhichOneof("value")
    if field == "bytes":
        return _unpacked(tensor.bytes.values, kind, count)
    if field not in ("floats", "ints", "bools", "longInts"):
        raise PackageError(f"'{owner}' holds {field}, which is not known")
    given = np.array(getattr(tensor, field).values)
    array = given.astype(_TYPES[kind][0])
    if field in ("ints", "longInts") and not np.array_equal(given, array):
        raise PackageError(f"'{owner}' holds numbers that are no {kind}")
    if array.size != count:
        raise PackageError(f"'{owner}' holds {array.size} values where its type says {count}")
    return array


def _unpacked(raw: bytes, kind: str, count: int) -> NDArray[Any]:
    """Stored bytes as an array of `count` values; int4 and the like are packed from the lowest bit on."""
    import torch

    from ._mil_ops import unpack_bits

    stored, bits, _ = _TYPES[kind]
    if len(raw) != math.ceil(count * bits / 8):
        raise PackageError(f"{len(raw)} bytes cannot hold {count} values of {kind}")
    if bits >= 8:
        return np.frombuffer(raw, stored)
    values = unpack_bits(torch.frombuffer(bytearray(raw), dtype=torch.uint8), bits)[:count].numpy() if raw else _NONE
    if kind == "INT4":
        values = ((values.astype(np.int8) ^ 8) - 8).astype(np.int8)
    return values


def _size(value: Any) -> int:
    """Values of a tensor."""
    import torch

    return value.numel() if isinstance(value, torch.Tensor) else 0


def _check_live(computed: Mapping[str, Any], op: Any) -> None:
    """Raise a PackageError where the values in use are too many together."""
    from ._mil_bounds import MAX_VALUES

    live = sum(map(_size, computed.values()))
    if live > MAX_VALUES:
        raise PackageError(
            f"at operation '{shown(op.type)}' {live:,} values are in use; at most {MAX_VALUES:,} are kept"
        )


def _type_name(kind: Any) -> str:
    known = type(kind.tensorType).DESCRIPTOR.fields_by_name["dataType"].enum_type.values_by_number
    number = kind.tensorType.dataType
    return str(known[number].name) if number in known else f"number {number}"


def _declared_shape(kind: Any) -> list[int] | None:
    """The declared sizes; None where one is open."""
    if len(kind.tensorType.dimensions) > _MAX_RANK:
        count = len(kind.tensorType.dimensions)
        raise PackageError(f"a type has {count:,} dimensions; at most {_MAX_RANK} are known")
    sizes = [d.constant.size if d.HasField("constant") else -1 for d in kind.tensorType.dimensions]
    return None if -1 in sizes else sizes


@contextmanager
def _named(label: str) -> Iterator[None]:
    """Whatever a damaged program leads torch into is an error of the operation that is called `label`."""
    try:
        yield
    except PackageError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:  # a damaged program gives functions anything
        raise PackageError(f"{label}: {str(error)[:500]}") from error


def _in_float(value: Any, dtype: Any) -> Any:
    """Float tensors in the type that operations compute in."""
    import torch

    if isinstance(value, list):
        return [_in_float(item, dtype) for item in value]
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _conform(result: Any, declared: _Declared, label: str, arithmetic: Arithmetic) -> Any:
    """The result in its declared type; its shape must be the declared one."""
    import torch

    if not isinstance(result, torch.Tensor):
        return result
    if declared.kind != "tensorType":
        raise PackageError(f"{label} gives a tensor, the package declares a {declared.kind}")
    name, dtype = declared.name, declared.dtype
    if declared.shape is not None and result.shape != declared.shape:
        raise PackageError(f"{label} gives shape {list(result.shape)}, the package declares {list(declared.shape)}")
    if dtype is None:
        raise PackageError(f"{label} declares values of type {name}, which is not known")
    if dtype.is_floating_point:
        if not result.is_floating_point():
            raise PackageError(f"{label} gives {result.dtype}, the package declares {name}")
        return result.to(dtype) if arithmetic == "declared" else result
    if arithmetic == "unrounded" and name in ("INT8", "UINT8") and result.is_floating_point():
        return result
    converted = result.to(dtype)
    if result.is_floating_point() and not bool((converted == result).all()):
        if bool(result.isnan().any()):
            raise PackageError(
                f"{label} is given what is no number: a value before it is beyond float16, which ends at 65,504"
            )
        if bool((result != result.trunc()).any()):
            raise PackageError(f"{label} gives fractions, the package declares {name}")
        raise PackageError(f"{label} gives {result.abs().max():.6g} and the like, which no {name} holds")
    return converted
