"""Keras' masks, on kernels that know lengths: the steps that count are moved to the front, and the outputs back."""

from __future__ import annotations

from typing import Any

from keras import backend, ops

from rnn_gpu.errors import ArgumentError

__all__ = ["check", "gather", "is_right_padding", "lengths_of", "spread"]


def check(mask: Any, sequences: Any) -> None:
    """Raise ArgumentError for a mask of another shape than (B, T), as far as the sizes of both are known."""
    shape, expected = tuple(mask.shape), tuple(sequences.shape[:2])
    known = [(size, right) for size, right in zip(shape, expected, strict=False) if None not in (size, right)]
    if len(shape) != 2 or any(size != right for size, right in known):
        raise ArgumentError("mask", f"shape (B, T) = {expected}", f"shape {shape}")


def lengths_of(mask: Any) -> Any:
    """How many steps of each row count, (B,): mask (T, B) bool."""
    return ops.sum(ops.cast(mask, "int32"), axis=0)


def is_right_padding(mask: Any) -> bool:
    """Whether the steps that count are known to be in front already. False where the values cannot be looked at."""
    if backend.backend() != "torch" or mask.device.type == "meta":
        return False
    return bool((mask[:-1] >= mask[1:]).all())


def gather(x: Any, mask: Any) -> Any:
    """x (T, B, I) with the steps of each row that count moved to its front, in their order."""
    return ops.take_along_axis(x, ops.expand_dims(_order(mask), -1), axis=0)


def spread(y: Any, mask: Any, zeros: bool) -> Any:
    """Outputs (T, B, H) of the steps that count, put where those are.

    At a step that does not count: the output of the last one before it that does, 0 if there is none; or, with `zeros`,
    0 everywhere.
    """
    counted = ops.cumsum(ops.cast(mask, "int32"), axis=0)
    place = ops.maximum(counted - 1, 0)
    there = mask if zeros else counted > 0
    found = ops.take_along_axis(y, ops.expand_dims(place, -1), axis=0)
    return ops.where(ops.expand_dims(there, -1), found, ops.zeros_like(found))


def _order(mask: Any) -> Any:
    """(T, B): for each row the steps that count, and then the others."""
    steps = ops.expand_dims(ops.arange(ops.shape(mask)[0]), -1)
    after = ops.where(mask, ops.zeros_like(steps), ops.ones_like(steps)) * ops.shape(mask)[0]
    return ops.argsort(steps + after, axis=0)
