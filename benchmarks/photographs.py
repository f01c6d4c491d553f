"""Real images for benchmarks from packages of Debian: `tuxpaint-stamps-default` (cut-out photographs with alpha),
`mate-backgrounds` and `gnome-backgrounds` (photographs, and pictures of a desktop).

    for p in tuxpaint-stamps-default mate-backgrounds gnome-backgrounds; do apt-get download $p; done
    for d in *.deb; do dpkg -x $d debs; done
    python benchmarks/photographs.py debs images --count 400 --resolution 224

writes PNGs into one folder without classes. They belong to no class of ImageNet in particular: they show how much of a
float network's answers is kept, not how often it is right. The same seed gives the same images.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DRAWN = ("symbols",)
"""Folders of stamps that are no photographs: letters, coins, shapes."""
SMALLEST = 200
"""Pixels of the longer side of a stamp."""
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def stamps(root: Path) -> list[Path]:
    """Cut-out photographs below a folder, in one order everywhere."""
    found = sorted((root / "usr/share/tuxpaint/stamps").rglob("*.png"))
    found = [path for path in found if not set(DRAWN).intersection(path.relative_to(root).parts)]
    return [path for path in found if max(_size(path)) >= SMALLEST]


def backgrounds(root: Path) -> list[Path]:
    found = sorted((root / "usr/share/backgrounds").rglob("*.*"))
    return [path for path in found if path.suffix.lower() in _SUFFIXES and min(_size(path)) >= 400]


def images(root: Path, count: int, resolution: int, seed: int = 0) -> NDArray[np.uint8]:
    """``(count, resolution, resolution, 3)`` uint8 RGB: of six images three are stamps on white, two stamps on a part of a
    background, one a part of a background alone; no stamp twice before all were there.

    Args:
        root: folder into which the packages were unpacked.
    """
    draw = np.random.default_rng(seed)
    cut, whole = stamps(root), backgrounds(root)
    if not cut or not whole:
        raise SystemExit(f"'{root}' holds no stamps or no backgrounds; `{Path(__file__).name}` says how to get them")
    order: list[Path] = []
    found = np.empty((count, resolution, resolution, 3), np.uint8)
    for number in range(count):
        kind = number % 6
        ground = _part(whole[draw.integers(len(whole))], resolution, draw) if kind in (3, 4, 5) else _white(resolution)
        if kind != 5:
            if not order:
                order = [cut[n] for n in draw.permutation(len(cut))]
            ground.alpha_composite(_fitted(order.pop(), resolution, draw))
        found[number] = np.asarray(ground.convert("RGB"))
    return found


def split(found: NDArray[np.uint8], calibration: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """`calibration` images, spread over all kinds, and the others."""
    chosen = np.zeros(len(found), bool)
    chosen[np.random.default_rng(0).permutation(len(found))[:calibration]] = True
    return found[chosen], found[~chosen]


def write(found: NDArray[np.uint8], folder: Path) -> None:
    """One PNG an image, in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(found):
        Image.fromarray(image).save(folder / f"{number:05d}.png")


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def _white(side: int) -> Image.Image:
    return Image.new("RGBA", (side, side), (255, 255, 255, 255))


def _part(path: Path, side: int, draw: np.random.Generator) -> Image.Image:
    """A square of 40 to 100 % of the shorter side, anywhere."""
    with Image.open(path) as opened:
        image = opened.convert("RGBA")
    length = int(min(image.size) * draw.uniform(0.4, 1.0))
    left, top = (int(draw.integers(0, size - length + 1)) for size in image.size)
    return image.crop((left, top, left + length, top + length)).resize((side, side), Image.Resampling.BICUBIC)


def _fitted(path: Path, side: int, draw: np.random.Generator) -> Image.Image:
    """A stamp at 70 to 100 % of the side, anywhere, mirrored or not."""
    with Image.open(path) as opened:
        image = opened.convert("RGBA")
    scale = side * draw.uniform(0.7, 1.0) / max(image.size)
    size = tuple(max(1, round(length * scale)) for length in image.size)
    image = image.resize(size, Image.Resampling.BICUBIC)
    if draw.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    placed = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    placed.paste(image, tuple(int(draw.integers(0, side - length + 1)) for length in size))
    return placed


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="folder into which the packages were unpacked")
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    write(images(given.root, given.count, given.resolution, given.seed), given.out)


if __name__ == "__main__":
    main()
