# The blob: one file with everything that a board needs to start learning. BLOB.md is its specification; this file is its
# only code. Runs unchanged under CPython and MicroPython; needs `struct`, `array` and `binascii`.
# Allocates: the section table, META and NAME as Python objects, the LAYR, EXIT and RUNG tables as arrays, and one chunk of
# 512 bytes while checksums are verified. Large sections are read into the caller's buffers, or viewed in place.
import io
import struct
from array import array
from binascii import crc32

from . import fixed
from .errors import FormatError

MAGIC = b"TCLB"
VERSION = 2
OLDEST = 1  # still read: format 2 only adds to it, so that its tables mean the same
HEADER_FORMAT = "<4sHHIII"  # magic, version, section count, total bytes, id, CRC-32 of header (this field 0) and table
HEADER_BYTES = 20
ENTRY_FORMAT = "<4sIII"  # type, offset, bytes, CRC-32
ENTRY_BYTES = 16
ALIGN = 8
CHUNK = 512

MAX_BLOB_BYTES = 4 << 20
MAX_SECTIONS = 16
MAX_LAYERS = 32
MAX_EXITS = 4
MAX_RUNGS = 16
MAX_NAME_BYTES = 32
MAX_SIDE = 1024
MAX_CHANNELS = 512
MAX_SAMPLE_BYTES = 32768
MAX_KERNEL = 16  # each side, and the stride
MAX_WEIGHT_BYTES = 1 << 20
MAX_ACC = 1 << 30  # largest |sum of products + bias| that a layer may reach

# META, in this order; names are the attributes of Blob
META_FORMATS = {1: "<HHHHHHHHbbHBBBBffHBB24s", 2: "<HHHHHHHHbbHBBBBffHBB23sB"}
META_FORMAT = META_FORMATS[VERSION]
META_BYTES = 60
META_FIELDS = (
    "in_h in_w in_c base_classes max_classes base_per_class per_class max_samples q_low q_high target_permille "
    "epochs patience shift_first shift_last low high seed holdout_every refit_epochs dataset early_epochs"
).split()
_LIMITS = {
    "in_h": (1, MAX_SIDE),
    "in_w": (1, MAX_SIDE),
    "in_c": (1, MAX_CHANNELS),
    "base_classes": (1, fixed.MAX_CLASSES),
    "max_classes": (1, fixed.MAX_CLASSES),
    "base_per_class": (1, 1024),
    "per_class": (1, 1024),
    "max_samples": (2, 4096),
    "q_low": (-128, 127),
    "q_high": (-128, 127),
    "target_permille": (0, 1001),  # 1001: never satisfied, always climb
    "epochs": (1, 255),
    "patience": (1, 255),
    "shift_first": (0, 15),
    "shift_last": (0, 15),
    "seed": (1, 65535),
    "holdout_every": (2, 255),
    "refit_epochs": (0, 255),
    "early_epochs": (0, 255),
}

# LAYR: LAYER_INTS int32 for each layer, in this order; a pool uses the fields up to PAD
CONV2D = 1
MAXPOOL2D = 2
DEPTHWISE2D = 3  # a conv2d whose output channel k sees input channel k only; since format 2
LAYER_INTS = 16
OP, IN_H, IN_W, IN_C, OUT_H, OUT_W, OUT_C, KERNEL, STRIDE, PAD, SHIFT1, SHIFT2, W_AT, Q_AT, KERNEL_W = range(15)
EXIT_INTS = 4  # layers up to here, max-pool of their output (1: none), inputs that this exit adds, MACs up to here
RUNG_INTS = 4  # exit, hidden units, inputs of the head, MACs of one inference


def exit_view(h, w, k):
    """(h, w) of a layer's output as the k x k pool of an exit sees it.

    A signal, of which h or w is 1, lies there as rows of k steps: k x k values are then k * k steps that follow each other.
    """
    return (h, w) if h > 1 and w > 1 else (h * w // max(1, k), k)


def _bad(text, *numbers):
    raise FormatError((text % numbers) + ": make the blob again with 'tinycl export'")


def pack(sections):
    """A blob from {type: bytes-like}, sections in the given order. Types are four ASCII letters."""
    at = HEADER_BYTES + ENTRY_BYTES * len(sections)
    table = b""
    body = b""
    for kind, data in sections.items():
        data = bytes(data)
        gap = -at % ALIGN
        body += bytes(gap) + data
        at += gap
        table += struct.pack(ENTRY_FORMAT, kind.encode(), at, len(data), crc32(data) & 0xFFFFFFFF)
        at += len(data)
    identity = crc32(table) & 0xFFFFFFFF
    head = struct.pack(HEADER_FORMAT, MAGIC, VERSION, len(sections), at, identity, 0)
    crc = crc32(head + table) & 0xFFFFFFFF
    return head[:16] + struct.pack("<I", crc) + table + body


def pack_meta(**fields):
    """META from its fields, each named in META_FIELDS; missing ones are an error."""
    return struct.pack(META_FORMAT, *[fields[name] for name in META_FIELDS])


def pack_names(names):
    """NAME: for each class its length in bytes and its UTF-8 text."""
    out = b""
    for name in names:
        text = name.encode()
        check_name(name)
        out += bytes((len(text),)) + text
    return out


def check_name(name):
    """Refuses a name that is empty, too long, unprintable or not UTF-8; the same ones on both sides."""
    n = 0
    for letter in name:
        code = ord(letter)
        if code < 32 or 127 <= code < 160:
            raise FormatError("a name with the control character %d: use printable text" % code)
        if 0xD800 <= code < 0xE000 or code > 0x10FFFF:
            raise FormatError("a name with the number %d, which is no character: use printable text" % code)
        n += 1 if code < 128 else 2 if code < 2048 else 3 if code < 65536 else 4
    if not 1 <= n <= MAX_NAME_BYTES:
        raise FormatError("a name of %d bytes, 1 to %d are possible: choose another one" % (n, MAX_NAME_BYTES))
    if n != len(name.encode()):  # MicroPython takes text that is longer than UTF-8 allows
        raise FormatError("a name of %d bytes that could be %d: use UTF-8" % (len(name.encode()), n))


class Blob:
    """A verified blob. Raises FormatError where anything is not as BLOB.md says; nothing was changed then.

    source: a file opened for reading bytes, or any bytes-like object, which is then used in place.
    The fields of META are attributes; `names` the base classes; `layers`, `exits`, `rungs` and `plan`
    (bytes of the memory plan of each rung) arrays of int32.
    """

    def __init__(self, source):
        self.data = None if hasattr(source, "readinto") else memoryview(source)
        self.source = source if self.data is None else io.BytesIO(source)
        self._read_table()
        self._read_meta()
        self._read_names()
        self.layers = self._ints("LAYR", LAYER_INTS, 1, MAX_LAYERS)
        self.exits = self._ints("EXIT", EXIT_INTS, 1, MAX_EXITS)
        self.rungs = self._ints("RUNG", RUNG_INTS, 1, MAX_RUNGS)
        self._check_layers()
        self._check_exits()
        self._check_rungs()
        self.plan = self._ints("PLAN", 1, 1, MAX_RUNGS)
        self._want("PLAN", len(self.rungs) // RUNG_INTS * 4)
        self._check_head()
        self._want("RAWS", self.base_classes * self.base_per_class * self.sample_bytes)

    # sections

    def _read_table(self):
        total = self.source.seek(0, 2)
        if total < HEADER_BYTES:
            _bad("the blob is cut: %d bytes, its header alone has %d", total, HEADER_BYTES)
        if total > MAX_BLOB_BYTES:
            _bad("the blob has %d bytes, the limit is %d", total, MAX_BLOB_BYTES)
        head = self._at(0, HEADER_BYTES)
        magic, self.version, count, said, self.id, crc = struct.unpack(HEADER_FORMAT, head)
        if magic != MAGIC:
            _bad("not a blob: it starts with %s, not with %s", magic, MAGIC)
        if not OLDEST <= self.version <= VERSION:
            _bad("the blob has format version %d, this software reads version %d to %d", self.version, OLDEST, VERSION)
        if not 1 <= count <= MAX_SECTIONS:
            _bad("the blob claims %d sections, 1 to %d are possible", count, MAX_SECTIONS)
        if said != total:
            _bad("the blob has %d bytes, its header says %d", total, said)
        end = HEADER_BYTES + ENTRY_BYTES * count
        if end > total:
            _bad("the table of %d sections ends at %d, behind the end at %d", count, end, total)
        table = self._at(HEADER_BYTES, end - HEADER_BYTES)
        if crc32(head[:16] + b"\0\0\0\0" + table) & 0xFFFFFFFF != crc:
            _bad("the header's CRC-32 is not 0x%08x", crc)
        if crc32(table) & 0xFFFFFFFF != self.id:
            _bad("the blob's id is not 0x%08x", self.id)
        self.bytes = total
        self.sections = {}
        for i in range(count):
            kind, at, n, crc = struct.unpack(ENTRY_FORMAT, table[i * ENTRY_BYTES : (i + 1) * ENTRY_BYTES])
            if min(kind) < 65 or max(kind) > 90:
                _bad("section %d has the type %s, possible are four letters A to Z", i, kind)
            kind = kind.decode()
            if kind in self.sections:
                _bad("section %s is there twice", kind)
            if at % ALIGN or at < end or at + n > total:
                _bad("section %s lies at %d to %d, possible is %d to %d in steps of %d", kind, at, at + n, end, total, ALIGN)
            end = at + n
            self.sections[kind] = (at, n, crc)
        chunk = memoryview(bytearray(CHUNK))
        for kind, (at, n, crc) in self.sections.items():
            self.source.seek(at)
            found = 0
            while n:
                part = chunk[: min(n, CHUNK)]
                if self.source.readinto(part) != len(part):
                    _bad("section %s is cut", kind)
                found = crc32(part, found)
                n -= len(part)
            if found & 0xFFFFFFFF != crc:
                _bad("section %s has CRC-32 0x%08x, its table says 0x%08x", kind, found & 0xFFFFFFFF, crc)

    def _at(self, at, n):
        data = bytearray(n)
        self.source.seek(at)
        if self.source.readinto(data) != n:
            _bad("the blob is cut at byte %d", at)
        return bytes(data)

    def section_bytes(self, kind):
        """Length of a section in bytes; FormatError where there is none of that type."""
        if kind not in self.sections:
            _bad("section %s is missing", kind)
        return self.sections[kind][1]

    def _want(self, kind, n):
        if self.section_bytes(kind) != n:
            _bad("section %s has %d bytes, %d would be right", kind, self.section_bytes(kind), n)

    def read(self, kind, buffer, n, start=0):
        """Fills `buffer`, which has n bytes (an array counts its bytes), from byte `start` of a section."""
        size = self.section_bytes(kind)
        if start < 0 or start + n > size:
            _bad("section %s has %d bytes, %d to %d were asked for", kind, size, start, start + n)
        self.source.seek(self.sections[kind][0] + start)
        if self.source.readinto(buffer) != n:
            _bad("section %s is cut", kind)

    def view(self, kind):
        """A section in place, as a memoryview. Only for a bytes-like source."""
        at = self.sections[kind][0]
        return self.data[at : at + self.section_bytes(kind)]

    def _ints(self, kind, each, least, most):
        n = self.section_bytes(kind)
        if n % (4 * each) or not least <= n // (4 * each) <= most:
            _bad("section %s has %d bytes, possible are %d to %d records of %d", kind, n, least, most, 4 * each)
        table = array("i", bytes(n))
        self.read(kind, table, n)
        for value in table:
            if value < 0:
                _bad("section %s has the negative value %d", kind, value)
        return table

    # meaning

    def _read_meta(self):
        form = META_FORMATS[self.version]
        meta = bytearray(struct.calcsize(form))
        self._want("META", len(meta))
        self.read("META", meta, len(meta))
        values = struct.unpack(form, meta) + (0,) * (VERSION - self.version)
        for i in range(len(META_FIELDS)):
            name = META_FIELDS[i]
            setattr(self, name, values[i])
            if name in _LIMITS:
                low, high = _LIMITS[name]
                if not low <= values[i] <= high:
                    _bad("META says %s = %d, possible is %d to %d", name, values[i], low, high)
        try:
            self.dataset = self.dataset.rstrip(b"\0").decode()
        except Exception:  # UnicodeError is a ValueError on one side and a class of its own on the other
            _bad("the data set's name is no text")
        if self.dataset:
            check_name(self.dataset)
        self.sample_bytes = self.in_h * self.in_w * self.in_c
        if self.sample_bytes > MAX_SAMPLE_BYTES:
            _bad("a sample has %d bytes, the limit is %d", self.sample_bytes, MAX_SAMPLE_BYTES)
        if self.q_low >= self.q_high:
            _bad("META says q_low = %d, which is not below q_high = %d", self.q_low, self.q_high)
        if not -1e30 < self.low < self.high < 1e30:
            _bad("META says low = %g, which is not below high = %g", self.low, self.high)
        if self.base_classes > self.max_classes:
            _bad("%d base classes are over the limit of %d classes", self.base_classes, self.max_classes)
        if self.base_per_class > self.per_class:
            _bad("%d samples per base class are over the budget of %d", self.base_per_class, self.per_class)

    def _read_names(self):
        n = self.section_bytes("NAME")
        if n > self.base_classes * (MAX_NAME_BYTES + 1):
            _bad("section NAME has %d bytes for %d classes", n, self.base_classes)
        data = bytearray(n)
        self.read("NAME", data, n)
        self.names = []
        at = 0
        while at < n:
            text = bytes(data[at + 1 : at + 1 + data[at]])
            at += 1 + data[at]
            try:
                name = text.decode()
            except Exception:
                _bad("class name %d is no text", len(self.names))
            check_name(name)
            if name in self.names:
                _bad("the class name %s is there twice", name)
            self.names.append(name)
        if at != n or len(self.names) != self.base_classes:
            _bad("section NAME holds %d names for %d classes", len(self.names), self.base_classes)

    def _check_layers(self):
        weight_bytes = self.section_bytes("WGHT")
        quant_ints = self.section_bytes("QUAN") // 4
        if weight_bytes > MAX_WEIGHT_BYTES or self.section_bytes("QUAN") % 8:
            _bad("sections WGHT and QUAN have %d and %d bytes", weight_bytes, self.section_bytes("QUAN"))
        t = self.layers
        h, w, c = self.in_h, self.in_w, self.in_c
        self.depths = []  # per layer: bytes of WGHT, ints of QUAN and largest activation in bytes of all layers so far
        largest, weights, quant = self.sample_bytes, 0, 0
        for at in range(0, len(t), LAYER_INTS):
            i = at // LAYER_INTS
            if (t[at + IN_H], t[at + IN_W], t[at + IN_C]) != (h, w, c):
                _bad("layer %d takes %dx%dx%d, it gets %dx%dx%d", i, t[at + IN_H], t[at + IN_W], t[at + IN_C], h, w, c)
            op, pad = t[at + OP], t[at + PAD]
            depthwise = op == DEPTHWISE2D
            conv = op == CONV2D or depthwise
            h, w, area = self._window(i, at, conv, h, w)
            inputs = area if depthwise else area * c
            if conv:
                if depthwise and t[at + OUT_C] != c:
                    _bad("layer %d makes %d channels of %d, one by one", i, t[at + OUT_C], c)
                c = t[at + OUT_C]
                if not 1 <= c <= MAX_CHANNELS:
                    _bad("layer %d has %d channels, the limit is %d", i, c, MAX_CHANNELS)
                if not t[at + SHIFT1] <= 30 or not 1 <= t[at + SHIFT2] <= 30:
                    _bad("layer %d shifts by %d and %d, the limit is 30", i, t[at + SHIFT1], t[at + SHIFT2])
                if t[at + W_AT] + inputs * c > weight_bytes or t[at + Q_AT] + 2 * c > quant_ints:
                    _bad("layer %d reads behind the end of WGHT or QUAN", i)
                self._check_quant(i, t[at + Q_AT], c, inputs)
                weights = max(weights, t[at + W_AT] + inputs * c)
                quant = max(quant, t[at + Q_AT] + 2 * c)
            elif op != MAXPOOL2D or pad or t[at + OUT_C] != c:
                _bad("layer %d has operation %d with padding %d and %d channels", i, op, pad, t[at + OUT_C])
            if (t[at + OUT_H], t[at + OUT_W]) != (h, w):
                _bad("layer %d makes %dx%d, it says %dx%d", i, h, w, t[at + OUT_H], t[at + OUT_W])
            largest = max(largest, h * w * c)
            if largest > MAX_SAMPLE_BYTES:
                _bad("layer %d makes %d bytes, the limit is %d", i, largest, MAX_SAMPLE_BYTES)
            self.depths.append((weights, quant, largest))

    def _window(self, i, at, conv, h, w):
        # (height and width of the output, values of the kernel of one channel) of layer i on an input of h x w
        t = self.layers
        kernel, stride, pad = t[at + KERNEL], t[at + STRIDE], t[at + PAD]
        width = t[at + KERNEL_W] or kernel if conv else kernel
        if conv and (t[at + 15] or (self.version == 1 and (t[at + OP] == DEPTHWISE2D or t[at + KERNEL_W]))):
            _bad(
                "layer %d has operation %d with %d and %d in its last fields, which format version %d has not",
                *(i, t[at + OP], t[at + KERNEL_W], t[at + 15], self.version),
            )
        pad_h = pad if kernel > 1 else 0  # as in the kernels: a side of 1 is not padded
        pad_w = pad if width > 1 else 0
        good = 1 <= kernel <= MAX_KERNEL and 1 <= width <= MAX_KERNEL and 1 <= stride <= MAX_KERNEL
        # a pad that no side would take is no form of 0
        good = good and pad_h < kernel and pad_w < width and pad < max(kernel, width)
        if not good or h + 2 * pad_h < kernel or w + 2 * pad_w < width:
            _bad("layer %d has kernel %dx%d, stride %d, padding %d on %dx%d", i, kernel, width, stride, pad, h, w)
        return (h + 2 * pad_h - kernel) // stride + 1, (w + 2 * pad_w - width) // stride + 1, kernel * width

    def _check_quant(self, layer, at, channels, inputs):
        # keeps sums inside 32 bits whatever the weights are
        pairs = array("i", bytes(8 * channels))
        self.read("QUAN", pairs, 8 * channels, 4 * at)
        worst = MAX_ACC - inputs * 128 * 128
        for i in range(0, len(pairs), 2):
            if not -worst <= pairs[i] <= worst or not 0 <= pairs[i + 1] < 1 << 15:
                _bad("layer %d, channel %d has bias %d and multiplier %d", layer, i // 2, pairs[i], pairs[i + 1])

    def needs(self, leave):
        """(bytes of WGHT, ints of QUAN, bytes of the largest activation) that the layers up to exit `leave` take."""
        return self.depths[self.exits[leave * EXIT_INTS] - 1]

    def _check_head(self):
        n = 4 * self.base_classes * (1 + self.rungs[2])
        self._want("HEAD", n)
        for start in range(0, n, CHUNK):
            weights = array("i", bytes(min(CHUNK, n - start)))
            self.read("HEAD", weights, min(CHUNK, n - start), start)
            if min(weights) < -fixed.W_MAX or max(weights) > fixed.W_MAX:
                _bad("section HEAD has a weight over the limit of %d", fixed.W_MAX)

    def _check_exits(self):
        t = self.exits
        self.features = []  # inputs of the head at each exit: those of all exits so far
        depth = 0
        total = 0
        for at in range(0, len(t), EXIT_INTS):
            layers, k, inputs = t[at], t[at + 1], t[at + 2]
            if not depth < layers <= len(self.layers) // LAYER_INTS:
                _bad("exit %d lies behind layer %d of %d", at // EXIT_INTS, layers, len(self.layers) // LAYER_INTS)
            last = (layers - 1) * LAYER_INTS
            h, w, c = self.layers[last + OUT_H], self.layers[last + OUT_W], self.layers[last + OUT_C]
            if self.version > 1:
                h, w = exit_view(h, w, k)
            if not 1 <= k <= min(h, w) or inputs != (h // k) * (w // k) * c:
                _bad("exit %d pools %dx%dx%d by %d and says %d inputs", at // EXIT_INTS, h, w, c, k, inputs)
            depth = layers
            total += inputs
            self.features.append(total)
        if total > fixed.MAX_INPUTS:
            _bad("all exits together have %d inputs, the limit is %d", total, fixed.MAX_INPUTS)

    def _check_rungs(self):
        t = self.rungs
        before = (0, -1)
        for at in range(0, len(t), RUNG_INTS):
            rung, leave, hidden = at // RUNG_INTS, t[at], t[at + 1]
            if leave >= len(self.features) or hidden > fixed.MAX_HIDDEN:
                _bad("rung %d has exit %d of %d and %d hidden units", rung, leave, len(self.features), hidden)
            if t[at + 2] != self.features[leave] or t[at + 2] + hidden > fixed.MAX_INPUTS:
                _bad("rung %d says %d inputs and %d hidden units", rung, t[at + 2], hidden)
            if leave < before[0] or hidden < before[1] or (leave, hidden) == before:
                _bad("rung %d is not larger than the one before", rung)
            before = (leave, hidden)
        if t[1]:
            _bad("the first rung has %d hidden units, it must be linear", t[1])
