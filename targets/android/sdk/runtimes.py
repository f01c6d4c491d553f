"""Which versions the kit's libraries have, and which of the runtimes ran the artifact when it was built: here alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A runtime of Android, and the same in Python.

    Attributes:
        title: as it is called.
        module: Maven coordinates without the version.
        version: of these.
        package: distribution whose runtime ran the artifact when it was built.
        accelerators: by accelerator, what an app adds to use it, of the same version.
    """

    title: str
    module: str
    version: str
    package: str
    accelerators: tuple[tuple[str, str], ...] = ()

    @property
    def coordinates(self) -> str:
        return f"{self.module}:{self.version}"


RUNTIMES = {
    "litert": Runtime(
        title="LiteRT",
        module="com.google.ai.edge.litert:litert",
        version="2.3.0",
        package="ai-edge-litert",
        accelerators=(("GPU", "com.google.ai.edge.litert:litert-gpu"),),
    ),
    "executorch": Runtime(
        title="ExecuTorch", module="org.pytorch:executorch-android", version="1.5.1", package="executorch"
    ),
}
"""Each of the version of its Python package that `twinkeel.pipeline.verified` asks for: a test compares them."""

OF_THE_LIBRARY = {
    "coroutines": "org.jetbrains.kotlinx:kotlinx-coroutines-android",
    "exifinterface": "androidx.exifinterface:exifinterface",
    "kotlin-test": "org.jetbrains.kotlin:kotlin-test-junit",
    "androidx-test-runner": "androidx.test:runner",
    "androidx-test-junit": "androidx.test.ext:junit",
}
"""Maven coordinates, without the version, of what a kit's library and its tests need beside the runtime."""

LIBRARIES = {
    "android-gradle-plugin": "9.4.0",
    "kotlin": "2.4.20",
    "kotlin-test": "2.4.20",
    "coroutines": "1.11.0",
    "exifinterface": "1.4.1",
    "activity": "1.13.0",
    "camera": "1.6.1",
    "compose": "2026.09.00",
    "lifecycle": "2.11.0",
    "androidx-test-runner": "1.7.0",
    "androidx-test-junit": "1.3.0",
}
"""Versions, by name in the version catalog or in `OF_THE_LIBRARY`."""


def coordinates(name: str) -> str:
    """Maven coordinates of one of `OF_THE_LIBRARY`."""
    return f"{OF_THE_LIBRARY[name]}:{LIBRARIES[name]}"
