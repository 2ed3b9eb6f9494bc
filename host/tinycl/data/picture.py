# A picture of a few samples of each class: pixels for images, a line per channel for motion, a spectrogram for sound.
# Depends on matplotlib.

from collections.abc import Callable

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .base import Dataset

INK, EDGE = "#1f2937", "#e5e7eb"
LINES = ("#0072b2", "#d55e00", "#009e73", "#56b4e9", "#e69f00", "#cc79a7")  # told apart by the colour-blind
CELL_INCHES = 0.7


def _image(axis: Axes, sample: np.ndarray, low: float, high: float) -> None:
    grey = np.clip((sample.astype(np.float64) - low) / (high - low), 0, 1)
    if sample.shape[2] == 3:
        axis.imshow(grey, interpolation="nearest")
    else:
        axis.imshow(grey.mean(-1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _motion(axis: Axes, sample: np.ndarray, low: float, high: float) -> None:
    for channel, line in enumerate(sample.reshape(len(sample), -1).T):
        axis.plot(line, color=LINES[channel % len(LINES)], linewidth=0.6)
    axis.set_ylim(low, high)


def _sound(axis: Axes, sample: np.ndarray, low: float, high: float) -> None:
    axis.imshow(sample[:, :, 0].T, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high, interpolation="nearest")


DRAW: dict[str, Callable[[Axes, np.ndarray, float, float], None]] = {"image": _image, "motion": _motion, "sound": _sound}


def samples_picture(data: Dataset, per_class: int = 10, seed: int = 0) -> Figure:
    """A row of training samples per class, drawn at random by `seed`; classes with fewer have a shorter row."""
    h, w, _ = data.sample_shape
    aspect = min(4.0, max(1.0, w / h)) if data.modality == "image" else 1.6
    rows = len(data.classes)
    size = (CELL_INCHES * aspect * per_class + 1.6, CELL_INCHES * rows + 0.5)
    figure, axes = plt.subplots(rows, per_class, figsize=size, squeeze=False)
    for label, name in enumerate(data.classes):
        own = np.random.RandomState([seed, label]).permutation(np.flatnonzero(data.y_train == label))[:per_class]
        for column in range(per_class):
            axis = axes[label][column]
            axis.set_xticks([])
            axis.set_yticks([])
            for side in axis.spines.values():
                side.set_color(EDGE)
            if column < len(own):
                DRAW[data.modality](axis, data.x_train[own[column]], data.low, data.high)
            elif column:
                axis.set_visible(False)
        text = axes[label][0].set_ylabel(name, rotation=0, ha="right", va="center", color=INK, fontsize=9)
        text.set_parse_math(False)  # a class called $x$ is no formula
    stand_in = f" (stands in for {data.stand_in_for})" if data.stand_in_for else ""
    title = figure.suptitle(f"{data.name}{stand_in}: training samples", color=INK, fontsize=10)
    title.set_parse_math(False)
    figure.tight_layout(rect=(0, 0, 1, 0.98), pad=0.3)
    return figure
