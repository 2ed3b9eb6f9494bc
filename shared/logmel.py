# Log-mel features of speech in integers: the definition, and the tables that every implementation shares. Runs unchanged under
# CPython and MicroPython; needs `array` only. NumPy (tinycl.data.logmel) and viper (device/sensors) give the same to the bit.
# A LogMel allocates once, when it is made: 4 kB, and 2 bytes per value of a clip. A frame allocates nothing,
# as no number leaves the small integers of a 32-bit MicroPython, -2**30..2**30 - 1; only making the tables needs larger ones.
#
# Input: int16 at 16 kHz. A frame is FRAME samples; the next begins `hop` later. Of each frame, in this order:
#   window   z = x * hann, hann[n] = 2**14 - cos[n] at 15 fraction bits   |x| <= 2**15, hann <= 2**15: |z| <= 2**30
#            z[n] = x[2n] + i x[2n + 1], 256 complex numbers in bit-reversed order: half the work for a real signal
#   stages   8 of an FFT, radix 2, decimation in time, in block floating point: each rounds its input to 16 bits (components
#            <= 2**15) by a shift s chosen for the whole frame, and the shifts are summed up
#            twiddle * b at 14 fraction bits   <= 2**15.5 * 2**14 + 2**13 < 2**30;   a +- that: <= 2**15 + 2**15.5 < 2**17
#   power    input rounded to components <= 2**14; E = Z[k] + conj Z[256 - k], O = Z[k] - conj Z[256 - k], |E|, |O| <= 2**15.5
#            2 X[k] = E - i W**k O,  2 conj X[256 - k] = E + i W**k O,  W = exp(-2 pi i / 512)
#            O * W at 14 fraction bits <= 2**29.5 + 2**13;  |2 X| <= 2**16.5 + 2, rounded to |.| / 16 <= 5795
#            p[k] = re**2 + im**2 <= 5795**2, for k = 1..255
#   mel      triangles on the HTK mel scale (O'Shaughnessy 1987), linear in Hz between their corners; weights have 12 fraction
#            bits; a = p * w >> 12 goes to the band that rises over bin k, p - a to the one that falls: nothing is lost
#            a band's weights sum up to at most 26.6 (that of the highest of 20 bands), 31 * 5795**2 < 2**30
#   log2     8 fraction bits, mantissa cut to 8 bits and looked up; 512 * (sum of shifts) is added: < 2**15
# Of a clip, when its frames are done:
#   scale    uint8 0..127 = TOP - (loudest value of the clip - value) >> SCALE_SHIFT, 0 where that is below 0: what gain
#            microphone and distance give is taken out, and the backbone's int8 range is filled; QUIET counts as the loudest of
#            what is quieter still, so that silence is 0 and the noise of an open line stays low
from array import array

RATE_HZ = 16000
FRAME = 512
BINS = FRAME // 2
LOW_HZ = 100
HIGH_HZ = 7600
W_FRAC = 12
TOP = 127
SCALE_SHIFT = 5  # 8 steps for a doubling of power, 0.38 dB each: 48 dB below the loudest is 0
MELS_MIN = 20
MELS_MAX = 40
QUIET = 40 << 8  # white noise of 3 units of int16, root mean square

HOP = 496  # 31 ms: 32 frames a second
MELS = 32


def frames(samples, hop=HOP):
    """Whole frames in that many samples."""
    return 0 if samples < FRAME else (samples - FRAME) // hop + 1


def cosine():
    """cos(2 pi k / 512) at 14 fraction bits, k = 0..256, array('h'): window and twiddle factors; sin[k] = cos[|k - 128|]."""
    c1, s1 = 1099428836573, 13492699036  # cos and sin of 2 pi / 512 at 40 fraction bits
    c, s = 1 << 40, 0
    table = array("h", bytes(2 * BINS + 2))
    for k in range(BINS + 1):
        table[k] = (c + (1 << 25)) >> 26
        c, s = (c * c1 - s * s1 + (1 << 39)) >> 40, (s * c1 + c * s1 + (1 << 39)) >> 40
    return table


def reversal():
    """The 8 bits of 0..255 in reverse, bytearray."""
    table = bytearray(BINS)
    for i in range(1, BINS):
        table[i] = table[i >> 1] >> 1 | (i & 1) << 7
    return table


def logarithm():
    """round(256 * log2(1 + i / 256)), bytearray: each value from where 1 + i / 256 passes 2**((value - 1/2) / 256)."""
    table = bytearray(256)
    value, limit = 0, 1101001158050  # 2**(1 / 512) at 40 fraction bits
    for i in range(256):
        while (256 + i) << 32 >= limit:
            value += 1
            limit = limit * 1102492706220 >> 40  # 2**(1 / 256)
        table[i] = value
    return table


def filters(mels):
    """(interval, weight): bin k lies between corners interval[k] and interval[k] + 1 (255: outside), and has weight[k] of 4096
    in the band that rises there; bytearray and array('H') of 256. Raises ValueError where `mels` bands cannot be had.
    """
    if not MELS_MIN <= mels <= MELS_MAX:
        raise ValueError("%d mel bands, %d to %d are possible: choose a number between" % (mels, MELS_MIN, MELS_MAX))
    # corners are a geometric series in f + 700: its ratio by bisection, 30 fraction bits
    low, high = 1 << 30, 2 << 30
    while high - low > 1:
        ratio = (low + high) >> 1
        power = (700 + LOW_HZ) << 30
        for _ in range(mels + 1):
            power = power * ratio >> 30
        if power > (700 + HIGH_HZ) << 30:
            high = ratio
        else:
            low = ratio
    corners = [(700 + LOW_HZ) << 20]
    for _ in range(mels + 1):
        corners.append(corners[-1] * low >> 30)
    interval, weight = bytearray(b"\xff" * BINS), array("H", bytes(2 * BINS))
    i = 0
    for k in range(1, BINS):
        f = (700 << 20) + k * ((RATE_HZ << 20) // FRAME)
        while i <= mels and f >= corners[i + 1]:
            i += 1
        if f >= corners[0] and i <= mels:
            interval[k] = i
            weight[k] = ((f - corners[i]) << W_FRAC) // (corners[i + 1] - corners[i])
    return interval, weight


# The steps of a frame. Each has a counterpart of the same name in device/sensors/logmel.py.


def window(x, at, cos, rev, z):
    """z = the frame of x (int16) from `at`, windowed, in bit-reversed order; returns the OR of all magnitudes."""
    m = 0
    for n in range(BINS):
        i = 2 * rev[n]
        j = 2 * n if n < 128 else FRAME - 2 * n
        re = x[at + 2 * n] * (16384 - cos[j])
        j = 2 * n + 1 if n < 128 else FRAME - 2 * n - 1
        im = x[at + 2 * n + 1] * (16384 - cos[j])
        z[i] = re
        z[i + 1] = im
        m |= (re ^ (re >> 31)) | (im ^ (im >> 31))
    return m


def stage(z, span, cos, s):
    """One stage of the FFT over butterflies `span` apart, the input shifted right by s; returns the OR of all magnitudes."""
    half = 1 << s >> 1
    m = 0
    for k in range(span):
        a = k * (BINS // span)
        c = cos[a]
        d = cos[a - 128 if a > 128 else 128 - a]
        i = 2 * k
        while i < FRAME:  # a range with a step of its own would be an object
            j = i + 2 * span
            re = (z[j] + half) >> s
            im = (z[j + 1] + half) >> s
            tr = (re * c + im * d + 8192) >> 14
            ti = (im * c - re * d + 8192) >> 14
            re = (z[i] + half) >> s
            im = (z[i + 1] + half) >> s
            z[j] = re - tr
            z[j + 1] = im - ti
            m |= ((re - tr) ^ ((re - tr) >> 31)) | ((im - ti) ^ ((im - ti) >> 31))
            z[i] = re + tr
            z[i + 1] = im + ti
            m |= ((re + tr) ^ ((re + tr) >> 31)) | ((im + ti) ^ ((im + ti) >> 31))
            i += 4 * span
    return m


def power(z, cos, s):
    """Power of bins 1..255 of the real signal, left in z[2 k]; the input is shifted right by s."""
    half = 1 << s >> 1
    for k in range(1, 129):
        c = cos[k]
        d = cos[128 - k]
        i = 2 * k
        j = FRAME - i
        re = (z[i] + half) >> s
        im = (z[i + 1] + half) >> s
        er = (z[j] + half) >> s
        ei = (z[j + 1] + half) >> s
        dr = re - er
        di = im + ei
        er += re
        ei = im - ei
        tr = (di * c - dr * d + 8192) >> 14  # -i W O
        ti = (8192 - dr * c - di * d) >> 14
        re = (er - tr + 8) >> 4
        im = (ei - ti + 8) >> 4
        z[j] = re * re + im * im
        re = (er + tr + 8) >> 4
        im = (ei + ti + 8) >> 4
        z[i] = re * re + im * im


def bands(z, interval, weight, acc):
    """Mel bands from the power in z[2 k]: acc[1..mels]; acc has mels + 2 places, its ends are outside."""
    for i in range(len(acc)):
        acc[i] = 0
    for k in range(1, BINS):
        i = interval[k]
        if i != 255:
            p = z[2 * k]
            w = weight[k]
            a = (p >> 12) * w + ((p & 4095) * w >> 12)
            acc[i + 1] += a
            acc[i] += p - a


def logs(acc, mels, log2, offset, out, o):
    """out[o + i] = log2(acc[1 + i]) at 8 fraction bits + offset; that of 0 counts as of 1."""
    for i in range(mels):
        v = acc[1 + i]
        n = offset + 2048
        if v == 0:
            v = 1
        while v < 256:
            v <<= 1
            n -= 256
        while v > 511:
            v >>= 1
            n += 256
        out[o + i] = n + log2[v - 256]


def scale(values, n, y):
    """y[i] of 0..127 from n logarithms, relative to the largest."""
    top = QUIET
    for i in range(n):
        if values[i] > top:
            top = values[i]
    for i in range(n):
        v = TOP - ((top - values[i]) >> SCALE_SHIFT)
        y[i] = 0 if v < 0 else v


class Plain:
    """The steps as above, as LogMel takes them."""

    window = staticmethod(window)
    stage = staticmethod(stage)
    power = staticmethod(power)
    bands = staticmethod(bands)
    logs = staticmethod(logs)
    scale = staticmethod(scale)


def _excess(m, bits):
    # right shift that brings magnitudes whose OR is m to that many bits
    s = 0
    while m >> (bits + s):
        s += 1
    return s


class LogMel:
    """Features of clips of `samples` samples: [frames, mels, 1], 0..127. `steps`: Plain, or what a board has that is faster.

    Frame by frame, as sound comes in: frame(x, at, row) for each row, then features(y). Raises ValueError for bad sizes.
    """

    def __init__(self, samples=RATE_HZ, hop=HOP, mels=MELS, steps=Plain):
        if hop < 1 or frames(samples, hop) < 1:
            raise ValueError("clips of %d samples hold no frame of %d: record longer clips" % (samples, FRAME))
        self.interval, self.weight = filters(mels)
        self.frames = frames(samples, hop)
        self.hop = hop
        self.mels = mels
        self.steps = steps
        self.cos = cosine()
        self.rev = reversal()
        self.log2 = logarithm()
        self.z = array("i", bytes(4 * FRAME))
        self.acc = array("i", bytes(4 * (mels + 2)))
        self.logs = array("h", bytes(2 * self.frames * mels))

    def frame(self, x, at, row):
        """The frame of x (array('h')) that begins at sample `at` becomes row `row` of the clip."""
        t = self.steps
        z = self.z
        m = t.window(x, at, self.cos, self.rev, z)
        total = 0
        span = 1
        while span < BINS:
            s = _excess(m, 15)
            total += s
            m = t.stage(z, span, self.cos, s)
            span *= 2
        s = _excess(m, 14)
        t.power(z, self.cos, s)
        t.bands(z, self.interval, self.weight, self.acc)
        t.logs(self.acc, self.mels, self.log2, 512 * (total + s), self.logs, row * self.mels)

    def features(self, y):
        """Puts the clip's features into y, frames * mels bytes."""
        self.steps.scale(self.logs, self.frames * self.mels, y)

    def clip(self, x, y):
        """A whole clip at once: x array('h'), y frames * mels bytes."""
        for row in range(self.frames):
            self.frame(x, row * self.hop, row)
        self.features(y)
