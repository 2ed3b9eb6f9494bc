# The kernels compiled by MicroPython's viper emitter: the interface of plain.py, equal to it to the bit.
# Importing this file raises SyntaxError on a firmware without the emitter. All buffers belong to the caller, as in
# plain.py; nothing is allocated.
#
# ptr8 and ptr32 read without sign where a word is wider than the value (int8 everywhere, int32 on 64-bit ports):
# (v ^ m) - m with m the sign bit puts it back, and costs nothing to speak of on a port where it was there already.
import micropython

from shared.fixed import EXP2

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
    kernel = int(d[o + 7])
    stride = int(d[o + 8])
    pad = int(d[o + 9])
    shift1 = int(d[o + 10])
    shift2 = int(d[o + 11])
    w_at = int(d[o + 12])
    q_at = int(d[o + 13])
    half = 1 << (shift2 - 1)
    row = kernel * in_c
    at = 0
    oy = 0
    while oy < out_h:
        ky0 = pad - oy * stride
        if ky0 < 0:
            ky0 = 0
        ky1 = in_h + pad - oy * stride
        if ky1 > kernel:
            ky1 = kernel
        ox = 0
        while ox < out_w:
            kx0 = pad - ox * stride
            if kx0 < 0:
                kx0 = 0
            kx1 = in_w + pad - ox * stride
            if kx1 > kernel:
                kx1 = kernel
            run = (kx1 - kx0) * in_c
            x0 = ((oy * stride - pad) * in_w + ox * stride + kx0 - pad) * in_c
            oc = 0
            while oc < out_c:
                acc = (int(q[q_at + 2 * oc]) ^ m) - m
                ky = ky0
                while ky < ky1:
                    xa = x0 + ky * in_w * in_c
                    wa = w_at + (oc * kernel + ky) * row + kx0 * in_c
                    end = xa + run
                    while xa < end:
                        acc += ((int(x[xa]) ^ 128) - 128) * ((int(w[wa]) ^ 128) - 128)
                        xa += 1
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
