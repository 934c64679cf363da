"""Those we are measured against, one module each with a `PEER`, imported when it is first asked for.

A peer's library is imported by `version` and `runner` only.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from rnn_gpu.bench.calls import Call
from rnn_gpu.bench.runner import Runner
from rnn_gpu.bench.shapes import Case

__all__ = ["PEERS", "Peer", "peer"]


class Peer(Protocol):
    """A library that runs the same cells."""

    name: str

    def unavailable(self) -> str | None:
        """Why it cannot be used here, or None."""

    def refuses(self, case: Case) -> str | None:
        """Why it cannot run this case, or None."""

    def threads(self, number: int) -> AbstractContextManager[None]:
        """While open, its threads in this process are `number`."""

    def runner(self, call: Call, threads: int) -> Runner:
        """The call as a user of the library would write it, with the same weights."""


PEERS: Mapping[str, str] = {
    "torch": "rnn_gpu.bench.peers.torch",
    "onnxruntime": "rnn_gpu.bench.peers.onnxruntime",
    "numpy_cpu": "rnn_gpu.bench.peers.numpy_cpu",
}
"""Module by name."""


def peer(name: str) -> Peer:
    """The peer of this name, one of PEERS."""
    found: Peer = importlib.import_module(PEERS[name]).PEER
    return found
