"""What the tests of the line need beside the faulty cable of tinycl.bench.faults: a port that watches what is under way."""

import serial

from tinycl.shared import wire


class CountingPort(serial.Serial):
    """A port that knows how many bytes of requests are on their way or unanswered, as the host can know it."""

    def watch(self) -> None:
        self.asked: dict[int, int] = {}
        self.most = 0
        self.sent = wire.Decoder(1 << 15)
        self.got = wire.Decoder(1 << 15)

    def write(self, data: bytes) -> int:
        for kind, seq, payload in self.sent.feed(bytes(data)):
            self.asked[seq] = len(wire.encode(kind, seq, payload))
        self.most = max(self.most, sum(self.asked.values()) + self.sent.n)
        return super().write(data)

    def read(self, size: int = 1) -> bytes:
        data = super().read(size)
        for kind, seq, _ in self.got.feed(data):
            if kind in (wire.OK, wire.ERROR):
                self.asked.pop(seq, None)
        return data
