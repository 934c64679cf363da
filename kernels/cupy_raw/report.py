"""What the plan predicts for an LSTM, as the tables of docs/design/gpu-kernels.md.

python -m rnn_gpu.kernels.cupy_raw.report        prints them
python -m rnn_gpu.kernels.cupy_raw.report FILE   puts them into FILE, between its two markers
"""

from __future__ import annotations

import sys
from pathlib import Path

from rnn_gpu import cells
from rnn_gpu.errors import BackendError
from rnn_gpu.files import write
from rnn_gpu.kernels.cupy_raw.plan import verdict
from rnn_gpu.kernels.cupy_raw.presets import PRESETS
from rnn_gpu.kernels.cupy_raw.step_time import Cost
from rnn_gpu.kernels.cupy_raw.traits import DIRECTIONS
from rnn_gpu.strategies import STRATEGIES

__all__ = ["BEGIN", "END", "placed", "tables"]

BEGIN, END = "<!-- predictions: begin -->", "<!-- predictions: end -->"

HIDDEN, ROWS, DEVICES = (128, 256, 512, 1024), (1, 16, 64), ("H100", "H200")

KINDS = {
    "float32, IEEE": ("float32", False),
    "float32 with tf32=True": ("float32", True),
    "bfloat16": ("bfloat16", False),
}


def tables() -> str:
    """A table for each kind of product and direction, in Markdown."""
    parts = []
    for kind, (dtype, tf32) in KINDS.items():
        for direction in DIRECTIONS:
            parts.append(f"**LSTM, {kind}, {direction}**\n\n{_table(dtype, tf32, direction)}")
    return "\n\n".join(parts)


def placed(text: str) -> str:
    """`text` with the tables between its markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def _table(dtype: str, tf32: bool, direction: str) -> str:
    lines = [
        f"| H | B | MFLOP | KB | {' | '.join(STRATEGIES)} |",
        f"|--:|--:|--:|--:|{'|'.join('---' for _ in STRATEGIES)}|",
    ]
    for hidden in HIDDEN:
        for rows in ROWS:
            costs = {
                strategy: [_cost(dtype, tf32, direction, rows, hidden, strategy, device) for device in DEVICES]
                for strategy in STRATEGIES
            }
            any_cost = next(cost for found in costs.values() for cost in found if cost is not None)
            taken = {
                verdict(cells.lstm, dtype, direction, rows, hidden, PRESETS[device], tf32=tf32).strategy
                for device in DEVICES
            }
            on_chip = [cost for strategy in STRATEGIES[:-1] for cost in costs[strategy] if cost is not None]
            moved = f"{on_chip[0].bytes / 1e3:.0f}" if on_chip else ""
            entries = [_entry(costs[strategy], strategy in taken) for strategy in STRATEGIES]
            lines.append(f"| {hidden} | {rows} | {any_cost.flops / 1e6:.2f} | {moved} | {' | '.join(entries)} |")
    return "\n".join(lines)


def _cost(dtype: str, tf32: bool, direction: str, B: int, H: int, strategy: str, device: str) -> Cost | None:
    try:
        return verdict(cells.lstm, dtype, direction, B, H, PRESETS[device], strategy=strategy, tf32=tf32).cost
    except BackendError:
        return None


def _entry(costs: list[Cost | None], taken: bool) -> str:
    """us/step on each device, exchanges, and bytes where they are not those of the column KB."""
    if any(cost is None for cost in costs):
        return "-"
    found = [cost for cost in costs if cost is not None]
    text = "/".join(f"{cost.seconds * 1e6:.2f}" for cost in found)
    if found[0].exchanges:
        text += f" ({found[0].exchanges})"
    else:
        text += f" ({found[0].bytes / 1e3:.0f} KB)"
    return f"**{text}**" if taken else text


def main(arguments: list[str]) -> None:
    """See the module's docstring."""
    if arguments:
        path = Path(arguments[0])
        write(path, placed(path.read_text(encoding="utf-8")).encode())
    else:
        print(tables())


if __name__ == "__main__":
    main(sys.argv[1:])
