"""Cases for the kernels, legal and as extreme as a blob, a sample or a training step may make them. Everything comes from
a NumPy generator, so that a case is its seed: hypothesis and the golden vectors draw from the same source."""

from typing import Any

import numpy as np

from tinycl.shared import blob as b
from tinycl.shared import fixed as f

Case = tuple[list[list[str]], list[list[Any]]]  # buffers [typecode, hex], calls [function, argument, …]
ERRORS = [-(1 << 15), 1 << 15, 0, -1, 1]


def buffer(code: str, values: Any) -> list[str]:
    return [code, np.asarray(values, np.int8 if code == "B" else np.int32).tobytes().hex()]


def mixed(g: np.random.Generator, n: int, low: int, high: int, extremes: list[int]) -> np.ndarray:
    """n numbers: extremes only, a third of them extreme, or all of them uniform."""
    share = g.choice([1.0, 0.3, 0.0])
    values = g.integers(low, high + 1, n)
    return np.where(g.random(n) < share, g.choice(extremes, n), values)


def int8(g: np.random.Generator, n: int) -> np.ndarray:
    return mixed(g, n, -128, 127, [-128, 127, 0, -1, 1])


def head(g: np.random.Generator, n: int) -> np.ndarray:
    return mixed(g, n, -f.W_MAX, f.W_MAX, [-f.W_MAX, f.W_MAX, 0, -1, 255, 256, -256])


def layout(g: np.random.Generator, most: int = f.MAX_INPUTS) -> tuple[int, int, int, int, int]:
    """(rows, columns of the first part, of the second part, stride, offset of the inputs)."""
    rows = int(g.choice([1, 2, 3, 10, f.MAX_CLASSES]))
    n = min(most, int(g.choice([1, 2, 3, 16, 33, most // rows + 1, 8000 // rows])))
    first = int(g.integers(1, n + 1))
    return rows, first, n - first, 1 + n + int(g.choice([0, 1, 7])), int(g.choice([0, 1, 5]))


def conv2d(g: np.random.Generator) -> Case:
    """Square kernels, those of a conv1d (one side 1, not padded) and any other; standard, depthwise and pointwise."""
    depthwise = bool(g.random() < 0.25)
    while True:
        h, w, stride = int(g.integers(1, 9)), int(g.integers(1, 9)), int(g.integers(1, 4))
        c, out_c, kh = int(g.integers(1, 7)), int(g.integers(1, 10)), int(g.integers(1, 6))
        kw = kh if g.random() < 0.5 else int(g.integers(1, 6))
        pad = int(g.integers(0, min(k for k in (kh, kw, 1 << 8) if k > 1 or kh * kw == 1)))
        pad_h, pad_w = pad * (kh > 1), pad * (kw > 1)
        if h + 2 * pad_h >= kh and w + 2 * pad_w >= kw:
            break
    if depthwise:
        out_c = c
    out_h, out_w = (h + 2 * pad_h - kh) // stride + 1, (w + 2 * pad_w - kw) // stride + 1
    inputs = kh * kw * (1 if depthwise else c)
    w_at, q_at, layer = int(g.integers(0, 4)), 2 * int(g.integers(0, 2)), int(g.integers(0, 2))
    kernels = int8(g, inputs * out_c)
    most = int(g.choice([1000, b.MAX_ACC - inputs * 128 * 128]))
    bias = mixed(g, out_c, -most, most, [-most, most, 0])
    worst = int((np.abs(kernels.reshape(out_c, -1)).sum(1) * 128 + np.abs(bias)).max())
    shift1 = min(30, max(0, worst.bit_length() - 15) + int(g.choice([0, 0, 1, 15])))  # |sum| >> shift1 < 2**15
    mult = mixed(g, out_c, 0, (1 << 15) - 1, [0, 1, (1 << 15) - 1])
    table = [0] * b.LAYER_INTS * layer + [b.DEPTHWISE2D if depthwise else b.CONV2D, h, w, c, out_h, out_w, out_c, kh]
    table += [stride, pad, shift1, int(g.choice([1, 8, 15, 30])), w_at, q_at, 0 if kw == kh else kw, 0]
    buffers = [
        buffer("B", int8(g, h * w * c)),
        buffer("B", np.concatenate([int8(g, w_at), kernels])),
        buffer("i", np.concatenate([np.full(q_at, -1), np.stack([bias, mult], 1).ravel()])),
        buffer("B", np.full(out_h * out_w * out_c + 2, 0x55)),
        buffer("i", table),
    ]
    return buffers, [["conv2d", "b0", "b1", "b2", "b3", "b4", b.LAYER_INTS * layer]]


def wide_conv2d(g: np.random.Generator) -> Case:
    """Windows of hundreds of bytes, on both sides of what the native kernels gather on their stack (640)."""
    c, k, out_c = int(g.choice([24, 64, 72, 80])), 3, int(g.choice([1, 4, 5]))
    inputs = k * k * c
    kernels = int8(g, inputs * out_c)
    bias = mixed(g, out_c, -1000, 1000, [-1000, 1000, 0])
    worst = int((np.abs(kernels.reshape(out_c, -1)).sum(1) * 128 + np.abs(bias)).max())
    shift1 = max(0, worst.bit_length() - 15)
    quant = np.stack([bias, g.integers(0, 1 << 15, out_c)], 1).ravel()
    buffers = [
        buffer("B", int8(g, 9 * c)),
        buffer("B", kernels),
        buffer("i", quant),
        buffer("B", np.full(9 * out_c, 0x55)),
        buffer("i", [b.CONV2D, 3, 3, c, 3, 3, out_c, k, 1, 1, shift1, 15, 0, 0, 0, 0]),
    ]
    return buffers, [["conv2d", "b0", "b1", "b2", "b3", "b4", 0]]


def maxpool2d(g: np.random.Generator) -> Case:
    h, w, c = (int(v) for v in g.integers(1, 9, 3))
    k, stride, at = int(g.integers(1, min(h, w) + 1)), int(g.integers(1, 5)), int(g.integers(0, 4))
    out = ((h - k) // stride + 1) * ((w - k) // stride + 1) * c
    buffers = [buffer("B", int8(g, h * w * c)), buffer("B", np.full(at + out + 2, 0x55))]
    return buffers, [["maxpool2d", "b0", h, w, c, k, stride, "b1", at]]


def dense(g: np.random.Generator) -> Case:
    """The first part with the bias, the second added to it, as the hidden units' part of the head is."""
    rows, first, second, stride, xo = layout(g)
    buffers = [
        buffer("w", head(g, rows * stride)),
        buffer("B", int8(g, xo + first + second)),
        buffer("z", np.full(rows + 2, 77)),
    ]
    return buffers, [
        ["dense", "b0", stride, rows, 1, "b1", xo, first, "b2"],
        ["dense", "b0", stride, rows, 1 + first, "b1", xo + first, second, "b2"],
    ]


def relu(g: np.random.Generator) -> Case:
    n, at = int(g.integers(1, f.MAX_HIDDEN + 1)), int(g.integers(0, 4))
    most = (f.MAX_INPUTS + 1) << 22
    z = mixed(g, n, -most, most, [-most, most, 0, -1, (127 << 13) - 1, 127 << 13, (1 << 13) - 1, 1 << 13])
    return [buffer("z", z), buffer("B", np.full(at + n + 2, 0x55))], [["relu", "b0", n, "b1", at]]


def softmax(g: np.random.Generator) -> Case:
    n = int(g.choice([1, 2, 3, 10, f.MAX_CLASSES]))
    most = int(g.choice([(f.MAX_INPUTS + 1) << 22, 1 << 23, 1 << 19, 300]))  # from saturated to flat
    z = mixed(g, n, -most, most, [-most, most, 0, -1])
    return [buffer("z", z), buffer("e", np.full(n + 2, 77))], [["softmax", "b0", n, "b1"]]


def update(g: np.random.Generator) -> Case:
    rows, first, second, stride, xo = layout(g)
    buffers = [
        buffer("w", head(g, rows * stride)),
        buffer("B", int8(g, xo + first + second)),
        buffer("e", mixed(g, rows, -(1 << 15), 1 << 15, ERRORS)),
    ]
    shift = int(g.integers(0, 16))
    return buffers, [
        ["update", "b0", stride, rows, 1 + first, "b1", xo + first, second, "b2", shift],
        ["update", "b0", stride, rows, 1, "b1", xo, first, "b2", shift],
    ]


def back(g: np.random.Generator) -> Case:
    """Errors as a softmax makes them: the sum of their absolute values is at most 2."""
    rows, first, second, stride, at = layout(g, f.MAX_HIDDEN)
    first = min(first, f.MAX_HIDDEN)
    e = g.integers(0, (1 << 15) // rows + 1, rows) if g.random() < 0.7 else np.zeros(rows, np.int64)
    if g.random() < 0.5:
        e[int(g.integers(rows))] += (1 << 15) - e.sum()
    e[int(g.integers(rows))] -= 1 << 15
    units = g.choice([0, 1, 126, 127, 64], at + first)
    buffers = [
        buffer("w", head(g, rows * stride)),
        buffer("e", e),
        buffer("B", units),
        buffer("e", np.full(first + 2, 77)),
    ]
    return buffers, [["back", "b0", stride, rows, 1 + second, first, "b1", "b2", at, "b3"]]


def distance(g: np.random.Generator) -> Case:
    n, ao, bo = int(g.choice([1, 2, 33, f.MAX_INPUTS])), int(g.integers(0, 4)), int(g.integers(0, 4))
    return [buffer("B", int8(g, ao + n)), buffer("B", int8(g, bo + n))], [["distance", "b0", ao, "b1", bo, n]]


def accumulate(g: np.random.Generator) -> Case:
    n, xo = int(g.choice([1, 2, 33, f.MAX_INPUTS])), int(g.integers(0, 4))
    sums = mixed(g, n + 2, -(1 << 20), 1 << 20, [-(4096 << 7), 4096 << 7, 0, -1])
    return [buffer("B", int8(g, xo + n)), buffer("i", sums)], [["accumulate", "b0", xo, n, "b1"]]


def training(
    g: np.random.Generator,
    steps: int,
    inputs: int,
    units: int,
    classes: int,
    shift: int,
    extreme: bool = False,
    more: tuple[int, int] = (0, 0),
) -> Case:
    """A head with hidden units, trained from where growth leaves it: random U, zero W. Latents are noisy class patterns,
    or with `extreme` anything that fits into int8, and weights start at their limits. more: inputs and units of a larger
    rung, for which there is room."""
    rows = 4 * classes
    labels = np.resize(np.arange(classes), rows)
    patterns = g.integers(0, 128, (classes, inputs))
    latents = np.clip(patterns[labels] + g.integers(-40, 41, (rows, inputs)), 0, 127)
    most_inputs, most_units = inputs + more[0], units + more[1]
    w = np.zeros((classes, 1 + most_inputs + most_units), np.int64)
    u = g.integers(-(1 << 15), 1 << 15, (most_units, 1 + most_inputs)) << 4
    u[:, 0] = 0
    if extreme:
        latents = int8(g, latents.size)
        w, u = head(g, w.size), head(g, u.size)
    buffers = [
        buffer("w", w),
        buffer("w", u),
        buffer("z", np.zeros(classes)),
        buffer("e", np.zeros(classes)),
        buffer("z", np.zeros(most_units)),
        buffer("B", np.zeros(most_inputs + most_units)),
        buffer("B", latents),
        buffer("B", np.resize(labels, steps)),
    ]
    names = [f"b{i}" for i in range(8)]
    return buffers, [["train", *names, inputs, units, most_inputs, most_units, shift, classes]]


def head_step(g: np.random.Generator) -> Case:
    """A few steps, then a forward pass, on heads of every shape, from ordinary weights and from the limits."""
    classes = int(g.choice([1, 2, 3, 10, f.MAX_CLASSES]))
    inputs = int(g.choice([1, 2, 7, 8, 9, 16, 31, 64, 2000 // classes]))
    units = int(g.choice([0, 0, 1, 2, 8, 13, f.MAX_HIDDEN])) if inputs < 200 else 0
    more = (int(g.choice([0, 0, 5])), int(g.choice([0, 0, 3])) if units < 100 else 0)
    inputs = min(inputs, f.MAX_INPUTS - more[0])
    extreme = bool(g.random() < 0.6)
    case = training(g, int(g.integers(1, 4)), inputs, units, classes, int(g.integers(0, 16)), extreme, more)
    xo = int(g.integers(0, 3 * inputs + 1))
    numbers = [inputs, units, inputs + more[0], units + more[1]]
    case[1].append(["forward", *(f"b{i}" for i in range(7)), *numbers, xo, classes])
    return case


def logits(case: Case, after: list[str], latents: np.ndarray) -> Case:
    """What a head that `training` left as `after` says to latent rows [n, inputs]: n buffers of logits, from b4 on."""
    inputs, units, classes = case[1][0][9], case[1][0][10], case[1][0][14]
    stride, n = 1 + inputs + units, len(latents)
    buffers = [["w", after[0]], ["w", after[1]], buffer("z", np.zeros(units + 1)), buffer("B", np.zeros(units + 1))]
    buffers += [buffer("z", np.zeros(classes)) for _ in latents] + [buffer("B", row) for row in latents]
    calls: list[list[Any]] = []
    for i in range(n):
        z, x = f"b{4 + i}", f"b{4 + n + i}"
        calls.append(["dense", "b0", stride, classes, 1, x, 0, inputs, z])
        if units:
            calls.append(["dense", "b1", 1 + inputs, units, 1, x, 0, inputs, "b2"])
            calls.append(["relu", "b2", units, "b3", 0])
            calls.append(["dense", "b0", stride, classes, 1 + inputs, "b3", 0, units, z])
    return buffers, calls


def deal(g: np.random.Generator) -> Case:
    """Two rounds, the second from where the first ends; held-back samples left out or not."""
    n = int(g.choice([1, 2, 3, 10, f.MAX_CLASSES]))
    counts = g.integers(1, 40, n)
    every = int(g.choice([2, 5, 255]))
    last = int(g.choice([every - 1, every]))
    order = np.stack([g.permutation(n), np.zeros(n, np.int64)], 1).ravel()
    buffers = [buffer("i", np.append(order, 77)), buffer("i", g.integers(0, counts + 1)), buffer("i", counts)]
    numbers = [n, int(g.integers(0, n + 1)), int(g.integers(1, 1025)), int(g.integers(1, f.MAX_INPUTS + 1)), every, last]
    return buffers, [["deal", "b0", "b1", "b2", *numbers, int(x)] for x in g.integers(1, 1 << 16, 2)]


KERNELS = (conv2d, wide_conv2d, maxpool2d, dense, relu, softmax, update, back, distance, accumulate, head_step, deal)
