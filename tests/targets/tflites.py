"""LiteRT files that hold nothing but their outputs: for kits whose runtime is a stub."""

from __future__ import annotations

ZERO_POINT = 5
"""Of an int8 output; the harnesses know it too."""


def write(path, outputs, is_int8):
    """A file with `outputs`, (shape, scale) each: the first int8 where `is_int8`, the others float32."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    graph = schema.SubGraphT(tensors=[], inputs=[], outputs=list(range(len(outputs))), operators=[])
    for place, (shape, scale) in enumerate(outputs):
        kind = schema.TensorType.INT8 if is_int8 and place == 0 else schema.TensorType.FLOAT32
        steps = schema.QuantizationParametersT(scale=[scale], zeroPoint=[ZERO_POINT])
        tensor = schema.TensorT(shape=[1, *shape], type=kind, buffer=0, name=f"output_{place}".encode())
        tensor.quantization = steps if kind == schema.TensorType.INT8 else None
        graph.tensors.append(tensor)
    model = schema.ModelT(version=3, subgraphs=[graph], buffers=[schema.BufferT()], operatorCodes=[])
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
