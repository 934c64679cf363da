"""The heart of every product: a tile of sums held in registers while it runs down the K axis.

    C[r, v] = start[r, v] + sum_k A[r, k] B[k, v]      r < rows, v < vectors * lanes

B is a packed panel, [K, panel], or a vector of each of its rows. A sum is a chain of fused multiply-adds in the order
of k, or, in the narrow tiles, whose few sums would wait for each other, several that take terms in turn, the first
also those that are left; they are added at the end. A row's result does not depend on the tile's height, nor on which
rows are computed with it.
The scheme is that of Goto & van de Geijn (2008), Anatomy of high-performance matrix multiplication.
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


def _tile(rows: int, vectors: int, chains: int) -> Any:
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
        b: Any,
        b_start: Any,
        b_step: Any,
        depth: Any,
        start: Any,
        start_start: Any,
        start_row: Any,
    ) -> Any:
        """Compute one tile of `rows` rows. Each array comes with the offset of its first element and its strides.

        a_row, a_step: strides of A along rows and along k; b_step: that of B along k, if packed a panel's columns;
        start_row = 0 starts every row from the same numbers.
        """
        index = types.intp
        signature = types.void(c, index, index, a, index, index, index, b, index, index, index, start, index, index)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            lanes = TRAITS.lanes(c.dtype.bitwidth // 8)
            element = ir.FloatType() if c.dtype == types.float32 else ir.DoubleType()
            return _Generator(
                context, builder, signature, arguments, rows, vectors, chains, ir.VectorType(element, lanes)
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
        chains: int,
        vector: ir.VectorType,
    ) -> None:
        self.context, self.builder, self.rows, self.vectors, self.vector = context, builder, rows, vectors, vector
        self.chains = chains
        self.alignment = 4 if isinstance(vector.element, ir.FloatType) else 8
        self.tile = [(r, v) for r in range(rows) for v in range(vectors)]
        pointers = (element_pointer(context, builder, signature.args[k], *arguments[k : k + 2]) for k in (0, 3, 7, 11))
        self.c, a, self.b, self.start = pointers
        self.c_row, a_row, self.a_step, self.b_step = (arguments[k] for k in (2, 5, 6, 9))
        self.depth, self.start_row = arguments[10], arguments[13]
        self.a_rows = [builder.gep(a, [self._offset(r, a_row, 0)]) for r in range(rows)]

    def run(self) -> Any:
        builder, zero = self.builder, ir.Constant(_INDEX, 0)
        first = [self._load(self.start, self._offset(r, self.start_row, v)) for r, v in self.tile]
        sums = [first, *([ir.Constant(self.vector, None)] * len(first) for _ in range(self.chains - 1))]
        left = builder.srem(self.depth, ir.Constant(_INDEX, self.chains))
        whole = builder.sub(self.depth, left)
        sums = self._added(zero, whole, sums)
        if self.chains > 1:
            sums[:1] = self._added(whole, self.depth, sums[:1])
        while len(sums) > 1:
            pairs = zip(sums[::2], sums[1::2], strict=True)
            sums = [[builder.fadd(a, b) for a, b in zip(*pair, strict=True)] for pair in pairs]
        for (r, v), total in zip(self.tile, sums[0], strict=True):
            pointer = builder.gep(self.c, [self._offset(r, self.c_row, v)])
            builder.store(total, builder.bitcast(pointer, self.vector.as_pointer())).align = self.alignment
        return self.context.get_dummy_value()

    def _added(self, begin: Any, end: Any, sums: list[list[Any]]) -> list[list[Any]]:
        """The sums, each list of them a chain, with the terms from `begin` to `end`; the chains take them in turn."""
        builder, before = self.builder, self.builder.block
        loop, after = builder.append_basic_block("k.loop"), builder.append_basic_block("k.done")
        builder.cbranch(builder.icmp_signed("<", begin, end), loop, after)

        builder.position_at_end(loop)
        k = builder.phi(_INDEX)
        phis = [[builder.phi(self.vector) for _ in chain] for chain in sums]
        added = [self._with_term(builder.add(k, ir.Constant(_INDEX, n)), chain) for n, chain in enumerate(phis)]
        following = builder.add(k, ir.Constant(_INDEX, len(sums)))
        builder.cbranch(builder.icmp_signed("<", following, end), loop, after)
        k.add_incoming(begin, before)
        k.add_incoming(following, loop)

        builder.position_at_end(after)
        results = [[builder.phi(self.vector) for _ in chain] for chain in sums]
        for chain, of_loop, initial, total in zip(results, phis, sums, added, strict=True):
            for result, phi, first, last in zip(chain, of_loop, initial, total, strict=True):
                phi.add_incoming(first, before)
                phi.add_incoming(last, loop)
                result.add_incoming(first, before)
                result.add_incoming(last, loop)
        return results

    def _with_term(self, k: Any, sums: list[Any]) -> list[Any]:
        """The sums with the k-th term added."""
        builder = self.builder
        b_row = builder.mul(k, self.b_step)
        b = [self._load(self.b, self._shifted(b_row, v)) for v in range(self.vectors)]
        a_offset = builder.mul(k, self.a_step)
        a = [broadcast(builder, builder.load(builder.gep(row, [a_offset])), self.vector) for row in self.a_rows]
        return [call_llvm(builder, "fmuladd", a[r], b[v], total) for (r, v), total in zip(self.tile, sums, strict=True)]

    def _offset(self, row: int, stride: Any, vector: int) -> Any:
        return self._shifted(self.builder.mul(stride, ir.Constant(_INDEX, row)), vector)

    def _shifted(self, offset: Any, vector: int) -> Any:
        return self.builder.add(offset, ir.Constant(_INDEX, vector * self.vector.count))

    def _load(self, pointer: Any, offset: Any) -> Any:
        address = self.builder.bitcast(self.builder.gep(pointer, [offset]), self.vector.as_pointer())
        value = self.builder.load(address)
        value.align = self.alignment
        return value


TILES = tuple(_tile(rows, TRAITS.tile_vectors, 1) for rows in range(1, TILE_ROWS + 1))
"""`TILES[n - 1]` computes a tile of n rows and a panel's columns."""

NARROW_TILES = tuple(_tile(rows, 1, TRAITS.tile_vectors) for rows in range(1, TILE_ROWS + 1))
"""`NARROW_TILES[n - 1]` computes a tile of n rows and one vector of columns."""
