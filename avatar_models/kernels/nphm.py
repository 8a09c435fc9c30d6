"""Signed distance and colour of a neural head at rest, on a CPU: neighbours, and the regions' MLPs sixteen points at a time.

Points of one region go through its MLP together, sixteen lanes of a vector each, so hidden values lie as (H, 16) and never
leave the caches. A hidden unit that is off for all sixteen is not multiplied with anything: close points have the same ones
off.
P values of a point, K neighbours, pairs are (point, 0 to K), the last being the whole head's.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from avatar_models.kernels.lanes import LANES, VECTOR, fetch_add, jit, spread, vector_at
from avatar_models.kernels.maths import f4

GROUPS = 8
"""Vectors of points that go through a layer before the next one, whose weights take their place in the second cache."""

PIECE = GROUPS * LANES
"""Points of a piece of work."""

OUT = 5
"""Outputs of a layer that are summed up at a time: with two registers each (AVX2), ten sums hide a multiply-add's latency."""

EDGE = f4(0.17)
"""A softplus of sharpness 100 is zero below minus this and its argument above, within 4e-10: its value at zero is 7e-3."""


ALL = (1 << LANES) - 1

TWO_TO = (0.0018775767, 0.0089893397, 0.055826318, 0.24015361, 0.69315308, 0.99999994)
"""2^x for x in [0, 1], highest power first."""

LOG_OF_ONE_AND = (
    -0.0064535442, 0.0360884937, -0.0953293897, 0.1676540711, -0.2407338084, 0.3317990258, -0.4998741238, 0.9999964239,
)  # fmt: skip
"""log(1 + x) / x for x in [0, 1]."""

_INTS = ir.VectorType(ir.IntType(32), LANES)


@intrinsic
def _products(
    typingctx: Any, out: Any, at: Any, bias: Any, b: Any, W: Any, w: Any, h: Any, first: Any, on: Any, count: Any
) -> Any:
    """out[at + 16 j + i] = bias[b + j] + sum_d W[w + OUT d + j] h[first + 16 d + i] over the first `count` depths d in `on`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, at, bias, b, W, w, h, first, on, count = args
        kinds, index = signature.args, at.type
        data = [
            context.make_array(kind)(context, builder, array).data
            for kind, array in ((kinds[2], bias), (kinds[4], W), (kinds[8], on))
        ]
        sums = []
        for j in range(OUT):
            start = builder.load(builder.gep(data[0], [builder.add(b, index(j))]), align=4)
            sums.append(cgutils.alloca_once_value(builder, spread(builder, start)))
        with cgutils.for_range(builder, count) as loop:
            depth = builder.load(builder.gep(data[2], [loop.index]))
            x = builder.load(
                vector_at(context, builder, kinds[6], h, builder.add(first, builder.mul(depth, index(LANES)))), align=4
            )
            weights = builder.add(w, builder.mul(depth, index(OUT)))
            for j, total in enumerate(sums):
                weight = builder.load(builder.gep(data[1], [builder.add(weights, index(j))]), align=4)
                product = builder.fmul(spread(builder, weight), x, flags=["contract"])
                builder.store(builder.fadd(builder.load(total), product, flags=["contract"]), total)
        for j, total in enumerate(sums):
            target = vector_at(context, builder, kinds[0], out, builder.add(at, index(j * LANES)))
            builder.store(builder.load(total), target, align=4)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(out, i64, bias, i64, W, i64, h, i64, on, i64), codegen


def _constant(value: float) -> Any:
    return ir.Constant(VECTOR, [value] * LANES)


def _polynomial(builder: Any, x: Any, coefficients: tuple[float, ...]) -> Any:
    """Highest power first."""
    total = _constant(coefficients[0])
    for coefficient in coefficients[1:]:
        product = builder.fmul(total, x, flags=["contract"])
        total = builder.fadd(product, _constant(coefficient), flags=["contract"])
    return total


def _of_lanes(builder: Any, name: str, x: Any) -> Any:
    """LLVM's own function of each lane."""
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(VECTOR, [VECTOR]), f"llvm.{name}.v{LANES}f32")
    return builder.call(function, [x])


@intrinsic
def _softplus(typingctx: Any, h: Any, at: Any) -> Any:
    """log(1 + exp(100 x)) / 100 of x = h[at : at + 16] in place, within 4e-9: max(x, 0) + log(1 + exp(-100 |x|)) / 100."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = vector_at(context, builder, signature.args[0], *args)
        x = builder.load(place, align=4)
        t = builder.fmul(_of_lanes(builder, "fabs", x), _constant(-100 / math.log(2)))
        t = builder.select(builder.fcmp_unordered("<", t, _constant(-60.0)), _constant(-60.0), t)
        whole = _of_lanes(builder, "floor", t)
        power = builder.add(builder.fptosi(whole, _INTS), ir.Constant(_INTS, [127] * LANES))
        power = builder.bitcast(builder.shl(power, ir.Constant(_INTS, [23] * LANES)), VECTOR)
        e = builder.fmul(_polynomial(builder, builder.fsub(t, whole), TWO_TO), power)
        log = builder.fmul(_polynomial(builder, e, LOG_OF_ONE_AND), builder.fmul(e, _constant(0.01)))
        positive = builder.select(builder.fcmp_ordered("<", x, _constant(0.0)), _constant(0.0), x)  # NaN stays
        builder.store(builder.fadd(positive, log), place, align=4)
        return context.get_dummy_value()

    return types.void(h, types.int64), codegen


@intrinsic
def _times_slope(typingctx: Any, out: Any, at: Any, y: Any, place: Any) -> Any:
    """out[at : at + 16] times the slope of the softplus whose values are y[place : place + 16]: 1 - exp(-100 y)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = vector_at(context, builder, signature.args[0], args[0], args[1])
        values = builder.load(vector_at(context, builder, signature.args[2], args[2], args[3]), align=4)
        t = builder.fmul(values, _constant(-100 / math.log(2)))
        t = builder.select(builder.fcmp_unordered("<", t, _constant(-60.0)), _constant(-60.0), t)
        whole = _of_lanes(builder, "floor", t)
        power = builder.add(builder.fptosi(whole, _INTS), ir.Constant(_INTS, [127] * LANES))
        power = builder.bitcast(builder.shl(power, ir.Constant(_INTS, [23] * LANES)), VECTOR)
        e = builder.fmul(_polynomial(builder, builder.fsub(t, whole), TWO_TO), power)
        slope = builder.fsub(_constant(1.0), e)
        builder.store(builder.fmul(builder.load(target, align=4), slope), target, align=4)
        return context.get_dummy_value()

    return types.void(out, types.int64, y, types.int64), codegen


@intrinsic
def _above(typingctx: Any, h: Any, at: Any, edge: Any) -> Any:
    """Which of h[at : at + 16] are not at or below an edge, as 16 bits. NaN is not."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        h, at, edge = args
        x = builder.load(vector_at(context, builder, signature.args[0], h, at), align=4)
        found = builder.fcmp_unordered(">", x, spread(builder, edge))
        return builder.zext(builder.bitcast(found, ir.IntType(LANES)), ir.IntType(64))

    return types.int64(h, types.int64, types.float32), codegen


@jit
def _soften(h: Any, at: int, width: int, on: Any) -> int:
    """Softplus of h (width, 16) in place where a lane needs it; fills `on` with the units that are not zero in all lanes."""
    count = 0
    for j in range(width):
        start = at + LANES * j
        if _above(h, start, -EDGE) == 0:
            continue
        on[count] = j
        count += 1
        if _above(h, start, EDGE) != ALL:
            _softplus(h, start)
    return count


@jit
def _rectify(h: Any, at: int, width: int, on: Any) -> int:
    """The same of a ReLU."""
    count = 0
    for j in range(width):
        start = at + LANES * j
        above = _above(h, start, f4(0.0))
        if above == 0:
            continue
        on[count] = j
        count += 1
        if above != ALL:
            for i in range(LANES):
                h[start + i] = h[start + i] if (above >> i) & 1 else f4(0.0)
    return count


@jit
def _activate(soft: bool, h: Any, at: int, width: int, on: Any) -> int:
    """Softplus or ReLU. A function as an argument would keep numba from storing what it compiled."""
    return _soften(h, at, width, on) if soft else _rectify(h, at, width, on)


@jit
def _layer(
    out: Any, at: int, width: int, bias: Any, b: int, W: Any, w: int, depth: int, h: Any, first: int, on: Any, count: int
) -> None:
    """out (width, 16) = bias + W h, width in whole OUT, W (width / OUT, depth, OUT), of the `count` depths in `on`."""
    for block in range(width // OUT):
        _products(out, at + block * OUT * LANES, bias, b + block * OUT, W, w + block * OUT * depth, h, first, on, count)


@jit
def neighbors(claims: Any, x: Any, anchors: Any, blend: int, width: Any, whole: Any, index: Any, weights: Any) -> None:
    """Nearest anchors (N, K), nearest first, and weights (N, K + 1) of points (N, P); `whole` is the square of the distance to
    the whole head, `width` that of the blending width. PIECE points to a piece."""
    count, near = len(x), index.shape[1]
    squares = np.empty(near, np.float32)
    while True:
        start = fetch_add(claims, 0, 1) * PIECE
        if start >= count:
            break
        for point in range(start, min(start + PIECE, count)):
            found = 0
            for anchor in range(len(anchors)):
                square = f4(0.0)
                for axis in range(3):
                    difference = x[point, axis] - anchors[anchor, axis]
                    square += difference * difference
                if found == near and square >= squares[near - 1]:
                    continue
                place = found if found < near else near - 1
                found = found + 1 if found < near else near
                while place > 0 and squares[place - 1] > square:
                    squares[place], index[point, place] = squares[place - 1], index[point, place - 1]
                    place -= 1
                squares[place], index[point, place] = square, anchor
            scale = f4(-0.5) / (width * squares[blend - 1])
            total = f4(0.0)
            for k in range(near + 1):
                w = np.exp((squares[k] if k < near else whole) * scale)
                weights[point, k] = w
                total += w
            total = f4(1.0) / (total + f4(1e-8))
            for k in range(near + 1):
                weights[point, k] *= total
        fetch_add(claims, 8, 1)


@jit
def by_region(index: Any, weights: Any, regions: int, least: Any) -> Any:
    """Pairs with weights above `least`, sorted by region, and where each region's begin: (R,) and (G + 1,)."""
    count, near = index.shape
    begin = np.zeros(regions + 1, np.int64)
    for point in range(count):
        for k in range(near + 1):
            if not weights[point, k] <= least:
                begin[(index[point, k] if k < near else regions - 1) + 1] += 1
    for region in range(regions):
        begin[region + 1] += begin[region]
    at, order = begin.copy(), np.empty(begin[regions], np.int64)
    for point in range(count):
        for k in range(near + 1):
            if not weights[point, k] <= least:
                region = index[point, k] if k < near else regions - 1
                order[at[region]] = point * (near + 1) + k
                at[region] += 1
    return order, begin


class Mlps(NamedTuple):
    """The MLPs of the regions, outputs in whole OUT. M MLPs, G regions, L layers of H hidden values, C values of a point."""

    of_codes: np.ndarray  # (G, H) what the first layer makes of a region's code
    of_points: np.ndarray  # (M, H / OUT, C, OUT)
    weights: np.ndarray  # (M, L - 1, H / OUT, hidden, OUT)
    biases: np.ndarray  # (M, L - 1, H)
    last: np.ndarray  # (M, 1, hidden, OUT)
    last_bias: np.ndarray  # (M, OUT)
    hidden: int  # H without what fills up OUT


class Backwards(NamedTuple):
    """What the MLPs need for the gradient of their first output by their point: weights the other way round."""

    of_points: np.ndarray  # (M, C / OUT, hidden, OUT), C filled up
    weights: np.ndarray  # (M, L - 1, H / OUT, hidden, OUT)
    last: np.ndarray  # (M, hidden)


class Link(NamedTuple):
    """Two layers from the geometry's last hidden values to what the colour learns of them, outputs in whole OUT."""

    first: np.ndarray  # (link / OUT, H, OUT)
    first_bias: np.ndarray  # (link,)
    second: np.ndarray  # (link / OUT, link, OUT)
    second_bias: np.ndarray  # (link,)
    width: int  # link without what fills up OUT


class Pairs(NamedTuple):
    """What is asked: pieces of pairs of one region each."""

    pieces: np.ndarray  # (n, 3) int64: the region, and from where to where in the order
    order: np.ndarray  # (R,) pairs
    per_point: int  # K + 1
    x: np.ndarray  # (N, P)
    centers: np.ndarray  # (G, P)
    sides: np.ndarray  # (G, P)
    mlp: np.ndarray  # (G,) int64


def scratch_floats(widest: int) -> int:
    """Length of a thread's scratch for layers of up to `widest` padded outputs."""
    return 3 * GROUPS * widest * LANES


@jit
def _places(pairs: Any, region: int, start: int, stop: int, out: Any, step: int) -> None:
    """Points of a piece as their region sees them, (P, 16) for each group; a last group that is not full has its last again."""
    for row in range((stop - start + LANES - 1) // LANES * LANES):
        point = pairs.order[min(start + row, stop - 1)] // pairs.per_point
        at = row // LANES * step + row % LANES
        for axis in range(pairs.x.shape[1]):
            out[at + axis * LANES] = (pairs.x[point, axis] - pairs.centers[region, axis]) * pairs.sides[region, axis]


@jit
def _hidden(
    soft: bool, mlps: Any, region: int, of: int, given: Any, ones: Any, twos: Any, step: int, groups: int, on: Any
) -> Any:
    """The last hidden values before their activation, of points' values in `given`; and the buffer that is free then."""
    width, layers, values = mlps.of_codes.shape[1], mlps.weights.shape[1], mlps.of_points.shape[2]
    codes, firsts = mlps.of_codes.reshape(-1), mlps.of_points.reshape(-1)
    W, b = mlps.weights.reshape(-1), mlps.biases.reshape(-1)
    every = np.arange(values)
    for group in range(groups):
        at = group * step
        _layer(ones, at, width, codes, region * width, firsts, of * width * values, values, given, at, every, values)
    h, other = ones, twos
    for layer in range(layers):
        place = of * layers + layer
        for group in range(groups):
            at = group * step
            count = _activate(soft, h, at, mlps.hidden, on)
            _layer(other, at, width, b, place * width, W, place * width * mlps.hidden, mlps.hidden, h, at, on, count)
        h, other = other, h
    return h, other


@jit
def _last(soft: bool, mlps: Any, of: int, h: Any, other: Any, step: int, groups: int, on: Any) -> None:
    """OUT outputs of each group's last hidden values, to the beginning of its part of `other`."""
    W, b = mlps.last.reshape(-1), mlps.last_bias.reshape(-1)
    for group in range(groups):
        at = group * step
        count = _activate(soft, h, at, mlps.hidden, on)
        _layer(other, at, OUT, b, of * OUT, W, of * OUT * mlps.hidden, mlps.hidden, h, at, on, count)


@jit
def _links(link: Any, depth: int, h: Any, other: Any, out: Any, step: int, groups: int, on: Any) -> None:
    """What the colour learns of hidden values."""
    width, every = len(link.first_bias), np.arange(depth)
    first, second = link.first.reshape(-1), link.second.reshape(-1)
    for group in range(groups):
        at = group * step
        _layer(other, at, width, link.first_bias, 0, first, 0, depth, h, at, every, depth)
        count = _rectify(other, at, link.width, on)
        _layer(out, at, width, link.second_bias, 0, second, 0, link.width, other, at, on, count)


@jit
def _store(pairs: Any, start: int, stop: int, values: Any, step: int, out: Any, column: int, columns: int) -> None:
    """The first outputs of a piece's points to columns of out (N (K + 1), C) from `column` on."""
    for row in range(stop - start):
        at, pair = row // LANES * step + row % LANES, pairs.order[start + row]
        for j in range(columns):
            out[pair, column + j] = values[at + j * LANES]


@jit
def distances(claims: Any, scratch: Any, step: int, pairs: Any, geometry: Any, out: Any) -> None:
    """The signed distance that each pair's region says: out (N (K + 1), 1). `step` is widest layer's floats of a group."""
    given, ones, twos = scratch[: GROUPS * step], scratch[GROUPS * step : 2 * GROUPS * step], scratch[2 * GROUPS * step :]
    on = np.empty(step, np.int64)
    while True:
        piece = fetch_add(claims, 0, 1)
        if piece >= len(pairs.pieces):
            break
        region, start, stop = pairs.pieces[piece, 0], pairs.pieces[piece, 1], pairs.pieces[piece, 2]
        of, groups = pairs.mlp[region], (stop - start + LANES - 1) // LANES
        _places(pairs, region, start, stop, given, step)
        h, other = _hidden(True, geometry, region, of, given, ones, twos, step, groups, on)
        _last(True, geometry, of, h, other, step, groups, on)
        _store(pairs, start, stop, other, step, out, 0, 1)
        fetch_add(claims, 8, 1)


@jit
def distances_and_colors(
    claims: Any, scratch: Any, step: int, pairs: Any, geometry: Any, link: Any, color: Any, out: Any
) -> None:
    """The same, and the colour that each pair's region says, behind it: out (N (K + 1), 4)."""
    given, ones, twos = scratch[: GROUPS * step], scratch[GROUPS * step : 2 * GROUPS * step], scratch[2 * GROUPS * step :]
    on = np.empty(step, np.int64)
    while True:
        piece = fetch_add(claims, 0, 1)
        if piece >= len(pairs.pieces):
            break
        region, start, stop = pairs.pieces[piece, 0], pairs.pieces[piece, 1], pairs.pieces[piece, 2]
        of, groups = pairs.mlp[region], (stop - start + LANES - 1) // LANES
        _places(pairs, region, start, stop, given, step)
        h, other = _hidden(True, geometry, region, of, given, ones, twos, step, groups, on)
        _links(link, geometry.hidden, h, other, given, step, groups, on)
        _last(True, geometry, of, h, other, step, groups, on)
        _store(pairs, start, stop, other, step, out, 0, 1)
        h, other = _hidden(False, color, region, of, given, ones, twos, step, groups, on)
        _last(False, color, of, h, other, step, groups, on)
        _store(pairs, start, stop, other, step, out, 1, 3)
        fetch_add(claims, 8, 1)


@jit
def distances_and_gradients(claims: Any, scratch: Any, step: int, pairs: Any, geometry: Any, backwards: Any, out: Any) -> None:
    """The signed distance that each pair's region says, and its gradient by the point behind it: out (N (K + 1), 1 + P).

    One group of points at a time goes forwards, with all layers' values kept, and back. A unit that is off in all lanes has no
    slope.
    """
    hidden, layers, values = geometry.hidden, geometry.weights.shape[1], geometry.of_points.shape[2]
    width, wide = geometry.of_codes.shape[1], backwards.of_points.shape[1] * OUT
    codes, firsts, last = geometry.of_codes.reshape(-1), geometry.of_points.reshape(-1), geometry.last.reshape(-1)
    W, b, last_bias = geometry.weights.reshape(-1), geometry.biases.reshape(-1), geometry.last_bias.reshape(-1)
    back, back_firsts = backwards.weights.reshape(-1), backwards.of_points.reshape(-1)
    given, ones, twos, h = scratch[:step], scratch[step : 2 * step], scratch[2 * step : 3 * step], scratch[3 * step :]
    on, counts = np.empty((layers + 1, width), np.int64), np.empty(layers + 1, np.int64)
    every, zeros = np.arange(values), np.zeros(max(width, wide), np.float32)
    while True:
        piece = fetch_add(claims, 0, 1)
        if piece >= len(pairs.pieces):
            break
        region, start, stop = pairs.pieces[piece, 0], pairs.pieces[piece, 1], pairs.pieces[piece, 2]
        of = pairs.mlp[region]
        for first in range(start, stop, LANES):
            count = min(stop - first, LANES)
            _places(pairs, region, first, first + count, given, step)
            _layer(h, 0, width, codes, region * width, firsts, of * width * values, values, given, 0, every, values)
            counts[0] = _soften(h, 0, hidden, on[0])
            for layer in range(layers):
                place = (of * layers + layer) * width
                _layer(
                    h, (layer + 1) * step, width, b, place, W, place * hidden, hidden, h, layer * step, on[layer], counts[layer]
                )  # fmt: skip
                counts[layer + 1] = _soften(h, (layer + 1) * step, hidden, on[layer + 1])
            top = layers * step
            _layer(ones, 0, OUT, last_bias, of * OUT, last, of * OUT * hidden, hidden, h, top, on[layers], counts[layers])
            _store(pairs, first, first + count, ones, step, out, 0, 1)
            for place in range(counts[layers]):
                j = on[layers, place]
                for i in range(LANES):
                    ones[j * LANES + i] = backwards.last[of, j]
                _times_slope(ones, j * LANES, h, top + j * LANES)
            delta, other = ones, twos
            for layer in range(layers - 1, -1, -1):
                place = (of * layers + layer) * width * hidden
                _layer(other, 0, width, zeros, 0, back, place, hidden, delta, 0, on[layer + 1], counts[layer + 1])
                for place in range(counts[layer]):
                    j = on[layer, place]
                    _times_slope(other, j * LANES, h, layer * step + j * LANES)
                delta, other = other, delta
            _layer(other, 0, wide, zeros, 0, back_firsts, of * wide * hidden, hidden, delta, 0, on[0], counts[0])
            for axis in range(values):
                for i in range(LANES):
                    other[axis * LANES + i] *= pairs.sides[region, axis]
            _store(pairs, first, first + count, other, step, out, 1, values)
        fetch_add(claims, 8, 1)
