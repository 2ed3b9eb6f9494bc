# The wire format of tinycl: frames between a host and a board. WIRE.md is its specification; this file is its only code.
# Runs unchanged under CPython and MicroPython; needs `binascii` only. A Decoder allocates its line buffer once; a frame
# that is encoded or decoded costs a few short-lived copies made by C code (replace, crc32), and no work per byte in Python.
#
#   line   = SYNC, 0x80|hi, 0x80|lo, 0x80|check, body         hi:lo = bytes of body, 7 bits each
#   body   = escape(type, seq, payload, crc32)                crc32 over type, seq and payload, little-endian
#   escape : 0x7D -> 7D 5D, 0x7E -> 7D 5E, 0x03 -> 7D 23      so 0x03 never appears, and SYNC only where a frame begins
from binascii import crc32

VERSION = 2
RELEASE = "0.2.0"  # of host and board, which are made together
SYNC = 0x7E
HEAD_BYTES = 4
MIN_BODY = 6  # type, seq, crc32
MAX_BODY = 0x3FFF
IN_FLIGHT = 8  # most requests that a host may have unanswered; the board remembers as many answers

# requests, host to board
HELLO = 0x10
STATUS = 0x11
KERNELS = 0x12
CLASSES = 0x13
BYE = 0x14  # outside the sequence: the host is done, Ctrl-C works again
WATCH = 0x15
OBJECT_OPEN = 0x20
OBJECT_DATA = 0x21
OBJECT_CLOSE = 0x22
ACTIVATE = 0x23
STATE_READ = 0x24
ADOPT = 0x25
ENROL_OPEN = 0x30
ENROL_DATA = 0x31
TRAIN = 0x32
ABORT = 0x33  # answered at any time, in the middle of TRAIN too; outside the sequence
FORGET = 0x34
RENAME = 0x35
PREDICT_OPEN = 0x40
PREDICT_DATA = 0x41
# answers and news, board to host
OK = 0x80
ERROR = 0x81  # payload: error code (errors.py), then UTF-8 text
NAK = 0x82  # payload: the sequence number that the board waits for
EVENT = 0x90  # payload: JSON object; may be dropped; seq counts events


def encode(kind, seq, payload=b""):
    """One frame as the bytes of its line. Raises ValueError if the payload is too long for any frame."""
    body = bytes((kind, seq)) + payload
    body += (crc32(body) & 0xFFFFFFFF).to_bytes(4, "little")
    body = body.replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e").replace(b"\x03", b"\x7d\x23")
    n = len(body)
    if n > MAX_BODY:
        raise ValueError("a frame body of %d bytes is over the limit of %d: send less at once" % (n, MAX_BODY))
    hi = n >> 7
    lo = n & 127
    return bytes((SYNC, 0x80 | hi, 0x80 | lo, 0x80 | (hi ^ lo ^ 0x55))) + body


class Decoder:
    """Finds frames in a stream of bytes that may have lost, gained or changed some.

    Made for blocking and for buffered ports: `need()` is how many bytes can be read without waiting for more than the
    frame at hand; read them into `view[n:n + need()]` and call `took(k)`. Or hand any bytes to `feed`. What a broken
    frame had swallowed is looked through again, so after a frame from `took(k)` ask `took(0)` for more until it says None.
    `crc_errors` counts bodies that failed their CRC, `overruns` those among them inside which another frame began, so that
    bytes were lost on the way; `skipped` counts bytes dropped while looking for a frame.
    """

    def __init__(self, max_line_bytes):
        self.buffer = bytearray(max_line_bytes)
        self.view = memoryview(self.buffer)
        self.n = 0
        self.crc_errors = 0
        self.overruns = 0
        self.skipped = 0

    def need(self):
        n = self.n
        if n == 0:
            return 1
        if n < HEAD_BYTES:
            return HEAD_BYTES - n
        return HEAD_BYTES + self._body_bytes() - n

    def took(self, k):
        """Call after k <= need() bytes were written behind `n`. Returns (kind, seq, payload), or None."""
        self.n += k
        if 1 < self.n <= HEAD_BYTES and self.buffer[self.n - 1] == SYNC:  # no byte of a head is SYNC: a frame begins there
            self.skipped += self.n - 1
            self.buffer[0] = SYNC
            self.n = 1
            return None
        while self.n:
            if self.buffer[0] != SYNC:
                self._resync(0)
            elif self.n < HEAD_BYTES:
                if self._bad_head_so_far():
                    self._resync(1)
                else:
                    return None
            else:
                length = self._body_bytes()
                if length < MIN_BODY or length + HEAD_BYTES > len(self.buffer):
                    self._resync(1)
                elif self.n < HEAD_BYTES + length:
                    return None
                else:
                    end = HEAD_BYTES + length
                    frame = self._open(bytes(self.view[HEAD_BYTES:end]))
                    if frame:
                        self._keep(bytes(self.view[end : self.n]))
                        return frame
                    self.crc_errors += 1
                    self._resync(1)
        return None

    def feed(self, data):
        """All frames that end within `data`, in order."""
        frames = []
        data = memoryview(data)
        at = 0
        while at < len(data):
            k = min(self.need(), len(data) - at)
            self.view[self.n : self.n + k] = data[at : at + k]
            at += k
            frame = self.took(k)
            while frame:
                frames.append(frame)
                frame = self.took(0)
        return frames

    def _bad_head_so_far(self):
        for i in range(1, self.n):
            if not self.buffer[i] & 0x80:
                return True
        return False

    def _body_bytes(self):
        b = self.buffer
        hi = b[1] & 127
        lo = b[2] & 127
        if b[1] & b[2] & b[3] & 0x80 and b[3] & 127 == hi ^ lo ^ 0x55:
            return hi << 7 | lo
        return 0

    def _resync(self, start):
        # A SYNC can only begin a frame, so what follows the next one may be good. Of a run of them only the last can be:
        # a run is passed at once, as the filler that frees a waiting board is thousands of them.
        kept = bytes(self.view[start : self.n])
        at = kept.find(b"\x7e")
        if at < 0:
            at = len(kept)
        else:
            at += max(0, len(kept) - at - len(kept[at:].lstrip(b"\x7e")) - 1)
        self.skipped += start + at
        self._keep(kept[at:])

    def _keep(self, rest):
        self.n = len(rest)
        self.view[: self.n] = rest

    def _open(self, body):
        if body.find(b"\x7e") >= 0:
            self.overruns += 1
            return None
        body = body.replace(b"\x7d\x23", b"\x03").replace(b"\x7d\x5e", b"\x7e").replace(b"\x7d\x5d", b"\x7d")
        n = len(body) - 4
        if n < 2 or crc32(body[:n]) & 0xFFFFFFFF != int.from_bytes(body[n:], "little"):
            return None
        return body[0], body[1], body[2:n]
