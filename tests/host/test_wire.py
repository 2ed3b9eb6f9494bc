"""The wire format: every payload comes back, nothing forbidden is on the line, and no noise makes the decoder raise, invent a
frame, outgrow its buffer or stay lost. The vectors are checked here and by MicroPython itself."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import make_wire
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinycl.link.pieces import pieces
from tinycl.shared import wire

VECTORS = Path(__file__).parent.parent / "vectors"
CASES = json.loads((VECTORS / "wire.json").read_text())
LINES = [case for case in CASES if "line" in case]
STREAMS = [case for case in CASES if "stream" in case]
SIZES = (0, 1, 63, 64, 65, 127, 128, 511, 512, 513)
BUFFER = 2048
LONGEST = (BUFFER - wire.HEAD_BYTES) // 2 - wire.MIN_BODY  # whose frame fits even if every byte of it has to be escaped
Frame = tuple[int, int, bytes]

byte = st.integers(0, 255)
# bytes that the format gives a meaning come up far more often than one in 256
tricky = st.lists(st.sampled_from([0x03, 0x0A, 0x23, 0x5D, 0x5E, 0x7D, 0x7E, 0x80, 0xD5, 0xFF, 0]), max_size=80).map(bytes)
payloads = st.one_of(
    st.binary(max_size=200), tricky, st.tuples(byte, st.sampled_from(SIZES)).map(lambda t: bytes([t[0]]) * t[1])
)
frames = st.tuples(byte, byte, payloads)


def in_pieces(decoder: wire.Decoder, data: bytes, cuts: list[int]) -> list[Frame]:
    """Feeds data cut at the given places; after each piece the decoder is within its bounds."""
    found = []
    edges = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    for start, end in pairwise(edges):
        found += decoder.feed(data[start:end])
        assert 0 <= decoder.n <= len(decoder.buffer)
        assert 1 <= decoder.need() <= len(decoder.buffer) - decoder.n
    return found


def test_vectors_are_what_their_maker_makes():
    assert (VECTORS / "wire.json").read_text() == make_wire.contents()


@pytest.mark.parametrize("case", LINES, ids=lambda case: case["name"])
def test_vector_frame(case):
    frame = (case["kind"], case["seq"], bytes.fromhex(case["payload"]))
    assert wire.encode(*frame).hex() == case["line"]
    assert wire.Decoder(BUFFER).feed(bytes.fromhex(case["line"])) == [frame]


@pytest.mark.parametrize("case", STREAMS, ids=lambda case: case["name"])
def test_vector_stream(case):
    data = bytes.fromhex(case["stream"])
    want = [(kind, seq, bytes.fromhex(payload)) for kind, seq, payload in case["frames"]]
    assert wire.Decoder(case["buffer"]).feed(data) == want
    assert in_pieces(wire.Decoder(case["buffer"]), data, list(range(len(data)))) == want


def test_vectors_on_the_board(on_board: Callable[..., str]):
    assert "0 failed" in on_board("test_wire.py", "wire.json")


@pytest.mark.parametrize("value", [0x03, 0x0A, 0x7D, 0x7E, 0x00, 0xFF])
@pytest.mark.parametrize("size", [*SIZES, LONGEST])
def test_one_value_in_every_size(value, size):
    line = wire.encode(wire.OBJECT_DATA, 9, bytes([value]) * size)
    assert len(line) <= BUFFER and 0x03 not in line
    assert wire.Decoder(BUFFER).feed(line) == [(wire.OBJECT_DATA, 9, bytes([value]) * size)]


@given(st.integers(64, wire.HEAD_BYTES + wire.MAX_BODY), byte, st.binary(max_size=4000) | st.just(b"\x03\x7d\x7e" * 800))
def test_pieces_fit_their_window_whatever_has_to_be_escaped(window, seq, data):
    parts = list(pieces(data, window))
    assert b"".join(parts) == data
    assert all(part and len(wire.encode(0x7E, seq, part)) <= window for part in parts)


def test_a_payload_over_the_limit_is_refused_with_numbers():
    assert wire.encode(1, 2, bytes(wire.MAX_BODY - wire.MIN_BODY))
    with pytest.raises(ValueError, match=str(wire.MAX_BODY)):
        wire.encode(1, 2, b"\x01" * (wire.MAX_BODY - wire.MIN_BODY + 5))


@given(frames)
def test_a_frame_is_its_line_and_back(frame):
    line = wire.encode(*frame)
    assert line == make_wire.line(*frame)
    assert 0x03 not in line
    assert line.rfind(bytes([wire.SYNC])) == 0  # where a frame begins, and nowhere else
    assert wire.Decoder(BUFFER).feed(line) == [frame]


@given(st.lists(frames, max_size=6), st.lists(st.integers(0, 4000), max_size=12))
def test_any_split_gives_the_same_frames(sent, cuts):
    decoder = wire.Decoder(BUFFER)
    assert in_pieces(decoder, b"".join(wire.encode(*f) for f in sent), cuts) == sent
    assert (decoder.n, decoder.skipped, decoder.crc_errors) == (0, 0, 0)


# (how, where, what): one fault on the line
faults = st.lists(
    st.tuples(
        st.sampled_from(["flip", "drop", "insert", "repeat", "cut"]), st.integers(0, 10_000), st.binary(min_size=1, max_size=24)
    ),
    max_size=6,
)


def damaged(data: bytes, how: list[tuple[str, int, bytes]]) -> bytes:
    out = bytearray(data)
    for kind, where, what in how:
        at = where % (len(out) + 1)
        if kind == "flip" and at < len(out):
            out[at] ^= what[0] or 1
        elif kind == "drop":
            del out[at : at + 1]
        elif kind == "insert":
            out[at:at] = what
        elif kind == "repeat":
            out[at:at] = out[max(0, at - len(what)) : at]
        elif kind == "cut":
            del out[at : at + 8 * len(what)]
    return bytes(out)


@settings(max_examples=300)
@given(st.lists(frames, max_size=5), faults, st.lists(st.integers(0, 4000), max_size=8), st.integers(70, 600))
def test_noise_never_makes_a_frame_and_never_keeps_one_away(sent, how, cuts, size):
    decoder = wire.Decoder(size)
    noise = damaged(b"".join(wire.encode(*f) for f in sent), how)
    for frame in in_pieces(decoder, noise, cuts):
        assert frame in sent
    # A length left over from the noise may claim up to a buffer of what follows. Once that much has come, every single
    # frame behind the noise is found.
    marker = (wire.STATUS, 77, b"marker")
    line = wire.encode(*marker)
    count = size // len(line) + 2
    after = decoder.feed(line * count)
    assert set(after) <= {marker, *sent}
    assert after[-count:] == [marker] * count
    assert decoder.n == 0


@settings(max_examples=300)
@given(st.binary(max_size=1500), st.lists(st.integers(0, 4000), max_size=8))
def test_random_bytes_are_no_frames(noise, cuts):
    decoder = wire.Decoder(256)
    assert in_pieces(decoder, noise, cuts) == []
    decoder.feed(bytes([wire.SYNC]) * 256)  # the filler ends whatever length the noise claimed
    assert decoder.feed(wire.encode(1, 2, b"three")) == [(1, 2, b"three")]


@given(frames, frames, st.integers(1, 3))
def test_a_broken_frame_gives_back_what_it_swallowed(one, two, more):
    # the header claims the whole of the second frame and some bytes of the third
    body = wire.encode(*one)[wire.HEAD_BYTES :]
    second, third = wire.encode(*two), wire.encode(*one)
    claim = len(body) + len(second) + more
    decoder = wire.Decoder(4096)
    stream = make_wire.head(claim) + body + second + third
    assert decoder.feed(stream) == [two, one]
    assert decoder.crc_errors == 1


def test_a_long_filler_is_passed_at_once():
    class Counting(wire.Decoder):
        steps = 0

        def _resync(self, start):
            self.steps += 1
            super()._resync(start)

    decoder = Counting(BUFFER)
    decoder.feed(make_wire.head(2000))
    assert decoder.feed(bytes([wire.SYNC]) * 2000) == []
    assert decoder.n == 1 and decoder.steps == 1  # the last one may begin a frame
    assert decoder.feed(wire.encode(1, 2, b"x")) == [(1, 2, b"x")]
