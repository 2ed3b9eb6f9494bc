"""Host and board of different versions, blobs and learned states of versions to come: both sides say both versions and what to
update, and nothing is guessed. The board is a real one whose runtime says another number."""

import struct

import make_blobs
import pytest

from tinycl.bench.fuzz import sealed_state
from tinycl.board.base import runtime
from tinycl.board.sim import SimBoard
from tinycl.link.errors import BoardRefused, ProtocolMismatch
from tinycl.link.link import Link
from tinycl.shared import errors, state, wire
from tinycl.shared.errors import FormatError, TinyclError

pytestmark = pytest.mark.usefixtures("micropython")
NOW = wire.VERSION


class OfVersion(SimBoard):
    """A board whose runtime speaks another protocol; it is not asked HELLO when it starts."""

    def __init__(self, version: int, release: str):
        super().__init__()
        self.version = version
        self.release = release

    def deploy(self, contents: dict[str, bytes] | None = None) -> None:
        files = dict(contents or runtime())
        old = b'\nVERSION = %d\nRELEASE = "%s"' % (wire.VERSION, wire.RELEASE.encode())
        assert files["shared/wire.py"].count(old) == 1
        new = b'\nVERSION = %d\nRELEASE = "%s"' % (self.version, self.release.encode())
        super().deploy({**files, "shared/wire.py": files["shared/wire.py"].replace(old, new)})

    def connect(self) -> None:
        self.link = Link(self.open_port())


@pytest.mark.parametrize(
    ("version", "release", "cure"),
    [(NOW - 1, "0.1.9", "update the board with 'tinycl flash'"), (NOW + 1, "9.0", "update tinycl on this computer")],
    ids=["older board", "newer board"],
)
def test_host_and_board_of_different_versions(version, release, cure):
    with OfVersion(version, release) as board:
        with pytest.raises(ProtocolMismatch) as e:
            board.link.hello(10.0)
        for part in (f"agent {release}", f"protocol {version}", f"tinycl {wire.RELEASE}", f"speaks {NOW}", cure):
            assert part in e.value.text
        assert board.link.board == {}  # nothing of what it said is believed
        # and where a host goes on all the same, the board refuses whatever it asks, in its own words
        for kind, payload in (
            (wire.STATUS, b""),
            (wire.OBJECT_OPEN, struct.pack("<IIB", 9, 9, 0)),
            (wire.FORGET, b""),
            (0x77, b"x"),
        ):
            with pytest.raises(BoardRefused) as refused:
                board.link.request(kind, payload)
            assert refused.value.code == errors.VERSION
            for part in (f"protocol {NOW}", f"speaks {version}", wire.RELEASE, release, ": update"):
                assert part in refused.value.text
        assert not list(board.flash.glob("up-*"))


def test_a_host_that_says_no_version(board):
    """As hosts before 0.2 did."""
    board.link._ask(wire.HELLO, 5.0)
    with pytest.raises(BoardRefused, match=f"protocol 1.*speaks {NOW}") as e:
        board.link.request(wire.STATUS)
    assert e.value.code == errors.VERSION
    board.link.hello()
    assert board.client.status()["classes"] == 2


def test_a_blob_of_a_version_to_come(board):
    before = board.client.status()["digest"]
    good = make_blobs.tiny()
    newer = bytearray(good)
    struct.pack_into("<H", newer, 4, make_blobs.b.VERSION + 1)
    newer = make_blobs.reseal(bytes(newer))
    for attempt in (lambda: make_blobs.b.Blob(newer), lambda: board.client.send_blob(newer)):
        with pytest.raises(TinyclError, match=f"version {make_blobs.b.VERSION + 1}.*1 to {make_blobs.b.VERSION}") as e:
            attempt()
        assert e.value.code == errors.FORMAT
    assert board.client.status()["digest"] == before


def test_a_learned_state_of_a_version_to_come(board):
    board.client.enrol("south", make_blobs.pictures(2, 12))
    learned = board.client.pull()
    before = board.client.status()["digest"]
    newer = bytearray(learned)
    struct.pack_into("<H", newer, 4, state.VERSION + 1)
    newer = sealed_state(bytes(newer))
    said = f"version {state.VERSION + 1}.*1 to {state.VERSION}"
    with pytest.raises(FormatError, match=said):
        board.client.push(newer)  # the host says so before it sends anything
    board.client.upload(newer)
    with pytest.raises(BoardRefused, match=said) as e:  # and the board where another host does not
        board.link.request(wire.ADOPT)
    assert e.value.code == errors.VERSION
    assert board.client.status()["digest"] == before
    assert board.client.push(learned)["digest"] == before
