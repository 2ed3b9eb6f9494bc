# Every kind of layer from end to end: one backbone as NumPy, as torch's differentiable twin, as a blob, and on every kernel of
# the board. conv1d on signals of either orientation, depthwise separable convolutions, flat kernels, exits that pool a signal.

from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from backbone import Backbone
from kernels import plain

from tinycl.learn import kernels as reference
from tinycl.model import IntegerBackbone
from tinycl.model.architectures import Architecture, Conv, Stage, build
from tinycl.model.backbone import Exit
from tinycl.model.deployed import DeployedBackbone
from tinycl.model.export import Settings, export
from tinycl.model.files import load, save
from tinycl.model.quantise import quantise
from tinycl.model.train import FULL_SCALE, FloatBackbone, deterministic, to_torch
from tinycl.shared import plan
from tinycl.shared.blob import CONV2D, DEPTHWISE2D, KERNEL, KERNEL_W, LAYER_INTS, OP, RUNG_INTS, Blob

SIGNAL = (Stage(5, 12, 6), Stage(6, 10, 5, exit_k=2), Stage(7, 5, 3, exit_k=2))
SEPARABLE = (Stage(5, 40), Stage(8, 16, exit_k=2, separable=True), Stage(9, 16, separable=True), Stage(6, 4, exit_k=2))
ARCHITECTURES = {
    "signal down": build((24, 1, 3), SIGNAL),
    "signal across": build((1, 24, 3), SIGNAL),
    "separable signal": build((24, 1, 3), (Stage(5, 12, 6), Stage(6, 6, 5, exit_k=2, separable=True))),
    "separable": build((11, 9, 2), SEPARABLE),
    "flat": Architecture(
        (9, 8, 1), (Conv(4, 5, 2, 1, 3), Conv(6, 2, 1, 1, 4), Conv(6, 1, 1, 2, 3, True)), (Exit(2, 2), Exit(3, 2))
    ),
}


@pytest.fixture(params=list(ARCHITECTURES), scope="module")
def made(request: pytest.FixtureRequest) -> tuple[IntegerBackbone, np.ndarray]:
    """A backbone with the weights that training starts from, its norms set by what comes along, and samples."""
    arch = ARCHITECTURES[request.param]
    x = np.random.RandomState(4).randint(0, 128, (40, *arch.in_shape)).astype(np.int8)
    with deterministic(3):
        net = FloatBackbone(arch)
        with torch.no_grad():
            for _ in range(40):
                net(to_torch(x) / 127)
    return quantise(net.eval(), FULL_SCALE), x


def packed(backbone: IntegerBackbone, x: np.ndarray) -> bytes:
    head = np.zeros((2, 1 + backbone.features(0)), np.int32)
    ladder = ((0, 0), (len(backbone.exits) - 1, 3))
    return export(backbone, head, x[:6].reshape(2, 3, *x.shape[1:]), ["a", "b"], "layers", 0.0, 1.0, Settings(), ladder)


def test_the_latents_say_something(made: tuple[IntegerBackbone, np.ndarray]) -> None:
    """What follows would hold for latents that are all 0, too."""
    latents = made[0].forward(made[1])
    assert latents.std() > 1.5 and (latents.std(axis=0) > 0).mean() > 0.7


def test_the_twin_is_close(made: tuple[IntegerBackbone, np.ndarray]) -> None:
    backbone, x = made
    twin = DeployedBackbone(backbone)(torch.from_numpy(x.astype(np.float32))).numpy()
    assert np.abs(twin - backbone.forward(x)).max() <= 3 and np.abs(twin - backbone.forward(x)).mean() < 0.3


def test_a_file_keeps_it(made: tuple[IntegerBackbone, np.ndarray], tmp_path: Path) -> None:
    from tinycl.data import load as load_data

    backbone, x = made
    save(tmp_path / "b.npz", backbone, [0, 1], load_data("digits"), 0)
    assert np.array_equal(load(tmp_path / "b.npz").backbone.forward(x), backbone.forward(x))


def test_the_blob_says_which_kind() -> None:
    rows = {}
    for name in ("signal down", "signal across", "separable", "flat"):
        arch = ARCHITECTURES[name]
        with deterministic(3):
            net = FloatBackbone(arch)
        blob = Blob(packed(quantise(net.eval(), FULL_SCALE), np.zeros((6, *arch.in_shape), np.int8)))
        table = np.array(blob.layers).reshape(-1, LAYER_INTS)
        rows[name] = [tuple(row) for row in table[:, [OP, KERNEL, KERNEL_W]].tolist()]
    assert rows["signal down"] == [(CONV2D, 6, 1), (CONV2D, 5, 1), (CONV2D, 3, 1)]
    assert rows["signal across"] == [(CONV2D, 1, 6), (CONV2D, 1, 5), (CONV2D, 1, 3)]
    assert rows["separable"][1:3] == [(DEPTHWISE2D, 3, 0), (CONV2D, 1, 0)]
    assert rows["flat"] == [(CONV2D, 5, 3), (CONV2D, 2, 4), (DEPTHWISE2D, 1, 3)]


@pytest.mark.parametrize("kernels", [reference, plain], ids=["numpy", "plain"])
def test_the_board_code_gives_the_same(made: tuple[IntegerBackbone, np.ndarray], kernels) -> None:
    backbone, x = made
    blob = Blob(packed(backbone, x))
    top = len(blob.rungs) // RUNG_INTS - 1
    sizes = plan.buffers(blob, top)
    room = {name: bytearray(n) if code == "B" else array("i", bytes(4 * n)) for name, code, n in sizes}
    board = Backbone(blob, room, kernels)
    leave = len(backbone.exits) - 1
    for sample, expected in zip(x[:4], backbone.forward(x[:4]), strict=True):
        out = bytearray(len(expected) + 2)
        assert board.latents(sample.tobytes(), leave, out, 1) == len(expected)
        assert out == b"\0" + expected.tobytes() + b"\0"


def test_every_kernel_of_micropython_gives_the_same(
    made: tuple[IntegerBackbone, np.ndarray], on_board: Callable[..., str], tmp_path: Path
) -> None:
    backbone, x = made
    (tmp_path / "b.tcb").write_bytes(packed(backbone, x))
    (tmp_path / "x").write_bytes(x[:8].tobytes())
    said = dict(line.split() for line in on_board("latents.py", str(tmp_path / "b.tcb"), str(tmp_path / "x")).splitlines())
    assert set(said) >= {"plain", "viper"}
    assert set(said.values()) == {backbone.forward(x[:8]).tobytes().hex()}
