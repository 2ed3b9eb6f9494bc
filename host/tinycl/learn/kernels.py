"""The NumPy reference of the board's kernels: same names, arguments and bits as device/kernels/plain.py, in arrays.

All arithmetic is done in int64 and checked to fit the 32 bits that the board has; shapes and formats as stated there and in
shared/fixed.py. Weights, logits and errors are NumPy arrays of int32; other buffers may be anything with that memory
(bytearray, array, NumPy array). Offsets count items.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinycl.shared import fixed as f
from tinycl.shared.blob import DEPTHWISE2D

NAME = "numpy"
WEIGHT_BYTES = 4
ONE = f.E_ONE
_EXP2 = np.array(f.EXP2, np.int64)


def weights(n: int) -> np.ndarray:
    """Room for n weights, all zero."""
    return np.zeros(n, np.int32)


vector = weights


def clear(w: np.ndarray) -> None:
    """All weights zero."""
    w[:] = 0


def export(w: np.ndarray, at: int, n: int) -> np.ndarray:
    """n weights from `at` on as int32: the form that is stored and sent."""
    return w[at : at + n].copy()


def adopt(w: np.ndarray, at: int, ints: np.ndarray) -> None:
    """The reverse of export: int32 values to the weights from `at` on."""
    w[at : at + len(ints)] = ints


def _int8(x: np.ndarray, at: int, n: int) -> np.ndarray:
    return np.frombuffer(x, np.int8)[at : at + n].astype(np.int64)


def _rows(w: np.ndarray, stride: int, rows: int, col: int, n: int) -> np.ndarray:
    """A view [rows, n] of the columns from `col` on."""
    return w[: rows * stride].reshape(rows, stride)[:, col : col + n]


def _word(v: np.ndarray) -> np.ndarray:
    assert np.abs(v).max(initial=0) < 2**31, "a sum left 32 bits"
    return v.astype(np.int32)


def conv2d(x: np.ndarray, w: np.ndarray, q: np.ndarray, y: np.ndarray, d: np.ndarray, o: int) -> None:
    """One layer, x [h, w, c] to y [oh, ow, oc] (0..127), as layer d[o:] says (shared/blob.py, LAYR; kernels/plain.py)."""
    in_h, in_w, in_c, out_h, out_w, out_c, kh, stride, pad, shift1, shift2, w_at, q_at, kw = (int(v) for v in d[o + 1 : o + 15])
    kw = kw or kh
    ph, pw = pad if kh > 1 else 0, pad if kw > 1 else 0
    depthwise = d[o] == DEPTHWISE2D
    image = np.zeros((in_h + 2 * ph, in_w + 2 * pw, in_c), np.int64)
    image[ph : ph + in_h, pw : pw + in_w] = _int8(x, 0, in_h * in_w * in_c).reshape(in_h, in_w, in_c)
    seen = 1 if depthwise else in_c
    kernels = _int8(w, w_at, out_c * kh * kw * seen).reshape(out_c, kh, kw, seen)
    windows = np.lib.stride_tricks.sliding_window_view(image, (kh, kw), axis=(0, 1))[::stride, ::stride][:out_h, :out_w]
    bias, mult = np.frombuffer(q, np.int32)[q_at : q_at + 2 * out_c].astype(np.int64).reshape(out_c, 2).T
    acc = np.einsum("hwoij,oijc->hwo" if depthwise else "hwcij,oijc->hwo", windows, kernels)
    t = np.clip(_word(acc + bias).astype(np.int64) >> shift1, -f.E_ONE, f.E_ONE - 1)
    v = _word(t * mult + (1 << (shift2 - 1))).astype(np.int64) >> shift2
    np.frombuffer(y, np.int8)[: v.size] = np.clip(v, 0, 127).reshape(-1)


def maxpool2d(x: np.ndarray, h: int, w: int, c: int, k: int, stride: int, y: np.ndarray, yo: int) -> None:
    """The largest of every k x k window of x [h, w, c], to y from byte yo on."""
    image = _int8(x, 0, h * w * c).reshape(h, w, c)
    best = np.lib.stride_tricks.sliding_window_view(image, (k, k), axis=(0, 1))[::stride, ::stride].max(axis=(3, 4))
    np.frombuffer(y, np.int8)[yo : yo + best.size] = best.reshape(-1)


def dense(w: np.ndarray, stride: int, rows: int, col: int, x: np.ndarray, xo: int, n: int, z: np.ndarray) -> None:
    """z = (w >> 8) x, with the bias if col is 1, added to z otherwise."""
    start = (_rows(w, stride, rows, 0, 1)[:, 0].astype(np.int64) >> f.W_SHIFT) * f.BIAS_INPUT if col == 1 else z[:rows]
    z[:rows] = _word(start + (_rows(w, stride, rows, col, n).astype(np.int64) >> f.W_SHIFT) @ _int8(x, xo, n))


def relu(z: np.ndarray, n: int, h: np.ndarray, ho: int) -> None:
    """h = clamp(z >> HIDDEN_SHIFT, 0, 127)."""
    np.frombuffer(h, np.int8)[ho : ho + n] = np.clip(z[:n] >> f.HIDDEN_SHIFT, 0, 127)


def softmax(z: np.ndarray, n: int, e: np.ndarray) -> None:
    """Probabilities at E_FRAC in the integer steps of shared/fixed.py."""
    shifted = z[:n].astype(np.int64) >> f.T_SHIFT
    u = np.minimum(shifted.max() - shifted, f.T_MAX) * f.LOG2E >> 16
    v = _EXP2[u & 255] >> (u >> 8)
    e[:n] = v * ((1 << 30) // v.sum()) >> f.E_FRAC


def update(w: np.ndarray, stride: int, rows: int, col: int, x: np.ndarray, xo: int, n: int, e: np.ndarray, shift: int) -> None:
    """w -= (e x) >> shift, clamped to +-W_MAX; the bias too if col is 1."""
    err = e[:rows].astype(np.int64)[:, None]
    keep = err == 0
    for view, inputs in ((_rows(w, stride, rows, col, n), _int8(x, xo, n)[None]), (_rows(w, stride, rows, 0, 1), f.BIAS_INPUT)):
        view[:] = np.where(keep, view, np.clip(view.astype(np.int64) - (err * inputs >> shift), -f.W_MAX, f.W_MAX))
        if col != 1:
            break


def back(w: np.ndarray, stride: int, rows: int, col: int, n: int, e: np.ndarray, h: np.ndarray, ho: int, g: np.ndarray) -> None:
    """g = (w >> 12)^T e at E_FRAC, clamped to +-1; 0 where the ReLU is flat."""
    acc = _word((_rows(w, stride, rows, col, n).astype(np.int64) >> f.BACK_SHIFT).T @ e[:rows].astype(np.int64))
    unit = _int8(h, ho, n)
    g[:n] = np.where((unit > 0) & (unit < 127), np.clip(acc >> f.BACK_E_SHIFT, -f.E_ONE, f.E_ONE), 0)


def distance(a: np.ndarray, ao: int, b: np.ndarray, bo: int, n: int) -> int:
    """Squared Euclidean distance of two int8 vectors."""
    return int(((_int8(a, ao, n) - _int8(b, bo, n)) ** 2).sum())


def accumulate(x: np.ndarray, xo: int, n: int, sums: np.ndarray) -> None:
    """sums += x."""
    np.frombuffer(sums, np.int32)[:n] += _int8(x, xo, n).astype(np.int32)


def forward(model: Sequence[Any], x: np.ndarray, xo: int, classes: int) -> int:
    """A head's logits, hidden units and, in errors, probabilities for the latent row x[xo:]; returns the best class.

    model: (kernels, dims, head, hidden, logits, errors, hidden errors, features, …) as device/kernels/chain.py makes it.
    """
    _, dims, head, hidden, z, e, g, features = model[:8]
    inputs, units, most = (int(v) for v in dims[:3])
    stride = 1 + most + int(dims[3])
    dense(head, stride, classes, 1, x, xo, inputs, z)
    if units:
        dense(hidden, 1 + most, units, 1, x, xo, inputs, g)
        relu(g, units, features, most)
        dense(head, stride, classes, 1 + most, features, most, units, z)
    softmax(z, classes, e)
    return int(np.argmax(z[:classes]))


def step(model: Sequence[Any], x: np.ndarray, xo: int, label: int, shift: int, classes: int) -> int:
    """One step of stochastic gradient descent on the latent row x[xo:]; returns 1 - p(label) at E_FRAC."""
    forward(model, x, xo, classes)
    _, dims, head, hidden, _, e, g, features = model[:8]
    inputs, units, most = (int(v) for v in dims[:3])
    stride = 1 + most + int(dims[3])
    e[label] -= ONE
    if units:
        back(head, stride, classes, 1 + most, units, e, features, most, g)
        update(head, stride, classes, 1 + most, features, most, units, e, shift)
        update(hidden, 1 + most, units, 1, x, xo, inputs, g, shift)
    update(head, stride, classes, 1, x, xo, inputs, e, shift)
    return -int(e[label])


def train(model: Sequence[Any], x: np.ndarray, stage: np.ndarray, order: np.ndarray, n: int, shift: int, classes: int) -> int:
    """n steps in the order of pairs (label, first byte of its latent row in x, or ~first byte in stage); the sum of losses."""
    loss = 0
    for label, xo in np.asarray(order[: 2 * n]).reshape(n, 2).tolist():
        loss += step(model, x, xo, label, shift, classes) if xo >= 0 else step(model, stage, ~xo, label, shift, classes)
    return loss


def deal(
    order: np.ndarray,
    cursor: np.ndarray,
    counts: np.ndarray,
    n: int,
    known: int,
    per_class: int,
    inputs: int,
    every: int,
    last: int,
    x: int,
) -> int:
    """The samples of one round over n classes into order; returns the random state that follows (device/kernels/chain.py)."""
    turns = [int(c) for c in order[: 2 * n : 2]]
    for k in reversed(range(1, n)):
        x ^= x << 7 & 0xFFFF
        x ^= x >> 9
        x ^= x << 8 & 0xFFFF
        j = x % (k + 1)
        turns[k], turns[j] = turns[j], turns[k]
    for k, c in enumerate(turns):
        i = int(cursor[c])
        i += i % every == last
        i = 0 if i >= counts[c] else i
        cursor[c] = i + 1
        order[2 * k] = c
        order[2 * k + 1] = (c * per_class + i) * inputs if c < known else ~(i * inputs)
    return x
