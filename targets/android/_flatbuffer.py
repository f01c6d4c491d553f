"""A .tflite file written with less beside its weights; nothing that a runtime computes with changes.

litert-torch 0.10 gives each weight and each bias a scale and a 64-bit zero point per output channel, and all of the
zero points are 0. At width 1.0 they are 280 kB of a 4 MB file. Kernels and XNNPACK's delegate check that they are there,
one for each channel, but a flatbuffer may refer to the same bytes from many places.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_FORCE_ALIGN = 16
"""Bytes, of the content of buffers. The schema asks for it; what is generated from it for Python does not."""
_CLASS = re.compile(r"(?:\w+\.)+(?:[^\W_]+_)?")
"""Of a module in a name: ``torch.nn.modules.conv.Conv2d_0`` is the module ``0``."""


def shrink(path: Path) -> Path:
    """Write a file anew, in place: each list of numbers once, and tensors named by their modules' paths alone.

    The file must hold its buffers' contents inside the flatbuffer, as litert-torch writes them.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(path.read_bytes())
    for graph in model.subgraphs:
        _shorten_names(graph.tensors)
    path.write_bytes(_packed(model))
    return path


def _shorten_names(tensors: list[Any]) -> None:
    """``torch.nn.modules.container.Sequential_features/torch.nn.modules.conv.Conv2d_0;1`` -> ``features/0;1``.

    litert-torch ends the path of each module with a semicolon. Names stay as they are where two would become one.
    """
    names = [t.name.decode() for t in tensors]
    short = [_CLASS.sub("", name) if ";" in name else name for name in names]
    if len(set(short)) == len(set(names)):
        for tensor, name in zip(tensors, short, strict=True):
            tensor.name = name.encode()


def _packed(model: Any) -> bytes:
    import flatbuffers
    import numpy as np

    class Builder(flatbuffers.Builder):  # type: ignore[misc]
        """Writes equal arrays once, contents of buffers apart: those stay one for each buffer, and aligned."""

        def __init__(self) -> None:
            super().__init__(1 << 20)
            self.written: dict[tuple[str, bytes], int] = {}

        def CreateNumpyVector(self, x: Any) -> int:  # the name is the library's
            if x.dtype == np.uint8:
                self.Prep(_FORCE_ALIGN, x.nbytes)
                return int(super().CreateNumpyVector(x))
            key = (x.dtype.str, x.tobytes())
            if key not in self.written:
                self.written[key] = super().CreateNumpyVector(x)
            return self.written[key]

    builder = Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
