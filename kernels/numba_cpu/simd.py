"""A register full of numbers as a Numba type, so that the emitted cell functions compute on whole registers.

`load`, `store` and `splat` make and take vectors; + - * / and the comparisons work on them as on scalars. Left to
itself LLVM would not vectorise a cell's loop: it touches more arrays than LLVM is willing to prove apart.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel.models import PrimitiveModel
from numba.core.errors import RequireLiteralValue
from numba.extending import intrinsic, lower_builtin, register_model, type_callable
from numba.np.arrayobj import make_array, populate_array

from rnn_gpu.kernels.numba_cpu.host import TILE_ROWS, TRAITS

__all__ = [
    "Mask",
    "Vector",
    "add_wide",
    "array_at",
    "call_llvm",
    "clear_vector",
    "element_pointer",
    "fetch_to_read",
    "fetch_to_write",
    "flattened",
    "load",
    "load_all",
    "load_part",
    "move_tile_row",
    "room_for",
    "scale_by_power_of_two",
    "select",
    "splat32",
    "splat64",
    "store",
    "store_part",
    "sum_of_lanes",
    "transpose",
    "transpose_part",
    "vector_type",
    "widened",
    "zeros_like",
]

_INDEX = ir.IntType(64)
_LANE = ir.IntType(32)


class Vector(types.Type):
    """A vector of `lanes` numbers of a Numba float type."""

    def __init__(self, dtype: Any, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")


class Mask(types.Type):
    """The result of a comparison of vectors of `lanes` numbers."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Mask({lanes})")


def vector_type(vector: Vector) -> ir.VectorType:
    """The LLVM type of a vector."""
    return ir.VectorType(ir.FloatType() if vector.dtype == types.float32 else ir.DoubleType(), vector.lanes)


@register_model(Vector)
class _VectorModel(PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector_type(vector))


@register_model(Mask)
class _MaskModel(PrimitiveModel):
    def __init__(self, manager: Any, mask: Mask) -> None:
        super().__init__(manager, mask, ir.VectorType(ir.IntType(1), mask.lanes))


def _vector_of(array: types.Array) -> Vector:
    return Vector(array.dtype, TRAITS.lanes(array.dtype.bitwidth // 8))


def element_pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    """Pointer to element `offset` of a contiguous array."""
    data = cgutils.create_struct_proxy(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def array_at(context: Any, builder: Any, array_type: Any, data: Any, *shape: Any) -> Any:
    """A contiguous array of that shape whose elements lie at `data` and are kept by somebody else."""
    array = make_array(array_type)(context, builder)
    item = ir.Constant(_INDEX, context.get_abi_sizeof(context.get_data_type(array_type.dtype)))
    strides = [item]
    for size in shape[:0:-1]:
        strides.insert(0, builder.mul(strides[0], size))
    populate_array(array, data=data, shape=shape, strides=strides, itemsize=item, meminfo=None)
    return array._getvalue()


@intrinsic
def flattened(typing: Any, array: Any) -> Any:
    """A contiguous array as one of one axis, over the same elements."""
    flat = types.Array(array.dtype, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = cgutils.create_struct_proxy(array)(context, builder, arguments[0])
        return array_at(context, builder, flat, given.data, given.nitems)

    return flat(array), generate


def call_llvm(builder: Any, name: str, *arguments: Any) -> Any:
    """Call an LLVM intrinsic whose arguments and result are all of one vector type."""
    kind = arguments[0].type
    suffix = f"v{kind.count}{'f32' if isinstance(kind.element, ir.FloatType) else 'f64'}"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * len(arguments)), f"llvm.{name}.{suffix}"
    )
    return builder.call(function, arguments)


def broadcast(builder: Any, scalar: Any, kind: ir.VectorType) -> Any:
    """A vector with `scalar` in every lane."""
    empty = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(empty, scalar, ir.Constant(_LANE, 0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_LANE, kind.count), [0] * kind.count))


@intrinsic
def load(typing: Any, array: Any, offset: Any) -> Any:
    """The vector at element `offset` of a contiguous array."""
    vector = _vector_of(array)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = element_pointer(context, builder, signature.args[0], *arguments)
        value = builder.load(builder.bitcast(pointer, vector_type(vector).as_pointer()))
        value.align = vector.dtype.bitwidth // 8
        return value

    return vector(array, types.intp), generate


@intrinsic
def zeros_like(typing: Any, array: Any) -> Any:
    """A vector of zeros of the array's type."""
    vector = _vector_of(array)
    return vector(array), lambda context, builder, signature, arguments: ir.Constant(vector_type(vector), None)


@intrinsic
def load_all(typing: Any, array: Any, offset: Any) -> Any:
    """A vector with element `offset` of a contiguous array in every lane."""
    vector = _vector_of(array)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = element_pointer(context, builder, signature.args[0], *arguments)
        return broadcast(builder, builder.load(pointer), vector_type(vector))

    return vector(array, types.intp), generate


@intrinsic
def sum_of_lanes(typing: Any, vector: Any) -> Any:
    """The sum of a vector's numbers, by halves."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, lanes = arguments[0], vector.lanes
        while lanes > 1:
            lanes //= 2
            order = ir.Constant(
                ir.VectorType(_LANE, vector.lanes), [(k + lanes) % vector.lanes for k in range(vector.lanes)]
            )
            total = builder.fadd(total, builder.shuffle_vector(total, total, order))
        return builder.extract_element(total, ir.Constant(_LANE, 0))

    return vector.dtype(vector), generate


@intrinsic
def store(typing: Any, array: Any, offset: Any, vector: Any) -> Any:
    """Write a vector at element `offset` of a contiguous array."""
    if array.dtype != vector.dtype:
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = element_pointer(context, builder, signature.args[0], arguments[0], arguments[1])
        written = builder.store(arguments[2], builder.bitcast(pointer, vector_type(vector).as_pointer()))
        written.align = vector.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def clear_vector(typing: Any, array: Any, offset: Any) -> Any:
    """Zero a vector of `array` from element `offset` on."""
    kind, alignment = vector_type(_vector_of(array)), array.dtype.bitwidth // 8

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = element_pointer(context, builder, signature.args[0], *arguments)
        stored = builder.store(ir.Constant(kind, None), builder.bitcast(pointer, kind.as_pointer()))
        stored.align = alignment
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


def _first_lanes(builder: Any, kind: ir.VectorType, count: Any) -> Any:
    """A mask of the first `count` lanes, of none or all where count is beyond that."""
    lanes = ir.VectorType(_INDEX, kind.count)
    return builder.icmp_signed("<", ir.Constant(lanes, list(range(kind.count))), broadcast(builder, count, lanes))


def _masked(builder: Any, operation: str, result: Any, *arguments: Any, kind: ir.VectorType) -> Any:
    """Call an LLVM intrinsic that reads or writes the lanes of a mask, at a pointer to such a vector."""
    suffix = f"v{kind.count}{'f32' if isinstance(kind.element, ir.FloatType) else 'f64'}"
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(result, [argument.type for argument in arguments]),
        f"llvm.masked.{operation}.{suffix}.p0{suffix}",
    )
    return builder.call(function, arguments)


def _load_lanes(builder: Any, kind: ir.VectorType, alignment: int, pointer: Any, mask: Any) -> Any:
    """The lanes of a mask from a pointer to the vector, zeros in the others."""
    align, zeros = ir.Constant(_LANE, alignment), ir.Constant(kind, None)
    return _masked(builder, "load", kind, pointer, align, mask, zeros, kind=kind)


def _store_lanes(builder: Any, kind: ir.VectorType, alignment: int, pointer: Any, mask: Any, value: Any) -> None:
    """Write the lanes of a mask to a pointer to the vector."""
    _masked(builder, "store", ir.VoidType(), value, pointer, ir.Constant(_LANE, alignment), mask, kind=kind)


@intrinsic
def load_part(typing: Any, array: Any, offset: Any, count: Any) -> Any:
    """The vector at element `offset` of a contiguous array, as `load`, but of its first `count` lanes; others are 0."""
    vector = _vector_of(array)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = vector_type(vector)
        pointer = element_pointer(context, builder, signature.args[0], *arguments[:2])
        mask = _first_lanes(builder, kind, arguments[2])
        alignment = vector.dtype.bitwidth // 8
        return _load_lanes(builder, kind, alignment, builder.bitcast(pointer, kind.as_pointer()), mask)

    return vector(array, types.intp, types.intp), generate


@intrinsic
def store_part(typing: Any, array: Any, offset: Any, vector: Any, count: Any) -> Any:
    """Write the first `count` lanes of a vector at element `offset` of a contiguous array."""
    if array.dtype != vector.dtype:
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = vector_type(vector)
        pointer = element_pointer(context, builder, signature.args[0], *arguments[:2])
        mask = _first_lanes(builder, kind, arguments[3])
        pointer = builder.bitcast(pointer, kind.as_pointer())
        _store_lanes(builder, kind, vector.dtype.bitwidth // 8, pointer, mask, arguments[2])
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, types.intp), generate


def _fetch(to_write: bool) -> Any:
    @intrinsic
    def fetch(typing: Any, array: Any, offset: Any) -> Any:
        """Ask for the cache line of an element that is soon to be used."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            byte = ir.IntType(8).as_pointer()
            pointer = builder.bitcast(element_pointer(context, builder, signature.args[0], *arguments), byte)
            kind = ir.FunctionType(ir.VoidType(), [byte, _LANE, _LANE, _LANE])
            prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
            to_keep, data = 3, 1
            builder.call(prefetch, [pointer, *(ir.Constant(_LANE, hint) for hint in (int(to_write), to_keep, data))])
            return context.get_dummy_value()

        return types.void(array, types.intp), generate

    return fetch


fetch_to_read, fetch_to_write = _fetch(to_write=False), _fetch(to_write=True)
"""Ask for the cache line of an element that is soon to be read, or to be read and written."""


@intrinsic
def room_for(typing: Any, like: Any, count: Any) -> Any:
    """An array of the type of `like` on the stack, of `count` elements, a number known when it is compiled."""
    if not isinstance(count, types.IntegerLiteral):
        raise RequireLiteralValue("count")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        element = context.get_data_type(like.dtype)
        data = cgutils.alloca_once(builder, element, size=ir.Constant(_INDEX, count.literal_value))
        return array_at(context, builder, like, data, ir.Constant(_INDEX, count.literal_value))

    return like(like, count), generate


@intrinsic
def move_tile_row(typing: Any, to: Any, to_start: Any, source: Any, source_start: Any) -> Any:
    """Copy TILE_ROWS elements at once."""
    kind = ir.VectorType(vector_type(_vector_of(to)).element, TILE_ROWS)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, origin = (
            builder.bitcast(
                element_pointer(context, builder, signature.args[k], *arguments[k : k + 2]), kind.as_pointer()
            )
            for k in (0, 2)
        )
        moved = builder.load(origin)
        stored = builder.store(moved, target)
        moved.align = stored.align = to.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(to, types.intp, source, types.intp), generate


@intrinsic
def widened(typing: Any, vector: Any) -> Any:
    """The vector's numbers in float64."""
    wide = Vector(types.float64, vector.lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return arguments[0] if vector == wide else builder.fpext(arguments[0], vector_type(wide))

    return wide(vector), generate


@intrinsic
def add_wide(typing: Any, sums: Any, offset: Any, vector: Any) -> Any:
    """Add a vector, widened to float64, to the float64 elements from `offset` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.VectorType(ir.DoubleType(), vector.lanes)
        pointer = element_pointer(context, builder, signature.args[0], arguments[0], arguments[1])
        pointer = builder.bitcast(pointer, wide.as_pointer())
        before = builder.load(pointer)
        before.align = 8
        term = arguments[2] if vector.dtype == types.float64 else builder.fpext(arguments[2], wide)
        written = builder.store(builder.fadd(before, term), pointer)
        written.align = 8
        return context.get_dummy_value()

    return types.void(sums, types.intp, vector), generate


def _transposed(rows: list[Any], builder: Any) -> list[Any]:
    """The columns of a square block, given its rows.

    In log2(lanes) passes, which swap the blocks off the diagonal, of 1, 2, 4 ... elements, between pairs of rows.
    Eklundh, A fast computer method for matrix transposing (1972).
    """
    lanes, rows = len(rows), list(rows)
    for bit in (1 << n for n in range(lanes.bit_length() - 1)):
        even = [c if not c & bit else lanes + c - bit for c in range(lanes)]
        odd = [c + bit if not c & bit else lanes + c for c in range(lanes)]
        masks = [ir.Constant(ir.VectorType(_LANE, lanes), columns) for columns in (even, odd)]
        for k in range(lanes):
            if not k & bit:
                pair = rows[k], rows[k + bit]
                rows[k], rows[k + bit] = (builder.shuffle_vector(*pair, mask) for mask in masks)
    return rows


class _Block:
    """Pointers to the rows of a square block of an array, of as many rows and columns as a vector has lanes."""

    def __init__(self, context: Any, builder: Any, array_type: Any, array: Any, start: Any, row: Any) -> None:
        vector = _vector_of(array_type)
        self.builder, self.kind, self.alignment = builder, vector_type(vector), vector.dtype.bitwidth // 8
        self.pointers = [
            builder.bitcast(
                element_pointer(
                    context, builder, array_type, array, builder.add(start, builder.mul(row, ir.Constant(_INDEX, k)))
                ),
                self.kind.as_pointer(),
            )
            for k in range(vector.lanes)
        ]


@intrinsic
def transpose(typing: Any, source: Any, start: Any, row: Any, to: Any, to_start: Any, to_row: Any) -> Any:
    """Write the transpose of a square block, of as many rows and columns as a vector has lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _Block(context, builder, signature.args[0], *arguments[:3])
        target = _Block(context, builder, signature.args[3], *arguments[3:])
        rows = [builder.load(pointer) for pointer in block.pointers]
        for value in rows:
            value.align = block.alignment
        for value, pointer in zip(_transposed(rows, builder), target.pointers, strict=True):
            builder.store(value, pointer).align = block.alignment
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, to, types.intp, types.intp), generate


@intrinsic
def transpose_part(
    typing: Any, source: Any, start: Any, row: Any, rows: Any, columns: Any, to: Any, to_start: Any, to_row: Any
) -> Any:
    """`transpose`, where of the source's block there are only so many rows and columns; for rows that there are not,
    zeros are written.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _Block(context, builder, signature.args[0], *arguments[:3])
        target = _Block(context, builder, signature.args[5], *arguments[5:])
        kind, alignment, none = block.kind, block.alignment, ir.Constant(_INDEX, 0)
        n_rows, n_columns, every = arguments[3], arguments[4], ir.Constant(_INDEX, kind.count)
        loaded = []
        for k, pointer in enumerate(block.pointers):
            there = builder.icmp_signed("<", ir.Constant(_INDEX, k), n_rows)
            mask = _first_lanes(builder, kind, builder.select(there, n_columns, none))
            loaded.append(_load_lanes(builder, kind, alignment, pointer, mask))
        for k, (value, pointer) in enumerate(zip(_transposed(loaded, builder), target.pointers, strict=True)):
            wanted = builder.icmp_signed("<", ir.Constant(_INDEX, k), n_columns)
            mask = _first_lanes(builder, kind, builder.select(wanted, every, none))
            _store_lanes(builder, kind, alignment, pointer, mask, value)
        return context.get_dummy_value()

    return types.void(source, *[types.intp] * 4, to, *[types.intp] * 2), generate


def _splat(dtype: Any) -> Any:
    vector = Vector(dtype, TRAITS.lanes(dtype.bitwidth // 8))

    @intrinsic
    def splat(typing: Any, value: Any) -> Any:
        """A vector with `value`, rounded to the vector's type, in every lane."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            scalar = context.cast(builder, arguments[0], signature.args[0], dtype)
            return broadcast(builder, scalar, vector_type(vector))

        return vector(types.float64 if isinstance(value, types.Integer) else value), generate

    return splat


splat32, splat64 = _splat(types.float32), _splat(types.float64)


@intrinsic
def select(typing: Any, mask: Any, a: Any, b: Any) -> Any:
    """`a` in the lanes where `mask` holds, `b` in the others."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return a(mask, a, b), generate


@intrinsic
def scale_by_power_of_two(typing: Any, vector: Any, biased: Any) -> Any:
    """vector * 2**n, rounded once, where `biased` = n + 1.5 * 2**23 (float32) or n + 1.5 * 2**52 (float64).

    |n| < 2**8 (float32) or 2**11 (float64).
    """
    single = vector.dtype == types.float32
    magic = 1.5 * 2**23 if single else 1.5 * 2**52

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scale = _scaled_by_instruction if TRAITS.scales else _scaled_by_products
        return scale(builder, vector_type(vector), single, magic, *arguments)

    return vector(vector, vector), generate


def _scaled_by_instruction(
    builder: Any, kind: ir.VectorType, single: bool, magic: float, value: Any, biased: Any
) -> Any:
    """AVX-512 has an instruction for it."""
    n = builder.fsub(biased, ir.Constant(kind, [magic] * kind.count))
    mask = ir.IntType(kind.count)
    scale = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(kind, [kind, kind, kind, mask, _LANE]),
        f"llvm.x86.avx512.mask.scalef.p{'s' if single else 'd'}.512",
    )
    rounding = ir.Constant(_LANE, 4)  # that which is set
    return builder.call(scale, [value, n, value, ir.Constant(mask, -1), rounding])


def _scaled_by_products(builder: Any, kind: ir.VectorType, single: bool, magic: float, value: Any, biased: Any) -> Any:
    """In the biased number n stands in the low bits of the significand.

    Half of n is applied at a time, so that results beyond the largest and below the smallest normal number come out
    right.
    """
    integer = ir.VectorType(ir.IntType(32 if single else 64), kind.count)
    significand, bias = (23, 127) if single else (52, 1023)
    offset = int(np.float32(magic).view(np.int32) if single else np.float64(magic).view(np.int64))

    def constant(number: int) -> Any:
        return ir.Constant(integer, [number] * kind.count)

    n = builder.sub(builder.bitcast(biased, integer), constant(offset))
    half = builder.ashr(n, constant(1))
    for part in (half, builder.sub(n, half)):
        power = builder.shl(builder.add(part, constant(bias)), constant(significand))
        value = builder.fmul(value, builder.bitcast(power, kind))
    return value


def _register_operators() -> None:
    """Give vectors the operators of arithmetic and comparison."""

    def binary(function: Callable[..., Any], instruction: str) -> None:
        @type_callable(function)
        def resolve(context: Any) -> Any:
            def typer(a: Any, b: Any) -> Any:
                return a if isinstance(a, Vector) and a == b else None

            return typer

        @lower_builtin(function, Vector, Vector)
        def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

    def comparison(function: Callable[..., Any], symbol: str) -> None:
        @type_callable(function)
        def resolve(context: Any) -> Any:
            def typer(a: Any, b: Any) -> Any:
                return Mask(a.lanes) if isinstance(a, Vector) and a == b else None

            return typer

        @lower_builtin(function, Vector, Vector)
        def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.fcmp_ordered(symbol, *arguments)

    for function, instruction in (
        (operator.add, "fadd"),
        (operator.sub, "fsub"),
        (operator.mul, "fmul"),
        (operator.truediv, "fdiv"),
    ):
        binary(function, instruction)
    for function, symbol in (
        (operator.gt, ">"),
        (operator.ge, ">="),
        (operator.lt, "<"),
        (operator.le, "<="),
        (operator.eq, "=="),
    ):
        comparison(function, symbol)

    @type_callable(operator.neg)
    def resolve_negative(context: Any) -> Any:
        def typer(a: Any) -> Any:
            return a if isinstance(a, Vector) else None

        return typer

    @lower_builtin(operator.neg, Vector)
    def lower_negative(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fneg(arguments[0])


_register_operators()
