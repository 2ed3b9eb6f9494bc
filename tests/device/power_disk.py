# A board inside one MicroPython, for tests: a flash chip in RAM that dies at a chosen write, littlefs on it, and the agent on
# that, driven through its own handlers by a host at the end of a line in memory. Needs a MicroPython with VfsLfs2.
# Allocates the image of the chip.
import json
import os
import struct
from hashlib import sha256

import micropython
from agent import Agent

from shared import wire

try:
    from vfs import VfsLfs2, mount, umount
except ImportError:
    from os import VfsLfs2, mount, umount

BLOCK_BYTES = 4096
PAGE_BYTES = 256  # as on rp2
ERASED = b"\xff" * BLOCK_BYTES
WHERE = "/flash"
CLEAN, HALF, GARBAGE = range(3)  # what the dying write leaves: nothing; half of a page or of an erasure; anything


@micropython.viper
def copy(target: ptr8, source: ptr8, at: int, n: int):
    for i in range(n):
        target[i] = source[at + i]


class PowerCut(BaseException):
    """The power is gone: nothing of the runtime's may catch this."""


class Disk:
    """A chip's life between power on and power off. data: bytearray; dies_at: number of the write (program or erase, from 1)
    that is the last, 0: none."""

    def __init__(self, data, dies_at=0, way=CLEAN):
        self.data = data
        self.dies_at = dies_at
        self.way = way
        self.dead = False
        self.writes = 0
        self.erased = [0] * (len(data) // BLOCK_BYTES)
        self.programmed = 0  # bytes

    def readblocks(self, n, buf, off=0):
        # allocates nothing: a collection closes files that were left open
        copy(buf, self.data, n * BLOCK_BYTES + off, len(buf))

    def writeblocks(self, n, buf, off=0):
        if self.dead:
            return  # what is left of the runtime goes on, and reaches nothing
        at = n * BLOCK_BYTES + off
        self._write(at, buf)
        self.programmed += len(buf)

    def ioctl(self, op, arg):
        if op == 4:
            return len(self.data) // BLOCK_BYTES
        if op == 5:
            return BLOCK_BYTES
        if op == 6 and not self.dead:
            self._write(arg * BLOCK_BYTES, ERASED)
            self.erased[arg] += 1
        return 0

    def _write(self, at, new):
        self.writes += 1
        if self.writes == self.dies_at:
            self.dead = True
            if self.way != CLEAN:
                n = len(new) // 2
                self.data[at : at + n] = memoryview(new)[:n]
                if self.way == GARBAGE:
                    for i in range(at + n, at + len(new), 7):
                        self.data[i] = (i * 73 + 41) & 255
            raise PowerCut
        self.data[at : at + len(new)] = new


class Line:
    """The agent's end and the host's of a line on which nothing is lost."""

    def __init__(self):
        self.window = 2048
        self.decoder = wire.Decoder(64)  # for its counters
        self.host = wire.Decoder(wire.HEAD_BYTES + wire.MAX_BODY)
        self.dropped = 0
        self.requests = []
        self.answers = []
        self.events = 0

    def receive(self, timeout_ms):
        return self.requests.pop(0) if self.requests else None

    def send(self, kind, seq, payload=b"", timeout_ms=1000):
        return self.write(wire.encode(kind, seq, payload), timeout_ms)

    def write(self, line, timeout_ms):
        for frame in self.host.feed(line):
            self.answers.append(frame)
        return True

    def event(self, text):
        self.events += 1


class Refusal(Exception):
    """The board's ERROR: code, text."""


class Host:
    """A host and the agent that it talks to, whose flash is the folder `root`."""

    def __init__(self, root, kernels=""):
        self.line = Line()
        self.seq = 0
        self.agent = Agent(self.line, root, kernels)
        self.agent.start()
        self.hello = json.loads(self.ask(wire.HELLO, bytes((wire.VERSION,)) + b"test"))

    def ask(self, kind, payload=b""):
        """The payload of the answer; Refusal where it is an ERROR."""
        self.seq = (self.seq + 1) & 255
        self.line.requests.append((kind, self.seq, payload))
        while True:
            self.agent.turn()
            while self.line.answers:
                answer, seq, said = self.line.answers.pop(0)
                if seq == self.seq and answer == wire.OK:
                    return said
                if seq == self.seq and answer == wire.ERROR:
                    raise Refusal(said[0], said[1:].decode())

    # what a host does

    @staticmethod
    def fingerprint(data):
        return int.from_bytes(sha256(data).digest()[:4], "little")

    def upload(self, data):
        for afresh in (0, 1):
            block, at, found = struct.unpack(
                "<III", self.ask(wire.OBJECT_OPEN, struct.pack("<IIB", len(data), self.fingerprint(data), afresh))
            )
            if at == 0 or self.fingerprint(data[:at]) == found:
                break
        resumed = at
        while at < len(data):
            end = min(at + block, len(data))
            while at < end:
                part = data[at : min(at + 1000, end)]
                self.ask(wire.OBJECT_DATA, part)
                at += len(part)
        self.ask(wire.OBJECT_CLOSE)
        return resumed

    def enrol(self, name, samples, size):
        self.ask(wire.ENROL_OPEN, struct.pack("<H", len(samples) // size) + name.encode())
        for at in range(0, len(samples), 3 * size):
            self.ask(wire.ENROL_DATA, samples[at : at + 3 * size])
        return json.loads(self.ask(wire.TRAIN))

    def rename(self, old, new):
        text = old.encode()
        self.ask(wire.RENAME, bytes((len(text),)) + text + new.encode())

    def read(self, uid):
        """A file of the learned state: the state itself (0) or the samples of a class."""
        data = b""
        while True:
            piece = self.ask(wire.STATE_READ, struct.pack("<HIH", uid, len(data), 500))
            data += piece[4:]
            if len(data) == struct.unpack_from("<I", piece)[0]:
                return data

    def digest(self):
        return json.loads(self.ask(wire.STATUS)).get("digest")

    def state(self, probe):
        """All that a host can tell of a state: commit, blob, digest, classes with samples, predictions for the raw samples."""
        status = json.loads(self.ask(wire.STATUS))
        if "blob" not in status:
            return (status.get("sequence", 0), 0)
        self.ask(wire.PREDICT_OPEN)
        said = self.ask(wire.PREDICT_DATA, probe)
        classes = json.loads(self.ask(wire.CLASSES))
        return (status["sequence"], status["blob"], status["digest"], classes, said)


class Board(Host):
    """Power on: mounts what is on the chip, starts the agent. dies_at counts from then on, mounting and starting included."""

    latest = None  # the disk that is mounted

    def __init__(self, data, dies_at=0, way=CLEAN, kernels=""):
        try:
            umount(WHERE)
        except OSError:
            pass
        if Board.latest:
            Board.latest.dead = True
        Board.latest = self.disk = Disk(data, dies_at, way)
        mount(VfsLfs2(self.disk, readsize=PAGE_BYTES, progsize=PAGE_BYTES), WHERE)
        super().__init__(WHERE + "/", kernels)

    def dies(self, at, way=CLEAN):
        """The at-th write from now on is the last."""
        self.disk.dies_at = self.disk.writes + at
        self.disk.way = way


def formatted(blocks):
    """The image of a chip with an empty file system."""
    data = bytearray(b"\xff" * (blocks * BLOCK_BYTES))
    VfsLfs2.mkfs(Disk(data), readsize=PAGE_BYTES, progsize=PAGE_BYTES)
    return data


def files():
    """{name: bytes} on the mounted chip."""
    return {name: os.stat(WHERE + "/" + name)[6] for name in os.listdir(WHERE)}
