"""Which versions were verified together, in one place: `pyproject.toml` asks for the same, and a test compares them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PYTHON = (3, 11), (3, 13)
"""From this one on, and before that one."""

REQUIRED: Mapping[str, str] = {
    "click": ">=8.1",
    "cryptography": ">=44",
    "cyclonedx-python-lib": ">=9",
    "fsspec": ">=2024.6",
    "jinja2": ">=3.1",
    "numpy": ">=2",
    "lazy-loader": ">=0.4",
    "pillow": ">=11",
    "platformdirs": ">=4",
    "psutil": ">=6",
    "pyyaml": ">=6",
    "pydantic": ">=2.11",
    "rich": ">=13",
    "safetensors": ">=0.5",
    "scikit-learn": ">=1.5",
    "scipy": ">=1.13",
    "matplotlib": ">=3.9",
    "torch": "==2.13.0",
    "torchao": "==0.18.0",
    "executorch": "==1.5.1",
    "litert-torch": "==0.10.0",
    "ai-edge-quantizer": "==0.10.0",
    "ai-edge-litert": "==2.3.0",
    "coremltools": "==9.0",
    "onnx": "==1.23.2",
    "onnxscript": ">=0.7",
    "onnxruntime": "==1.32.0",
}
"""By distribution, what is asked of its version."""


@dataclass(frozen=True, kw_only=True)
class Extra:
    """Distributions that a build can do without.

    Attributes:
        packages: by distribution, what is asked of its version; empty for any.
        gives: what there is with them.
    """

    packages: Mapping[str, str]
    gives: str


IMPORTS: Mapping[str, tuple[str, ...]] = {
    "ai-edge-litert": ("ai_edge_litert.interpreter",),
    "coreai-core": ("coreai.authoring.asset", "coreai.runtime"),
    "cryptography": ("cryptography.hazmat.primitives.asymmetric.ed25519",),
    "cyclonedx-python-lib": ("cyclonedx",),
    "executorch": ("executorch.runtime",),
    "pillow": ("PIL.Image",),
    "pyyaml": ("yaml",),
    "scikit-learn": ("sklearn",),
}
"""By distribution, the modules that load what is native of it; of the others one of its own name."""

EXTRAS: Mapping[str, Extra] = {
    "keras": Extra(packages={"h5py": ">=3.11"}, gives="reads Keras's .h5 checkpoints"),
    "heic": Extra(packages={"pillow-heif": ">=1.0"}, gives="reads HEIC, as iPhones make photos"),
    "parquet": Extra(packages={"pyarrow": ">=18"}, gives="evaluate writes the answers by image as Parquet"),
    "timm": Extra(packages={"timm": ">=1.0"}, gives="networks by name: model.name = 'timm:NAME'"),
    "torchvision": Extra(packages={"torchvision": ""}, gives="networks by name: model.name = 'torchvision:NAME'"),
    "coreai": Extra(
        packages={"coreai-core": "==1.0.0b3", "coreai-torch": "==0.4.3"},
        gives="ios/coreai: Core AI packages for iOS 27, run by Apple's own runtime",
    ),
    "cluster": Extra(
        packages={"dask": ">=2025.1", "distributed": ">=2025.1", "s3fs": ">=2025.1"},
        gives="sweep --scheduler: the jobs on a Dask cluster, the store on S3",
    ),
}
"""By the name in ``twinkeel[NAME]``."""
