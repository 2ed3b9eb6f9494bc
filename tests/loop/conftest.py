"""A sim board that the tests of a module share, on a line that can be made faulty. Who needs another has its own `board`."""

from collections.abc import Iterator

import make_blobs
import pytest

from tinycl.bench.faults import FaultyBoard


@pytest.fixture(scope="module")
def shared_board(micropython: str) -> Iterator[FaultyBoard]:
    with FaultyBoard() as board:
        yield board


@pytest.fixture
def board(shared_board: FaultyBoard) -> FaultyBoard:
    """Running, in a session, with a faultless line, the tiny blob and its two classes."""
    shared_board.heal()
    if not shared_board.plugged:
        shared_board.start()
    shared_board.connect()
    shared_board.client.send_blob(make_blobs.tiny())
    return shared_board
