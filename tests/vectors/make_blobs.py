"""Makes good small blobs (tiny.tcb; tiny-format1.tcb, the same as format 1 left it; signal.tcb), and blobs/, hostile ones that
each break one rule of shared/BLOB.md; their names say which, and blobs.json what the refusal of each says. Also the builder
of small blobs for other tests. Everything follows from a fixed seed. Depends on tinycl.shared, and on tinycl.bench.fuzz for
checksums made right again.

usage: python tests/vectors/make_blobs.py
"""

import json
import random
import struct
from binascii import crc32
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tinycl.bench.fuzz import sealed_blob as reseal
from tinycl.shared import blob as b
from tinycl.shared.plan import add_plan

HERE = Path(__file__).parent
SIDE, CHANNELS = 4, 4
NAMES = ("north-west", "nord-östlich")
META = {
    "in_h": SIDE,
    "in_w": SIDE,
    "in_c": 1,
    "base_classes": 2,
    "max_classes": 4,
    "base_per_class": 6,
    "per_class": 6,
    "max_samples": 12,
    "q_low": 0,
    "q_high": 127,
    "target_permille": 0,
    "epochs": 4,
    "patience": 2,
    "shift_first": 4,
    "shift_last": 6,
    "low": 0.0,
    "high": 1.0,
    "seed": 7,
    "holdout_every": 3,
    "refit_epochs": 1,
    "dataset": b"quadrants",
    "early_epochs": 0,
}


def samples(quadrant: int, n: int, seed: int = 1) -> bytes:
    """n samples of 4x4 whose given quadrant (0..3) is bright: classes that a tiny model can tell apart."""
    rng = random.Random(100 * seed + quadrant)
    out = bytearray()
    for _ in range(n):
        for y in range(SIDE):
            for x in range(SIDE):
                bright = y // 2 == quadrant // 2 and x // 2 == quadrant % 2
                out.append(rng.randrange(90, 128) if bright else rng.randrange(0, 30))
    return bytes(out)


def pictures(quadrant: int, n: int, seed: int = 9) -> np.ndarray:
    """The same as the host has them, int8 [n, 4, 4, 1]; others than those in the blob."""
    return np.frombuffer(samples(quadrant, n, seed), np.int8).reshape(n, SIDE, SIDE, 1)


def ints(*values: int) -> bytes:
    return b"".join(struct.pack("<i", v) for v in values)


def layer(op: int, shape_in: tuple[int, int, int], shape_out: tuple[int, int, int], *rest: int) -> bytes:
    """One record of LAYR; rest: kernel, stride, pad, shift1, shift2, w_at, q_at, kernel_w."""
    values = (op, *shape_in, *shape_out, *rest)
    return ints(*values, *[0] * (b.LAYER_INTS - len(values)))


def sections(**meta: object) -> dict[str, bytes]:
    """The sections of the tiny blob (two convolutions, two exits, three rungs), with META fields replaced by name."""
    return add_plan(parts(**meta))


def parts(**meta: object) -> dict[str, bytes]:
    """The same without PLAN."""
    rng = random.Random(3)
    fields = {**META, **meta}
    base, per_class = int(fields["base_classes"]), int(fields["base_per_class"])
    c = CHANNELS
    weights = [9 * c, 9 * c * c]
    quant = b"".join(ints(rng.randrange(-2000, 2000), 1 << 13) for _ in range(2 * c))
    return {
        "META": b.pack_meta(**fields),
        "NAME": b.pack_names(NAMES[:base]),
        "LAYR": layer(b.CONV2D, (4, 4, 1), (4, 4, c), 3, 1, 1, 4, 15, 0, 0)
        + layer(b.CONV2D, (4, 4, c), (2, 2, c), 3, 2, 1, 5, 15, weights[0], 2 * c),
        "EXIT": ints(1, 2, 4 * c, 16 * weights[0]) + ints(2, 2, c, 16 * weights[0] + 4 * weights[1]),
        "RUNG": ints(0, 0, 4 * c, 640) + ints(0, 4, 4 * c, 712) + ints(1, 4, 5 * c, 1300),
        "WGHT": bytes(rng.randrange(-64, 65) & 255 for _ in range(sum(weights))),
        "QUAN": quant,
        "HEAD": b"".join(ints(rng.randrange(-(1 << 16), 1 << 16)) for _ in range(base * (1 + 4 * c))),
        "RAWS": b"".join(samples(q, per_class) for q in range(base)),
    }


def tiny(**meta: object) -> bytes:
    """The tiny blob."""
    return b.pack(sections(**meta))


def entry_of(data: bytes, kind: str) -> int:
    """Where the table entry of a section begins."""
    return data.index(kind.encode(), b.HEADER_BYTES)


def poke(kind: str, at: int, layout: str, *values: object) -> bytes:
    """The tiny blob with something else at byte `at` of a section, checksums right."""
    data = bytearray(tiny())
    start = struct.unpack_from("<I", data, entry_of(data, kind) + 4)[0]
    struct.pack_into(layout, data, start + at, *values)
    return reseal(bytes(data))


def poke_int(kind: str, number: int, value: int) -> bytes:
    return poke(kind, 4 * number, "<i", value)


def poke_meta(field: str, value: object) -> bytes:
    at = struct.calcsize("<" + "".join(_meta_codes()[: b.META_FIELDS.index(field)]))
    return poke("META", at, "<" + _meta_codes()[b.META_FIELDS.index(field)], value)


def _meta_codes() -> list[str]:
    return [*b.META_FORMAT[1:-4], b.META_FORMAT[-4:-1], b.META_FORMAT[-1]]


def with_section(**changed: bytes | None) -> bytes:
    """The tiny blob with whole sections replaced, or left out where None."""
    parts = {**sections(), **changed}
    return b.pack({kind: data for kind, data in parts.items() if data is not None})


def in_table(kind: str, field: int, value: int) -> bytes:
    """The tiny blob with another offset (field 1) or length (field 2) in the table, checksums right."""
    data = bytearray(tiny())
    struct.pack_into("<I", data, entry_of(data, kind) + 4 * field, value)
    return reseal(bytes(data))


def _header(at: int, layout: str, value: object, seal: bool = True) -> bytes:
    data = bytearray(tiny())
    struct.pack_into(layout, data, at, value)
    return reseal(bytes(data)) if seal else bytes(data)


def _cut(n: int, claim: bool) -> bytes:
    data = bytearray(tiny()[:n])
    if claim:
        struct.pack_into("<I", data, 8, n)
    return reseal(bytes(data)) if claim else bytes(data)


def hostile() -> Iterator[tuple[str, bytes, str]]:
    """(what is wrong, blob, what the refusal says)."""
    good = tiny()
    size = len(good)
    raws = struct.unpack_from("<II", good, entry_of(good, "RAWS") + 4)
    quan = struct.unpack_from("<II", good, entry_of(good, "QUAN") + 4)
    table_end = b.HEADER_BYTES + b.ENTRY_BYTES * 10
    layr = b.LAYER_INTS  # the second layer's first int
    yield "empty", b"", "the blob is cut: 0 bytes"
    yield "cut-in-header", good[: b.HEADER_BYTES - 1], "the blob is cut: 19 bytes"
    yield "cut-after-header", good[: b.HEADER_BYTES], "the blob has 20 bytes, its header says 1076"
    yield "cut-in-table", good[: table_end - 5], "the blob has 175 bytes, its header says 1076"
    yield "cut-after-table", good[:table_end], "the blob has 180 bytes, its header says 1076"
    yield "cut-in-table-and-length-matched", _cut(table_end - 5, True), "the table of 10 sections ends at 180"
    yield "cut-by-one-byte", good[:-1], "the blob has 1075 bytes, its header says 1076"
    yield "cut-and-length-matched", _cut(raws[0] + 10, True), "section RAWS lies at 872 to 1064"
    yield "longer-than-it-says", good + b"\0", "the blob has 1077 bytes, its header says 1076"
    yield "magic-wrong", _header(0, "<4s", b"TCLA"), "not a blob: it starts with b'TCLA'"
    yield "not-a-blob", bytes(range(256)) * 3, "not a blob: it starts with b'\\x00\\x01\\x02\\x03'"
    yield "version-0", _header(4, "<H", 0), "the blob has format version 0"
    yield "version-3", _header(4, "<H", 3), "the blob has format version 3, this software reads version 1 to 2"
    yield "header-crc-wrong", _header(16, "<I", 0x12345678, seal=False), "the header's CRC-32 is not 0x12345678"
    yield "id-wrong", _id_wrong(), "the blob's id is not 0x12345678"
    yield "no-sections", _header(6, "<H", 0), "the blob claims 0 sections"
    yield "sections-17", _header(6, "<H", 17), "the blob claims 17 sections"
    yield "sections-65535", _header(6, "<H", 65535), "the blob claims 65535 sections"
    yield "length-huge", _header(8, "<I", 0xFFFFFFFF), "the blob has 1076 bytes, its header says 4294967295"
    yield "section-crc-wrong", good[: raws[0]] + bytes([good[raws[0]] ^ 1]) + good[raws[0] + 1 :], "section RAWS has CRC-32"
    yield "section-in-the-table", in_table("META", 1, 24), "section META lies at 24 to 84"
    yield "section-in-the-header", in_table("META", 1, 0), "section META lies at 0 to 60"
    yield "section-not-aligned", in_table("RAWS", 1, raws[0] + 4), "section RAWS lies at 876 to 1068"
    yield "section-behind-the-end", in_table("RAWS", 1, (size + 7) // 8 * 8), "section RAWS lies at 1080 to 1272"
    yield "section-ends-behind-the-end", in_table("RAWS", 2, raws[1] + 1), "section PLAN lies at 1064 to 1076"
    yield "section-length-huge", in_table("RAWS", 2, 0xFFFFFFF0), "section RAWS lies at 872 to 4294968152"
    yield "section-offset-huge", in_table("RAWS", 1, 0xFFFFFFF8), "section RAWS lies at 4294967288 to 4294967480"
    yield "section-offset-and-length-wrap", in_table("RAWS", 1, 0x80000000), "section RAWS lies at 2147483648 to 2147483840"
    yield "sections-overlap", in_table("QUAN", 2, quan[1] + 16), "section HEAD lies at 736 to 872"
    yield "sections-out-of-order", in_table("RAWS", 1, quan[0]), "section RAWS lies at 672 to 864"
    yield "section-twice", _section_twice(), "section META is there twice"
    yield "section-type-not-letters", reseal(good.replace(b"RAWS", b"RA\xff\x00", 1)), "section 8 has the type b'RA\\xff\\x00'"
    for kind in sections():
        yield f"section-{kind.lower()}-missing", with_section(**{kind: None}), f"section {kind} is missing"
    yield "meta-short", with_section(META=sections()["META"][:-1]), "section META has 59 bytes"
    yield "meta-long", with_section(META=sections()["META"] + b"\0"), "section META has 61 bytes"
    for field, value in (
        ("in_h", 0),
        ("in_w", 1025),
        ("in_c", 0),
        ("base_classes", 0),
        ("max_classes", 65),
        ("base_per_class", 0),
        ("per_class", 1025),
        ("max_samples", 1),
        ("max_samples", 4097),
        ("target_permille", 1002),
        ("epochs", 0),
        ("patience", 0),
        ("shift_first", 16),
        ("shift_last", 31),
        ("seed", 0),
        ("holdout_every", 1),
    ):
        yield f"meta-{field.replace('_', '-')}-{value}", poke_meta(field, value), f"META says {field} = {value}"
    yield "meta-sample-too-large", _sample_too_large(), "a sample has 32896 bytes"
    yield "meta-q-low-is-q-high", poke_meta("q_low", 127), "META says q_low = 127"
    yield "meta-q-low-above-q-high", poke("META", 16, "<bb", 100, -100), "META says q_low = 100"
    yield "meta-low-nan", poke_meta("low", float("nan")), "META says low = nan"
    yield "meta-high-nan", poke_meta("high", float("nan")), "META says low = 0"
    yield "meta-high-infinite", poke_meta("high", float("inf")), "META says low = 0"
    yield "meta-low-above-high", poke_meta("low", 2.0), "META says low = 2"
    yield "meta-low-is-high", poke_meta("low", 1.0), "META says low = 1"
    yield "meta-base-above-max-classes", poke_meta("max_classes", 1), "2 base classes are over the limit of 1 classes"
    yield "meta-base-samples-above-per-class", poke_meta("per_class", 5), "6 samples per base class are over the budget of 5"
    yield "meta-dataset-not-utf8", poke_meta("dataset", b"\xff\xfe"), "the data set's name is no text"
    yield (
        "meta-dataset-control-character",
        poke_meta("dataset", b"a\x1b[2J"),
        "a name with the control character 27: use printable text",
    )
    yield "name-empty-section", with_section(NAME=b""), "section NAME holds 0 names for 2 classes"
    yield "name-too-few", with_section(NAME=b.pack_names(NAMES[:1])), "section NAME holds 1 names for 2 classes"
    yield "name-too-many", with_section(NAME=b.pack_names([*NAMES, "c"])), "section NAME holds 3 names for 2 classes"
    yield "name-empty", with_section(NAME=b"\x00\x01b"), "a name of 0 bytes"
    yield "name-twice", with_section(NAME=b"\x01b\x01b"), "the class name b is there twice"
    yield "name-33-bytes", with_section(NAME=b"\x21" + b"n" * 33 + b"\x01b"), "a name of 33 bytes"
    yield "name-section-too-long", with_section(NAME=b.pack_names(["a" * 32, "b" * 32]) + b"\0"), "section NAME has 67 bytes"
    yield "name-cut", with_section(NAME=b"\x01a\x05b"), "section NAME holds 2 names for 2 classes"
    yield "name-not-utf8", with_section(NAME=b"\x01a\x02\xff\xfe"), "class name 1 is no text"
    yield "name-utf8-cut", with_section(NAME=b"\x01a\x02a\xc3"), "class name 1 is no text"
    yield "name-utf8-overlong", with_section(NAME=b"\x01a\x02\xc1\xa1"), "class name 1 is no text"
    yield "name-utf8-surrogate", with_section(NAME=b"\x01a\x03\xed\xa0\x80"), "class name 1 is no text"
    yield "name-utf8-too-large", with_section(NAME=b"\x01a\x04\xf7\xbf\xbf\xbf"), "class name 1 is no text"
    yield (
        "name-control-character",
        with_section(NAME=b"\x01a\x04\x1b[2J"),
        "a name with the control character 27: use printable text",
    )
    yield "name-nul", with_section(NAME=b"\x01a\x03x\x00y"), "a name with the control character 0: use printable text"
    yield "layr-empty", with_section(LAYR=b""), "section LAYR has 0 bytes"
    yield "layr-not-whole", with_section(LAYR=sections()["LAYR"][:-4]), "section LAYR has 124 bytes"
    yield "layr-33-layers", with_section(LAYR=sections()["LAYR"][:64] * 33), "section LAYR has 2112 bytes"
    yield "layr-negative", poke_int("LAYR", b.SHIFT1, -1), "section LAYR has the negative value -1"
    yield "layr-negative-offset", poke_int("LAYR", layr + b.W_AT, -4), "section LAYR has the negative value -4"
    yield "layr-operation-unknown", poke_int("LAYR", b.OP, 4), "layer 0 has operation 4 with padding 1 and 4 channels"
    yield "layr-last-field", poke_int("LAYR", 15, 1), "layer 0 has operation 1 with 0 and 1 in its last fields"
    yield "layr-width-17", _wide(3, 17, 0, (2, 1)), "layer 0 has kernel 3x17, stride 1, padding 0 on 4x4"
    yield (
        "layr-width-huge",
        poke_int("LAYR", b.KERNEL_W, 0x7FFFFFFF),
        "layer 0 has kernel 3x2147483647, stride 1, padding 1 on 4x4",
    )
    yield "layr-width-beyond-input", _wide(1, 5, 0, (4, 0)), "layer 0 has kernel 1x5, stride 1, padding 0 on 4x4"
    yield "layr-width-makes-other-output", _wide(3, 1, 1, (4, 6)), "layer 0 makes 4x4, it says 4x6"
    yield "layr-width-below-padding", _wide(5, 2, 2, (4, 7)), "layer 0 has kernel 5x2, stride 1, padding 2 on 4x4"
    yield "layr-height-below-padding", _wide(2, 5, 2, (7, 4)), "layer 0 has kernel 2x5, stride 1, padding 2 on 4x4"
    yield "layr-width-reads-behind-wght", _wide(3, 5, 1, (4, 2)), "layer 0 reads behind the end of WGHT or QUAN"
    yield "layr-width-loosens-quan-bias", _width_and_bias(), "layer 0, channel 0 has bias 1073594369 and multiplier 1"
    yield "layr-depthwise-more-channels", _depthwise(4, 5, 45), "layer 1 makes 5 channels of 4, one by one"
    yield "layr-depthwise-fewer-channels", _depthwise(4, 3, 27), "layer 1 makes 3 channels of 4, one by one"
    yield "layr-depthwise-reads-behind-wght", _depthwise(4, 4, 35), "layer 1 reads behind the end of WGHT or QUAN"
    yield (
        "version-1-with-width",
        as_version_1(_wide(3, 1, 1, (4, 4))),
        "layer 0 has operation 1 with 1 and 0 in its last fields",
    )
    yield (
        "version-1-with-depthwise",
        as_version_1(_depthwise(4, 4, 36)),
        "layer 1 has operation 3 with 0 and 0 in its last fields",
    )
    yield "version-1-pools-a-signal", as_version_1(_signal_exit(2, 2, kernel=1)), "exit 0 pools 8x1x4 by 2 and says 8 inputs"
    yield "exit-pools-signal-by-too-much", _signal_exit(3, 1), "exit 0 pools 2x3x4 by 3 and says 4 inputs"
    yield "exit-signal-inputs-wrong", _signal_exit(2, 4), "exit 0 pools 4x2x4 by 2 and says 16 inputs"
    yield "layr-first-input-differs", poke_int("LAYR", b.IN_H, 5), "layer 0 takes 5x4x1"
    yield "layr-chain-broken", poke_int("LAYR", layr + b.IN_C, CHANNELS + 1), "layer 1 takes 4x4x5"
    yield "layr-output-larger", poke_int("LAYR", b.OUT_H, 5), "layer 0 makes 4x4"
    yield "layr-output-huge", poke_int("LAYR", layr + b.OUT_W, 0x7FFFFFFF), "layer 1 makes 2x2"
    yield "layr-kernel-0", poke_int("LAYR", b.KERNEL, 0), "layer 0 has kernel 0x0, stride 1, padding 1 on 4x4"
    yield "layr-kernel-17", _kernel(17, 16, (4, 4)), "layer 0 has kernel 17x17, stride 1, padding 16 on 4x4"
    yield "layr-kernel-higher-than-input", _kernel(3, 0, (2, 4)), "layer 0 has kernel 3x3, stride 1, padding 0 on 2x4"
    yield "layr-kernel-wider-than-input", _kernel(3, 0, (4, 2)), "layer 0 has kernel 3x3, stride 1, padding 0 on 4x2"
    yield "layr-kernel-larger-than-input", _layr(7, 1, 1, (0, 0)), "layer 0 has kernel 7x7, stride 1, padding 1 on 4x4"
    yield "layr-stride-0", poke_int("LAYR", b.STRIDE, 0), "layer 0 has kernel 3x3, stride 0, padding 1 on 4x4"
    yield "layr-stride-17", poke_int("LAYR", b.STRIDE, 17), "layer 0 has kernel 3x3, stride 17, padding 1 on 4x4"
    yield "layr-padding-is-kernel", _padding_is_kernel(), "layer 0 has kernel 1x1, stride 1, padding 1 on 4x4"
    yield "layr-channels-0", poke_int("LAYR", b.OUT_C, 0), "layer 0 has 0 channels"
    yield "layr-channels-513", _channels_513(), "layer 0 has 513 channels"
    yield "layr-channels-huge", poke_int("LAYR", layr + b.OUT_C, 0x7FFFFFFF), "layer 1 has 2147483647 channels"
    yield "layr-shift1-31", poke_int("LAYR", b.SHIFT1, 31), "layer 0 shifts by 31 and 15"
    yield "layr-shift2-0", poke_int("LAYR", b.SHIFT2, 0), "layer 0 shifts by 4 and 0"
    yield "layr-shift2-31", poke_int("LAYR", b.SHIFT2, 31), "layer 0 shifts by 4 and 31"
    yield (
        "layr-reads-behind-wght",
        poke_int("LAYR", layr + b.W_AT, 9 * CHANNELS + 1),
        "layer 1 reads behind the end of WGHT or QUAN",
    )
    yield (
        "layr-reads-far-behind-wght",
        poke_int("LAYR", layr + b.W_AT, 0x7FFFFFFF),
        "layer 1 reads behind the end of WGHT or QUAN",
    )
    yield (
        "layr-reads-behind-quan",
        poke_int("LAYR", layr + b.Q_AT, 2 * CHANNELS + 1),
        "layer 1 reads behind the end of WGHT or QUAN",
    )
    yield (
        "layr-reads-far-behind-quan",
        poke_int("LAYR", layr + b.Q_AT, 0x7FFFFFFF),
        "layer 1 reads behind the end of WGHT or QUAN",
    )
    yield "layr-pool-with-padding", _pool(pad=1, channels=CHANNELS), "layer 1 has operation 2 with padding 1 and 4 channels"
    yield (
        "layr-pool-changes-channels",
        _pool(pad=0, channels=CHANNELS + 1),
        "layer 1 has operation 2 with padding 0 and 5 channels",
    )
    yield "layr-activation-too-large", _activation_too_large(), "layer 0 makes 33792 bytes"
    yield "wght-short", with_section(WGHT=sections()["WGHT"][:-1]), "layer 1 reads behind the end of WGHT or QUAN"
    yield "quan-short", with_section(QUAN=sections()["QUAN"][:-8]), "layer 1 reads behind the end of WGHT or QUAN"
    yield "quan-not-whole", with_section(QUAN=sections()["QUAN"] + b"\0\0\0\0"), "sections WGHT and QUAN have 180 and 68 bytes"
    yield "quan-multiplier-32768", poke_int("QUAN", 1, 1 << 15), "layer 0, channel 0 has bias -1026 and multiplier 32768"
    yield "quan-multiplier-negative", poke_int("QUAN", 3, -1), "layer 0, channel 1 has bias 427 and multiplier -1"
    yield "quan-bias-too-large", poke_int("QUAN", 0, b.MAX_ACC), "layer 0, channel 0 has bias 1073741824 and multiplier 8192"
    yield "quan-bias-too-small", poke_int("QUAN", 0, -(1 << 31)), "layer 0, channel 0 has bias -2147483648 and multiplier 8192"
    yield "exit-empty", with_section(EXIT=b""), "section EXIT has 0 bytes"
    yield "exit-5", with_section(EXIT=sections()["EXIT"][:16] * 5), "section EXIT has 80 bytes"
    yield "exit-layer-0", poke_int("EXIT", 0, 0), "exit 0 lies behind layer 0 of 2"
    yield "exit-beyond-layers", poke_int("EXIT", 4, 3), "exit 1 lies behind layer 3 of 2"
    yield "exit-order-wrong", poke_int("EXIT", 4, 1), "exit 1 lies behind layer 1 of 2"
    yield "exit-pool-0", poke_int("EXIT", 1, 0), "exit 0 pools 4x4x4 by 0 and says 16 inputs"
    yield "exit-pool-larger-than-output", poke_int("EXIT", 5, 3), "exit 1 pools 2x2x4 by 3 and says 4 inputs"
    yield "exit-inputs-wrong", poke_int("EXIT", 2, 4 * CHANNELS - 1), "exit 0 pools 4x4x4 by 2 and says 15 inputs"
    yield "exit-inputs-501", _inputs_501(), "all exits together have 501 inputs"
    yield "rung-empty", with_section(RUNG=b""), "section RUNG has 0 bytes"
    yield "rung-17", with_section(RUNG=b"".join(ints(0, h, 4 * CHANNELS, 0) for h in range(17))), "section RUNG has 272 bytes"
    yield "rung-first-not-linear", poke_int("RUNG", 1, 1), "the first rung has 1 hidden units"
    yield "rung-exit-unknown", poke_int("RUNG", 8, 2), "rung 2 has exit 2 of 2 and 4 hidden units"
    yield "rung-inputs-wrong", _rung_inputs_wrong(), "rung 0 says 17 inputs and 0 hidden units"
    yield "rung-inputs-and-hidden-501", _inputs_and_hidden_501(), "rung 1 says 484 inputs and 17 hidden units"
    yield "rung-hidden-129", poke_int("RUNG", 9, 129), "rung 2 has exit 1 of 2 and 129 hidden units"
    yield "rung-twice", poke_int("RUNG", 5, 0), "rung 1 is not larger than the one before"
    yield (
        "rung-order-wrong",
        with_section(RUNG=ints(0, 0, 16, 0) + ints(1, 0, 20, 0) + ints(0, 4, 16, 0)),
        "rung 2 is not larger than the one before",
    )
    yield "rung-hidden-shrinks", poke_int("RUNG", 9, 3), "rung 2 is not larger than the one before"
    yield "plan-short", with_section(PLAN=sections()["PLAN"][:-4]), "section PLAN has 8 bytes"
    yield "plan-long", with_section(PLAN=sections()["PLAN"] + bytes(4)), "section PLAN has 16 bytes"
    yield "plan-negative", poke_int("PLAN", 0, -1), "section PLAN has the negative value -1"
    yield "head-short", with_section(HEAD=sections()["HEAD"][:-4]), "section HEAD has 132 bytes"
    yield "head-long", with_section(HEAD=sections()["HEAD"] + bytes(4)), "section HEAD has 140 bytes"
    yield "head-weight-too-large", poke_int("HEAD", 5, 1 << 23), "section HEAD has a weight over the limit of 8388607"
    yield "head-weight-too-small", poke_int("HEAD", 33, -(1 << 31)), "section HEAD has a weight over the limit of 8388607"
    yield "raws-short", with_section(RAWS=sections()["RAWS"][:-1]), "section RAWS has 191 bytes"
    yield "raws-long", with_section(RAWS=sections()["RAWS"] + b"\0"), "section RAWS has 193 bytes"


def _id_wrong() -> bytes:
    data = bytearray(_header(12, "<I", 0x12345678, seal=False))
    table = bytes(data[b.HEADER_BYTES : b.HEADER_BYTES + b.ENTRY_BYTES * 10])
    struct.pack_into("<I", data, 16, crc32(bytes(data[:16]) + bytes(4) + table))
    return bytes(data)


def _layr(kernel: int, stride: int, pad: int, out: tuple[int, int]) -> bytes:
    first = layer(b.CONV2D, (4, 4, 1), (*out, CHANNELS), kernel, stride, pad, 4, 15, 0, 0)
    return with_section(LAYR=first + sections()["LAYR"][64:])


def as_version_1(data: bytes) -> bytes:
    """A blob whose header says format 1, checksums right."""
    return reseal(data[:4] + struct.pack("<H", 1) + data[6:])


def tiny_version_1() -> bytes:
    """The tiny blob as format 1 had it: it uses nothing that format 2 added."""
    return as_version_1(tiny())


def _wide(kernel_h: int, kernel_w: int, pad: int, out: tuple[int, int]) -> bytes:
    first = layer(b.CONV2D, (4, 4, 1), (*out, CHANNELS), kernel_h, 1, pad, 4, 15, 0, 0, kernel_w)
    return _one_layer(first, (4, 4), CHANNELS, 1, out[0] * out[1] * CHANNELS, min(3, kernel_h))


def _width_and_bias() -> bytes:
    # 1 more than a kernel of 1x9 leaves room for, which a square one of 1x1 would
    first = layer(b.CONV2D, (1, 9, 1), (1, 1, CHANNELS), 1, 1, 0, 4, 15, 0, 0, 9)
    return _one_layer(first, (1, 9), CHANNELS, 1, CHANNELS, 3, b.MAX_ACC - 9 * (1 << 14) + 1)


def _depthwise(channels: int, out_c: int, weights: int) -> bytes:
    """The tiny network whose second layer is depthwise, with that many bytes of weights."""
    second = layer(b.DEPTHWISE2D, (4, 4, channels), (2, 2, out_c), 3, 2, 1, 5, 15, 9 * CHANNELS, 2 * CHANNELS)
    exits = sections()["EXIT"][:16] + ints(2, 2, out_c, 0)
    return with_section(
        LAYR=sections()["LAYR"][:64] + second,
        EXIT=exits,
        RUNG=sections()["RUNG"][:32] + ints(1, 4, 4 * CHANNELS + out_c, 0),
        WGHT=bytes(9 * CHANNELS + weights),
        QUAN=ints(*[0, 1] * (CHANNELS + out_c)),
    )


def signal() -> bytes:
    """A good blob of 8x1x1 signals: one conv1d, kernel (3, 1), pooled over 4 steps."""
    made = b.Blob(_signal_exit(2, 2))
    return b.pack(add_plan({kind: bytes(made.view(kind)) for kind in made.sections}))


def _signal_exit(k: int, steps: int, kernel: int = 3) -> bytes:
    width = 0 if kernel == 1 else 1
    first = layer(b.CONV2D, (8, 1, 1), (8, 1, CHANNELS), kernel, 1, kernel // 2, 4, 15, 0, 0, width)
    return _one_layer(first, (8, 1), CHANNELS, k, steps * CHANNELS, 3)


def _padding_is_kernel() -> bytes:
    # right in every other way: the border of the output sees nothing of the image
    conv = layer(b.CONV2D, (4, 4, 1), (6, 6, CHANNELS), 1, 1, 1, 4, 15, 0, 0)
    return with_section(LAYR=conv, EXIT=ints(1, 3, 4 * CHANNELS, 0), RUNG=ints(0, 0, 4 * CHANNELS, 0))


def _pool(pad: int, channels: int) -> bytes:
    side = (4 + 2 * pad - 2) // 2 + 1
    second = layer(b.MAXPOOL2D, (4, 4, CHANNELS), (side, side, channels), 2, 2, pad)
    exits = sections()["EXIT"][:16] + ints(2, side, channels, 0)
    rungs = sections()["RUNG"][:32] + ints(1, 4, 4 * CHANNELS + channels, 0)
    return with_section(LAYR=sections()["LAYR"][:64] + second, EXIT=exits, RUNG=rungs)


# Each of these is right in every way but the one: without the check of that rule, the blob would be taken.


def _section_twice() -> bytes:
    return reseal(b.pack({**sections(), "XTRA": sections()["META"]}).replace(b"XTRA", b"META", 1))


def _sample_too_large() -> bytes:
    # but that the first layer's input is an activation, which has the same limit
    first = layer(b.CONV2D, (128, 257, 1), (8, 17, CHANNELS), 1, 16, 0, 4, 15, 0, 0)
    return _one_layer(first, (128, 257), CHANNELS, 8, 2 * CHANNELS)


def _activation_too_large() -> bytes:
    # 32x32x1 is a sample of good size; 33 channels of it are more than an activation may have
    first = layer(b.CONV2D, (32, 32, 1), (32, 32, 33), 1, 1, 0, 4, 15, 0, 0)
    return _one_layer(first, (32, 32), 33, 32, 33)


def _kernel(size: int, pad: int, shape: tuple[int, int]) -> bytes:
    out = (shape[0] + 2 * pad - size + 1, shape[1] + 2 * pad - size + 1, CHANNELS)
    first = layer(b.CONV2D, (*shape, 1), out, size, 1, pad, 4, 15, 0, 0)
    return _one_layer(first, shape, CHANNELS, max(1, min(out[:2])), CHANNELS * (max(out[:2]) // max(1, min(out[:2]))), size)


def _one_layer(
    first: bytes, shape: tuple[int, int], channels: int, pool: int, inputs: int, kernel: int = 1, bias: int = 0
) -> bytes:
    """A network of one layer whose output is pooled, and one base class with one sample."""
    meta = {**META, "in_h": shape[0], "in_w": shape[1], "base_classes": 1, "base_per_class": 1}
    return with_section(
        META=b.pack_meta(**meta),
        NAME=b.pack_names(NAMES[:1]),
        LAYR=first,
        EXIT=ints(1, pool, inputs, 0),
        RUNG=ints(0, 0, inputs, 0),
        PLAN=bytes(4),
        WGHT=bytes(kernel * kernel * channels),
        QUAN=ints(*[bias, 1] * channels),
        HEAD=bytes(4 * (1 + inputs)),
        RAWS=bytes(shape[0] * shape[1]),
    )


def _channels_513() -> bytes:
    wide = layer(b.CONV2D, (4, 4, 1), (4, 4, 513), 1, 1, 0, 4, 15, 0, 0)
    narrow = layer(b.CONV2D, (4, 4, 513), (2, 2, 1), 1, 2, 0, 4, 15, 513, 2 * 513)
    return with_section(
        LAYR=wide + narrow,
        EXIT=ints(2, 2, 1, 0),
        RUNG=ints(0, 0, 1, 0),
        PLAN=bytes(4),
        WGHT=bytes(513 * 2),
        QUAN=ints(*[0, 1] * 514),
        HEAD=bytes(4 * 2 * 2),
    )


def _inputs_501() -> bytes:
    # no rung leaves at the second exit
    return _wide_exit(501 - 4 * CHANNELS, sections()["RUNG"][:32])


def _inputs_and_hidden_501() -> bytes:
    return _wide_exit(484 - 4 * CHANNELS, ints(0, 0, 4 * CHANNELS, 0) + ints(1, 17, 484, 0))


def _wide_exit(inputs: int, rungs: bytes) -> bytes:
    """The tiny network whose second exit adds that many inputs to the first one's 16; for two rungs."""
    wide = layer(b.CONV2D, (4, 4, CHANNELS), (2, 2, inputs), 1, 2, 0, 4, 15, 9 * CHANNELS, 2 * CHANNELS)
    return with_section(
        LAYR=sections()["LAYR"][:64] + wide,
        EXIT=sections()["EXIT"][:16] + ints(2, 2, inputs, 0),
        RUNG=rungs,
        PLAN=bytes(8),
        WGHT=bytes(9 * CHANNELS + inputs * CHANNELS),
        QUAN=ints(*[0, 1] * (CHANNELS + inputs)),
    )


def _rung_inputs_wrong() -> bytes:
    rungs = ints(0, 0, 4 * CHANNELS + 1, 640) + sections()["RUNG"][16:]
    return with_section(RUNG=rungs, HEAD=bytes(4 * 2 * (2 + 4 * CHANNELS)))


def files() -> dict[str, bytes]:
    """{path under tests/vectors: contents}; blobs.json says for each hostile blob what its refusal says."""
    made = {"tiny.tcb": tiny(), "tiny-format1.tcb": tiny_version_1(), "signal.tcb": signal()}
    expected = {}
    for name, data, fragment in hostile():
        path = f"blobs/{name}.tcb"
        assert path not in made, path
        made[path] = data
        expected[name] = fragment
    made["blobs.json"] = (json.dumps(expected, indent=1) + "\n").encode()
    return made


def main(write: Callable[[Path, bytes], object] = Path.write_bytes) -> None:
    (HERE / "blobs").mkdir(exist_ok=True)
    for old in (HERE / "blobs").glob("*.tcb"):
        old.unlink()
    for path, data in files().items():
        write(HERE / path, data)


if __name__ == "__main__":
    main()
