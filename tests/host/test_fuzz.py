"""Any bytes to any parser, on both sides: an error is a typed one, memory stays within what is announced. The targets are those
of tinycl.bench.fuzz, which `make bench` gives to atheris; the board's side is run by MicroPython itself."""

import random
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import make_blobs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinycl.bench import fuzz
from tinycl.link import client as client_module
from tinycl.link import link as link_module
from tinycl.link.client import fingerprint
from tinycl.shared import state as state_module
from tinycl.shared import wire

HOSTILE = sorted((Path(__file__).parent.parent / "vectors/blobs").glob("*.tcb"))
edits = st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=6), st.booleans()), max_size=4)


@pytest.fixture(autouse=True)
def waits_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target `host` shortens them for its process."""
    for module, names in ((link_module, fuzz.SHORT), (client_module, fuzz.SHORT_CLIENT)):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))


def edited(data: bytes, how: list[tuple[int, bytes, bool]]) -> bytes:
    out = bytearray(data)
    for where, what, insert in how:
        at = where % (len(out) + 1)
        out[at : at + (0 if insert else len(what))] = what
    return bytes(out)


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_any_bytes(target):
    @settings(max_examples=60 if target == "host" else 300, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=600))
    def run(data: bytes) -> None:
        fuzz.TARGETS[target](data)

    run()


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_good_bytes_with_faults(target):
    good = fuzz.seeds(target)

    @settings(max_examples=60 if target == "host" else 300, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(good), edits)
    def run(data: bytes, how: list[tuple[int, bytes, bool]]) -> None:
        fuzz.TARGETS[target](edited(data, how))

    run()


def test_good_bytes_are_good():
    """Otherwise the faults would never get further than the first check."""
    assert fuzz.Blob(fuzz.seeds("blob")[0]).base_classes == 2
    assert all(fuzz.sealed_blob(data) == data for data in fuzz.seeds("blob"))
    assert all(fuzz.sealed_state(data) == data for data in fuzz.seeds("learned"))
    assert fuzz.Learned(fuzz.seeds("learned")[0]).names == ["class 0", "class 1"]


@pytest.mark.parametrize("path", HOSTILE, ids=lambda p: p.stem)
def test_hostile_blobs(path):
    fuzz.blob(path.read_bytes())


def test_a_file_that_claims_much_takes_little():
    """A head that announces the most of everything: no parser makes room before it has seen the bytes."""
    head = struct.pack(
        state_module.HEAD_FORMAT,
        state_module.MAGIC,
        state_module.VERSION,
        *[0xFFFF, 1 << 31, 1],
        *[0xFFFF] * 4,
        0,
        0,
        0xFFFF,
        0,
    )
    huge = [head[:28] + struct.pack("<I", n) + head[32:] + bytes(100) for n in (0, 60, 0x7FFFFFFF, 0xFFFFFFFF)]
    blob = bytearray(fuzz.seeds("blob")[0])
    for at in range(0, 40, 4):
        blob[at + 8 : at + 12] = b"\xff\xff\xff\x7f"
        huge.append(bytes(blob))
    fuzz.sample_state()
    tracemalloc.start()
    try:
        for data in huge:
            for target in ("state", "learned", "blob"):
                fuzz.TARGETS[target](data)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


# the board


def requests(count: int, seed: int) -> list[bytes]:
    """Requests in any order: random ones of every kind, and good ones now and then, so that every state of the board is met."""
    rng = random.Random(seed)
    blob = make_blobs.tiny()
    kinds = [v for k, v in vars(wire).items() if k.isupper() and isinstance(v, int) and 0x10 <= v <= 0x41 and k != "SYNC"]
    out = []
    for _ in range(count):
        kind = rng.choice([*kinds, rng.randrange(256)])
        if kind in (wire.HELLO, wire.BYE, wire.ABORT) and rng.random() < 0.8:
            continue
        if rng.random() < 0.05:
            out.append(bytes((wire.OBJECT_OPEN,)) + struct.pack("<IIB", len(blob), fingerprint(blob), rng.randrange(2)))
            out += [bytes((wire.OBJECT_DATA,)) + blob[at : at + 500] for at in range(0, len(blob), 500)]
            out += [bytes((wire.OBJECT_CLOSE,)), bytes((wire.ACTIVATE,))]
        elif rng.random() < 0.1:
            n = rng.randrange(3, 13)
            out.append(bytes((wire.ENROL_OPEN,)) + struct.pack("<H", n) + b"class%d" % rng.randrange(9))
            out.append(bytes((wire.ENROL_DATA,)) + make_blobs.samples(rng.randrange(4), n))
            out += [bytes((wire.TRAIN,))] * rng.randrange(2)
        else:
            payload = rng.randbytes(rng.choice((0, 1, 2, 3, 7, 8, 9, 16, 33, 200, 900)))
            if rng.random() < 0.4:
                payload = bytes(rng.choice((0, 0, 1, 2, 255)) for _ in payload)
            if kind == wire.HELLO:
                payload = bytes((wire.VERSION,)) + payload[1:]  # a host of another version is refused everything
            out.append(bytes((kind,)) + payload)
    return [request for request in out if request[0] != wire.HELLO or request[1:2] == bytes((wire.VERSION,))]


@pytest.mark.parametrize("seed", range(3))
def test_any_request_at_any_time(on_board: Callable[..., str], flash: Path, seed):
    """Real MicroPython, a real agent: one answer to each, none of them INTERNAL, and no memory kept."""
    root = flash / f"fuzz{seed}"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    said = on_board("fuzz.py", f"{root.name}/", stdin="".join(r.hex() + "\n" for r in requests(1500, seed)))
    assert said.splitlines()[-1].startswith("0 bad"), said
    codes = said.splitlines()[-1]
    for code in ("(0,", "(2,", "(4,", "(6,", "(8,", "(13,"):
        assert code in codes, codes  # answered OK, and refused in every way that there is
    assert int(codes.split()[2]) < 60_000, codes  # a blob's plan, at most


def test_any_stream_on_the_board(on_board: Callable[..., str]):
    """The decoder under MicroPython: as on the host, in a heap of 48 kB, of which no stream keeps anything."""
    rng = random.Random(4)
    lines = []
    for _ in range(400):
        data = b""
        while len(data) < 250:
            frame = wire.encode(rng.randrange(256), rng.randrange(256), rng.randbytes(rng.choice((0, 3, 40, 120))))
            how = [(rng.randrange(200), rng.choice((b"\x7e", b"\x03", b"\x7d", rng.randbytes(3))), rng.random() < 0.5)]
            data += edited(frame, how if rng.random() < 0.6 else [])
            data += rng.choice((b"", rng.randbytes(9), b"\x7e" * 20, b"\x7e\x81\x80\xd4"))
        lines.append(data[:500].hex())
    said = on_board("fuzz.py", "decoder", stdin="\n".join(lines) + "\n", heap_kib=48)
    bad, _, most = said.split()[:3]
    assert bad == "0" and int(most) < 256, said
