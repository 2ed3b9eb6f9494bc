"""What a cut of the power or a full flash leaves: device/store.py on CPython, on a file system that fails at a chosen
operation. A load afterwards gives the state before the enrolment or the one after it, to the bit, and nothing else."""

import copy
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, NamedTuple

import pytest
import store as module
from blobs import tiny_blob, tiny_samples
from enrolment import Enrolment
from store import Store

from shared.errors import FormatError
from shared.state import State
from tinycl.learn import kernels

pytestmark = pytest.mark.usefixtures("board_time")

BLOB = tiny_blob(target_permille=1001, epochs=2)  # never content: every rung is tried
NOISE = 200


class Cut(BaseException):
    """The power is gone: nothing of the runtime's may catch this."""


class Files:
    """Counts what changes a file: opening it for writing, each write, rename and remove. At number `at` it fails, a write
    after half of its bytes if `half`; with Cut, everything behind that fails too, an OSError comes once."""

    def __init__(self, at: int = 0, half: bool = False, error: type[BaseException] = Cut):
        self.at = at
        self.half = half
        self.error = error
        self.done: list[str] = []  # what was asked for, in order

    def change(self, what: str) -> bool:
        """True where a write is to stop halfway."""
        self.done.append(what)
        if len(self.done) == self.at or (self.error is Cut and 0 < self.at < len(self.done)):
            if self.half and len(self.done) == self.at and what.startswith("write"):
                return True
            raise self.error(28)
        return False

    def open(self, path: str, mode: str = "r") -> Any:
        if mode == "rb":
            return open(path, mode)
        self.change(f"open {os.path.basename(path)}")
        return Writer(open(path, mode, buffering=0), self)

    def rename(self, old: str, new: str) -> None:
        self.change(f"rename {os.path.basename(old)}")
        os.rename(old, new)

    def remove(self, path: str) -> None:
        if os.path.exists(path):
            self.change(f"remove {os.path.basename(path)}")
        os.remove(path)

    def put_under(self, patch: pytest.MonkeyPatch) -> "Files":
        patch.setattr(module, "open", self.open, raising=False)
        names = {"stat": os.stat, "listdir": os.listdir, "rename": self.rename, "remove": self.remove}
        patch.setattr(module, "os", SimpleNamespace(**names))
        return self


class Writer:
    def __init__(self, file: BinaryIO, files: Files):
        self.file = file
        self.files = files

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: Any) -> int:
        raw = bytes(memoryview(data).cast("B"))
        if self.files.change(f"write {len(raw)}"):
            self.file.write(raw[: len(raw) // 2])
            raise self.files.error(28)
        return self.file.write(raw)


class Job(NamedTuple):
    """An enrolment up to where it is written down."""

    folder: Path  # the flash before
    made: Enrolment  # trained and condensed
    store: Store  # as it was loaded from the folder
    name: str
    chosen: list[int]
    before: int  # digests
    after: int

    def write(self, folder: Path) -> Store:
        """Writes the enrolment down in a copy of the flash; may be repeated."""
        store = copy.copy(self.store)
        store.root = f"{folder}/"
        self.write_again(store)
        return store

    def write_again(self, store: Store) -> None:
        learner = self.made.learner
        learner.replay.classes -= 1
        try:
            uid, crc = store.keep_class(learner, self.chosen)
        finally:
            learner.replay.classes += 1
        learner.replay.uids[learner.replay.classes - 1] = uid
        learner.replay.crcs[learner.replay.classes - 1] = crc
        store.commit(learner)


@pytest.fixture(scope="module", params=[0, 1], ids=["first class", "second class"])
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """One more enrolment on a flash that has seen so many: each slot is the older one once."""
    folder = tmp_path_factory.mktemp("flash")
    made = Enrolment(BLOB, kernels)
    store = Store(f"{folder}/")
    store.begin()
    store.commit(made.learner)  # as an activation does
    before = made.learner.digest()
    for k in range(request.param + 1):
        samples = [x.tobytes() for x in tiny_samples(10 + k, 12, noise=NOISE)]
        made.stage(samples)
        list(made.enrol(f"new{k}"))
        chosen = [samples.index(x) for x in made.raw[-1]]
        (folder / "stage.raw").write_bytes(b"".join(samples))
        one = Job(folder, made, copy.copy(store), f"new{k}", chosen, before, made.learner.digest())
        if k < request.param:
            one.write_again(store)
            before = one.after
    assert one.before != one.after
    return one


@pytest.fixture(scope="module")
def reader() -> Enrolment:
    return Enrolment(BLOB, kernels)


def load(folder: Path, reader: Enrolment) -> tuple[bool, int, Store]:
    """What a start after the cut does: (there was a state, digest, the store)."""
    store = Store(f"{folder}/")
    learner = reader.learner
    there = store.load(learner)
    replay = learner.replay
    if not there:
        learner.load_base()
    digest = learner.digest() if there and not store.stale else None
    for c in range(replay.classes):  # the latents on flash are what the raw samples give
        for i in range(replay.counts[c]):
            if replay.uids[c]:
                store.read_raw(replay.uids[c], i, learner.sample)
            else:
                learner.read_base(replay.crcs[c], i)
            learner.backbone.latents(learner.sample, learner.exit, replay.buffer, replay.at(c, i))
    assert digest in (None, learner.digest())
    return there, learner.digest(), store


def flash_of(job: Job, tmp_path: Path) -> Path:
    folder = tmp_path / "flash"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(job.folder, folder)
    return folder


def test_without_a_cut(job: Job, reader: Enrolment, tmp_path: Path) -> None:
    folder = flash_of(job, tmp_path)
    assert load(folder, reader)[:2] == (True, job.before)
    store = job.write(folder)
    there, digest, found = load(folder, reader)
    assert (there, digest) == (True, job.after)
    assert (found.sequence, found.next_uid) == (store.sequence, store.next_uid)
    assert reader.learner.replay.names[-1] == job.name
    assert not (folder / "stage.raw").exists()
    assert (reader.learner.rung, reader.learner.h) == (job.made.learner.rung, job.made.learner.h)


@pytest.mark.parametrize("error", [Cut, OSError])
@pytest.mark.parametrize("half", [False, True])
def test_every_cut_gives_before_or_after(
    job: Job, reader: Enrolment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: bool, error: type[BaseException]
) -> None:
    with monkeypatch.context() as patch:
        files = Files().put_under(patch)
        job.write(flash_of(job, tmp_path))
    total = len(files.done)
    writes = [i for i, what in enumerate(files.done, 1) if what.startswith("write")]
    assert sum(what.startswith("open") for what in files.done) == 2 and len(writes) > 15
    assert files.done[-1] == "remove stage.raw" and files.done[-2] == "write 4"  # the slot's CRC-32 comes last
    given = []
    for at in range(1, total + 1):
        folder = flash_of(job, tmp_path)
        with monkeypatch.context() as patch:
            files = Files(at, half, error).put_under(patch)
            try:
                job.write(folder)
            except (Cut, OSError) as e:
                assert type(e) is error
            assert len(files.done) == at
        there, digest, store = load(folder, reader)
        assert there and digest in (job.before, job.after), at
        given.append(digest == job.after)
        store.sweep()
        assert load(folder, reader)[:2] == (True, digest), at  # nothing that is needed was swept
        if digest == job.before:  # the board is as good as before: the same enrolment can be made now
            shutil.copy(job.folder / "stage.raw", folder)
            job.write_again(store)
            assert load(folder, reader)[:2] == (True, job.after), at
    assert given == [False] * (total - 1) + [True]


@pytest.mark.parametrize("half", [False, True])
def test_a_cut_after_a_full_flash(
    job: Job, reader: Enrolment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: bool
) -> None:
    """A commit failed with an OSError, the board restored its state, and the power goes while the same is written again."""
    with monkeypatch.context() as patch:
        files = Files().put_under(patch)
        job.write(flash_of(job, tmp_path))
    into_slot = next(i for i, what in enumerate(files.done, 1) if what.startswith("open state"))
    folder = flash_of(job, tmp_path)
    store = copy.copy(job.store)
    store.root = f"{folder}/"
    with monkeypatch.context() as patch:
        Files(into_slot + 1, half, OSError).put_under(patch)
        with pytest.raises(OSError):
            job.write_again(store)
    store = load(folder, reader)[2]
    with monkeypatch.context() as patch:
        Files(into_slot + 2, half, Cut).put_under(patch)
        with pytest.raises(Cut):
            job.write_again(store)
    assert load(folder, reader)[:2] == (True, job.before)


def test_a_corrupt_slot_falls_back_and_two_give_the_base(job: Job, reader: Enrolment, tmp_path: Path) -> None:
    folder = flash_of(job, tmp_path)
    store = job.write(folder)
    base = Enrolment(BLOB, kernels).learner.digest()
    newest, older = (folder / f"state{(store.sequence - k) & 1}" for k in (0, 1))
    whole = newest.read_bytes()
    for at in range(0, len(whole), 11):
        newest.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with open(newest, "rb") as f, pytest.raises(FormatError):
            State(f)
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:20], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        newest.write_bytes(damaged)
        there, digest, found = load(folder, reader)
        assert (there, digest) == (True, job.before)
        assert found.sequence == store.sequence - 1  # so that the next commit goes to the damaged slot
    newest.unlink()
    assert load(folder, reader)[:2] == (True, job.before)
    newest.write_bytes(whole[:-1])
    older.write_bytes(older.read_bytes()[:-1])
    assert load(folder, reader)[:2] == (False, base)


def test_a_slot_whose_samples_are_damaged_falls_back(job: Job, reader: Enrolment, tmp_path: Path) -> None:
    folder = flash_of(job, tmp_path)
    store = job.write(folder)
    raw = folder / f"class{store.next_uid - 1}.raw"
    whole = raw.read_bytes()
    for damaged in (whole[:-1], b"", bytes([whole[0] ^ 1]) + whole[1:]):
        raw.write_bytes(damaged)
        there, digest, found = load(folder, reader)
        assert (there, digest) == (True, job.before)
        assert found.sequence == store.sequence - 1  # the slot that is of no use is the next one to be written
    raw.unlink()
    assert load(folder, reader)[:2] == (True, job.before)
