"""All that is to be done on a machine with a GPU, a part after the other, within a time limit.

    python tests/gpu/run.py [--minutes 9] [--parts smoke barriers ...] [--again] [--list]

A part that is done is not done again until a source of the package or of the tests changes; one that was cut short
goes on where it can. So the same command, given again and again, comes to an end however short each time is. What the
parts find lies in asv_bench/results/<device>/, with what came of each part in gpu-parts.json.

Status: 0 if all parts are done and right; 1 if one has failed, or cannot be done here; 124 if time was up before all.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from gpu.parts import CACHE, ROOT, UNFINISHED, Part, parts

from rnn_gpu.bench.gpu.sources import digest_of
from rnn_gpu.machine_code import CACHE_VARIABLE

GRACE = 10.0
"""Seconds that a part has, between being told that time is up and being killed."""


class State:
    """What came of each part, in a file. sources: the digest of what it depends on; commit: for whoever reads it."""

    def __init__(self, path: Path, sources: str, commit: str) -> None:
        self._path, self._now = path, {"sources": sources, "commit": commit}
        self.parts: dict[str, dict[str, Any]] = {}
        self._read()

    def is_done(self, name: str) -> bool:
        found = self.parts.get(name, {})
        return found.get("status") == "done" and found.get("sources") == self._now["sources"]

    def note(self, name: str, status: str, seconds: float, remark: str = "") -> None:
        self._read()  # another run, of other parts, may go on beside this one
        self.parts[name] = {"status": status, **self._now, "seconds": round(seconds, 1), "remark": remark}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self.parts, indent=1) + "\n")
        os.replace(new, self._path)

    def _read(self) -> None:
        if self._path.exists():
            self.parts = json.loads(self._path.read_text())


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Do all that is to be done on a machine with a GPU.")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no part goes on after so many")
    parser.add_argument("--parts", nargs="+", help="these, by the beginning of their names")
    parser.add_argument("--again", action="store_true", help="also what has been done; rows of benchmarks are kept")
    parser.add_argument("--list", action="store_true", help="name the parts, and what came of them")
    chosen = parser.parse_args(arguments)
    device = device_name()
    if device is None and not chosen.list:
        print("make gpu: no NVIDIA device was found: nvidia-smi names none", file=sys.stderr)
        return 2
    results = ROOT / "asv_bench" / "results" / folder_name(device or "none")
    sources = digest_of(ROOT / name for name in ("rnn_gpu", "kernels", "tests"))
    state = State(results / "gpu-parts.json", sources, commit())
    every = parts(sys.executable, results, min(chosen.minutes, 9.0))
    wanted = [part for part in every if not chosen.parts or part.name.startswith(tuple(chosen.parts))]
    if chosen.list:
        for part in wanted:
            print(f"{part.name:20} {state.parts.get(part.name, {}).get('status', 'not done')}")
        return 0
    status = run(wanted, state, chosen.minutes * 60, again=chosen.again)
    subprocess.run([sys.executable, str(ROOT / "tests" / "gpu" / "render.py")], check=False)
    return status


def run(
    wanted: list[Part],
    state: State,
    seconds: float,
    *,
    again: bool = False,
    clock: Callable[[], float] = time.monotonic,
    say: Callable[[str], None] = print,
) -> int:
    """Do those parts that have not been done. Returns the exit status."""
    end = clock() + seconds
    failed, left = [], []
    for part in wanted:
        if state.is_done(part.name) and not again:
            say(f"{part.name}: has been done")
            continue
        if part.needs is not None:
            say(f"{part.name}: cannot be done here: {part.needs}")
            state.note(part.name, "missing", 0.0, part.needs)
            failed.append(part.name)
            continue
        allowed = min(part.seconds, end - clock() - GRACE)
        if allowed < part.least:
            say(f"{part.name}: no time left for it")
            left.append(part.name)
            continue
        say(f"{part.name}: for at most {allowed:.0f} s")
        begin = clock()
        status, output = execute(part, allowed)
        outcome, remark = judged(part, status, output)
        state.note(part.name, outcome, clock() - begin, remark)
        say(f"{part.name}: {outcome}{f': {remark}' if remark else ''}")
        if outcome == "unfinished":
            left.append(part.name)
        elif outcome != "done":
            failed.append(part.name)
    for names, what in ((failed, "failed"), (left, "left for another time")):
        if names:
            say(f"{what}: {', '.join(names)}")
    return 1 if failed else UNFINISHED if left else 0


def execute(part: Part, seconds: float) -> tuple[int | None, str]:
    """Its exit status, None if it had to be ended, and the end of what it printed."""
    command = [word.replace("{minutes}", f"{seconds / 60 * 0.9:.3f}") for word in part.command]
    environment = {CACHE_VARIABLE: str(CACHE), "PYTHONUNBUFFERED": "1"} | os.environ
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            try:
                output, _ = process.communicate(timeout=GRACE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output, _ = process.communicate()
            print(output)
            return None, output
    print(output)
    return process.returncode, output


def judged(part: Part, status: int | None, output: str) -> tuple[str, str]:
    """What came of a part, "done", "failed" or "unfinished", and what is to be said of it."""
    if status is None:
        return "unfinished", "time was up"
    if status in (UNFINISHED, 130):
        return "unfinished", "goes on from here"
    lines = output.strip().splitlines()
    if status != 0:
        return "failed", f"status {status}: {lines[-1] if lines else 'nothing was printed'}"
    if part.tests:
        passed = re.search(r"(\d+) passed", lines[-1] if lines else "")
        if passed is None:
            return "failed", "no test ran"
        return "done", lines[-1].strip("= ")
    return "done", ""


def device_name() -> str | None:
    """The first device's, as nvidia-smi has it."""
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(told.strip().splitlines()), None)


def folder_name(device: str) -> str:
    """ "NVIDIA H200" -> "nvidia-h200"."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def commit() -> str:
    """The commit that is checked out, "+" after it where files were changed; else what RNN_GPU_COMMIT says."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("RNN_GPU_COMMIT", "unknown")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
