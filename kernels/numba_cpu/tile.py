"""The heart of every product: a tile of sums held in registers while it runs down the K axis.

    C[r, v] = start[r, v] + sum_k A[r, k] B[k, v]      r < rows, v < vectors * lanes

B is a packed panel, [K, width], or a vector of each of its rows. A sum is a chain of fused multiply-adds in the order
of k, or, in the narrow tiles, whose few sums would wait for each other, several that take terms in turn, the first
also those that are left; they are added at the end. A row's result does not depend on the tile's height, nor on which
rows are computed with it.
The scheme is that of Goto & van de Geijn (2008), Anatomy of high-performance matrix multiplication.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from rnn_gpu.kernels.numba_cpu.external import emitted
from rnn_gpu.kernels.numba_cpu.host import ROWS_OF_TWO_VECTORS, TILE_ROWS, TRAITS
from rnn_gpu.kernels.numba_cpu.simd import broadcast, call_llvm

__all__ = ["compute_tile"]

_INDEX = ir.IntType(64)


@emitted("iiaiiaiiiaiiiaiii")
def compute_tile(
    builder: Any, narrow: Any, rows: Any, c: Any, c_start: Any, c_row: Any, a: Any, a_start: Any, a_row: Any,
    a_step: Any, b: Any, b_start: Any, b_step: Any, depth: Any, start: Any, start_start: Any, start_row: Any,
    last: Any,
) -> None:  # fmt: skip
    """Compute a tile of 1 to TILE_ROWS rows of a panel's columns; or of one vector's if `narrow` is 1; or, if it is 2,
    a tile of 1 to ROWS_OF_TWO_VECTORS rows of two vectors' columns.

    Each array comes with the offset of its first element and its strides: a_row, a_step: those of A along rows and
    along k; b_step: that of B along k, if packed the panel's width. start_row = 0 starts every row from the same
    numbers. last: whether they are added when all else has been summed; start may be C itself then.
    """
    kind = c.type.pointee
    vector = ir.VectorType(kind, TRAITS.lanes(4 if isinstance(kind, ir.FloatType) else 8))
    done = builder.append_basic_block("done")
    unknown = builder.append_basic_block("unknown")
    choice = builder.switch(builder.add(builder.mul(narrow, _index(TILE_ROWS)), rows), unknown)
    for strips, most_rows in ((0, TILE_ROWS), (1, TILE_ROWS), (2, ROWS_OF_TWO_VECTORS)):
        for n_rows in range(1, most_rows + 1):
            block = builder.append_basic_block(f"tile{n_rows}")
            choice.add_case(_index(strips * TILE_ROWS + n_rows), block)
            builder.position_at_end(block)
            vectors, chains = (strips, TRAITS.tile_vectors) if strips else (TRAITS.tile_vectors, 1)
            _Tile(
                builder, vector, n_rows, vectors, chains, builder.gep(c, [c_start]), c_row, builder.gep(a, [a_start]),
                a_row, a_step, builder.gep(b, [b_start]), b_step, depth, builder.gep(start, [start_start]), start_row,
                builder.icmp_signed("!=", last, _index(0)),
            ).write()  # fmt: skip
            builder.branch(done)
    builder.position_at_end(unknown)
    builder.unreachable()
    builder.position_at_end(done)


def _index(value: int) -> ir.Constant:
    return ir.Constant(_INDEX, value)


class _Tile:
    """Code of a tile of so many rows and vectors; `chains` as the head of this file says.

    c, a, b, start: pointers to the operands' first elements; their strides as `compute_tile` has them.
    """

    def __init__(
        self, builder: Any, vector: ir.VectorType, rows: int, vectors: int, chains: int, c: Any, c_row: Any, a: Any,
        a_row: Any, a_step: Any, b: Any, b_step: Any, depth: Any, start: Any, start_row: Any,
        last: Any,
    ) -> None:  # fmt: skip
        self.builder, self.vector, self.chains, self.vectors = builder, vector, chains, vectors
        self.alignment = 4 if isinstance(vector.element, ir.FloatType) else 8
        self.tile = [(r, v) for r in range(rows) for v in range(vectors)]
        self.c, self.c_row, self.a_step, self.b, self.b_step = c, c_row, a_step, b, b_step
        self.depth, self.start, self.start_row, self.last = depth, start, start_row, last
        self.a_rows = [builder.gep(a, [self._offset(r, a_row, 0)]) for r in range(rows)]

    def write(self) -> None:
        """Write the code at the builder's place."""
        builder = self.builder
        nothing = [ir.Constant(self.vector, None)] * len(self.tile)
        first = self._chosen(self.last, nothing, self._starts)
        sums = [first, *([nothing] * (self.chains - 1))]
        left = builder.srem(self.depth, _index(self.chains))
        whole = builder.sub(self.depth, left)
        sums = self._added(_index(0), whole, sums)
        if self.chains > 1:
            sums[:1] = self._added(whole, self.depth, sums[:1])
        while len(sums) > 1:
            pairs = zip(sums[::2], sums[1::2], strict=True)
            sums = [self._sums(*pair) for pair in pairs]
        results = self._chosen(builder.not_(self.last), sums[0], lambda: self._sums(self._starts(), sums[0]))
        for (r, v), result in zip(self.tile, results, strict=True):
            pointer = builder.gep(self.c, [self._offset(r, self.c_row, v)])
            builder.store(result, builder.bitcast(pointer, self.vector.as_pointer())).align = self.alignment

    def _chosen(self, condition: Any, values: list[Any], others: Callable[[], list[Any]]) -> list[Any]:
        """The values if the condition holds, else what `others` writes the code of."""
        builder, before = self.builder, self.builder.block
        otherwise, after = builder.append_basic_block("otherwise"), builder.append_basic_block("chosen")
        builder.cbranch(condition, after, otherwise)
        builder.position_at_end(otherwise)
        found = others()
        builder.branch(after)
        builder.position_at_end(after)
        phis = [builder.phi(self.vector) for _ in values]
        for phi, value, other in zip(phis, values, found, strict=True):
            phi.add_incoming(value, before)
            phi.add_incoming(other, otherwise)
        return phis

    def _starts(self) -> list[Any]:
        return [self._load(self.start, self._offset(r, self.start_row, v)) for r, v in self.tile]

    def _sums(self, ours: list[Any], others: list[Any]) -> list[Any]:
        return [self.builder.fadd(a, b) for a, b in zip(ours, others, strict=True)]

    def _added(self, begin: Any, end: Any, sums: list[list[Any]]) -> list[list[Any]]:
        """The sums, each list of them a chain, with the terms from `begin` to `end`; the chains take them in turn."""
        builder, before = self.builder, self.builder.block
        loop, after = builder.append_basic_block("k.loop"), builder.append_basic_block("k.done")
        builder.cbranch(builder.icmp_signed("<", begin, end), loop, after)

        builder.position_at_end(loop)
        k = builder.phi(_INDEX)
        phis = [[builder.phi(self.vector) for _ in chain] for chain in sums]
        added = [self._with_term(builder.add(k, _index(n)), chain) for n, chain in enumerate(phis)]
        following = builder.add(k, _index(len(sums)))
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
        return self._shifted(self.builder.mul(stride, _index(row)), vector)

    def _shifted(self, offset: Any, vector: int) -> Any:
        return self.builder.add(offset, _index(vector * self.vector.count))

    def _load(self, pointer: Any, offset: Any) -> Any:
        address = self.builder.bitcast(self.builder.gep(pointer, [offset]), self.vector.as_pointer())
        value = self.builder.load(address)
        value.align = self.alignment
        return value
