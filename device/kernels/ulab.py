# The head's kernels on ulab's float32 arrays, for firmware that has ulab; the backbone's kernels stay integer, so that
# latents are the same to the bit everywhere. Interface as in plain.py; weights and vectors are ulab arrays here.
# Allocates: ulab has no out= for dot, so a training step makes short-lived arrays of the size of a layer; export makes one
# array of all weights. Importing this file raises ImportError without ulab, or with a release known to be broken.
#
# Agreement with plain, which cuts weights down to 12 bits in dense and 8 in back and rounds down everywhere; held by
# tests/host/test_ulab.py for n inputs:
#   dense     (n + 1) * 2**-12, and what float32 loses        relu      equal
#   softmax   0.002                                           update    2 * 2**-20
#   back      2**-7                                           latents, distances, sums: the same integer kernels
# Differences of training add up: after 600 steps with 60 inputs and 10 classes, logits relative to the largest are within
# 0.02 of plain's for a linear head (0.010 measured, ten runs) and 0.15 with 16 hidden units (0.097 measured), whose ReLUs
# switch at other steps; predictions agree wherever plain's margin is more than twice that. Step sizes at which training is
# unstable have no bound.
from array import array

import ulab
from ulab import numpy as np

from shared.fixed import HIDDEN_SHIFT, W_FRAC, W_MAX, X_FRAC, Z_FRAC

from .chain import forward, step, train

try:
    from .viper import accumulate, conv2d, deal, distance, maxpool2d
except (SyntaxError, ImportError):
    from .plain import accumulate, conv2d, deal, distance, maxpool2d

OLDEST = (6, 0, 4)  # dot of earlier releases writes behind its result


def _version(text):
    # "6.12.0-2D-c" to [6, 12, 0]; [] where it is no version
    try:
        return [int(number) for number in text.split("-")[0].split(".")]
    except ValueError:
        return []


if _version(getattr(ulab, "__version__", "")) < list(OLDEST):
    raise ImportError(
        "ulab %s may corrupt memory in dot: use a firmware with 6.0.4 or newer" % getattr(ulab, "__version__", "?")
    )

NAME = "ulab"
WEIGHT_BYTES = len(np.zeros(1).tobytes())
SCRATCH_BYTES = 49152  # a step leaves arrays of a layer's size behind, and the heap must not be in pieces by then
ONE = 1.0
_X = 1.0 / (1 << X_FRAC)
_BIAS = 127 * _X
_LIMIT = W_MAX / (1 << W_FRAC)
_HIDDEN = 1 << (Z_FRAC - HIDDEN_SHIFT)


def clear(w):
    if len(w):
        w[:] = 0.0


def weights(n):
    return np.zeros(n)


vector = weights


def export(w, at, n):
    out = array("i", bytes(4 * n))
    floats = array("f" if WEIGHT_BYTES == 4 else "d", w[at : at + n].tobytes() if n else b"")  # w[i] would cost 300 bytes
    for i in range(n):
        out[i] = int(floats[i] * (1 << W_FRAC))
    return out


def adopt(w, at, ints):
    if len(ints):  # ulab has no slices of length 0
        w[at : at + len(ints)] = np.array(ints, dtype=np.float) / (1 << W_FRAC)


def _column(x, xo, n):
    # int8 bytes as a float column [n, 1] in real units
    return np.array(np.frombuffer(x, dtype=np.int8, count=n, offset=xo), dtype=np.float).reshape((n, 1)) * _X


def _row(x, xo, n):
    return _column(x, xo, n).reshape((1, n))


_test = _row(b"\0\x80\x7f", 1, 2)
if _test[0, 0] != -1.0 or _test[0, 1] != _BIAS:
    raise ImportError("ulab %s converts int8 wrongly: use a firmware with another one" % ulab.__version__)
del _test


def dense(w, stride, rows, col, x, xo, n, z):
    w = w.reshape((len(w) // stride, stride))
    total = np.dot(w[:rows, col : col + n], _column(x, xo, n)).reshape((rows,))
    z[:rows] = total + (w[:rows, 0] * _BIAS if col == 1 else z[:rows])


def relu(z, n, h, ho):
    h[ho : ho + n] = np.array(np.floor(np.clip(z[:n] * _HIDDEN, 0, 127)), dtype=np.uint8).tobytes()


def softmax(z, n, e):
    p = np.exp(z[:n] - np.max(z[:n]))
    e[:n] = p / np.sum(p)


def _clamp(view, most):
    # np.clip makes two arrays of the view's size, and is hardly ever needed
    if np.max(view) > most or np.min(view) < -most:
        view[:] = np.clip(view, -most, most)


def update(w, stride, rows, col, x, xo, n, e, shift):
    w = w.reshape((len(w) // stride, stride))
    rate = 4.0 / (1 << shift)
    part = w[:rows, col : col + n]
    part -= np.dot(e[:rows].reshape((rows, 1)) * rate, _row(x, xo, n))
    _clamp(part, _LIMIT)
    if col == 1:
        part = w[:rows, 0]
        part -= e[:rows] * (rate * _BIAS)
        _clamp(part, _LIMIT)


def back(w, stride, rows, col, n, e, h, ho, g):
    w = w.reshape((len(w) // stride, stride))
    unit = np.frombuffer(h, dtype=np.uint8, count=n, offset=ho)
    errors = np.dot(e[:rows].reshape((1, rows)), w[:rows, col : col + n]).reshape((n,))
    _clamp(errors, 1.0)
    g[:n] = errors * (unit > 0) * (unit < 127)
