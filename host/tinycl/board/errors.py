"""What can go wrong with a port and the board behind it: one exception per cause. Each text names the cause, carries what was
seen, and ends with the cure. Depends on tinycl.board.base only."""

from collections.abc import Sequence

from tinycl.board.base import BoardError

# finding one


class NoBoard(BoardError):
    """Nothing that could be a board, or nothing that fits the name which was given."""


class SeveralBoards(BoardError):
    """More than one board fits; `candidates` are their descriptions, one line each."""

    def __init__(self, text: str, candidates: Sequence[str]):
        super().__init__(text)
        self.candidates = list(candidates)


class OtherBoard(BoardError):
    """Another board than the one that was asked for is at this port now."""


# opening its port


class PortMissing(BoardError):
    """The port is not there (any more)."""


class PortDenied(BoardError):
    """The port belongs to users or a group that this user is not of."""


class PortBusy(BoardError):
    """Another program has the port."""


# what is at the other end instead of the agent


class NoAgent(BoardError):
    """The port is open, and no agent answers HELLO; a subclass says what was found."""


class InBootLoader(NoAgent):
    """The chip waits for firmware."""


class AtPrompt(NoAgent):
    """MicroPython waits at its prompt; no agent runs."""


class InRawRepl(NoAgent):
    """Some tool left MicroPython's REPL in raw mode."""


class ForeignProgram(NoAgent):
    """A program that is not ours runs there; `line` is the first line that it printed."""

    def __init__(self, text: str, line: str):
        super().__init__(text)
        self.line = line


class NoText(NoAgent):
    """Bytes that are no text: another speed, or no MicroPython."""


class SilentPort(NoAgent):
    """Not a byte within the deadline."""


class NoRepl(BoardError):
    """The REPL could not be reached, although all was tried."""


# what the firmware is


class NotMicroPython(BoardError):
    """There is a prompt, and it is not MicroPython's (CircuitPython, a shell, ...)."""


class FirmwareTooOld(BoardError):
    """A MicroPython older than the runtime needs."""


class FirmwareLacks(BoardError):
    """A MicroPython without something that the runtime needs; `missing` names it."""

    def __init__(self, text: str, missing: Sequence[str]):
        super().__init__(text)
        self.missing = list(missing)


class WrongAbi(BoardError):
    """A compiled file that this firmware does not load."""


class FirmwareError(BoardError):
    """Firmware that cannot be had, is not for this board, or could not be written."""


# its flash


class BrokenFiles(BoardError):
    """The board's file system cannot be read or written."""


class FlashFull(BoardError):
    """Too little room on the flash; the text says whether anything was written."""


class NotVerified(BoardError):
    """A file on the board is not what was sent."""


class BoardRaised(BoardError):
    """A snippet of ours ended in an exception on the board; `errno` is that of an OSError, otherwise 0."""

    def __init__(self, text: str, errno: int = 0):
        super().__init__(text)
        self.errno = errno
