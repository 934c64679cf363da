"""Write docs/performance-gpu.md from the results under asv_bench/results; where there are none, there is no document.

python tests/gpu/render.py [RESULTS [DOCUMENT]]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rnn_gpu import files
from rnn_gpu.bench.gpu.results import Results
from rnn_gpu.bench.gpu.suites import PARTS
from rnn_gpu.bench.gpu.table import machine_in_words, markdown

ROOT = Path(__file__).parents[2]

HEAD = """# Performance on GPUs

Measured by `make gpu`, or by the programs that it runs, and written from the files that they leave in
`asv_bench/results/<device>/`. A ratio is how many times as long torch (cuDNN) takes: above 1, ours is faster. Times are
medians on the device's clock with caches emptied before; the error is the largest of any array, relative to torch in
float64. What is wrong is given no speed.
"""


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0]) if arguments else ROOT / "asv_bench" / "results"
    document = Path(arguments[1]) if len(arguments) > 1 else ROOT / "docs" / "performance-gpu.md"
    sections = [text for device in sorted(folder.glob("*")) if (text := device_section(device))]
    if not sections:
        print("no results on a GPU: no document")
        return 0
    files.write(document, "\n".join([HEAD, *sections]).encode())
    print(f"written: {document}")
    return 0


def device_section(folder: Path) -> str | None:
    """All that was measured on one device, None where nothing was."""
    made = []
    barriers = folder / "gpu-barriers.json"
    if barriers.exists():
        made.append(barrier_section(json.loads(barriers.read_text())))
    strategies = folder / "gpu-strategies.json"
    if strategies.exists():
        made.append(strategies_section(json.loads(strategies.read_text())))
    for name, part in PARTS.items():
        every = sum(map(len, part.groups()))
        for place, what in (
            (f"gpu-{name}-torch", ": torch alone"),
            (f"gpu-{name}", ""),
            (f"numba_cuda/gpu-{name}", ": numba_cuda"),
        ):
            path = folder / f"{place}.json"
            if path.exists():
                made.append(markdown(part.title + what, Results.read(path), every))
    return None if not made else "\n".join([f"## {folder.name}", "", *made])


def barrier_section(report: dict[str, Any]) -> str:
    lines = ["### Barriers", "", machine_in_words(Results(report["device"], {}, report["machine"])), ""]
    lines += ["| barrier | blocks | us |", "|---|---|---|"]
    for row in report["rows"]:
        cost = f"{row['us']:.3f}" if "us" in row else f"not measured: {row['reason']}"
        lines.append(f"| {row['barrier']} | {row['blocks']} | {cost} |")
    return "\n".join(lines) + "\n"


def strategies_section(report: dict[str, Any]) -> str:
    lines = ["### Strategies of both backends", "", machine_in_words(Results(report["device"], {}, report["machine"]))]
    lines += [
        "",
        "float32; a ratio is how many times as long `numba_cuda` takes. On the host: what it takes to queue.",
        "",
    ]
    columns = (
        "strategy",
        "cell",
        "T,B,I,H",
        "mode",
        "cupy_raw, us/step",
        "numba_cuda, us/step",
        "ratio",
        "on the host, us/step",
    )
    lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in report["rows"]:
        case = [row["strategy"], row["cell"], ",".join(str(row[axis]) for axis in "TBIH"), row["mode"]]
        if "reason" in row:
            found = ["-", "-", "-", row["reason"]]
        else:
            found = [f"{row['cupy_raw_us']:.2f}", "wrong" if row["wrong"] else f"{row['numba_cuda_us']:.2f}"]
            found += [f"{row['ratio']:.2f}", f"{row['cupy_raw_host_us']:.2f}, {row['numba_cuda_host_us']:.2f}"]
        lines.append(f"| {' | '.join(case + found)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
