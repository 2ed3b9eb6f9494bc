# The steps of shared/logmel.py, which defines them, compiled by MicroPython's viper emitter: equal to the bit.
# Importing this file raises SyntaxError on a firmware without the emitter. Nothing is allocated; all buffers are LogMel's.
#
# ptr16 and ptr32 read without sign where a word is wider than the value: (v ^ m) - m with m the sign bit puts it back.
# The first butterfly of each group has the twiddle factor 1, which leaves b as it is: (b * 2**14 + 2**13) >> 14 = b.
import micropython


@micropython.viper
def window(x: ptr16, at: int, cos: ptr16, rev: ptr8, z: ptr32) -> int:
    m = 0
    n = 0
    one = 16384
    while n < 256:
        i = 2 * int(rev[n])
        j = 2 * n
        d = 1
        if n >= 128:
            j = 512 - j
            d = -1
        v = ((int(x[at]) ^ 32768) - 32768) * (one - ((int(cos[j]) ^ 32768) - 32768))
        z[i] = v
        m |= v ^ (v >> 31)
        v = ((int(x[at + 1]) ^ 32768) - 32768) * (one - ((int(cos[j + d]) ^ 32768) - 32768))
        z[i + 1] = v
        m |= v ^ (v >> 31)
        at += 2
        n += 1
    return m


@micropython.viper
def stage(z: ptr32, span: int, cos: ptr16, s: int) -> int:
    g = int(1) << 31
    half = 1 << s >> 1
    m = 0
    far = 2 * span
    step = 4 * span
    i = 0
    while i < 512:
        j = i + far
        tr = (((int(z[j]) ^ g) - g) + half) >> s
        ti = (((int(z[j + 1]) ^ g) - g) + half) >> s
        re = (((int(z[i]) ^ g) - g) + half) >> s
        im = (((int(z[i + 1]) ^ g) - g) + half) >> s
        v = re - tr
        z[j] = v
        m |= v ^ (v >> 31)
        v = im - ti
        z[j + 1] = v
        m |= v ^ (v >> 31)
        v = re + tr
        z[i] = v
        m |= v ^ (v >> 31)
        v = im + ti
        z[i + 1] = v
        m |= v ^ (v >> 31)
        i += step
    k = 1
    while k < span:
        a = k * (256 // span)
        c = (int(cos[a]) ^ 32768) - 32768
        a -= 128
        if a < 0:
            a = 0 - a
        d = (int(cos[a]) ^ 32768) - 32768
        i = 2 * k
        while i < 512:
            j = i + far
            re = (((int(z[j]) ^ g) - g) + half) >> s
            im = (((int(z[j + 1]) ^ g) - g) + half) >> s
            tr = (re * c + im * d + 8192) >> 14
            ti = (im * c - re * d + 8192) >> 14
            re = (((int(z[i]) ^ g) - g) + half) >> s
            im = (((int(z[i + 1]) ^ g) - g) + half) >> s
            v = re - tr
            z[j] = v
            m |= v ^ (v >> 31)
            v = im - ti
            z[j + 1] = v
            m |= v ^ (v >> 31)
            v = re + tr
            z[i] = v
            m |= v ^ (v >> 31)
            v = im + ti
            z[i + 1] = v
            m |= v ^ (v >> 31)
            i += step
        k += 1
    return m


@micropython.viper
def power(z: ptr32, cos: ptr16, s: int):
    g = int(1) << 31
    half = 1 << s >> 1
    k = 1
    while k < 129:
        c = (int(cos[k]) ^ 32768) - 32768
        d = (int(cos[128 - k]) ^ 32768) - 32768
        i = 2 * k
        j = 512 - i
        re = (((int(z[i]) ^ g) - g) + half) >> s
        im = (((int(z[i + 1]) ^ g) - g) + half) >> s
        er = (((int(z[j]) ^ g) - g) + half) >> s
        ei = (((int(z[j + 1]) ^ g) - g) + half) >> s
        dr = re - er
        di = im + ei
        er += re
        ei = im - ei
        tr = (di * c - dr * d + 8192) >> 14
        ti = (8192 - dr * c - di * d) >> 14
        re = (er - tr + 8) >> 4
        im = (ei - ti + 8) >> 4
        z[j] = re * re + im * im
        re = (er + tr + 8) >> 4
        im = (ei + ti + 8) >> 4
        z[i] = re * re + im * im
        k += 1


@micropython.viper
def _bands(z: ptr32, interval: ptr8, weight: ptr16, acc: ptr32, places: int):
    i = 0
    while i < places:
        acc[i] = 0
        i += 1
    k = 1
    while k < 256:
        i = int(interval[k])
        if i != 255:
            p = int(z[2 * k])
            w = int(weight[k])
            a = (p >> 12) * w + ((p & 4095) * w >> 12)
            acc[i + 1] = int(acc[i + 1]) + a
            acc[i] = int(acc[i]) + (p - a)
        k += 1


def bands(z, interval, weight, acc):
    _bands(z, interval, weight, acc, len(acc))


@micropython.viper
def logs(acc: ptr32, mels: int, log2: ptr8, offset: int, out: ptr16, o: int):
    i = 0
    while i < mels:
        v = int(acc[1 + i])
        n = offset + 2048
        if v == 0:
            v = 1
        while v < 256:
            v <<= 1
            n -= 256
        while v > 511:
            v = v >> 1
            n += 256
        out[o + i] = n + int(log2[v - 256])
        i += 1


@micropython.viper
def scale(values: ptr16, n: int, y: ptr8):
    top = 40 << 8
    i = 0
    while i < n:
        v = int(values[i])
        if v > top:
            top = v
        i += 1
    i = 0
    while i < n:
        v = 127 - ((top - int(values[i])) >> 5)
        if v < 0:
            v = 0
        y[i] = v
        i += 1


try:
    from .thumb import stage
except (SyntaxError, ImportError, ValueError):
    pass  # not a Cortex-M
