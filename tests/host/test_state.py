"""The learned state and the portable file: the good vector is read right, every hostile one refused with FormatError and no
other, here and by MicroPython itself; states of version 1 are read as they were written."""

import io
import json
import struct
from binascii import crc32
from collections.abc import Callable
from pathlib import Path

import make_states
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinycl.learned import Learned
from tinycl.shared import errors, state
from tinycl.shared.errors import FormatError

VECTORS = Path(__file__).parent.parent / "vectors/states"
SAID = json.loads((VECTORS / "states.json").read_text())
GOOD = make_states.good()


def read(data: bytes) -> state.State:
    return state.State(io.BytesIO(data))


def test_vectors_are_what_their_maker_makes() -> None:
    found = {p.name: p.read_bytes() for p in [*VECTORS.glob("*.tcs"), VECTORS / "states.json"]}
    assert found == make_states.files()


@pytest.mark.parametrize("name", SAID)
def test_a_hostile_file_is_refused(name: str) -> None:
    said, in_state = SAID[name]
    data = (VECTORS / f"{name}.tcs").read_bytes()
    with pytest.raises(FormatError) as e:
        Learned(data)
    assert said in e.value.text and ": " in e.value.text
    if in_state:
        with pytest.raises(FormatError) as e:
            read(data)
        assert said in e.value.text
    else:
        read(data)


def test_vectors_on_the_board(on_board: Callable[..., str]) -> None:
    told = json.loads(on_board("life_states.py", str(VECTORS)).splitlines()[-1])
    assert told == {"refused": sum(in_state for _, in_state in SAID.values()), "failed": 0}


def test_a_later_version_tells_what_every_version_has() -> None:
    with pytest.raises(state.NewerState) as e:
        read((VECTORS / "version-4.tcs").read_bytes())
    good = read(GOOD)
    assert (e.value.sequence, e.value.blob_id, e.value.whole) == (good.sequence, good.blob_id, True)
    assert e.value.code == errors.VERSION
    with pytest.raises(state.NewerState) as e:
        read((VECTORS / "version-4-damaged.tcs").read_bytes())
    assert not e.value.whole


def test_the_good_file() -> None:
    learned = Learned(GOOD)
    assert learned.names == ["nord-östlich", "one"] and learned.enrolled == {"one": 6}
    last, hidden = learned.weights
    assert (last.shape, hidden.shape) == ((2, 1 + 16 + 4), (4, 1 + 16))
    early = learned.early_weights
    assert early.shape == (2, 1 + 9) and learned.parsed.sure == 200
    assert [*last.ravel(), *hidden.ravel(), *early.ravel()] == make_states.weights(last.size + hidden.size + early.size)
    latents = b"".join(one.tobytes() for one in learned.latents)
    assert [one.shape for one in learned.latents] == [(6, 16), (6, 16)]
    assert GOOD.endswith(latents + GOOD[-4 - len(make_states.RAW) :])
    facts = learned.facts()
    assert facts["classes"] == {"nord-östlich": {"samples": 6, "enrolled": False}, "one": {"samples": 6, "enrolled": True}}
    assert (facts["rung"], facts["commit"]) == (1, 5)


def test_version_1() -> None:
    """Slots that an agent of version 1 wrote: the base classes, then one more."""
    base, one = (read((VECTORS / f"v1-state{k}").read_bytes()) for k in (1, 0))
    assert (base.version, base.sequence, one.version, one.sequence) == (1, 1, 1, 2)
    assert [c[:2] for c in one.classes] == [("north-west", 6), ("nord-östlich", 6), ("one", 6)]
    assert [c[2:] for c in base.classes] == [(0, 0), (0, 1)]  # base classes by number
    assert one.latents_at == 0
    learned = Learned((VECTORS / "v1-state0").read_bytes() + (VECTORS / "v1-class1.raw").read_bytes())
    assert learned.enrolled == {"one": 6} and learned.weights[0].shape == (3, 17)
    with pytest.raises(FormatError, match="version 1 holds no latents"):
        learned.latents  # noqa: B018 - it is computed


def test_version_2() -> None:
    """A portable file from before the first exit had a head of its own."""
    learned = Learned((VECTORS / "v2-portable").read_bytes())
    now = Learned(GOOD)
    assert (learned.parsed.version, learned.parsed.early_inputs, learned.parsed.sure) == (2, 0, state.NEVER_SURE)
    assert learned.early_weights is None and learned.enrolled == now.enrolled
    assert all((a == b).all() for a, b in zip(learned.weights, now.weights, strict=True))
    assert all((a == b).all() for a, b in zip(learned.latents, now.latents, strict=True))


SIZE = len(GOOD) - len(make_states.RAW)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_whatever_is_accepted_keeps_its_promises(changes: list[tuple[int, int]], sealed: bool) -> None:
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    if sealed:
        struct.pack_into("<I", data, SIZE - 4, crc32(data[: SIZE - 4]))
    try:
        learned = Learned(bytes(data))
    except FormatError as e:
        assert ": " in e.text
        return
    assert sealed or bytes(data) == GOOD
    last, hidden = learned.weights
    for values in (last, hidden):
        assert np.abs(values.astype(np.int64)).max(initial=0) < 1 << 23
    assert [len(one) for one in learned.latents] == [count for _, count, _, _ in learned.parsed.classes]
    assert len(set(learned.names)) == len(learned.names)


@settings(max_examples=100)
@given(st.integers(0, len(GOOD) - 1))
def test_no_cut_is_accepted(length: int) -> None:
    with pytest.raises(FormatError):
        Learned(GOOD[:length])
