"""torch's zip archives, looked at before torch reads them: what else they may be, their size, and whether they are whole."""

from __future__ import annotations

import copy
import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from ...errors import WeightsError
from ...reading import shown

_MAX_PICKLE = 256 * 2**20
"""Bytes of what a checkpoint says of its tensors; a network of a thousand layers, and its optimizer's state, take one million."""
_BLOCK = 2**20
_DAMAGE = (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, zlib.error)
"""What reading raises where a head, an offset, a name or a content is not what was written; RuntimeError of a password or a
compression that torch never writes."""
_IS_FOLDER = 0x10
"""Of an entry's attributes in MS-DOS: of such ones torch reads nothing, and leaves their tensors as the memory was."""


def is_archive(path: Path) -> bool:
    """Whether a file has the end of a zip archive."""
    try:
        return zipfile.is_zipfile(path)
    except _DAMAGE:  # an end that contradicts itself
        return False


def check(path: Path, size: int) -> None:
    """Raise a WeightsError where a zip archive is no checkpoint, would unpack to more than it is, or is damaged.

    torch stores without compression, so all entries together are smaller than the file.
    """
    try:
        opened = zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise WeightsError(damaged(path, "what the archive says of its entries")) from error
    with opened as archive:
        entries = archive.infolist()
        _check_kind(path, [entry.filename for entry in entries])
        if (unpacked := sum(entry.file_size for entry in entries)) > size:
            raise WeightsError(
                f"'{path}' has {size:,} bytes and would unpack to {unpacked:,}, which torch's checkpoints do not: it is "
                "damaged, or made to fill the memory. Save `model.state_dict()` with torch, best as safetensors."
            )
        _check_sums(path, archive)


def damaged(path: Path, what: str) -> str:
    return f"'{path}' is damaged: {what} is not what was written. Copy it again, or save the weights again."


def pickles(path: Path) -> Iterator[io.BytesIO]:
    """The content of each pickle in an archive that was checked."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith("data.pkl"):
                if entry.file_size > _MAX_PICKLE:
                    raise WeightsError(
                        f"'{path}': '{shown(entry.filename)}' has {entry.file_size:,} bytes; it is damaged"
                    )
                unsummed = copy.copy(entry)
                unsummed.CRC = None  # type: ignore[assignment]  # that is not compared: it was, or there is none
                yield io.BytesIO(archive.read(unsummed))


def _check_kind(path: Path, names: list[str]) -> None:
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        raise WeightsError(
            f"'{path}' is a TorchScript program, code and all. Save what it holds: "
            "torch.save(torch.jit.load(...).state_dict(), 'weights.pth')."
        )
    if "archive_format" in inner or "models/model.json" in inner:
        raise WeightsError(
            f"'{path}' is a torch.export program, with its weights: name it as [model] exported, without [weights]."
        )
    if names and all(name.endswith(".npy") for name in names):
        raise WeightsError(f"'{path}' holds NumPy's arrays. Make tensors of them and save those as safetensors.")


def _check_sums(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise a WeightsError where an entry has another CRC-32 than was written, which torch does not look at.

    `torch.serialization.set_crc32_options(False)` writes zeros for all of them; then there is nothing to compare.
    """
    entries = [entry for entry in archive.infolist() if entry.file_size]
    if odd := next((entry for entry in entries if entry.external_attr & _IS_FOLDER), None):
        raise WeightsError(damaged(path, f"'{shown(odd.filename)}' in it"))
    if not any(entry.CRC for entry in entries):
        return
    for entry in entries:
        try:
            with archive.open(entry) as stream:
                while stream.read(_BLOCK):
                    pass
        except _DAMAGE as error:
            raise WeightsError(damaged(path, f"'{shown(entry.filename)}' in it")) from error
