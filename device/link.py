# The board's end of the serial line: frames in, frames out, a deadline on every wait. Allocates the line buffer once;
# a frame costs the short-lived copies that shared/wire.py names.
#
# How a read stays bounded: poll says that there is at least a byte, and then exactly the bytes are read that the frame at
# hand still lacks. All ports wait inside readinto for the rest of the frame; a host that lost bytes repeats its request after
# half a second, and those bytes end the read (its CRC then fails and the parser finds the next SYNC).
import select
import time

from shared import wire

READ_MS = 20  # `receive` takes what keeps arriving for this long beyond its timeout, so that noise is soon passed


class Link:
    """stdin, stdout: the raw streams (sys.stdin.buffer, sys.stdout.buffer); window: most bytes that may be under way to us."""

    def __init__(self, stdin, stdout, poll_in, poll_out, window):
        self.stdin = stdin
        self.stdout = stdout
        self.window = window
        self.decoder = wire.Decoder(window)
        self.reader = select.poll()
        self.reader.register(poll_in, select.POLLIN)
        self.writer = select.poll()
        self.writer.register(poll_out, select.POLLOUT)
        self.events = 0
        self.dropped = 0  # events that found no room

    def receive(self, timeout_ms):
        """The next good frame as (kind, seq, payload), None after timeout_ms, or wire.NAK where a frame was broken."""
        decoder = self.decoder
        frame = decoder.took(0)
        if frame:
            return frame
        broken = decoder.crc_errors
        end = time.ticks_add(time.ticks_ms(), timeout_ms)
        while True:
            left = time.ticks_diff(end, time.ticks_ms())
            if left < -READ_MS or not self.reader.poll(max(0, left)):
                return None
            n = decoder.n
            try:
                got = self.stdin.readinto(decoder.view[n : n + decoder.need()])
            except OSError:
                got = 0  # a pseudo-terminal whose other end is closed
            if got:
                frame = decoder.took(got)
                if frame:
                    return frame
                if decoder.crc_errors != broken:
                    return wire.NAK
            elif got == 0:
                raise EOFError

    def send(self, kind, seq, payload=b"", timeout_ms=1000):
        """Writes one frame; False where the host did not take it in time (it will ask again)."""
        return self.write(wire.encode(kind, seq, payload), timeout_ms)

    def write(self, line, timeout_ms):
        """Writes one encoded frame whole, with the count of every write checked; False after timeout_ms."""
        view = memoryview(line)
        at = 0
        end = time.ticks_add(time.ticks_ms(), timeout_ms)
        while at < len(line):
            left = time.ticks_diff(end, time.ticks_ms())
            n = 0
            if self.writer.poll(max(0, left)):
                try:
                    n = self.stdout.write(view[at : at + 256]) or 0
                except OSError:
                    raise EOFError
            if not n and left <= 0:
                return False
            at += n
        return True

    def event(self, text):
        """News for whoever listens: dropped, and counted, where there is no room for it at once."""
        self.events = (self.events + 1) & 255
        if not self.writer.poll(0) or not self.send(wire.EVENT, self.events, text.encode(), 200):
            self.dropped += 1
