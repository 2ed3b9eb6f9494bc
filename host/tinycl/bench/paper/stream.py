"""One stream of classes through the board's learner under MicroPython, scored on the host to the bit: accuracies after each
class, multiply-accumulates of every inference and training step, bytes, growth. Depends on a unix MicroPython."""

import json
import subprocess
import tempfile
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from tinycl.board.base import BoardError
from tinycl.board.sim import SimBoard, find_micropython
from tinycl.learn import board_head
from tinycl.learned import Learned
from tinycl.shared.blob import RUNG_INTS, Blob
from tinycl.shared.state import NEVER_SURE

HEAP_BYTES = 4 << 20  # of the process; what the plan may take is FREE_BYTES
FREE_BYTES = 400_000  # beside the runtime: an RP2350 or ESP32-S3; the report says which rungs fit an RP2040
DEADLINE_S = 1800


@dataclass
class Step:
    """State of a stream after a class: `accuracies` per known class, as the board answers on the test set.

    macs_inference: of one inference per known class's test sample; macs_training: of the training, the latents it needed and
    of those recomputed for a deeper exit.
    """

    rung: int
    exit: int
    accuracies: list[float]
    confusion: list[list[int]]
    macs_inference: int
    macs_training: int
    left_early: float
    replay_bytes: int
    state_bytes: int
    samples_kept: int
    grown: list[dict[str, Any]] = field(default_factory=list)

    @property
    def accuracy(self) -> float:
        """Over all test samples of the known classes."""
        right = sum(row[k] for k, row in enumerate(self.confusion))
        return right / sum(map(sum, self.confusion))


def run(
    blob: bytes,
    new: list[np.ndarray],
    latents: np.ndarray,
    y: np.ndarray,
    backbone_macs: list[int],
    mode: str = "adaptive",
    free_bytes: int = FREE_BYTES,
    micropython: str | None = None,
) -> list[Step]:
    """The steps of a stream: after the base classes, then after each of `new` (int8 [n, h, w, c]: a class's samples).

    latents: int8 [m, inputs], test samples of all classes as the backbone puts them out; y: int64 [m], class numbers in the
    order of the stream; backbone_macs: up to each exit. mode: adaptive, or large (the ladder's last rung from the start).
    Raises BoardError where the board does not get through.
    """
    with tempfile.TemporaryDirectory(prefix="tinycl-stream-") as name:
        folder = Path(name)
        board = SimBoard(flash=folder, micropython=micropython)
        board.deploy()
        board.close()
        (folder / "up.tcb").write_bytes(blob)
        for k, samples in enumerate(new):
            (folder / f"{k}.raw").write_bytes(np.ascontiguousarray(samples, np.int8).tobytes())
        (folder / "on_board.py").write_text((files(__package__) / "on_board.py").read_text())
        command = [find_micropython(micropython), "-X", f"heapsize={HEAP_BYTES}", "on_board.py", mode, str(free_bytes)]
        command += [f"class {k}" for k in range(len(new))]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S)
        told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or len(told) != 1 + len(new):
            raise BoardError(f"a stream ended after {len(told)} of {1 + len(new)} steps: {(done.stdout + done.stderr)[-500:]}")
        exits = Blob(blob).rungs[::RUNG_INTS]
        steps: list[Step] = []
        for k, said in enumerate(told):
            training = 0
            if k:
                training = said["train_macs"] + _latents_macs(said, told[k - 1], len(new[k - 1]), exits, backbone_macs)
            learned = Learned((folder / f"after{k}.tcs").read_bytes())
            steps.append(_score(said, learned, latents, y, backbone_macs, training))
        return steps


def _latents_macs(
    said: dict[str, Any], before: dict[str, Any], samples: int, exits: list[int], backbone_macs: list[int]
) -> int:
    """What the backbone cost in an enrolment: each new sample once, and all that is stored at every try of a deeper exit."""
    at = before["exit"]
    macs = samples * backbone_macs[at]
    for event in said["events"]:
        if event["t"] == "grow":
            tried = exits[event["to"]]
            macs += (before["stored"] + samples) * backbone_macs[tried] if tried != at else 0
            back, at = at, tried
        elif not event["accepted"]:
            at = back
    return macs


def _score(
    said: dict[str, Any], learned: Learned, latents: np.ndarray, y: np.ndarray, backbone_macs: list[int], training: int
) -> Step:
    classes = len(learned.names)
    known = y < classes
    answers = board_head.predict(learned, latents[known])
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (y[known], answers.classes), 1)
    early = int(answers.early.sum())
    whole = len(answers.early) - early
    inference = early * said["early_macs"] + whole * said["macs"]
    if learned.parsed.sure < NEVER_SURE:  # the others asked the first exit's head in vain
        inference += whole * (said["early_macs"] - backbone_macs[0])
    return Step(
        rung=said["rung"],
        exit=said["exit"],
        accuracies=[confusion[c, c] / max(1, int(confusion[c].sum())) for c in range(classes)],
        confusion=confusion.tolist(),
        macs_inference=inference,
        macs_training=training,
        left_early=early / len(answers.early),
        replay_bytes=sum(one.nbytes for one in learned.latents),
        state_bytes=learned.parsed.end,
        samples_kept=said["stored"],
        grown=[event for event in said["events"] if event["t"] == "grown"],
    )
