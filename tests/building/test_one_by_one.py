"""Models whose code says how many images there are: built from given weights, and refused where they cannot be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from twinkeel.pipeline.errors import ConversionError
from twinkeel.pipeline.stages import several

FACTORY = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.place = nn.Parameter(torch.randn(1, 8, 256))
        self.token = nn.Parameter(torch.randn(1, 2, 256))
        self.fc = nn.Linear(18, outputs)

    def forward(self, x):
        x = torch.relu(self.conv(x)).reshape(1, 8, -1) + self.place
        x = torch.cat([x[:, :4], self.token, x, x[:, :4]], 1)
        return self.fc(LAST)


def create(num_classes=10):
    return Net(num_classes)
"""
TOML = """
[model]
factory = "net.py:create"
resolution = 32
[data]
source = "images"
path = "in"
[weights]
from_factory = true
[quantize]
minutes = 0
[targets]
"android/onnx" = ["fp32", "int8"]
"""


@pytest.fixture
def written(tmp_path):
    """Write a model that ends in this expression, images, and the configuration, with something (before, after) replaced."""
    random = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for number in range(24):
        small = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8))
        small.resize((32, 32), Image.Resampling.BICUBIC).save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "names.txt").write_text("".join(f"c{n}\n" for n in range(10)))

    def write(last, *replaced):
        text = TOML.replace('path = "in"', 'path = "in"\nlabels = "names.txt"')
        for before, after in replaced:
            assert before in text
            text = text.replace(before, after)
        (tmp_path / "net.py").write_text(FACTORY.replace("LAST", last))
        (tmp_path / "twinkeel.toml").write_text(text)
        return tmp_path / "twinkeel.toml"

    return write


def test_given_weights_are_built_one_image_at_a_time(here, run_cli, written, tmp_path):
    path = written("x.mean(2).view(1, -1)")
    result = run_cli("build", "android", "-c", path, "-o", tmp_path / "out", "--store", "none", "--jobs", "1")
    assert result.exit_code == 0, result.output
    # 12 images cannot tell whether int8 keeps nine answers in ten, so that its artifact stays open
    assert "nothing missed, 1 of 2 artifacts with an open verdict" in result.output, result.output


@pytest.mark.parametrize(
    ("last", "replaced", "words"),
    [
        ("x.mean(2)[0][None]", (), r"calibration gives it several together: of two images it gives 10 values, of each 10.*flatten\(1\)"),
        (
            "x.mean(2).view(1, -1)",
            (('source = "images"\npath = "in"\nlabels = "names.txt"', 'source = "digits"'), ("[weights]\nfrom_factory = true", "")),
            r"takes one image alone, and training gives it several together: shape '\[1, 8, -1\]'|training gives it several",
        ),
    ],
    ids=["given", "trained"],
)  # fmt: skip
def test_what_cannot_be_is_one_clear_error(run_cli, written, tmp_path, last, replaced, words):
    path = written(last, *replaced)
    result = run_cli("build", "android", "-c", path, "-o", tmp_path / "out", "--store", "none", "--jobs", "1")
    assert isinstance(result.exception, ConversionError), result.output
    with pytest.raises(ConversionError, match=words):
        raise result.exception
    assert not (tmp_path / "out").exists()


class Mixing(nn.Module):
    """One image changes what is said of the other."""

    def forward(self, pixels):
        x = pixels.float()
        return x.mean((1, 2)) - x.mean()


class Alone(nn.Module):
    def forward(self, pixels):
        return pixels.float().flatten(1)


class Unknown(nn.Module):
    def forward(self, pixels):
        return torch.full((len(pixels), 2), torch.nan)


def test_what_mixes_images_is_found_and_what_does_not_is_left_alone():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 4), np.uint8)
    assert "beside another image it gives something else" in several.why_not(Mixing(), images)
    assert several.why_not(Alone(), images) == several.why_not(Unknown(), images) == ""
