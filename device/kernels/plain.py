# The kernels in MicroPython without extras: the definition that every other implementation equals to the bit.
# All buffers belong to the caller; nothing large is allocated. On a 32-bit board a product may pass 30 bits and then
# costs a short-lived big integer: `plain` is for being right, not for being fast.
#
# The interface, the same in native.py, viper.py and ulab.py (shapes in brackets; formats in shared/fixed.py); `forward`, `step`
# and `train`, a whole head in one call, are defined in chain.py:
#   x, h      bytes-like of int8                    xo, ho  first byte in it
#   w         weights [rows, stride], int32; column 0 of a row is its bias
#   z, e, g   int32 arrays: logits, errors, hidden errors
from array import array

from shared.blob import DEPTHWISE2D
from shared.fixed import (
    BACK_E_SHIFT,
    BACK_SHIFT,
    BIAS_INPUT,
    E_FRAC,
    E_ONE,
    EXP2,
    HIDDEN_SHIFT,
    LOG2E,
    T_MAX,
    T_SHIFT,
    W_MAX,
    W_SHIFT,
)

from .chain import deal, forward, step, train  # noqa: F401

NAME = "plain"
WEIGHT_BYTES = 4
SCRATCH_BYTES = 0  # to leave free for short-lived arrays of a training step
ONE = E_ONE  # the error of a class that has probability 1 and should have 0


def weights(n):
    """Room for n weights, all zero."""
    return array("i", bytes(4 * n))


def clear(w):
    """All weights zero."""
    for i in range(len(w)):
        w[i] = 0


def vector(n):
    """Room for n logits or errors."""
    return array("i", bytes(4 * n))


def export(w, at, n):
    """n weights from `at` on as a new int32 array: the form that is stored and sent."""
    return w[at : at + n]


def adopt(w, at, ints):
    """The reverse of export: an int32 array to the weights from `at` on."""
    w[at : at + len(ints)] = ints


def conv2d(x, w, q, y, d, o):
    """One layer of the backbone: x [h, w, c] to y [oh, ow, oc] with the weights and (bias, multiplier) pairs of layer d[o:].

    KERNEL is the height of the kernel and KERNEL_W its width, 0 where they are equal; a side of 1 is not padded, so that a
    conv1d is a kernel of (1, k) or (k, 1). With op DEPTHWISE2D output channel k sees input channel k only.
    """
    in_h, in_w, in_c, out_h, out_w, out_c, kernel_h, stride, pad, shift1, shift2, w_at, q_at, kernel_w = d[o + 1 : o + 15]
    kernel_w = kernel_w or kernel_h
    pad_h = pad if kernel_h > 1 else 0
    pad_w = pad if kernel_w > 1 else 0
    depthwise = d[o] == DEPTHWISE2D
    run = 1 if depthwise else in_c
    half = 1 << (shift2 - 1)
    at = 0
    for oy in range(out_h):
        for ox in range(out_w):
            for oc in range(out_c):
                acc = q[q_at + 2 * oc]
                for ky in range(kernel_h):
                    iy = oy * stride + ky - pad_h
                    if not 0 <= iy < in_h:
                        continue
                    for kx in range(kernel_w):
                        ix = ox * stride + kx - pad_w
                        if not 0 <= ix < in_w:
                            continue
                        xa = (iy * in_w + ix) * in_c + (oc if depthwise else 0)
                        wa = w_at + ((oc * kernel_h + ky) * kernel_w + kx) * run
                        for c in range(run):
                            acc += ((x[xa + c] ^ 128) - 128) * ((w[wa + c] ^ 128) - 128)
                acc >>= shift1
                acc = -E_ONE if acc < -E_ONE else E_ONE - 1 if acc >= E_ONE else acc
                v = (acc * q[q_at + 2 * oc + 1] + half) >> shift2
                y[at] = 0 if v < 0 else 127 if v > 127 else v
                at += 1


def maxpool2d(x, h, w, c, k, stride, y, yo):
    """y [(h - k) // stride + 1, ...] from byte yo on: the largest of every k x k window of x [h, w, c]."""
    for oy in range((h - k) // stride + 1):
        for ox in range((w - k) // stride + 1):
            for ch in range(c):
                best = -128
                for ky in range(k):
                    xa = ((oy * stride + ky) * w + ox * stride) * c + ch
                    for _ in range(k):
                        v = (x[xa] ^ 128) - 128
                        if v > best:
                            best = v
                        xa += c
                y[yo] = best & 255
                yo += 1


def dense(w, stride, rows, col, x, xo, n, z):
    """z[i] = bias_i + sum_j (w[i, col + j] >> 8) * x[j] if col is 1; for a later col the sum is added to z[i]."""
    for i in range(rows):
        at = i * stride
        acc = (w[at] >> W_SHIFT) * BIAS_INPUT if col == 1 else z[i]
        at += col
        for j in range(n):
            acc += (w[at + j] >> W_SHIFT) * ((x[xo + j] ^ 128) - 128)
        z[i] = acc


def relu(z, n, h, ho):
    """h[j] = clamp(z[j] >> HIDDEN_SHIFT, 0, 127)."""
    for j in range(n):
        v = z[j] >> HIDDEN_SHIFT
        h[ho + j] = 0 if v < 0 else 127 if v > 127 else v


def softmax(z, n, e):
    """e[i] = softmax(z)[i] with E_FRAC bits, in the integer steps that shared/fixed.py lists."""
    top = z[0]
    for i in range(1, n):
        if z[i] > top:
            top = z[i]
    top >>= T_SHIFT
    total = 0
    for i in range(n):
        t = top - (z[i] >> T_SHIFT)
        u = (T_MAX if t > T_MAX else t) * LOG2E >> 16
        v = EXP2[u & 255] >> (u >> 8)
        e[i] = v
        total += v
    r = (1 << 30) // total
    for i in range(n):
        e[i] = e[i] * r >> E_FRAC


def update(w, stride, rows, col, x, xo, n, e, shift):
    """w[i, col + j] -= (e[i] * x[j]) >> shift, clamped to +-W_MAX; the bias too if col is 1. Rows whose error is 0 stay."""
    for i in range(rows):
        err = e[i]
        if err == 0:
            continue
        at = i * stride
        if col == 1:
            v = w[at] - (err * BIAS_INPUT >> shift)
            w[at] = W_MAX if v > W_MAX else -W_MAX if v < -W_MAX else v
        at += col
        for j in range(n):
            v = w[at + j] - (err * ((x[xo + j] ^ 128) - 128) >> shift)
            w[at + j] = W_MAX if v > W_MAX else -W_MAX if v < -W_MAX else v


def back(w, stride, rows, col, n, e, h, ho, g):
    """g[j] = sum_i (w[i, col + j] >> 12) * e[i] at E_FRAC, clamped to +-1; 0 where the ReLU of unit h[j] is flat."""
    for j in range(n):
        acc = 0
        if 0 < h[ho + j] < 127:
            at = col + j
            for i in range(rows):
                acc += (w[at] >> BACK_SHIFT) * e[i]
                at += stride
            acc >>= BACK_E_SHIFT
        g[j] = E_ONE if acc > E_ONE else -E_ONE if acc < -E_ONE else acc


def distance(a, ao, b, bo, n):
    """Squared Euclidean distance of two int8 vectors of n values."""
    total = 0
    for j in range(n):
        d = ((a[ao + j] ^ 128) - 128) - ((b[bo + j] ^ 128) - 128)
        total += d * d
    return total


def accumulate(x, xo, n, sums):
    """sums[j] += x[j] for n values."""
    for j in range(n):
        sums[j] += (x[xo + j] ^ 128) - 128
