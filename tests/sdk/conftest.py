"""Contents of kits, and the compilers that check what is generated from them."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def kit_contents(default_build):
    """Contents of a kit of the default build, by platform and sections of the configuration."""
    from twinkeel.pipeline import manifest, sdk
    from twinkeel.pipeline.config import Config

    def make(platform, **sections):
        config, folder = Config.model_validate(sections), default_build.folders[platform]
        settings = config.android if platform == "android" else config.ios
        pair = f"{platform}/{settings.sdk}", settings.sdk_precision
        content, golden = manifest.read_manifest(folder), manifest.read_golden(folder / "golden")
        return sdk.contents(config, content, golden, folder, pair)

    return make
