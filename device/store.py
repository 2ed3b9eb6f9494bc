# What the board keeps on flash: the blob, the learned state in two slots, and the raw samples of each enrolled class.
# Allocates one row of weights at a time while it commits or loads.
#
#   blob.tcb            the active blob; blob.old while another one is being tried; upload.tmp while one arrives
#   state0, state1      two slots; the valid one with the larger sequence number is the state (see STATE below)
#   class<uid>.raw      raw samples of one enrolled class, written before the slot that names them
#   stage.raw           raw samples of the enrolment that is open
#
# A commit writes the class's samples, then the older slot, its CRC-32 last: a cut at any point leaves the newer slot valid.
import os
import struct
from array import array
from binascii import crc32

from shared.blob import RUNG_INTS
from shared.errors import FormatError, PlanError

STATE_MAGIC = b"TCLS"
STATE_VERSION = 1
STATE_FORMAT = "<4sHHIIHHHH"  # magic, version, rung, sequence, blob id, classes, inputs, units, next uid
STATE_BYTES = 24
CLASS_FORMAT = "<HHI"  # uid (0: a base class), samples, CRC-32 of the raw file; then name length and name


class Store:
    """root: a folder that ends in a slash."""

    def __init__(self, root=""):
        self.root = root
        self.sequence = 0
        self.next_uid = 1

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
        """Replaces `new`; on a file system whose rename refuses that, by removing it first."""
        try:
            os.rename(self.path(old), self.path(new))
        except OSError:
            self.remove(new)
            os.rename(self.path(old), self.path(new))

    # raw samples

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

    # state

    def keep_class(self, learner, chosen):
        """Writes the chosen staged samples to a file of their own; returns its (uid, CRC-32). Nothing names it yet."""
        uid = self.next_uid
        crc = 0
        with open(self.path("class%d.raw" % uid), "wb") as f:
            for i in chosen:
                self.read_stage(i, learner.sample)
                crc = crc32(learner.sample, crc)
                f.write(learner.sample)
        self.next_uid += 1
        return uid, crc & 0xFFFFFFFF

    def commit(self, learner):
        """Makes the learner's state the one that survives."""
        sequence = self.sequence + 1
        crc = 0
        with open(self.path("state%d" % (sequence & 1)), "wb") as f:
            for part in self._state_parts(learner, sequence):
                crc = crc32(part, crc)
                f.write(part)
            f.write(struct.pack("<I", crc & 0xFFFFFFFF))
        self.sequence = sequence  # counted only now: after a failure the next try goes to the same slot, not to the good one
        self.remove("stage.raw")

    def _state_parts(self, learner, sequence):
        replay = learner.replay
        n = replay.classes
        yield struct.pack(
            STATE_FORMAT,
            STATE_MAGIC,
            STATE_VERSION,
            learner.rung,
            sequence,
            learner.blob.id,
            n,
            learner.n,
            learner.h,
            self.next_uid,
        )
        for c in range(n):
            text = replay.name(c).encode()
            yield struct.pack(CLASS_FORMAT, replay.uids[c], replay.counts[c], replay.crcs[c]) + bytes((len(text),)) + text
        for weights, at, count in learner.weights_in_use():
            yield learner.kernels.export(weights, at, count)

    def load(self, learner):
        """Puts the newest valid state for this blob into a learner that holds its base classes; False where there is none.

        The latents are not there yet: `recompute` of the agent makes them from the raw samples, to the bit.
        """
        found = self.begin()
        while found:
            sequence, slot = found.pop()
            try:
                with open(self.path(slot), "rb") as f:
                    if self._apply(f, learner):
                        self.sequence = sequence  # the next commit goes to the other slot, which was of no use
                        return True
            except (OSError, ValueError, FormatError):  # its samples are not there or not whole: the older slot may serve
                pass
        return False

    def begin(self):
        """Counts on from the newest valid slot, whatever blob it is for; returns all valid ones as (sequence, file), rising."""
        found = []
        for slot in ("state0", "state1"):
            sequence = self._check_slot(slot)
            if sequence:
                found.append((sequence, slot))
        found.sort()
        self.sequence = found[-1][0] if found else 0
        self.next_uid = 1
        return found

    def _check_slot(self, slot):
        """Sequence number of a slot whose CRC-32 is right and whose format is known, otherwise 0."""
        chunk = bytearray(256)
        view = memoryview(chunk)
        try:
            with open(self.path(slot), "rb") as f:
                left = f.seek(0, 2) - 4
                f.seek(0)
                head = f.read(STATE_BYTES)
                if left < STATE_BYTES:
                    return 0
                crc = crc32(head)
                left -= STATE_BYTES
                while left:
                    n = f.readinto(view[: min(left, len(chunk))])
                    if not n:
                        return 0
                    crc = crc32(view[:n], crc)
                    left -= n
                if f.read(4) != struct.pack("<I", crc & 0xFFFFFFFF):
                    return 0
        except OSError:
            return 0
        magic, version, _, sequence = struct.unpack_from(STATE_FORMAT, head)[:4]
        return sequence if (magic, version) == (STATE_MAGIC, STATE_VERSION) else 0

    def _apply(self, f, learner):
        _, _, rung, _, blob_id, n, inputs, units, next_uid = struct.unpack(STATE_FORMAT, f.read(STATE_BYTES))
        if blob_id != learner.blob.id or n > learner.blob.max_classes:
            return False
        if rung > learner.top:
            raise PlanError(
                "the learned state is at rung %d, memory allows rung %d now: free memory or ask for other kernels; "
                "nothing was removed" % (rung, learner.top)
            )
        at = rung * RUNG_INTS
        if (learner.blob.rungs[at + 2], learner.blob.rungs[at + 1]) != (inputs, units):
            raise FormatError("the stored state has %d inputs and %d units: activate the blob again" % (inputs, units))
        classes = []
        for _ in range(n):
            uid, count, crc = struct.unpack(CLASS_FORMAT, f.read(8))
            name = f.read(f.read(1)[0]).decode()
            if uid:
                self._check_raw(uid, count, crc, learner)
            classes.append((name, count, uid, crc))
        replay = learner.replay
        replay.clear()
        for one in classes:
            replay.add(*one)
        self.next_uid = next_uid
        learner.set_rung(rung)
        for weights, at, count in learner.weights_in_use():
            row = array("i", bytes(4 * count))
            f.readinto(row)
            learner.kernels.adopt(weights, at, row)
        return True

    def _check_raw(self, uid, count, crc, learner):
        found = 0
        with open(self.path("class%d.raw" % uid), "rb") as f:
            for _ in range(count):
                f.readinto(learner.sample)
                found = crc32(learner.sample, found)
        if found & 0xFFFFFFFF != crc:
            raise FormatError("class%d.raw has CRC-32 0x%08x, not 0x%08x: enrol the class again" % (uid, found, crc))

    def sweep(self, replay):
        """Removes what no class of `replay` names: leftovers of a cut or an abort. Returns how many files."""
        kept = ["class%d.raw" % replay.uids[c] for c in range(replay.classes) if replay.uids[c]]
        removed = 0
        for name in os.listdir(self.root or "."):
            if name == "stage.raw" or (name.startswith("class") and name.endswith(".raw") and name not in kept):
                self.remove(name)
                removed += 1
        return removed
