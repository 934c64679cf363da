"""What the pictures have in common."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

from rnn_gpu.bench.report import Report

__all__ = ["MARKERS", "measured_on", "png"]

MARKERS = "osD^vP*X<>hdp8"


def measured_on(report: Report) -> str:
    """The processor and the threads."""
    return f"{report.machine['processor']}, {report.threads} thread{'s' if report.threads > 1 else ''}"


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
