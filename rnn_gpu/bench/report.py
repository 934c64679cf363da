"""What was measured, in plain values, and the figures that are drawn from it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, Literal, Self

from rnn_gpu.bench.accuracy import Distance
from rnn_gpu.bench.shapes import Case, Mode, Shape, in_words
from rnn_gpu.bench.suites import Axis
from rnn_gpu.bench.timing import Timing, geometric_mean

__all__ = ["FORMAT", "FirstCall", "Growth", "Product", "Report", "Row", "Status", "Summary"]

FORMAT = "rnn_gpu benchmark"
VERSION = 1

DISTURBED = 0.2
"""Cores that other processes may keep busy before a row's times are called doubtful."""

Status = Literal["ok", "wrong", "peer wrong"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a case is, in the order of a report's columns. flops, traffic: of one call, as `Case` counts them."""

    cell: str
    T: int
    B: int
    I: int
    H: int
    dtype: str
    mode: Mode
    frozen: bool
    flops: float
    traffic: float
    ragged: bool = False
    resets: float = 0.0
    recompute: bool = False

    @staticmethod
    def fields(case: Case) -> dict[str, Any]:
        """A case's values for these fields."""
        options = {name: getattr(case, name) for name in ("dtype", "mode", "frozen", "ragged", "resets", "recompute")}
        options |= {"flops": case.flops, "traffic": case.traffic}
        return {"cell": case.cell.name, **case.shape._asdict(), **options}

    @property
    def shape(self) -> Shape:
        return Shape(self.T, self.B, self.I, self.H)

    @property
    def what(self) -> str:
        """The mode and its options, in words."""
        return in_words(self.mode, frozen=self.frozen, ragged=self.ragged, resets=self.resets, recompute=self.recompute)


@dataclass(frozen=True, kw_only=True)
class Row(Measured):
    """A case beside one peer; `peer` is None where none runs the case.

    ours_s, peer_s: medians in seconds of one call; ours_spread, peer_spread: interquartile range over median;
    ours_samples, peer_samples: how many were timed. others: cores that other processes kept busy meanwhile, None where
    the system does not tell. ratio: peer_s / ours_s, above 1 where ours is faster.
    error, peer_error: largest error of any array relative to float64; error_in: that array, of ours; bound: the largest
    allowed of `error`.
    status: "wrong" if `error` is above it, "peer wrong" if the peer computed something else; no speed is given then.
    """

    ours_s: float | None
    peer: str | None
    peer_s: float | None
    ratio: float | None
    error: float
    error_in: str
    peer_error: float | None
    bound: float
    status: Status
    ours_spread: float | None = None
    peer_spread: float | None = None
    ours_samples: int = 0
    peer_samples: int = 0
    others: float | None = None

    @classmethod
    def untimed(
        cls, case: Case, status: Status, error: Distance, bound: float, peer: str | None, peer_error: float | None
    ) -> Self:
        """A row without speeds, as results are out of bounds."""
        return cls(
            **cls.fields(case), peer=peer, error=error.error, error_in=error.array, peer_error=peer_error, bound=bound,
            status=status, ours_s=None, peer_s=None, ratio=None,
        )  # fmt: skip

    @classmethod
    def timed(
        cls, case: Case, error: Distance, bound: float, ours: Timing, others: float | None,
        peer: str | None = None, theirs: Timing | None = None, peer_error: float | None = None,
    ) -> Self:  # fmt: skip
        """A row of two timings, or of ours alone."""
        return cls(
            **cls.fields(case), peer=peer, error=error.error, error_in=error.array, peer_error=peer_error, bound=bound,
            status="ok", others=others,
            ours_s=ours.seconds, ours_spread=ours.spread, ours_samples=ours.samples,
            peer_s=theirs and theirs.seconds, peer_spread=theirs and theirs.spread,
            peer_samples=theirs.samples if theirs else 0,
            ratio=theirs and theirs.seconds / ours.seconds,
        )  # fmt: skip

    @property
    def disturbed(self) -> bool:
        """Whether other processes took enough of the machine to make the times doubtful."""
        return self.others is not None and self.others > DISTURBED

    @property
    def slower(self) -> bool:
        """Whether ours takes longer than the peer."""
        return self.ratio is not None and self.ratio < 1.0


@dataclass(frozen=True, kw_only=True)
class Product(Measured):
    """Our rate in a case's matrix products, and that of a large NumPy product timed in turns with it, in GFLOP/s."""

    gflops: float
    sgemm_gflops: float
    fraction: float

    @classmethod
    def of(cls, case: Case, seconds: float, sgemm_gflops: float) -> Self:
        rate = case.flops / seconds * 1e-9
        return cls(**cls.fields(case), gflops=rate, sgemm_gflops=sgemm_gflops, fraction=rate / sgemm_gflops)


@dataclass(frozen=True, kw_only=True)
class Growth(Measured):
    """seconds: of the case; grown_s: with grown_T steps in place of T; ratio: grown_s / seconds, None if wrong."""

    seconds: float | None
    grown_T: int
    grown_s: float | None
    ratio: float | None
    limit: float
    error: float
    error_in: str
    status: Status


@dataclass(frozen=True)
class FirstCall:
    """Seconds of a cell's first call in this process: compilation, or loading what was compiled before, included."""

    cell: str
    mode: Mode
    seconds: float


@dataclass(frozen=True)
class Summary:
    """The ratios of one mode to one peer: geometric mean, least, how many there are, are below 1, and are doubtful."""

    mode: str
    peer: str
    geometric_mean: float
    least: float
    rows: int
    slower: int
    doubtful: int


@dataclass
class Report:
    """One run. It grows while measuring goes on; `complete` is set at the end.

    notes: what a reader must know, in sentences. sgemm_gflops: the highest rate of a large product by NumPy.
    memory_gb_s: that at which large arrays are read and written, in 1e9 bytes a second.
    sweeps: rows with one size of an axis after the other.
    """

    suite: str
    quick: bool
    backend: str
    threads: int
    machine: dict[str, Any]
    complete: bool = False
    notes: list[str] = field(default_factory=list)
    sgemm_gflops: float = 0.0
    memory_gb_s: float = 0.0
    rows: list[Row] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    sweeps: dict[Axis, list[Row]] = field(default_factory=dict)
    first_calls: list[FirstCall] = field(default_factory=list)

    @property
    def all_right(self) -> bool:
        """Whether every result of ours was within bounds."""
        rows: Iterable[Row | Growth] = chain(self.rows, self.growth, *self.sweeps.values())
        return all(row.status != "wrong" for row in rows)

    def summaries(self) -> list[Summary]:
        """By mode and peer, in the order measured; a mode with options is one of its own."""
        groups: dict[tuple[str, str], list[tuple[float, bool]]] = {}
        for row in self.rows:
            if row.peer is not None and row.ratio is not None:
                groups.setdefault((row.what, row.peer), []).append((row.ratio, row.disturbed))
        found = []
        for (mode, peer), rows in groups.items():
            ratios = [ratio for ratio, _ in rows]
            slower, doubtful = sum(ratio < 1.0 for ratio in ratios), sum(disturbed for _, disturbed in rows)
            found.append(Summary(mode, peer, geometric_mean(ratios), min(ratios), len(rows), slower, doubtful))
        return found

    def json(self) -> str:
        """The report as a JSON text; null stands for what was not measured and for numbers that are not finite."""
        values = {"format": FORMAT, "version": VERSION, **asdict(self)}
        values["summary"] = [asdict(summary) for summary in self.summaries()]
        return json.dumps(_finite(values), indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
