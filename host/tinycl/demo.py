"""The main job, end to end: data, backbone, distillation, blob, board, live enrolment of the unseen classes, report."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from tinycl import pipeline, report
from tinycl.board.base import Board
from tinycl.data import Dataset, to_int8
from tinycl.errors import UserError
from tinycl.learn.heads import accuracy, train_head
from tinycl.link.client import Client
from tinycl.link.link import Event
from tinycl.model.backbone import IntegerBackbone
from tinycl.model.export import Settings
from tinycl.progress import Update, console, follow, stage
from tinycl.shared import plan
from tinycl.shared.blob import RUNG_INTS, Blob


@dataclass(frozen=True)
class Demo:
    """One run: `samples` of each unseen class are enrolled, `per_class` distilled ones of each base class kept."""

    data: Dataset
    seed: int = 0
    base: int | None = None
    samples: int = 15
    per_class: int = 15
    method: str = "dm"
    settings: Settings = field(default_factory=Settings)
    classes: tuple[str, ...] = ()  # the unseen classes to enrol, in this order; empty: all of them


def preset(data: Dataset, base: int | None = None, method: str = "dm") -> Demo:
    """The demo's sizes for a data set: a handful of samples, or 1 % of MNIST."""
    if data.name == "mnist":
        return Demo(data, base=base, method=method, samples=60, per_class=60, settings=Settings(per_class=60))
    if data.name == "pairs":  # an exclusive or takes more than a handful to show itself
        return Demo(data, base=base, method=method, samples=60, settings=Settings(per_class=40))
    return Demo(data, base=base, method=method)


def check(demo: Demo) -> tuple[list[int], list[int]]:
    """(base labels, labels to enrol). Raises what would stop a run later, before anything is trained."""
    data, least = demo.data, demo.settings.holdout_every
    base, unseen = pipeline.split_classes(data, demo.base, demo.seed)
    unseen = pipeline.pick_classes(data, unseen, demo.classes)
    if demo.samples < least:
        raise UserError(f"{demo.samples} samples of a class, one in {least} is held out: raise --samples to {least} or more")
    for label in unseen:
        pipeline.new_samples(data, label, demo.samples, demo.seed)
    pipeline.check_per_class(data, base, demo.per_class)
    return base, unseen


def run(demo: Demo, board: Board) -> tuple[dict[str, Any], np.ndarray]:
    """Runs a demo on a board that is not entered yet. Returns (report, synthetic samples)."""
    start = time.monotonic()
    data = demo.data
    base, unseen = check(demo)
    console.print(
        f"{data.name}, seed {demo.seed}: base classes {', '.join(data.classes[c] for c in base)}; "
        f"unseen {', '.join(data.classes[c] for c in unseen)}"
    )
    with board:  # one that is missing or unfit is found before anything is trained
        hello = board.link.board
        console.print(
            f"board {hello['board']}: MicroPython {hello['version']} on {hello['platform']}, "
            f"{hello['kernels']} kernels, {hello['free_bytes']:,} bytes free"
        )
        with stage("training the backbone on the host") as update:
            backbone = pipeline.make_backbone(data, base, demo.seed, update)
        with stage(f"distilling {demo.per_class} samples a class") as update:
            synthetic = pipeline.make_synthetic(data, base, backbone, demo.method, demo.per_class, demo.seed, update)
        settings = pipeline.with_room(demo.settings, len(data.classes), demo.samples, demo.per_class)
        with stage("training the base head") as update:
            blob = pipeline.make_blob(data, base, backbone, synthetic, settings, progress=update)
        console.print(
            f"blob: {len(blob):,} bytes; backbone {backbone.weights_bytes:,} bytes, {backbone.macs(0):,} MACs to exit 1"
        )
        made = _Session(demo, board.client, base, unseen).teach(blob)
    parsed = Blob(blob)
    made.update(
        {
            "dataset": data.name,
            "board": board.name,
            "seed": demo.seed,
            "distiller": demo.method,
            "base_per_class": demo.per_class,
            "samples": demo.samples,
            "base_classes": [data.classes[c] for c in base],
            "classes": [data.classes[c] for c in base + unseen],
            "blob_bytes": len(blob),
            "backbone_weights_bytes": backbone.weights_bytes,
            "ladder": _ladder(parsed),
            "plan": {
                name: items * plan.item_bytes(code, hello["weight_bytes"])
                for name, code, items in plan.buffers(parsed, made["top"])
            },
        }
    )
    with stage("joint baseline on the host") as update:
        made["joint_accuracy"] = joint_accuracy(
            data, base + unseen, backbone, made["ladder"][made["steps"][-1]["rung"]], demo.seed, update
        )
    made["seconds"] = round(time.monotonic() - start, 2)
    return made, synthetic


def _ladder(blob: Blob) -> list[dict[str, int]]:
    fields = ("exit", "hidden", "inputs", "macs")
    table = np.array(blob.rungs).reshape(-1, RUNG_INTS).tolist()
    return [dict(zip(fields, rung, strict=True)) for rung in table]


def joint_accuracy(
    data: Dataset, labels: list[int], backbone: IntegerBackbone, rung: dict[str, int], seed: int, progress: Update
) -> float:
    """Test accuracy of the same rung trained in float32 on the latents of all training samples of all `labels` at once."""

    def part(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mine = np.isin(y, labels)
        return backbone.forward(to_int8(x[mine], data.low, data.high))[:, : rung["inputs"]], y[mine]

    x, y = part(data.x_train, data.y_train)
    epochs = 200 if len(x) < 5000 else 20
    head = train_head(x, y, len(data.classes), rung["hidden"], epochs=epochs, seed=seed, progress=progress)
    return accuracy(head, *part(data.x_test, data.y_test))


class _Session:
    """Teaches one board the unseen classes and measures after each, by the board's own predictions."""

    def __init__(self, demo: Demo, client: Client, base: list[int], unseen: list[int]):
        self.demo = demo
        self.client = client
        self.order = base + unseen  # the board's class numbers, in the order in which it learns them
        self.base = len(base)
        data = demo.data
        mine = np.isin(data.y_test, self.order)
        self.x_test = to_int8(data.x_test[mine], data.low, data.high)
        position = np.empty(len(data.classes), int)
        position[self.order] = np.arange(len(self.order))
        self.y_test = position[data.y_test[mine]]

    def teach(self, blob: bytes) -> dict[str, Any]:
        client, data = self.client, self.demo.data
        hello = client.link.board
        room = hello["free_bytes"] + hello["swap_bytes"] - hello["scratch_bytes"]
        plan.fit(Blob(blob), room, hello["weight_bytes"])  # what does not fit is refused before it is sent
        with stage("sending the blob") as update:
            client.upload(blob, update)
        with stage("the board activates the blob") as update:
            update(0, 2)  # checked, active
            active = client.activate(lambda event: update(1, 2) if event["t"] == "checked" else None)
        rows = [self.measure(self.base)]
        steps: list[dict[str, Any]] = []
        for known in range(self.base, len(self.order)):
            name = data.classes[self.order[known]]
            x = pipeline.new_samples(data, self.order[known], self.demo.samples, self.demo.seed)
            events: list[Event] = []
            with stage(f"enrolling '{name}', {len(x)} samples") as update:
                epochs = self.demo.settings.epochs + self.demo.settings.refit_epochs
                summary = client.enrol(name, x, follow(update, events, epochs))
            status = client.status()
            step = {
                "class": name,
                "number": client.class_number(name),
                "samples": len(x),
                "kept": summary["kept"],
                "rung": summary["rung"],
                "macs": status["macs"],
                "validation": summary["val"],
                "train_ms": summary["train_ms"],
                "train_macs": summary["train_macs"],
                "train_steps": summary["steps"],
                "growth": [e for e in events if e["t"] == "grown"],
                "epochs": [e for e in events if e["t"] == "epoch"],
                "free_bytes": status["free_bytes"],
                "free_bytes_raw": status["free_bytes_raw"],
                "replay_bytes": status["replay_bytes"],
                "replay_plan_bytes": status["replay_plan_bytes"],
                "digest": status["digest"],
            }
            step.update(self.measure(known + 1))
            steps.append(step)
            rows.append(step)
            self.show(rows)
        return {
            "board_id": hello["board"],
            "kernels": hello["kernels"],
            "micropython": hello["version"] + " (" + hello["firmware"] + ")",
            "top": active["top"],
            "plan_bytes": active["plan_bytes"],
            "base": rows[0],
            "steps": steps,
            "final_accuracy": rows[-1]["accuracy"],
            "forgetting": rows[0]["base_accuracy"] - rows[-1]["base_accuracy"],
            "worst_class_accuracy": min(rows[-1]["per_class"].values()),
            "confusion": self.confusion,
            "counters": {
                **{key: status[key] for key in ("crc_errors", "gaps", "repeats", "dropped")},
                "host_repeats": client.link.repeats,
                "lost_events": client.link.lost_events,
            },
        }

    def measure(self, known: int) -> dict[str, Any]:
        """Accuracy over the test samples of the classes known so far, per class, and over the base classes."""
        with stage(f"the board predicts {len(self.x_test)} test samples") as update:
            said, _ = self.client.predict(self.x_test, update)
        right = said == self.y_test
        names = [self.demo.data.classes[c] for c in self.order]
        count = len(self.order)
        self.confusion = np.bincount(self.y_test * count + said, minlength=count * count).reshape(count, count).tolist()
        seen = self.y_test < known
        return {
            "accuracy": float(right[seen].mean()),
            "base_accuracy": float(right[self.y_test < self.base].mean()),
            "per_class": {names[c]: float(right[self.y_test == c].mean()) for c in range(known)},
        }

    def show(self, rows: list[dict[str, Any]]) -> None:
        """The table so far: a row per measurement, a column per class, in %."""
        title = "accuracy on the test set by the board's own predictions, %"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for text in ("after", "known", "base"):
            table.add_column(text, justify="right")
        for c in self.order:
            table.add_column(self.demo.data.classes[c], justify="right")
        table.add_column("rung", justify="right")
        for row in rows:
            cells = [f"{100 * v:.0f}" for v in row["per_class"].values()]
            cells += ["·"] * (len(self.order) - len(cells))
            name = f"+ {row['class']}" if "class" in row else "base"
            shown = f"{100 * row['accuracy']:.1f}", f"{100 * row['base_accuracy']:.1f}"
            table.add_row(name, *shown, *cells, str(row.get("rung", 0)))
        console.print(table)


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The report of one run, or of several seeds: the first one's, with means on top and every run below `runs`."""
    if len(runs) == 1:
        return runs[0]
    keys = ("final_accuracy", "joint_accuracy", "forgetting", "seconds")
    means = {key: float(np.mean([r[key] for r in runs])) for key in keys}
    worst = min(r["worst_class_accuracy"] for r in runs)
    return {**runs[0], **means, "worst_class_accuracy": worst, "seeds": [r["seed"] for r in runs], "runs": runs}


def save(made: dict[str, Any], synthetic: np.ndarray, folder: Path) -> None:
    """report.json, report.html and the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(made, indent=1), encoding="utf-8")
    with stage("drawing the report") as update:
        report.write(made.get("runs", [made])[0], synthetic, folder, update)
