"""What `make gpu` does, part by part: a command each, and how long it may take."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CACHE", "ROOT", "SUITES", "TESTS", "TOOLS", "Part", "parts"]

ROOT = Path(__file__).parents[2]

CACHE = ROOT / "build" / "gpu-cache"
"""Compiled kernels, unless RNN_GPU_CACHE_DIR names another folder."""

TESTS = (
    "tests/cupy_raw/test_on_device.py", "tests/test_grid.py", "tests/test_properties.py", "tests/test_against_torch.py",
    "tests/test_user_cell.py",
)  # fmt: skip
"""Of the whole suite, what has anything to do on a device."""

TOOLS: dict[str, tuple[str, ...]] = {
    "memcheck": (),
    "racecheck": (),
    "initcheck": (),
    "synccheck": ("--num-cuda-barriers", "64"),
}
"""compute-sanitizer's, with the options that each needs: the barriers that clusters count bytes with are not found by
its own count of a block's."""

SUITES = ("core", "large", "flashrnn", "varlen", "reset", "rl")

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:benchmark", "-o", "minversion=8")
"""Without a plugin that the machine's own packages may bring, and that warns of the others: warnings are errors. The
pytest may be an older one: nothing here needs the newest."""

UNFINISHED = 124
"""Exit status of a part that kept what it has done, and goes on from there when it is started again."""


@dataclass(frozen=True)
class Part:
    """command: what is run. seconds: the most that one go may take; least: below which it is not begun.

    needs: why it cannot be done here, or None. tests: whether its output ends with pytest's count, of which some must
    have passed.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    least: float = 30.0
    needs: str | None = None
    tests: bool = False


def parts(python: str, results: Path, minutes: float) -> list[Part]:
    """All of them, in the order of worth: what a short time on a device should bring first.

    results: the folder that the parts put theirs in; minutes: for one go of a suite of benchmarks.
    """
    bench = (python, "-m", "rnn_gpu.cli", "bench", "--suite", "gpu", "--results", str(results))
    pytest = (python, *PYTEST, *_workers(), "-k", "cupy_raw")
    sanitizer = find_sanitizer()
    needs = None if sanitizer else "compute-sanitizer was not found: it comes with the CUDA toolkit"
    made = [
        Part("smoke", (python, str(ROOT / "tests" / "gpu" / "sanitized.py")), 240),
        Part("barriers", (python, "-m", "rnn_gpu.bench.gpu.barriers", str(results / "gpu-barriers.json")), 90),
        Part("cudnn", (*bench, "--parts", "core", "--backend", "none", "--minutes", "{minutes}"), 60 * minutes),
    ]
    made.append(Part("tests", (*pytest, *TESTS), 540, least=60, tests=True))
    breakdown = (python, str(ROOT / "tests" / "gpu" / "breakdown.py"), str(results / "gpu-breakdown.json"))
    made.append(Part("breakdown", breakdown, 300, least=45))
    for tool, options in TOOLS.items():
        command = (
            sanitizer or "compute-sanitizer", "--tool", tool, *options, "--error-exitcode", "86", python,
            str(ROOT / "tests" / "gpu" / "sanitized.py"), "--small",
        )  # fmt: skip
        made.append(Part(f"sanitizer:{tool}", command, 420, least=60, needs=needs))
    made += [
        Part(f"bench:{suite}", (*bench, "--parts", suite, "--minutes", "{minutes}"), 60 * minutes) for suite in SUITES
    ]
    return [*made, *_numba_parts(python, results, minutes)]


def _numba_parts(python: str, results: Path, minutes: float) -> list[Part]:
    """The other backend's tests, both side by side, and its rows of the core suite, in a folder of their own."""
    needs = None if importable("numba_cuda") else "numba-cuda is not installed: pip install 'rnn_gpu[cuda13]'"
    pytest = (python, *PYTEST, *_workers(), "-k", "numba_cuda")
    strategies = (python, str(ROOT / "tests" / "gpu" / "strategies.py"), str(results / "gpu-strategies.json"))
    bench = (python, "-m", "rnn_gpu.cli", "bench", "--suite", "gpu", "--results", str(results / "numba_cuda"))
    core = (*bench, "--parts", "core", "--backend", "numba_cuda", "--minutes", "{minutes}")
    return [
        Part("numba_cuda:tests", (*pytest, *TESTS[1:]), 540, least=60, needs=needs, tests=True),
        Part("numba_cuda:strategies", strategies, 300, least=60, needs=needs),
        Part("numba_cuda:core", core, 60 * minutes, needs=needs),
    ]


def _workers() -> tuple[str, ...]:
    """pytest's options for tests side by side; those that share compiled kernels in one process, see conftest.py."""
    return ("-n", str(min(16, os.cpu_count() or 1)), "--dist", "loadgroup") if importable("xdist") else ()


def find_sanitizer() -> str | None:
    """compute-sanitizer's path: on the PATH, or in a CUDA toolkit."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    folders = [str(Path(home, folder)) for home in homes if home for folder in ("bin", "compute-sanitizer")]
    return shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=os.pathsep.join(folders))


def importable(module: str) -> bool:
    import importlib.util  # noqa: PLC0415

    return importlib.util.find_spec(module) is not None
