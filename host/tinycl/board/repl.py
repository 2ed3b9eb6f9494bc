"""A board's raw REPL, over mpremote's transport used as a library: reached whatever runs there, bounded by a deadline at every
step, left so that main.py runs. What runs on the board are the files in snippets/."""

import ast
import random
import re
import struct
import time
from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import Any

import serial
from mpremote.transport import TransportError, TransportExecError
from mpremote.transport_serial import SerialTransport

from tinycl.board.diagnosis import PROMPT, RAW_BANNER, listen, of_program
from tinycl.board.errors import BoardRaised, ForeignProgram, NoRepl, SilentPort
from tinycl.link.errors import BoardGone
from tinycl.shared import wire

ENTER_S = 10.0
SNIPPET_S = 10.0  # for one snippet; a slow flash and a large listing are done within two
TRY_S = 1.0
READ_S = 1.0  # mpremote takes a read of two bytes that returns less for an error


class _Transport(SerialTransport):
    """mpremote's, on a port that is open already, and with an end to every wait."""

    def __init__(self, port: Any):
        self.serial = port
        self.in_raw_repl = True
        self.use_raw_paste = True
        self.mounted = False
        self.device_name = ""
        self.end = 0.0
        self.prompted = False  # the prompt that mpremote waits for before a command was read already

    def read_until(
        self,
        min_num_bytes: int,
        ending: bytes,
        timeout: float | None = 10,
        data_consumer: Callable[[bytes], None] | None = None,
        timeout_overall: float | None = None,
    ) -> bytes:
        data = bytearray(ending if self.prompted and ending == b">" else b"")
        self.prompted = False
        while not data.endswith(ending):
            if time.monotonic() > self.end:
                raise TransportError(f"no {ending!r} in time, but {bytes(data[-60:])!r}")
            new = self.serial.read(1)
            data += new
            if new and data_consumer:
                data_consumer(new)
        return bytes(data)


class Repl:
    """port: open, pyserial's interface; device: its name, for texts. `enter` first, `restart` last."""

    def __init__(self, port: Any, device: str):
        self.port = port
        self.device = device
        self.transport = _Transport(port)

    def enter(self, deadline_s: float = 0.0) -> None:
        """Into raw mode, from a session of ours, any program that Ctrl-C ends, the prompt, paste mode or raw mode. Raises
        NoRepl, SilentPort or ForeignProgram, with what was heard."""
        try:
            self._enter(deadline_s or ENTER_S)
        except serial.SerialTimeoutException as e:
            raise SilentPort(f"{self.device} takes no bytes: its program hangs; reset the board") from e
        except (OSError, TypeError) as e:  # what pyserial lets through where a port went away
            raise self._gone(e) from e

    def _gone(self, e: Exception) -> BoardGone:
        return BoardGone(f"{self.device} is gone ({e}): plug the board in again, then run the same command again")

    def _enter(self, deadline_s: float) -> None:
        end = time.monotonic() + deadline_s
        heard = b""
        tries = 0
        while True:
            # An agent in a session takes Ctrl-C for data until it hears BYE; it may sit in a frame that was cut, so the BYE
            # follows a filler from the second time on.
            self.port.write(bytes([wire.SYNC]) * (2048 if tries % 2 else 0) + _bye())
            time.sleep(0.05)
            self.port.write(b"   \r\x03\x03")  # ends a program, clears a line
            heard += listen(self.port, 0.3 if tries else 0.15, PROMPT)
            self.port.write(b"\r\x02")  # out of raw mode, so that the way in is always the same
            heard += listen(self.port, 0.3, PROMPT)
            listen(self.port, 0.05)
            self.port.write(b"\r\x01")
            said = listen(self.port, min(TRY_S, max(0.1, end - time.monotonic())), RAW_BANNER + b">")
            if said.endswith(RAW_BANNER + b">") and self._in_step():
                return
            heard += said
            tries += 1
            if time.monotonic() > end:
                raise self._no_way(heard, deadline_s, tries)

    def _in_step(self) -> bool:
        """Whether a command and its answer belong together; late answers to earlier tries are dropped before."""
        listen(self.port, 0.02)
        self.port.timeout = READ_S
        self.transport.prompted = True
        mark = f"tinycl {random.randrange(1 << 30)}"
        try:
            return self.execute(f"print({mark!r})", 2.0).strip() == mark
        except NoRepl:
            return False

    def _no_way(self, heard: bytes, deadline_s: float, tries: int) -> NoRepl | ForeignProgram | SilentPort:
        cause = of_program(heard, self.device)
        if isinstance(cause, SilentPort):
            return cause
        cure = (
            "reset the board and run the same command within a second; if that does not help, its main.py or boot.py catches "
            "Ctrl-C: flash firmware over it (RP2040: hold BOOTSEL while plugging it in) with 'tinycl flash --firmware FILE', "
            "which leaves its files, or erase its flash first"
        )
        if isinstance(cause, ForeignProgram):
            return ForeignProgram(
                f"the program on {self.device}, which prints '{cause.line}', does not end on Ctrl-C ({tries} tries in "
                f"{deadline_s:g} s): {cure}",
                cause.line,
            )
        return NoRepl(
            f"no raw REPL on {self.device} in {deadline_s:g} s ({tries} tries with Ctrl-C; it said {heard[-40:]!r}): {cure}"
        )

    def run(self, snippet: str, deadline_s: float = SNIPPET_S, **values: Any) -> str:
        """Runs snippets/<snippet>.py with `values` as its globals; what it printed."""
        code = "".join(f"{name}={value!r}\n" for name, value in values.items())
        return self.execute(code + _source(snippet), deadline_s, snippet)

    def execute(self, code: str, deadline_s: float = SNIPPET_S, what: str = "a line") -> str:
        self.transport.end = time.monotonic() + deadline_s
        try:
            return self.transport.exec(code).decode("utf-8", "replace")
        except TransportExecError as e:
            raised = str(e.error_output).strip().splitlines() or ["an exception without text"]
            number = re.search(r"OSError: (?:\[Errno (-?\d+)\]|(-?\d+))", raised[-1])
            raise BoardRaised(
                f"{what} failed on the board at {self.device} ({raised[-1]}): run the same command again; if it stays, reset "
                "the "
                "board",
                abs(int(number[1] or number[2])) if number else 0,
            ) from e
        except (OSError, TypeError) as e:
            raise self._gone(e) from e
        except (TransportError, ValueError, IndexError) as e:  # the latter two: mpremote reads a cut answer
            raise NoRepl(
                f"the REPL of {self.device} stopped answering while {what} ran (at most {deadline_s:g} s; {e}): reset the "
                "board "
                "and run the same command again"
            ) from e
        except struct.error as e:  # mpremote unpacks an answer that is cut
            raise NoRepl(f"the REPL of {self.device} gave half an answer while {what} ran: run the same command again") from e

    def leave(self) -> None:
        """The friendly prompt, without a reset."""
        self.port.write(b"\r\x03\x02")

    def restart(self) -> None:
        """A soft reset from the friendly prompt: from raw mode main.py would not be run."""
        self.port.write(b"\r\x03\x02")
        said = listen(self.port, TRY_S, PROMPT)
        if PROMPT not in said:
            self.port.write(b"\r\x03\x02")
            said = listen(self.port, TRY_S, PROMPT)
        self.port.write(b"\x04")

    def hard_reset(self) -> None:
        """As by the reset button; the port may vanish and come back under another name."""
        self._last_words("import machine\nmachine.reset()")

    def boot_loader(self) -> None:
        """Into the boot loader (RP2040: a drive appears); the port vanishes."""
        self._last_words("import machine\nmachine.bootloader()")

    def _last_words(self, code: str) -> None:
        self.transport.end = time.monotonic() + 2.0
        try:
            self.transport.exec_raw_no_follow(code)
            listen(self.port, 0.2)
        except (TransportError, OSError, TypeError, ValueError):
            pass  # it is gone: that was the point


def literals(text: str) -> Iterable[Any]:
    """The Python literals that a snippet printed, one a line."""
    for line in text.splitlines():
        if line.strip():
            try:
                yield ast.literal_eval(line.strip())
            except (ValueError, SyntaxError) as e:
                raise NoRepl(
                    f"the board printed {line[:60]!r} among its answers: reset it and run the same command again"
                ) from e


def _source(snippet: str) -> str:
    return (files("tinycl.board") / "snippets" / f"{snippet}.py").read_text()


def _bye() -> bytes:
    """BYE under a number whose frame holds no control character but its type: a prompt may read it."""
    for number in range(64, 128):
        frame = wire.encode(wire.BYE, number)
        if min(frame[:4] + frame[5:]) >= 32:
            return frame
    raise AssertionError("no such number")
