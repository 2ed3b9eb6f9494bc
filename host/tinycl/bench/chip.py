"""The whole job on the emulated RP2040, in the chip's own time and memory: enrolling a class, the heap of the demo, from reset
to HELLO. Adds its figures to out/bench/rp2040.json. Needs what the rp2040 board needs, and native kernels for it.

Seconds are emulated: cycles at 125 MHz, and flash takes the time that the emulator's chip.mjs says. An enrolment's are those of
the chip's own work: it sleeps while it waits for its host, and this emulator's sleep says nothing about a real cable.

usage: python -m tinycl.bench.chip [--out FILE]
"""

import argparse
import ast
import json
import tempfile
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from tinycl import demo, pipeline
from tinycl.bench import save
from tinycl.board.base import BoardError
from tinycl.board.emulator import Emulator
from tinycl.board.rp2040 import Rp2040Board
from tinycl.data import load, to_int8
from tinycl.link.link import MAX_LINE_BYTES, Event
from tinycl.model.export import Settings
from tinycl.shared import wire

CLOCK_HZ = 125_000_000
EPOCHS = 20
SAMPLES = 15  # of each class
ANSWER_S = 120.0  # of the host's clock
SCRIPTS = files("tinycl.bench") / "cycles"


def chip_of(board: Rp2040Board) -> Emulator:
    if board.chip is None:
        raise BoardError("the board has no power: start it first")
    return board.chip


def awake_s(state: dict[str, Any]) -> float:
    """Seconds of its own work since power-on, flash included, from a chip's state."""
    return float(state["cycles"] - state["asleep"]) / CLOCK_HZ


# enrolment


def enrolment_blob() -> tuple[bytes, np.ndarray]:
    """(blob, samples of an eleventh class): all ten digits known with 15 distilled samples each, so that 150 are replayed, and
    training that makes exactly 20 epochs where it does not grow. The new class is the 4 turned by a quarter."""
    data = load("digits")
    known = list(range(len(data.classes)))
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731 - shorter than what it stands for
    backbone = pipeline.make_backbone(data, known, 0, nothing)
    synthetic = pipeline.make_synthetic(data, known, backbone, "dm", SAMPLES, 0, nothing)
    settings = pipeline.with_room(Settings(epochs=EPOCHS, patience=EPOCHS), len(known) + 1, SAMPLES, SAMPLES)
    blob = pipeline.make_blob(data, known, backbone, synthetic, settings)
    fours = data.x_train[data.y_train == 4][:SAMPLES]
    return blob, to_int8(np.rot90(fours, axes=(1, 2)), data.low, data.high)


def enrol(board: Rp2040Board, name: str, x: np.ndarray) -> dict[str, Any]:
    """Enrols a class on a running board; what that took in the chip's time, and what the learner did."""
    chip, client = chip_of(board), board.client
    client.check_samples(x)
    replayed = sum(client.classes().values())
    repeats = board.link.repeats
    events: list[Event] = []
    host = time.monotonic()
    before = chip.state()
    client.open_enrolment(name, len(x))
    client.send_samples(x)
    sent = chip.state()
    summary = client.train(events.append)
    after = chip.state()
    host = time.monotonic() - host
    work = awake_s(after) - awake_s(before)
    return {
        "enrol_s": round(work, 3),
        "enrol_host_s": round(host, 2),
        "enrol_samples_s": round(awake_s(sent) - awake_s(before), 3),
        "enrol_train_s": round(summary["train_ms"] / 1000, 3),
        "enrol_keep_s": round(awake_s(after) - awake_s(sent) - summary["train_ms"] / 1000, 3),
        "enrol_did": {
            "samples": len(x),
            "replayed": replayed,
            "epochs": sum(1 for event in events if event["t"] == "epoch" and event["phase"] == "fit"),
            "refit_epochs": sum(1 for event in events if event["t"] == "epoch" and event["phase"] == "refit"),
            "steps": summary["steps"],
            "rung": summary["rung"],
            "growths": sum(1 for event in events if event["t"] == "grow"),
            "validation": round(summary["val"], 4),
            "erases": after["erases"] - before["erases"],
            "programs": after["programs"] - before["programs"],
            "frames_repeated": board.link.repeats - repeats,
            "kernels": board.link.board["kernels"],
        },
    }


def enrolment() -> dict[str, Any]:
    blob, x = enrolment_blob()
    board = Rp2040Board()
    with board:
        board.client.send_blob(blob)
        return enrol(board, "turned 4", x)


# the heap


def paint_heap(board: Rp2040Board) -> None:
    """Has the board paint its free heap at every start from now on: cycles/paint.py."""
    with board.repl() as repl:
        repl.transport.end = time.monotonic() + ANSWER_S
        repl.transport.fs_writefile("boot.py", (SCRIPTS / "paint.py").read_bytes())
    board.restart()


def read_heap(board: Rp2040Board) -> dict[str, int]:
    """The high-water mark since the board's start: all blocks of the heap that were ever in use, at the same time or not, with
    what was there before main.py (`heap_paint_bytes`: the firmware's own, and cycles/paint.py). Ends the agent."""
    with board.repl() as repl:
        needed, total, paint = ast.literal_eval(repl.execute("print((heap_bytes - untouched(), heap_bytes, paint_bytes))"))
        repl.execute("import os\nos.remove('boot.py')")
    return {"heap_high_water_bytes": needed, "heap_bytes": total, "heap_paint_bytes": paint}


class PaintedBoard(Rp2040Board):
    """An Rp2040Board that paints its heap at every start."""

    heap: dict[str, int]

    def __enter__(self) -> "PaintedBoard":
        super().__enter__()
        paint_heap(self)
        return self

    def __exit__(self, *raised: Any) -> None:
        if raised[0] is None:
            self.heap = read_heap(self)
        super().__exit__(*raised)


def whole_demo(flash: Path) -> dict[str, Any]:
    """The heap of `tinycl demo`: blob, enrolment of four classes, predictions of the test set after each. `flash` becomes the
    flash of a board that knows ten classes."""
    board = PaintedBoard(flash=flash)
    made, _ = demo.run(demo.preset(load("digits")), board)
    return {
        **board.heap,
        "heap_in_use_bytes": board.heap["heap_bytes"] - min(step["free_bytes_raw"] for step in made["steps"]),
        "heap_plan_bytes": sum(made["plan"].values()),
        "heap_ladder_top": made["top"],
        "demo_train_s": [round(step["train_ms"] / 1000, 3) for step in made["steps"]],
        "demo_accuracy": round(made["final_accuracy"], 4),
    }


# from reset to HELLO


def boot(board: Rp2040Board) -> float:
    """Seconds from power-on to the last byte of HELLO's answer. The question waits in the host's controller from the start, so
    that the board answers as soon as it can."""
    board.deploy()
    board.start()
    chip, port = chip_of(board), board.open_port()
    decoder = wire.Decoder(MAX_LINE_BYTES)
    port.timeout = 0.02
    port.write(wire.encode(wire.HELLO, 1, bytes([wire.VERSION]) + b"tinycl " + wire.RELEASE.encode()))
    end = time.monotonic() + ANSWER_S
    while time.monotonic() < end:
        for kind, seq, payload in decoder.feed(port.read(4096)):
            if (kind, seq) == (wire.OK, 1):
                told = json.loads(bytes(payload))
                if told["trouble"] or not told["sequence"]:
                    raise BoardError(f"the board came up without its state ({told['trouble'] or 'none'}): teach it first")
                return float(chip.state()["last_out_us"]) / 1e6
    raise BoardError(f"no HELLO in {ANSWER_S:g} s of the host's clock: end the load on this machine, try again")


def boot_parts(board: Rp2040Board) -> dict[str, int]:
    """Milliseconds of each part of a start, done step by step in the REPL: cycles/boot.py."""
    with board.repl() as repl:
        repl.port.write(b"\x04")  # a soft reset from raw mode: main.py is not run
        repl.enter(ANSWER_S)
        found: dict[str, int] = ast.literal_eval(repl.execute((SCRIPTS / "boot.py").read_text(), ANSWER_S, "cycles/boot.py"))
    return found


def boots(flash: Path) -> dict[str, Any]:
    """The start of a board whose flash holds a learned state."""
    board = Rp2040Board(flash=flash)
    try:
        seconds = boot(board)
        return {"boot_to_hello_s": round(seconds, 3), "boot_parts_ms": boot_parts(board)}
    finally:
        board.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="the whole job on the emulated RP2040, in the chip's own time and memory")
    parser.add_argument("--out", type=Path, default=Path("out/bench/rp2040.json"), help="takes the figures beside what it has")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tinycl-chip-") as name:
        flash = Path(name) / "flash.img"
        parts: tuple[Callable[[], dict[str, Any]], ...] = (enrolment, lambda: whole_demo(flash), lambda: boots(flash))
        for measure in parts:
            figures = measure()
            print(json.dumps(figures), flush=True)
            save(options.out, figures)


if __name__ == "__main__":
    main()
