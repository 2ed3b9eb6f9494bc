"""A runtime onto boards through their raw REPL: the unix port on its simulated cable, and the real firmware on an emulated
RP2040. What people reported about REPLs, file systems, ABIs and firmware is shown here by boards that really behave so."""

import shutil
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import make_blobs
import natmod
import pytest
from ports import usb, with_program
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo
from uf2 import pack

from tinycl import deploy as deployment
from tinycl.board import errors
from tinycl.board.base import BoardError, runtime
from tinycl.board.cable import Way
from tinycl.board.emulator import FLASH_BYTES, Emulator
from tinycl.board.port import Found, Lines, PortBoard, ask, close_port, greet, open_port
from tinycl.board.repl import Repl
from tinycl.board.sim import SimBoard
from tinycl.flash import Flashed, Options, flash, flash_all
from tinycl.link.errors import BoardGone, LineUnfit

pytest_plugins = ["emulated"]
pytestmark = pytest.mark.usefixtures("micropython")
BLOB = make_blobs.tiny()


@pytest.fixture
def sim() -> Iterator[SimBoard]:
    """A board that is switched on, with the runtime as source."""
    with SimBoard() as board:
        board.link.close()
        board.port.close()
        yield board


def files_of(board: SimBoard) -> dict[str, tuple[int, int, bytes]]:
    """Every file on a board's flash, with when it was written."""
    paths = [p for p in board.flash.rglob("*") if p.is_file() and p.name not in ("stderr.log", "board-id")]
    return {str(p.relative_to(board.flash)): (p.stat().st_mtime_ns, p.stat().st_ino, p.read_bytes()) for p in paths}


# the whole of it


def test_flash_then_flash_again(sim):
    told = []
    (sim.flash / "notes.txt").write_text("a student's")
    first = flash(sim.tty, Options(blob=BLOB), lambda *what: told.append(what))
    assert (
        first.changed and first.blob == "sent" and first.hello["board"] == first.board == (sim.flash / "board-id").read_text()
    )
    assert (
        "agent.mpy" in first.deployed.written and (sim.flash / "agent.mpy").exists() and not (sim.flash / "agent.py").exists()
    )
    assert first.hello["available"][-2:] == ["viper", "plain"] and first.hello["blob"]
    first_write = next(i for i, (what, _, total) in enumerate(told) if total and "writing" in what)
    assert any(first.board in what for what, _, _ in told[:first_write])  # whose board it is comes before anything is written
    assert [done for what, done, total in told if "runtime" in what][-1] == first.deployed.bytes_written
    before = files_of(sim)
    second = flash(sim.tty, Options(blob=BLOB))
    assert not second.changed and second.blob == "there" and files_of(sim) == before
    assert before["notes.txt"][2] == b"a student's"
    third = ask(Found(sim.tty))
    assert third.hello and third.hello["blob"] == first.hello["blob"]


def test_only_what_differs_is_written_and_learned_state_stays(sim):
    flash(sim.tty, Options(blob=BLOB))
    board = PortBoard(ask(Found(sim.tty)))
    with board:
        board.client.enrol("new", make_blobs.pictures(3, 12))
        digest = board.client.status()["digest"]
    (sim.flash / "growth.mpy").write_bytes(b"cut by a bad day")
    before = files_of(sim)
    again = flash(sim.tty, Options(blob=BLOB))
    after = files_of(sim)
    assert again.deployed.written == ["growth.mpy"] and again.blob == "there"
    assert {name for name in after if after[name] != before.get(name)} == {"growth.mpy"}
    with PortBoard(ask(Found(sim.tty))) as board:
        assert "new" in board.client.classes() and board.client.status()["digest"] == digest


def test_stale_and_shadowing_files_go_and_foreign_ones_are_kept(sim):
    flash(sim.tty)
    (sim.flash / "main.py").write_text("print('mine')")
    (sim.flash / "agent.py").write_text("raise SystemExit  # would be imported instead of agent.mpy")
    (sim.flash / "growth.py").write_bytes(runtime()["growth.py"])  # ours, from a deployment by hand
    manifest = (sim.flash / "tinycl.json").read_text()
    (sim.flash / "tinycl.json").write_text(
        manifest.replace('"agent.mpy"', '"agent.mpy", "retired.mpy"').replace('"main.py", ', "")
    )
    (sim.flash / "retired.mpy").write_bytes(b"of an older version")
    sim.stop()
    sim.start()
    done = flash(sim.tty).deployed
    assert dict(done.moved) == {"main.py": "main.py.before-tinycl", "agent.py": "agent.py.before-tinycl"}
    assert set(done.removed) == {"growth.py", "retired.mpy"}
    assert (sim.flash / "main.py.before-tinycl").read_text() == "print('mine')"
    assert not (sim.flash / "growth.py").exists() and not (sim.flash / "retired.mpy").exists()
    (sim.flash / "tinycl.json").write_text(manifest.replace('"main.py", ', ""))
    (sim.flash / "main.py").write_text("print('mine too')")
    sim.stop()
    sim.start()
    assert ("main.py", "main.py.before-tinycl2") in flash(sim.tty).deployed.moved
    assert (sim.flash / "main.py.before-tinycl").read_text() == "print('mine')"


def test_a_deployment_that_was_cut_goes_on(sim):
    """micropython#17865, #8001: what is half there is never used, and the next run completes it."""
    port = open_port(sim.tty)
    repl = Repl(port, sim.tty)
    repl.enter()
    facts = deployment.probe(repl)
    built = deployment.build(facts["mpy"])
    seen = []

    def cut(done: int, total: int) -> None:
        seen.append(done)
        if done > total // 2:
            sim.cable.hang_up()

    with pytest.raises(BoardGone):
        deployment.deploy(repl, built, facts, cut)
    assert seen
    close_port(port)
    left = [p for p in sim.flash.rglob("*.mpy")]
    assert all(p.read_bytes() == built.files[str(p.relative_to(sim.flash))] for p in left) and 0 < len(left) < len(built.files)
    sim.stop()
    sim.start()
    time.sleep(0.5)  # its main.py finds no agent, and leaves the REPL
    done = flash(sim.tty)
    assert done.deployed.written and done.hello["agent"] and not done.deployed.moved


@pytest.mark.parametrize("times", [1, 2])
def test_a_file_that_arrives_otherwise_than_it_was_sent(sim, monkeypatch, times):
    """micropython#17865, #4962: verified on the board before it gets its name; sent once more, then given up. A file of one
    piece, so that the second fault meets the second try."""
    flash(sim.tty)
    old = (sim.flash / "backbone.mpy").read_bytes()
    monkeypatch.setitem(runtime_of := dict(runtime()), "backbone.py", runtime()["backbone.py"] + b"\nNEW = 1\n")
    monkeypatch.setattr(deployment, "runtime", lambda: runtime_of)
    real, left = deployment.b2a_base64, [times]

    def on_a_bad_line(data: bytes, newline: bool) -> bytes:
        if left[0]:
            left[0] -= 1
            data = bytes([data[0] ^ 1]) + data[1:]
        return real(data, newline=newline)

    monkeypatch.setattr(deployment, "b2a_base64", on_a_bad_line)
    if times == 1:
        assert flash(sim.tty).deployed.written == ["backbone.mpy"] and (sim.flash / "backbone.mpy").read_bytes() != old
    else:
        with pytest.raises(
            errors.NotVerified, match=r"backbone\.mpy arrived .* otherwise than it was sent, twice .*the old one"
        ):
            flash(sim.tty)
        assert (sim.flash / "backbone.mpy").read_bytes() == old
    assert not (sim.flash / "tinycl.tmp").exists()


# the REPL


@pytest.mark.parametrize("left", ["session", "frame", "raw", "paste", "raw paste", "text", "program", "prompt"])
def test_the_repl_is_reached_from_anywhere(sim, left):
    """ampy#19, rshell#160, mpfshell#54: could not enter raw repl."""
    port = open_port(sim.tty)
    if left in ("session", "frame"):
        greet(port, sim.tty)
        if left == "frame":
            port.write(b"~\x80\xff\x2a" + bytes(50))
    else:
        Repl(port, sim.tty).enter()
        if left == "paste":
            port.write(b"\r\x02\x05for i in range(3):\r  pas")
        elif left == "raw paste":
            port.write(b"\x05A\x01")
            time.sleep(0.1)
            port.write(b"print('half")
        elif left == "text":
            port.write(b"\r\x02if True:\r  'half a line")
        elif left == "program":
            port.write(b"import time\nwhile True:\n print('tick')\n time.sleep(0.01)\n\x04")
        elif left == "prompt":
            port.write(b"\r\x02")
        time.sleep(0.2)
    repl = Repl(port, sim.tty)
    start = time.monotonic()
    repl.enter()
    assert repl.execute("print(6 * 7)").strip() == "42"
    assert time.monotonic() - start < 5
    repl.restart()  # micropython#2249: a soft reset from raw mode would not run main.py
    assert greet(port, sim.tty, 10).board["agent"]
    close_port(port)


def test_a_program_that_takes_ctrl_c_for_itself(sim):
    stubborn = (
        "import time\nwhile True:\n  try:\n    print('I never stop')\n    time.sleep(0.02)\n  except BaseException:\n    pass\n"
    )
    tty = with_program(sim, stubborn, b"never stop")
    port = open_port(tty)
    start = time.monotonic()
    with pytest.raises(errors.ForeignProgram, match=r"'I never stop', does not end on Ctrl-C \(\d+ tries in 2 s\): reset") as e:
        Repl(port, tty).enter(2.0)
    assert time.monotonic() - start < 5 and e.value.line == "I never stop"
    close_port(port)


def test_a_call_that_never_returns(sim):
    """belay#196, #38."""
    port = open_port(sim.tty)
    repl = Repl(port, sim.tty)
    repl.enter()
    for code in ("while True: pass", "while True: print('x')"):
        start = time.monotonic()
        with pytest.raises(errors.NoRepl, match="stopped answering while a line ran"):
            repl.execute(code, 1.0)
        assert time.monotonic() - start < 3
        repl.enter()
    with pytest.raises(errors.BoardRaised, match="ZeroDivisionError"):
        repl.execute("1/0")
    assert repl.execute("print(1)").strip() == "1"
    close_port(port)


def test_ctrl_c_gets_the_repl_outside_of_a_session(sim):
    """A student's mpremote, after tinycl is done with the board."""
    flash(sim.tty)
    port = open_port(sim.tty)
    port.timeout = 0.2
    said, end = b"", time.monotonic() + 5  # BYE may be on its way yet
    while b">>> " not in said and time.monotonic() < end:
        port.write(b"\r\x03")
        said += port.read(400)
    assert b">>> " in said
    close_port(port)


# firmware


def disguise(board: SimBoard, what: str) -> str:
    """A main.py after which the board says it has other firmware, and waits at its prompt."""
    program = "import sys\nclass Word: pass\nword = Word()\n"
    program += (
        "for n in ('name', 'version', '_machine', '_build', '_mpy'): setattr(word, n, getattr(sys.implementation, n, ''))\n"
    )
    program += "class Sys:\n  implementation = word\n  platform = sys.platform\n  stdin = sys.stdin\n  stdout = sys.stdout\n"
    program += "  print_exception = sys.print_exception\n" + what + "\nsys.modules['sys'] = Sys\nprint('ready')\n"
    return with_program(board, program, b"ready")


def test_firmware_that_is_too_old(sim):
    """micropython#6769, #6592: 1.24 or newer, checked; nothing is written before."""
    tty = disguise(sim, "word.version = (1, 19, 1)")
    before = files_of(sim)
    with pytest.raises(errors.FirmwareError, match=r"name it with --firmware FILE"):
        flash(tty)
    port = open_port(tty)
    repl = Repl(port, tty)
    repl.enter()
    with pytest.raises(errors.FirmwareTooOld, match=r"runs micropython 1\.19\.1, the runtime needs 1\.24 or newer"):
        deployment.check_firmware(deployment.probe(repl))
    close_port(port)
    assert files_of(sim) == before


def test_firmware_that_is_none_of_micropython(sim):
    tty = disguise(sim, "word.name = 'circuitpython'")
    port = open_port(tty)
    repl = Repl(port, tty)
    repl.enter()
    with pytest.raises(errors.NotMicroPython, match=r"circuitpython.*needs MicroPython: install"):
        deployment.check_firmware(deployment.probe(repl))
    close_port(port)


def test_firmware_without_what_the_runtime_needs(sim):
    (sim.flash / "binascii.py").write_text("hexlify = a2b_base64 = None\n")  # hides the firmware's own
    tty = with_program(sim, "print('ready')", b"ready")
    before = files_of(sim)
    with pytest.raises(errors.FirmwareLacks, match=r"without binascii\.crc32, which the runtime needs") as e:
        flash(tty)
    assert e.value.missing == ["binascii.crc32"] and files_of(sim) == before


@pytest.mark.parametrize("abi", ["7.0", "6.1"])
def test_mpy_of_another_abi(sim, abi):
    """micropython#8369, #15356, #13078: the host says which one is needed, and source goes there instead."""
    version, sub = map(int, abi.split("."))
    tty = disguise(sim, f"word._mpy = {version | sub << 8 | 2 << 10}")
    done = flash(tty)
    [note] = done.deployed.notes
    assert f"of ABI {abi} x64" in note and "mpy-cross makes 6.3" in note and f"makes {abi}" in note
    assert (sim.flash / "agent.py").exists() and not (sim.flash / "agent.mpy").exists() and done.hello["agent"]


def test_firmware_without_native_code(sim):
    tty = disguise(sim, "word._mpy = 6 | 3 << 8")
    done = flash(tty, Options(natmod=Path(__file__).parent))
    assert set(done.deployed.skipped) >= {"kernels/viper.py", "tinycl_native.mpy"}
    assert done.hello["kernels"] == "plain" and not (sim.flash / "kernels/viper.mpy").exists()


def test_native_kernels_of_this_board(sim):
    done = flash(sim.tty, Options(natmod=natmod.build("x64").parent.parent))
    assert "tinycl_native.mpy" in done.deployed.written and done.hello["kernels"] == "native"
    without = flash(sim.tty)
    assert without.deployed.removed == ["tinycl_native.mpy"] and without.hello["kernels"] == "viper"


# the file system

LITTLEFS = """
import os, vfs
class Flash:
    def __init__(self, blocks): self.data = bytearray(512 * blocks)
    def readblocks(self, n, b, o=0):
        for i in range(len(b)): b[i] = self.data[n * 512 + o + i]
    def writeblocks(self, n, b, o=0):
        for i in range(len(b)): self.data[n * 512 + o + i] = b[i]
    def ioctl(self, op, arg): return {4: len(self.data) // 512, 5: 512, 6: 0}.get(op)
flash = Flash(%d)
vfs.VfsLfs2.mkfs(flash)
vfs.mount(vfs.VfsLfs2(flash), "/flash")
os.chdir("/flash")
"""


def test_flash_that_is_full(sim):
    tty = with_program(sim, LITTLEFS % 64 + "print('ready')", b"ready")
    with pytest.raises(
        errors.FlashFull, match=r"needs [\d,]+ bytes for \d+ files, .* has [\d,]+ of 32,768 free, so nothing was"
    ):
        flash(tty)
    port = open_port(tty)
    repl = Repl(port, tty)
    repl.enter()
    assert repl.execute("import os; print(os.listdir())").strip() == "[]"
    close_port(port)
    tty = with_program(sim, LITTLEFS % 64 + runtime()["main.py"].decode())
    assert ask(Found(tty)).hello
    with pytest.raises(errors.FlashFull, match="so nothing was"):
        flash(tty)
    assert ask(Found(tty)).hello  # the agent that was there works on


@pytest.mark.parametrize("at", ["probe", "firmware", "build", "write"])
def test_an_agent_works_on_where_flash_fails(sim, monkeypatch, at):
    """Whatever goes wrong once its REPL was entered, and whatever kind of exception it is."""
    names = {"probe": "probe", "firmware": "_needs_firmware", "build": "build", "write": "deploy"}

    def fails(*_: object) -> None:
        raise KeyboardInterrupt if at == "write" else errors.WrongAbi("no: stop")

    monkeypatch.setattr(f"tinycl.flash.{names[at]}", fails)
    with pytest.raises((errors.WrongAbi, KeyboardInterrupt)):
        flash(sim.tty)
    assert ask(Found(sim.tty)).hello


def test_what_a_line_does_not_carry_is_found_before_anything_is_written():
    """micropython#6999: bytes lost at 460,800 baud, on the way of `flash`."""

    class Lossy(Way):
        def put(self, data: bytes, delay_s: float = 0.0) -> None:
            super().put(data[:700] + data[701:], delay_s)

    with SimBoard() as board:
        board.link.close()
        board.port.close()
        flash(board.tty, Options(lines=Lines(baud=460_800)))
        (board.flash / "growth.mpy").write_bytes(b"old")
        board.cable.to_board.__class__ = Lossy
        before = files_of(board)
        with pytest.raises(LineUnfit, match="take a lower --baud"):
            flash(board.tty, Options(lines=Lines(baud=460_800)))
        assert files_of(board) == before


def test_flash_that_fills_up_on_the_way(sim):
    """Its numbers lie: a write is refused, what is half written goes."""
    lie = LITTLEFS % 64 + "import os\nreal = os.statvfs\nclass Os: pass\n"
    lie += "for n in dir(os): setattr(Os, n, getattr(os, n)) if n != '__class__' else None\n"
    lie += "Os.statvfs = lambda p: (512, 512, 9999, 9999, 9999, 0, 0, 0, 0, 255)\nimport sys\nsys.modules['os'] = Os\n"
    lie += "print('ready')"
    tty = with_program(sim, lie, b"ready")
    with pytest.raises(errors.FlashFull, match=r"is full after [1-9]\d* of \d+ files: remove files"):
        flash(tty)
    port = open_port(tty)
    repl = Repl(port, tty)
    repl.enter()
    assert "tinycl.tmp" not in repl.execute("import os; print(os.listdir())")
    close_port(port)


def test_file_system_that_is_corrupt(sim):
    broken = "for i in range(2, 60):\n  open('file%d' % i, 'w').write('x' * 400)\n"
    broken += "for i in range(512 * 0 + 40, len(flash.data)): flash.data[i] = 0x5A\nprint('ready')"
    tty = with_program(sim, LITTLEFS % 128 + broken, b"ready")
    with pytest.raises(errors.BrokenFiles, match=r"not in order \(.*OSError.*save what you need .* then format it"):
        flash(tty)


# many


def test_all_boards_side_by_side(micropython, monkeypatch):
    boards = [SimBoard(micropython) for _ in range(4)]
    try:
        for board in boards:
            board.deploy()
            board.start()
        with_program(boards[1], "import micropython\nmicropython.kbd_intr(-1)\nwhile True: pass")  # hangs
        broken = with_program(boards[2], LITTLEFS % 32 + "print('ready')", b"ready")
        monkeypatch.setattr(list_ports, "comports", lambda *_: [usb(b.tty, f"n{i}") for i, b in enumerate(boards)])
        told: dict[str, list] = {}
        monkeypatch.setattr("tinycl.board.repl.ENTER_S", 2.0)
        start = time.monotonic()
        outcomes = {
            f.device: o for f, o in flash_all(Options(blob=BLOB), lambda who, *what: told.setdefault(who, []).append(what))
        }
        assert time.monotonic() - start < 40
        good = [outcomes[boards[i].tty] for i in (0, 3)]
        assert all(isinstance(o, Flashed) and o.blob == "sent" for o in good)
        assert {o.board for o in good} == {(boards[i].flash / "board-id").read_text() for i in (0, 3)}
        assert isinstance(outcomes[boards[1].tty], BoardError)
        assert isinstance(outcomes[broken], errors.FlashFull)
        assert set(told) == {b.tty for b in boards} and "failed" in told[broken][-1][0]
    finally:
        for board in boards:
            board.close()


# the real firmware, on the chip


class Desk:
    """An emulated Pico on somebody's desk, as an operating system shows it: a port that has another name each time the chip
    starts, or, while it is in its boot loader, a drive that takes UF2."""

    def __init__(self, image: Path, folder: Path, plugged: bool = True):
        self.image = image
        self.drives = folder / "media"
        self.drive = self.drives / "RPI-RP2"
        self.drives.mkdir()
        self.chip: Emulator | None = None
        self.lock = threading.Lock()
        self.boots = 0
        self.done = threading.Event()
        if plugged:
            self.power()
        else:
            self.show_drive()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def power(self) -> None:
        self.chip = Emulator(self.image, bytes.fromhex("e66058388341aa55"), timed=False)
        self.boots += 1

    def show_drive(self) -> None:
        self.drive.mkdir()
        (self.drive / "INFO_UF2.TXT").write_text("UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n")

    def ports(self) -> list[ListPortInfo]:
        with self.lock:
            return [usb(f"socket://127.0.0.1:{self.chip.port}", "E66058388341AA55")] if self.chip else []

    def operations(self) -> int:
        with self.lock:
            return self.chip.state()["flash_operations"]

    def watch(self) -> None:
        while not self.done.wait(0.2):
            with self.lock:
                if self.chip and self.chip.state()["boot_loader"]:
                    self.chip.kill()
                    self.chip = None
                    self.show_drive()
                elif not self.chip:
                    self.take()

    def take(self) -> None:
        """As the boot ROM: once the last block is there, the chip restarts and the drive is gone."""
        file = self.drive / "firmware.uf2"
        data = file.read_bytes() if file.exists() else b""
        if len(data) < 512 or len(data) != 512 * int.from_bytes(data[24:28], "little"):
            return
        flash = bytearray(self.image.read_bytes())
        for at in range(0, len(data), 512):
            address = int.from_bytes(data[at + 12 : at + 16], "little") - 0x10000000
            flash[address : address + 256] = data[at + 32 : at + 288]
        self.image.write_bytes(flash)
        shutil.rmtree(self.drive)
        self.power()

    def close(self) -> None:
        self.done.set()
        self.thread.join()
        if self.chip:
            self.chip.kill()


@pytest.fixture
def uf2(firmware, tmp_path) -> Path:
    """The firmware as a UF2 file, packed here so that a .bin alone will do."""
    file = tmp_path / "RPI_PICO.uf2"
    file.write_bytes(pack(firmware))
    return file


@pytest.fixture
def desk(firmware, tmp_path, monkeypatch):
    """desk(image=None, plugged=True): a Pico on a desk; without an image one with MicroPython and nothing else."""
    made: list[Desk] = []

    def put(image: Path | None = None, plugged: bool = True) -> Desk:
        if image is None:
            image = tmp_path / "bare.img"
            image.write_bytes((firmware if plugged else b"").ljust(FLASH_BYTES, b"\xff"))
        made.append(Desk(image, tmp_path, plugged))
        monkeypatch.setattr(list_ports, "comports", lambda *_: made[-1].ports())
        return made[-1]

    yield put
    for one in made:
        one.close()


def test_rp2040_flash_then_flash_again(desk):
    board = desk()
    first = flash("", Options(blob=BLOB, natmod=natmod.build("armv6m").parent.parent, drives=[board.drives]))
    assert first.board == "e66058388341aa55" and "Raspberry Pi Pico with RP2040 with micropython 1." in first.before
    assert first.hello["kernels"] == "native" and first.blob == "sent" and len(first.deployed.written) > 15
    operations = board.operations()
    second = flash(first.board, Options(blob=BLOB, natmod=natmod.build("armv6m").parent.parent, drives=[board.drives]))
    assert not second.changed and board.operations() == operations  # not one erase or program of its flash


def test_rp2040_firmware_over_a_board_that_learned(desk, uf2, copied):
    """Its boot loader, its drive, another port afterwards (belay#14); its files and what it learned stay."""
    board = desk(copied)
    before = board.ports()[0].device
    told = []
    done = flash("E66058388341AA55", Options(uf2, True, drives=[board.drives]), lambda *what: told.append(what))
    assert done.firmware == "RPI_PICO.uf2" and done.device != before and board.boots == 2 and not board.drive.exists()
    assert [what for what in told if what[0] == "writing the firmware"][-1][1:] == (uf2.stat().st_size,) * 2
    with PortBoard.of() as here:
        assert list(here.client.classes())[-1] == "three"
    assert "firmware" not in flash("", Options(uf2, drives=[board.drives])).firmware  # not again where it is not needed
    assert board.boots == 2


def test_rp2040_that_has_nothing_yet(desk, uf2, tmp_path):
    board = desk(plugged=False)
    wrong = bytearray(uf2.read_bytes())
    for at in range(28, len(wrong), 512):
        wrong[at : at + 4] = struct.pack("<I", 0xE48BFF59)
    (tmp_path / "RPI_PICO2.uf2").write_bytes(wrong)
    with pytest.raises(errors.FirmwareError, match=r"for family 0xe48bff59, the board on .* is 'RPI-RP2' and takes 0xe48bff56"):
        flash("", Options(tmp_path / "RPI_PICO2.uf2", drives=[board.drives]))
    assert [p.name for p in board.drive.iterdir()] == ["INFO_UF2.TXT"]
    with pytest.raises(errors.FirmwareError, match="which board is it"):
        flash("", Options(drives=[board.drives]))
    done = flash("", Options(uf2, blob=BLOB, drives=[board.drives]))
    assert done.before == "boot drive RPI-RP2" and done.firmware == uf2.name and done.hello["version"] and done.blob == "sent"


def test_rp2040_all_of_them_start_from_their_drives(desk, uf2):
    board = desk(plugged=False)
    told = []
    [(found, done)] = flash_all(Options(uf2, drives=[board.drives]), lambda *what: told.append(what))
    assert isinstance(done, Flashed) and done.hello["board"] == "e66058388341aa55" and found.device == done.device
    assert (str(board.drive), "writing the firmware", uf2.stat().st_size, uf2.stat().st_size) in told


def have_it_run(device: str, code: str) -> None:
    """Runs code in a board's REPL."""
    port = open_port(device)
    repl = Repl(port, device)
    repl.enter()
    repl.execute(code, 120.0)
    close_port(port)


def test_rp2040_flash_that_is_full(desk):
    board = desk()
    have_it_run(board.ports()[0].device, "f = open('big', 'wb')\nb = bytes(4096)\nfor i in range(335): f.write(b)\nf.close()")
    operations = board.operations()
    with pytest.raises(errors.FlashFull, match=r"of 1,441,792 free, so nothing was written"):
        flash("", Options(drives=[board.drives]))
    assert board.operations() == operations


def test_rp2040_file_system_that_is_corrupt(desk):
    """Overwritten under the running firmware, which at its next start would format it, and all would be gone."""
    board = desk()
    done = flash("", Options(drives=[board.drives]))
    have_it_run(done.device, "import rp2\nflash = rp2.Flash()\nfor i in range(2, 352): flash.writeblocks(i, b'Z' * 4096)")
    operations = board.operations()
    with pytest.raises(errors.BrokenFiles, match=r"not in order .*save what you need .*then format it"):
        flash("", Options(drives=[board.drives]))
    time.sleep(2)  # a reset would have it formatted by now
    assert board.operations() == operations
