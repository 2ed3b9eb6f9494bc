# Bring your own windows of sensor readings: a CSV file with one window a line and its label. Depends on NumPy only.

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ..errors import DataError
from . import files, own
from .base import Dataset

LABELS = ("label", "class", "y", "target", "activity")
GROUPS = ("group", "subject", "session", "user")
SPLIT = "split"
NUMBERED = re.compile(r"(.*?)[_.\- ]?(\d+)")
BLOCK = 1024  # lines


@dataclass(frozen=True)
class Columns:
    """Where things stand in a line. `order`: the value columns, sample after sample, channel after channel within each."""

    names: tuple[str, ...]
    header: bool
    label: int
    group: int
    split: int
    order: tuple[int, ...]
    channels: int


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _columns(path: Path, first: list[str]) -> Columns:
    """From the first line. A header has a column called one of LABELS, or something that is no number among its values."""
    names = [cell.strip() for cell in first]
    lower = [name.lower() for name in names]
    header = any(name in LABELS for name in lower) or not all(_is_number(name) for name in names[:-1])
    if not header:
        names = lower = [f"column {i + 1}" for i in range(len(first))]

    def find(wanted: tuple[str, ...]) -> int:
        return next((lower.index(name) for name in wanted if name in lower), -1)

    label, group, split = find(LABELS), find(GROUPS), find((SPLIT,))
    label = len(names) - 1 if label < 0 else label
    values = [i for i in range(len(names)) if i not in (label, group, split)]
    if not values:
        raise DataError(f"{path.name}: {len(names)} columns, at least 1 of values beside the label is needed: add them")
    channels: dict[str, list[tuple[int, int]]] = {}
    for i in values:
        match = NUMBERED.fullmatch(names[i]) if header else None
        channels.setdefault(match[1] if match else "", []).append((int(match[2]) if match else i, i))
    steps = {tuple(sorted(number for number, _ in own_columns)) for own_columns in channels.values()}
    if len(channels) > 1 and len(steps) == 1 and "" not in channels:  # ax_0 … ax_127, ay_0 …, whatever their order
        by_step = zip(*(sorted(own_columns) for own_columns in channels.values()), strict=True)
        return Columns(tuple(names), header, label, group, split, tuple(i for step in by_step for _, i in step), len(channels))
    return Columns(tuple(names), header, label, group, split, tuple(values), 1)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number from 1, cells) of each line that is not empty; the separator is the most frequent of , ; and tab."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=head.count))
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, cells
    except FileNotFoundError as e:
        raise DataError(f"{path}: 0 files of this name: check the path") from e
    except (OSError, UnicodeError, csv.Error) as e:
        raise files.unreadable(path, e, "save it anew as CSV in UTF-8") from e


def _values(path: Path, columns: Columns, line: int, cells: list[str]) -> list[float]:
    """The numbers of one line, or DataError that names line and column."""
    try:
        made = [float(cells[i]) for i in columns.order]
        if all(map(math.isfinite, made)):
            return made
    except ValueError:
        pass
    for i in columns.order:
        text = cells[i].strip()
        if not _is_number(text) or not math.isfinite(float(text)):
            said = f"'{text[:40]}'" if text else "empty"
            raise DataError(
                f"{path.name}: line {line}, column {i + 1} ({columns.names[i][:40]}) is {said}, a finite number is needed: "
                "correct it or delete the line"
            )
    raise AssertionError


def _blocks(path: Path, columns: Columns) -> Iterator[tuple[np.ndarray, list[tuple[str, str, str]]]]:
    """(float32 [k, values], (label, group, split) of each) of up to BLOCK lines at a time."""
    lines = _lines(path)
    if columns.header:
        next(lines)
    while block := list(islice(lines, BLOCK)):
        values, marks = [], []
        for line, cells in block:
            if len(cells) != len(columns.names):
                raise DataError(
                    f"{path.name}: line {line} has {len(cells)} cells, the first one {len(columns.names)}: correct or delete it"
                )
            values.append(_values(path, columns, line, cells))
            label, group, split = (cells[i].strip() if i >= 0 else "" for i in (columns.label, columns.group, columns.split))
            if not label:
                raise DataError(f"{path.name}: line {line}, column {columns.label + 1} has a label of 0 letters: add it")
            if columns.split >= 0 and split not in ("train", "test"):
                raise DataError(
                    f"{path.name}: line {line}, column {columns.split + 1} (split) is '{split[:40]}', one of 2 is possible: "
                    "write train or test"
                )
            marks.append((label, group, split))
        yield np.array(values, np.float32), marks


def _names(cells: list[str]) -> tuple[list[str], np.ndarray]:
    """(names in order, index int64 of each cell); whole numbers are ordered as numbers, "2.0" is "2"."""
    try:
        numbers = [float(cell) for cell in cells]
        if all(number.is_integer() for number in numbers):
            cells = [str(int(number)) for number in numbers]
            names = sorted(set(cells), key=int)
        else:
            names = sorted(set(cells))
    except (ValueError, OverflowError):
        names = sorted(set(cells))
    position = {name: i for i, name in enumerate(names)}
    return names, np.array([position[cell] for cell in cells], np.int64)


def load(path: str | Path, memory_bytes: int | None = None) -> Dataset:
    """A CSV of windows as float32 [n, steps, 1, channels], modality "motion". Raises DataError, with line and column.

    One window a line; a header is optional. The label, text or number, stands in a column called label, class, y, target or
    activity, else in the last one. Columns called NAME_0, NAME_1, … for several NAMEs are channels; all others are one channel.
    `split` (train or test) and `group`, `subject`, `session` or `user` are taken if they are there; without `split` a fixed
    fifth of each class is held out. A file above `memory_bytes` (default files.MEMORY_BYTES) is read twice and mapped.
    """
    path = Path(path)
    first = next(_lines(path), None)
    if first is None:
        raise DataError(f"{path.name}: 0 lines: write one window a line")
    columns = _columns(path, first[1])
    large = path.stat().st_size > (files.MEMORY_BYTES if memory_bytes is None else memory_bytes)
    shape = (len(columns.order) // columns.channels, 1, columns.channels)
    kept: list[np.ndarray] = []
    marks: list[tuple[str, str, str]] = []
    for values, more in _blocks(path, columns):
        marks += more
        if not large:
            kept.append(values.reshape(-1, *shape))
    if not marks:
        raise DataError(f"{path.name}: a header and 0 windows: write one window a line")
    if large:
        pieces = (values.reshape(-1, *shape) for values, _ in _blocks(path, columns))
        x = files.mapped(files.stamp([path], "table"), (len(marks), *shape), np.float32, pieces)
    else:
        x = np.concatenate(kept)
    classes, y = _names([label for label, _, _ in marks])
    groups = _group_numbers([group for _, group, _ in marks]) if columns.group >= 0 else None
    if columns.split >= 0:
        in_test = np.array([split == "test" for _, _, split in marks])
        train, test = np.flatnonzero(~in_test), np.flatnonzero(in_test)
        if not (len(train) and len(test)):
            raise DataError(f"{path.name}: {len(train)} lines for training, {len(test)} for test: mark some of each in `split`")
        rule = "as given in the column split"
    else:
        train, test = own.split(path.name, y, tuple(classes), "a column `split`")
        rule = own.SPLIT_RULE
    x_train, x_test = own.pick(x, train, path, "table train"), own.pick(x, test, path, "table test")
    low, high, x_test = own.fit(x_train, x_test, path)
    return Dataset(
        name=path.stem,
        x_train=x_train,
        y_train=y[train],
        x_test=x_test,
        y_test=y[test],
        classes=tuple(classes),
        low=low,
        high=high,
        split_rule=rule,
        license=own.LICENSE,
        source=path.name,
        base_count=min(own.base_count(len(classes)), len(classes)),
        modality="motion",
        groups_train=None if groups is None else groups[train],
        groups_test=None if groups is None else groups[test],
        group_kind="" if columns.group < 0 else columns.names[columns.group].lower(),
    )


def _group_numbers(cells: list[str]) -> np.ndarray:
    """int64: whole numbers as they are, anything else as its place among the names."""
    names, index = _names(cells)
    try:
        return np.array([int(name) for name in names], np.int64)[index]
    except (ValueError, OverflowError):
        return index
