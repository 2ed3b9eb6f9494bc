# The agent: answers the host's requests, runs long jobs (activation, training) a few milliseconds at a time, and keeps the
# last good state whatever happens. One request at a time in sequence; ABORT at any time.
# Allocates: the answers to the last few requests (they are repeated when asked again), and whatever Link and Learner say.
import gc
import json
import os
import struct
import sys
import time
from binascii import crc32, hexlify

import growth
import kernels as kernel_choice
from learner import Learner
from replay import condense
from store import Store

from shared import blob as b
from shared import errors, plan, wire
from shared.errors import PlanError, TinyclError

VERSION = "0.1.0"
FREE_NOISE_BYTES = 1024
SLICE_MS = 20  # a job runs this long between two looks at the line
ALIVE_MS = 500  # a job that has nothing to tell says so this often
BLOCK_BYTES = 4096  # an object is written to flash in blocks of this size, never while bytes may be under way


class Refused(TinyclError):
    """A request that this board cannot follow; the text says why and what to do."""


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
    """The text of a payload; Refused where it is none."""
    try:
        return bytes(payload).decode()
    except Exception:  # UnicodeError is a ValueError on one side and a class of its own on the other
        raise Refused("a name of %d bytes that are no text: use UTF-8" % len(payload), errors.FORMAT)


def ulab_version():
    try:
        import ulab

        return getattr(ulab, "__version__", "?")
    except ImportError:
        return ""


class Agent:
    """link: a Link; root: the folder on flash, ending in a slash; kernels: a name, or '' for the best one there is."""

    def __init__(self, link, root="", kernels=""):
        self.link = link
        self.store = Store(root)
        self.available = kernel_choice.available()
        # where the ones that were asked for do not load, the best ones serve, and HELLO says so
        self.kernels = kernel_choice.load(kernels) or kernel_choice.load(self.available[0])
        self.learner = None
        self.trouble = ""  # why there is no learner although there is a blob
        self.next_seq = 0
        self.answers = []  # the last few as (seq, line)
        self.gaps = 0
        self.repeats = 0
        self.job = None
        self.job_seq = 0
        self.job_kind = 0
        self.touched = False  # the job has begun to change the learner or its files
        self.upload = None
        self.told_free = 0
        self.trying = False  # a new blob is in place, but has not been loaded yet
        self.enrolling = None  # name of the class whose samples arrive, or None
        self.expected = 0
        self.at = 0  # next byte of the sample that arrives
        self.alive = 0
        self.handlers = {
            wire.STATUS: self.status,
            wire.KERNELS: self.choose_kernels,
            wire.CLASSES: self.classes,
            wire.OBJECT_OPEN: self.object_open,
            wire.OBJECT_DATA: self.object_data,
            wire.OBJECT_CLOSE: self.object_close,
            wire.ENROL_OPEN: self.enrol_open,
            wire.ENROL_DATA: self.enrol_data,
            wire.PREDICT_OPEN: self.predict_open,
            wire.PREDICT_DATA: self.predict_data,
        }
        self.jobs = {wire.ACTIVATE: self.activate, wire.TRAIN: self.train}

    # the loop

    def start(self):
        """Brings back the last state; what is wrong with it is told in HELLO and keeps nobody from sending a new blob."""
        store = self.store
        if store.exists("blob.old"):
            # Cut while another blob was being tried: this one's state and samples are still whole.
            store.remove("blob.tcb")
            store.rename("blob.old", "blob.tcb")
        store.remove("upload.tmp")
        self.boot_or_explain()

    def boot_or_explain(self):
        """Loads blob and state; where that fails, `trouble` says why, and a new blob may be sent."""
        if self.store.exists("blob.tcb"):
            try:
                for _ in self.boot():
                    self.pulse()
            except (TinyclError, MemoryError, OSError) as e:
                self.release()
                self.trouble = str(e) or "not enough memory"
            else:
                self.trouble = ""

    def run(self):
        """Serves until the line ends (EOFError)."""
        while True:
            self.turn()

    def turn(self):
        """One look at the line and one slice of the job. A call of its own, so that nothing of it stays on the stack, where
        the collector would take what lies there for something in use."""
        frame = self.link.receive(0 if self.job else 1000)
        if frame == wire.NAK:
            self.link.send(wire.NAK, 0, bytes((self.next_seq,)))
        elif frame:
            self.handle(*frame)
        if self.job:
            self.work()

    def handle(self, kind, seq, payload):
        if not self.job:
            self.alive = time.ticks_ms()
        if kind == wire.HELLO:
            self.drop_job()  # without an answer: whoever waited for it is gone
            self.drop_enrolment()
            self.next_seq = (seq + 1) & 255
            self.answers = []
            self.answer(seq, self.hello)
            return
        if kind == wire.ABORT:
            self.abort()
            self.link.send(wire.OK, seq)
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
        if self.job:
            self.answer(seq, self.busy)
        elif kind in self.jobs:
            self.job = self.jobs[kind](payload)
            self.job_seq = seq
            self.job_kind = kind
            self.touched = False
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
        elif isinstance(e, OSError) and e.args and e.args[0] == 28:
            code, text = errors.NO_ROOM, "the flash is full: remove files from the board, then try again"
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
                        self.job = None
                        self.reply(self.job_seq, wire.OK, json.dumps(news).encode())
                        return
                    self.link.event(json.dumps(news))
        except Exception as e:
            self.job = None
            payload = self.describe(e)
            if self.touched:
                self.restore()
            e = None
            self.reply(self.job_seq, wire.ERROR, payload)
            return
        self.pulse()

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
        self.drop_enrolment()
        self.drop_upload()

    def drop_job(self):
        """Ends the job at hand and brings the last good state back; False where there was none."""
        if not self.job:
            return False
        self.job.close()
        self.job = None
        self.restore()
        return True

    # what the board is

    def hello(self):
        word = sys.implementation
        return json.dumps(
            {
                "protocol": wire.VERSION,
                "agent": VERSION,
                "board": board_id(),
                "platform": sys.platform,
                "machine": getattr(word, "_machine", ""),
                "firmware": sys.version,
                "version": ".".join([str(n) for n in word.version[:3]]),
                "mpy": getattr(word, "_mpy", 0),
                "kernels": self.kernels.NAME,
                "available": self.available,
                "refused": kernel_choice.refused,
                "ulab": ulab_version(),
                "weight_bytes": self.kernels.WEIGHT_BYTES,
                "scratch_bytes": self.kernels.SCRATCH_BYTES,
                "float_bits": 32 if 1.0 + 1e-10 == 1.0 else 64,
                "free_bytes": self.free(),
                "swap_bytes": self.freed_by_swap(),
                "window": self.link.window,
                "block": BLOCK_BYTES,
                "blob": self.learner.blob.id if self.learner else 0,
                "trouble": self.trouble,
            }
        ).encode()

    def free(self):
        """Free bytes of the heap after a collection."""
        gc.collect()
        return gc.mem_free()

    def steady_free(self):
        """As free, but a new reading within FREE_NOISE_BYTES of the last one told is told as that one: the collector takes
        whatever looks like a pointer for one, so that readings differ by some hundred bytes while nothing has changed."""
        free = self.free()
        if abs(free - self.told_free) > FREE_NOISE_BYTES:
            self.told_free = free
        return self.told_free

    def freed_by_swap(self):
        """Bytes of the present plan, which another blob could use."""
        if not self.learner:
            return 0
        return plan.total_bytes(plan.buffers(self.learner.blob, self.learner.top), self.kernels.WEIGHT_BYTES)

    def status(self, payload):
        learner = self.learner
        self.answers.clear()  # STATUS is asked with nothing in flight, so no older answer is wanted any more
        out = {
            "free_bytes": self.steady_free(),
            "free_bytes_raw": gc.mem_free(),
            "crc_errors": self.link.decoder.crc_errors,
            "skipped": self.link.decoder.skipped,
            "gaps": self.gaps,
            "repeats": self.repeats,
            "dropped": self.link.dropped,
            "kernels": self.kernels.NAME,
            "swap_bytes": self.freed_by_swap(),
            "enrolling": self.enrolling or "",
        }
        if learner:
            out.update(
                {
                    "blob": learner.blob.id,
                    "sample": [learner.blob.in_h, learner.blob.in_w, learner.blob.in_c],
                    "q_low": learner.blob.q_low,
                    "q_high": learner.blob.q_high,
                    "classes": learner.replay.classes,
                    "rung": learner.rung,
                    "top": learner.top,
                    "exit": learner.exit,
                    "hidden": learner.h,
                    "macs": learner.macs()[0],
                    "replay_bytes": learner.replay.used_bytes(learner.n),
                    "replay_plan_bytes": len(learner.replay.buffer),
                    "plan_bytes": self.freed_by_swap(),
                    "sequence": self.store.sequence,
                    "digest": learner.digest(),
                }
            )
        return json.dumps(out).encode()

    def classes(self, payload):
        """Up to 16 classes from number payload[0] on: {name: samples}, as a list of pairs."""
        replay = self.need_learner().replay
        first = payload[0] if payload else 0
        return json.dumps([[replay.name(c), replay.counts[c]] for c in range(first, min(first + 16, replay.classes))]).encode()

    def choose_kernels(self, payload):
        name = text_of(payload)
        if name not in self.available:
            raise Refused(
                "no %s kernels on this firmware: choose one of %s" % (name, ", ".join(self.available)), errors.UNKNOWN_REQUEST
            )
        if self.enrolling is not None:
            self.busy()
        before, served = self.kernels, self.learner is not None
        if name != before.NAME:
            self.kernels = kernel_choice.load(name)
            self.restore()
            if served and not self.learner:
                why = self.trouble
                self.kernels = before
                self.restore()
                raise Refused("%s kernels cannot serve the blob (%s): keep %s" % (name, why, before.NAME), errors.PLAN)

    def unknown(self, kind):
        raise Refused(
            "request 0x%02x is not known to agent %s: update the board or the host" % (kind, VERSION), errors.UNKNOWN_REQUEST
        )

    def busy(self):
        if self.job:
            raise Refused("the board is at work on request 0x%02x: wait for it, or abort it" % self.job_kind, errors.BUSY)
        raise Refused(
            "an enrolment of '%s' is open (%d of %d samples): finish it, or abort it"
            % (self.enrolling, self.learner.staged, self.expected),
            errors.BUSY,
        )

    def need_learner(self):
        if not self.learner:
            raise Refused("no active blob%s: send one" % (" (%s)" % self.trouble if self.trouble else ""), errors.NO_BLOB)
        return self.learner

    # objects

    def object_open(self, payload):
        """bytes u32, CRC-32 u32: begins an upload, or goes on with one that a lost session left. Answers with the size of
        a block and the byte to go on from, both u32."""
        if len(payload) != 8:
            raise Refused("an upload is opened with 8 bytes, not with %d: update the host" % len(payload), errors.FORMAT)
        if self.enrolling is not None:
            self.busy()
        size, crc = struct.unpack("<II", payload)
        if self.upload and self.upload[1:3] == [size, crc]:
            done = self.upload[3]
            if done < size:
                done -= done % BLOCK_BYTES
                self.upload[3] = done
            return struct.pack("<II", BLOCK_BYTES, done)
        self.drop_upload()
        if not 0 < size <= b.MAX_BLOB_BYTES:
            raise Refused(
                "an object of %d bytes, 1 to %d are possible: send a smaller one" % (size, b.MAX_BLOB_BYTES), errors.NO_ROOM
            )
        if hasattr(os, "statvfs"):
            fs = os.statvfs(self.store.root or os.getcwd())
            room = fs[0] * fs[3]
            if size > room:
                raise Refused(
                    "an object of %d bytes, the flash has %d free: remove files from the board" % (size, room), errors.NO_ROOM
                )
        self.upload = [open(self.store.path("upload.tmp"), "wb"), size, crc, 0, bytearray(BLOCK_BYTES)]
        return struct.pack("<II", BLOCK_BYTES, 0)

    def object_data(self, payload):
        """offset u32, bytes: the next piece, which must not cross a block. The answer to a block's last piece comes after
        the block is on flash, so that nothing is under way while flash is written."""
        if not self.upload:
            raise Refused("no upload is open: open one first", errors.SEQUENCE)
        f, size, _, done, block = self.upload
        offset = struct.unpack_from("<I", payload)[0] if len(payload) >= 4 else -1
        n = len(payload) - 4
        room = min(BLOCK_BYTES - done % BLOCK_BYTES, size - done)
        if offset != done or not 0 < n <= room:
            raise Refused(
                "%d bytes at %d, expected are 1 to %d at %d: open the upload again" % (n, offset, room, done), errors.SEQUENCE
            )
        start = done % BLOCK_BYTES
        block[start : start + n] = memoryview(payload)[4:]
        done += n
        self.upload[3] = done
        if done % BLOCK_BYTES == 0 or done == size:
            f.write(memoryview(block)[: start + n])
        return struct.pack("<I", done)

    def object_close(self, payload):
        """Verifies the upload by its CRC-32, read back from flash."""
        if not self.upload:
            raise Refused("no upload is open: open one first", errors.SEQUENCE)
        f, size, crc, done, block = self.upload
        if done != size:
            raise Refused("the upload has %d of %d bytes: send the rest" % (done, size), errors.TOO_FEW)
        f.close()
        self.upload = None
        found = 0
        view = memoryview(block)
        with open(self.store.path("upload.tmp"), "rb") as f:
            while True:
                n = f.readinto(block)
                if not n:
                    break
                found = crc32(view[:n], found)
        if found & 0xFFFFFFFF != crc:
            self.store.remove("upload.tmp")
            raise Refused("the upload has CRC-32 0x%08x, not 0x%08x: send it again" % (found & 0xFFFFFFFF, crc), errors.FORMAT)

    def drop_upload(self):
        if self.upload:
            self.upload[0].close()
            self.upload = None
        self.store.remove("upload.tmp")

    # the blob

    def activate(self, payload):
        """A job: checks the uploaded blob, then makes it the active one. Any failure leaves the old one active."""
        store = self.store
        if self.enrolling is not None:
            self.busy()
        if self.upload or not store.exists("upload.tmp"):
            raise Refused("no complete upload to activate: send a blob first", errors.SEQUENCE)
        with open(store.path("upload.tmp"), "rb") as f:
            blob = b.Blob(f)
        plan.fit(blob, self.free() + self.freed_by_swap() - self.kernels.SCRATCH_BYTES, self.kernels.WEIGHT_BYTES)
        yield {"t": "checked", "blob": blob.id}
        self.answers.clear()  # the request that runs is the only one that is not answered yet
        self.touched = True
        self.release()
        if store.exists("blob.tcb"):
            store.rename("blob.tcb", "blob.old")
        self.trying = True
        store.rename("upload.tmp", "blob.tcb")
        blob = None
        yield from self.boot(fresh=True)
        store.commit(self.learner)
        store.remove("blob.old")  # from here on the new blob is the one; a cut before brings back the old one and its state
        self.trying = False
        store.sweep(self.learner.replay)
        self.trouble = ""
        learner = self.learner
        yield {"t": "done", "blob": learner.blob.id, "top": learner.top, "plan_bytes": self.freed_by_swap()}

    def boot(self, fresh=False):
        """A generator: a learner from the active blob and, unless fresh, the newest state."""
        gc.collect()
        store = self.store
        blob = b.Blob(open(store.path("blob.tcb"), "rb"))
        learner = self.make_learner(blob)
        learner.load_base()
        if fresh:
            store.begin()
        else:
            store.load(learner)
        yield from self.recompute(learner, learner.exit)
        if not fresh:
            store.sweep(learner.replay)
        self.learner = learner
        gc.collect()

    def restore(self):
        """The last good state from flash, after an abort or a fault in the middle of a job."""
        store = self.store
        self.enrolling = None
        self.release()
        if self.trying:
            self.trying = False
            store.remove("blob.tcb")
            if store.exists("blob.old"):
                store.rename("blob.old", "blob.tcb")
        self.boot_or_explain()

    def make_learner(self, blob):
        """A learner with the longest ladder whose plan fits; a plan that finds no contiguous room gives way to a shorter."""
        top, buffers = plan.fit(blob, self.free() - self.kernels.SCRATCH_BYTES, self.kernels.WEIGHT_BYTES)
        while True:
            try:
                return Learner(blob, self.kernels, top, buffers)
            except MemoryError:
                gc.collect()
                if top == 0:
                    raise PlanError(
                        "the plan of %d bytes finds no contiguous room in %d free bytes: reset the board, or use a smaller blob"
                        % (plan.total_bytes(buffers, self.kernels.WEIGHT_BYTES), gc.mem_free())
                    )
                top -= 1
                buffers = plan.buffers(blob, top)

    def release(self):
        """Gives the learner's memory and its open blob back."""
        if self.learner:
            self.learner.blob.source.close()
            self.learner = None
        gc.collect()

    def recompute(self, learner, leave):
        """A generator: the latents of all stored and staged samples at an exit, from their raw samples."""
        replay = learner.replay
        for c in range(replay.classes):
            for i in range(replay.counts[c]):
                if replay.uids[c]:
                    self.store.read_raw(replay.uids[c], i, learner.sample)
                else:
                    learner.read_base(c, i)
                learner.backbone.latents(learner.sample, leave, replay.buffer, replay.at(c, i))
                yield None
        for i in range(learner.staged):
            self.store.read_stage(i, learner.sample)
            learner.backbone.latents(learner.sample, leave, learner.stage, i * learner.inputs)
            yield None

    # enrolment

    def enrol_open(self, payload):
        """samples u16, name: begins an enrolment."""
        learner = self.need_learner()
        if self.enrolling is not None:
            self.busy()
        if len(payload) < 3:
            raise Refused(
                "an enrolment is opened with at least 3 bytes, not with %d: update the host" % len(payload), errors.FORMAT
            )
        blob = learner.blob
        count = struct.unpack_from("<H", payload)[0]
        name = text_of(payload[2:])
        b.check_name(name)
        known = learner.replay.names
        if name in known:
            raise Refused(
                "the class '%s' exists already (%d of %d classes): choose another name" % (name, len(known), blob.max_classes),
                errors.CLASS_EXISTS,
            )
        if len(known) >= blob.max_classes:
            raise Refused(
                "all %d classes of this blob are taken: make one with a larger --max-classes" % blob.max_classes, errors.NO_ROOM
            )
        least = blob.holdout_every
        if not least <= count <= blob.max_samples:
            code = errors.TOO_FEW if count < least else errors.NO_ROOM
            raise Refused("%d samples, this blob takes %d to %d: change --samples" % (count, least, blob.max_samples), code)
        with open(self.store.path("stage.raw"), "wb"):
            pass
        self.enrolling = name
        self.expected = count
        self.at = 0
        learner.staged = 0

    def enrol_data(self, payload):
        """The next bytes of the samples, back to back. Answers with the number of samples so far (u16)."""
        learner = self.need_learner()
        if self.enrolling is None:
            raise Refused("no enrolment is open: open one first", errors.SEQUENCE)
        if (self.expected - learner.staged) * len(learner.sample) - self.at < len(payload):
            raise Refused("more than the %d samples that were announced: open a new enrolment" % self.expected, errors.NO_ROOM)
        try:
            with open(self.store.path("stage.raw"), "ab") as f:
                for _ in self.samples_in(payload):
                    learner.check_sample()
                    f.write(learner.sample)
                    learner.add_staged()
        except OSError:  # a full flash: what is staged and what is on flash may no longer agree
            self.drop_enrolment()
            raise
        return struct.pack("<H", learner.staged)

    def samples_in(self, payload):
        """A generator that stops at each sample which the bytes complete in the learner's `sample`."""
        sample = self.learner.sample
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
        """A job: trains the samples in, condenses them, commits."""
        learner = self.need_learner()
        if self.enrolling is None:
            raise Refused("no enrolment is open: open one first", errors.SEQUENCE)
        if learner.staged != self.expected:
            raise Refused("%d of %d samples have arrived: send the rest" % (learner.staged, self.expected), errors.TOO_FEW)
        self.touched = True
        summary = None
        for news in growth.enrol(learner, lambda leave: self.recompute(learner, leave)):
            if news and news["t"] == "trained":
                summary = news
            else:
                yield news
        replay = learner.replay
        c = replay.classes
        keep = learner.blob.per_class
        chosen = yield from condense(
            self.kernels,
            learner.stage,
            learner.staged,
            learner.inputs,
            learner.n,
            replay.buffer,
            replay.at(c, 0),
            min(keep, learner.staged),
            learner.buffers["sums"],
        )
        name = self.enrolling
        uid, crc = self.store.keep_class(learner, chosen)
        replay.add(name, len(chosen), uid, crc)
        learner.staged = 0
        self.enrolling = None
        self.store.commit(learner)
        summary.update({"t": "done", "class": name, "samples": self.expected, "kept": len(chosen)})
        yield summary

    def drop_enrolment(self):
        if self.enrolling is not None:
            self.enrolling = None
            self.learner.staged = 0
            self.store.remove("stage.raw")

    # prediction

    def predict_open(self, payload):
        """The next byte of PREDICT_DATA begins a sample."""
        self.need_learner()
        if self.enrolling is not None:
            self.busy()
        self.at = 0

    def predict_data(self, payload):
        """The next bytes of samples, back to back. Answers with two bytes for each sample they complete: class, certainty."""
        learner = self.need_learner()
        if self.enrolling is not None:
            self.busy()
        out = bytearray()
        for _ in self.samples_in(payload):
            learner.check_sample()
            for value in learner.predict():
                out.append(value)
        return bytes(out)
