"""Memory that is used again: given back as arrays die, and bounded."""

from __future__ import annotations

import numpy as np

from avatar_models.kernels.arena import Pool, empty, empty_together


def test_arrays_start_on_a_cache_line_and_do_not_overlap() -> None:
    arrays = empty_together((3, 5), (7,), (2, 2, 2))
    for value, array in enumerate(arrays):
        assert array.ctypes.data % 64 == 0 and array.dtype == np.float32
        array.fill(value)
    assert [float(array.min()) for array in arrays] == [float(array.max()) for array in arrays] == [0.0, 1.0, 2.0]


def test_a_dead_arrays_memory_is_used_again_and_a_living_views_is_not() -> None:
    first = empty(1000, 1000)
    place, view = first.ctypes.data, first[3:, 5:]
    del first
    assert empty(1000, 1000).ctypes.data != place
    del view
    assert empty(1000, 1000).ctypes.data == place


def test_sizes_that_nobody_asks_for_give_way_to_those_in_use() -> None:
    pool = Pool(1000)
    for size in (300, 300, 400):
        pool.give_back(np.empty(size, np.uint8))
    pool.give_back(np.empty(350, np.uint8))
    assert {size: len(buffers) for size, buffers in pool.idle.items() if buffers} == {400: 1, 350: 1} and pool.bytes == 750
    pool.take(400)
    pool.give_back(np.empty(2000, np.uint8))  # more than it may hold
    assert pool.bytes == 350 and 2000 not in pool.idle
