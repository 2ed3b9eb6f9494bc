# Human activity recognition with a smartphone at the waist (UCI HAR and its second release HAPT): six activities, 50 Hz. Three
# layouts: the arrays har_*.npz, HAPT's RawData of whole recordings, and UCI HAR's filtered "Inertial Signals". NumPy only.

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from .base import Dataset, Info
from .files import read_npz, unreadable

STEPS, HOP = 128, 64  # samples: windows of 2.56 s, half overlapping, as published
INFO = Info(
    name="har",
    modality="motion",
    shape=(STEPS, 1, 6),
    classes=6,
    license="CC BY 4.0 at UCI; its README asks for citation and non-commercial use",
    source="Anguita et al., ESANN 2013; Reyes-Ortiz et al., Transition-Aware Human Activity Recognition, Neurocomputing 2015",
    get="https://archive.ics.uci.edu, data set 240 (UCI HAR) or 341 (HAPT, with whole recordings)",
)
CLASSES = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")
TRANSITIONS = ("STAND_TO_SIT", "SIT_TO_STAND", "SIT_TO_LIE", "LIE_TO_SIT", "STAND_TO_LIE", "LIE_TO_STAND")
TEST_SUBJECTS = (2, 4, 9, 10, 12, 13, 18, 20, 24)
# What -1 and 1 stand for, ours: acceleration uses the sensor's whole range; 1 turn rate in 2,000 is beyond 4 rad/s and
# saturates, as the full 10 rad/s of the sensor would leave a fifth of the int8 range to what people do.
ACC_G, GYRO_RAD_S = 2.0, 4.0
FULL = np.array([ACC_G] * 3 + [GYRO_RAD_S] * 3, np.float32)
SIGNALS = tuple(f"{kind}_{axis}" for kind in ("total_acc", "body_gyro") for axis in "xyz")
Windows = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Stream:
    """One whole recording. x: float32 [n, 6], scaled as the windows of `load`. labels: int64 [n], 0 to 5 activities, 6 to 11
    transitions, -1 where nothing is labelled. `test`: whether the subject belongs to the test part."""

    experiment: int
    subject: int
    x: np.ndarray
    labels: np.ndarray
    test: bool


def scale(physical: np.ndarray) -> np.ndarray:
    """g and rad/s [..., 6] to float32 in -1..1; beyond that it saturates."""
    return np.clip(physical.astype(np.float32) / FULL, -1, 1)


def _place(folder: Path) -> Path:
    for inside in ("UCI HAR Dataset", "HAPT Data Set"):
        if (folder / inside).is_dir():
            return folder / inside
    return folder


def layout(folder: Path) -> str:
    """arrays, raw, signals, or "" where the folder holds no HAR."""
    place = _place(folder)
    if (folder / "har_windows.npz").is_file():
        return "arrays"
    if (place / "RawData" / "labels.txt").is_file():
        return "raw"
    return "signals" if (place / "train" / "Inertial Signals").is_dir() else ""


def load(folder: Path) -> Dataset:
    """Windows float32 [n, 128, 1, 6]: acceleration x y z in units of 2 g, turn rate x y z in units of 4 rad/s; -1..1.

    The published split by subject; groups are subjects. Arrays and RawData are raw readings (10,411 windows), Inertial Signals
    filtered ones (10,299). Raises DataError.
    """
    found = layout(folder)
    notes: tuple[str, ...] = ()
    if found == "arrays":
        train, test = (_array_windows(folder / "har_windows.npz", part) for part in ("train", "test"))
    elif found == "raw":
        train, test = _cut(_raw_streams(_place(folder)), range(len(CLASSES)))
    elif found == "signals":
        train, test = (_signals(_place(folder), part) for part in ("train", "test"))
        notes = ("Inertial Signals are median and low-pass filtered; a board sees raw readings",)
    else:
        raise DataError(
            f"{folder} holds 0 of the 3 layouts of HAR (har_windows.npz, RawData/labels.txt, train/Inertial Signals): fetch it "
            f"from {INFO.get}, and give its folder as --data-dir"
        )
    return Dataset(
        name=INFO.name,
        x_train=train[0],
        y_train=train[1],
        x_test=test[0],
        y_test=test[1],
        classes=CLASSES,
        low=-1.0,
        high=1.0,
        split_rule="as published, by subject: 21 people train, 9 test",
        license=INFO.license,
        source=INFO.source,
        base_count=3,
        modality="motion",
        groups_train=train[2],
        groups_test=test[2],
        group_kind="subject",
        notes=notes,
    )


def transitions(folder: Path) -> tuple[Windows, Windows]:
    """The six postural transitions, (train, test), each (x as in `load`, y 6..11 as in CLASSES + TRANSITIONS, subjects).

    From har_transitions.npz or RawData; Inertial Signals have none: DataError.
    """
    if (folder / "har_transitions.npz").is_file():
        path = folder / "har_transitions.npz"
        return _array_windows(path, "train", transitions=True), _array_windows(path, "test", transitions=True)
    if layout(folder) == "raw":
        return _cut(_raw_streams(_place(folder)), range(len(CLASSES), len(CLASSES + TRANSITIONS)))
    raise DataError(f"{folder} has 0 transitions: fetch HAPT, the second release, from {INFO.get}")


def streams(folder: Path) -> list[Stream]:
    """The 61 whole recordings in order of experiment, from har_streams.npz or RawData. Raises DataError."""
    path = folder / "har_streams.npz"
    if not path.is_file():
        if (_place(folder) / "RawData" / "labels.txt").is_file():
            return _raw_streams(_place(folder))
        raise DataError(f"{folder} has 0 whole recordings: fetch HAPT, the second release, from {INFO.get}")
    stored = read_npz(path, ["data", "offset", "experiment", "subject", "labels", "scale"])
    offset, rows, data = stored["offset"], stored["labels"], stored["data"]
    if data.ndim != 2 or data.shape[1] != 6 or len(offset) != len(stored["experiment"]) + 1 or offset[-1] != len(data):
        raise DataError(f"{path.name}: {len(data)} samples, offsets up to {offset[-1]}: fetch it again")
    made = []
    for i, experiment in enumerate(stored["experiment"].tolist()):
        x = scale(data[offset[i] : offset[i + 1]] * stored["scale"])
        made.append(_stream(path, experiment, int(stored["subject"][i]), x, rows[rows[:, 0] == experiment]))
    return made


def _stream(path: Path, experiment: int, subject: int, x: np.ndarray, rows: np.ndarray) -> Stream:
    """rows: int [k, 5], experiment, user, activity 1 to 12, first and last sample, counted from 1, both inclusive."""
    labels = np.full(len(x), -1, np.int64)
    for _, _, activity, first, last in rows.tolist():
        if not (1 <= activity <= 12 and 1 <= first <= last <= len(x)):
            raise DataError(
                f"{path.name}: experiment {experiment} has activity {activity} from {first} to {last}, but {len(x)} samples "
                "and 12 activities: fetch it again"
            )
        labels[first - 1 : last] = activity - 1
    return Stream(experiment, subject, x, labels, subject in TEST_SUBJECTS)


def _array_windows(path: Path, part: str, transitions: bool = False) -> Windows:
    stored = read_npz(path, [f"X_{part}", f"y_{part}", f"subject_{part}", "scale"])
    x, y, subject = (stored[f"{name}_{part}"] for name in ("X", "y", "subject"))
    if x.ndim != 3 or x.shape[1:] != (STEPS, 6) or not len(x) == len(y) == len(subject):
        raise DataError(f"{path.name}: X is {x.shape}, y {y.shape}, subject {subject.shape}: fetch it again")
    low, high = (len(CLASSES), 11) if transitions else (0, 5)
    if y.size and not low <= y.min() <= y.max() <= high:
        raise DataError(f"{path.name}: labels {y.min()}..{y.max()}, {low}..{high} are possible: fetch it again")
    return scale(x * stored["scale"])[:, :, None], y.astype(np.int64), subject.astype(np.int64)


def _numbers(path: Path, columns: int = 0) -> np.ndarray:
    """A text file of numbers, float32 [n, columns]; 0: as many as its first line has. Raises DataError."""
    try:
        made = np.loadtxt(path, np.float32, ndmin=2)
    except (OSError, ValueError) as e:
        raise unreadable(path, e, "fetch it again") from e
    if columns and made.shape[1] != columns:
        raise DataError(f"{path.name}: {made.shape[1]} numbers a line, {columns} are needed: fetch it again")
    bad = np.argwhere(~np.isfinite(made))
    if len(bad):
        row, column = bad[0] + 1
        raise DataError(f"{path.name}: line {row}, column {column} is {made[row - 1, column - 1]}: fetch it again")
    return made


def _signals(place: Path, part: str) -> Windows:
    """UCI HAR, version 1: a file per channel of 128 numbers a line, a label and a subject per line beside them."""
    inside = place / part
    channels = [_numbers(inside / "Inertial Signals" / f"{name}_{part}.txt", STEPS) for name in SIGNALS]
    y, subject = (_numbers(inside / f"{name}_{part}.txt", 1)[:, 0].astype(np.int64) for name in ("y", "subject"))
    counts = [len(channel) for channel in channels]
    if {*counts, len(y), len(subject)} != {len(y)}:
        raise DataError(f"{inside}: signals of {counts} windows, {len(y)} labels, {len(subject)} subjects: fetch it again")
    if not 1 <= y.min() <= y.max() <= len(CLASSES):
        raise DataError(f"y_{part}.txt: labels {y.min()}..{y.max()}, 1..{len(CLASSES)} are possible: fetch it again")
    return scale(np.stack(channels, axis=-1))[:, :, None], y - 1, subject


def _raw_streams(place: Path) -> list[Stream]:
    """HAPT: RawData/acc_expEE_userUU.txt in g, gyro_… in rad/s, three numbers a line, and labels.txt."""
    raw = place / "RawData"
    rows = _numbers(raw / "labels.txt", 5).astype(np.int64)
    made = []
    for experiment in np.unique(rows[:, 0]).tolist():
        mine = rows[rows[:, 0] == experiment]
        subject = int(mine[0, 1])
        name = f"exp{experiment:02d}_user{subject:02d}.txt"
        acc, gyro = _numbers(raw / f"acc_{name}", 3), _numbers(raw / f"gyro_{name}", 3)
        if len(acc) != len(gyro):
            raise DataError(f"acc_{name} has {len(acc)} lines, gyro_{name} {len(gyro)}: fetch them again")
        made.append(_stream(raw / "labels.txt", experiment, subject, scale(np.hstack([acc, gyro])), mine))
    return made


def _cut(recordings: list[Stream], wanted: range) -> tuple[Windows, Windows]:
    """(train, test) windows that lie wholly inside one labelled segment, from its first sample on."""
    parts: dict[bool, list[tuple[np.ndarray, int, int]]] = {False: [], True: []}
    for stream in recordings:
        edges = np.flatnonzero(np.diff(stream.labels)) + 1
        for first, last in zip([0, *edges], [*edges, len(stream.labels)], strict=True):
            label = int(stream.labels[first])
            if label in wanted:
                for start in range(first, last - STEPS + 1, HOP):
                    parts[stream.test].append((stream.x[start : start + STEPS], label, stream.subject))
    for test, windows in parts.items():
        if not windows:
            part = "test" if test else "training"
            raise DataError(f"RawData has 0 {part} windows of {STEPS} samples: fetch the recordings of all subjects")

    def stack(windows: list[tuple[np.ndarray, int, int]]) -> Windows:
        x, y, subject = zip(*windows, strict=True)
        return np.stack(x)[:, :, None], np.array(y, np.int64), np.array(subject, np.int64)

    return stack(parts[False]), stack(parts[True])
