"""What a host asks of a board, as methods: blob, enrolment, prediction, status. Depends on Link and the shared files."""

import contextlib
import struct
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import numpy as np

from tinycl.errors import SampleError, UnknownClass
from tinycl.learned import Learned
from tinycl.link import link as link_module
from tinycl.link.errors import BoardRefused, BoardReset, BoardSilent, LinkError
from tinycl.link.link import Event, Link
from tinycl.link.pieces import pieces
from tinycl.shared import wire
from tinycl.shared.errors import TinyclError

TRAIN_SILENCE_S = 10.0  # a training board says `alive` every half second; a collection may take its time
MIN_BLOCK_BYTES = 64
PULL_BYTES = 2048  # of a learned state in one answer
MAX_STATE_BYTES = 4 << 20
LEAST_PIECE_BYTES = 64  # of a learned state in one answer, but for the last
MAX_CLASSES = 256  # a class number is one byte
LOADING_SILENCE_S = 10.0  # a board that reads a large file back says `alive` too


class Client:
    """One board behind a Link that has said hello. Samples are int8 arrays [n, h, w, c], already in the blob's range."""

    def __init__(self, link: Link):
        self.link = link
        self._format: tuple[Any, dict[str, Any]] | None = None  # (the HELLO it belongs to, STATUS)

    def status(self) -> dict[str, Any]:
        """Memory, counters, rung, digest (see WIRE.md)."""
        return self.link.request_object(wire.STATUS)

    def classes(self) -> dict[str, int]:
        """Names of the classes the board knows, in the order of its numbers, each with its replay samples."""
        found: dict[str, int] = {}
        while True:
            page = self.link.request_json(wire.CLASSES, bytes([len(found)]))
            before = len(found)
            with _as_expected("a page of classes"):
                found.update((str(name), int(count)) for name, count in page)
            if len(page) < 16:
                return found
            if len(found) != before + 16 or len(found) >= MAX_CLASSES:
                raise LinkError(f"the board tells {len(found)} classes and no end of them: update its agent")

    def class_number(self, name: str) -> int:
        """The number that predictions give to a class of this name; UnknownClass where the board has none."""
        names = list(self.classes())
        if name not in names:
            raise UnknownClass(
                f"the board knows no class '{name}' ({len(names)} classes: {', '.join(names)}): choose one of them"
            )
        return names.index(name)

    def choose_kernels(self, name: str) -> None:
        """Switches the board to other kernels; BoardRefused where it has none of that name."""
        self.link.request(wire.KERNELS, name.encode())

    def send_blob(self, blob: bytes, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Uploads a blob, has the board verify and activate it; returns its summary."""
        self.upload(blob, progress)
        return self.activate()

    def upload(self, blob: bytes, progress: Callable[[int, int], None] | None = None) -> None:
        """Sends a blob to the board's flash and has it read back; the active one stays."""
        try:
            self._upload(blob, progress)
        except (BoardSilent, BoardReset):  # once more from the last good block
            self.link.hello()
            self._upload(blob, progress)

    def activate(self, on_event: Callable[[Event], None] | None = None) -> dict[str, Any]:
        """Makes the uploaded blob the active one; returns the board's summary."""
        self._format = None
        return self._job(wire.ACTIVATE, on_event=on_event)

    def _upload(self, blob: bytes, progress: Callable[[int, int], None] | None) -> None:
        block, at = self._open_upload(blob)
        while at < len(blob):
            end = min(at + block, len(blob))
            # Two frames fill the window: one is under way while the other is answered. The answer to a block's last piece is
            # the credit for the next block: flash was written in between.
            parts = pieces(blob[at:end], self.link.window // 2)
            for _ in self.link.stream((wire.OBJECT_DATA, part) for part in parts):
                pass
            at = end
            if progress:
                progress(at, len(blob))
        self.link.request(wire.OBJECT_CLOSE, silence_s=LOADING_SILENCE_S)

    def _open_upload(self, blob: bytes) -> tuple[int, int]:
        """(bytes of a block, offset to go on from): what the board has of it is taken only if it is the same."""
        for afresh in (0, 1):
            answer = self.link.request(
                wire.OBJECT_OPEN, struct.pack("<IIB", len(blob), fingerprint(blob), afresh), silence_s=LOADING_SILENCE_S
            )
            block, at, mark = _unpack("<III", answer)
            if not MIN_BLOCK_BYTES <= block <= wire.MAX_BODY * 64:
                raise LinkError(f"the board announces blocks of {block} bytes: update its agent")
            if at == 0 or (at <= len(blob) and mark == fingerprint(blob[:at])):
                return block, at
        raise LinkError(f"the board goes on at byte {at} with other bytes before it: format its flash, or reset it")

    def enrol(
        self,
        name: str,
        x: np.ndarray,
        on_event: Callable[[Event], None] | None = None,
    ) -> dict[str, Any]:
        """Teaches the board a class from x and returns its summary. On any failure the enrolment is called off."""
        self.check_samples(x)
        opened = False
        try:
            self.open_enrolment(name, len(x))
            opened = True
            self._send_samples(x)
            return self.train(on_event)
        except BaseException as e:  # Ctrl-C too: the board goes back to its last good state
            if opened or not isinstance(e, BoardRefused):  # refused: what may be open is somebody else's
                with contextlib.suppress(TinyclError):  # the first error tells the most
                    self.link.recover()
            raise

    def open_enrolment(self, name: str, samples: int) -> None:
        """Announces a class and the number of its samples."""
        self.link.request(wire.ENROL_OPEN, struct.pack("<H", min(samples, 65535)) + name.encode())

    def send_samples(self, x: np.ndarray) -> int:
        """Sends samples of the open enrolment; returns how many the board has."""
        self.check_samples(x)
        return self._send_samples(x)

    def _send_samples(self, x: np.ndarray) -> int:
        have = 0
        for part in pieces(x.tobytes(), self.link.window):  # one at a time: the board writes each before it answers
            have = _unpack("<H", self.link.request(wire.ENROL_DATA, part))[0]
        return have

    def train(self, on_event: Callable[[Event], None] | None = None) -> dict[str, Any]:
        """Has the board train on what was sent; returns its summary."""
        return self._job(wire.TRAIN, on_event=on_event)

    def _job(self, kind: int, payload: bytes = b"", on_event: Callable[[Event], None] | None = None) -> dict[str, Any]:
        """A request that the board works on for as long as JOB_S, telling events meanwhile; its summary."""
        return self.link.request_object(kind, payload, on_event=on_event, silence_s=TRAIN_SILENCE_S, most_s=link_module.JOB_S)

    # what is known

    def forget(self, name: str) -> dict[str, Any]:
        """Takes a class out of the board's model and memory; the others keep their logits."""
        if not name:
            raise UnknownClass("a class without a name cannot be forgotten: name one, or call start_over")
        return self._job(wire.FORGET, name.encode())

    def start_over(self) -> dict[str, Any]:
        """Takes the board back to the base classes of its blob."""
        return self._job(wire.FORGET)

    def rename(self, old: str, new: str) -> dict[str, Any]:
        """Gives a class another name."""
        first = old.encode()
        return self._job(wire.RENAME, bytes([min(len(first), 255)]) + first + new.encode())

    def pull(self, progress: Callable[[int, int], None] | None = None) -> bytes:
        """Everything that the board has learned, as one portable file (shared/STATE.md), verified."""
        state = self._read_state(0)
        parsed = Learned.head(state)
        enrolled = [uid for _, _, uid, _ in parsed.classes if uid]
        for done, uid in enumerate(enrolled):
            if progress:
                progress(done, len(enrolled))
            state += self._read_state(uid)
            if len(state) > MAX_STATE_BYTES:
                raise LinkError(
                    f"{len(state)} bytes of state are over the limit of {MAX_STATE_BYTES}: update the board's agent"
                )
        return Learned(state).data

    def _read_state(self, uid: int) -> bytes:
        data = b""
        while True:
            # an answer is escaped too, but the host takes any length
            answer = self.link.request(wire.STATE_READ, struct.pack("<HIH", uid, len(data), PULL_BYTES))
            [size] = _unpack("<I", answer[:4])
            if size > MAX_STATE_BYTES or len(answer) - 4 < min(LEAST_PIECE_BYTES, size - len(data)):
                raise LinkError(f"the board sends {len(answer) - 4} of {size} bytes of state: reset it, then pull again")
            data += answer[4:]
            if len(data) >= size:
                return data

    def push(self, learned: bytes, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Has the board take over a portable file in place of what it has learned; its predictions are then those of the
        board that the file came from, to the bit. On any failure the board keeps what it has."""
        Learned(learned)
        self.upload(learned, progress)
        return self._job(wire.ADOPT)

    def watch(self, period_s: float) -> bool:
        """From now on the board tells its metrics that often (0: no more), and what its sensor shows; True if it has one."""
        answer = self.link.request_object(wire.WATCH, struct.pack("<H", min(round(1000 * period_s), 65535)))
        return bool(answer.get("sensor"))

    def abort(self) -> None:
        """Calls off an enrolment or a training; the last good state is back."""
        self.link.recover()

    def predict(self, x: np.ndarray, progress: Callable[[int, int], None] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(class number [n] uint8, certainty [n] float 0..1): the board's own predictions."""
        self.check_samples(x)
        self.link.request(wire.PREDICT_OPEN)
        out = bytearray()
        parts = pieces(x.tobytes(), self.link.window // 2)
        for answer in self.link.stream((wire.PREDICT_DATA, part) for part in parts):
            out += answer
            if progress:
                progress(len(out) // 2, len(x))
        if len(out) != 2 * len(x):
            raise LinkError(f"{len(out) / 2:g} predictions for {len(x)} samples: update the board's agent")
        pairs = np.frombuffer(bytes(out), np.uint8).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1] / 255

    def check_samples(self, x: np.ndarray) -> None:
        """SampleError unless x is what the active blob takes; without a blob the board itself says so."""
        if self._format is None or self._format[0] is not self.link.board:  # once a blob, and once a HELLO
            self._format = self.link.board, self.status()
        blob = self._format[1]
        if "sample" not in blob:
            return
        with _as_expected("its blob's format"):
            shape = tuple(int(n) for n in blob["sample"])
            low, high = int(blob["q_low"]), int(blob["q_high"])
        if x.dtype != np.int8:
            raise SampleError(f"samples of type {x.dtype}, the blob takes int8, {low} to {high}: use tinycl.data.to_int8")
        if x.shape[1:] != shape or x.ndim != 4 or not len(x):
            want = ", ".join(map(str, shape))
            raise SampleError(f"samples of shape {x.shape}, the blob takes [1 or more, {want}]: reshape or choose them anew")
        if x.min() < low or x.max() > high:
            raise SampleError(f"values from {x.min()} to {x.max()}, the blob takes {low} to {high}: rescale the samples")


@contextlib.contextmanager
def _as_expected(what: str) -> Iterator[None]:
    """JSON of any other shape than WIRE.md says is a LinkError."""
    try:
        yield
    except (TypeError, ValueError, KeyError, OverflowError) as e:
        raise LinkError(
            f"the board tells {what} in a way that this host does not know ({e}): update the older of the two"
        ) from e


def _unpack(layout: str, answer: bytes) -> tuple[Any, ...]:
    if len(answer) != struct.calcsize(layout):
        raise LinkError(f"an answer of {len(answer)} bytes, expected are {struct.calcsize(layout)}: update the board's agent")
    return struct.unpack(layout, answer)


def fingerprint(data: bytes) -> int:
    """What an upload is known by, beside its size (WIRE.md)."""
    return int.from_bytes(sha256(data).digest()[:4], "little")
