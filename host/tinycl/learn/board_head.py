"""What a board's head answers, for many samples at once: the integers of shared/fixed.py in arrays, so that a whole test set is
scored on the host as the board would, to the bit. Depends on NumPy and on what `tinycl pull` brings (learned.py)."""

from typing import NamedTuple

import numpy as np

from tinycl.learned import Learned
from tinycl.shared import fixed as f
from tinycl.shared.state import NEVER_SURE

_EXP2 = np.array(f.EXP2, np.int64)
CHUNK = 4096  # samples at once: bounds the memory of the products


class Answers(NamedTuple):
    """classes int64 [n]; certainty int64 [n], in 1/255; early bool [n]: which samples left at the first exit."""

    classes: np.ndarray
    certainty: np.ndarray
    early: np.ndarray


def logits(last: np.ndarray, hidden: np.ndarray, x: np.ndarray) -> np.ndarray:
    """int64 [n, classes] for latents x, int8 [n, inputs]; last int32 [classes, 1 + inputs + units], hidden int32
    [units, 1 + inputs], biases first."""
    inputs = x.shape[1]
    rows = x.astype(np.int64)
    w = last.astype(np.int64) >> f.W_SHIFT
    z = w[:, 0] * f.BIAS_INPUT + rows @ w[:, 1 : 1 + inputs].T
    if len(hidden):
        u = hidden.astype(np.int64) >> f.W_SHIFT
        units = np.clip((u[:, 0] * f.BIAS_INPUT + rows @ u[:, 1:].T) >> f.HIDDEN_SHIFT, 0, 127)
        z += units @ w[:, 1 + inputs :].T
    return z


def certainties(z: np.ndarray) -> np.ndarray:
    """Probability of the largest of each row of logits, int64 [n], in 1/255: the softmax by table of shared/fixed.py."""
    shifted = z >> f.T_SHIFT
    u = np.minimum(shifted.max(1, keepdims=True) - shifted, f.T_MAX) * f.LOG2E >> 16
    v = _EXP2[u & 255] >> (u >> 8)
    best = v[np.arange(len(z)), z.argmax(1)] * ((1 << 30) // v.sum(1)) >> f.E_FRAC
    return np.minimum(255, best * 255 // f.E_ONE)


def predict(learned: Learned, latents: np.ndarray) -> Answers:
    """The answers of the board whose state this is. latents: int8 [n, >= inputs], of the exits up to the state's."""
    head = learned.parsed
    last, hidden = learned.weights
    parts = []
    for at in range(0, len(latents), CHUNK):
        x = latents[at : at + CHUNK]
        z = logits(last, hidden, x[:, : head.inputs])
        classes, certainty = z.argmax(1), certainties(z)
        early = np.zeros(len(x), bool)
        if learned.early_weights is not None and head.sure < NEVER_SURE:
            first = logits(learned.early_weights, hidden[:0], x[:, : head.early_inputs])
            first_certainty = certainties(first)
            early = first_certainty > head.sure
            classes = np.where(early, first.argmax(1), classes)
            certainty = np.where(early, first_certainty, certainty)
        parts.append((classes, certainty, early))
    return Answers(*(np.concatenate(column) for column in zip(*parts, strict=True)))
