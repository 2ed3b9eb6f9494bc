# The head's kernels on ulab's float32 arrays, for firmware that has ulab; the backbone's kernels stay integer, so that
# latents are the same to the bit everywhere. Interface as in plain.py; weights and vectors are ulab arrays here.
# Allocates: ulab has no out= for dot, so a training step makes short-lived arrays of the size of a layer; export makes one
# array of all weights. Importing this file raises ImportError without ulab, or with a release known to be broken.
#
# Agreement with plain: the integers round down at every step, so weights drift apart by about 1e-3 a hundred steps; the
# tests hold logits to within 0.05 of plain's after one pass over the data, and predictions where the margin is larger.
from array import array

import ulab
from ulab import numpy as np

from shared.fixed import HIDDEN_SHIFT, W_FRAC, W_MAX, X_FRAC, Z_FRAC

try:
    from .viper import accumulate, conv2d, distance, maxpool2d
except (SyntaxError, ImportError):
    from .plain import accumulate, conv2d, distance, maxpool2d

if getattr(ulab, "__version__", "").startswith("6.0.2"):
    raise ImportError("ulab 6.0.2 corrupts memory in dot: use a firmware with a newer ulab")

NAME = "ulab"
WEIGHT_BYTES = len(np.zeros(1).tobytes())
ONE = 1.0
_X = 1.0 / (1 << X_FRAC)
_BIAS = 127 * _X
_LIMIT = W_MAX / (1 << W_FRAC)
_HIDDEN = 1 << (Z_FRAC - HIDDEN_SHIFT)


def weights(n):
    return np.zeros(n)


vector = weights


def export(w, at, n):
    out = array("i", bytes(4 * n))
    for i in range(n):
        out[i] = int(w[at + i] * (1 << W_FRAC))
    return out


def adopt(w, at, ints):
    for i in range(len(ints)):
        w[at + i] = ints[i] / (1 << W_FRAC)


def _column(x, xo, n):
    # int8 bytes as a float column [n, 1] in real units
    return np.array(np.frombuffer(bytes(memoryview(x)[xo : xo + n]), dtype=np.int8), dtype=np.float).reshape((n, 1)) * _X


def dense(w, stride, rows, col, x, xo, n, z):
    w = w.reshape((len(w) // stride, stride))
    total = np.dot(w[:rows, col : col + n], _column(x, xo, n)).reshape((rows,))
    z[:rows] = total + (w[:rows, 0] * _BIAS if col == 1 else z[:rows])


def relu(z, n, h, ho):
    units = np.clip(np.floor(z[:n] * _HIDDEN), 0, 127)
    for j in range(n):
        h[ho + j] = int(units[j])


def softmax(z, n, e):
    p = np.exp(z[:n] - np.max(z[:n]))
    e[:n] = p / np.sum(p)


def update(w, stride, rows, col, x, xo, n, e, shift):
    w = w.reshape((len(w) // stride, stride))
    rate = 4.0 / (1 << shift)
    step = np.dot(e[:rows].reshape((rows, 1)) * rate, _column(x, xo, n).reshape((1, n)))
    w[:rows, col : col + n] = np.clip(w[:rows, col : col + n] - step, -_LIMIT, _LIMIT)
    if col == 1:
        w[:rows, 0] = np.clip(w[:rows, 0] - e[:rows] * (rate * _BIAS), -_LIMIT, _LIMIT)


def back(w, stride, rows, col, n, e, h, ho, g):
    w = w.reshape((len(w) // stride, stride))
    errors = np.dot(e[:rows].reshape((1, rows)), w[:rows, col : col + n]).reshape((n,))
    g[:n] = np.clip(errors, -1.0, 1.0)
    for j in range(n):
        if not 0 < h[ho + j] < 127:
            g[j] = 0.0
