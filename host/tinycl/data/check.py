# What can be wrong with a data set that is well formed: the same sample on both sides of a split, one sample with two labels,
# blank samples, classes out of balance. Works a piece at a time. Depends on NumPy only.

import hashlib
from typing import Any

import numpy as np

from .base import Dataset, chunks

IMBALANCE = 10  # the largest class has so many times the samples of the smallest: worth a word
SATURATED = 0.01  # share of values at an end of the range that is worth a word, where the ends are a sensor's


def counts(data: Dataset, y: np.ndarray) -> dict[str, int]:
    """Samples of each class."""
    return dict(zip(data.classes, np.bincount(y, minlength=len(data.classes)).tolist(), strict=True))


def _scan(x: np.ndarray) -> tuple[list[bytes], np.ndarray, float, float]:
    """(digest of each sample, whether it is one value all over, smallest, largest value)."""
    digests: list[bytes] = []
    blank = np.zeros(len(x), bool)
    low, high = np.inf, -np.inf
    for rows in chunks(x):
        piece = np.ascontiguousarray(x[rows])
        flat = piece.reshape(len(piece), -1)
        smallest, largest = flat.min(1), flat.max(1)
        blank[rows] = smallest == largest
        low, high = min(low, float(smallest.min())), max(high, float(largest.max()))
        digests += [hashlib.blake2b(sample.tobytes(), digest_size=16).digest() for sample in flat]
    return digests, blank, low, high


def _share_at(x: np.ndarray, low: float, high: float) -> float:
    return sum(int(np.count_nonzero((x[rows] <= low) | (x[rows] >= high))) for rows in chunks(x)) / x.size


def check(data: Dataset) -> dict[str, Any]:
    """Facts of a data set as plain numbers, and `findings`: a sentence for each that a person should know of.

    What would stop training or a board, Dataset has refused when it was made.
    """
    train, blank_train, low, high = _scan(data.x_train)
    test, blank_test, low_test, high_test = _scan(data.x_test)
    labels: dict[bytes, set[int]] = {}
    for digest, label in zip((*train, *test), np.concatenate([data.y_train, data.y_test]).tolist(), strict=True):
        labels.setdefault(digest, set()).add(label)
    per_train = counts(data, data.y_train)
    known = set(train)
    facts: dict[str, Any] = {
        "name": data.name,
        "modality": data.modality,
        "sample": list(data.sample_shape),
        "dtype": str(data.x_train.dtype),
        "range": [data.low, data.high],
        "values": [min(low, low_test), max(high, high_test)],
        "train": per_train,
        "test": counts(data, data.y_test),
        "train_samples": len(train),
        "test_samples": len(test),
        "imbalance": max(per_train.values()) / min(per_train.values()),
        "duplicates_train": len(train) - len(known),
        "duplicates_test": len(test) - len(set(test)),
        "test_also_in_train": sum(digest in known for digest in test),
        "two_labels": sum(len(own) > 1 for own in labels.values()),
        "blank": int(blank_train.sum() + blank_test.sum()),
        "mapped": isinstance(data.x_train, np.memmap),
        "stand_in_for": data.stand_in_for,
        "notes": list(data.notes),
    }
    if data.groups_train is not None and data.groups_test is not None:
        ours, theirs = set(data.groups_train.tolist()), set(data.groups_test.tolist())
        facts["groups"] = {"kind": data.group_kind, "train": len(ours), "test": len(theirs), "both": len(ours & theirs)}
    if data.modality == "motion":
        facts["saturated"] = _share_at(data.x_train, data.low, data.high)
    facts["findings"] = list(_findings(facts))
    return facts


def _findings(facts: dict[str, Any]) -> list[str]:
    said = []
    if facts["test_also_in_train"]:
        said.append(f"{facts['test_also_in_train']} of {facts['test_samples']} test samples are in the training part too")
    if facts["two_labels"]:
        said.append(f"{facts['two_labels']} samples occur with more than one label")
    if facts["duplicates_train"]:
        said.append(f"{facts['duplicates_train']} of {facts['train_samples']} training samples repeat another one")
    if facts["blank"]:
        said.append(f"{facts['blank']} samples have one value all over")
    if facts["imbalance"] > IMBALANCE:
        said.append(f"the largest class has {facts['imbalance']:.0f} times the samples of the smallest")
    if facts.get("saturated", 0) > SATURATED:
        said.append(f"{100 * facts['saturated']:.1f} % of the values are at an end of the range {facts['range']}")
    groups = facts.get("groups")
    if groups and groups["both"]:
        said.append(f"{groups['both']} of {groups['test']} test {groups['kind']}s are in the training part too")
    return said
