"""Real ports with real boards behind them: which one is meant, what is there where no agent answers, resets, lines.
The ports are pseudo-terminals of sim boards; only pyserial's list of USB ports is made up."""

import contextlib
import grp
import os
import pwd
import socket
import stat
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import serial
from ports import usb, with_program
from serial.rfc2217 import PortManager
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from tinycl.board import errors
from tinycl.board.port import (
    Found,
    PortBoard,
    ask,
    close_port,
    discover,
    find_one,
    greet,
    holders,
    open_port,
    usb_ports,
    wait_for,
)
from tinycl.board.repl import Repl
from tinycl.board.sim import SimBoard
from tinycl.link.errors import BoardGone, ProtocolMismatch
from tinycl.shared import wire

pytestmark = pytest.mark.usefixtures("micropython")
Listing = Callable[..., None]


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Listing:
    """listed(ports): what the system lists from now on."""

    def show(*ports: ListPortInfo) -> None:
        monkeypatch.setattr(list_ports, "comports", lambda *_: list(ports))

    show()
    return show


def started(board: SimBoard) -> SimBoard:
    """Switched on, its agent up, its port free."""
    board.__enter__()
    board.link.close()
    board.port.close()
    return board


@pytest.fixture(scope="module")
def two() -> Iterator[list[SimBoard]]:
    boards = [started(SimBoard()) for _ in range(2)]
    yield boards
    for board in boards:
        board.close()


@pytest.fixture
def sim() -> Iterator[SimBoard]:
    board = started(SimBoard())
    yield board
    board.close()


def board_id(board: SimBoard) -> str:
    return (board.flash / "board-id").read_text()


# which board


def test_only_ports_with_usb_ids_are_touched(two, listed):
    """micropython#8736, #8485: a tool chose a Bluetooth port."""
    bluetooth = usb(two[1].tty, None, None, None)
    blue_name = usb(two[1].tty, "x")
    blue_name.description = "Bluetooth-Incoming-Port"
    listed(usb(two[0].tty, "E660"), bluetooth, blue_name)
    assert [p.device for p in usb_ports()] == [two[0].tty]
    assert find_one().board == board_id(two[0])
    listed(bluetooth)
    with pytest.raises(errors.NoBoard, match="no port with USB vendor and product ids is there; plug one in"):
        find_one()


def test_two_boards_are_listed_and_none_is_chosen(two, listed):
    """micropython#9140, MicroPythonOS#226."""
    listed(usb(two[0].tty, "E660A"), usb(two[1].tty, "E660B"))
    for need_agent in (True, False):
        with pytest.raises(errors.SeveralBoards, match="2 boards are there, and none was named") as e:
            find_one(need_agent=need_agent)
        assert [line.split()[0] for line in e.value.candidates] == [two[0].tty, two[1].tty]
        assert all(board_id(b) in str(e.value) and "2e8a:0005" in str(e.value) for b in two)


def test_a_board_is_named_by_port_number_or_id(two, listed):
    listed(usb(two[0].tty, "E660A"), usb(two[1].tty, "E660B"))
    for board, number in zip(two, ("e660a", "E660B"), strict=True):
        for selector in (board.tty, number, board_id(board)):
            assert find_one(selector).board == board_id(board)
    with pytest.raises(errors.NoBoard, match=r"no board 'E660C' among 2 USB ports .*name one of those"):
        find_one("E660C")
    with pytest.raises(errors.PortMissing, match=r"no port /dev/ttyACM77 .*plug the board in"):
        find_one("/dev/ttyACM77")


def test_a_silent_port_holds_up_none(two, listed):
    master, slave = os.openpty()
    try:
        listed(usb(two[0].tty, "A"), usb(os.ttyname(slave), "B", 0x1234, 1), usb(two[1].tty, "C"))
        start = time.monotonic()
        asked = discover(1.0)
        assert time.monotonic() - start < 20
        there = {p.usb_serial: p for p in asked}
        assert [there[n].board for n in "ABC"] == [board_id(two[0]), "", board_id(two[1])]
        assert isinstance(there["B"].trouble, errors.SilentPort)
        listed(usb(two[0].tty, "A"), usb(os.ttyname(slave), "B", 0x1234, 1))
        assert find_one(hello_s=1.0).board == board_id(two[0])  # a port that is no board is no second candidate
    finally:
        os.close(master)
        os.close(slave)


def test_a_board_that_came_back_under_another_name(sim, listed):
    """belay#14: it is known by its USB serial number."""
    listed(usb(sim.tty, "E660A"))
    with PortBoard.of("E660A") as board:
        board.link.close()
        sim.start()  # another pseudo-terminal
        listed()
        threading.Timer(0.4, lambda: listed(usb(sim.tty, "E660A"))).start()
        board.connect()
        assert board.found.device == sim.tty and board.link.board["board"] == board_id(sim)
        listed()
        with pytest.raises(errors.NoBoard, match="USB serial E660A did not come back within"):
            wait_for(board.found, 0.3)


def test_another_board_at_the_same_port(two, listed):
    board = PortBoard(Found(two[0].tty))
    with board:
        pass
    board.found.device = two[1].tty
    with pytest.raises(
        errors.OtherBoard, match=f"board {board_id(two[1])} is at {two[1].tty} now, not {board_id(two[0])}: name"
    ):
        board.connect()
    assert ask(Found(two[1].tty)).board == board_id(two[1])  # let go of


def test_a_reset_by_its_button(sim, listed):
    (sim.flash / "machine.py").write_text("import sys\ndef reset(): sys.exit()\ndef unique_id(): return b'\\x01\\x02'\n")
    sim.start()
    listed(usb(sim.tty, "E660A"))  # after the start: its port has another name, where others open ports at the same time
    with PortBoard.of() as board:
        board.restart()
        assert board.link.board["board"] == "0102" and board.client.status()


# opening it


def test_a_port_in_use_says_by_what(sim):
    code = (
        "import serial, sys, time; port = serial.Serial(sys.argv[1], exclusive=True); print('open', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, sim.tty], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None and other.stdout.readline() == b"open\n"
        with pytest.raises(
            errors.PortBusy, match=f"in use by .*python.* \\(process {other.pid}\\).*: close that, then run"
        ) as e:
            open_port(sim.tty)
        assert isinstance(ask(Found(sim.tty)).trouble, errors.PortBusy) and sim.tty in str(e.value)
    finally:
        other.kill()
        other.wait()
    port = open_port(sim.tty)  # free again
    assert f"process {os.getpid()}, this program itself" in " ".join(holders(sim.tty))
    close_port(port)


def test_permission_denied_names_the_group(sim):
    """MethodicConfigurator#407; never sudo."""
    group = os.stat(sim.tty).st_gid
    os.chmod(sim.tty, 0o060 | stat.S_IFCHR)
    name = grp.getgrgid(group).gr_name
    said = as_nobody(lambda: open_port(sim.tty))
    assert said.startswith(f"PortDenied permission denied on {sim.tty}: it belongs to the group '{name}'"), said
    assert f"usermod -a -G {name} " in said and "log out and in" in said and "sudo" not in said
    os.chmod(sim.tty, 0o600 | stat.S_IFCHR)
    if os.geteuid() == 0:
        said = as_nobody(lambda: open_port(sim.tty))
        assert "only its owner may open it (mode 0600)" in said and "udev rule" in said and "sudo" not in said


def as_nobody(work: Callable[[], object]) -> str:
    """Type and text of what `work` raises when it runs as a user who is not root (root may open everything)."""
    if os.geteuid() != 0:
        with pytest.raises(Exception) as e:
            work()
        return f"{type(e.value).__name__} {e.value}"
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        nobody = pwd.getpwnam("nobody")
        text = "nothing"
        try:
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            work()
        except BaseException as e:
            text = f"{type(e).__name__} {e}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read) as f:
        return f.read()


def test_no_port_at_all(tmp_path):
    file = tmp_path / "file"
    file.write_text("not a port")
    for device, said in (
        (str(file), "no serial port"),
        ("socket://127.0.0.1:1", "nothing listens"),
        ("what://x", "no serial port"),
    ):
        with pytest.raises(errors.PortMissing, match=said):
            open_port(device)


class Lines:
    """A serial port behind RFC 2217 (pyserial's own server, on its loop:// port), which notes what becomes of DTR and RTS."""

    def __init__(self):
        self.noted: list[tuple[bool, bool]] = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"rfc2217://127.0.0.1:{self.server.getsockname()[1]}"
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        connection, _ = self.server.accept()
        lines = self

        class Noting(serial.serial_for_url("loop://", do_not_open=True).__class__):
            def _update_dtr_state(self) -> None:
                super()._update_dtr_state()
                lines.noted.append((self.dtr, self.rts))

            def _update_rts_state(self) -> None:
                super()._update_rts_state()
                lines.noted.append((self.dtr, self.rts))

        port = Noting("loop://", timeout=0.05)
        self.noted.clear()
        manager = PortManager(port, type("Out", (), {"write": staticmethod(connection.sendall)}))
        with contextlib.suppress(OSError):
            while data := connection.recv(1024):
                port.write(b"".join(manager.filter(data)))
        connection.close()


@pytest.mark.filterwarnings("ignore:set.*is deprecated")
@pytest.mark.parametrize("dtr", [None, True, False])
@pytest.mark.parametrize("rts", [None, True, False])
def test_dtr_and_rts_are_set_on_purpose(dtr, rts):
    """micropython#9659, #11075, #17532: DTR low while RTS is high resets an ESP32."""
    lines = Lines()
    port = open_port(lines.url, dtr=dtr, rts=rts)
    time.sleep(0.3)
    assert lines.noted[-1] == (dtr is not False, rts is not False)
    close_port(port)
    lines.thread.join(5)
    assert lines.noted[-1] == (False, False)
    wanted = {(False, True)} if (dtr is False and rts is not False) else set()
    assert {n for n in lines.noted if n == (False, True)} <= wanted, lines.noted


def test_a_reset_on_open_is_waited_for():
    """micropython#9659: opening the port resets an ESP32."""
    if sys.platform != "linux":
        pytest.skip("only Linux tells a pseudo-terminal that its other end was opened")
    with SimBoard(reset_on_open=True) as board:
        slow = (board.flash / "main.py").read_text().replace("time.sleep_ms(0 ", "time.sleep_ms(2500 ")
        (board.flash / "main.py").write_text(slow)
        board.link.close()
        board.port.close()
        time.sleep(0.3)
        found = ask(Found(board.tty), hello_s=1.0)  # less than it takes to come up again
        assert found.hello and found.trouble is None


# what is there instead


def test_a_board_at_its_prompt(sim):
    tty = with_program(sim, "print('hi')", b"hi")
    for _ in range(3):  # asking leaves it as it was
        found = ask(Found(tty))
        assert isinstance(found.trouble, errors.AtPrompt) and "tinycl flash" in str(found.trouble) and found.likely()


def test_a_raw_repl_that_was_left_open(sim):
    port = open_port(sim.tty)
    Repl(port, sim.tty).enter()
    close_port(port)
    assert isinstance(ask(Found(sim.tty)).trouble, errors.InRawRepl)
    found = ask(Found(sim.tty))
    assert isinstance(found.trouble, errors.AtPrompt)  # the cure was half done


def test_somebody_elses_program(sim):
    beat = "import time\nn = 0\nwhile True:\n  n += 1\n  print('temperature', n)\n  time.sleep(0.05)\n"
    tty = with_program(sim, beat, b"temperature")
    found = ask(Found(tty), hello_s=1.0)
    assert isinstance(found.trouble, errors.ForeignProgram) and found.trouble.line.startswith("temperature")
    assert f"prints '{found.trouble.line}': save it" in str(found.trouble)
    port = serial.Serial(tty, timeout=2)
    assert b"temperature" in port.read_until(b"\n")  # it still runs: asking is not stopping
    port.close()


def test_a_silent_program(sim):
    tty = with_program(sim, "import micropython\nmicropython.kbd_intr(-1)\nwhile True: pass")
    found = ask(Found(tty), hello_s=1.0)
    assert isinstance(found.trouble, errors.SilentPort) and "reset the board" in str(found.trouble).lower()


class Chip:
    """Something at the end of a pseudo-terminal that says what it is given, then listens to nobody."""

    def __init__(self, *said: bytes, again_s: float = 0.0):
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.tty = os.ttyname(self.slave)
        self.alive = True
        self.thread = threading.Thread(target=self.say, args=(said, again_s), daemon=True)
        self.thread.start()

    def say(self, said: tuple[bytes, ...], again_s: float) -> None:
        while self.alive:
            time.sleep(0.15)
            for line in said:
                os.write(self.master, line)
            if not again_s:
                break
            time.sleep(again_s)

    def close(self) -> None:
        self.alive = False
        self.thread.join()
        for fd in (self.master, self.slave):
            with contextlib.suppress(OSError):
                os.close(fd)


ROM = b"ets Jul 29 2019 12:21:46\r\n\r\nrst:0x1 (POWERON_RESET),boot:0x3 (DOWNLOAD_BOOT(UART0/UART1/SDIO_REI_REO_V2))\r\n"


@pytest.mark.parametrize(
    ("said", "again_s", "error", "text"),
    [
        (
            (ROM, b"waiting for download\r\n"),
            0.0,
            errors.InBootLoader,
            "in its boot loader and waits for firmware: press its EN",
        ),
        ((b"Adafruit CircuitPython 9.0.0 on 2024-01-01\r\n",), 0.3, errors.NotMicroPython, "runs CircuitPython"),
        ((bytes(range(128, 256)) * 2,), 0.3, errors.NoText, "bytes that are no text (8"),
        ((b"Marlin 2.1\r\necho: ready\r\n",), 0.3, errors.ForeignProgram, "it prints 'Marlin 2.1'"),
        ((), 0.0, errors.SilentPort, "not a byte from"),
    ],
)
def test_other_chips(said, again_s, error, text):
    chip = Chip(*said, again_s=again_s)
    try:
        found = ask(Found(chip.tty), hello_s=1.0)
        assert type(found.trouble) is error and text in str(found.trouble), found.trouble
    finally:
        chip.close()


def test_a_port_that_vanishes_while_it_is_asked(sim):
    port = open_port(sim.tty)
    sim.hang()
    threading.Timer(0.3, sim.cable.hang_up).start()
    with pytest.raises(BoardGone):
        greet(port, sim.tty)
    sim.go_on()
    close_port(port)


def test_an_agent_of_another_protocol(sim):
    path = sim.flash / "shared/wire.py"
    path.write_text(path.read_text().replace(f"VERSION = {wire.VERSION}\n", f"VERSION = {wire.VERSION + 7}\n", 1))
    sim.start()
    found = ask(Found(sim.tty))
    assert isinstance(found.trouble, ProtocolMismatch) and found.likely()
    assert str(wire.VERSION) in str(found.trouble) and str(wire.VERSION + 7) in str(found.trouble)


def test_the_agent_is_started_from_main_with_a_way_out():
    """micropython#15230, #6853: an endless boot.py makes a board unreachable. The way out is taken in test_rp2040.py."""
    device = Path(__file__).parent.parent.parent / "device"
    assert (device / "main.py").exists() and not (device / "boot.py").exists()


def test_a_reset_leaves_no_file_of_its_end_to_be_closed_twice(sim):
    """While the board starts over, `stop` on another thread must find no descriptor that somebody else may own by now."""
    seen = []
    restart = sim.cable.on_exit

    def on_exit() -> int:
        seen.append(sim.cable.exit_fd)
        return restart()

    sim.cable.on_exit = on_exit
    sim.reset()
    assert ask(Found(sim.tty)).hello and seen == [-1]
