"""Cycles of the kernels on the emulated RP2040, all in one run, and a picture of them. Needs what the rp2040 board needs, and
native kernels for it. "Emulated cycles": exact and repeatable, but without what reading code from flash costs."""

import json
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from tinycl.bench import save
from tinycl.board.base import BoardError
from tinycl.board.rp2040 import Rp2040Board
from tinycl.model.architectures import Architecture, Conv
from tinycl.model.backbone import ConvLayer, Exit, IntegerBackbone
from tinycl.model.export import Settings, export
from tinycl.shared.logmel import RATE_HZ, frames

MHZ = 125
INPUTS, UNITS, CLASSES = 64, 32, 10
SOFTMAX_WEIGHTS = INPUTS * CLASSES
HIDDEN_WEIGHTS = INPUTS * UNITS + UNITS * CLASSES + INPUTS * CLASSES  # the head keeps its linear part beside the hidden layer
CONV = (8, 8, 16, 3)  # side, channels in, channels out, kernel
CONV_MACS = 8 * 8 * 16 * 3 * 3 * 8
ULAB = 868  # published: ulab 6.12, a 64 -> 10 softmax step written in place where it allows that, per weight
FLOOR = 14  # two loads, multiply, add; load, load, multiply, subtract, store
FRAMES = frames(RATE_HZ)  # of the log-mel front end in a second of sound
DEADLINE_S = 300.0

Progress = Callable[[str], None]
STEP = (INPUTS, 0, CLASSES)  # arguments of cycles/measure.py
HIDDEN = (INPUTS, UNITS, CLASSES)
# Kernels, and two numbers of runs whose difference is measured: plain and script run few times, being slow and as exact.
TIMES = {"native": (2, 6), "viper": (2, 4), "script": (1, 2), "plain": (1, 2)}
KERNELS = tuple(TIMES)


# Predictions are timed on a backbone of their own, whatever `tinycl train` makes of MNIST: 105,840 multiply-accumulates to the
# first exit, 179,568 to the last.
PREDICTED = Architecture((28, 28, 1), (Conv(12, 3, 2, 1), Conv(16, 3, 2, 1), Conv(32, 3, 2, 1)), (Exit(2, 2), Exit(3, 2)))


def backbone(plan: Architecture) -> IntegerBackbone:
    """A backbone of that architecture with random weights: they do not change what it costs."""
    shape = plan.in_shape
    g = np.random.default_rng(1)
    layers = []
    for layer in plan.layers:
        assert isinstance(layer, Conv)
        w = g.integers(-20, 21, (layer.out_c, layer.kernel, layer.kernel, shape[2])).astype(np.int8)
        quant = g.integers(-1000, 1000, layer.out_c).astype(np.int32), np.full(layer.out_c, 16000, np.int32)
        layers.append(ConvLayer(w, *quant, shift1=6, shift2=15, stride=layer.stride, pad=layer.pad, in_shape=shape))
        shape = layer.out_shape(shape)
    return IntegerBackbone(tuple(layers), plan.exits)


def mnist_blob() -> tuple[bytes, list[int]]:
    """A blob for 28x28 images with a rung for each exit, and the multiply-accumulates of these rungs' backbones."""
    made = backbone(PREDICTED)
    samples = np.zeros((2, 1, 28, 28, 1), np.int8)
    head = np.zeros((2, 1 + made.features(0)), np.int32)
    ladder = tuple((e, 0) for e in range(len(made.exits)))
    blob = export(made, head, samples, ["a", "b"], "bench", 0.0, 1.0, Settings(), ladder)
    return blob, [made.macs(e) for e in range(len(made.exits))]


class Chip:
    """A board whose REPL runs cycles/measure.py."""

    def __init__(self, board: Rp2040Board, blob: bytes):
        board.deploy()
        board.start()
        self.context = board.repl()
        self.repl = self.context.__enter__()
        self.repl.transport.end = time.monotonic() + DEADLINE_S
        self.repl.transport.fs_writefile("bench.tcb", blob)
        self.repl.execute((files("tinycl.bench") / "cycles/measure.py").read_text(), DEADLINE_S, "cycles/measure.py")

    def ask(self, code: str) -> str:
        return self.repl.execute(code, DEADLINE_S, code).strip()

    def cycles(self, what: str, kernels: str, *arguments: Any) -> float:
        return float(self.ask(f"measure{(what, kernels, *arguments)!r}"))

    def close(self) -> None:
        self.context.__exit__(None, None, None)


def measure(board: Rp2040Board | None = None, progress: Progress = lambda _: None) -> dict[str, Any]:
    """The figures of the kernels for out/bench/rp2040.json; per weight or MAC where the key says so, from one run."""
    blob, macs = mnist_blob()
    board = board or Rp2040Board()
    try:
        chip = Chip(board, blob)
        found = _measure(chip, macs, progress)
        chip.close()
    finally:
        board.close()
    return {**found, "emulator": board.emulator}


def _measure(chip: Chip, macs: list[int], progress: Progress) -> dict[str, Any]:
    available = chip.ask("print(' '.join(kernels.available()))").split()
    if "native" not in available:
        raise BoardError(f"no native kernels on the chip, it has {available}: build them with 'make natmod ARCHS=armv6m'")
    said = chip.ask("print(sys.implementation[1], sys.version)")
    out: dict[str, Any] = {
        "clock_mhz": MHZ,
        "unit": "emulated cycles",
        "firmware": said,
        "softmax_weights": SOFTMAX_WEIGHTS,
        "hidden_weights": HIDDEN_WEIGHTS,
        "predict_macs": macs[-1],
        "published": {"ulab_softmax_step_cycles_per_weight": ULAB, "floor_cycles_per_weight": FLOOR},
    }

    def each(key: str, what: str, arguments: tuple[Any, ...], divisor: float, kernels: tuple[str, ...] = KERNELS) -> None:
        out[key] = {}
        for name in kernels:
            progress(f"{key}, {name}")
            out[key][name] = round(chip.cycles(what, name, *arguments, *TIMES[name]) / divisor, 2)

    each("softmax_step_cycles_per_weight", "train", STEP, SOFTMAX_WEIGHTS)
    each("softmax_single_step_cycles_per_weight", "step", STEP, SOFTMAX_WEIGHTS)
    each("hidden_step_cycles_per_weight", "train", HIDDEN, HIDDEN_WEIGHTS)
    each("forward_cycles_per_weight", "forward", STEP, SOFTMAX_WEIGHTS)
    each("conv_cycles_per_mac", "conv", (1, *CONV), CONV_MACS)
    each("pointwise_cycles_per_mac", "conv", (1, 8, 16, 16, 1), 8 * 8 * 16 * 16, ("native", "viper"))
    each("depthwise_cycles_per_mac", "conv", (3, 8, 16, 16, 3), 8 * 8 * 9 * 16, ("native", "viper"))
    each("distance_cycles_per_value", "distance", (144,), 144)
    each("log_mel_cycles_per_frame", "log_mel", (), 1, ("viper", "plain"))
    out["log_mel_cycles_per_second_of_sound"] = round(FRAMES * out["log_mel_cycles_per_frame"]["viper"])
    each("predict_ms", "predict", ("bench.tcb", len(macs) - 1), 1000 * MHZ)
    out["predict_first_exit_ms"] = round(chip.cycles("predict", "native", "bench.tcb", 0, 1, 3) / (1000 * MHZ), 2)
    out["predict_first_exit_macs"] = macs[0]
    out["epoch_step_cycles"] = {
        name: round(chip.cycles("epoch", name, "bench.tcb", 15)) for name in ("native", "viper")
    }  # by the learner, 144 inputs and 10 classes
    out["step_bytes_allocated"] = {name: int(chip.cycles("step_bytes", name, *HIDDEN, 20)) for name in ("native", "viper")}
    return out


def picture(found: dict[str, Any], path: Path) -> None:
    """Cycles per weight of a softmax step, on a log scale: MicroPython, ulab, viper, assembler, native, floor."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    step = found["softmax_step_cycles_per_weight"]
    rows = [
        ("MicroPython", step["plain"]),
        ("ulab (published)", found["published"]["ulab_softmax_step_cycles_per_weight"]),
        ("viper", step["script"]),
        ("viper with assembler", step["viper"]),
        ("native module", step["native"]),
        ("floor: loads, arithmetic, stores", found["published"]["floor_cycles_per_weight"]),
    ]
    figure, axes = pyplot.subplots(figsize=(7.2, 2.8), layout="constrained")
    colours = ["#9aa5b1", "#c7cdd4", "#7fa7d6", "#3f7cc4", "#1d4f91", "#d9d9d9"]
    bars = axes.barh([name for name, _ in rows], [value for _, value in rows], color=colours)
    axes.bar_label(bars, [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for _, value in rows], padding=4, fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(5, 4 * max(value for _, value in rows))
    axes.invert_yaxis()
    figure.supxlabel(f"emulated cycles per weight: one training step of a {INPUTS} to {CLASSES} softmax layer", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=160)
    pyplot.close(figure)


def bench(out: Path, progress: Progress = lambda _: None) -> dict[str, Any]:
    """Measures, adds the figures to out/rp2040.json, beside what is there, and draws out/cycles.png."""
    found = measure(progress=progress)
    save(out / "rp2040.json", found)
    picture(found, out / "cycles.png")
    return found


if __name__ == "__main__":
    print(json.dumps(bench(Path("out/bench"), lambda text: print(text, flush=True)), indent=1))
