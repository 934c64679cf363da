"""A report as pictures: speed beside the peers, growth with the sizes, and the roofline. Each is a PNG file's bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rnn_gpu.bench.charts import growth, roofline, speed
from rnn_gpu.bench.report import Report

__all__ = ["CHARTS"]

CHARTS: Mapping[str, Callable[[Report], bytes]] = {
    "speed": speed.draw,
    "growth": growth.draw,
    "roofline": roofline.draw,
}
"""By the name of the picture. Each raises ValueError where the report has nothing to draw."""
