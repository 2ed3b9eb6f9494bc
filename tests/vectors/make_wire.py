"""Makes wire.json: frames with the line each must become, and streams of bytes, clean and noisy, with the frames that must
come out of them. The encoder here works byte by byte from the text of shared/WIRE.md and shares no code with shared/wire.py.

usage: python tests/vectors/make_wire.py
"""

import json
import random
from pathlib import Path

HERE = Path(__file__).parent
SIZES = (0, 1, 2, 57, 58, 63, 64, 65, 127, 128, 129, 255, 256, 511, 512, 513)
Frame = tuple[int, int, bytes]


def crc32(data: bytes) -> int:
    """CRC-32 as WIRE.md writes it out, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def line(kind: int, seq: int, payload: bytes, wrong: int = 0) -> bytes:
    """The bytes of a frame; wrong: a number that is xored into its checksum."""
    body = bytes([kind, seq]) + payload
    body += (crc32(body) ^ wrong).to_bytes(4, "little")
    out = bytearray()
    for byte in body:
        out += {0x7D: b"\x7d\x5d", 0x7E: b"\x7d\x5e", 0x03: b"\x7d\x23"}.get(byte, bytes([byte]))
    return head(len(out)) + bytes(out)


def head(n: int) -> bytes:
    hi, lo = n // 128, n % 128
    return bytes([0x7E, 0x80 + hi, 0x80 + lo, 0x80 + (hi ^ lo ^ 0x55)])


def frames() -> list[dict[str, object]]:
    rng = random.Random(5)
    made: list[tuple[str, Frame]] = [
        ("all bytes", (0x21, 0, bytes(range(256)))),
        ("escapes in a row", (0x21, 3, b"\x7d\x23\x7d\x5e\x7d\x5d\x7d\x7d\x7e\x03")),
        ("escape codes alone", (0x21, 0x7E, b"\x23\x5e\x5d")),
        ("type and number escaped", (0x7D, 0x03, b"")),
        ("checksum escaped", (0x21, 0, _payload_with_escaped_crc())),
    ]
    for n in SIZES:
        made.append((f"{n} times 0x03", (0x21, n & 255, b"\x03" * n)))
        made.append((f"{n} times 0x0A", (0x31, n & 255, b"\x0a" * n)))
        made.append((f"{n} random bytes", (0x41, n & 255, rng.randbytes(n))))
    return [
        {"name": name, "kind": kind, "seq": seq, "payload": payload.hex(), "line": line(kind, seq, payload).hex()}
        for name, (kind, seq, payload) in made
    ]


def _payload_with_escaped_crc() -> bytes:
    for n in range(1 << 16):
        payload = n.to_bytes(2, "big")
        if set(crc32(b"\x21\x00" + payload).to_bytes(4, "little")) & {0x03, 0x7D, 0x7E}:
            return payload
    raise AssertionError("no such payload")


def streams() -> list[dict[str, object]]:
    a: Frame = (0x21, 1, b"first")
    c: Frame = (0x22, 2, b"second \x03\x7d\x7e")
    e: Frame = (0x81, 3, bytes(range(40)))
    la, lc, le = line(*a), line(*c), line(*e)
    flipped = bytearray(lc)
    flipped[7] ^= 0x10
    longer = head(len(la) - 4 + len(lc) + 3) + la[4:]  # a length that swallows the next frame and a part of the third
    made: list[tuple[str, bytes, list[Frame], int]] = [
        ("nothing", b"", [], 64),
        ("three frames", la + lc + le, [a, c, e], 64),
        ("console text before", b"MPY: soft reboot\r\n" + la, [a], 64),
        ("console text between", la + b"Traceback (most recent call last):\r\n" + lc, [a, c], 64),
        ("zeros and line ends", bytes(40) + la + b"\r\n" * 20 + lc, [a, c], 64),
        ("high bytes", b"\xff" * 40 + la + b"\x80" * 9 + lc, [a, c], 64),
        ("filler of SYNC", b"\x7e" * 300 + la + b"\x7e" * 3 + lc, [a, c], 64),
        ("a bit flipped", la + bytes(flipped) + le, [a, e], 64),
        ("checksum wrong", la + line(*c, wrong=1) + le, [a, e], 64),
        ("first byte lost", la + lc[1:] + le, [a, e], 64),
        ("length byte lost", la + lc[:1] + lc[2:] + le, [a, e], 64),
        ("a body byte lost", la + lc[:9] + lc[10:] + le, [a, e], 64),
        ("a body byte too many", la + lc[:9] + b"x" + lc[9:] + le, [a, e], 64),
        ("cut in the header", la + lc[:2] + le, [a, e], 64),
        ("cut in the body", la + lc[:11] + le, [a, e], 64),
        ("cut behind an escape", la + lc[: lc.index(0x7D) + 1] + le, [a, e], 64),
        ("half a frame at the end", la + lc[:11], [a], 64),
        ("a frame twice", la + la, [a, a], 64),
        ("length that swallows two frames", longer + lc + le + la, [c, e, a], 128),
        ("length over the buffer", head(0x3FFF) + la, [a], 64),
        ("length of exactly the buffer", line(0x21, 9, bytes(54)), [(0x21, 9, bytes(54))], 64),
        ("length of one more than the buffer", line(0x21, 9, bytes(55)) + la, [a], 64),
        ("length 0", head(0) + la, [a], 64),
        ("length 5", head(5) + b"abcde" + la, [a], 64),
        ("escapes that are none", head(8) + b"\x7d\x00\x7d\x7d\x7d\x7d\x7d\x7d" + la, [a], 64),
        ("body of 6 that is 3", head(6) + b"\x7d\x23" * 3 + la, [a], 64),
        ("header within a header", b"\x7e\x80\x7e\x80\x80" + la, [a], 64),
        ("headers in a row", head(20) * 9 + bytes(20) + la, [a], 64),
        ("raw SYNC inside a body", la[:8] + b"\x7e" + la[9:] + lc + le, [c, e], 64),
    ]
    return [
        {"name": name, "buffer": size, "stream": data.hex(), "frames": [[k, s, p.hex()] for k, s, p in out]}
        for name, data, out, size in made
    ]


def contents() -> str:
    """wire.json: one case a line, so that a board reads it line by line."""
    rows = [json.dumps(case) for case in [*frames(), *streams()]]
    return "[\n" + ",\n".join(rows) + "\n]\n"


if __name__ == "__main__":
    (HERE / "wire.json").write_text(contents())
