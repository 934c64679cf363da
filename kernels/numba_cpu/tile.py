"""The heart of every product: a tile of sums held in registers while it runs down the K axis.

    C[r, v] = start[r, v] + sum_k A[r, k] B[k, v]      r < rows, v < vectors * lanes

B is a packed panel, [K, panel], or some vectors of its rows. Each sum is one chain of fused multiply-adds in
the order of k, whatever the tile's height and width, so that a row's result does not depend on which rows are computed
with it. The scheme is that of Goto & van de Geijn (2008), Anatomy of high-performance matrix multiplication.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from rnn_gpu.kernels.numba_cpu.host import TILE_ROWS, TRAITS
from rnn_gpu.kernels.numba_cpu.simd import broadcast, call_llvm, element_pointer

__all__ = ["NARROW_TILES", "TILES"]

_INDEX = ir.IntType(64)


def _tile(rows: int, vectors: int) -> Any:
    @intrinsic
    def tile(
        typing: Any,
        c: Any,
        c_start: Any,
        c_row: Any,
        a: Any,
        a_start: Any,
        a_row: Any,
        a_step: Any,
        panel: Any,
        panel_start: Any,
        depth: Any,
        start: Any,
        start_start: Any,
        start_row: Any,
    ) -> Any:
        """Compute one tile of `rows` rows. Each array comes with the offset of its first element and its strides.

        a_row, a_step: strides of A along rows and along k; start_row = 0 starts every row from the same numbers.
        """
        index = types.intp
        signature = types.void(c, index, index, a, index, index, index, panel, index, index, start, index, index)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            lanes = TRAITS.lanes(c.dtype.bitwidth // 8)
            element = ir.FloatType() if c.dtype == types.float32 else ir.DoubleType()
            return _Generator(
                context, builder, signature, arguments, rows, vectors, ir.VectorType(element, lanes)
            ).run()

        return signature, generate

    return tile


class _Generator:
    def __init__(
        self,
        context: Any,
        builder: Any,
        signature: Any,
        arguments: Any,
        rows: int,
        vectors: int,
        vector: ir.VectorType,
    ) -> None:
        self.context, self.builder, self.rows, self.vectors, self.vector = context, builder, rows, vectors, vector
        self.alignment = 4 if isinstance(vector.element, ir.FloatType) else 8
        pointers = (element_pointer(context, builder, signature.args[k], *arguments[k : k + 2]) for k in (0, 3, 7, 10))
        self.c, self.a, self.panel, self.start = pointers
        (self.c_row, self.a_row, self.a_step, self.depth, self.start_row) = (arguments[k] for k in (2, 5, 6, 9, 12))

    def run(self) -> Any:
        builder = self.builder
        tile = [(r, v) for r in range(self.rows) for v in range(self.vectors)]
        first = [self._load(self.start, self._offset(r, self.start_row, v)) for r, v in tile]
        a_rows = [builder.gep(self.a, [self._offset(r, self.a_row, 0)]) for r in range(self.rows)]
        before = builder.block
        loop, after = builder.append_basic_block("k.loop"), builder.append_basic_block("k.done")
        zero, one = ir.Constant(_INDEX, 0), ir.Constant(_INDEX, 1)
        builder.cbranch(builder.icmp_signed(">", self.depth, zero), loop, after)

        builder.position_at_end(loop)
        k = builder.phi(_INDEX)
        sums = [builder.phi(self.vector) for _ in tile]
        panel_row = builder.mul(k, ir.Constant(_INDEX, TRAITS.tile_vectors * self.vector.count))
        b = [self._load(self.panel, self._shifted(panel_row, v)) for v in range(self.vectors)]
        a_offset = builder.mul(k, self.a_step)
        a = [broadcast(builder, builder.load(builder.gep(row, [a_offset])), self.vector) for row in a_rows]
        added = [call_llvm(builder, "fmuladd", a[r], b[v], total) for (r, v), total in zip(tile, sums, strict=True)]
        following = builder.add(k, one)
        builder.cbranch(builder.icmp_signed("<", following, self.depth), loop, after)
        for phi, initial, next_value in zip([k, *sums], [zero, *first], [following, *added], strict=True):
            phi.add_incoming(initial, before)
            phi.add_incoming(next_value, loop)

        builder.position_at_end(after)
        for (r, v), initial, total in zip(tile, first, added, strict=True):
            result = builder.phi(self.vector)
            result.add_incoming(initial, before)
            result.add_incoming(total, loop)
            first[r * self.vectors + v] = result
        for (r, v), result in zip(tile, first, strict=True):
            pointer = builder.gep(self.c, [self._offset(r, self.c_row, v)])
            builder.store(result, builder.bitcast(pointer, self.vector.as_pointer())).align = self.alignment
        return self.context.get_dummy_value()

    def _offset(self, row: int, stride: Any, vector: int) -> Any:
        return self._shifted(self.builder.mul(stride, ir.Constant(_INDEX, row)), vector)

    def _shifted(self, offset: Any, vector: int) -> Any:
        return self.builder.add(offset, ir.Constant(_INDEX, vector * self.vector.count))

    def _load(self, pointer: Any, offset: Any) -> Any:
        address = self.builder.bitcast(self.builder.gep(pointer, [offset]), self.vector.as_pointer())
        value = self.builder.load(address)
        value.align = self.alignment
        return value


TILES = tuple(_tile(rows, TRAITS.tile_vectors) for rows in range(1, TILE_ROWS + 1))
"""`TILES[n - 1]` computes a tile of n rows and a panel's columns."""

NARROW_TILES = tuple(_tile(rows, 1) for rows in range(1, TILE_ROWS + 1))
"""`NARROW_TILES[n - 1]` computes a tile of n rows and one vector of columns."""
