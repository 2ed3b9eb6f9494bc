"""One cell of the paper's table: a data set and a seed, every method on the same stream. Depends on PyTorch and MicroPython."""

import time
from typing import Any

import numpy as np

from tinycl.bench.paper import stream
from tinycl.bench.paper.setting import NEW_SAMPLES, Setting
from tinycl.distil import METHODS
from tinycl.errors import BudgetError
from tinycl.learn.baselines import BASELINES
from tinycl.learn.heads import accuracy, ridge_head, train_head

METHOD = "dm"  # the paper's
TARGET = 0.97  # validation accuracy that the adaptive model is content with
VARIANTS = {  # of the model: (mode, target, epochs of the first exit's own head)
    "adaptive": ("adaptive", TARGET, 0),
    "adaptive with early exits": ("adaptive", TARGET, 8),
    "fixed small": ("adaptive", 0.0, 0),
    "fixed large": ("large", 0.0, 0),
}


def run(setting: Setting, distillers: tuple[str, ...] = METHODS) -> dict[str, Any]:
    """Everything that the report needs of this cell, as JSON would have it."""
    begin = time.monotonic()
    per_class = setting.per_class()
    synthetic = setting.synthetic(METHOD, per_class)
    new = setting.new()
    latents, y = setting.test
    variants = {}
    for name, (mode, target, early_epochs) in VARIANTS.items():
        blob = setting.blob(synthetic, target, early_epochs)
        variants[name] = told(stream.run(blob, new, latents, y, setting.macs, mode))
    adaptive, large = variants["adaptive"], variants["fixed large"]
    baselines: dict[str, dict[str, Any]] = {}
    # What the adaptive learner keeps: its state, and the raw samples from which it computes latents for a deeper exit.
    kept_bytes = adaptive["bytes"] + per_class * len(setting.order) * setting.sample_bytes
    for exit_index in range(len(setting.macs)):
        inputs = setting.backbone.features(exit_index)
        for name in BASELINES:
            found = baseline(setting, name, inputs, kept_bytes)
            if found and found["final_accuracy"] >= baselines.get(name, {}).get("final_accuracy", -1):
                baselines[name] = {**found, "exit": exit_index}
    return {
        "data": setting.name,
        "stand_in_for": setting.data.stand_in_for,
        "seed": setting.seed,
        "classes": [setting.data.classes[c] for c in setting.order],
        "base": len(setting.base),
        "per_class": per_class,
        "new_samples": NEW_SAMPLES,
        "backbone": {
            "macs": setting.macs,
            "weight_bytes": setting.backbone.weights_bytes,
            "activation_bytes": setting.backbone.activation_bytes,
            "inputs": [setting.backbone.features(e) for e in range(len(setting.macs))],
        },
        "bytes_ratio": per_class * len(setting.order) * setting.sample_bytes / setting.train_bytes,
        "kept_bytes": kept_bytes,
        "mac_ratio_small": variants["fixed small"]["macs"] / large["macs"],
        "mac_ratio": adaptive["macs"] / large["macs"],
        "mac_ratio_early": variants["adaptive with early exits"]["macs"] / large["macs"],
        "accuracy_loss": large["final_accuracy"] - adaptive["final_accuracy"],
        "accuracy_loss_early": large["final_accuracy"] - variants["adaptive with early exits"]["final_accuracy"],
        "joint_accuracy": setting.joint(),
        "variants": variants,
        "baselines": baselines,
        "distillers": {name: distilled(setting, name) for name in distillers},
        "seconds": time.monotonic() - begin,
    }


def told(steps: list[stream.Step]) -> dict[str, Any]:
    """A stream in numbers. forgetting: mean over classes, but the last, of its best accuracy so far less the final one."""
    last = steps[-1].accuracies
    best = [max(step.accuracies[c] for step in steps if c < len(step.accuracies)) for c in range(len(last))]
    grown = [event for step in steps for event in step.grown]
    return {
        "accuracy": [step.accuracy for step in steps],
        "final_accuracy": steps[-1].accuracy,
        "per_class": last,
        "confusion": steps[-1].confusion,
        "forgetting": float(np.mean([b - a for b, a in zip(best[:-1], last[:-1], strict=True)])),
        "rungs": [step.rung for step in steps],
        "tried": len(grown),
        "accepted": sum(event["accepted"] for event in grown),
        "macs": sum(step.macs_inference + step.macs_training for step in steps),
        "macs_training": sum(step.macs_training for step in steps),
        "macs_steps": [step.macs_inference + step.macs_training for step in steps],
        "left_early": [step.left_early for step in steps],
        "bytes": steps[-1].state_bytes,
        "replay_bytes": steps[-1].replay_bytes,
    }


def baseline(setting: Setting, name: str, inputs: int, budget_bytes: int) -> dict[str, Any] | None:
    """A baseline over the same stream with that many bytes; None where it needs more."""
    x, y = (np.asarray(part) for part in setting.train)
    test_x, test_y = (np.asarray(part) for part in setting.test)
    x, test_x = x[:, :inputs], np.ascontiguousarray(test_x[:, :inputs])
    base = len(setting.base)
    try:
        learner = BASELINES[name](inputs, budget_bytes, setting.seed, len(setting.order))
        mine = np.flatnonzero(y < base)
        learner.base(np.ascontiguousarray(x[mine]), y[mine])
        accuracies = []
        for label in range(base - 1, len(setting.order)):
            if label >= base:
                own = setting.new_index(setting.order[label])  # the board's samples
                learner.enrol(np.ascontiguousarray(x[own]), label)
            known = test_y <= label
            accuracies.append(float((learner.predict(test_x[known]) == test_y[known]).mean()))
    except BudgetError as e:
        del e
        return None
    return {
        "accuracy": accuracies,
        "final_accuracy": accuracies[-1],
        "bytes": learner.bytes,
        "diagonal": not getattr(learner, "full", True),
    }


def distilled(setting: Setting, method: str, counts: tuple[int, ...] = (1, 5)) -> dict[str, float]:
    """Accuracy on the base classes of a linear head that saw distilled samples only, by samples of a class. Where a method
    learns labels, the head learns from them: they take a byte a class beside each sample."""
    test_x, test_y = setting.test
    known = test_y < len(setting.base)
    inputs = setting.backbone.features(0)
    out = {}
    for count in counts:
        made = setting.distilled(method, count)
        latents = setting.backbone.forward(made.samples)[:, :inputs]
        if made.labels is None:
            head = train_head(latents, made.y, len(setting.base), epochs=100, seed=setting.seed)
        else:
            head = ridge_head(latents, made.labels)
        out[str(count)] = accuracy(head, np.asarray(test_x[known])[:, :inputs], test_y[known])
    return out
