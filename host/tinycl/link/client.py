"""What a host asks of a board, as methods: blob, enrolment, prediction, status. Depends on Link and the shared files."""

import contextlib
import struct
from binascii import crc32
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinycl.errors import SampleError, UnknownClass
from tinycl.link.errors import BoardRefused, BoardSilent, LinkError
from tinycl.link.link import Event, Link
from tinycl.shared import wire
from tinycl.shared.errors import TinyclError

TRAIN_SILENCE_S = 10.0  # a training board says `alive` every half second; a collection may take its time


class Client:
    """One board behind a Link that has said hello. Samples are int8 arrays [n, h, w, c], already in the blob's range."""

    def __init__(self, link: Link):
        self.link = link
        self._format: tuple[Any, dict[str, Any]] | None = None  # (the HELLO it belongs to, STATUS)

    def status(self) -> dict[str, Any]:
        """Memory, counters, rung, digest (see WIRE.md)."""
        return self.link.request_json(wire.STATUS)

    def classes(self) -> dict[str, int]:
        """Names of the classes the board knows, in the order of its numbers, each with its replay samples."""
        found: dict[str, int] = {}
        while True:
            page = self.link.request_json(wire.CLASSES, bytes([len(found)]))
            found.update(page)
            if len(page) < 16:
                return found

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
        except BoardSilent:  # once more from the last good block
            self.link.hello()
            self._upload(blob, progress)

    def activate(self, on_event: Callable[[Event], None] | None = None) -> dict[str, Any]:
        """Makes the uploaded blob the active one; returns the board's summary."""
        self._format = None
        return self.link.request_json(wire.ACTIVATE, on_event=on_event, silence_s=TRAIN_SILENCE_S)

    def _upload(self, blob: bytes, progress: Callable[[int, int], None] | None) -> None:
        start = self.link.request(wire.OBJECT_OPEN, struct.pack("<II", len(blob), crc32(blob)))
        block, at = struct.unpack("<II", start)
        while at < len(blob):
            end = min(at + block, len(blob))
            pieces = [
                (wire.OBJECT_DATA, struct.pack("<I", i) + blob[i : min(i + self._chunk(4), end)])
                for i in range(at, end, self._chunk(4))
            ]
            # The answer to the last piece is the credit for the next block: flash was written in between.
            for _ in self.link.stream(pieces):
                pass
            at = end
            if progress:
                progress(at, len(blob))
        self.link.request(wire.OBJECT_CLOSE)

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
        for part in self._parts(x):  # one at a time: the board writes each to flash before it answers
            have = struct.unpack("<H", self.link.request(wire.ENROL_DATA, part))[0]
        return have

    def train(self, on_event: Callable[[Event], None] | None = None) -> dict[str, Any]:
        """Has the board train on what was sent; returns its summary."""
        return self.link.request_json(wire.TRAIN, on_event=on_event, silence_s=TRAIN_SILENCE_S)

    def abort(self) -> None:
        """Calls off an enrolment or a training; the last good state is back."""
        self.link.recover()

    def predict(self, x: np.ndarray, progress: Callable[[int, int], None] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(class number [n] uint8, certainty [n] float 0..1): the board's own predictions."""
        self.check_samples(x)
        self.link.request(wire.PREDICT_OPEN)
        out = bytearray()
        for answer in self.link.stream((wire.PREDICT_DATA, part) for part in self._parts(x)):
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
        shape, low, high = tuple(blob["sample"]), blob["q_low"], blob["q_high"]
        if x.dtype != np.int8:
            raise SampleError(f"samples of type {x.dtype}, the blob takes int8, {low} to {high}: use tinycl.data.to_int8")
        if x.shape[1:] != shape or x.ndim != 4 or not len(x):
            want = ", ".join(map(str, shape))
            raise SampleError(f"samples of shape {x.shape}, the blob takes [1 or more, {want}]: reshape or choose them anew")
        if x.min() < low or x.max() > high:
            raise SampleError(f"values from {x.min()} to {x.max()}, the blob takes {low} to {high}: rescale the samples")

    def _parts(self, x: np.ndarray) -> Iterator[bytes]:
        data = x.tobytes()
        for at in range(0, len(data), self._chunk(0)):
            yield data[at : at + self._chunk(0)]

    def _chunk(self, used: int) -> int:
        return wire.max_payload(self.link.window) - used
