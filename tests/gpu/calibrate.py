"""Measure many kernels on the device, and fit to them the clocks that the plan's estimates are made of.

    python tests/gpu/calibrate.py measure FILE [--minutes 2]
    python tests/gpu/calibrate.py fit FILE

`measure` takes, for some cells, dtypes and sizes, what the plan would take in each strategy, and others that differ in
how the work is divided; each result is compared with that of another kernel before it is timed. `fit` prints `CLOCKS`
for kernels/cupy_raw/step_time.py, by least squares of relative errors without negative terms, and how well the plan
would choose by them. It needs SciPy, and no device.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from statistics import median

import numpy as np

import rnn_gpu
from rnn_gpu import cells
from rnn_gpu.arrays import dtype_named, library_of
from rnn_gpu.kernels.cupy_raw import ahead, plan, sequence, step_time
from rnn_gpu.kernels.cupy_raw.backend import CudaBackend
from rnn_gpu.kernels.cupy_raw.cupy_device import device_of
from rnn_gpu.kernels.cupy_raw.divisions import divisions, filled, most_teams
from rnn_gpu.kernels.cupy_raw.limits import misfit
from rnn_gpu.kernels.cupy_raw.presets import PRESETS
from rnn_gpu.kernels.cupy_raw.source import kernel
from rnn_gpu.kernels.cupy_raw.traits import DIRECTIONS, SequenceKernel, Traits, itemsize
from rnn_gpu.problem import describe, describe_gradients
from rnn_gpu.strategies import STRATEGIES

STEPS, INPUTS = 384, 64

KINDS = {"float32": ("float32", False), "tf32": ("float32", True), "bfloat16": ("bfloat16", False)}

CONFIGURATIONS = [
    *(("lstm", kind, H, B) for H in (128, 512, 256, 1024, 64) for B in (16, 64, 1, 128) for kind in KINDS),
    *((cell, kind, H, B) for H in (128, 512, 256) for B in (16, 128) for cell in ("gru", "rnn") for kind in KINDS),
]
"""Cell, kind, H and B, the most telling first."""

OTHERS, SLOWER = 4, 2.0
"""Of a strategy, kernels besides the plan's; estimated to take at most so many times as long."""

TOLERANCE = {"float32": 1e-4, "tf32": 2e-2, "bfloat16": 3e-2}


def candidates(cell, dtype, tf32, direction, strategy, B, H, properties):
    """Kernels of a strategy: the one estimated to be the fastest, and others divided in other ways."""
    kept = plan.kept_of(cell, dtype, H)
    product = "mma" if itemsize(kept) == 2 or tf32 else "fma"
    found = []
    for traits in divisions(cell, kept, kept, product, direction, strategy, B, H, properties):
        kernel = filled(SequenceKernel(cell, dtype, direction, traits), properties)
        if misfit(kernel, properties):
            continue
        tiles = -(-B // traits.rows)
        at_a_time = min(tiles, most_teams(strategy, traits.blocks, properties))
        cost = step_time.sequence_cost(kernel, B, H, at_a_time, properties, save=True)
        found.append(plan.Choice(kernel, tiles, tiles if strategy == "block" else at_a_time, cost))
    if not found:
        return []
    found.sort(key=lambda choice: choice.cost.seconds)
    different = {}
    for choice in found[1:]:
        traits = choice.kernel.traits
        if choice.cost.seconds <= SLOWER * found[0].cost.seconds:
            different.setdefault((traits.blocks, traits.threads, traits.lanes, traits.splits, traits.rows), choice)
    others = list(different.values())
    random.shuffle(others)
    return [found[0], *others[:OTHERS]]


def measure(path: Path, minutes: float) -> int:
    import cupy  # noqa: PLC0415

    random.seed(0)
    end = time.monotonic() + 60 * minutes
    properties = device_of(library_of("x", cupy.empty(0))).properties
    todo = [
        (configuration, direction, choice)
        for configuration in CONFIGURATIONS
        for direction in DIRECTIONS
        for strategy in STRATEGIES[:-1]
        for choice in candidates(
            cells.ALL[configuration[0]], *KINDS[configuration[1]], direction, strategy, configuration[3],
            configuration[2], properties,
        )
    ]  # fmt: skip
    compiled_until = time.monotonic() + 0.6 * (end - time.monotonic())
    kernels = [kernel(choice.kernel.of_call(lengths=False, resets=False, keeps=2)) for *_, choice in todo]
    ahead.compile_ahead(kernels, properties, lambda: time.monotonic() >= compiled_until)
    launches = []
    launch = sequence.launch
    sequence.launch = lambda *arguments: (launches.append(arguments), launch(*arguments))
    rows: list[dict[str, object]] = []
    wrong = 0
    for configuration, group in groupby(todo, key=lambda each: each[0]):
        path.write_text(json.dumps({"clock": properties.clock, "rows": rows}))
        draw = Drawn(cupy, *configuration)
        expected = {}
        for _, direction, choice in group:
            if time.monotonic() >= end:
                break
            launches.clear()
            result = draw.run(choice, direction)
            (call, *rest) = launches[-1]

            def again(call=call, rest=rest):
                with call.device.active():
                    launch(call, *rest)

            right = expected.setdefault(direction, result)
            error = float(cupy.abs(result - right).max() / cupy.abs(right).max())
            if not error <= TOLERANCE[configuration[1]]:
                wrong += 1
                print(f"wrong by {error}: {configuration} {direction} {choice}")
                continue
            row = {"configuration": configuration, "direction": direction, "us": 1e6 * seconds(cupy, again) / STEPS}
            rows.append(row | {"traits": asdict(choice.kernel.traits), "tiles": choice.tiles, "teams": choice.teams})
    path.write_text(json.dumps({"clock": properties.clock, "rows": rows}))
    print(f"{len(rows)} of {len(todo)} kernels measured, {wrong} wrong")
    return 1 if wrong else 0


class Drawn:
    """The numbers of a configuration, and calls with them."""

    def __init__(self, cupy, cell, kind, H, B):
        self.cell, (dtype, self.tf32) = cells.ALL[cell], KINDS[kind]
        to, normal = dtype_named(dtype), np.random.default_rng(0).standard_normal
        self.weights = rnn_gpu.init_weights(self.cell, INPUTS, H, seed=0).map(lambda a: cupy.asarray(a).astype(to))
        self.x, self.dy = (cupy.asarray(normal((STEPS, B, size), np.float32)).astype(to) for size in (INPUTS, H))
        self.forward = None

    def run(self, choice, direction):
        """y, or the gradient of x, by this kernel, in float32."""
        problem, inputs = describe(self.cell, self.x, self.weights, tf32=self.tf32)
        kept = dtype_named(choice.kernel.traits.kept)
        self.forward = choice if direction == "forward" else self.forward
        found = plan.Plan(self.forward, choice if direction == "backward" else None, kept, self.tf32, {})
        backend = CudaBackend(device_of, lambda: None, list, lambda problem, properties: found)
        y, _, saved = backend.forward(problem, inputs)
        if direction == "forward":
            return y.astype(np.float32)
        return backend.backward(problem, inputs, saved, *describe_gradients(problem, self.dy, None)).x.astype(
            np.float32
        )


def seconds(cupy, run) -> float:
    """Of one run, by the device's clock."""
    samples = []
    for _ in range(3):
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        run()
        end.record()
        end.synchronize()
        samples.append(cupy.cuda.get_elapsed_time(begin, end) * 1e-3)
    return median(samples)


def fit(path: Path) -> int:
    from scipy.optimize import nnls  # noqa: PLC0415

    read = json.loads(path.read_text())
    for product in ("fma", "mma"):
        rows = [row for row in read["rows"] if row["traits"]["product"] == product]
        counts, clocks = [], []
        for row in rows:
            cell, kind, _, B = row["configuration"]
            kernel = SequenceKernel(cells.ALL[cell], KINDS[kind][0], row["direction"], Traits(**row["traits"]))
            teams = min(row["teams"], most_teams(kernel.traits.strategy, kernel.traits.blocks, PRESETS["H200"]))
            rounds = -(-row["tiles"] // teams)
            found = step_time.terms(kernel, B)
            counts.append({n: c * rounds * (teams if n == "copied_by_all" else 1) for n, c in found.items()})
            clocks.append(row["us"] * 1e-6 * read["clock"])
        names = sorted({name for each in counts for name in each})
        weight = 1 / np.array(clocks)
        matrix = np.array([[each.get(name, 0.0) for name in names] for each in counts])
        values, _ = nnls(matrix * weight[:, None], np.ones(len(rows)))
        predicted = matrix @ values
        errors = np.log(predicted * weight)
        print(f'"{product}": {{' + ", ".join(f'"{n}": {v:.3g}' for n, v in zip(names, values, strict=True) if v) + "},")
        print(f"{len(rows)} kernels, relative error {math.sqrt((errors**2).mean()):.2f} (root mean square)")
        chosen = []
        order = sorted(range(len(rows)), key=lambda i: (rows[i]["configuration"], rows[i]["direction"]))
        for _, group in groupby(order, key=lambda i: (rows[i]["configuration"], rows[i]["direction"])):
            members = list(group)
            best = min(rows[i]["us"] for i in members)
            chosen.append(rows[min(members, key=lambda i: predicted[i])]["us"] / best)
        average = np.exp(np.log(chosen).mean())
        print(
            f"what it chooses takes {average:.3f} times as long as the fastest, on average; {max(chosen):.2f} at most"
        )
        worst = sorted(range(len(rows)), key=lambda i: -abs(errors[i]))[:5]
        for i in worst:
            print(f"  off by {math.exp(errors[i]):.2f}: {rows[i]}")
    return 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Measure kernels, and fit the plan's estimates to them.")
    parser.add_argument("what", choices=("measure", "fit"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--minutes", type=float, default=2.0, help="measure no longer than so many")
    chosen = parser.parse_args(arguments)
    return measure(chosen.file, chosen.minutes) if chosen.what == "measure" else fit(chosen.file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
