# What the board keeps on flash: the blob, the learned state in two slots, and the raw samples of each enrolled class.
# Allocates while it commits or loads: one int32 copy of the head's rows in use, one row at a time.
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

from shared.errors import FormatError

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
        self.uids = []  # of each class, 0 for base classes
        self.crcs = []
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

    def read_raw(self, c, i, buffer):
        """Sample i of enrolled class c into `buffer`."""
        self._read_sample("class%d.raw" % self.uids[c], i, buffer)

    def read_stage(self, i, buffer):
        self._read_sample("stage.raw", i, buffer)

    def _read_sample(self, name, i, buffer):
        with open(self.path(name), "rb") as f:
            f.seek(i * len(buffer))
            if f.readinto(buffer) != len(buffer):
                raise FormatError("%s is cut at sample %d: enrol the class again" % (name, i))

    # state

    def commit(self, learner, name=None, chosen=None):
        """Makes the learner's state the one that survives; with `name`, after keeping the `chosen` staged samples of it."""
        if name is not None:
            uid = self.next_uid
            crc = 0
            with open(self.path("class%d.raw" % uid), "wb") as f:
                for i in chosen:
                    self.read_stage(i, learner.sample)
                    crc = crc32(learner.sample, crc)
                    f.write(learner.sample)
            self.next_uid += 1
            self.uids.append(uid)
            self.crcs.append(crc & 0xFFFFFFFF)
        self.sequence += 1
        replay = learner.replay
        n = len(replay.names)
        slot = "state%d" % (self.sequence & 1)
        crc = 0
        with open(self.path(slot), "wb") as f:
            for part in self._state_parts(learner, n):
                crc = crc32(part, crc)
                f.write(part)
            f.write(struct.pack("<I", crc & 0xFFFFFFFF))
        self.remove("stage.raw")

    def _state_parts(self, learner, n):
        replay = learner.replay
        yield struct.pack(
            STATE_FORMAT,
            STATE_MAGIC,
            STATE_VERSION,
            learner.rung,
            self.sequence,
            learner.blob.id,
            n,
            learner.inputs,
            learner.units,
            self.next_uid,
        )
        for c in range(n):
            text = replay.names[c].encode()
            yield struct.pack(CLASS_FORMAT, self.uids[c], replay.counts[c], self.crcs[c]) + bytes((len(text),)) + text
        head = learner.kernels.export(learner.head)
        for c in range(n):
            yield bytes(memoryview(head)[c * learner.w_stride : (c + 1) * learner.w_stride])
        hidden = learner.kernels.export(learner.hidden)
        for k in range(learner.h):
            yield bytes(memoryview(hidden)[k * learner.u_stride : (k + 1) * learner.u_stride])

    def newest(self, learner):
        """The payload of the newest valid slot for this learner's blob and plan, or None."""
        found = None
        for slot in ("state0", "state1"):
            try:
                with open(self.path(slot), "rb") as f:
                    data = f.read()
            except OSError:
                continue
            n = len(data) - 4
            if n < STATE_BYTES or crc32(memoryview(data)[:n]) & 0xFFFFFFFF != struct.unpack_from("<I", data, n)[0]:
                continue
            head = struct.unpack_from(STATE_FORMAT, data)
            if head[:2] != (STATE_MAGIC, STATE_VERSION) or head[4] != learner.blob.id:
                continue
            if found is None or head[3] > found[0]:
                found = head[3], data
        return found[1] if found else None

    def load(self, learner):
        """Puts the newest valid state into a learner that holds its base classes. Returns False where there is none.

        The latents are not there yet: `recompute` of the agent makes them from the raw samples, to the bit.
        """
        self.sequence = 0
        self.next_uid = 1
        self.uids = [0] * learner.blob.base_classes
        self.crcs = [0] * learner.blob.base_classes
        data = self.newest(learner)
        if data is None:
            return False
        _, _, rung, self.sequence, _, n, inputs, units, self.next_uid = struct.unpack_from(STATE_FORMAT, data)
        if rung > learner.top or inputs != learner.inputs or units != learner.units or n > learner.blob.max_classes:
            raise FormatError("the stored state has rung %d of %d: activate the blob again" % (rung, learner.top))
        at = STATE_BYTES
        self.uids = []
        self.crcs = []
        names = []
        counts = []
        for _ in range(n):
            uid, count, crc = struct.unpack_from(CLASS_FORMAT, data, at)
            at += 8
            names.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
            self.uids.append(uid)
            self.crcs.append(crc)
            counts.append(count)
            if uid:
                self._check_raw(uid, count, crc, learner)
        learner.replay.names = names
        learner.replay.counts = counts
        learner.set_rung(rung)
        kernels = learner.kernels
        for weights, rows, stride in ((learner.head, n, learner.w_stride), (learner.hidden, learner.h, learner.u_stride)):
            all_rows = array("i", bytes(4 * len(weights)))
            all_rows[: rows * stride] = array("i", data[at : at + 4 * rows * stride])
            at += 4 * rows * stride
            kernels.adopt(weights, all_rows)
        return True

    def _check_raw(self, uid, count, crc, learner):
        found = 0
        with open(self.path("class%d.raw" % uid), "rb") as f:
            for _ in range(count):
                f.readinto(learner.sample)
                found = crc32(learner.sample, found)
        if found & 0xFFFFFFFF != crc:
            raise FormatError("class%d.raw has CRC-32 0x%08x, not 0x%08x: enrol the class again" % (uid, found, crc))

    def sweep(self):
        """Removes what no committed state names: leftovers of a cut or an abort. Returns how many files."""
        kept = ["class%d.raw" % uid for uid in self.uids if uid]
        removed = 0
        for name in os.listdir(self.root or "."):
            if name == "stage.raw" or (name.startswith("class") and name.endswith(".raw") and name not in kept):
                self.remove(name)
                removed += 1
        return removed

    def forget_all(self):
        """Removes every learned state: another blob is active."""
        for slot in ("state0", "state1"):
            self.remove(slot)
        self.uids = []
        self.sweep()
