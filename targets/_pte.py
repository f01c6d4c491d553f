"""ExecuTorch programs and other flatbuffers, read in Python within limits: their offsets may share parts, so that a
small file can unfold into any size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twinkeel.pipeline.errors import ConversionError
from twinkeel.pipeline.reading import read_bytes

MAX_BYTES = 2 * 2**30
"""Of an artifact; protobuf and flatbuffers end here too."""
MAX_TABLES = 200_000
"""A LiteRT file of MobileNetV2 has 1,500 tables, an ExecuTorch program 900."""
_SHARED = 8
"""How many times the file's size its vectors and texts may have together: a reader asks for a length more than once."""


def read_program(path: Path) -> Any:
    """The `PTEFile` in a file; what `deserialize_pte_binary` does, within limits.

    Raises:
        ConversionError: the file is damaged, or unfolds into more than a program would.
    """
    from executorch.exir._serialize import _program
    from executorch.exir.schema import Program

    try:
        content = read_bytes(path, MAX_BYTES)
        header = _program._get_extended_header(content)
        with bounded(len(content)):
            program: Program = _program._flatbuffer_to_program(content[: header.program_size if header else None])
        _check_segments(program, len(content))
        if header and header.segment_base_offset:
            return _program._restore_segments(program, content[header.segment_base_offset :])
        return _program.PTEFile(program=program, mutable_data=None, named_data=None)
    except Exception as error:  # the reader of flatbuffers raises anything on damaged bytes
        raise ConversionError(
            f"'{path}' is no readable ExecuTorch program: {type(error).__name__}: {str(error)[:300]}"
        ) from error


def _check_segments(program: Any, size: int) -> None:
    """Segments are copied, and so are the constants in one: together they must be in the file."""
    lengths = [segment.size for segment in program.segments]
    if min(lengths, default=0) < 0 or sum(lengths) > size:
        raise ValueError(f"{len(lengths)} segments of {sum(lengths):,} bytes in a file of {size:,}")
    for part in (program.constant_segment, *(program.mutable_data_segments or ())):
        if part is not None and part.offsets != sorted(part.offsets):
            raise ValueError("offsets of constants are not in order")
    named = sum(
        lengths[entry.segment_index] for entry in program.named_data or () if entry.segment_index < len(lengths)
    )
    if named > size:
        raise ValueError(f"{len(program.named_data):,} named data of {named:,} bytes in a file of {size:,}")


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """Let the reader of flatbuffers raise a ValueError where a file of `size` bytes unfolds into more than it holds.

    flatbuffers 25 has a verifier for C++ and none for Python. Can go when it has one.
    """
    from flatbuffers.table import Table

    count, total = 0, 0
    made, length, text = Table.__init__, Table.VectorLen, Table.String

    def add(more: int) -> None:
        nonlocal total
        total += more
        if total > _SHARED * size:
            raise ValueError(f"vectors and texts of more than {_SHARED} times the {size:,} bytes of the file")

    def table(self: Any, *arguments: Any) -> None:
        nonlocal count
        count += 1
        if count > MAX_TABLES:
            raise ValueError(f"more than {MAX_TABLES:,} tables")
        made(self, *arguments)

    def vector_length(self: Any, *arguments: Any) -> int:
        found: int = length(self, *arguments)
        add(found)
        return found

    def string(self: Any, *arguments: Any) -> Any:
        found = text(self, *arguments)
        add(len(found))
        return found

    Table.__init__, Table.VectorLen, Table.String = table, vector_length, string
    try:
        yield
    finally:
        Table.__init__, Table.VectorLen, Table.String = made, length, text
