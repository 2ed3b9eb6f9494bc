"""The page of the paper's experiments: tables of means and spreads, and plots. Depends on Matplotlib and Jinja."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {
    "adaptive": "#1d4f91",
    "adaptive with early exits": "#e07b39",
    "fixed small": "#8a94a0",
    "fixed large": "#222222",
}
MARKS = {"adaptive": "o", "adaptive with early exits": "s", "fixed small": "v", "fixed large": "D"}

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>tinycl: the paper's experiments</title>
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; display: block; overflow-x: auto }
th, td { text-align: left; padding: 0.25rem 0.7rem; border-bottom: 1px solid #8884; font-weight: 400; white-space: nowrap }
thead th { font-weight: 600 } td { font-variant-numeric: tabular-nums }
figure { margin: 1.5rem 0; background: #fff; padding: 0.5rem } img { max-width: 100%; height: auto }
figcaption { color: #555; font-size: 0.9rem }
</style></head><body>
<h1>The paper's experiments</h1>
<p>Base classes: half of each data set's classes, dealt by the seed; the others are enrolled one by one, with at most
{{ new_samples }} samples each. Mean ± standard deviation over seeds ({{ seeds }}). All learners see the
same int8 latents of the same backbone; the adaptive model and the fixed ones are the board's own code under MicroPython.</p>
{% for title, head, rows in tables %}<h2>{{ title }}</h2>
<table><thead><tr>{% for h in head %}<th>{{ h }}</th>{% endfor %}</tr></thead><tbody>
{% for row in rows %}<tr>{% for v in row %}<td>{{ v }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table>
{% endfor %}{% for text, code in pictures %}<figure><img alt="{{ text }}" src="data:image/png;base64,{{ code }}">
<figcaption>{{ text }}</figcaption></figure>
{% endfor %}</body></html>
"""


def show(value: dict[str, float], percent: bool = True) -> str:
    """Mean and spread as people read them."""
    scale, unit = (100, " %") if percent else (1, "")
    return f"{scale * value['mean']:.1f} ± {scale * value['std']:.1f}{unit}"


def tables(summary: dict[str, Any]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """(title, column heads, rows)."""
    names = {name: name + (f" (stands in for {s['stand_in']})" if s["stand_in"] else "") for name, s in summary.items()}
    yield (
        "Adaptive against fixed large",
        ["data", "MACs", "lost", "early exits: MACs", "lost", "fixed small: MACs", "samples kept", "growth tried / kept"],
        [
            [
                names[name],
                show(s["mac_ratio"]),
                show(s["accuracy_loss"]),
                show(s["mac_ratio_early"]),
                show(s["accuracy_loss_early"]),
                show(s["mac_ratio_small"]),
                show(s["bytes_ratio"]),
                f"{s['growth_tried']['mean']:.1f} / {s['growth_accepted']['mean']:.1f}",
            ]
            for name, s in summary.items()
        ],
    )
    variants = list(next(iter(summary.values()))["variants"])
    yield (
        "Accuracy after the last class",
        ["data", *variants, "trained at once", "forgetting"],
        [
            [
                names[name],
                *(show(s["variants"][v]) for v in variants),
                show(s["joint_accuracy"]),
                show(s["forgetting"]),
            ]
            for name, s in summary.items()
        ],
    )
    yield (
        "Accuracy on the base classes, before the first new one",
        ["data", *variants],
        [[names[name], *(show(s["base_accuracy"][v]) for v in variants)] for name, s in summary.items()],
    )
    methods = sorted({m for s in summary.values() for m in s["baselines"]})
    yield (
        "Baselines on the same latents with the same bytes",
        ["data", "adaptive", *methods, "SLDA keeps", "best", "adaptive less the best"],
        [
            [
                names[name],
                show(s["final_accuracy"]),
                *(show(s["baselines"][m]) if m in s["baselines"] else "needs more bytes" for m in methods),
                "the diagonal" if s["slda_diagonal"] else "the covariance",
                s["best_baseline"],
                show(s["delta_to_best_baseline"]),
            ]
            for name, s in summary.items()
        ],
    )
    distillers = list(next(iter(summary.values()))["distillers"])
    counts = list(next(iter(summary.values()))["distillers"][distillers[0]])
    yield (
        "Distillers: accuracy on the base classes of a head that saw distilled samples only",
        ["data", *(f"{d}, {c} a class" for c in counts for d in distillers)],
        [[names[name], *(show(s["distillers"][d][c]) for c in counts for d in distillers)] for name, s in summary.items()],
    )
    yield (
        "What adapting costs",
        ["data", "share of all MACs that went into training and recomputing latents"],
        [[names[name], show(s["training_share"])] for name, s in summary.items()],
    )


def write(out: Path, summary: dict[str, Any], cells: list[dict[str, Any]]) -> Path:
    """out/paper.html, and its pictures as files beside it."""
    pictures = []
    for name, text, figure in _figures(summary, cells):
        data = io.BytesIO()
        figure.savefig(data, dpi=110, bbox_inches="tight")
        plt.close(figure)
        (out / f"paper-{name}.png").write_bytes(data.getvalue())
        pictures.append((text, base64.b64encode(data.getvalue()).decode()))
    page = jinja2.Environment(autoescape=True).from_string(PAGE)
    path = out / "paper.html"
    path.write_text(
        page.render(
            tables=list(tables(summary)),
            pictures=pictures,
            seeds=max(s["seeds"] for s in summary.values()),
            new_samples=cells[0]["new_samples"],
        ),
        encoding="utf-8",
    )
    return path


def _figures(summary: dict[str, Any], cells: list[dict[str, Any]]) -> Iterator[tuple[str, str, Any]]:
    names = list(summary)
    of = {name: [c for c in cells if c["data"] == name] for name in names}
    figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 3), layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for variant in summary[name]["variants"]:
            macs = [c["variants"][variant]["macs"] for c in of[name]]
            accuracy = [100 * c["variants"][variant]["final_accuracy"] for c in of[name]]
            axis.scatter(macs, accuracy, s=22, marker=MARKS[variant], color=COLOURS[variant], label=variant)
        axis.set(xscale="log", title=name, xlabel="MACs over the stream")
    axes[0][0].set_ylabel("final accuracy, %")
    axes[0][-1].legend(fontsize=7)
    yield "macs", "Accuracy after the last class against all multiply-accumulates of the stream; a mark for each seed.", figure

    figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 3), layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for variant in summary[name]["variants"]:
            curve = np.mean([c["variants"][variant]["accuracy"] for c in of[name]], 0)
            at = range(of[name][0]["base"], of[name][0]["base"] + len(curve))
            axis.plot(at, 100 * curve, color=COLOURS[variant], marker=MARKS[variant], ms=3, label=variant)
        axis.set(title=name, xlabel="classes known")
    axes[0][0].set_ylabel("accuracy, %")
    axes[0][-1].legend(fontsize=7)
    yield "stream", "Accuracy over the classes known so far, as they come; mean over seeds.", figure

    figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 2.4), layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for c in of[name]:
            rungs = c["variants"]["adaptive"]["rungs"]
            axis.step(range(c["base"], c["base"] + len(rungs)), np.array(rungs) + 0.04 * c["seed"], where="post", lw=1)
        axis.set(title=name, xlabel="classes known", yticks=range(4), ylim=(-0.2, 3.4))
    axes[0][0].set_ylabel("rung")
    yield "growth", "The rung of the adaptive model after each class; a line for each seed.", figure

    figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 3.2), layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        counts = np.array(of[name][0]["variants"]["adaptive"]["confusion"], float)
        axis.imshow(counts / counts.sum(1, keepdims=True), cmap="Blues", vmin=0, vmax=1)
        axis.set(title=name, xlabel="answered", xticks=[], yticks=range(len(counts)))
        axis.set_yticklabels([label[:12] for label in of[name][0]["classes"]], fontsize=6)
    yield (
        "confusion",
        "Who is taken for whom at the end, by the adaptive model, first seed; classes in the order of the stream.",
        figure,
    )

    figure, axis = plt.subplots(figsize=(1.8 * len(names) + 3, 3), layout="constrained")
    values = {v: [100 * np.mean([c["variants"][v]["forgetting"] for c in of[n]]) for n in names] for v in COLOURS}
    for k, (variant, heights) in enumerate(values.items()):
        axis.bar(np.arange(len(names)) + 0.2 * k, heights, 0.18, color=COLOURS[variant], label=variant)
    axis.set_xticks(np.arange(len(names)) + 0.3, names)
    axis.set_ylabel("forgetting, points")
    axis.legend(fontsize=7)
    yield "forgetting", "Mean over classes of the best accuracy that each ever had, less its final one.", figure
