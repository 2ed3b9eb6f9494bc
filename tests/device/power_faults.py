# A board whose flash is full, damaged, or holds what it should not: littlefs on a chip in RAM, the agent driven through its own
# handlers. Each scenario asserts and prints one line of JSON. Needs power.py and what that needs.
#   usage: micropython power_faults.py FOLDER SCENARIO…
import json
import os
import struct
import sys
from binascii import crc32, unhexlify

from keeper import Keeper
from power import Scenario, start
from power_disk import BLOCK_BYTES, WHERE, Board, Refusal, files

from shared import errors, wire
from shared.blob import Blob
from shared.plan import RESERVE_BYTES
from shared.state import VERSION

LATER = struct.pack("<H", VERSION + 1)
ROOM_IS_FOUND_FIRST = ("enrolment", "activation", "push")
FULL_ENOUGH = 16  # blocks: every operation here finds room in so many


def free_blocks():
    return os.statvfs(WHERE)[3]


def fill(blocks):
    """Leaves so many blocks free, or as near to it as can be."""
    with open(WHERE + "/filler", "wb") as f:
        try:
            while free_blocks() > blocks:
                f.write(bytes(BLOCK_BYTES // 4))
                f.flush()
        except OSError:
            pass


def read(name):
    with open(WHERE + "/" + name, "rb") as f:
        return f.read()


def write(name, data):
    with open(WHERE + "/" + name, "wb") as f:
        f.write(data)


def sealed(state):
    """The same slot with its CRC-32 made right again."""
    return state[:-4] + struct.pack("<I", crc32(state[:-4]) & 0xFFFFFFFF)


class Faults(Scenario):
    def two_commits(self):
        """(image, state of its newest commit, of the one before, of the base)."""
        data = self.fresh(self.grow)
        base = self.state(Board(data))
        self.enrol(Board(data), "one", 0)
        older = self.state(Board(data))
        self.enrol(Board(data), "two", 1)
        return bytes(data), self.state(Board(data)), older, base

    # a full flash: refused with nothing changed, or done, at every number of free blocks

    def full(self):
        told = {}
        for name in ("enrolment", "activation", "push", "forgetting", "renaming", "starting_over"):
            image, operate = getattr(self, name)()
            before = self.state(start(image)[1])
            _, board = start(image)
            operate(board)
            after = self.state(board)
            image = bytes(image)
            refused = 0
            for blocks in range(FULL_ENOUGH):
                data, board = start(image)
                fill(blocks)
                left, kept = free_blocks(), files()
                try:
                    operate(board)
                except Refusal as e:
                    refused = left
                    code, text = e.args
                    assert code == errors.NO_ROOM, (name, left, text)
                    assert "is as it was" in text or name not in ROOM_IS_FOUND_FIRST, (name, left, text)
                    assert self.state(board) == before, (name, left)
                    got = {k: v for k, v in files().items() if not k.startswith("up-")}
                    assert got == kept, (name, left, got, kept)
                    assert self.state(Board(data)) == before, (name, left)
                    os.remove(WHERE + "/filler")
                    operate(Board(data))
                    assert self.state(Board(data))[1:] == after[1:], (name, left)
                else:
                    assert self.state(board) == after, (name, left)
            assert refused < FULL_ENOUGH - 2, name
            told[name] = refused
        return told

    def filled_late(self):
        """It fills after the room was found: the enrolment is lost, and nothing else."""
        image = bytes(self.fresh(self.grow, "one"))
        size, classes = self.samples[Board(bytearray(image)).agent.keeper.learner.blob.id]
        refused = 0
        for blocks in range(12):
            data, board = start(image)
            before = self.state(board)
            board.ask(wire.ENROL_OPEN, struct.pack("<H", 12) + b"two")
            board.ask(wire.ENROL_DATA, classes[-2][: 5 * size])
            fill(blocks)
            try:
                board.ask(wire.ENROL_DATA, classes[-2][5 * size :])
                board.ask(wire.TRAIN)
            except Refusal as e:
                refused += 1
                assert e.args[0] == errors.NO_ROOM, e.args
                assert self.state(board) == before
                assert "stage.raw" not in files()
                os.remove(WHERE + "/filler")
                self.enrol(board, "two", 1)
            assert self.state(board)[0] == before[0] + 1
            assert self.state(Board(data)) == self.state(board)
        assert 0 < refused < 12
        return {"refused": refused}

    def spare_samples_make_room(self):
        """Samples that only the older slot names give way to an enrolment that lacks room."""
        data = self.fresh(self.tiny, "one")
        board = Board(data)
        board.ask(wire.FORGET, b"one")
        assert "class1.raw" in files()
        write("class1.raw", bytes(2 * BLOCK_BYTES))  # as large as those of a real blob
        fill(5)
        self.enrol(board, "two", 1)
        assert "class1.raw" not in files() and "class2.raw" in files()
        assert Board(data).hello["slots"] == ""

    # what is on the flash is damaged

    def every_block(self):
        """Each block in use made unreadable in turn: the board tells what it came up with, and makes nothing up."""
        image, newest, older, base = self.two_commits()
        told = {"unmountable": 0, "newest": 0, "older": 0, "base": 0, "no blob": 0}
        for block in range(len(image) // BLOCK_BYTES):
            at = block * BLOCK_BYTES
            if image[at : at + BLOCK_BYTES].count(b"\xff") == BLOCK_BYTES:
                continue
            for wrong in (b"\xff" * BLOCK_BYTES, bytes([(k * 7) & 255 for k in range(256)]) * 16):
                data = bytearray(image)
                data[at : at + BLOCK_BYTES] = wrong
                try:
                    board = Board(data)
                except OSError:
                    told["unmountable"] += 1  # the firmware formats such a flash, or its boot fails: there is no agent
                    continue
                found = self.state(board)
                if found == newest:
                    told["newest"] += 1
                    continue
                # with one of a pair of metadata blocks gone, littlefs is back at what it held before: the commit number tells
                if found == older:
                    told["older"] += 1
                elif found[1:] == base[1:]:
                    assert found == base or (found[0] == 0 and board.hello["slots"]), (block, board.hello)
                    told["base"] += 1
                else:
                    assert board.hello["blob"] == 0 and len(found) == 2, (block, found)
                    assert board.hello["trouble"] or "blob.tcb" not in files(), block
                    told["no blob"] += 1
                try:
                    self.do_activate(board)  # what still works, works
                    assert self.state(board)[1:] == base[1:]
                except Refusal as e:
                    assert e.args[0] != errors.INTERNAL and ": " in e.args[1], e.args
        data = bytearray(b"\x5a" * 2 * BLOCK_BYTES) + image[2 * BLOCK_BYTES :]
        try:
            Board(data)
            raise AssertionError("mounted")
        except OSError:
            told["unmountable"] += 1
        return told

    def every_slot(self):
        """One slot of no use: the other serves. Both: the base classes do, and nothing is removed that could serve later."""
        image, newest, older, base = self.two_commits()
        data, board = start(image)
        at = newest[0] & 1
        slots = [read("state0"), read("state1")]
        for wrong in (b"", slots[at][:40], slots[at][:-1], slots[at][:100] + b"\x55" + slots[at][101:], b"TCLS" * 60):
            write("state%d" % at, wrong)
            board = Board(data)
            assert self.state(board) == older and "state%d is of no use" % at in board.hello["slots"], board.hello["slots"]
            write("state%d" % (1 - at), wrong)
            board = Board(data)
            assert self.state(board)[1:] == base[1:] and board.hello["sequence"] == 0
            assert "state0 is of no use" in board.hello["slots"] and "state1 is of no use" in board.hello["slots"]
            try:
                board.read(0)
                raise AssertionError("a state was read that is none")
            except Refusal as e:
                assert e.args[0] == errors.SEQUENCE
            for k in (0, 1):
                write("state%d" % k, slots[k])
            board = Board(data)
            assert self.state(board) == newest and board.hello["slots"] == ""
        os.remove(WHERE + "/class2.raw")
        board = Board(data)
        assert self.state(board) == older and "class2.raw" in board.hello["slots"], board.hello["slots"]
        self.enrol(board, "two", 1)
        board = Board(data)
        assert self.state(board) == newest and board.hello["slots"] == ""
        return {"state_bytes": len(slots[at])}

    # what is on the flash is not for this board

    def newer_version(self):
        image, newest, _, base = self.two_commits()
        data, board = start(image)
        name = "state%d" % (newest[0] & 1)
        good = read(name)
        write(name, sealed(good[:4] + LATER + good[6:]))
        kept = files()
        board = Board(data)
        assert board.hello["blob"] == 0 and "version 4" in board.hello["trouble"] and "1 to 3" in board.hello["trouble"]
        try:
            self.enrol_on(board)
            raise AssertionError("enrolled")
        except Refusal as e:
            assert e.args[0] == errors.NO_BLOB and "version 4" in e.args[1], e.args
        assert files() == kept
        write(name, good)
        assert self.state(Board(data)) == newest
        write(name, good[:4] + LATER + good[6:])  # not of a later version: damaged
        board = Board(data)
        assert board.hello["blob"] and name in board.hello["slots"]
        write(name, sealed(good[:4] + LATER + good[6:]))
        board = Board(data)
        self.do_activate(board)  # who sends a blob starts over
        board = Board(data)
        assert self.state(board)[1:] == base[1:] and board.hello["slots"] == "" and board.hello["sequence"] == newest[0] + 1

    def enrol_on(self, board):
        board.ask(wire.ENROL_OPEN, struct.pack("<H", 12) + b"x")

    def another_blob(self):
        """A blob that was copied on the flash by other means: the state of the one before waits for it."""
        image, newest, _, _ = self.two_commits()
        data, board = start(image)
        kept = files()
        write("blob.tcb", self.tiny)
        board = Board(data)
        assert board.hello["blob"] == Scenario.blob_id(self.tiny) and board.hello["sequence"] == 0
        assert "belongs to blob %08x" % newest[1] in board.hello["slots"], board.hello["slots"]
        write("blob.tcb", self.grow)
        board = Board(data)
        assert self.state(board) == newest and board.hello["slots"] == "" and files() == kept
        write("blob.tcb", self.tiny)
        self.enrol(Board(data), "one", 0)
        board = Board(data)
        assert self.state(board)[3][-1][0] == "one" and board.hello["slots"] == ""

    def less_memory(self):
        """A state at a rung that memory no longer allows, then a blob that it no longer allows: told, and kept."""
        data = self.fresh(self.grow, "zero", "one")
        before, kept = self.state(Board(data)), files()
        rung = Board(data).agent.keeper.learner.rung
        assert rung > 0
        free = Keeper.free
        try:
            for spared, said in (
                (Blob(self.grow).plan[0] + RESERVE_BYTES, "at rung %d, memory allows rung 0" % rung),
                (RESERVE_BYTES + 1000, "the smallest model needs %d bytes" % Blob(self.grow).plan[0]),
            ):
                Keeper.free = lambda keeper, spared=spared: spared + keeper.kernels.SCRATCH_BYTES
                board = Board(data)
                assert board.hello["blob"] == 0 and said in board.hello["trouble"], board.hello
                try:
                    board.ask(wire.FORGET, b"one")
                    raise AssertionError("forgotten")
                except Refusal as e:
                    assert e.args[0] == errors.NO_BLOB and said in e.args[1], e.args
                assert files() == kept
        finally:
            Keeper.free = free
        assert self.state(Board(data)) == before

    def old_version(self):
        """What version 1 had learned is there to the bit, can go to another board; the next commit writes the present one."""
        image, _ = self.migration()
        said = json.loads(self.file("v1.json"))
        board = start(image)[1]
        assert board.hello["slots"] == "" and board.hello["sequence"] == said["sequence"]
        assert board.digest() == said["digest"]
        board.ask(wire.PREDICT_OPEN)
        assert board.ask(wire.PREDICT_DATA, unhexlify(said["probe"])) == unhexlify(said["predictions"])
        learned = board.read(0) + board.read(1)
        data = self.fresh(self.tiny)
        board = Board(data)
        board.upload(learned)
        board.ask(wire.ADOPT)
        assert board.digest() == said["digest"] and read("state%d" % (board.hello["sequence"] + 1 & 1))[4] == VERSION
        assert Board(data).digest() == said["digest"]

    def push_of_another_blob(self):
        data = self.fresh(self.tiny, "one")
        board = Board(data)
        learned = board.read(0) + board.read(1)
        data = self.fresh(self.grow, "one")
        board = Board(data)
        before = self.state(board)
        for wrong, number in ((learned, "belongs to blob"), (learned[:-1], ""), (learned[:300], ""), (self.tiny, "")):
            board.upload(wrong)
            kept = files()
            try:
                board.ask(wire.ADOPT)
                raise AssertionError("adopted")
            except Refusal as e:
                assert e.args[0] == errors.FORMAT and ": " in e.args[1] and number in e.args[1], e.args
            assert self.state(board) == before and files() == kept
        assert self.state(Board(data)) == before

    # numbers that go round

    def wrap(self):
        image, newest, _, _ = self.two_commits()
        data, board = start(image)
        good = read("state%d" % (newest[0] & 1))
        for name in ("state0", "state1"):
            os.remove(WHERE + "/" + name)
        # commit 2^32 - 3, next uid 65535
        write("state1", sealed(good[:8] + struct.pack("<I", 0xFFFFFFFD) + good[12:22] + struct.pack("<H", 65535) + good[24:]))
        board = Board(data)
        assert self.state(board)[1:] == newest[1:] and board.hello["sequence"] == 0xFFFFFFFD
        seen = []
        for k in range(6):
            board.ask(wire.FORGET, board.agent.keeper.learner.replay.name(3).encode())
            if k % 2 == 0:  # between the last number and the first one too
                before = self.state(board)
                board = Board(data)
                assert self.state(board) == before and board.hello["slots"] == "", (k, board.hello["slots"])
            self.enrol(board, "again%d" % k, k % 2)
            if k == 0:  # with no restart in between
                board.ask(wire.FORGET, b"again0")
                self.enrol(board, "again0", 1)
            before = self.state(board)
            seen.append(board.hello["sequence"])
            board = Board(data)
            assert self.state(board) == before and board.hello["slots"] == "", (k, board.hello["slots"])
        uids = sorted([int(name[5:-4]) for name in files() if name.startswith("class")])
        assert 0 not in uids and max(uids) < 65536
        return {"sequences": seen, "uids": uids}


if __name__ == "__main__":
    faults = Faults(sys.argv[1])
    for name in sys.argv[2:]:
        print(json.dumps({"scenario": name, "told": getattr(faults, name)()}))
