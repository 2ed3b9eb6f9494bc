# The kernels compiled by MicroPython's viper emitter: the interface of plain.py, equal to it to the bit.
# Importing this file raises SyntaxError on a firmware without the emitter. All buffers belong to the caller, as in
# plain.py; nothing is allocated.
#
# ptr8 and ptr32 read without sign where a word is wider than the value (int8 everywhere, int32 on 64-bit ports):
# (v ^ m) - m with m the sign bit puts it back, and costs nothing to speak of on a port where it was there already.
import micropython

from shared.fixed import EXP2

from .chain import forward, step, train
from .plain import ONE, SCRATCH_BYTES, WEIGHT_BYTES, adopt, clear, export, vector, weights

NAME = "viper"


@micropython.viper
def conv2d(x: ptr8, w: ptr8, q: ptr32, y: ptr8, d: ptr32, o: int):
    m = int(1) << 31
    in_h = int(d[o + 1])
    in_w = int(d[o + 2])
    in_c = int(d[o + 3])
    out_h = int(d[o + 4])
    out_w = int(d[o + 5])
    out_c = int(d[o + 6])
    kernel_h = int(d[o + 7])
    stride = int(d[o + 8])
    pad_h = int(d[o + 9])
    kernel_w = int(d[o + 14])
    if kernel_w == 0:
        kernel_w = kernel_h
    pad_w = pad_h
    if kernel_h == 1:
        pad_h = 0
    if kernel_w == 1:
        pad_w = 0
    shift1 = int(d[o + 10])
    shift2 = int(d[o + 11])
    w_at = int(d[o + 12])
    q_at = int(d[o + 13])
    half = 1 << (shift2 - 1)
    run_c = in_c  # input channels that an output channel sees
    skip = 1  # from one value of a row of the input to the next that it sees
    own = 0  # 1 where it sees its own alone
    if int(d[o]) == 3:
        run_c = 1
        skip = in_c
        own = 1
    row = kernel_w * run_c
    at = 0
    oy = 0
    while oy < out_h:
        ky0 = pad_h - oy * stride
        if ky0 < 0:
            ky0 = 0
        ky1 = in_h + pad_h - oy * stride
        if ky1 > kernel_h:
            ky1 = kernel_h
        ox = 0
        while ox < out_w:
            kx0 = pad_w - ox * stride
            if kx0 < 0:
                kx0 = 0
            kx1 = in_w + pad_w - ox * stride
            if kx1 > kernel_w:
                kx1 = kernel_w
            run = (kx1 - kx0) * in_c
            x0 = ((oy * stride - pad_h) * in_w + ox * stride + kx0 - pad_w) * in_c
            oc = 0
            while oc < out_c:
                acc = (int(q[q_at + 2 * oc]) ^ m) - m
                ky = ky0
                while ky < ky1:
                    xa = x0 + ky * in_w * in_c + oc * own
                    wa = w_at + (oc * kernel_h + ky) * row + kx0 * run_c
                    end = xa + run
                    while xa < end:
                        acc += ((int(x[xa]) ^ 128) - 128) * ((int(w[wa]) ^ 128) - 128)
                        xa += skip
                        wa += 1
                    ky += 1
                acc = acc >> shift1
                if acc < -32768:
                    acc = -32768
                if acc > 32767:
                    acc = 32767
                v = (acc * int(q[q_at + 2 * oc + 1]) + half) >> shift2
                if v < 0:
                    v = 0
                if v > 127:
                    v = 127
                y[at] = v
                at += 1
                oc += 1
            ox += 1
        oy += 1


@micropython.viper
def maxpool2d(x: ptr8, h: int, w: int, c: int, k: int, stride: int, y: ptr8, yo: int):
    oh = (h - k) // stride + 1
    ow = (w - k) // stride + 1
    oy = 0
    while oy < oh:
        ox = 0
        while ox < ow:
            ch = 0
            while ch < c:
                best = -128
                ky = 0
                while ky < k:
                    xa = ((oy * stride + ky) * w + ox * stride) * c + ch
                    end = xa + k * c
                    while xa < end:
                        v = (int(x[xa]) ^ 128) - 128
                        if v > best:
                            best = v
                        xa += c
                    ky += 1
                y[yo] = best
                yo += 1
                ch += 1
            ox += 1
        oy += 1


@micropython.viper
def dense(w: ptr32, stride: int, rows: int, col: int, x: ptr8, xo: int, n: int, z: ptr32):
    m = int(1) << 31
    i = 0
    at = 0
    end = xo + n
    while i < rows:
        if col == 1:
            acc = (((int(w[at]) ^ m) - m) >> 8) * 127
        else:
            acc = int(z[i])
        wa = at + col
        xa = xo
        while xa < end:
            acc += (((int(w[wa]) ^ m) - m) >> 8) * ((int(x[xa]) ^ 128) - 128)
            wa += 1
            xa += 1
        z[i] = acc
        at += stride
        i += 1


@micropython.viper
def relu(z: ptr32, n: int, h: ptr8, ho: int):
    m = int(1) << 31
    j = 0
    while j < n:
        v = ((int(z[j]) ^ m) - m) >> 13
        if v < 0:
            v = 0
        if v > 127:
            v = 127
        h[ho + j] = v
        j += 1


@micropython.viper
def _softmax(z: ptr32, n: int, e: ptr32, exp2: ptr16):
    m = int(1) << 31
    top = (int(z[0]) ^ m) - m
    i = 1
    while i < n:
        v = (int(z[i]) ^ m) - m
        if v > top:
            top = v
        i += 1
    top = top >> 7
    total = 0
    i = 0
    while i < n:
        t = top - (((int(z[i]) ^ m) - m) >> 7)
        if t > 65535:
            t = 65535
        u = t * 5909 >> 16
        v = int(exp2[u & 255]) >> (u >> 8)
        e[i] = v
        total += v
        i += 1
    r = (int(1) << 30) // total
    i = 0
    while i < n:
        e[i] = int(e[i]) * r >> 15
        i += 1


def softmax(z, n, e):
    _softmax(z, n, e, EXP2)


@micropython.viper
def update(w: ptr32, stride: int, rows: int, col: int, x: ptr8, xo: int, n: int, e: ptr32, shift: int):
    m = int(1) << 31
    top = (1 << 23) - 1
    i = 0
    at = 0
    end = xo + n
    while i < rows:
        err = (int(e[i]) ^ m) - m
        if err != 0:
            if col == 1:
                v = ((int(w[at]) ^ m) - m) - (err * 127 >> shift)
                if v > top:
                    v = top
                if v < 0 - top:
                    v = 0 - top
                w[at] = v
            wa = at + col
            xa = xo
            while xa < end:
                v = ((int(w[wa]) ^ m) - m) - (err * ((int(x[xa]) ^ 128) - 128) >> shift)
                if v > top:
                    v = top
                if v < 0 - top:
                    v = 0 - top
                w[wa] = v
                wa += 1
                xa += 1
        at += stride
        i += 1


@micropython.viper
def back(w: ptr32, stride: int, rows: int, col: int, n: int, e: ptr32, h: ptr8, ho: int, g: ptr32):
    m = int(1) << 31
    one = 1 << 15
    j = 0
    while j < n:
        acc = 0
        unit = int(h[ho + j])
        if unit > 0 and unit < 127:
            at = col + j
            i = 0
            while i < rows:
                acc += (((int(w[at]) ^ m) - m) >> 12) * ((int(e[i]) ^ m) - m)
                at += stride
                i += 1
            acc = acc >> 8
        if acc > one:
            acc = one
        if acc < 0 - one:
            acc = 0 - one
        g[j] = acc
        j += 1


@micropython.viper
def distance(a: ptr8, ao: int, b: ptr8, bo: int, n: int) -> int:
    total = 0
    j = 0
    while j < n:
        d = ((int(a[ao + j]) ^ 128) - 128) - ((int(b[bo + j]) ^ 128) - 128)
        total += d * d
        j += 1
    return total


@micropython.viper
def accumulate(x: ptr8, xo: int, n: int, sums: ptr32):
    j = 0
    while j < n:
        sums[j] = int(sums[j]) + ((int(x[xo + j]) ^ 128) - 128)
        j += 1


@micropython.viper
def _deal(
    order: ptr32, cursor: ptr32, counts: ptr32, n: int, known: int, per_class: int, inputs: int, rule: int, x: int
) -> int:
    every = rule & 255
    last = rule >> 8
    k = n - 1
    while k > 0:
        x ^= (x << 7) & 0xFFFF
        x ^= x >> 9
        x ^= (x << 8) & 0xFFFF
        j = 2 * (x % (k + 1))
        c = int(order[2 * k])
        order[2 * k] = order[j]
        order[j] = c
        k -= 1
    k = 0
    while k < 2 * n:
        c = int(order[k])
        i = int(cursor[c])
        if i % every == last:
            i += 1
        if i >= int(counts[c]):
            i = 0
        cursor[c] = i + 1
        if c < known:
            order[k + 1] = (c * per_class + i) * inputs
        else:
            order[k + 1] = 0 - 1 - i * inputs
        k += 2
    return x


def deal(order, cursor, counts, n, known, per_class, inputs, every, last, x):
    return _deal(order, cursor, counts, n, known, per_class, inputs, every | last << 8, x)


try:
    from .thumb import back, conv2d, dense, forward, softmax, step, train, update
except (SyntaxError, ImportError, ValueError):
    pass  # not a Cortex-M
