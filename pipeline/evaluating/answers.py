"""``answers.parquet``: a row for each image and artifact, written shard by shard."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import parts
from .parts import Kept, Shards
from .planning import Plan

NAME = "answers.parquet"
MISSING = "no answers by image are written, for there is no pyarrow here: pip install 'twinkeel[parquet]'"


def can_write() -> bool:
    return importlib.util.find_spec("pyarrow") is not None


def write(plan: Plan, shards: Shards, path: Path) -> None:
    """All answers; in memory are those of one shard."""
    import pyarrow as pa
    from pyarrow import parquet

    writer = None
    try:
        for kept in shards():
            for columns in _tables(plan, kept):
                table = pa.table(columns)
                writer = writer or parquet.ParquetWriter(path, table.schema, compression="zstd")
                writer.write_table(table.cast(writer.schema))
    finally:
        if writer is not None:
            writer.close()


def _tables(plan: Plan, kept: Kept) -> Iterator[dict[str, Any]]:
    """Columns of the rows of each artifact."""
    import pyarrow as pa

    part = parts.named(plan.task)
    files = pa.array([str(plan.files[n]) for n in kept["index"].tolist()])
    for number, artifact in enumerate(plan.artifacts):
        yield {
            "image": files,
            "artifact": pa.array([artifact.name] * len(files)).dictionary_encode(),
            **{name: _column(values) for name, values in part.columns(kept, number, plan).items()},
            "snr_db": pa.array(kept["snr_db"][number]),
            "runtimes_differ": pa.array(differ(plan, kept)),
        }


def _column(values: Any) -> Any:
    import pyarrow as pa

    if isinstance(values, np.ndarray):
        return pa.array(values)
    kind = pa.list_(pa.string()) if values and isinstance(values[0], list) else pa.string()
    return pa.array(values, kind)


def differ(plan: Plan, kept: Kept) -> Any:
    """Whether runtimes of one precision answer an image otherwise, ``(n,)``."""
    if not plan.rivals:
        return np.zeros(len(kept["index"]), bool)
    return ~kept["same"][list(plan.rivals)].all(0)
