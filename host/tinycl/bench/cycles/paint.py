# Measures the heap on the chip. As boot.py it runs before main.py, in the same heap: it writes a pattern over all that is free
# and gives it back. MicroPython's allocator clears every block it gives out, whatever is done with it then; so what still shows
# the pattern later was never needed. `untouched()` stays in the REPL's globals. Allocates all there is, for a moment.
# ruff: noqa: F821
import gc

import micropython
from uctypes import addressof

LEAST_BYTES = 256  # smaller holes are not painted, and so count as needed


@micropython.viper
def paint(at: ptr32, words: int):
    for i in range(words):
        at[i] = 0x2B2B2B2B


@micropython.viper
def count(at: int, end: int) -> int:
    """Blocks of 16 bytes with nothing but the pattern."""
    found = 0
    while at < end:
        p = ptr32(at)
        if p[0] == 0x2B2B2B2B and p[1] == 0x2B2B2B2B and p[2] == 0x2B2B2B2B and p[3] == 0x2B2B2B2B:
            found += 1
        at += 16
    return found


def paint_all():
    """(first address, address behind the last) of what was painted."""
    kept = [None] * 64
    n = 0
    size = 1 << 18
    low = high = 0
    while size >= LEAST_BYTES and n < len(kept):
        try:
            kept[n] = bytearray(size)
        except MemoryError:
            size //= 2
            continue
        at = addressof(kept[n])
        paint(at, size // 4)
        low = min(low or at, at)
        high = max(high, at + size)
        n += 1
    return low, high


def untouched():
    return 16 * count(*painted)


gc.collect()
paint_bytes = gc.mem_alloc()
painted = paint_all()
gc.collect()
heap_bytes = gc.mem_alloc() + gc.mem_free()
