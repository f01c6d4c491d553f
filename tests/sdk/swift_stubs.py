"""Which stub of a framework imports which, for the Swift packages that the tests make."""

from __future__ import annotations

_PICTURES = {
    "StubRuntime": [],
    "CoreGraphics": [],
    "ImageIO": ["CoreGraphics"],
    "CoreVideo": ["CoreGraphics"],
    "QuartzCore": [],
    "UIKit": ["CoreGraphics", "QuartzCore"],
}
_SAMPLES = {
    "SwiftUI": ["UIKit"],
    "PhotosUI": ["SwiftUI"],
    "CoreMedia": ["CoreVideo"],
    "AVFoundation": ["CoreMedia", "QuartzCore"],
}
_CORE_AI = {
    "CoreAIRuntime": ["StubRuntime"],
    "CoreAIDelegates": ["CoreAIRuntime", "StubRuntime"],
    "CoreAI": ["CoreAIDelegates", "CoreAIRuntime"],
}


def stubbed(*frameworks: str, samples: bool = True) -> dict[str, list[str]]:
    """Imports by the name of a stub: of what all kits see, of what their samples show with, and of the runtimes' frameworks."""
    found = _PICTURES | (_SAMPLES if samples else {})
    for name in frameworks:
        found |= _CORE_AI if name == "CoreAI" else {name: ["CoreVideo", "StubRuntime"]}
    return found
