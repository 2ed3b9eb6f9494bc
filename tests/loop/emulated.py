"""What tests on the emulated RP2040 share: boards with the firmware of `make firmware`, or a skip that says how to get it (a
failure where TINYCL_REQUIRE_FIRMWARE is set). A test module takes them in with `pytest_plugins = ["emulated"]`."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import blobs
import pytest

from tinycl.board.base import BoardError
from tinycl.board.emulator import choose
from tinycl.board.rp2040 import Rp2040Board, find_firmware


@pytest.fixture(scope="session")
def need():
    """need(check, *arguments): what `check` returns; where it raises BoardError, skips with its text, or fails."""

    def found(check, *arguments):
        try:
            return check(*arguments)
        except BoardError as e:
            if os.environ.get("TINYCL_REQUIRE_FIRMWARE"):
                pytest.fail(str(e))
            pytest.skip(str(e))

    return found


@pytest.fixture(scope="session")
def firmware(need) -> bytes:
    need(choose)
    return need(find_firmware)


@pytest.fixture(scope="session")
def taught(firmware, tmp_path_factory) -> Path:
    """A flash image with runtime, the tiny blob and one enrolled class `three`."""
    image = tmp_path_factory.mktemp("rp2040") / "taught.img"
    with Rp2040Board(flash=image) as board:
        board.client.send_blob(blobs.tiny_blob())
        board.client.enrol("three", blobs.tiny_samples(3, 12))
    return image


@pytest.fixture
def copied(taught, tmp_path) -> Path:
    """The same flash, and the same board, in a file of its own."""
    target = tmp_path / taught.name
    for suffix in ("", ".json"):
        shutil.copyfile(taught.with_name(taught.name + suffix), target.with_name(target.name + suffix))
    return target


@pytest.fixture
def chip(copied) -> Iterator[Rp2040Board]:
    """A running board of its own, taught as above."""
    with Rp2040Board(flash=copied) as board:
        yield board
