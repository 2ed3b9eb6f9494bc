"""Makes states/good.tcs, a small portable file (shared/STATE.md), and states/*.tcs, hostile ones that each break one rule;
their names say which, and states.json what the refusal of each says. `slot` is where a file breaks a rule of the state itself,
`file` where only the samples behind it are wrong. Depends on tinycl.shared. The files v1-* are what version 1 wrote: an agent
of that time with tiny.tcb and one class `one`, twelve samples of quadrants.raw; they cannot be made again, and no more can
v2-portable, which this file made at the time of version 2.

usage: python tests/vectors/make_states.py
"""

import json
import random
import struct
from binascii import crc32
from collections.abc import Iterator
from pathlib import Path

import make_blobs

from tinycl.shared import state

HERE = Path(__file__).parent / "states"
INPUTS, UNITS, PER_CLASS, EARLY = 16, 4, 6, 9
RAW = make_blobs.samples(2, PER_CLASS)
CLASSES = (("nord-östlich", 6, 0, 1), ("one", PER_CLASS, 7, crc32(RAW)))
LIMIT = (1 << 23) - 1


def weights(n: int) -> list[int]:
    rng = random.Random(5)
    return [rng.randrange(-LIMIT, LIMIT + 1) for _ in range(n)]


def entry(name: bytes, count: int, uid: int, crc: int) -> bytes:
    return struct.pack("<HHI", uid, count, crc) + bytes([len(name)]) + name


def slot(
    classes: tuple[tuple[str | bytes, int, int, int], ...] = CLASSES,
    inputs: int = INPUTS,
    units: int = UNITS,
    values: list[int] | None = None,
    more: bytes = b"",
    early: int = 0,
    sure: int = state.NEVER_SURE,
    **head: int,
) -> bytes:
    """A state whose parts fit its head but for what is given; `more` ends its body."""
    entries = b"".join(entry(n if isinstance(n, bytes) else n.encode(), *rest) for n, *rest in classes)
    count = len(classes) * (1 + inputs + units) + units * (1 + inputs) + (len(classes) * (1 + early) if early else 0)
    values = weights(count) if values is None else values
    rng = random.Random(6)
    latents = bytes(rng.randrange(128) for _ in range(sum(one[1] for one in classes) * inputs))
    body = entries + struct.pack(f"<{len(values)}i", *values) + latents + more
    fields = {
        "version": state.VERSION,
        "rung": 1,
        "sequence": 5,
        "blob": make_blobs.b.Blob(make_blobs.tiny()).id,
        "classes": len(classes),
        "inputs": inputs,
        "units": units,
        "next_uid": 8,
        "enrolments": 3,
        "bytes": len(body),
        "early": early,
        "sure": sure,
        **head,
    }
    return seal(struct.pack(state.HEAD_FORMAT, b"TCLS", *fields.values()) + body)


def seal(data: bytes) -> bytes:
    """With the CRC-32 behind it: hostile content that no CRC gives away."""
    return data + struct.pack("<I", crc32(data))


def good() -> bytes:
    """The portable file."""
    return slot(early=EARLY, sure=200) + RAW


def hostile() -> Iterator[tuple[str, bytes, str, bool]]:
    """(what is wrong, file, what the refusal says, whether the state itself is)."""
    whole = slot()
    size = len(whole)
    base, one = CLASSES
    count = 2 * (1 + INPUTS + UNITS) + UNITS * (1 + INPUTS)
    begin = "that do not begin as a learned state"
    yield "empty", b"", f"0 bytes {begin}", True
    yield "cut-in-head", whole[:20], f"20 bytes {begin}", True
    yield "cut-behind-head", whole[: state.HEAD_BYTES], f"a learned state of {size} bytes in 36", True
    yield "cut-by-one-byte", whole[:-1], f"a learned state of {size} bytes in {size - 1}", True
    yield "magic-wrong", b"TCLB" + whole[4:], f"{size} bytes {begin}", True
    yield "a-blob", make_blobs.tiny(), f"1076 bytes {begin}", True
    yield "version-0", slot(version=0), f"a learned state of version 0 in {size} bytes", True
    yield "version-1-in-the-new-form", slot(version=1), "a learned state of", True
    yield "version-4", slot(version=4), "a learned state of version 4, this side reads 1 to 3", True
    yield "version-4-damaged", slot(version=4)[:-1] + b"?", "a learned state of version 4, this side reads 1 to 3", True
    yield "version-65535", slot(version=65535), "a learned state of version 65535, this side reads 1 to 3", True
    yield "crc-wrong", whole[:-4] + b"\1\2\3\4", "stored is 0x04030201", True
    yield "bit-flipped", whole[:64] + bytes([whole[64] ^ 1]) + whole[65:], "with CRC-32 0x", True
    yield "body-shorter-than-it-is", slot(bytes=0), "a learned state of 40 bytes with CRC-32", True
    yield "body-longer-than-it-is", slot(bytes=size), f"a learned state of {size + 40} bytes in {size}", True
    yield "body-huge", slot(bytes=0xFFFFFFFF), f"a learned state of 4294967335 bytes in {size}", True
    yield "body-with-more", slot(more=b"\0"), f"a learned state of {size - 3} bytes whose parts need {size - 4}", True
    yield "classes-0", slot(classes=()), f"a learned state with 0 classes, {INPUTS} inputs, {UNITS} units", True
    yield "classes-65", slot(classes=tuple((f"c{k}", 1, k + 1, 0) for k in range(65))), "a learned state with 65 classes", True
    yield "classes-65535", poke(16, "<H", 65535), "with 65535 classes", True
    yield "classes-more-than-it-has", poke(16, "<H", 3), "bytes that are no text", True
    yield "classes-fewer-than-it-has", poke(16, "<H", 1), "bytes whose parts need", True
    yield "inputs-501", slot(inputs=501), "a learned state with 2 classes, 501 inputs", True
    yield "inputs-fewer-than-it-has", poke(18, "<H", INPUTS - 1), "bytes whose parts need", True
    yield "units-129", slot(units=129), f"a learned state with 2 classes, {INPUTS} inputs, 129 units", True
    yield "units-more-than-it-has", poke(20, "<H", UNITS + 1), "bytes whose parts need", True
    yield "early-more-than-inputs", slot(early=INPUTS + 1), f"{INPUTS + 1} of {INPUTS} inputs at the first exit", True
    yield "early-weights-missing", poke(32, "<H", 8), "bytes whose parts need", True
    yield "sure-without-a-head", slot(sure=254), f"0 of {INPUTS} inputs at the first exit, sure above 254", True
    yield "samples-0", slot(classes=(base, ("one", 0, 7, 0))), "class 1 of 2 has no samples", True
    yield "samples-more-than-it-has", poke(state.HEAD_BYTES + 2, "<H", 7), "bytes whose parts need", True
    yield "name-empty", slot(classes=(base, ("", *one[1:]))), "a name of 0 bytes", True
    yield "name-33-bytes", slot(classes=(base, ("n" * 33, *one[1:]))), "a name of 33 bytes", True
    yield "name-control-character", slot(classes=(base, ("\x1b[2J", *one[1:]))), "the control character 27", True
    yield "name-not-utf8", slot(classes=(base, (b"\xff\xfe", *one[1:]))), "a name of 2 bytes that are no text", True
    yield "name-twice", slot(classes=(base, (base[0], *one[1:]))), "2 classes of 1 different names", True
    yield "uid-twice", slot(classes=(one, ("two", *one[1:]))), "2 classes that keep 1 sets of samples", True
    yield "base-class-twice", slot(classes=(base, ("two", *base[1:]))), "2 classes that keep 1 sets of samples", True
    over = [*weights(count)[:-1], LIMIT + 1]
    yield "weight-too-large", slot(values=over), f"the limit is {LIMIT}", True
    yield "weight-too-small", slot(values=[-LIMIT - 1, *over[:-2], 0]), f"the limit is {LIMIT}", True
    yield "weight-least", slot(values=[-(1 << 31), *over[:-2], 0]), f"weights from {-(1 << 31)} to", True
    yield "weights-one-less", slot(values=weights(count - 1)), "bytes whose parts need", True
    yield "samples-missing", whole, "0 bytes of raw samples for 6 samples", False
    yield "samples-cut", whole + RAW[:-1], "bytes of raw samples for 6 samples", False
    yield "samples-with-more", whole + RAW + b"\0", "bytes of raw samples for 6 samples", False
    yield "samples-changed", whole + bytes([RAW[0] ^ 1]) + RAW[1:], "the 6 samples of class 'one' are not", False


def poke(at: int, layout: str, value: int) -> bytes:
    data = bytearray(slot()[:-4])
    struct.pack_into(layout, data, at, value)
    return seal(bytes(data))


def files() -> dict[str, bytes]:
    """{path under tests/vectors/states: contents}"""
    made = {"good.tcs": good()}
    said = {}
    for name, data, fragment, in_state in hostile():
        assert f"{name}.tcs" not in made, name
        made[f"{name}.tcs"] = data
        said[name] = [fragment, in_state]
    made["states.json"] = (json.dumps(said, indent=1) + "\n").encode()
    return made


def main() -> None:
    HERE.mkdir(exist_ok=True)
    for old in HERE.glob("*.tcs"):
        old.unlink()
    for path, data in files().items():
        (HERE / path).write_bytes(data)


if __name__ == "__main__":
    main()
