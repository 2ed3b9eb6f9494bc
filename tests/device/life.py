# A long life: a board is taught a class and forgets it again, thousands of times, on a heap of a real one's size. Its use of
# memory must stay flat, its numbers go round, a restart must find what was there; and collection at every step or a reset in
# the middle of a training must change no bit. Needs power_disk.py and, in the working folder, what tinycl.bench.power lays out.
#   usage: micropython life.py begin|resets FOLDER   life.py cycles FOLDER FIRST COUNT   life.py collected FOLDER KERNELS
import gc
import json
import os
import struct
import sys
from array import array
from binascii import crc32

from power_disk import Host

from shared import wire

SIZE = 64  # bytes of a sample of the blob
EACH = 12  # samples of a class
WINDOW = 100  # cycles that are one reading of memory


def read(name):
    with open(name, "rb") as f:
        return f.read()


def samples(k):
    raw = read("chip/grow.raw")
    n = EACH * SIZE
    return raw[k * n : (k + 1) * n]


class Watched(Host):
    """While `looks`, keeps the most bytes in use that were seen after a collection, at each turn of the agent."""

    looks = False
    most = 0

    def ask(self, kind, payload=b""):
        self.seq = (self.seq + 1) & 255
        self.line.requests.append((kind, self.seq, payload))
        while not self.line.answers:
            self.agent.turn()
            if self.looks:
                gc.collect()
                self.most = max(self.most, gc.mem_alloc())
        answer, _, said = self.line.answers.pop(0)
        assert answer == wire.OK, said
        return said


def clear(folder):
    for name in os.listdir(folder):
        os.remove(folder + "/" + name)


def taught(folder, kernels=""):
    """A board with the blob that grows and one class."""
    clear(folder)
    host = Watched(folder + "/", kernels)
    host.upload(read("chip/grow.tcb"))
    host.ask(wire.ACTIVATE)
    host.enrol("kept", samples(4), SIZE)
    return host


def late(folder):
    """Moves the numbers of the slots close to where they begin anew, whatever they were."""
    for slot in ("state0", "state1"):
        data = read(folder + "/" + slot)
        n = struct.unpack_from("<I", data, 8)[0]
        data = data[:8] + struct.pack("<I", 0xFFFFFE00 + n) + data[12:22] + struct.pack("<H", 65300) + data[24:-4]
        with open(folder + "/" + slot, "wb") as f:
            f.write(data + struct.pack("<I", crc32(data) & 0xFFFFFFFF))


def begin(folder):
    print(json.dumps({"digest": taught(folder).digest()}))
    late(folder)


def cycles(folder, first, count):
    """Enrols and forgets; prints a reading of memory for each window, and the digest at the start and at the end."""
    host = Watched(folder + "/")
    assert host.hello["slots"] == "", host.hello
    print(json.dumps({"digest": host.digest()}))
    classes = host.ask(wire.CLASSES)
    gc.threshold(8192)  # as main.py
    for k in range(first, first + count):
        host.looks = k % 10 == 0
        host.enrol("guest%d" % k, samples(k % 4), SIZE)
        host.ask(wire.FORGET, b"guest%d" % k)
        if k % WINDOW == WINDOW - 1:
            assert host.ask(wire.CLASSES) == classes
            gc.collect()
            print(
                json.dumps(
                    {
                        "cycles": k + 1,
                        "in_use": gc.mem_alloc(),
                        "most_in_use": host.most,
                        "sequence": host.agent.store.sequence,
                        "next_uid": host.agent.store.next_uid,
                        "files": len(os.listdir(folder)),
                    }
                )
            )
            host.most = 0
    print(json.dumps({"digest": host.digest()}))


def resets(folder):
    """A reset at every third slice of a training; what the training gives at last is what it gives without."""
    host = taught(folder)
    kept = {name: read(folder + "/" + name) for name in os.listdir(folder)}
    before = host.digest()
    host.enrol("new", samples(3), SIZE)
    after = host.digest()
    host = None
    count = 0
    finished = False
    while not finished:
        clear(folder)
        for name, data in kept.items():
            with open(folder + "/" + name, "wb") as f:
                f.write(data)
        host = Host(folder + "/")
        host.ask(wire.ENROL_OPEN, struct.pack("<H", EACH) + b"new")
        host.ask(wire.ENROL_DATA, samples(3))
        host.line.requests.append((wire.TRAIN, (host.seq + 1) & 255, b""))
        host.agent.handle(*host.line.requests.pop())
        job = host.agent.job
        finished = True
        steps = 0
        for news in job:
            steps += 1  # noqa: SIM113
            if steps == 3 * count + 1 and not (news and news["t"] == "done"):
                finished = False
                break
        job.close()  # a reset closes nothing; here it only frees memory
        host = Host(folder + "/")
        if not finished:
            assert host.digest() == before and "stage.raw" not in os.listdir(folder), count
            if count % 8 == 0:
                host.enrol("new", samples(3), SIZE)
                assert host.digest() == after, count
            count += 1
    assert host.digest() == after
    print(json.dumps({"resets": count}))


class Collecting:
    """Stands in for a module of kernels: collection before and after every step of a training, and before all else it does
    for one. `steps`: how many there were."""

    def __init__(self, kernels):
        self.kernels = kernels
        self.plain = kernels.train, kernels.forward, kernels.deal
        self.pair = array("i", (0, 0))
        self.steps = 0
        kernels.train, kernels.forward, kernels.deal = self.train, self.forward, self.deal

    def train(self, model, x, stage, order, n, shift, classes):
        loss = 0
        for k in range(0, 2 * n, 2):
            self.pair[0] = order[k]
            self.pair[1] = order[k + 1]
            gc.collect()
            loss += self.plain[0](model, x, stage, self.pair, 1, shift, classes)
            gc.collect()
            self.steps += 1
        return loss

    def forward(self, *arguments):
        gc.collect()
        return self.plain[1](*arguments)

    def deal(self, *arguments):
        gc.collect()
        return self.plain[2](*arguments)

    def end(self):
        self.kernels.train, self.kernels.forward, self.kernels.deal = self.plain


def collected(folder, name):
    """The same enrolment with collection at every step, and with it at every allocation."""
    digests = []
    steps = 0
    for how in ("seldom", "step", "allocation"):
        host = taught(folder, name)
        kernels = host.agent.keeper.kernels
        assert name == kernels.NAME
        collecting = Collecting(kernels) if how == "step" else None
        gc.threshold(64 if how == "allocation" else -1)
        try:
            host.enrol("new", samples(3), SIZE)
        finally:
            gc.threshold(-1)
            if collecting:
                collecting.end()
                steps = collecting.steps
        digests.append(host.digest())
        assert Host(folder + "/", name).digest() == digests[0]
    assert digests[0] == digests[1] == digests[2], digests
    print(json.dumps({"kernels": name, "digest": digests[0], "steps": steps}))


if __name__ == "__main__":
    if sys.argv[1] == "cycles":
        cycles(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1] == "collected":
        collected(sys.argv[2], sys.argv[3])
    else:
        {"begin": begin, "resets": resets}[sys.argv[1]](sys.argv[2])
