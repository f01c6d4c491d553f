"""Core ML itself, on a Mac."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import _mlprogram, mil_executor


def predict(path: Path, images: NDArray[np.uint8], unit: str) -> NDArray[np.float32]:
    """Logits ``(N, classes)`` of images ``(N, H, W, 4)`` uint8 RGBA, computed by Core ML.

    Of an ExecuTorch program, its Core ML payload is run; ExecuTorch itself is not.

    Args:
        unit: name of a `coremltools.ComputeUnit`.
    """
    import coremltools
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        package = path if path.is_dir() else mil_executor.unpack_delegate(path, Path(folder))
        model = coremltools.models.MLModel(str(package), compute_units=coremltools.ComputeUnit[unit])
        description = model.get_spec().description
        name = description.input[0].name
        is_image = description.input[0].type.HasField("imageType")
        output = _mlprogram.LOGITS if is_image else description.output[0].name
        parts = []
        for pixels in images:
            given = Image.fromarray(pixels[..., :3], "RGB") if is_image else pixels[None].astype(np.float32)
            parts.append(np.asarray(model.predict({name: given})[output], np.float32).reshape(1, -1))
    logits: NDArray[np.float32] = np.concatenate(parts)
    return logits
