# Every way in which tinycl says no, as one table that both sides share: the code crosses the wire, the name is for people.
# Runs unchanged under CPython and MicroPython; imports nothing; allocates one small tuple.


class TinyclError(Exception):
    """The root of all typed errors. `code` is one of the numbers below; the text carries numbers and ends with what to do."""

    code = 1

    def __init__(self, text="", code=None):
        super().__init__(text)
        self.text = text
        if code is not None:
            self.code = code


class FormatError(TinyclError):
    """A blob, a state file or a frame that does not follow its format: nothing of it was used."""

    code = 2


class PlanError(TinyclError):
    """A memory plan that does not fit the board."""

    code = 3


# codes of errors that a board reports (ERROR frames) beside those above
INTERNAL = 1  # an exception that nobody expected: its name is in the text
FORMAT = 2
PLAN = 3
UNKNOWN_REQUEST = 4  # a frame type or a field that this firmware does not know
NO_BLOB = 5  # the request needs an active blob
BUSY = 6  # an enrolment is open, or a job runs
CLASS_EXISTS = 7
UNKNOWN_CLASS = 8
SAMPLE = 9  # a sample of the wrong size or outside the blob's range
TOO_FEW = 10  # not enough samples for what was asked
NO_ROOM = 11  # no class slot, sample slot or flash left
ABORTED = 12  # the host asked to stop; the last good state is back
SEQUENCE = 13  # out of turn: nothing open, or a piece that crosses a block
VERSION = 14  # host and board speak different protocols, or a learned state is of a version to come

NAMES = (
    "OK INTERNAL FORMAT PLAN UNKNOWN_REQUEST NO_BLOB BUSY CLASS_EXISTS UNKNOWN_CLASS SAMPLE TOO_FEW NO_ROOM ABORTED SEQUENCE "
    "VERSION"
).split()
