"""Properties of devices that kernels are planned for where none is at hand, from their makers' data sheets."""

from __future__ import annotations

from rnn_gpu.kernels.cupy_raw.device import Properties

__all__ = ["PRESETS"]

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30


def _preset(
    name: str, capability: tuple[int, int], multiprocessors: int, shared: int, cluster: int, memory: int, l2: int,
    clock: float, bandwidth: float,
) -> Properties:  # fmt: skip
    return Properties(
        name=name,
        capability=capability,
        multiprocessors=multiprocessors,
        shared_block=(shared - 1) * _KIB,
        shared_multiprocessor=shared * _KIB,
        registers_multiprocessor=65536,
        max_cluster=cluster,
        cooperative=True,
        memory=memory * _GIB,
        l2=l2 * _MIB,
        clock=clock,
        bandwidth=bandwidth,
    )


PRESETS = {
    preset.name: preset
    for preset in (
        _preset("A100", (8, 0), 108, 164, 1, 80, 40, 1.41e9, 2.0e12),
        _preset("H100", (9, 0), 132, 228, 16, 80, 50, 1.83e9, 3.35e12),
        _preset("H200", (9, 0), 132, 228, 16, 141, 60, 1.83e9, 4.8e12),
        _preset("B200", (10, 0), 148, 228, 16, 180, 126, 1.85e9, 8.0e12),
    )
}
