"""ExecuTorch with the Core ML delegate: one cast of the bytes, then one Core ML package with everything else."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from twinkeel.pipeline.errors import ConversionError, PackageError
from twinkeel.pipeline.files import digest
from twinkeel.pipeline.program import LayerValue, Loaded, Program, Trace, example_inputs
from twinkeel.pipeline.reading import shown

from .. import _executorch, _layers, _pte
from ..runtimes import coreml as runtime
from ..runtimes import packed
from . import _mlprogram, mil_executor

NAME = "ios/executorch_coreml"
SUFFIX = ".pte"
PRECISIONS = ("fp16", "int8")
KERNELS = "coreml"
PACKAGES = ("executorch", "coremltools", "torch", "torchao")
EVIDENCE = "reference executor"
RUNTIME = runtime
REFERENCES = {"fp16": "fp16-all", "int8": "int8-fp16"}
READS: tuple[str, ...] = ("minimum_ios",)
NEEDS = {"fp16": 17, "int8": 17}
TWINS = ("int8",)

_CAST = "dim_order_ops::_to_dim_order_copy"
_LEFT_OUTSIDE = ["aten._to_copy.default", "dim_order_ops._to_dim_order_copy.default"]
"""Core ML takes no bytes as arrays, so the cast to float32 stays with ExecuTorch's own kernels."""


def build(program: Program, precision: str, out: Path) -> Path:
    """Activations are float16."""
    return _lower(program, program.quantized if precision == "int8" else program.folded, out, is_half=True)


def build_twin(program: Program, precision: str, out: Path) -> Path:
    """The same program in float32, for the check of `TWINS`; it is not shipped."""
    return _lower(program, program.quantized, out, is_half=False)


def load(path: Path) -> Loaded:
    """The program's own instructions here, its Core ML payload on the reference executor.

    Raises:
        PackageError: there is anything but the cast and one call of Core ML.
    """
    model, order = _payload(path)

    def run(*inputs: NDArray[Any], arithmetic: mil_executor.Arithmetic = "declared") -> NDArray[np.float32]:
        arrays = model.predict(_named(order, inputs), arithmetic).arrays
        return packed([arrays[one.name] for one in model.spec.description.output])

    return Loaded(run=run, exact=partial(run, arithmetic="exact"), unrounded=partial(run, arithmetic="unrounded"))


def payload(path: Path, folder: Path) -> Path:
    """What Core ML is given of a program: the package inside, written below `folder`. ExecuTorch itself is not run."""
    return mil_executor.unpack_delegate(path, folder)


def trace(path: Path) -> Trace:
    """The layers of an int8 program's payload in exact arithmetic."""
    model, order = _payload(path)
    kinds = model.quantized_layers

    def traced(*inputs: NDArray[Any]) -> list[LayerValue]:
        arrays = model.predict(_named(order, inputs), "exact", kinds).arrays
        return [LayerValue(kind=kind, steps=_layers.signed(arrays[name])) for name, kind in kinds.items()]

    return traced


def operators(path: Path) -> dict[str, int]:
    """Instructions of the program, and behind ``coreml:`` the operations of the payload."""
    inside = mil_executor.open_model(path).operations
    return _executorch.operators(path) | {f"coreml:{name}": count for name, count in inside.items()}


def _named(order: dict[str, int], inputs: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: inputs[number].astype(np.float32) for name, number in order.items()}


def _payload(path: Path) -> tuple[mil_executor.Model, dict[str, int]]:
    """The Core ML program inside, and which of the program's inputs each of its own is, by name."""
    order = _check_instructions(path)
    with tempfile.TemporaryDirectory() as folder:
        model = mil_executor.Model(mil_executor.unpack_delegate(path, Path(folder)))
    inputs, outputs = model.spec.description.input, model.spec.description.output
    if len(inputs) != len(order) or not outputs:
        raise PackageError(
            f"the Core ML payload of '{path}' has {len(inputs)} inputs and {len(outputs)} outputs, not {len(order)} and some"
        )
    return model, {one.name: number for one, number in zip(inputs, order, strict=True)}


def _lower(program: Program, module: Any, out: Path, *, is_half: bool) -> Path:
    import coremltools
    import torch
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner
    from executorch.exir import to_edge_transform_and_lower

    specs = CoreMLBackend.generate_compile_specs(
        minimum_deployment_target=_mlprogram.deployment_target(program.minimum_ios),
        compute_precision=coremltools.precision.FLOAT16 if is_half else coremltools.precision.FLOAT32,
        pass_names=list(_mlprogram.pass_pipeline().passes),
    )
    partitioner = CoreMLPartitioner(compile_specs=specs, skip_ops_for_coreml_delegation=_LEFT_OUTSIDE)
    exported = torch.export.export(module, example_inputs(program.contract), strict=False)
    with _reproducible_payload(), _mlprogram.validated_once():
        edge = to_edge_transform_and_lower(exported, partitioner=[partitioner])
    out.write_bytes(edge.to_executorch().buffer)
    return out


def _check_instructions(path: Path) -> list[int]:
    """Bytes -> cast to float32 -> Core ML -> outputs, each reading what the one before wrote; which input of the program each
    input of Core ML is."""
    from executorch.exir.scalar_type import ScalarType
    from executorch.exir.schema import DelegateCall, KernelCall

    try:
        plan = _pte.read_program(path).program.execution_plan[0]
        calls = [instruction.instr_args for instruction in plan.chains[0].instructions]
        kinds = [
            plan.operators[call.op_index].name if isinstance(call, KernelCall) else type(call).__name__
            for call in calls[:10]
        ]
    except (ConversionError, LookupError) as error:
        raise PackageError(f"'{path}' is no readable ExecuTorch program: {error}") from error
    if kinds != [_CAST, "DelegateCall"]:
        raise PackageError(f"'{path}' runs {[shown(kind) for kind in kinds]}; a cast and one call of Core ML are known")
    cast, delegate = calls[:2]
    assert isinstance(cast, KernelCall) and isinstance(delegate, DelegateCall)
    if not cast.args:
        raise PackageError(f"'{path}' has a cast without arguments")
    source, result = cast.args[0], cast.args[-1]
    given = [result if number == source else number for number in plan.inputs]
    read, written = delegate.args[: len(given)], delegate.args[len(given) :]
    if plan.inputs[:1] != [source] or sorted(read) != sorted(given) or written != plan.outputs:
        raise PackageError(f"'{path}': Core ML does not read the cast pixels, or does not write the output")
    values = [plan.values[number].val if 0 <= number < len(plan.values) else None for number in (source, result)]
    if [getattr(value, "scalar_type", None) for value in values] != [ScalarType.BYTE, ScalarType.FLOAT]:
        raise PackageError(f"'{path}' does not cast bytes to float32")
    return [given.index(number) for number in read]


@contextmanager
def _reproducible_payload() -> Iterator[None]:
    """Let ExecuTorch's Core ML backend write a package that is the same each time, and no debug information.

    executorch 1.5 puts a random identifier, the package with its date and random names, and a map of operations
    that is larger than the program into the payload. Can go when it offers the choice.
    """
    from executorch.backends.apple.coreml import executorchcoreml
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.exir.backend.backend_details import PreprocessResult

    original = CoreMLBackend.__dict__["preprocess_model"]

    def preprocess_model(mlmodel: Any, model_type: Any) -> Any:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "lowered_module"
            spec = mlmodel.get_spec()
            package = folder / "model.mlpackage"
            _mlprogram.write_package(spec, Path(mlmodel.weights_dir) / "weight.bin", package)
            described = {
                "inputNames": [feature.name for feature in spec.description.input],
                "outputNames": [feature.name for feature in spec.description.output],
                # a phone keeps compiled programs by this name, so other weights must give another one
                "identifier": "executorch_" + _mlprogram.identifier(digest(package).encode()),
            }
            (folder / "metadata.json").write_text(json.dumps(described))
            return PreprocessResult(processed_bytes=executorchcoreml.flatten_directory_contents(str(folder)))

    CoreMLBackend.preprocess_model = staticmethod(preprocess_model)
    try:
        yield
    finally:
        CoreMLBackend.preprocess_model = original
