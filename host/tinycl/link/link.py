"""The host's end of the serial line: requests in sequence, several in flight inside the board's window, repeated where
lost, every wait with a deadline. Depends on pyserial for the port and on shared/wire.py for the frames; see WIRE.md."""

import contextlib
import json
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import serial

from tinycl.link.errors import BoardGone, BoardRefused, BoardReset, BoardSilent, LineUnfit, LinkError, ProtocolMismatch
from tinycl.link.pieces import pieces
from tinycl.shared import wire

# What pyserial lets through where the port went away under it.
_GONE: tuple[type[Exception], ...] = (OSError, TypeError)
try:
    import termios

    _GONE += (termios.error,)
except ImportError:  # not a POSIX system
    pass

RETRY_S = 0.5  # the oldest unanswered request is repeated after this long without a frame
SILENCE_S = 5.0  # neither an answer nor an event for this long is a failure
LOADING_S = 60.0  # a board that loads its state says `alive`, and has this long until it answers HELLO or ABORT
ANSWER_S = 60.0  # no request but a job may take longer, whatever the board tells meanwhile
JOB_S = 1800.0  # nor may a job: the longest training measured, plain kernels on a slow chip, takes minutes
FIRST_WINDOW_BYTES = 64  # what any board can take before its HELLO has told more
OWN_ACCORD = ("metrics", "prediction", "sensor")  # events that no request waits for
MAX_FILLER_BYTES = 2048
MAX_LINE_BYTES = wire.HEAD_BYTES + wire.MAX_BODY

Event = dict[str, Any]


class Link:
    """A session with one board over an open port (pyserial's interface; its timeouts are set here).

    on_event is called with each event of the board as a dict; a function given to a single call takes precedence.
    Raises BoardSilent, BoardGone, BoardReset, BoardRefused; after any of them `recover` brings the line back into step.
    """

    def __init__(self, port: serial.SerialBase, on_event: Callable[[Event], None] | None = None):
        self.port = port
        port.timeout = 0.02
        port.write_timeout = SILENCE_S
        self.on_event = on_event
        self.decoder = wire.Decoder(MAX_LINE_BYTES)
        self.frames: deque[tuple[int, int, bytes]] = deque()
        self.window = FIRST_WINDOW_BYTES
        self.seq = random.randrange(256)
        self.heard = 0.0  # when the last frame came while HELLO or ABORT was asked
        self.events = -1
        self.lost_events = 0
        self.repeats = 0
        self.board: dict[str, Any] = {}

    # sessions

    def hello(self, deadline_s: float | None = None) -> dict[str, Any]:
        """Starts a session; returns what the board says it is (see WIRE.md). Drops what a former session left open.
        deadline_s: SILENCE_S where it is not given."""
        deadline_s = SILENCE_S if deadline_s is None else deadline_s
        self._drain()
        self.events = -1
        board = _object(self._ask(wire.HELLO, deadline_s, bytes([wire.VERSION]) + b"tinycl " + wire.RELEASE.encode()))
        theirs = board.get("protocol")
        if theirs != wire.VERSION:
            older = isinstance(theirs, int) and theirs < wire.VERSION
            raise ProtocolMismatch(
                f"the board (agent {board.get('agent')}) speaks protocol {theirs}, this host (tinycl {wire.RELEASE}) speaks "
                f"{wire.VERSION}: " + ("update the board with 'tinycl flash'" if older else "update tinycl on this computer")
            )
        window = board.get("window")
        if not isinstance(window, int) or not FIRST_WINDOW_BYTES <= window <= MAX_LINE_BYTES:
            raise LinkError(f"the board announces a window of {window!r} bytes: update its agent")
        self.window = window
        self.board = board
        return board

    def recover(self, deadline_s: float | None = None) -> dict[str, Any]:
        """Back into step after a failure: abort what runs, drop what is on the line, say HELLO anew."""
        deadline_s = SILENCE_S if deadline_s is None else deadline_s
        end = time.monotonic() + deadline_s
        self._drain()
        self._ask(wire.ABORT, deadline_s)
        return self.hello(max(2 * RETRY_S, end - time.monotonic()))

    def close(self) -> None:
        """Says that this host is done, so that Ctrl-C gets the board's REPL again. The port stays open."""
        with contextlib.suppress(LinkError, *_GONE):
            self._write(wire.encode(wire.BYE, 0))
            end = time.monotonic() + RETRY_S
            while getattr(self.port, "out_waiting", 0) and time.monotonic() < end:  # flush() has no deadline
                time.sleep(0.01)

    def listen(self, seconds: float, on_event: Callable[[Event], None] | None = None) -> None:
        """Takes what the board tells of its own accord for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            frame = self._next_frame()
            if frame and frame[0] == wire.EVENT:
                self._event(frame[1], _object(frame[2]), on_event)

    def check_line(self, rounds: int = 4) -> None:
        """Whether this line carries whole windows of all bytes, there and back, at the rate that it has: to be asked once after
        that was chosen. Raises LineUnfit with the numbers where anything had to be sent again."""
        before = self.request_object(wire.STATUS)
        lost, broken = self.repeats, self.decoder.crc_errors
        rng = random.Random(1)
        for _ in range(rounds):
            # STATUS is answered whatever it carries, with more bytes than a window of a UART
            line = max(pieces(rng.randbytes(2 * self.window), self.window), key=len)
            try:
                self.request(wire.STATUS, line)
            except BoardSilent as e:
                raise LineUnfit(f"no answer to a window of {self.window} bytes: take a lower --baud, or another cable") from e
        after = self.request_object(wire.STATUS)
        there = sum(int(after.get(key, 0)) - int(before.get(key, 0)) for key in ("crc_errors", "gaps"))
        back = self.decoder.crc_errors - broken
        if there or back or self.repeats != lost:
            raise LineUnfit(
                f"{rounds} windows of {self.window} bytes lost {there} frames on the way to the board, {back} on the way back, "
                f"and took {self.repeats - lost} repeats: take a lower --baud, or another cable"
            )

    # requests

    def request(
        self,
        kind: int,
        payload: bytes = b"",
        on_event: Callable[[Event], None] | None = None,
        silence_s: float | None = None,
        most_s: float | None = None,
    ) -> bytes:
        """One request and its answer's payload. silence_s: without an answer or an event for so long it fails (SILENCE_S);
        most_s: so long it may take altogether (ANSWER_S)."""
        [answer] = self.stream([(kind, payload)], on_event, silence_s, most_s)
        return answer

    def request_json(self, kind: int, payload: bytes = b"", **options: Any) -> Any:
        """One request whose answer is JSON."""
        return _json(self.request(kind, payload, **options))

    def request_object(self, kind: int, payload: bytes = b"", **options: Any) -> dict[str, Any]:
        """One request whose answer is a JSON object."""
        return _object(self.request(kind, payload, **options))

    def stream(
        self,
        requests: Iterable[tuple[int, bytes]],
        on_event: Callable[[Event], None] | None = None,
        silence_s: float | None = None,
        most_s: float | None = None,
    ) -> Iterator[bytes]:
        """Answers' payloads in the order of the requests, with as many in flight as window and IN_FLIGHT allow. Deadlines as
        for `request`, for each of them."""
        silence_s = SILENCE_S if silence_s is None else silence_s
        most_s = ANSWER_S if most_s is None else most_s
        waiting = iter(requests)
        flying: deque[tuple[int, int, bytes]] = deque()  # (seq, kind, line)
        answers: dict[int, tuple[int, bytes]] = {}
        ready: tuple[int, int, bytes] | None = None
        refused: BoardRefused | None = None
        heard = sent = since = time.monotonic()  # since: the oldest unanswered one is the oldest from here on
        nak_at = 0.0
        try:
            while True:
                while refused is None:
                    if ready is None:
                        item = next(waiting, None)
                        if item is None:
                            break
                        ready = (self.seq, item[0], wire.encode(item[0], self.seq, item[1]))
                        if len(ready[2]) > self.window:
                            raise LinkError(
                                f"a frame of {len(ready[2])} bytes, the board takes {self.window}: send smaller pieces"
                            )
                        self.seq = (self.seq + 1) & 255
                    if flying and (
                        len(flying) >= wire.IN_FLIGHT or sum(len(f[2]) for f in flying) + len(ready[2]) > self.window
                    ):
                        break
                    flying.append(ready)
                    ready = None  # from here on its number counts as used
                    self._write(flying[-1][2])
                    heard = sent = time.monotonic()
                    since = heard if len(flying) == 1 else since
                if not flying:
                    if refused is not None:
                        raise refused
                    return
                frame = self._next_frame()
                now = time.monotonic()
                event = _object(frame[2]) if frame is not None and frame[0] == wire.EVENT else None
                news = frame is not None and _is_news(frame, event, flying)
                if news:
                    heard = now
                elif now - heard > silence_s:
                    raise BoardSilent(
                        f"no answer from the board for {silence_s:g} s after request 0x{flying[0][1]:02x}: "
                        "it hangs or was cut off; reconnect, its last commit is safe"
                    )
                if now - since > most_s:
                    raise BoardSilent(
                        f"the board has been at request 0x{flying[0][1]:02x} for {now - since:.0f} s, {most_s:g} are allowed: "
                        "reset it, its last commit is safe"
                    )
                if now - max(heard, sent) > RETRY_S:
                    self._write(flying[0][2])
                    self.repeats += 1
                    sent = now
                if frame is None:
                    continue
                kind, seq, payload = frame
                if event is not None:
                    self._event(seq, event, on_event)
                    if news:
                        heard = time.monotonic()  # a listener may take its time
                elif kind == wire.NAK and payload:
                    if (self.seq - payload[0]) & 255 > 2 * wire.IN_FLIGHT:
                        raise BoardReset(
                            f"the board waits for request number {payload[0]}, this session is at {self.seq}: it was reset or "
                            "another program spoke to it; reconnect, its last commit is safe"
                        )
                    at = next((i for i, f in enumerate(flying) if f[0] == payload[0]), None)
                    if at is not None and now - nak_at > RETRY_S / 5:
                        for flight in list(flying)[at:]:
                            self._write(flight[2])
                            self.repeats += 1
                        sent = nak_at = now
                elif kind in (wire.OK, wire.ERROR) and any(f[0] == seq for f in flying):
                    answers[seq] = (kind, payload)
                    while flying and flying[0][0] in answers:
                        kind, payload = answers.pop(flying.popleft()[0])
                        since = now
                        if kind == wire.ERROR:
                            refused = refused or _refusal(payload)
                        elif refused is None:
                            yield payload
                            heard = since = time.monotonic()
        finally:
            if ready is not None and self.seq == (ready[0] + 1) & 255:  # its number was never used
                self.seq = ready[0]

    # the line

    def _ask(self, kind: int, deadline_s: float, payload: bytes = b"") -> bytes:
        """HELLO or ABORT, which are outside the sequence: asked under a new number each time until any is answered.

        A board works in order, so it ends in step with the last one, however late its answers are. One that says anything
        else meanwhile (but NAK) gets LOADING_S."""
        start = time.monotonic()
        end = start + deadline_s
        attempt = silent = 0
        asked: set[int] = set()
        while True:
            self.seq = (self.seq + 1) & 255
            line = wire.encode(kind, self.seq, payload)
            if silent == 1 or (silent and silent % 4 == 0):  # not each time: a slow board is still reading the last one
                # The board may sit in the middle of a frame that was cut: fill it up. Of a board that is not known yet
                # even the window isn't, so the filler doubles, up to what the slowest line carries between two tries.
                fill = self.window - len(line) if self.board else min(FIRST_WINDOW_BYTES << silent, MAX_FILLER_BYTES)
                line = bytes([wire.SYNC]) * fill + line
            self._write(line)
            asked.add(self.seq)
            began = time.monotonic()
            answer = self._answer_to(asked, min(end, began + RETRY_S))
            if answer is not None:
                self.seq = (self.seq + 1) & 255
                return answer
            attempt += 1
            silent += 1
            if self.heard >= began:
                silent = 0  # it reads on by itself: a filler would only fill its buffer
                end = max(end, min(self.heard + deadline_s, start + LOADING_S))
            if time.monotonic() >= end:
                what = "HELLO" if kind == wire.HELLO else "answer to ABORT"
                raise BoardSilent(
                    f"no {what} from the board within {time.monotonic() - start:.1f} s ({attempt} tries): check that "
                    "the agent runs and that no other program has the port, or reset the board; its last commit is safe"
                )

    def _answer_to(self, asked: set[int], end: float) -> bytes | None:
        while time.monotonic() < end:
            frame = self._next_frame()
            if frame and frame[0] != wire.NAK:
                self.heard = time.monotonic()
            if frame and frame[1] in asked:
                if frame[0] == wire.OK:
                    return frame[2]
                if frame[0] == wire.ERROR:
                    raise _refusal(frame[2])
        return None

    def _event(self, seq: int, event: Event, on_event: Callable[[Event], None] | None) -> None:
        if self.events >= 0:
            self.lost_events += (seq - self.events - 1) & 255
        self.events = seq
        listener = on_event or self.on_event
        if listener:
            listener(event)

    def _next_frame(self) -> tuple[int, int, bytes] | None:
        """The next frame, or None after the port's read timeout."""
        if not self.frames:
            try:
                data = self.port.read(max(1, self.port.in_waiting))
            except _GONE as e:
                raise BoardGone(f"the port is gone ({e}): plug the board in again; its last commit is safe") from e
            self.frames.extend(self.decoder.feed(data))
        return self.frames.popleft() if self.frames else None

    def _write(self, data: bytes) -> None:
        try:
            self.port.write(data)
        except serial.SerialTimeoutException as e:
            raise BoardSilent(
                f"the board took no bytes for {SILENCE_S:g} s: it hangs; reset it, its last commit is safe"
            ) from e
        except _GONE as e:
            raise BoardGone(f"the port is gone ({e}): plug the board in again; its last commit is safe") from e

    def _drain(self) -> None:
        try:
            self.port.reset_input_buffer()
        except _GONE as e:
            raise BoardGone(f"the port is gone ({e}): plug the board in again; its last commit is safe") from e
        self.frames.clear()
        self.decoder.n = 0


def _is_news(frame: tuple[int, int, bytes], event: Event | None, flying: Iterable[tuple[int, int, bytes]]) -> bool:
    """Whether a frame, with its event if it is one, says that the board is at work on what it was asked: one that only asks
    again, answers what nobody asked, or goes on telling what it was told to watch, has perhaps never heard the request."""
    kind, seq, _ = frame
    if event is not None:
        return event.get("t") not in OWN_ACCORD
    return kind in (wire.OK, wire.ERROR) and any(f[0] == seq for f in flying)


def _refusal(payload: bytes) -> BoardRefused:
    return BoardRefused(payload[0] if payload else 1, payload[1:].decode(errors="replace"))


def _json(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as e:  # the latter from a thousand brackets
        raise LinkError(f"the board sent {len(payload)} bytes that are no JSON: update its agent") from e


def _object(payload: bytes) -> dict[str, Any]:
    found = _json(payload)
    if not isinstance(found, dict):
        raise LinkError(f"the board sent {len(payload)} bytes of JSON that are no object: update its agent")
    return found
