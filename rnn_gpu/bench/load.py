"""How much of the machine other processes use while something is measured."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple, Self

__all__ = ["Load"]

_STAT = Path("/proc/stat")


class Load(NamedTuple):
    """A moment: seconds on the clock, of work by the whole machine, and of work by this process."""

    wall: float
    machine: float
    own: float

    @classmethod
    def now(cls) -> Self | None:
        """None where the system does not tell."""
        try:
            user, nice, system, _, _, *others = map(int, _STAT.read_text().splitlines()[0].split()[1:9])
        except (OSError, ValueError, IndexError):
            return None
        busy = (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")
        return cls(time.perf_counter(), busy, sum(os.times()[:2]))

    def others_since(self, begin: Load) -> float:
        """Cores that other processes kept busy, on average, from `begin` to this moment."""
        work = (self.machine - begin.machine) - (self.own - begin.own)
        return max(0.0, work / max(self.wall - begin.wall, 1e-9))
