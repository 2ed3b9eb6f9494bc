# The learned state of a board: what one slot on its flash holds, and, with raw samples behind it, the portable file that
# another board takes over. STATE.md is its specification; this file is its only code. Runs unchanged under CPython and
# MicroPython; needs `struct` and `binascii`. Allocates one chunk of 256 bytes while it checks, and the list of classes.
import struct
from array import array
from binascii import crc32

from . import blob as b
from . import errors, fixed
from .errors import FormatError

MAGIC = b"TCLS"
VERSION = 3
# magic, version, rung, sequence, blob id, classes, inputs, units, next uid; since version 2 enrolments, bytes between the head
# and the CRC-32, and latents; since version 3 inputs of the first exit's own head, and the certainty above which it speaks
HEAD_FORMATS = {1: "<4sHHIIHHHH", 2: "<4sHHIIHHHHII", 3: "<4sHHIIHHHHIIHBx"}
HEAD_FORMAT = HEAD_FORMATS[VERSION]
HEAD_BYTES = 36
LEAST_HEAD_BYTES = 24  # of version 1
NEVER_SURE = 255  # no certainty is above it
CLASS_FORMAT = "<HHI"  # uid (0: a base class), samples, CRC-32 of the raw samples (base class: its number in the blob)
CLASS_BYTES = 8
CHUNK = 256


class NewerState(FormatError):
    """A state of a later version than this side reads. sequence, blob_id: as in every version; whole: it is a slot whose last
    four bytes are the CRC-32 of all before, so that it is no damaged one."""

    code = errors.VERSION


def _bad(text, *numbers):
    raise FormatError((text % numbers) + ": nothing of it was used; pull the state again or take another slot or file")


def class_entry(name, count, uid, crc):
    """One class as it stands behind the head."""
    text = name.encode()
    return struct.pack(CLASS_FORMAT, uid, count, crc) + bytes((len(text),)) + text


def weight_count(classes, inputs, units, early_inputs=0):
    """int32 values of a head: a row [1; inputs; units] for each class, a row [1; inputs] for each hidden unit, and where the
    first exit has a head of its own, a row [1; early_inputs] for each class."""
    return classes * (1 + inputs + units) + units * (1 + inputs) + (classes * (1 + early_inputs) if early_inputs else 0)


class State:
    """A verified state at the start of a file opened for reading bytes. Raises FormatError where anything is not as STATE.md
    says. classes: [(name, samples, uid, crc)]; weights_at, latents_at: offsets (latents_at 0: version 1 has none); end: the
    offset behind the CRC-32, where a portable file has its raw samples."""

    def __init__(self, f):
        size = f.seek(0, 2)
        f.seek(0)
        head = f.read(HEAD_BYTES)
        if len(head) < LEAST_HEAD_BYTES + 4 or head[:4] != MAGIC:
            _bad("%d bytes that do not begin as a learned state", size)
        self.version = struct.unpack_from("<H", head, 4)[0]
        if self.version > VERSION:
            self._refuse(f, head, size)
        form = HEAD_FORMATS.get(self.version, HEAD_FORMAT)
        at = struct.calcsize(form)
        if self.version == 0 or len(head) < at:
            _bad("a learned state of version %d in %d bytes", self.version, size)
        values = struct.unpack_from(form, head)
        if self.version == 1:
            values += (0, self._old_body(f, head))
        if self.version < 3:
            values += (0, NEVER_SURE)
        _, _, self.rung, self.sequence, self.blob_id, n, self.inputs, self.units, self.next_uid = values[:9]
        self.enrolments, body, self.early_inputs, self.sure = values[9:]
        self.end = at + body + 4
        if self.end > size:
            _bad("a learned state of %d bytes in %d", self.end, size)
        crc, stored = self._crcs(f)
        if crc != stored:
            _bad("a learned state of %d bytes with CRC-32 0x%08x, stored is 0x%08x", self.end, crc, stored)
        if self.early_inputs > self.inputs or (not self.early_inputs and self.sure != NEVER_SURE):
            _bad(
                "a learned state with %d of %d inputs at the first exit, sure above %d",
                self.early_inputs,
                self.inputs,
                self.sure,
            )
        if not 0 < n <= fixed.MAX_CLASSES or self.inputs > fixed.MAX_INPUTS or self.units > fixed.MAX_HIDDEN:
            _bad("a learned state with %d classes, %d inputs, %d units", n, self.inputs, self.units)
        f.seek(at)
        self.classes = []
        samples = 0
        for c in range(n):
            entry = f.read(CLASS_BYTES + 1)
            if len(entry) < CLASS_BYTES + 1:
                _bad("class %d of %d is cut", c, n)
            uid, count, crc = struct.unpack_from(CLASS_FORMAT, entry)
            name = _text(f.read(entry[CLASS_BYTES]))
            b.check_name(name)
            if not count:
                _bad("class %d of %d has no samples", c, n)
            if uid == 0 and self.version == 1:
                crc = c  # base classes came first then, and stayed
            self.classes.append((name, count, uid, crc))
            samples += count
            at += CLASS_BYTES + 1 + entry[CLASS_BYTES]
        self.weights_at = at
        at += 4 * weight_count(n, self.inputs, self.units, self.early_inputs)
        self.latents_at = 0
        if self.version > 1:
            self.latents_at = at
            at += samples * self.inputs
        if at != self.end - 4:
            _bad("a learned state of %d bytes whose parts need %d", self.end - 4, at)
        self._check_classes()
        self._check_weights(f)

    def _old_body(self, f, head):
        """Bytes of the body of version 1, which did not say it: as its parts, not verified yet, would have it."""
        n, inputs, units = struct.unpack_from("<HHH", head, 16)
        at = LEAST_HEAD_BYTES
        for _ in range(min(n, fixed.MAX_CLASSES)):
            f.seek(at + CLASS_BYTES)
            length = f.read(1)
            at += CLASS_BYTES + 1 + (length[0] if length else 0)
        return at - LEAST_HEAD_BYTES + 4 * weight_count(n, inputs, units)

    def _refuse(self, f, head, size):
        e = NewerState(
            "a learned state of version %d, this side reads 1 to %d; nothing was removed: update it (board: 'tinycl flash')"
            % (self.version, VERSION)
        )
        _, _, _, e.sequence, e.blob_id = struct.unpack_from("<4sHHII", head)  # there in every version
        self.end = size
        crc, stored = self._crcs(f)
        e.whole = crc == stored
        raise e

    def _check_classes(self):
        n = len(self.classes)
        names = len(set([one[0] for one in self.classes]))
        if names != n:
            _bad("a learned state with %d classes of %d different names", n, names)
        # an enrolled class by its uid, a base class by its number in the blob: each once
        files = len(set([one[2] or -1 - one[3] for one in self.classes]))
        if files != n:
            _bad("a learned state with %d classes that keep %d sets of samples", n, files)

    def _check_weights(self, f):
        """Kernels are proven for weights of fixed.W_MAX at most."""
        row = array("i", bytes(CHUNK))
        view = memoryview(row)
        f.seek(self.weights_at)
        left = weight_count(len(self.classes), self.inputs, self.units, self.early_inputs)
        while left:
            k = min(left, len(row))
            f.readinto(view[:k])
            if max(row) > fixed.W_MAX or min(row) < -fixed.W_MAX:
                _bad("a learned state with weights from %d to %d, the limit is %d", min(row), max(row), fixed.W_MAX)
            left -= k

    def _crcs(self, f):
        """CRC-32 of all but the last four bytes, and what those say."""
        chunk = bytearray(CHUNK)
        view = memoryview(chunk)
        f.seek(0)
        left = self.end - 4
        crc = 0
        while left:
            k = f.readinto(view[: min(left, CHUNK)])
            if not k:
                _bad("a learned state that ends %d bytes early", left)
            crc = crc32(view[:k], crc)
            left -= k
        return crc & 0xFFFFFFFF, struct.unpack("<I", f.read(4))[0]


def _text(data):
    try:
        return data.decode()
    except Exception:  # UnicodeError is a ValueError on one side and a class of its own on the other
        _bad("a name of %d bytes that are no text", len(data))
