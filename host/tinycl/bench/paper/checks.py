"""The open questions of the paper as experiments: accuracy against compression, whether growth comes when it should, and what
it costs. Depends on PyTorch and a unix MicroPython."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tinycl.bench.paper import stream
from tinycl.bench.paper.cell import METHOD, TARGET
from tinycl.bench.paper.main import key
from tinycl.bench.paper.setting import Setting
from tinycl.data import to_int8
from tinycl.distil import METHODS
from tinycl.errors import DataError
from tinycl.learn.heads import accuracy, ridge_head, train_head

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
NEEDLESS = 0.005  # a step is needless where the small model was at most so much worse,
MISSED = 0.02  # and missed where the large one is better by more
Samples = list[np.ndarray]
Tell = Callable[[str], None]


# what a class may look like


def clean(setting: Setting, new: Samples) -> Samples:
    return new


def label_noise(share: float) -> Callable[[Setting, Samples], Samples]:
    """So many of a class's samples are another class's."""

    def change(setting: Setting, new: Samples) -> Samples:
        rng = np.random.default_rng([setting.seed, 11])
        out = []
        for k, samples in enumerate(new):
            mixed = samples.copy()
            wrong = rng.permutation(len(samples))[: round(share * len(samples))]
            for i in wrong:
                other = new[rng.choice([j for j in range(len(new)) if j != k])]
                mixed[i] = other[rng.integers(len(other))]
            out.append(mixed)
        return out

    return change


def sensor_noise(setting: Setting, new: Samples) -> Samples:
    """Noise with a standard deviation of a tenth of the range on every value."""
    rng = np.random.default_rng([setting.seed, 12])
    return [np.clip(np.rint(s + rng.normal(0, 12.7, s.shape)), 0, 127).astype(np.int8) for s in new]


def one_group(setting: Setting, new: Samples) -> Samples:
    """A drifting stream: every class is taught from one person's or session's samples. DataError where data has no groups."""
    data = setting.data
    if data.groups_train is None:
        raise DataError(f"{setting.name}: its samples have no groups: take har or speech_commands")
    out = []
    for c, samples in zip(setting.rest, new, strict=True):
        own = np.flatnonzero(data.y_train == c)
        groups, counts = np.unique(data.groups_train[own], return_counts=True)
        rng = np.random.default_rng([setting.seed, c, 13])
        enough = groups[counts >= min(15, counts.max())]
        chosen = own[data.groups_train[own] == rng.choice(enough)][: len(samples)]
        out.append(setting.raw(chosen))
    return out


def near_copy(setting: Setting, new: Samples) -> Samples:
    """The first class to come is half a base class: each sample the mean of one of its own and one of that class's."""
    old = setting.raw(np.flatnonzero(setting.data.y_train == setting.base[0])[: len(new[0])])
    return [mean_of(new[0], old), *new[1:]]


def mean_of(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sample by sample, as many as both have."""
    n = min(len(a), len(b))
    return ((a[:n].astype(np.int16) + b[:n]) // 2).astype(np.int8)


def test_of(setting: Setting, condition: str) -> tuple[np.ndarray, np.ndarray]:
    """(latents, class numbers) to score on: clean samples, but a near copy is one in the test, too."""
    latents, y = (np.asarray(part) for part in setting.test)
    if condition != "near copy of an old class":
        return latents, y
    data, count = setting.data, len(setting.base)
    parts = [to_int8(data.x_test[data.y_test == c], data.low, data.high) for c in (setting.rest[0], setting.base[0])]
    made = setting.backbone.forward(mean_of(*parts))
    return np.concatenate([latents[y != count], made]), np.concatenate([y[y != count], np.full(len(made), count)])


CONDITIONS: dict[str, Callable[[Setting, Samples], Samples]] = {
    "clean": clean,
    "10 % label noise": label_noise(0.1),
    "20 % label noise": label_noise(0.2),
    "sensor noise": sensor_noise,
    "near copy of an old class": near_copy,
    "one person or session": one_group,
}


def growth(setting: Setting, condition: str) -> dict[str, Any]:
    """Adaptive, fixed small and fixed large over the same changed stream: which growth was needless, which was missed."""
    new = CONDITIONS[condition](setting, setting.new())
    synthetic = setting.synthetic(METHOD, setting.per_class())
    latents, y = test_of(setting, condition)
    streams = {}
    for name, target, mode in (("adaptive", TARGET, "adaptive"), ("small", 0.0, "adaptive"), ("large", 0.0, "large")):
        streams[name] = stream.run(setting.blob(synthetic, target), new, latents, y, setting.macs, mode)
    adaptive, small, large = (streams[name] for name in ("adaptive", "small", "large"))
    steps = range(1, len(adaptive))
    accepted = [any(event["accepted"] for event in adaptive[k].grown) for k in steps]
    return {
        "data": setting.name,
        "seed": setting.seed,
        "condition": condition,
        "steps": len(accepted),
        "tried": sum(bool(adaptive[k].grown) for k in steps),
        "grown": sum(accepted),
        "needless": sum(
            a and small[k].accuracy >= adaptive[k].accuracy - NEEDLESS for k, a in zip(steps, accepted, strict=True)
        ),
        "missed": sum(adaptive[k].rung < large[k].rung and large[k].accuracy > adaptive[k].accuracy + MISSED for k in steps),
        "final": {name: steps_[-1].accuracy for name, steps_ in streams.items()},
        "training_share": sum(s.macs_training for s in adaptive) / sum(s.macs_training + s.macs_inference for s in adaptive),
    }


def compression(setting: Setting, methods: Iterable[str] = METHODS, shares: Iterable[float] = SHARES) -> list[dict[str, Any]]:
    """Accuracy on the base classes of a linear head on the deepest exit that saw distilled samples only, by share of bytes."""
    test_x, test_y = setting.test
    known = test_y < len(setting.base)
    rows: list[dict[str, Any]] = []
    for share in shares:
        try:
            count = setting.per_class(share, most=300)
        except DataError:
            continue
        if rows and rows[-1]["per_class"] == count:
            break  # as many as the smallest class has, or 300: a larger share says the same
        for method in methods:
            made = setting.distilled(method, count)
            latents = setting.backbone.forward(made.samples)
            if made.labels is None:
                head = train_head(latents, made.y, len(setting.base), epochs=100, seed=setting.seed)
            else:
                head = ridge_head(latents, made.labels)
            found = accuracy(head, np.asarray(test_x[known]), test_y[known])
            rows.append(
                {
                    "data": setting.name,
                    "seed": setting.seed,
                    "share": count * len(setting.order) * setting.sample_bytes / setting.train_bytes,
                    "per_class": count,
                    "method": method,
                    "accuracy": found,
                }
            )
    return rows


def run(out: Path, names: Iterable[str], seeds: int, data_dir: str | None, tell: Tell, compress: bool = True) -> dict[str, Any]:
    """Both experiments; writes out/checks.json after each part, and goes on from there."""
    file = out / "checks.json"
    out.mkdir(parents=True, exist_ok=True)
    code = key(Setting("", 0), False)
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if found.get("code") != code:  # made by other code: begun anew
        found = {"code": code, "growth": [], "compression": []}

    def keep() -> None:
        part = file.with_suffix(".part")
        part.write_text(json.dumps(found, indent=1) + "\n")
        part.replace(file)

    for name in names:
        for seed in range(seeds):
            setting = Setting(name, seed, data_dir)
            for condition in CONDITIONS:
                if any((g["data"], g["seed"], g["condition"]) == (name, seed, condition) for g in found["growth"]):
                    continue
                if condition == "one person or session" and setting.data.groups_train is None:
                    continue
                found["growth"].append(growth(setting, condition))
                keep()
                tell(f"{name}, seed {seed}, {condition}: {found['growth'][-1]['grown']} steps grown")
            if compress and not any((c["data"], c["seed"]) == (name, seed) for c in found["compression"]):
                found["compression"] += compression(setting)
                keep()
                tell(f"{name}, seed {seed}: compression")
    picture(found, out / "checks.png")
    return found


def picture(found: dict[str, Any], path: Path) -> None:
    """Above: accuracy against the share of bytes that is kept. Below: growth under each condition."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = sorted({row["data"] for part in ("growth", "compression") for row in found[part]})
    figure, axes = plt.subplots(2, len(names), figsize=(5 * len(names), 7), layout="constrained", squeeze=False)
    for k, name in enumerate(names):
        rows = [row for row in found["compression"] if row["data"] == name]
        for method in sorted({row["method"] for row in rows}):
            shares = sorted({row["share"] for row in rows if row["method"] == method})
            means = [100 * np.mean([r["accuracy"] for r in rows if (r["method"], r["share"]) == (method, s)]) for s in shares]
            axes[0][k].plot([100 * s for s in shares], means, marker="o", ms=3, label=method)
        axes[0][k].set(title=name, xscale="log", xlabel="bytes kept, % of the data's", ylabel="accuracy on the base classes, %")
        axes[0][k].legend(fontsize=7)
        rows = [row for row in found["growth"] if row["data"] == name]
        conditions = [c for c in CONDITIONS if any(row["condition"] == c for row in rows)]
        steps = {c: sum(row["steps"] for row in rows if row["condition"] == c) for c in conditions}
        for j, what in enumerate(("tried", "grown", "needless", "missed")):
            shares = [100 * sum(r[what] for r in rows if r["condition"] == c) / steps[c] for c in conditions]
            axes[1][k].barh(np.arange(len(conditions)) + 0.2 * j, shares, 0.18, label=what)
        axes[1][k].set_yticks(np.arange(len(conditions)) + 0.3, conditions)
        axes[1][k].invert_yaxis()
        axes[1][k].set(xlabel="share of enrolments, %", xlim=(0, 100))
        axes[1][k].legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)
