"""What LiteRT's compiled models do not tell of themselves: the steps of int8 outputs, read from the file."""

from __future__ import annotations

from pathlib import Path

from twinkeel.pipeline.errors import ConversionError

from .. import litert


def output_steps(path: Path, count: int) -> list[tuple[float, int] | None]:
    """Scale and zero point of each output that is int8, in the order of the file; None of those in float32.

    Args:
        count: outputs that the file is expected to have.

    Raises:
        ConversionError: it is no LiteRT file, or has other outputs.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph = litert.read(path).subgraphs[0]
    tensors = [graph.tensors[number] for number in graph.outputs]
    kinds = {schema.TensorType.FLOAT32, schema.TensorType.INT8}
    if len(tensors) != count or not {tensor.type for tensor in tensors} <= kinds:
        raise ConversionError(
            f"'{path}' has {len(tensors)} outputs of types {sorted({t.type for t in tensors})}; {count} of float32 or int8 are "
            "expected. Build again."
        )
    return [
        (float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0]))
        if tensor.type == schema.TensorType.INT8
        else None
        for tensor in tensors
    ]
