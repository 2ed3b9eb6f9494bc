"""What must stand any bytes: the parsers of both sides and the host's end of the line. Each target takes bytes and raises only
where something is wrong: an error that is not typed, or one of its own rules broken. The tests feed them with hypothesis;
`python -m tinycl.bench.fuzz TARGET SECONDS [CORPUS]` with atheris, where that is installed (PyPI: atheris)."""

import importlib
import io
import json
import struct
import sys
from binascii import crc32
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tinycl.bench import tiny
from tinycl.learned import Learned
from tinycl.link import client as client_module
from tinycl.link import link as link_module
from tinycl.link.client import Client
from tinycl.link.link import Link
from tinycl.shared import blob as b
from tinycl.shared import state, wire
from tinycl.shared.blob import Blob
from tinycl.shared.errors import TinyclError

Target = Callable[[bytes], None]
SHORT = {"RETRY_S": 0.002, "SILENCE_S": 0.01, "LOADING_S": 0.03, "ANSWER_S": 0.03, "JOB_S": 0.03}
SHORT_CLIENT = {"TRAIN_SILENCE_S": 0.01, "LOADING_SILENCE_S": 0.01}


def decoder(data: bytes) -> None:
    """The first byte chooses the buffer, the second into which pieces the rest is cut."""
    if len(data) < 2:
        return
    made = wire.Decoder(64 + 4 * data[0])
    step = 1 + data[1]
    found = []
    for at in range(2, len(data), step):
        found += made.feed(data[at : at + step])
        assert 0 <= made.n <= len(made.buffer) and 1 <= made.need() <= len(made.buffer) - made.n
    for kind, seq, payload in found:
        line = wire.encode(kind, seq, payload)
        assert 3 not in line and line.rfind(b"\x7e") == 0
        assert wire.Decoder(1 << 15).feed(line) == [(kind, seq, payload)]
    # and it is not lost: a filler, then a good frame
    made.feed(b"\x7e" * len(made.buffer))
    assert made.feed(wire.encode(1, 2, b"three")) == [(1, 2, b"three")]


def blob(data: bytes) -> None:
    """As bytes and as a file, as host and board have it: both say the same. And with its checksums made right."""
    for each in (data, sealed_blob(data)):
        said = [_typed(lambda each=each: Blob(each)), _typed(lambda each=each: Blob(io.BytesIO(each)))]  # type: ignore[misc]
        assert said[0] == said[1], said


def learned_state(data: bytes) -> None:
    for each in (data, sealed_state(data)):
        _typed(lambda each=each: state.State(io.BytesIO(each)))  # type: ignore[misc]


def sealed_blob(data: bytes) -> bytes:
    """With every checksum made right, so that what lies behind them is reached."""
    out = bytearray(data)
    if len(out) < b.HEADER_BYTES:
        return data
    end = min(b.HEADER_BYTES + b.ENTRY_BYTES * struct.unpack_from("<H", out, 6)[0], len(out))
    for entry in range(b.HEADER_BYTES, end - b.ENTRY_BYTES + 1, b.ENTRY_BYTES):
        at, n = struct.unpack_from("<II", out, entry + 4)
        struct.pack_into("<I", out, entry + 12, crc32(out[at : at + n]))
    table = bytes(out[b.HEADER_BYTES : end])
    struct.pack_into("<I", out, 12, crc32(table))
    struct.pack_into("<I", out, 16, crc32(bytes(out[:16]) + bytes(4) + table))
    return bytes(out)


def sealed_state(data: bytes) -> bytes:
    if len(data) < state.HEAD_BYTES:
        return data
    end = state.HEAD_BYTES + struct.unpack_from("<I", data, state.HEAD_BYTES - 4)[0]
    return data[:end] + struct.pack("<I", crc32(data[:end])) + data[end + 4 :] if end + 4 <= len(data) else data


def learned(data: bytes) -> None:
    def use() -> None:
        made = Learned(data)
        json.dumps(made.facts())
        _ = made.weights, made.names, made.enrolled
        if made.parsed.latents_at:
            _ = made.latents

    _typed(use)
    data = sealed_state(data)
    _typed(use)


class _Stream:
    """A port from which these bytes come, in frames' order, then nothing."""

    def __init__(self, data: bytes):
        self.data = data
        self.at = 0
        self.timeout = self.write_timeout = 0.0

    @property
    def in_waiting(self) -> int:
        return min(200, len(self.data) - self.at)

    def read(self, size: int = 1) -> bytes:
        part = self.data[self.at : self.at + size]
        self.at += len(part)
        return part

    def write(self, data: bytes) -> int:
        return len(data)

    def reset_input_buffer(self) -> None:
        pass


CALLS: tuple[Callable[[Client], object], ...] = (
    lambda c: c.link.hello(0.01),
    lambda c: c.link.recover(0.01),
    lambda c: c.status(),
    lambda c: c.classes(),
    lambda c: c.pull(),
    lambda c: c.predict(np.zeros((3, 2, 2, 1), np.int8)),
    lambda c: c.upload(bytes(9000)),
    lambda c: c.enrol("name", np.zeros((3, 2, 2, 1), np.int8)),
    lambda c: c.train(lambda event: None),
    lambda c: c.forget("name"),
    lambda c: c.watch(1),
    lambda c: c.link.listen(0.002, lambda event: None),
)


def host(data: bytes) -> None:
    """The first byte chooses a call, the second how the rest comes: as it is, or as the payloads of right answers, each of
    which has its length in front."""
    if len(data) < 2:
        return
    seq = 7
    stream = data[2:]
    if data[1] & 1:
        stream = b""
        kinds = (wire.OK, wire.OK, wire.OK, wire.ERROR, wire.EVENT, wire.NAK)
        at = 2
        while at < len(data):
            part = data[at + 1 : at + 1 + data[at]]
            kind = kinds[len(part) % len(kinds)]
            stream += wire.encode(kind, seq & 255, part)
            seq += kind in (wire.OK, wire.ERROR)
            at += 1 + data[at]
    for name, seconds in SHORT.items():
        setattr(link_module, name, seconds)
    for name, seconds in SHORT_CLIENT.items():
        setattr(client_module, name, seconds)
    client = Client(Link(_Stream(stream)))  # type: ignore[arg-type]  # what it needs of a port
    client.link.seq = 7
    client.link.window = 256
    _typed(lambda: CALLS[data[0] % len(CALLS)](client))


def _typed(what: Callable[[], object]) -> str:
    try:
        what()
        return ""
    except TinyclError as e:
        assert e.text
        return e.text


def seeds(target: str) -> list[bytes]:
    """Good inputs, to start from."""
    frame = wire.encode(wire.OBJECT_DATA, 3, bytes(range(40)))
    small = tiny.blob(per_class=3)
    return {
        "decoder": [b"\x10\x07" + frame * 3, b"\x00\x00" + frame[:-3] + frame],
        "blob": [small],
        "state": [sample_state()],
        "learned": [sample_state(), sample_state() + bytes(16)],
        "host": [
            bytes((call, 1))
            + b"".join(bytes((len(part),)) + part for part in (b'{"window": 256}', b"[]", bytes(12), b"\x01\x00"))
            for call in range(len(CALLS))
        ],
    }[target]


def sample_state(classes: int = 2, inputs: int = 6, units: int = 1) -> bytes:
    """A good state of base classes only, with zeros for weights and latents."""
    entries = b"".join(state.class_entry(f"class {c}", 2, 0, c) for c in range(classes))
    weights = bytes(4 * state.weight_count(classes, inputs, units))
    body = entries + weights + bytes(2 * classes * inputs)
    fields = 0, 9, 1, classes, inputs, units, 1, 0, len(body), 0, state.NEVER_SURE
    head = struct.pack(state.HEAD_FORMAT, state.MAGIC, state.VERSION, *fields)
    return head + body + struct.pack("<I", crc32(head + body))


TARGETS: dict[str, Target] = {"decoder": decoder, "blob": blob, "state": learned_state, "learned": learned, "host": host}


def main(argv: list[str]) -> None:
    """TARGET SECONDS [CORPUS]: does not return; status 0 where nothing was found."""
    import atheris

    name, seconds = argv[0], int(argv[1])
    corpus = Path(argv[2] if len(argv) > 2 else f"build/fuzz/{name}")
    corpus.mkdir(parents=True, exist_ok=True)
    for i, data in enumerate(seeds(name)):
        (corpus / f"seed{i}").write_bytes(data)
    for module in [module for module in sys.modules if module.startswith("tinycl")]:
        del sys.modules[module]
    with atheris.instrument_imports(include=["tinycl"]):  # once more, counting branches
        counting = importlib.import_module("tinycl.bench.fuzz")
    options = [f"-max_total_time={seconds}", "-max_len=20000", "-print_final_stats=1", f"-artifact_prefix={corpus}-"]
    atheris.Setup([sys.argv[0], str(corpus), *options], counting.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
