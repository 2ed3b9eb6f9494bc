# The agent: answers the host's requests in sequence, and runs long jobs (activation, training) a few milliseconds at a time, so
# that it hears an ABORT in the middle of them. What is learned is the Keeper's, what arrives is the Uploads'.
# Allocates: the answers to the last few requests (they are repeated when asked again), and whatever those two say.
import gc
import json
import os
import struct
import sys
import time
from binascii import hexlify

import kernels as kernel_choice
from keeper import Keeper
from store import Store, flash_error
from uploads import BLOCK_BYTES, Uploads

from shared import blob as b
from shared import errors, wire
from shared.errors import TinyclError

FREE_NOISE_BYTES = 1024
SLICE_MS = 20  # a job runs this long between two looks at the line
ALIVE_MS = 500  # a job that has nothing to tell says so this often
SESSION_MS = 30000  # a host that is silent for this long is gone: Ctrl-C works again
PULL_BYTES = 512  # most of a learned state in one answer: the last few answers are kept


def board_id():
    """Unique id of the board, as hexadecimal text."""
    try:
        from machine import unique_id

        return hexlify(unique_id()).decode()
    except (ImportError, AttributeError):
        try:
            with open("board-id") as f:
                return f.read().strip()
        except OSError:
            return "unknown"


def text_of(payload):
    """The text of a payload; TinyclError where it is none."""
    try:
        return bytes(payload).decode()
    except Exception:  # UnicodeError is a ValueError on one side and a class of its own on the other
        raise TinyclError("a name of %d bytes that are no text: use UTF-8" % len(payload), errors.FORMAT)


def ulab_version():
    try:
        import ulab

        return getattr(ulab, "__version__", "?")
    except ImportError:
        return ""


class Agent:
    """link: a Link; root: the folder on flash, ending in a slash; kernels: a name, or '' for the best one there is;
    interrupts: micropython.kbd_intr, which is off (-1) for the length of a session and on (3) otherwise."""

    def __init__(self, link, root="", kernels="", interrupts=None):
        self.link = link
        self.interrupts = interrupts
        self.session = False  # a host has said HELLO, and not BYE
        self.heard = 0  # when the last frame came
        self.skew = ""  # why this host is not served
        self.store = Store(root)
        self.keeper = Keeper(self.store, kernels, self.pulse)
        self.uploads = Uploads(self.store, self.pulse)
        self.next_seq = -1  # the number of the request that is waited for; none before the first HELLO
        self.answers = []  # the last few as (seq, line)
        self.gaps = 0
        self.repeats = 0
        self.job = None
        self.job_seq = 0
        self.job_kind = 0
        self.watch_ms = 0
        self.watch_at = 0
        self.sensor = None
        self.told_free = 0
        self.enrolling = None  # name of the class whose samples arrive, or None
        self.expected = 0
        self.at = 0  # next byte of the sample that arrives
        self.alive = 0
        self.handlers = {
            wire.STATUS: self.status,
            wire.KERNELS: self.choose_kernels,
            wire.CLASSES: self.classes,
            wire.WATCH: self.watch,
            wire.OBJECT_OPEN: self.object_open,
            wire.OBJECT_DATA: self.uploads.take,
            wire.OBJECT_CLOSE: self.uploads.finish,
            wire.STATE_READ: self.state_read,
            wire.ENROL_OPEN: self.enrol_open,
            wire.ENROL_DATA: self.enrol_data,
            wire.PREDICT_OPEN: self.predict_open,
            wire.PREDICT_DATA: self.predict_data,
        }
        self.jobs = {
            wire.ACTIVATE: self.activate,
            wire.ADOPT: self.adopt,
            wire.TRAIN: self.train,
            wire.FORGET: self.forget,
            wire.RENAME: self.rename,
        }

    # the loop

    def start(self):
        """Brings back the last state; what is wrong with it is told in HELLO and keeps nobody from sending a new blob."""
        self.keeper.start()

    def run(self):
        """Serves until the line ends (EOFError)."""
        while True:
            self.turn()

    def turn(self):
        """One look at the line and one slice of the job. A call of its own, so that nothing of it stays on the stack, where
        the collector would take what lies there for something in use."""
        frame = self.link.receive(0 if self.job else min(1000, self.watch_ms or 1000))
        now = time.ticks_ms()
        if frame:
            self.heard = now
        if frame == wire.NAK:
            if self.next_seq >= 0:
                self.link.send(wire.NAK, 0, bytes((self.next_seq,)))
        elif frame:
            self.handle(*frame)
        if self.job:
            self.work()
        elif self.session:
            if self.watch_ms and time.ticks_diff(now, self.watch_at) >= 0:
                self.look()
            if time.ticks_diff(now, self.heard) > SESSION_MS:
                self.end_session()

    def begin_session(self):
        """A host is there: for as long as it is, a byte 0x03 is data."""
        if not self.session:
            self.session = True
            if self.interrupts:
                self.interrupts(-1)

    def end_session(self):
        """The host is gone: nothing is open, nothing is told, and Ctrl-C gets the REPL."""
        self.drop_all()
        self.session = False
        if self.interrupts:
            self.interrupts(3)

    def handle(self, kind, seq, payload):
        if not self.job:
            self.alive = time.ticks_ms()
        if kind == wire.HELLO:
            self.begin_session()
            self.drop_all()  # without an answer: whoever waited for it is gone
            self.next_seq = (seq + 1) & 255
            self.answers = []
            self.check_version(payload)
            self.answer(seq, self.hello)
            return
        if kind == wire.BYE:
            self.end_session()
            return
        if kind == wire.ABORT:
            self.abort()
            self.link.send(wire.OK, seq)
            return
        if self.next_seq < 0:  # the host's session was with this board before it started over: a number far away says so
            self.link.send(wire.NAK, 0, bytes(((seq + 128) & 255,)))
            return
        behind = (self.next_seq - seq) & 255
        if behind:
            if behind <= wire.IN_FLIGHT:
                self.repeats += 1
                for known, line in self.answers:
                    if known == seq:
                        self.link.write(line, 1000)
            else:
                self.gaps += 1
                self.link.send(wire.NAK, 0, bytes((self.next_seq,)))
            return
        self.next_seq = (seq + 1) & 255
        self.begin_session()  # it may have ended while the host was silent
        if self.skew:
            self.answer(seq, self.refuse_version)
        elif self.job:
            self.answer(seq, self.busy)
        elif kind in self.jobs:
            self.job = self.jobs[kind](payload)
            self.job_seq = seq
            self.job_kind = kind
            self.keeper.touched = False
            self.alive = time.ticks_ms()
        elif kind in self.handlers:
            self.answer(seq, self.handlers[kind], payload)
        else:
            self.answer(seq, self.unknown, kind)

    def answer(self, seq, handler, *args):
        """Runs a handler and sends what it returns, or its error; remembers the line for a host that asks again."""
        try:
            kind, payload = wire.OK, handler(*args) or b""
        except Exception as e:  # every fault becomes an answer: a board must not fall silent
            kind, payload = wire.ERROR, self.describe(e)
        self.reply(seq, kind, payload)

    def reply(self, seq, kind, payload):
        line = wire.encode(kind, seq, payload)
        if len(self.answers) >= wire.IN_FLIGHT:
            self.answers.pop(0)
        self.answers.append((seq, line))
        self.link.write(line, 1000)

    @staticmethod
    def describe(e):
        if isinstance(e, TinyclError):
            code, text = e.code, e.text
        elif isinstance(e, MemoryError):
            code, text = errors.PLAN, "out of memory with %d bytes free: %s: use a smaller blob" % (gc.mem_free(), e)
        elif isinstance(e, OSError):
            fault = flash_error(e)
            code, text = fault.code, fault.text
        else:
            code, text = errors.INTERNAL, "%s: %s: please report this" % (type(e).__name__, e)
        return bytes((code,)) + text.encode()[:240]

    def work(self):
        """Runs the job for one slice; at its end, sends the answer that its request waits for."""
        start = time.ticks_ms()
        try:
            while time.ticks_diff(time.ticks_ms(), start) < SLICE_MS:
                news = next(self.job)
                if news:
                    self.alive = time.ticks_ms()
                    if news["t"] == "done":
                        self.end_job()
                        self.reply(self.job_seq, wire.OK, json.dumps(news).encode())
                        return
                    self.link.event(json.dumps(news))
        except Exception as e:
            self.end_job()
            payload = self.describe(e)
            if self.keeper.touched:
                self.restore()
            e = None
            self.reply(self.job_seq, wire.ERROR, payload)
            return
        self.pulse()

    def end_job(self):
        """A host has nothing to say while it waits for a job: its time begins anew."""
        self.job = None
        self.heard = time.ticks_ms()

    def pulse(self):
        """Tells a host that waits that the board is at work, where nothing else has told it for ALIVE_MS."""
        if time.ticks_diff(time.ticks_ms(), self.alive) > ALIVE_MS:
            self.alive = time.ticks_ms()
            self.link.event('{"t": "alive"}')

    def abort(self):
        """Ends whatever is going on; the last good state is back afterwards."""
        if self.drop_job():
            text = b"stopped by the host; the state before is back: send the request again to start over"
            self.reply(self.job_seq, wire.ERROR, bytes((errors.ABORTED,)) + text)
        self.drop_all()

    def drop_all(self):
        """Nothing is under way any more. What is on flash of an open upload stays: it can be gone on with."""
        self.drop_job()
        self.drop_enrolment()
        self.uploads.close()
        self.watch_ms = 0
        self.at = 0

    def drop_job(self):
        """Ends the job at hand and brings the last good state back; False where there was none."""
        if not self.job:
            return False
        self.job.close()
        self.job = None
        self.restore()
        return True

    def restore(self):
        """The last good state is back, and no enrolment is open."""
        self.enrolling = None
        self.keeper.restore()

    # what the board is

    def check_version(self, payload):
        """protocol u8, then the host's name and version: a host of another protocol hears so, whatever it asks."""
        theirs = payload[0] if payload else 1
        name = bytes(payload[1:33])
        self.skew = ""
        if theirs != wire.VERSION:
            self.skew = "the host (%s) speaks protocol %d, this board (agent %s) speaks %d: update the older of the two" % (
                "".join([chr(c) if 32 <= c < 127 else "?" for c in name]) or "tinycl before 0.2",
                theirs,
                wire.RELEASE,
                wire.VERSION,
            )

    def refuse_version(self):
        raise TinyclError(self.skew, errors.VERSION)

    def counters(self):
        """What went wrong on the line since the start."""
        decoder = self.link.decoder
        return {
            "crc_errors": decoder.crc_errors,
            "overruns": decoder.overruns,
            "skipped": decoder.skipped,
            "gaps": self.gaps,
            "repeats": self.repeats,
            "dropped": self.link.dropped,
        }

    def hello(self):
        word = sys.implementation
        return json.dumps(
            {
                "protocol": wire.VERSION,
                "agent": wire.RELEASE,
                "board": board_id(),
                "platform": sys.platform,
                "machine": getattr(word, "_machine", ""),
                "firmware": sys.version,
                "version": ".".join([str(n) for n in word.version[:3]]),
                "mpy": getattr(word, "_mpy", 0),
                "kernels": self.keeper.kernels.NAME,
                "available": self.keeper.available,
                "refused": kernel_choice.refused,
                "ulab": ulab_version(),
                "weight_bytes": self.keeper.kernels.WEIGHT_BYTES,
                "scratch_bytes": self.keeper.kernels.SCRATCH_BYTES,
                "float_bits": 32 if 1.0 + 1e-10 == 1.0 else 64,
                "free_bytes": self.keeper.free(),
                "swap_bytes": self.keeper.freed_by_swap(),
                "window": self.link.window,
                "block": BLOCK_BYTES,
                "blob": self.keeper.learner.blob.id if self.keeper.learner else 0,
                "trouble": self.keeper.trouble,
                "slots": self.store.trouble,
                "sequence": self.store.sequence,
                "counters": self.counters(),
            }
        ).encode()

    def steady_free(self):
        """As free, but a new reading within FREE_NOISE_BYTES of the last one told is told as that one: the collector takes
        whatever looks like a pointer for one, so that readings differ by some hundred bytes while nothing has changed."""
        free = self.keeper.free()
        if abs(free - self.told_free) > FREE_NOISE_BYTES:
            self.told_free = free
        return self.told_free

    def status(self, payload):
        learner = self.keeper.learner
        self.answers.clear()  # STATUS is asked with nothing in flight, so no older answer is wanted any more
        out = {
            "free_bytes": self.steady_free(),
            "free_bytes_raw": gc.mem_free(),
            "kernels": self.keeper.kernels.NAME,
            "swap_bytes": self.keeper.freed_by_swap(),
            "enrolling": self.enrolling or "",
        }
        out.update(self.counters())
        if learner:
            out.update(
                {
                    "blob": learner.blob.id,
                    "sample": [learner.blob.in_h, learner.blob.in_w, learner.blob.in_c],
                    "q_low": learner.blob.q_low,
                    "q_high": learner.blob.q_high,
                    "low": learner.blob.low,
                    "high": learner.blob.high,
                    "classes": learner.replay.classes,
                    "rung": learner.rung,
                    "top": learner.top,
                    "exit": learner.exit,
                    "hidden": learner.h,
                    "macs": learner.macs()[0],
                    "early_macs": learner.early_macs()[0],
                    "sure": learner.sure,
                    "asked": learner.asked,
                    "left_early": learner.left_early,
                    "replay_bytes": learner.replay.used_bytes(learner.n),
                    "replay_plan_bytes": len(learner.replay.buffer),
                    "plan_bytes": self.keeper.freed_by_swap(),
                    "sequence": self.store.sequence,
                    "enrolments": self.store.enrolments,
                    "digest": learner.digest(),
                }
            )
        return json.dumps(out).encode()

    def classes(self, payload):
        """Up to 16 classes from number payload[0] on: {name: samples}, as a list of pairs."""
        replay = self.keeper.need().replay
        first = payload[0] if payload else 0
        return json.dumps([[replay.name(c), replay.counts[c]] for c in range(first, min(first + 16, replay.classes))]).encode()

    def choose_kernels(self, payload):
        """A name."""
        self.idle()
        self.keeper.choose_kernels(text_of(payload))

    def unknown(self, kind):
        raise TinyclError(
            "request 0x%02x is not known to agent %s: update the board or the host" % (kind, wire.RELEASE),
            errors.UNKNOWN_REQUEST,
        )

    def busy(self):
        raise TinyclError("the board is at work on request 0x%02x: wait for it, or abort it" % self.job_kind, errors.BUSY)

    def idle(self):
        """Refuses what an open enrolment forbids."""
        if self.enrolling is not None:
            raise TinyclError(
                "an enrolment of '%s' is open (%d of %d samples): finish it, or abort it"
                % (self.enrolling, self.keeper.learner.staged, self.expected),
                errors.BUSY,
            )

    # blob and state

    def object_open(self, payload):
        self.idle()
        return self.uploads.begin(payload)

    def complete(self):
        """Name of the upload that is complete and verified."""
        self.idle()
        return self.uploads.complete()

    def activate(self, payload):
        """A job: makes the uploaded blob the active one."""
        name = self.complete()
        self.answers.clear()  # the request that runs is the only one that is not answered yet
        yield from self.keeper.activate(name)

    def adopt(self, payload):
        """A job: takes over the uploaded state."""
        yield from self.keeper.adopt(self.complete())

    def forget(self, payload):
        """A job: the name of a class, or nothing for all that was learned since the blob was activated."""
        self.idle()
        yield from self.keeper.forget(text_of(payload))

    def rename(self, payload):
        """A job: bytes of the old name u8, the old name, the new name."""
        self.idle()
        n = payload[0] if payload else 0
        yield from self.keeper.rename(text_of(payload[1 : 1 + n]), text_of(payload[1 + n :]))

    def state_read(self, payload):
        """uid u16, offset u32, bytes u16: a piece of the committed state (uid 0) or of a class's raw samples. Answers with the
        size of the whole, u32, and the piece."""
        if len(payload) != 8:
            raise TinyclError("a state is read with 8 bytes, not with %d: update the host" % len(payload), errors.FORMAT)
        uid, offset, n = struct.unpack("<HIH", payload)
        store = self.store
        if not uid and not store.sequence:
            self.keeper.need()
            raise TinyclError("neither slot has a commit that can be read: enrol or rename a class first", errors.SEQUENCE)
        name = "class%d.raw" % uid if uid else "state%d" % (store.sequence & 1)
        if not store.exists(name):
            raise TinyclError("no file %s on the board: pull again" % name, errors.UNKNOWN_CLASS)
        out = bytearray(4 + min(n, PULL_BYTES))
        with open(store.path(name), "rb") as f:
            size = f.seek(0, 2)
            f.seek(min(offset, size))
            got = f.readinto(memoryview(out)[4:])
        struct.pack_into("<I", out, 0, size)
        return memoryview(out)[: 4 + got]

    # enrolment

    def enrol_open(self, payload):
        """samples u16, name: begins an enrolment."""
        learner = self.keeper.need()
        self.idle()
        if len(payload) < 3:
            raise TinyclError(
                "an enrolment is opened with at least 3 bytes, not with %d: update the host" % len(payload), errors.FORMAT
            )
        blob = learner.blob
        count = struct.unpack_from("<H", payload)[0]
        name = text_of(payload[2:])
        b.check_name(name)
        known = learner.replay.names
        if name in known:
            raise TinyclError(
                "the class '%s' exists already (%d of %d classes): choose another name" % (name, len(known), blob.max_classes),
                errors.CLASS_EXISTS,
            )
        if len(known) >= blob.max_classes:
            raise TinyclError(
                "all %d classes of this blob are taken: make one with a larger --max-classes" % blob.max_classes, errors.NO_ROOM
            )
        least = blob.holdout_every
        if not least <= count <= blob.max_samples:
            code = errors.TOO_FEW if count < least else errors.NO_ROOM
            raise TinyclError("%d samples, this blob takes %d to %d: change --samples" % (count, least, blob.max_samples), code)
        store = self.store
        files = [
            count * blob.sample_bytes,
            min(count, blob.per_class) * blob.sample_bytes,
            store.most_state_bytes(learner),
        ]
        what = "an enrolment of %d samples" % count
        try:
            store.check_room(files, what)
        except TinyclError:  # an upload that nobody goes on with gives way
            self.uploads.drop()
            store.check_room(files, what)
        store.open_stage()
        self.enrolling = name
        self.expected = count
        self.at = 0
        learner.staged = 0

    def enrol_data(self, payload):
        """The next bytes of the samples, back to back. Answers with the number of samples so far (u16)."""
        learner = self.keeper.need()
        if self.enrolling is None:
            raise TinyclError("no enrolment is open: open one first", errors.SEQUENCE)
        if (self.expected - learner.staged) * len(learner.sample) - self.at < len(payload):
            raise TinyclError(
                "more than the %d samples that were announced: open a new enrolment" % self.expected, errors.NO_ROOM
            )
        try:
            for _ in self.samples_in(payload):
                learner.check_sample()
                self.store.add_stage(learner.sample)
                learner.add_staged()
            if learner.staged == self.expected:
                self.store.close_stage()
        except OSError:  # a full flash: what is staged and what is on flash may no longer agree
            self.drop_enrolment()
            raise
        return struct.pack("<H", learner.staged)

    def samples_in(self, payload):
        """A generator that stops at each sample which the bytes complete in the learner's `sample`."""
        sample = self.keeper.learner.sample
        part = memoryview(payload)
        at = 0
        while at < len(part):
            n = min(len(sample) - self.at, len(part) - at)
            sample[self.at : self.at + n] = part[at : at + n]
            self.at += n
            at += n
            if self.at == len(sample):
                self.at = 0
                yield None
                self.pulse()

    def train(self, payload):
        """A job: makes the samples that have arrived a class."""
        learner = self.keeper.need()
        if self.enrolling is None:
            raise TinyclError("no enrolment is open: open one first", errors.SEQUENCE)
        if learner.staged != self.expected:
            raise TinyclError("%d of %d samples have arrived: send the rest" % (learner.staged, self.expected), errors.TOO_FEW)
        for news in self.keeper.train(self.enrolling):
            if news and news["t"] == "done":
                self.enrolling = None
            yield news

    def drop_enrolment(self):
        if self.enrolling is not None:
            self.enrolling = None
            self.keeper.learner.staged = 0
            self.store.drop_stage()

    # watching

    def watch(self, payload):
        """period u16 in ms, 0 to stop: from now on the board tells its metrics that often, and what its own sensor shows (a
        module `sensor` on its flash with read_into(buffer), true where it has put a sample there)."""
        if len(payload) != 2:
            raise TinyclError("watching takes 2 bytes, not %d: update the host" % len(payload), errors.FORMAT)
        period_ms = struct.unpack("<H", payload)[0]
        self.sensor = None
        if period_ms and "sensor.py" in os.listdir(self.store.root or "."):
            try:
                import sensor
            except Exception as e:  # somebody else's code
                raise TinyclError("sensor.py does not load (%s: %s): correct it" % (type(e).__name__, e), errors.FORMAT)
            self.sensor = sensor
        self.watch_ms = period_ms
        self.watch_at = time.ticks_ms()
        return json.dumps({"sensor": self.sensor is not None}).encode()

    def look(self):
        """Tells metrics, and a prediction where there is a sensor."""
        self.watch_at = time.ticks_add(time.ticks_ms(), self.watch_ms)
        learner = self.keeper.learner
        news = {"t": "metrics", "free": gc.mem_free(), "sequence": self.store.sequence}
        if learner:
            news.update({"classes": learner.replay.classes, "rung": learner.rung})
        news.update(self.counters())
        self.link.event(json.dumps(news))
        if learner and self.sensor and self.enrolling is None and not self.at:
            try:
                if self.sensor.read_into(learner.sample):
                    learner.check_sample()
                    start = time.ticks_us()
                    c, certainty = learner.predict()
                    spent = time.ticks_diff(time.ticks_us(), start)
                    news = {"t": "prediction", "class": learner.replay.name(c), "certainty": certainty / 255, "us": spent}
                    self.link.event(json.dumps(news))
            except Exception as e:  # somebody else's code: it must not end the agent
                self.sensor = None
                self.link.event(json.dumps({"t": "sensor", "error": "%s: %s" % (type(e).__name__, e)}))

    # prediction

    def predict_open(self, payload):
        """The next byte of PREDICT_DATA begins a sample."""
        self.keeper.need()
        self.idle()
        self.at = 0

    def predict_data(self, payload):
        """The next bytes of samples, back to back. Answers with two bytes for each sample they complete: class, certainty."""
        learner = self.keeper.need()
        self.idle()
        out = bytearray()
        for _ in self.samples_in(payload):
            learner.check_sample()
            for value in learner.predict():
                out.append(value)
        return bytes(out)
