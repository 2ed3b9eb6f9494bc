"""What tests of real ports share: a port as the system lists it, and a board that runs somebody else's program. Depends on
pyserial."""

import time

from serial.tools.list_ports_common import ListPortInfo

from tinycl.board.port import close_port, open_port
from tinycl.board.sim import SimBoard


def usb(device: str, number: str | None = None, vid: int | None = 0x2E8A, pid: int | None = 5) -> ListPortInfo:
    """A port as pyserial lists it."""
    port = ListPortInfo(device, skip_link_detection=True)
    port.vid, port.pid, port.serial_number, port.product = vid, pid, number, "Board in FS mode"
    return port


def with_program(board: SimBoard, program: str, said: bytes = b"") -> str:
    """Gives a board another main.py and starts it; its port, once it said `said`, or has a prompt behind it (what was said
    before the port was opened is lost)."""
    board.stop()
    (board.flash / "main.py").write_text(program)
    board.start()
    if said:
        port = open_port(board.tty)
        heard, end = b"", time.monotonic() + 10
        port.timeout = 0.1
        while said not in heard and b">>> " not in heard and time.monotonic() < end:
            port.write(b"\r")
            heard += port.read(64)
        assert said in heard or b">>> " in heard
        close_port(port)
    return board.tty
