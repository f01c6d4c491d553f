"""The checkpoint file that a configuration names: where it lies, and that it is the one meant. It is not opened here."""

from __future__ import annotations

from pathlib import Path

from ..config import Weights
from ..errors import WeightsError
from ..files import digest
from ..reading import MAX_CHECKPOINT_BYTES
from .checkpoints import shards

_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".h5")


def expected_digest(weights: Weights) -> str:
    """SHA-256 of the checkpoint, of an index with its shards, checked where it is configured; of one with an address nothing
    is fetched for it."""
    return locate(weights, Path())[1] if weights.path is not None else str(weights.sha256).lower()


def ingredients(weights: Weights) -> dict[str, str]:
    """What tells the state dict that is meant from others, for the key of what is made with it."""
    which = {} if weights.key is None else {"state dict": weights.key}
    return {"checkpoint": expected_digest(weights)} | which


def locate(weights: Weights, cache: Path) -> tuple[Path, str]:
    """The checkpoint's path, fetched into `cache` where the user gave a URL, and its SHA-256, checked if given.

    Of a folder it is the file in it, or the index of several.
    """
    path = there(weights) if weights.path is not None else _fetch(weights, cache)
    return path, _checked(weights, path)


def there(weights: Weights) -> Path:
    """The file at `weights.path`; of a folder the one in it, or the index of several.

    Raises:
        WeightsError: there is none.
    """
    path = shards.chosen(Path(str(weights.path)))
    if not path.is_file():
        raise WeightsError(
            f"weights.path '{path}' is no file. Give a .safetensors, .pth, .pt, .ckpt or .h5 checkpoint, or a folder with one."
        )
    return path


def _checked(weights: Weights, path: Path) -> str:
    found = shards.digest_of(path)
    if weights.sha256 is not None and found != weights.sha256.lower():
        raise WeightsError(f"'{path}' has SHA-256 {found}, the configuration says {weights.sha256}.")
    return found


def _fetch(weights: Weights, cache: Path) -> Path:
    import urllib.request

    url, wanted = str(weights.url), str(weights.sha256).lower()
    path = cache / f"{wanted}{next((s for s in _SUFFIXES if url.endswith(s)), '.pth')}"
    if path.is_file():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    try:
        with urllib.request.urlopen(url, timeout=60) as response, partial.open("wb") as stream:
            received = 0
            while block := response.read(1 << 20):
                received += len(block)
                if received > MAX_CHECKPOINT_BYTES:
                    raise WeightsError(f"'{url}' is larger than {MAX_CHECKPOINT_BYTES} bytes")
                stream.write(block)
        if (found := digest(partial)) != wanted:
            raise WeightsError(f"'{url}' has SHA-256 {found}, the configuration says {wanted}.")
        partial.replace(path)
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot fetch '{url}': {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return path
