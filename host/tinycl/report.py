"""The demo's report as a page that needs nothing else: tables, and pictures drawn by matplotlib and embedded as PNG."""

import base64
import html
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

INK, ACCENT, MUTED = "#1f2937", "#0072b2", "#9ca3af"  # blue and grey stay apart for the colour-blind
ORANGE = "#d55e00"


def samples_picture(synthetic: np.ndarray, names: list[str]) -> Figure:
    """The distilled samples, a row per base class. synthetic: int8 [classes, per class, h, w, c]."""
    classes, per_class, h, w, _ = synthetic.shape
    shown = min(per_class, 12)
    figure, axes = plt.subplots(classes, shown, figsize=(0.62 * shown * max(1, w / h) + 0.6, 0.66 * classes), squeeze=False)
    for c in range(classes):
        for i in range(shown):
            axis = axes[c][i]
            axis.imshow(synthetic[c, i].mean(-1), cmap="gray_r", vmin=0, vmax=127, interpolation="nearest", aspect="equal")
            axis.set_xticks([])
            axis.set_yticks([])
            for side in axis.spines.values():
                side.set_color("#e5e7eb")
        axes[c][0].set_ylabel(names[c], rotation=0, ha="right", va="center", color=INK)
    figure.suptitle("What the board keeps of the base classes: distilled samples", color=INK, fontsize=11)
    figure.tight_layout(rect=(0, 0, 1, 0.98), pad=0.3)
    return figure


def accuracy_picture(report: dict[str, Any]) -> Figure:
    """Accuracy per class after each enrolment (rows: steps; grey: not taught yet), and over all known classes."""
    names = report["classes"]
    stages = [report["base"], *report["steps"]]
    table = np.full((len(stages), len(names)), np.nan)
    for row, step in enumerate(stages):
        for name, value in step["per_class"].items():
            table[row, names.index(name)] = value
    figure, axis = plt.subplots(figsize=(1.6 + 0.62 * len(names), 1.1 + 0.5 * len(stages)))
    colours = matplotlib.colormaps["viridis"].with_extremes(bad="#f3f4f6")
    picture = axis.imshow(table, cmap=colours, vmin=0.5, vmax=1, aspect="auto")
    for row in range(len(stages)):
        for column in range(len(names)):
            value = table[row, column]
            if not np.isnan(value):
                shade = "white" if value < 0.85 else INK
                axis.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=shade, fontsize=9)
    axis.set_xticks(range(len(names)), names)
    labels = ["base", *[f"+ {s['class']}" for s in report["steps"]]]
    axis.set_yticks(range(len(stages)), [f"{t}   all: {100 * s['accuracy']:.1f}" for t, s in zip(labels, stages, strict=True)])
    axis.set_title("Accuracy per class after each enrolment, in %", color=INK, fontsize=11)
    figure.colorbar(picture, ax=axis, fraction=0.025, pad=0.02)
    figure.tight_layout()
    return figure


def confusion_picture(report: dict[str, Any]) -> Figure:
    """Confusion matrix of the last step, rows normalised."""
    names = report["classes"]
    counts = np.array(report["confusion"], float)
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    size = 1.4 + 0.42 * len(names)
    figure, axis = plt.subplots(figsize=(size + 0.6, size))
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(names)):
        for column in range(len(names)):
            if counts[row, column]:
                shade = "white" if share[row, column] > 0.5 else INK
                axis.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", color=shade, fontsize=8)
    axis.set_xticks(range(len(names)), names, rotation=0 if max(map(len, names)) < 4 else 60)
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("the board said")
    axis.set_ylabel("it was")
    axis.set_title("Confusion at the end", color=INK, fontsize=11)
    figure.tight_layout()
    return figure


def ladder_picture(report: dict[str, Any]) -> Figure:
    """The growth ladder: multiply-accumulates of one inference at each rung, and where the model stood after each step."""
    ladder = report["ladder"]
    figure, axis = plt.subplots(figsize=(6.4, 1.2 + 0.45 * len(ladder)))
    at = report["steps"][-1]["rung"] if report["steps"] else 0
    for row, rung in enumerate(ladder):
        colour = ACCENT if row == at else MUTED if row <= report["top"] else "#e5e7eb"
        axis.barh(row, rung["macs"], color=colour, height=0.6)
        steps = [s["class"] for s in report["steps"] if s["rung"] == row]
        text = f" {rung['macs']:,} MACs" + (f"   after {', '.join(steps)}" if steps else "")
        text += "" if row <= report["top"] else "   (does not fit this board's memory)"
        axis.text(0, row + 0.36, text, va="bottom", ha="left", color=INK, fontsize=8)
    names = [f"exit {r['exit'] + 1}, " + (f"{r['hidden']} hidden" if r["hidden"] else "linear") for r in ladder]
    axis.set_yticks(range(len(ladder)), names)
    axis.set_xlim(0, max(r["macs"] for r in ladder) * 1.25)
    axis.set_ylim(-0.6, len(ladder) - 0.1)
    axis.set_xlabel("multiply-accumulates of one inference")
    axis.set_title("Growth ladder; blue: where the model ended", color=INK, fontsize=11)
    figure.tight_layout()
    return figure


def board_picture(report: dict[str, Any]) -> Figure:
    """Memory plan of the board, and time and free memory at each enrolment."""
    figure = plt.figure(figsize=(9.6, 3.4))
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    plan = sorted(report["plan"].items(), key=lambda item: item[1])
    left.barh([name for name, _ in plan], [size / 1024 for _, size in plan], color=ACCENT)
    left.set_xlabel("kB")
    left.set_title(f"Memory plan: {report['plan_bytes'] / 1024:.1f} kB, allocated once", color=INK, fontsize=11)
    left.tick_params(axis="y", labelsize=7)
    steps = report["steps"]
    labels = [f"+ {s['class']}" for s in steps]
    right.bar(labels, [s["train_ms"] for s in steps], color=ACCENT, width=0.5)
    right.set_ylabel("ms of training (bars)", color=ACCENT)
    twin = right.twinx()
    twin.plot(labels, [s["free_bytes"] / 1024 for s in steps], "o-", color=ORANGE)
    twin.set_ylim(0, max([s["free_bytes"] / 1024 for s in steps], default=1) * 1.2)
    twin.set_ylabel("kB free (line)", color=ORANGE)
    right.set_title("Time and free memory on the board", color=INK, fontsize=11)
    figure.tight_layout()
    return figure


def overview_picture(report: dict[str, Any], synthetic: np.ndarray) -> Figure:
    """One picture for a README: what was distilled, and how accuracy went."""
    figure = plt.figure(figsize=(11, 3.9))
    grid_spec = figure.add_gridspec(1, 2, width_ratios=(1, 1.25), wspace=0.22)
    classes, per_class, h, w, _ = synthetic.shape
    shown = min(per_class, 10)
    axis = figure.add_subplot(grid_spec[0, 0])
    grid = synthetic[:, :shown].mean(-1)
    grid = np.pad(grid, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=0)
    axis.imshow(grid.transpose(0, 2, 1, 3).reshape(classes * (h + 1), shown * (w + 1)), cmap="gray_r", vmin=0, vmax=127)
    axis.set_yticks([(h + 1) * c + h / 2 for c in range(classes)], report["base_classes"])
    axis.set_xticks([])
    axis.set_title(f"distilled on the host: {per_class} samples a class", color=INK, fontsize=11)
    axis = figure.add_subplot(grid_spec[0, 1])
    stages = [report["base"], *report["steps"]]
    labels = ["base", *[f"+ {s['class']}" for s in report["steps"]]]
    base = [100 * s["base_accuracy"] for s in stages]
    axis.plot(labels, [100 * s["accuracy"] for s in stages], "o-", color=ACCENT, label="all classes known so far")
    axis.plot(labels, base, "s--", color=ORANGE, label="base classes: not forgotten")
    axis.axhline(100 * report["joint_accuracy"], color=MUTED, linestyle=":", label="trained on everything at once")
    axis.set_ylim(min(80, min(base) - 5, min(100 * s["accuracy"] for s in stages) - 5), 101)
    axis.set_ylabel("accuracy on the test set, %")
    axis.set_title(f"learned on the board: {report['steps'][-1]['samples']} samples a class", color=INK, fontsize=11)
    axis.legend(frameon=False, fontsize=9, loc="lower left")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.subplots_adjust(left=0.05, right=0.98, top=0.9, bottom=0.1)
    return figure


def write(
    report: dict[str, Any], synthetic: np.ndarray, folder: Path, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Writes the pictures and report.html into `folder`; returns the page's path."""
    pictures: list[tuple[str, str, Callable[[], Figure]]] = [
        ("overview", "Distilled on the host, learned on the board", lambda: overview_picture(report, synthetic)),
        ("samples", "Distilled samples", lambda: samples_picture(synthetic, report["base_classes"])),
        ("accuracy", "Accuracy per class", lambda: accuracy_picture(report)),
        ("confusion", "Confusion matrix", lambda: confusion_picture(report)),
        ("ladder", "Growth ladder", lambda: ladder_picture(report)),
        ("board", "Memory and time on the board", lambda: board_picture(report)),
    ]
    parts = []
    for done, (name, text, draw) in enumerate(pictures, 1):
        figure = draw()
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=110, metadata={"Software": "tinycl"})
        plt.close(figure)
        (folder / f"{name}.png").write_bytes(data.getvalue())
        code = base64.b64encode(data.getvalue()).decode()
        parts.append(f'<figure><img alt="{text}" src="data:image/png;base64,{code}"><figcaption>{text}</figcaption></figure>')
        if progress:
            progress(done, len(pictures))
    page = folder / "report.html"
    page.write_text(_page(report, "\n".join(parts)), encoding="utf-8")
    return page


def _page(report: dict[str, Any], pictures: str) -> str:
    e = html.escape
    percent = "{:.1f} %".format
    facts = [
        ("Final accuracy, all classes, by the board's own predictions", percent(100 * report["final_accuracy"])),
        ("The same rung trained on everything (host, float32)", percent(100 * report["joint_accuracy"])),
        ("Forgetting: base accuracy lost", f"{100 * report['forgetting']:.1f} points"),
        ("Samples kept of a base class / sent of a new one", f"{report['base_per_class']} / {report['samples']}"),
        ("Board", f"{report['board']} ({report['board_id']})"),
        ("MicroPython", report["micropython"]),
        ("Kernels", report["kernels"]),
        ("Blob", f"{report['blob_bytes']:,} bytes"),
        ("Whole run", f"{report['seconds']:.1f} s"),
    ]
    rows = "".join(f"<tr><th>{e(k)}</th><td>{e(str(v))}</td></tr>" for k, v in facts)
    head = "".join(
        f"<th>{t}</th>"
        for t in ("class", "samples", "accuracy", "base classes", "rung", "MACs", "training", "free", "replay memory")
    )
    steps = "".join(
        f"<tr><td>{e(s['class'])}</td><td>{s['samples']}</td><td>{percent(100 * s['accuracy'])}</td>"
        f"<td>{percent(100 * s['base_accuracy'])}</td><td>{s['rung']}</td><td>{s['macs']:,}</td>"
        f"<td>{s['train_ms']:,} ms</td><td>{s['free_bytes']:,} B</td><td>{s['replay_bytes']:,} B</td></tr>"
        for s in report["steps"]
    )
    title = f"tinycl: {e(report['dataset'])} on {e(report['board'])}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: {INK}; background: #fff;
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; margin: 1rem 0; font-size: 0.92rem; display: block; overflow-x: auto }}
th, td {{ text-align: left; padding: 0.3rem 0.8rem; border-bottom: 1px solid #e5e7eb; font-weight: 400 }}
thead th {{ font-weight: 600 }}
td {{ font-variant-numeric: tabular-nums }}
figure {{ margin: 2rem 0 }} img {{ max-width: 100%; height: auto }} figcaption {{ color: #6b7280; font-size: 0.9rem }}
</style></head><body>
<h1>{title}</h1>
<p>Base classes {e(", ".join(report["base_classes"]))} were distilled on the host. The board then learned
{e(", ".join(s["class"] for s in report["steps"]))} by itself, one at a time, over its serial line.
Every accuracy is from the board's own predictions on the whole test set.</p>
<table>{rows}</table>
<h2>Enrolments</h2>
<table><thead><tr>{head}</tr></thead><tbody>{steps}</tbody></table>
{pictures}
</body></html>
"""
