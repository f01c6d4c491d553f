"""The bill of materials of a finished folder: CycloneDX 1.6, the same bytes from equal builds."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import Project

FILE = "sbom.cdx.json"
_NAMESPACE = uuid.UUID("f0a1f9b6-5a0f-5c53-9f1c-4d0b5a8a4d6e")  # of the serial numbers, which name contents


def write(manifest: Mapping[str, Any], project: Project, folder: Path) -> None:
    """Write ``sbom.cdx.json``: the model, its artifacts with their hashes, and the packages that made them.

    The serial number follows from the hashes; there is no time in it, for equal builds give equal files.
    """
    from cyclonedx.factory.license import LicenseFactory
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    licenses = [LicenseFactory().make_from_string(project.license)] if project.license else []
    model = Component(
        name=project.name,
        version=project.version,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="model",
        description=f"{manifest['model']['name']}, {manifest['model']['weights']}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=manifest["model"]["weights_sha256"])],
        licenses=licenses,
    )
    artifacts = [
        Component(
            name=entry["path"],
            version=project.version,
            type=ComponentType.FILE,
            bom_ref=entry["path"],
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=entry["sha256"])],
            licenses=licenses,
            properties=[
                Property(name="twinkeel:target", value=entry["target"]),
                Property(name="twinkeel:precision", value=entry["precision"]),
            ],
        )
        for entry in manifest["artifacts"]
    ]
    tools = [
        Component(name=name, version=version, type=ComponentType.LIBRARY, purl=PackageURL("pypi", None, name, version))
        for name, version in manifest["versions"].items()
    ]
    hashes = " ".join(entry["sha256"] for entry in manifest["artifacts"])
    bom = Bom(serial_number=uuid.uuid5(_NAMESPACE, f"{manifest['model']['weights_sha256']} {hashes}"))
    bom.metadata.timestamp = None  # type: ignore[assignment]
    bom.metadata.component = model
    bom.metadata.tools.components.update(tools)
    bom.components.update(artifacts)
    bom.register_dependency(model, artifacts)
    (folder / FILE).write_text(JsonV1Dot6(bom).output_as_string(indent=2) + "\n", encoding="utf-8")
