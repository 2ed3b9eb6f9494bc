# Power cuts: everything that a board writes, cut at every single write to its flash, littlefs underneath. After each cut the
# board that comes up must hold the state before or the one after, to the bit, say which by its commit number, and go on.
# Needs power_disk.py, and the folder that tinycl.bench.power lays out. Prints one line of JSON for each scenario.
#   usage: micropython power.py FOLDER WAYS SCENARIO…   WAYS: all for all ways to die at each write, turn for a
#   clean cut and, by turns, one of the others
import json
import sys
import time

from power_disk import CLEAN, GARBAGE, HALF, WHERE, Board, Refusal, files, formatted

from shared import wire
from shared.blob import Blob

BLOCKS = 40
EACH = 12  # samples of a class


class Scenario:
    """before(): the image of a chip; after(board): the operation. Both through the agent's handlers."""

    def __init__(self, folder):
        self.folder = folder
        self.tiny = self.file("tiny.tcb")  # never grows
        self.grow = self.file("grow.tcb")  # never content
        self.samples = {}  # by blob: raw samples of each class
        for name in ("tiny", "grow"):
            blob = Blob(self.file(name + ".tcb"))
            raw = self.file(name + ".raw")
            n = EACH * blob.sample_bytes
            self.samples[blob.id] = blob.sample_bytes, [raw[at : at + n] for at in range(0, len(raw), n)]

    @staticmethod
    def blob_id(data):
        return Blob(data).id

    def file(self, name):
        with open(self.folder + "/" + name, "rb") as f:
            return f.read()

    def fresh(self, blob, *names):
        """The image of a chip that has a blob and was taught classes."""
        data = formatted(BLOCKS)
        board = Board(data)
        if blob:
            board.upload(blob)
            board.ask(wire.ACTIVATE)
        for k, name in enumerate(names):
            self.enrol(board, name, k)
        return data

    def enrol(self, board, name, k):
        size, classes = self.samples[board.agent.keeper.learner.blob.id]
        return board.enrol(name, classes[-1 - k], size)

    def state(self, board):
        learner = board.agent.keeper.learner
        if not learner:
            return board.state(b"")
        size, classes = self.samples[learner.blob.id]
        return board.state(b"".join([one[: 2 * size] for one in classes]))

    # name: (image before, operation); an operation may be repeated on what a cut left of it

    def first_blob(self):
        return self.fresh(None), self.do_activate

    def upload(self):
        return self.fresh(self.tiny, "one"), lambda board: board.upload(self.grow)

    def activation(self):
        return self.fresh(self.tiny, "one"), self.do_activate

    def same_blob(self):
        return self.fresh(self.grow, "one"), self.do_activate

    def do_activate(self, board):
        board.upload(self.grow)
        board.ask(wire.ACTIVATE)

    def enrolment(self):
        return self.fresh(self.tiny, "one"), lambda board: self.enrol(board, "two", 1)

    def growth(self):
        return self.fresh(self.grow, "zero"), self.do_grow

    def do_grow(self, board):
        self.enrol(board, "one", 1)
        assert json.loads(board.ask(wire.STATUS))["rung"] > 0

    def forgetting(self):
        return self.fresh(self.grow, "one", "two"), lambda board: board.ask(wire.FORGET, b"one")

    def base_forgotten(self):
        return self.fresh(self.tiny, "one"), lambda board: board.ask(wire.FORGET, b"north-west")

    def starting_over(self):
        return self.fresh(self.grow, "one", "two"), lambda board: board.ask(wire.FORGET)

    def renaming(self):
        return self.fresh(self.tiny, "one"), lambda board: board.rename("one", "another")

    def push(self):
        board = Board(self.fresh(self.grow, "other", "classes"))
        learned = board.read(0)
        for uid in (1, 2):
            learned += board.read(uid)

        def adopt(board):
            board.upload(learned)
            board.ask(wire.ADOPT)

        return self.fresh(self.grow, "one"), adopt

    def migration(self):
        """A chip as version 1 left it: the first commit writes the new format."""
        data = formatted(BLOCKS)
        Board(data)
        for name in ("state0", "state1", "class1.raw"):
            with open(WHERE + "/" + name, "wb") as f:
                f.write(self.file("v1-" + name))
        with open(WHERE + "/blob.tcb", "wb") as f:
            f.write(self.tiny)
        return data, lambda board: self.enrol(board, "three", 1)


def start(image, dies_at=0, way=CLEAN):
    data = bytearray(image)
    return data, Board(data, dies_at, way)


def cut(image, operate, at, way):
    """The chip after its power was cut at the at-th write of the operation; None where that has fewer."""
    data, board = start(image)
    board.dies(at, way)
    try:
        operate(board)
    except BaseException:  # on its way out, PowerCut may give way to an error of closing a file
        if not board.disk.dead:
            raise
    return data if board.disk.dead else None


def recover(data, way):
    """Power comes back; with GARBAGE it goes again at the first write of the start, if there is one. The board that is up."""
    if way == GARBAGE:
        try:
            Board(data, 1, way)
        except BaseException:
            if not Board.latest.dead:
                raise
    return Board(data)


def same(left, right, ignore_commit=False):
    return left[1:] == right[1:] if ignore_commit else left == right


def every_cut(scenario, name, all_ways):
    image, operate = getattr(scenario, name)()
    image = bytes(image)
    begin = time.ticks_ms()
    _, board = start(image)
    before = scenario.state(board)
    _, board = start(image)
    first, programmed, erased = board.disk.writes, board.disk.programmed, sum(board.disk.erased)
    operate(board)
    writes = board.disk.writes - first
    after = scenario.state(board)
    kept = files()
    told = {
        "scenario": name,
        "writes": writes,
        "erased_blocks": sum(board.disk.erased) - erased,
        "programmed_bytes": board.disk.programmed - programmed,
        "commits": after[0] - before[0],
        "files": kept,
        "cuts": 0,
        "before": 0,
        "after": 0,
        "wrong": [],
    }
    for at in range(1, writes + 1):
        for way in (CLEAN, HALF, GARBAGE) if all_ways else (CLEAN, 1 + at % 2):
            data = cut(image, operate, at, way)
            if data is None:
                told["wrong"].append([way, at, "no cut"])
                break
            told["cuts"] += 1
            why = check(scenario, recover(data, way), operate, before, after, told)
            if why:
                told["wrong"].append([way, at, why])
    told["ms"] = time.ticks_diff(time.ticks_ms(), begin)
    return told


def check(scenario, board, operate, before, after, told):
    """What is wrong with a board that came up after a cut, or ''."""
    found = scenario.state(board)
    if board.hello["sequence"] != found[0]:
        return "HELLO tells commit %d, STATUS %d" % (board.hello["sequence"], found[0])
    if same(found, after) and not same(found, before):
        told["after"] += 1
        name = found[3][0][0]
        board.rename(name, "elsewhere")
        board.rename("elsewhere", name)
        if not same(scenario.state(board), after, True):
            return "after, but it does not go on"
    elif same(found, before):
        told["before"] += 1
        try:
            operate(board)
        except Refusal as e:
            return "before, and then refused: %s" % e.args[1]
        # with no state before, the count may go on from a commit whose blob never became the active one
        if not same(scenario.state(board), after, not before[0]):
            return "before, but the operation gives %s, not %s" % (scenario.state(board)[:3], after[:3])
        again = Board(board.disk.data)
        if not same(scenario.state(again), after, not before[0]):
            return "before, and the state after the operation does not survive: %s" % again.hello["slots"]
    else:
        return "%s %s: neither %s nor %s" % (found[:3], board.hello["slots"], before[:3], after[:3])
    return ""


if __name__ == "__main__":
    scenario = Scenario(sys.argv[1])
    for name in sys.argv[3:]:
        print(json.dumps(every_cut(scenario, name, sys.argv[2] == "all")))
