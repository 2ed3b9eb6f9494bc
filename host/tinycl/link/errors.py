"""What can go wrong between host and board: one exception per failure, all under TinyclError."""

from tinycl.shared import errors
from tinycl.shared.errors import TinyclError


class LinkError(TinyclError):
    """The root of all failures of the line."""


class BoardRefused(TinyclError):
    """The board understood a request and refused it; `code` is one of shared/errors.py, the text is the board's own."""

    def __init__(self, code: int, text: str):
        name = errors.NAMES[code] if code < len(errors.NAMES) else f"code {code}"
        super().__init__(f"{text} [{name}]", code)


class BoardSilent(LinkError):
    """No frame within the deadline: the board hangs, or something else is at the other end."""


class BoardGone(LinkError):
    """The port vanished: unplugged, or the board's process ended."""


class LineUnfit(LinkError):
    """The line loses bytes at the rate that was chosen for it."""


class BoardReset(LinkError):
    """The board started over in the middle of a session: what was open is gone, what was committed is there."""


class ProtocolMismatch(LinkError):
    """Host and board speak different versions of the protocol."""
