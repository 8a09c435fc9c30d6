"""What numba lacks for these kernels: an atomic counter, bits of floats, and sixteen floats at a time.

Each is one LLVM instruction or a handful. A vector of 16 float32 is split by LLVM to what the machine has (AVX-512: one
register, AVX2: two, NEON: four).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16

ROWS, WIDE = 8, 4
"""Rows of `add_products`, vectors of `add_products_of_one`: so many sums at a time hide the latency of a multiply-add."""

FAST = {"contract", "nsz", "arcp", "reassoc"}
"""Sums may be taken in another order, always the same one; NaN and Inf keep their meaning."""

jit = njit(nogil=True, cache=True, fastmath=FAST, boundscheck=False, error_model="numpy")

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
VECTOR = ir.VectorType(_FLOAT, LANES)


@intrinsic
def fetch_add(typingctx: Any, counter: Any, place: Any, value: Any) -> Any:
    """counter[place] += value at once for all threads; gives what was there before. counter (n,) int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = builder.gep(array.data, [args[1]])
        return builder.atomic_rmw("add", pointer, args[2], "seq_cst")

    return types.int64(counter, types.int64, types.int64), codegen


@intrinsic
def bits_of(typingctx: Any, x: Any) -> Any:
    """The 32 bits of a float32 as an int32."""
    return types.int32(types.float32), lambda context, builder, signature, args: builder.bitcast(args[0], _INT)


@intrinsic
def float_of(typingctx: Any, bits: Any) -> Any:
    """The float32 of 32 bits."""
    return types.float32(types.int32), lambda context, builder, signature, args: builder.bitcast(args[0], _FLOAT)


def vector_at(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Where array[index : index + 16] lies, for intrinsics."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), VECTOR.as_pointer())


def spread(builder: Any, value: Any) -> Any:
    """A float32 in all lanes, for intrinsics."""
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, ir.Constant(_INT, 0))
    zeros = ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(VECTOR, ir.Undefined), zeros)


@intrinsic
def copy_eight(typingctx: Any, target: Any, at: Any, source: Any, start: Any) -> Any:
    """target[at : at + 8] = source[start : start + 8], flat float32 arrays."""
    eight = ir.VectorType(_FLOAT, 8).as_pointer()

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to = builder.bitcast(vector_at(context, builder, signature.args[0], args[0], args[1]), eight)
        source = builder.bitcast(vector_at(context, builder, signature.args[2], args[2], args[3]), eight)
        builder.store(builder.load(source, align=4), to, align=4)
        return context.get_dummy_value()

    return types.void(target, types.uint64, source, types.uint64), codegen


@intrinsic
def add_scaled(typingctx: Any, out: Any, at: Any, weight: Any, x: Any, start: Any) -> Any:
    """out[at : at + 16] += weight * x[start : start + 16], flat float32 arrays."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = vector_at(context, builder, signature.args[0], args[0], args[1])
        source = builder.load(vector_at(context, builder, signature.args[3], args[3], args[4]), align=4)
        product = builder.fmul(spread(builder, args[2]), source, flags=["contract"])
        builder.store(builder.fadd(builder.load(target, align=4), product, flags=["contract"]), target, align=4)
        return context.get_dummy_value()

    return types.void(out, types.int64, types.float32, x, types.int64), codegen


@intrinsic
def dot(typingctx: Any, x: Any, at: Any, y: Any, start: Any) -> Any:
    """sum(x[at : at + 16] * y[start : start + 16]), flat float32 arrays."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a = builder.load(vector_at(context, builder, signature.args[0], args[0], args[1]), align=4)
        b = builder.load(vector_at(context, builder, signature.args[2], args[2], args[3]), align=4)
        kind = ir.FunctionType(_FLOAT, [_FLOAT, VECTOR])
        total = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32")
        return builder.call(total, [ir.Constant(_FLOAT, 0.0), builder.fmul(a, b)], fastmath=["reassoc"])

    return types.float32(x, types.int64, y, types.int64), codegen


def _products(rows: int, vectors: int) -> Any:
    """An intrinsic that adds a tile of a matrix product, `rows` rows of `vectors` x 16 columns, in flat float32 arrays.

    The sums stay in registers and are taken in the order of the depth, so that tiles of any shape give the same bits.
    """

    @intrinsic
    def add_products(
        typingctx: Any, out: Any, at: Any, out_step: Any, x: Any, start: Any, x_step: Any, W: Any, place: Any, W_step: Any,
        depth: Any,
    ) -> Any:  # fmt: skip
        """out[at + i out_step + j] += sum_d x[start + i x_step + d] W[place + d W_step + j], d < depth."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            out, at, out_step, x, start, x_step, W, place, W_step, depth = args
            kinds, index = signature.args, at.type
            zeros, columns = ir.Constant(VECTOR, [0.0] * LANES), [index(vector * LANES) for vector in range(vectors)]
            values = context.make_array(kinds[3])(context, builder, x).data
            firsts = [builder.add(start, builder.mul(x_step, index(row))) for row in range(rows)]
            sums = [[cgutils.alloca_once_value(builder, zeros) for _ in columns] for _ in firsts]
            with cgutils.for_range(builder, depth) as loop:
                from_row = builder.add(place, builder.mul(W_step, loop.index))
                pointers = [vector_at(context, builder, kinds[6], W, builder.add(from_row, column)) for column in columns]
                weights = [builder.load(pointer, align=4) for pointer in pointers]
                for of_row, first in zip(sums, firsts, strict=True):
                    value = builder.load(builder.gep(values, [builder.add(first, loop.index)]), align=4)
                    for total, weight in zip(of_row, weights, strict=True):
                        product = builder.fmul(spread(builder, value), weight, flags=["contract"])
                        builder.store(builder.fadd(builder.load(total), product, flags=["contract"]), total)
            for row, of_row in enumerate(sums):
                to_row = builder.add(at, builder.mul(out_step, index(row)))
                for column, total in zip(columns, of_row, strict=True):
                    target = vector_at(context, builder, kinds[0], out, builder.add(to_row, column))
                    builder.store(builder.fadd(builder.load(target, align=4), builder.load(total)), target, align=4)
            return context.get_dummy_value()

        i64 = types.int64
        return types.void(out, i64, i64, x, i64, i64, W, i64, i64, i64), codegen

    return add_products


add_products, add_products_of_one = _products(ROWS, 1), _products(1, WIDE)
