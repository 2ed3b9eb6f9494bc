"""What is at the other end of a port where no agent answers: told from what was heard, and from two questions that disturb no
program. Depends on an open port (pyserial's interface) and tinycl.board.errors."""

import re
import time
from typing import Any

from tinycl.board.errors import AtPrompt, ForeignProgram, InBootLoader, InRawRepl, NoAgent, NoText, NotMicroPython, SilentPort

KEPT_BYTES = 4096
PROMPT = b">>> "
RAW_BANNER = b"raw REPL; CTRL-B to exit\r\n"
# A chip that starts over says so before anything else: ESP32's ROM, and MicroPython after Ctrl-D.
BOOT_NOISE = re.compile(rb"ets \w+ +\d+ \d+|ESP-ROM:|rst:0x[0-9a-f]+|MPY: soft reboot")
BOOT_LINES = re.compile(rb"[^\r\n]*(?:ets \w+ +\d+ \d+|ESP-ROM:|rst:0x[0-9a-f]+|MPY: soft reboot)[^\r\n]*[\r\n]*")
DOWNLOAD_MODE = re.compile(rb"waiting for download|DOWNLOAD[_(A-Z0-9/]*BOOT|boot:0x\w+ \(DOWNLOAD")
ANSWER_S = 0.4
LISTEN_S = 1.5


class Tap:
    """An open port that remembers the last bytes which came out of it, in `heard`. Everything else is the port's own."""

    def __init__(self, port: Any):
        object.__setattr__(self, "port", port)
        object.__setattr__(self, "heard", bytearray())

    def read(self, size: int = 1) -> bytes:
        data: bytes = self.port.read(size)
        self.heard.extend(data)
        del self.heard[:-KEPT_BYTES]
        return data

    def reset_input_buffer(self) -> None:
        if waiting := self.port.in_waiting:
            self.read(waiting)  # what a chip says as it starts would otherwise be lost
        self.port.reset_input_buffer()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.port, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.port, name, value)


def listen(port: Any, most_s: float, until: bytes = b"") -> bytes:
    """What arrives within most_s, or up to and including `until`."""
    port.timeout = 0.02
    heard = bytearray()
    end = time.monotonic() + most_s
    while time.monotonic() < end:
        heard += port.read(max(1, port.in_waiting))
        if until and until in heard:
            break
    return bytes(heard)


def booting(heard: bytes) -> bool:
    """The chip was reset a moment ago: its program may need some seconds yet."""
    return bool(BOOT_NOISE.search(heard)) and not DOWNLOAD_MODE.search(heard)


def at_prompt(heard: bytes) -> bool:
    """Some REPL has answered HELLO, and goes on taking it for Python: no use in asking again."""
    return PROMPT in heard or RAW_BANNER in heard or b"tinycl" in heard


def diagnose(port: Any, device: str, heard: bytes) -> NoAgent | NotMicroPython:
    """The error that says what is there. heard: what came while HELLO was asked. Leaves no program stopped."""
    if found := _boot_loader(heard, device):
        return found
    if not booting(heard) and b"~" not in heard.partition(b"\r\nMicroPython ")[0] and b"\r\nMicroPython " in heard:
        return _raw_repl(device)  # HELLO holds a Ctrl-B, which ends raw mode; and raw mode does not echo
    port.write(
        b"   \r"
    )  # a prompt answers it, raw mode does not; the spaces end an escape sequence that a frame may have begun
    said = listen(port, ANSWER_S, PROMPT)
    if PROMPT in said or b"\n... " in said or said.endswith(b"=== "):  # the latter two: what a frame may have begun
        port.write(b"\x03")  # clears what the frames left; at a prompt it ends no program
        return AtPrompt(
            f"MicroPython on {device} waits at its prompt (>>>), the agent does not run: deploy it with 'tinycl flash', or "
            "reset the board if it is there already"
        )
    port.write(b"\x01")  # raw mode begins anew; to a program it is one byte of noise
    said += listen(port, ANSWER_S, RAW_BANNER + b">")
    if RAW_BANNER in said:
        port.write(b"\r\x02")
        return _raw_repl(device)
    heard = heard + said
    if not heard:
        heard = listen(port, LISTEN_S, b"\n")
    return _boot_loader(heard, device) or of_program(heard, device)


def _raw_repl(device: str) -> InRawRepl:
    return InRawRepl(
        f"a tool left the REPL of {device} in raw mode; it is back at its prompt now: press Ctrl-D in a terminal to start "
        "what is "
        "on the board, or deploy the agent with 'tinycl flash'"
    )


def of_program(heard: bytes, device: str) -> NoAgent | NotMicroPython:
    """The error for a port at which something else than MicroPython's prompt is, by what it said."""
    started = BOOT_NOISE.search(heard)
    heard = BOOT_LINES.sub(b"", heard)
    if started and not heard.strip():
        return SilentPort(
            f"the board on {device} started over, and nothing was heard of it since: wait for a moment and run the same "
            "command "
            "again; if that does not help, its program hangs: deploy it anew with 'tinycl flash'"
        )
    if not heard:
        return SilentPort(
            f"not a byte from {device}: is it the right port, is the cable one that carries data, does the board's program "
            "hang? Reset the board, or unplug it and plug it in again; without MicroPython on it, run 'tinycl flash' with "
            "--firmware FILE"
        )
    if b"Adafruit CircuitPython" in heard:
        return NotMicroPython(
            f"{device} runs CircuitPython, which lacks what the runtime needs: install MicroPython with 'tinycl flash "
            "--firmware FILE'"
        )
    line = first_line(heard)
    if not line:
        return NoText(
            f"{device} sends bytes that are no text ({heard[:12].hex(' ')}): it speaks at another rate than this host "
            "(--baud), "
            "or its program is not MicroPython; reset it, or install MicroPython with 'tinycl flash --firmware FILE'"
        )
    return ForeignProgram(
        f"a program that is not tinycl's runs on {device}; it prints '{line}': save it if you need it, then deploy with "
        "'tinycl "
        "flash' (a main.py that is there is kept under another name)",
        line,
    )


def first_line(heard: bytes) -> str:
    """The first line of text that was heard, at most 80 characters; empty where there is none."""
    for line in re.split(rb"[\r\n]+", heard):
        text = line.decode("utf-8", "replace").strip()
        plain = sum(c.isprintable() and c != "\ufffd" for c in text)
        if plain >= 3 and plain > 0.8 * len(text):
            return text[:80]
    return ""


def _boot_loader(heard: bytes, device: str) -> InBootLoader | None:
    if not DOWNLOAD_MODE.search(heard):
        return None
    return InBootLoader(
        f"the ESP32 on {device} is in its boot loader and waits for firmware: press its EN (reset) button to start what is on "
        "it, "
        "or install MicroPython with 'tinycl flash --firmware FILE'"
    )
