"""The file that a kit's test writes on a device: what ran the golden images there, how fast, and what came out.

Version 1 has ``units`` for what was asked for and what ran, and nothing else of it; it is read as it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import VerifyError
from ..parity import ASKED, Ran, Unit
from ..reading import read_bytes, shown

SCHEMA_VERSION = 2
READABLE = (1, 2)
MAX_BYTES = 200_000_000
"""Larger result files are refused before they are read: 100 images of 100,000 outputs each are 100 MB."""
MOST_OPERATIONS = 100_000
"""Of one unit, in a plan; MobileNetV2 has 150."""

Word = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")]
"""Text on one line, which a terminal may be given."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Device(_Strict):
    """Which machine: ``Android 15`` or ``iOS 18.1``, and its model."""

    system: Word = Field(min_length=1)
    machine: Word = Field(min_length=1)


class Milliseconds(_Strict):
    """An image, from the model's input to its outputs; of `runs` of them, the first ones left out."""

    median: float = Field(ge=0, allow_inf_nan=False)
    p90: float = Field(ge=0, allow_inf_nan=False)
    runs: int = Field(ge=1, le=10_000_000)

    def __str__(self) -> str:
        return f"median {self.median:.3g} ms, p90 {self.p90:.3g} ms of {self.runs:,} runs"


class Run(_Strict):
    """One run of all golden images.

    Attributes:
        units: of version 1, what was asked for; what ran is not said there.
        asked: ``CPU``, ``GPU`` or ``NPU`` on Android, a name of Core ML's compute units on iOS.
        ran: what computed; empty where the accelerator was refused and nothing ran, None where the system does not tell.
        fell_back: all of it or a part went to the processor instead of what was asked for, and the kit says so.
        reason: why, in the runtime's words.
        plan: how many operations each unit was to compute, where the system tells.
        outputs: packed, by golden image, as the kits write them, those of classifiers as ``logits``; null where one is not finite.
            Empty where nothing ran.
    """

    units: Word = Field("", max_length=50)
    asked: Word = Field("", max_length=50)
    ran: Annotated[list[Unit], Field(max_length=3)] | None = None
    fell_back: bool = False
    reason: Annotated[str, Field(max_length=1000)] = ""
    ms: Milliseconds | None = None
    plan: dict[Unit, Annotated[int, Field(ge=0, le=MOST_OPERATIONS)]] = {}
    outputs: dict[str, list[float | None]] = Field(validation_alias=AliasChoices("outputs", "logits"))

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Run:
        if len(set(self.ran or ())) < len(self.ran or ()):
            raise ValueError("a unit ran twice")
        if self.ran == [] and (self.outputs or self.ms):
            raise ValueError("nothing ran, and there are outputs or times")
        return self

    @property
    def name(self) -> str:
        """What was asked for."""
        return self.asked or self.units

    @property
    def told(self) -> Ran:
        return Ran(
            asked=self.name,
            ran=None if self.ran is None else tuple(sorted(self.ran)),
            fell_back=self.fell_back,
            reason=shown(self.reason, 300),
        )


class Results(_Strict):
    """The whole file."""

    schema_version: int
    target: str
    precision: str
    artifact_sha256: str
    device: Device
    runs: list[Run] = Field(min_length=1, max_length=10)

    @property
    def tells_what_ran(self) -> bool:
        return self.schema_version > 1


def read_results(file: Path) -> Results:
    """The result file of a device.

    Raises:
        VerifyError: it cannot be read, or is no such file.
    """
    try:
        results = Results.model_validate_json(read_bytes(file, MAX_BYTES))
    except OSError as error:
        raise VerifyError(f"cannot read the device results '{file}': {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = shown(".".join(str(part) for part in first["loc"]))
        raise VerifyError(
            f"'{file}' holds no device results: {where + ': ' if where else ''}{first['msg']}. "
            "The test on a device writes the file; the kit's README says where."
        ) from error
    if results.schema_version not in READABLE:
        raise VerifyError(
            f"'{file}' has schema version {results.schema_version}; {', '.join(map(str, READABLE))} can be read. "
            "A newer twinkeel's kit wrote it: take that twinkeel, or build the kit anew."
        )
    for run in results.runs:
        given, other = ("asked", run.units) if results.tells_what_ran else ("units", run.asked)
        if other or not getattr(run, given):
            raise VerifyError(f"'{file}' has schema version {results.schema_version}, and a run without '{given}'")
        if results.tells_what_ran and run.asked not in ASKED:
            raise VerifyError(f"'{file}': no accelerator is called '{shown(run.asked)}'; {', '.join(ASKED)} are")
    return results
