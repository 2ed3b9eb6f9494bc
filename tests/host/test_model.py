# The integer backbone against a plain loop, its limits, the rule for architectures, and what quantisation costs.

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from blobs import random_backbone
from hypothesis import given, settings
from hypothesis import strategies as st

from tinycl import data
from tinycl.errors import DataError, ModelError
from tinycl.model import ConvLayer, Exit, IntegerBackbone, PoolLayer, architecture
from tinycl.model.architectures import EXIT_LATENTS
from tinycl.model.backbone import LATENTS_LIMIT, T_LIMIT
from tinycl.model.deployed import DeployedBackbone
from tinycl.model.quantise import integer_conv, quantise
from tinycl.model.train import FULL_SCALE, to_torch, train_backbone, train_float

SHORT = 120  # steps of training: enough to tell sense from nonsense


def naive_conv(layer: ConvLayer, image: list, check) -> list:
    """The definition, in Python's own integers; `check` sees every intermediate value."""
    h, w, in_c = layer.in_shape
    out_h, out_w, out_c = layer.out_shape
    _, k_h, k_w, _ = layer.w.shape
    out = [[[0] * out_c for _ in range(out_w)] for _ in range(out_h)]
    for i in range(out_h):
        for j in range(out_w):
            for o in range(out_c):
                acc = 0
                for a in range(k_h):
                    for b in range(k_w):
                        row = i * layer.stride + a - (layer.pad if k_h > 1 else 0)
                        column = j * layer.stride + b - (layer.pad if k_w > 1 else 0)
                        if 0 <= row < h and 0 <= column < w:
                            for c in [o] if layer.depthwise else range(in_c):
                                acc += int(layer.w[o, a, b, 0 if layer.depthwise else c]) * image[row][column][c]
                t = (acc + int(layer.bias[o])) >> layer.shift1
                rounded = t * int(layer.mult[o]) + (1 << (layer.shift2 - 1))
                check(acc), check(acc + int(layer.bias[o])), check(t * int(layer.mult[o])), check(rounded)
                out[i][j][o] = min(127, max(0, rounded >> layer.shift2))
    return out


def naive_pool(k: int, image: list) -> list:
    h, w, channels = len(image) // k, len(image[0]) // k, len(image[0][0])
    return [
        [[max(image[i * k + a][j * k + b][c] for a in range(k) for b in range(k)) for c in range(channels)] for j in range(w)]
        for i in range(h)
    ]


def naive_exit(k: int, image: list) -> list:
    """The latent: k x k pooling, or over k * k steps of a signal."""
    if len(image) > 1 and len(image[0]) > 1:
        return np.array(naive_pool(k, image)).reshape(-1).tolist()
    steps = [pixel for row in image for pixel in row]
    runs = [steps[i : i + k * k] for i in range(0, len(steps) - k * k + 1, k * k)]
    return [max(step[c] for step in run) for run in runs for c in range(len(steps[0]))]


def fits_32_bits(value: int) -> None:
    assert -(1 << 31) <= value < 1 << 31


@st.composite
def conv_layers(draw, in_shape, first):
    h, w, c = in_shape
    k_h, k_w = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    pad = draw(st.integers(0, max(k_h, k_w) - 1))
    k_h, k_w = (k if side + 2 * pad >= k else 1 for k, side in ((k_h, h), (k_w, w)))
    pad = min(pad, max(k_h, k_w) - 1)
    k_h, k_w = (k if side + 2 * pad >= k else 1 for k, side in ((k_h, h), (k_w, w)))
    pad = min(pad, max(k_h, k_w) - 1)
    out_c, stride, depthwise = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.booleans())
    if depthwise:
        out_c, c = c, 1
    rng = np.random.RandomState(draw(st.integers(0, 2**31)))
    extreme = draw(st.booleans())
    weights = rng.choice([-127, 127], (out_c, k_h, k_w, c)) if extreme else rng.randint(-127, 128, (out_c, k_h, k_w, c))
    bias = rng.randint(-(1 << 30), 1 << 30, out_c) if extreme else rng.randint(-40000, 40000, out_c)
    mult = rng.choice([0, T_LIMIT - 1], out_c) if extreme else rng.randint(0, T_LIMIT, out_c)
    layer = ConvLayer(
        weights.astype(np.int8),
        bias.astype(np.int32),
        mult.astype(np.int32),
        0,
        draw(st.integers(1, 30)),
        in_shape,
        stride,
        pad,
        depthwise,
    )
    worst, shift1 = layer.worst_accumulator(first), 0
    while worst >> shift1 >= T_LIMIT:
        shift1 += 1
    return replace(layer, shift1=shift1)


@st.composite
def backbones(draw):
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 7)), draw(st.integers(1, 3)))
    layers = []
    for i in range(draw(st.integers(1, 3))):
        if i and min(shape[:2]) > 1 and draw(st.booleans()):
            layers.append(PoolLayer(draw(st.integers(1, min(shape[:2]))), shape))
        else:
            layers.append(draw(conv_layers(shape, first=i == 0)))
        shape = layers[-1].out_shape
    exits = []
    for n in range(1, len(layers) + 1):
        h, w, _ = layers[n - 1].out_shape
        exits.append(Exit(n, draw(st.integers(1, min(h, w) if min(h, w) > 1 else math.isqrt(h * w)))))
    return IntegerBackbone(tuple(layers), tuple(exits))


@settings(max_examples=80)
@given(backbone=backbones(), seed=st.integers(0, 2**31), extreme=st.booleans())
def test_forward_equals_the_plain_loop(backbone, seed, extreme):
    rng = np.random.RandomState(seed)
    shape = (2, *backbone.in_shape)
    x = (rng.choice([-128, 127], shape) if extreme else rng.randint(-128, 128, shape)).astype(np.int8)
    for image, latents in zip(x, backbone.forward(x), strict=True):
        values, expected = image.tolist(), []
        for count, layer in enumerate(backbone.layers, start=1):
            conv = isinstance(layer, ConvLayer)
            values = naive_conv(layer, values, fits_32_bits) if conv else naive_pool(layer.k, values)
            for e in backbone.exits:
                if e.layer_count == count:
                    expected += naive_exit(e.pool_k, values)
        assert latents.tolist() == expected


def test_forward_does_not_depend_on_the_batch():
    backbone = random_backbone((28, 28, 1))
    x = np.random.RandomState(3).randint(0, 128, (3000, 28, 28, 1)).astype(np.int8)
    one_by_one = np.concatenate([backbone.forward(x[i : i + 1]) for i in (0, 1500, 2999)])
    assert np.array_equal(backbone.forward(x)[[0, 1500, 2999]], one_by_one)
    assert backbone.forward(x[:0]).shape == (0, sum(backbone.latent_sizes))


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), spread=st.floats(0, 6))
def test_integer_conv_is_within_one_unit_of_the_float_layer(seed, spread):
    rng = np.random.RandomState(seed)
    weight = np.round(rng.randn(4, 3, 3, 2), 2)
    step = np.abs(weight).max(axis=(1, 2, 3)) / 127
    weight = np.rint(weight / step[:, None, None, None]) * step[:, None, None, None]  # already representable
    gain = rng.choice([-1, 1], 4) * 0.2 * np.exp(-spread * rng.rand(4))
    offset = rng.randn(4) * 20
    layer = integer_conv(weight, gain, offset, (6, 5, 2), 1, 1, False)
    x = rng.randint(0, 128, (2, 6, 5, 2)).astype(np.int8)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(float)
    window = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    real = np.einsum("nijcab,oabc->nijo", window, weight) * gain + offset
    assert np.abs(layer.forward(x) - np.clip(real, 0, 127)).max() <= 1
    assert layer.shift1 == 0 or layer.worst_accumulator() >> (layer.shift1 - 1) >= T_LIMIT // 2
    assert layer.shift2 == 30 or layer.mult.max() >= T_LIMIT // 2 - 1


@pytest.mark.parametrize(
    "shape",
    [
        *((8, 8, 1), (8, 16, 1), (28, 28, 1), (32, 32, 3), (64, 64, 3), (96, 96, 3)),
        *((49, 20, 1), (49, 32, 1), (62, 40, 1), (128, 1, 6), (1, 128, 6), (1, 561, 1), (2, 9, 1), (1, 3, 2), (1, 1, 1)),
    ],
)
@pytest.mark.parametrize("modality", ["image", "sound"])
def test_every_shape_gets_a_backbone_within_budget(shape, modality):
    backbone = random_backbone(shape, modality=modality)  # IntegerBackbone checks its budgets when it is made
    assert backbone.latent_sizes == architecture(shape, modality).latent_sizes
    assert backbone.weights_bytes <= 64 * 1024 and backbone.activation_bytes <= 32 * 1024
    assert backbone.features(1) == sum(backbone.latent_sizes) <= LATENTS_LIMIT
    assert backbone.macs(0) < backbone.macs(1) < 2_000_000


def test_a_shape_beyond_the_rule_is_refused():
    for shape in ((1, 2000, 1), (0, 4, 1)):
        with pytest.raises(ModelError, match=r"smaller samples|are empty"):
            architecture(shape)


@pytest.mark.parametrize(
    ("shape", "modality"),
    [
        *((shape, "image") for shape in ((8, 8, 1), (28, 28, 1), (32, 32, 3), (64, 64, 3))),
        *((shape, "sound") for shape in ((49, 20, 1), (49, 32, 1), (62, 40, 1))),
        ((128, 1, 6), "motion"),
    ],
)
def test_the_first_exit_costs_a_quarter_of_the_last(shape, modality):
    backbone = random_backbone(shape, modality=modality)
    first, last = backbone.macs(0), backbone.macs(len(backbone.exits) - 1)
    assert first <= 0.25 * last and last <= 1_400_000
    assert max(backbone.latent_sizes) <= EXIT_LATENTS


def test_mnist_budget():
    """What an RP2040 has to compute for a prediction, at the first exit and at the last."""
    backbone = random_backbone((28, 28, 1))
    assert backbone.macs(0) <= 110_000 and backbone.macs(1) <= 560_000


def test_what_breaks_a_rule_is_refused_with_numbers():
    good = random_backbone((8, 8, 1))
    first, *rest = good.layers
    with pytest.raises(ModelError, match=r"leave 32 bits"):
        loud = ConvLayer(first.w, first.bias + 2**30, first.mult, first.shift1, first.shift2, first.in_shape, 1, 1)
        IntegerBackbone((loud, *rest), good.exits)
    with pytest.raises(ModelError, match=r"layer 1 takes .* gets"):
        IntegerBackbone((first, first), good.exits)
    with pytest.raises(ModelError, match="deeper than the one before"):
        IntegerBackbone(good.layers, (Exit(2, 2), Exit(2, 2)))
    with pytest.raises(ModelError, match=r"latents: 1280, the limit is 400"):
        IntegerBackbone(good.layers, (Exit(1, 1), Exit(2, 1), Exit(3, 1)))
    with pytest.raises(ModelError, match="largest activation, bytes: 49152"):
        random_backbone((128, 128, 3))
    with pytest.raises(ModelError, match="is needed"):
        good.forward(np.zeros((1, 8, 8, 2), np.int8))
    with pytest.raises(ModelError, match="is needed"):
        good.forward(np.zeros((1, 8, 8, 1), np.float32))
    with pytest.raises(DataError, match="2 or more classes"):
        train_backbone(np.zeros((4, 8, 8, 1), np.int8), np.zeros(4, np.int64))


@pytest.fixture(scope="module")
def digits():
    d = data.load("digits")
    x_train, x_test = (data.to_int8(x, d.low, d.high) for x in (d.x_train, d.x_test))
    return x_train, d.y_train, x_test, d.y_test


@pytest.fixture(scope="module")
def trained(digits):
    x, y, _, _ = digits
    seen = []
    base = y < 6
    net = train_float(x[base], y[base], seed=1, steps=SHORT, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (SHORT, SHORT) and [done for done, _ in seen] == sorted(done for done, _ in seen)
    return net, quantise(net, FULL_SCALE)


def test_quantised_is_as_good_as_float(digits, trained):
    from sklearn.linear_model import LogisticRegression

    x_train, y_train, x_test, y_test = digits
    net, backbone = trained
    with torch.no_grad():
        real_train, real_test = ((net(to_torch(x) / 127) * 127).numpy() for x in (x_train, x_test))
    whole_train, whole_test = backbone.forward(x_train), backbone.forward(x_test)
    assert np.abs(whole_test - real_test).mean() < 0.3  # of 127
    width = backbone.features(0)
    scores = [
        LogisticRegression(max_iter=1000).fit(a[:, :width] / 127, y_train).score(b[:, :width] / 127, y_test)
        for a, b in ((real_train, real_test), (whole_train, whole_test))
    ]
    assert scores[1] > 0.96 and scores[1] > scores[0] - 0.005


def test_deployed_twin_is_close_and_differentiable(digits, trained):
    _, backbone = trained
    x = torch.from_numpy(digits[2][:50].astype(np.float32)).requires_grad_()
    latents = DeployedBackbone(backbone)(x)
    assert np.abs(latents.detach().numpy() - backbone.forward(digits[2][:50])).mean() < 0.3
    latents.sum().backward()
    assert x.grad is not None and float(x.grad.abs().sum()) > 0


def test_training_is_deterministic_and_leaves_torch_alone(digits):
    x, y, _, _ = digits
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two, other = (train_backbone(x[y < 3], y[y < 3], seed=seed, steps=8) for seed in (2, 2, 3))
    assert torch.equal(torch.rand(1), expected)
    same = [np.array_equal(a.w, b.w) and np.array_equal(a.mult, b.mult) for a, b in zip(one.layers, two.layers, strict=True)]
    assert all(same) and not np.array_equal(one.layers[0].w, other.layers[0].w)
