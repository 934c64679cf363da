"""What was measured on a device, in a file that a later run goes on with."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

from rnn_gpu import files
from rnn_gpu.bench.shapes import Case
from rnn_gpu.errors import FileFormatError

__all__ = ["FORMAT", "Results", "Row", "Status"]

FORMAT = "rnn_gpu benchmark on a GPU"
VERSION = 1

Status = Literal["ok", "wrong", "unchecked", "refused", "out of memory"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A case, ours beside torch.

    kind: the dtype, "tf32" for float32 arrays with products in TF32. plan: how ours runs it.
    ours_s, torch_s: medians in seconds of one call on the device; *_step_us: the same in microseconds a time step;
    *_spread: interquartile range over median; *_samples: how many were timed. ratio: torch_s / ours_s.
    first_call_s: of ours, on the clock, compilation included; peak_bytes: the most memory that a call of ours used.
    error, torch_error: the largest of any array relative to float64; error_in: that array, of ours; bound: the largest
    allowed, twice that of torch in the same type and four units in its last place.
    status: "wrong", and no speed, where `error` is above it; "unchecked" where there was nothing to check against;
    "refused" and "out of memory" are said in `remark`. date, commit: when it was measured, and of what.
    """

    cell: str
    T: int
    B: int
    I: int
    H: int
    kind: str
    mode: str
    ragged: bool
    resets: float
    projected: bool
    status: Status
    plan: str | None = None
    ours_s: float | None = None
    ours_step_us: float | None = None
    ours_spread: float | None = None
    ours_samples: int = 0
    torch_s: float | None = None
    torch_step_us: float | None = None
    torch_spread: float | None = None
    torch_samples: int = 0
    ratio: float | None = None
    first_call_s: float | None = None
    peak_bytes: int | None = None
    error: float | None = None
    error_in: str | None = None
    torch_error: float | None = None
    bound: float | None = None
    remark: str | None = None
    date: str | None = None
    commit: str | None = None

    @staticmethod
    def of(case: Case) -> dict[str, Any]:
        """A case's values for these fields."""
        kind = "tf32" if case.tf32 else case.dtype
        shape = case.shape._asdict()
        options = {name: getattr(case, name) for name in ("mode", "ragged", "resets", "projected")}
        return {"cell": case.cell.name, **shape, "kind": kind, **options}


_IDENTITY = ("cell", "T", "B", "I", "H", "kind", "mode", "ragged", "resets", "projected")
"""Fields of a row that say which case it is."""


@dataclass
class Results:
    """One part's results. Rows are added as they come; `complete` is set when they are written.

    measured: what must be the same for rows of several runs to lie side by side: the part, the backend, the digest of
    the sources, the peer, the versions. machine: that of the latest run; complete: whether it has all of the part.
    """

    device: str
    measured: dict[str, Any]
    machine: dict[str, Any]
    complete: bool = False
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Put a row of this run beside the others."""
        self.rows.append(replace(row, date=self.machine.get("date"), commit=self.machine.get("commit")))

    def has(self) -> Callable[[Case], bool]:
        """Whether a case has been measured, as of now."""
        measured = {tuple(getattr(row, key) for key in _IDENTITY) for row in self.rows}
        return lambda case: tuple(Row.of(case)[key] for key in _IDENTITY) in measured

    @property
    def all_right(self) -> bool:
        """Whether no result of ours was out of bounds."""
        return all(row.status != "wrong" for row in self.rows)

    def write(self, path: Path) -> None:
        """Put them in the file, in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": FORMAT, "version": VERSION, **_finite(asdict(self))}, indent=1, allow_nan=False)
        files.write(path, (text + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """The results in a file. Raises FileFormatError where it holds something else, OSError where there is none."""
        try:
            values = json.loads(path.read_bytes())
            if values["format"] != FORMAT or values["version"] != VERSION:
                raise ValueError(f"it is {values['format']!r}, version {values['version']!r}")
            rows = [Row(**row) for row in values["rows"]]
            return cls(**{each.name: values[each.name] for each in fields(cls)} | {"rows": rows})
        except (ValueError, KeyError, TypeError) as error:
            raise FileFormatError(f"{str(path)!r} holds no results of {FORMAT!r}: {error}") from error

    @classmethod
    def begin(cls, path: Path | None, device: str, measured: dict[str, Any], machine: dict[str, Any]) -> Self:
        """Those in the file, to go on with, if they are of the same device and `measured` is the same; else none.

        Raises FileFormatError for a file that holds something else, which is not overwritten.
        """
        if path is not None and path.exists():
            former = cls.read(path)
            if (former.device, former.measured) == (device, measured):
                return replace(former, machine=machine)
        return cls(device, measured, machine)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
