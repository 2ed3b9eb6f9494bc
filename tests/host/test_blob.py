"""The blob format: the good vector is read right, every hostile one refused with FormatError and nothing else, here and by
MicroPython itself; and whatever is accepted is safe for kernels that take raw pointers."""

import json
import re
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import make_blobs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinycl.shared import blob as b
from tinycl.shared import fixed, plan
from tinycl.shared.errors import FormatError, PlanError

VECTORS = Path(__file__).parent.parent / "vectors"
HOSTILE = sorted((VECTORS / "blobs").glob("*.tcb"))
EXPECTED = json.loads((VECTORS / "blobs.json").read_text())
GOOD = make_blobs.tiny()


def accepted(data: bytes) -> b.Blob | None:
    """The blob, or None where it was refused; any other exception fails the test."""
    try:
        return b.Blob(data)
    except FormatError as e:
        assert e.code == 2 and ": " in e.text
        return None


# vectors


def test_vectors_are_what_their_maker_makes():
    found = {str(p.relative_to(VECTORS)): p.read_bytes() for p in [*VECTORS.glob("*.tcb"), *HOSTILE, VECTORS / "blobs.json"]}
    assert found == make_blobs.files()


def test_vectors_stay_small():
    assert sum(p.stat().st_size for p in HOSTILE) < 250_000


@pytest.mark.parametrize("path", HOSTILE, ids=lambda p: p.stem)
def test_hostile_blob_is_refused(path):
    """By the rule that its name says, not by another one."""
    said = re.escape(EXPECTED[path.stem])
    with pytest.raises(FormatError, match=said):
        b.Blob(path.read_bytes())
    with path.open("rb") as f, pytest.raises(FormatError, match=said):
        b.Blob(f)


def test_vectors_on_the_board(on_board: Callable[..., str]):
    assert "0 failed" in on_board("test_blob.py", str(VECTORS))


def test_a_signal_is_pooled_over_time():
    blob = b.Blob(make_blobs.signal())
    assert blob.features == [2 * make_blobs.CHANNELS]  # 8 steps by 2 x 2
    check_memory(blob)


def test_the_good_blob_is_read_right():
    blob = b.Blob(GOOD)
    assert blob.names == list(make_blobs.NAMES)
    assert {name: getattr(blob, name) for name in b.META_FIELDS} == {**make_blobs.META, "dataset": "quadrants"}
    assert bytes(blob.view("RAWS")) == make_blobs.samples(0, 6) + make_blobs.samples(1, 6)
    assert blob.features == [16, 20]
    assert all(at % b.ALIGN == 0 for at, _, _ in blob.sections.values())


def test_a_file_over_the_limit_is_refused_before_it_is_read():
    big = GOOD + bytes(b.MAX_BLOB_BYTES)
    with pytest.raises(FormatError, match=str(b.MAX_BLOB_BYTES)):
        b.Blob(big)


def test_sections_of_unknown_type_are_left_alone():
    assert b.Blob(b.pack({**make_blobs.sections(), "XTRA": b"later"})).names == list(make_blobs.NAMES)


def test_reading_outside_a_section_is_refused():
    blob = b.Blob(GOOD)
    n = blob.section_bytes("RAWS")
    for start, length in ((-1, 1), (n, 1), (0, n + 1), (n - 3, 4)):
        with pytest.raises(FormatError):
            blob.read("RAWS", bytearray(length), length, start)
    with pytest.raises(FormatError):
        blob.section_bytes("NONE")


@pytest.mark.parametrize("name", ["", "x" * 33, "ä" * 17, "a\nb", "a\x7fb", "a\x85b", "\udcff", "a\x00"])
def test_names_that_are_refused(name):
    with pytest.raises(FormatError):
        b.check_name(name)


@given(st.text(min_size=1, max_size=8, alphabet=st.characters(exclude_categories=["Cc", "Cs"])))
def test_names_that_are_taken(name):
    b.check_name(name)
    assert b.Blob(make_blobs.with_section(NAME=b.pack_names([name, name + "!"]))).names == [name, name + "!"]


# mutations


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(1, 255)), max_size=4),
    st.integers(0, len(GOOD) - 1),
    st.booleans(),
)
def test_flipped_and_cut(flips, length, whole):
    data = bytearray(GOOD)
    for at, value in flips:
        data[at] ^= value
    blob = accepted(bytes(data if whole else data[:length]))
    if blob:
        # only what no section covers, the padding between them, may differ unnoticed
        assert whole
        for kind in b.Blob(GOOD).sections:
            assert bytes(blob.view(kind)) == bytes(b.Blob(GOOD).view(kind))


@settings(max_examples=300)
@given(st.binary(max_size=400), st.booleans())
def test_random_bytes(noise, with_header):
    accepted(GOOD[:12] + noise if with_header else noise)
    assert accepted(noise) is None


@settings(max_examples=300)
@given(st.integers(0, 8), st.integers(0, 2), st.integers(0, 0xFFFFFFFF), st.integers(0, 20))
def test_table_edits_with_right_checksums(entry, field, value, count):
    data = bytearray(GOOD)
    struct.pack_into("<H", data, 6, count if field == 0 else 9)
    struct.pack_into("<I", data, b.HEADER_BYTES + b.ENTRY_BYTES * entry + 4 * field, value)
    blob = accepted(make_blobs.reseal(bytes(data)))
    if blob:
        check_memory(blob)


edges = st.sampled_from(
    [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 127, 128, 255, 256, 511, 512, 513, 1 << 15, 1 << 20, 1 << 30]
)
ints32 = st.one_of(edges, st.integers(0, 40), st.integers(-(1 << 31), (1 << 31) - 1))
near = st.integers(-3, 3)


@settings(max_examples=500)
@given(
    st.lists(
        st.tuples(st.sampled_from(["LAYR", "EXIT", "RUNG", "QUAN", "HEAD"]), st.integers(0, 63), ints32, near),
        min_size=1,
        max_size=4,
    )
)
def test_ints_edited_with_right_checksums(edits):
    parts = make_blobs.sections()
    for kind, number, value, step in edits:
        data = bytearray(parts[kind])
        at = 4 * number % len(data)
        old = struct.unpack_from("<i", data, at)[0]
        struct.pack_into("<i", data, at, old + step if step and abs(old) < 1 << 30 else value)
        parts[kind] = bytes(data)
    blob = accepted(b.pack(parts))
    if blob:
        check_memory(blob)


@settings(max_examples=300)
@given(st.binary(min_size=b.META_BYTES, max_size=b.META_BYTES), st.integers(0, b.META_BYTES))
def test_meta_edited_with_right_checksums(noise, keep):
    meta = make_blobs.sections()["META"]
    blob = accepted(make_blobs.with_section(META=meta[:keep] + noise[keep:]))
    if blob:
        check_memory(blob)


# networks made at random, in a form that is right or nearly so


@st.composite
def networks(draw: st.DrawFn) -> dict[str, bytes]:
    """Sections of a consistent network with up to five layers, then one number of it changed half of the time."""
    h, w, c = draw(st.integers(1, 12)), draw(st.integers(1, 12)), draw(st.integers(1, 3))
    meta = {"in_h": h, "in_w": w, "in_c": c, "base_per_class": 1, "max_classes": draw(st.integers(2, 5))}
    layers: list[list[int]] = []
    exits: list[list[int]] = []
    quant: list[int] = []
    weight_bytes = 0
    for i in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from([b.CONV2D, b.CONV2D, b.DEPTHWISE2D, b.MAXPOOL2D]))
        k, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        kw = k if kind == b.MAXPOOL2D or draw(st.booleans()) else draw(st.integers(1, 5))
        pad = 0 if kind == b.MAXPOOL2D else draw(st.integers(0, min([side for side in (k, kw) if side > 1], default=1) - 1))
        pad_h, pad_w = pad * (k > 1), pad * (kw > 1)
        if h + 2 * pad_h < k or w + 2 * pad_w < kw:
            k, kw, pad, pad_h, pad_w = 1, 1, 0, 0, 0
        oh, ow = (h + 2 * pad_h - k) // stride + 1, (w + 2 * pad_w - kw) // stride + 1
        if kind == b.MAXPOOL2D:
            layers.append([kind, h, w, c, oh, ow, c, k, stride, 0, 0, 0, 0, 0, 0, 0])
        else:
            oc = c if kind == b.DEPTHWISE2D else draw(st.integers(1, 4))
            layers.append([kind, h, w, c, oh, ow, oc, k, stride, pad, 2, 9, weight_bytes, len(quant), 0 if kw == k else kw, 0])
            weight_bytes += k * kw * oc * (1 if kind == b.DEPTHWISE2D else c)
            quant += [draw(st.integers(-500, 500)), 1000] * oc
            c = oc
        h, w = oh, ow
        if draw(st.booleans()) and len(exits) < b.MAX_EXITS:
            exits.append([i + 1, *_pooled(h, w, c, draw(st.integers(1, 12))), 0])
    if not exits:
        exits.append([len(layers), *_pooled(h, w, c, 12), 0])
    features = [sum(e[2] for e in exits[: i + 1]) for i in range(len(exits))]
    rungs = [[0, 0, features[0], 0]] + [[i, 3, features[i], 0] for i in range(len(exits))]
    tables = {"LAYR": layers, "EXIT": exits, "RUNG": rungs}
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["LAYR", "LAYR", "EXIT", "RUNG"]))
        row = draw(st.integers(0, len(tables[kind]) - 1))
        tables[kind][row][draw(st.integers(0, len(tables[kind][row]) - 1))] += draw(st.integers(-2, 3))
    return {
        **make_blobs.parts(**meta),
        "PLAN": bytes(4 * len(rungs)),
        **{kind: make_blobs.ints(*[v for row in rows for v in row]) for kind, rows in tables.items()},
        "WGHT": bytes(weight_bytes),
        "QUAN": make_blobs.ints(*quant),
        "HEAD": bytes(4 * 2 * (1 + features[0])),
        "RAWS": bytes(2 * meta["in_h"] * meta["in_w"] * meta["in_c"]),
    }


def _pooled(h: int, w: int, c: int, k: int) -> tuple[int, int]:
    """(pool, inputs) of an exit on h x w x c, the pool at most k; k * k steps of a signal."""
    while k > 1 and (k * k > h * w if min(h, w) == 1 else k > min(h, w)):
        k -= 1
    return k, (h * w // (k * k) if min(h, w) == 1 else (h // k) * (w // k)) * c


@settings(max_examples=400)
@given(networks())
def test_networks(parts):
    blob = accepted(b.pack(parts))
    if blob:
        check_memory(blob)


@settings(max_examples=200)
@given(networks())
def test_format_1_takes_what_format_2_did_not_add(parts):
    """Read as format 1, a blob is taken where it uses nothing new, and says the same then."""
    blob = accepted(b.pack(parts))
    layers = [tuple(blob.layers[i : i + b.LAYER_INTS]) for i in range(0, len(blob.layers), b.LAYER_INTS)] if blob else []
    old = accepted(make_blobs.as_version_1(b.pack(parts)))
    signal = any(
        min(layers[blob.exits[i] - 1][b.OUT_H : b.OUT_W + 1]) == 1 and blob.exits[i + 1] > 1
        for i in (range(0, len(blob.exits), b.EXIT_INTS) if blob else ())
    )
    new = any(d[b.OP] == b.DEPTHWISE2D or (d[b.OP] != b.MAXPOOL2D and d[b.KERNEL_W]) for d in layers)
    assert (old is not None) == (blob is not None and not new and not signal)
    if old and blob:
        assert (old.layers, old.exits, old.features, old.depths) == (blob.layers, blob.exits, blob.features, blob.depths)


def test_format_1_still_loads():
    """The file as format 1 left it: never made anew in another form."""
    old, new = b.Blob((VECTORS / "tiny-format1.tcb").read_bytes()), b.Blob(GOOD)
    assert (old.version, new.version) == (1, 2) and old.id == new.id
    for name in (*b.META_FIELDS, "names", "layers", "exits", "rungs", "plan", "sample_bytes", "depths"):
        assert getattr(old, name) == getattr(new, name), name
    assert old.early_epochs == 0  # format 1 has no head of its own for the first exit


# what the kernels touch


class Region:
    """A buffer of so many items that remembers how far it was read and written."""

    def __init__(self, items: int):
        self.items = items

    def touch(self, first: int, last: int) -> None:
        assert 0 <= first <= last < self.items, f"{first}..{last} of {self.items}"


def check_memory(blob: b.Blob) -> None:
    """Walks over everything that the learner's kernels read and write for this blob, at every rung that a plan may end at,
    and holds each access against the buffers that shared/plan.py allocates. Written from the text of the kernels'
    interface (device/kernels/plain.py) and of BLOB.md, not from the checks of shared/blob.py."""
    rungs = [tuple(blob.rungs[i : i + b.RUNG_INTS]) for i in range(0, len(blob.rungs), b.RUNG_INTS)]
    for top in range(len(rungs)):
        room = {name: Region(items) for name, _, items in plan.buffers(blob, top)}
        assert all(r.items >= 0 for r in room.values())
        inputs = rungs[top][2]
        room["sample"].touch(0, blob.in_h * blob.in_w * blob.in_c - 1)
        rows = [("features", 0)]
        for c, i in ((0, 0), (blob.base_classes - 1, blob.base_per_class - 1), (blob.max_classes - 1, blob.per_class - 1)):
            rows.append(("replay", (c * blob.per_class + i) * inputs))
        rows += [("stage", 0), ("stage", (blob.max_samples - 1) * inputs)]
        for leave, hidden, n, _ in rungs[: top + 1]:
            for name, at in rows:
                assert _walk(blob, room, leave, room[name], at) == n <= inputs
            w_stride, u_stride = 1 + inputs + rungs[top][1], 1 + inputs
            room["head"].touch(0, (blob.max_classes - 1) * w_stride + 1 + inputs + hidden - 1)
            if hidden:
                room["hidden"].touch(0, (hidden - 1) * u_stride + n)
                room["hidden_errors"].touch(0, hidden - 1)
                room["features"].touch(inputs, inputs + hidden - 1)
            room["logits"].touch(0, blob.max_classes - 1)
            room["errors"].touch(0, blob.max_classes - 1)
            room["sums"].touch(0, n - 1)
        assert room["head_before"].items == room["head"].items and room["hidden_before"].items == room["hidden"].items
    weights = struct.unpack(f"<{blob.section_bytes('HEAD') // 4}i", blob.view("HEAD"))
    assert all(abs(w) <= fixed.W_MAX for w in weights)


def _walk(blob: b.Blob, room: dict[str, Region], leave: int, out: Region, at: int) -> int:
    """The latents of exits 0..leave: every first and last byte that conv2d and maxpool2d touch; returns bytes written."""
    start = at
    source = room["sample"]
    quant = struct.unpack(f"<{blob.section_bytes('QUAN') // 4}i", blob.view("QUAN"))
    shape = (blob.in_h, blob.in_w, blob.in_c)
    done = 0
    for e in range(leave + 1):
        count, k, _, _ = blob.exits[e * b.EXIT_INTS : (e + 1) * b.EXIT_INTS]
        while done < count:
            d = blob.layers[done * b.LAYER_INTS : (done + 1) * b.LAYER_INTS]
            target = room["activation_b" if done & 1 else "activation_a"]
            assert tuple(d[b.IN_H : b.IN_C + 1]) == shape
            if d[b.OP] in (b.CONV2D, b.DEPTHWISE2D):
                _conv(d, quant, source, room, target)
            else:
                assert d[b.OP] == b.MAXPOOL2D
                _pool(shape, d[b.KERNEL], d[b.STRIDE], source, target, 0)
            source, shape = target, tuple(d[b.OUT_H : b.OUT_C + 1])
            done += 1
        h, w, c = shape
        view = (h * w // k, k, c) if min(h, w) == 1 else shape  # what device/backbone.py gives to the pool
        at = _pool(view, k, k, source, out, at)
    return at - start


def _conv(d, quant: tuple[int, ...], source: Region, room: dict[str, Region], target: Region) -> None:
    in_h, in_w, in_c, out_h, out_w, out_c, kernel_h, stride, pad, shift1, shift2, w_at, q_at, kernel_w = d[1:15]
    kernel_w = kernel_w or kernel_h
    pad_h, pad_w = pad if kernel_h > 1 else 0, pad if kernel_w > 1 else 0
    assert 0 <= shift1 < 31 and 1 <= shift2 < 31 and max(kernel_h, kernel_w, stride) <= 16
    for oy in range(out_h):
        rows = [y for y in range(oy * stride - pad_h, oy * stride - pad_h + kernel_h) if 0 <= y < in_h]
        for ox in (0, out_w - 1):
            columns = [x for x in range(ox * stride - pad_w, ox * stride - pad_w + kernel_w) if 0 <= x < in_w]
            assert rows and columns  # a run of no bytes would make viper's loop ends meet before its start
            source.touch((rows[0] * in_w + columns[0]) * in_c, (rows[-1] * in_w + columns[-1]) * in_c + in_c - 1)
    depthwise = d[b.OP] == b.DEPTHWISE2D
    assert not depthwise or out_c == in_c  # the kernels take the channel of the output for that of the input
    room["weights"].touch(w_at, w_at + out_c * kernel_h * kernel_w * (1 if depthwise else in_c) - 1)
    room["quant"].touch(q_at, q_at + 2 * out_c - 1)
    worst = max(abs(v) for v in quant[q_at : q_at + 2 * out_c : 2])
    assert worst + kernel_h * kernel_w * (1 if depthwise else in_c) * (1 << 14) <= 1 << 30  # sums stay in 32 bits
    target.touch(0, out_h * out_w * out_c - 1)


def _pool(shape: tuple[int, ...], k: int, stride: int, source: Region, target: Region, at: int) -> int:
    h, w, c = shape
    oh, ow = (h - k) // stride + 1, (w - k) // stride + 1
    assert oh >= 1 and ow >= 1 and k >= 1 and stride >= 1
    source.touch(0, (((oh - 1) * stride + k - 1) * w + (ow - 1) * stride + k - 1) * c + c - 1)
    target.touch(at, at + oh * ow * c - 1)
    return at + oh * ow * c


def test_the_bounds_check_can_fail():
    blob = b.Blob(GOOD)
    check_memory(blob)
    blob.layers[b.OUT_C] += 1  # as if the check of the chain were missing
    with pytest.raises(AssertionError):
        check_memory(blob)


# memory


def test_a_hostile_blob_allocates_little():
    for path in HOSTILE:
        data = path.read_bytes()
        tracemalloc.start()
        accepted(data)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 64_000, path.stem


def test_the_plan_ends_where_memory_does():
    blob = b.Blob(GOOD)
    need = [plan.total_bytes(plan.buffers(blob, top)) for top in range(3)]
    assert need == sorted(need)
    for top in range(3):
        assert plan.fit(blob, need[top] + plan.RESERVE_BYTES)[0] == top
    with pytest.raises(PlanError, match=str(need[0])):
        plan.fit(blob, need[0] + plan.RESERVE_BYTES - 1)


def test_the_plan_is_the_same_on_the_board(on_board: Callable[..., str]):
    code = (
        "from shared import blob as b, plan\n"
        f"x = b.Blob(open({str(VECTORS / 'tiny.tcb')!r}, 'rb'))\n"
        "print([plan.buffers(x, top) for top in range(3)])"
    )
    blob = b.Blob(GOOD)
    assert eval(on_board("-c", code)) == [plan.buffers(blob, top) for top in range(3)]
