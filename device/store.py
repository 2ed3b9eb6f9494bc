# What the board keeps on flash: the blob, the learned state in two slots, and the raw samples of each enrolled class.
# Allocates one row of weights at a time while it commits or loads, and the list of classes (shared/state.py).
#
#   blob.tcb            the active blob
#   up-<bytes>-<print>  an object that arrives, or has arrived, with its fingerprint
#   state0, state1      two slots (STATE.md); the newest valid one for the active blob is the state
#   class<uid>.raw      raw samples of one enrolled class, written before the slot that names them
#   stage.raw           raw samples of the enrolment that is open
#
# A commit writes the class's samples, then the older slot, its CRC-32 last: a cut at any point leaves the newer slot valid.
# Samples are removed one commit after the last slot that named them, so that the older slot can always take over.
import os
import struct
from array import array
from binascii import crc32

from shared import blob as b
from shared import errors, state
from shared.blob import RUNG_INTS
from shared.errors import FormatError, PlanError, TinyclError

SLOTS = ("state0", "state1")
MANY = 0xFFFFFFFF  # commits are counted with 32 bits, round and round
SPARE_BLOCKS = 4  # beside the blocks of new files: what littlefs may take for their names, and for the pointers in them


def flash_error(e):
    """A failure of the file system as a typed error: what it was, and what to do."""
    number = e.args[0] if e.args else 0
    if number == 28:
        return TinyclError("the flash is full; nothing was lost: remove files from the board, then try again", errors.NO_ROOM)
    return TinyclError(
        "the flash cannot be read or written (error %s); nothing was removed: reset the board, and if it says so again, copy "
        "what you need from it, format it and flash it anew ('tinycl flash')" % number,
        errors.FORMAT,
    )


def following(sequence):
    """The number of the next commit, never 0; its lowest bit, which says the slot, changes each time."""
    return 2 if sequence == MANY else sequence + 1


def _blocks(sizes, block):
    """Blocks of littlefs that files of these bytes take."""
    return sum([-(-size // (block - 8)) for size in sizes])


class Store:
    """root: a folder that ends in a slash."""

    def __init__(self, root=""):
        self.root = root
        self.sequence = 0  # of the commit that the learner's state is from; 0: of none
        self.last = 0  # the commit that is counted on from
        self.next_uid = 1
        self.enrolments = 0  # classes taught since the blob was activated
        self.stale = False  # the loaded state has no latents
        self.trouble = ""  # which slot was of no use, and why
        self.named = ()  # uids of the classes in the slot that is the state,
        self.spare = ()  # and of those that only the other slot names
        self.stage = None  # the open file of an enrolment's samples

    def path(self, name):
        return self.root + name

    def exists(self, name):
        try:
            os.stat(self.path(name))
            return True
        except OSError:
            return False

    def remove(self, name):
        try:
            os.remove(self.path(name))
        except OSError:
            pass

    def rename(self, old, new):
        """Replaces `new`: at once, except on FAT."""
        os.rename(self.path(old), self.path(new))

    # room

    def check_room(self, sizes, what):
        """Refuses where the flash lacks room for new files of these bytes, each of whole blocks, with SPARE_BLOCKS to spare."""
        if not hasattr(os, "statvfs"):
            return
        fs = os.statvfs(self.root or os.getcwd())
        block = fs[0]
        need = (_blocks(sizes, block) + SPARE_BLOCKS) * block
        free = block * fs[3]
        if need > free:  # what only the older slot names gives way, if that helps
            free += block * _blocks([self.size("class%d.raw" % uid) for uid in self.spare if uid not in self.named], block)
            if need > free:
                raise TinyclError(
                    "%s needs %d bytes of flash, %d are free; what was learned is as it was: remove files from the board, or "
                    "forget a class" % (what, need, free),
                    errors.NO_ROOM,
                )
            self.spare = ()
            self.sweep()

    def most_state_bytes(self, learner):
        """No state of this learner is larger."""
        blob = learner.blob
        names = blob.max_classes * (state.CLASS_BYTES + 1 + b.MAX_NAME_BYTES)
        return (
            state.HEAD_BYTES
            + 4
            + names
            + 4 * (len(learner.head) + len(learner.hidden) + len(learner.early))
            + len(learner.replay.buffer)
        )

    # raw samples; those of an enrolment go to one open file, so that no block is written twice

    def open_stage(self):
        self.stage = open(self.path("stage.raw"), "wb")

    def add_stage(self, sample):
        self.stage.write(sample)

    def close_stage(self):
        if self.stage:
            stage, self.stage = self.stage, None
            stage.close()

    def drop_stage(self):
        try:
            self.close_stage()
        except OSError:  # a full flash
            pass
        self.remove("stage.raw")

    def read_raw(self, uid, i, buffer):
        """Sample i of an enrolled class into `buffer`."""
        self._read_sample("class%d.raw" % uid, i, buffer)

    def read_stage(self, i, buffer):
        self._read_sample("stage.raw", i, buffer)

    def _read_sample(self, name, i, buffer):
        with open(self.path(name), "rb") as f:
            f.seek(i * len(buffer))
            if f.readinto(buffer) != len(buffer):
                raise FormatError("%s is cut at sample %d: enrol the class again" % (name, i))

    def keep_class(self, learner, chosen):
        """Writes the chosen staged samples to a file of their own; returns its (uid, CRC-32). Nothing names it yet."""
        uid = self._new_uid(learner.replay)
        crc = 0
        with open(self.path("class%d.raw" % uid), "wb") as f:
            for i in chosen:
                self.read_stage(i, learner.sample)
                crc = crc32(learner.sample, crc)
                f.write(learner.sample)
        return uid, crc & 0xFFFFFFFF

    def _new_uid(self, replay):
        """A number that no class in either slot has: rising, and round after 65,535."""
        while True:
            uid = self.next_uid
            self.next_uid = uid % 65535 + 1
            if uid not in self.named and uid not in self.spare and uid not in tuple(replay.uids)[: replay.classes]:
                return uid

    # state

    def commit(self, learner):
        """Makes the learner's state the one that survives."""
        sequence = following(self.last)
        crc = 0
        with open(self.path(SLOTS[sequence & 1]), "wb") as f:
            for part in self._state_parts(learner, sequence):
                crc = crc32(part, crc)
                f.write(part)
            f.write(struct.pack("<I", crc & 0xFFFFFFFF))
        # counted only now: after a failure the next try goes to the same slot, not to the good one
        self.sequence = self.last = sequence
        self.spare = self.named
        self.named = tuple(learner.replay.uids)[: learner.replay.classes]
        self.trouble = ""
        self.remove("stage.raw")

    def _state_parts(self, learner, sequence):
        replay = learner.replay
        n = replay.classes
        entries = b"".join(
            [state.class_entry(replay.name(c), replay.counts[c], replay.uids[c], replay.crcs[c]) for c in range(n)]
        )
        early = learner.early_inputs if learner.has_early else 0
        body = len(entries) + 4 * state.weight_count(n, learner.n, learner.h, early) + replay.used_bytes(learner.n)
        yield struct.pack(
            state.HEAD_FORMAT,
            state.MAGIC,
            state.VERSION,
            learner.rung,
            sequence,
            learner.blob.id,
            n,
            learner.n,
            learner.h,
            self.next_uid,
            self.enrolments,
            body,
            early,
            learner.sure,
        )
        yield entries
        for weights, at, count in learner.weights_in_use():
            yield learner.kernels.export(weights, at, count)
        latents = memoryview(replay.buffer)
        for c in range(n):
            for i in range(replay.counts[c]):
                at = replay.at(c, i)
                yield latents[at : at + learner.n]

    def load(self, learner):
        """Puts the newest valid state for this blob into a learner; False where there is none. NewerState where it is one of
        a version to come: it is not passed over for an older one, and nothing may be written over it.

        `stale` says whether latents are missing (a state of version 1): `recompute` of the keeper makes them from the raw
        samples, to the bit. `trouble` says which slot was of no use, and why.
        """
        found = self.begin()
        while found:
            slot, kept = found.pop()
            try:
                if kept.blob_id != learner.blob.id:
                    raise FormatError("it belongs to blob %08x: send that one to have it back" % kept.blob_id)
                if isinstance(kept, state.NewerState):
                    raise kept
                self.check_fit(kept, learner)
                with open(self.path(slot), "rb") as f:
                    for _, count, uid, crc in kept.classes:
                        if uid:
                            self._check_raw(uid, count, crc, learner)
                    self.apply(kept, f, learner)
            except state.NewerState:
                raise
            except (OSError, ValueError, FormatError) as e:  # its samples are not there or not whole: the older may serve
                self._no_use(slot, e)
            else:
                self.next_uid = kept.next_uid or 1
                self.enrolments = kept.enrolments
                self.sequence = self.last = kept.sequence  # the next commit goes to the other slot, which was of no use
                self.named = self._uids(kept)
                if found and found[0][1].blob_id == kept.blob_id:
                    self.spare = self._uids(found[0][1])
                return True
        return False

    def begin(self):
        """Counts on from the newest valid slot, whatever blob it is for; returns all valid ones as [file, State], the newest
        last. One of a version to come is there as the NewerState."""
        found = []
        self.trouble = ""
        for slot in SLOTS:
            try:
                with open(self.path(slot), "rb") as f:
                    found.append((slot, state.State(f)))
            except state.NewerState as e:
                found.append((slot, e)) if e.whole else self._no_use(slot, e)
            except FormatError as e:
                self._no_use(slot, e)
            except OSError as e:
                if self.exists(slot):
                    self._no_use(slot, e)
        if len(found) == 2 and (found[1][1].sequence - found[0][1].sequence) & MANY > MANY >> 1:
            found.reverse()
        self.last = found[-1][1].sequence if found else 0
        self.next_uid = 1
        self.fresh()
        return found

    def fresh(self):
        """For a blob that knows its base classes only. The count goes on: the next commit spares the slot that is the state."""
        self.sequence = 0
        self.enrolments = 0
        self.named = ()
        self.spare = ()

    def _no_use(self, slot, e):
        self.trouble += "%s%s is of no use (%s)" % ("; " if self.trouble else "", slot, e)

    @staticmethod
    def _uids(kept):
        return tuple([uid for _, _, uid, _ in kept.classes]) if hasattr(kept, "classes") else ()

    def check_fit(self, kept, learner):
        """Refuses a state that this learner cannot take."""
        blob = learner.blob
        n = len(kept.classes)
        if kept.blob_id != blob.id:
            raise FormatError(
                "the state belongs to blob %08x, this board has %08x: send it that blob first" % (kept.blob_id, blob.id)
            )
        at = kept.rung * RUNG_INTS
        if at >= len(blob.rungs) or (blob.rungs[at + 2], blob.rungs[at + 1]) != (kept.inputs, kept.units):
            raise FormatError(
                "the state has %d inputs and %d units at rung %d, which the blob does not: activate the blob again"
                % (kept.inputs, kept.units, kept.rung)
            )
        if kept.early_inputs and (kept.early_inputs != blob.features[0] or not blob.early_epochs or not blob.rungs[at]):
            raise FormatError(
                "the state has %d inputs at the first exit, which the blob does not: activate the blob again"
                % kept.early_inputs
            )
        if kept.rung > learner.top:
            raise PlanError(
                "the learned state is at rung %d, memory allows rung %d now: free memory or ask for other kernels; "
                "nothing was removed" % (kept.rung, learner.top)
            )
        if not 0 < n <= blob.max_classes:
            raise FormatError("the state has %d classes, the blob 1 to %d: take another file" % (n, blob.max_classes))
        for name, count, uid, crc in kept.classes:
            most = blob.per_class if uid else blob.base_per_class
            if not 0 < count <= most or (not uid and crc >= blob.base_classes):
                raise FormatError("class '%s' has %d samples, 1 to %d are possible: take another file" % (name, count, most))

    def _check_raw(self, uid, count, crc, learner):
        try:
            with open(self.path("class%d.raw" % uid), "rb") as f:
                self._copy_raw(f, None, count, crc, learner)
        except OSError as e:
            raise FormatError("class%d.raw cannot be read, error %s: enrol the class again" % (uid, e.args[0]))

    def _copy_raw(self, source, target, count, crc, learner):
        """Reads the raw samples of a class, whose CRC-32 must be right, and writes them to `target` if that is a file."""
        found = 0
        for _ in range(count):
            if source.readinto(learner.sample) != len(learner.sample):
                raise FormatError("the raw samples of a class are cut: enrol the class again")
            found = crc32(learner.sample, found)
            if target:
                target.write(learner.sample)
        if found & 0xFFFFFFFF != crc:
            raise FormatError(
                "the raw samples of a class have CRC-32 0x%08x, not 0x%08x: enrol the class again" % (found & 0xFFFFFFFF, crc)
            )

    def adopt(self, kept, f, learner):
        """Writes the raw samples behind a portable state to files of their own; returns the classes with their new uids.
        Nothing names the files yet. On an error the caller sweeps."""
        classes = []
        f.seek(kept.end)
        for name, count, uid, crc in kept.classes:
            if uid:
                uid = self._new_uid(learner.replay)
                with open(self.path("class%d.raw" % uid), "wb") as target:
                    self._copy_raw(f, target, count, crc, learner)
            classes.append((name, count, uid, crc))
        if f.read(1):
            raise FormatError("a learned state with bytes behind its last sample: pull it again")
        return classes

    def apply(self, kept, f, learner):
        """Puts a verified state into a learner that it fits: classes, weights, latents."""
        replay = learner.replay
        replay.clear()
        for one in kept.classes:
            replay.add(*one)
        learner.set_rung(kept.rung)
        learner.clear_weights()
        if kept.early_inputs == 0 or not learner.has_early:
            learner.sure = state.NEVER_SURE  # a state of an older version: every sample goes the whole way
        else:
            learner.sure = kept.sure
        f.seek(kept.weights_at)
        for weights, at, count in learner.weights_in_use(kept.early_inputs > 0):
            row = array("i", bytes(4 * count))
            f.readinto(row)
            learner.kernels.adopt(weights, at, row)
        self.stale = kept.latents_at == 0
        if not self.stale:
            latents = memoryview(replay.buffer)
            for c in range(replay.classes):
                for i in range(replay.counts[c]):
                    at = replay.at(c, i)
                    f.readinto(latents[at : at + learner.n])

    def sweep(self):
        """Removes what neither slot names: leftovers of a cut or an abort. Returns how many files. Where a slot was of no use,
        samples stay until the next commit: they may be what it named."""
        kept = ["class%d.raw" % uid for uids in (self.named, self.spare) for uid in uids]
        removed = 0
        for name in os.listdir(self.root or "."):
            left = name.startswith("class") and name.endswith(".raw") and name not in kept and not self.trouble
            if left or name in ("stage.raw", "upload.tmp"):  # upload.tmp: of agents before 0.2
                self.remove(name)
                removed += 1
        return removed

    # uploads: their name says what they are going to be, so that one that was cut is found again after any reset

    @staticmethod
    def upload_name(size, fingerprint):
        return "up-%08x-%08x" % (size, fingerprint)

    def uploads(self):
        return [name for name in os.listdir(self.root or ".") if name.startswith("up-")]

    def size(self, name):
        """Bytes of a file, 0 where there is none."""
        try:
            return os.stat(self.path(name))[6]
        except OSError:
            return 0
