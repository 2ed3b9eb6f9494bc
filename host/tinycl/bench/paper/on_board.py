# A stream of classes through the board's own learner, without a line: run by MicroPython in a folder that is laid out as a
# board's flash, with a blob as up.tcb and the samples of each class to come as 0.raw, 1.raw, …
# Prints one line of JSON after the base classes and after each enrolment, and leaves after<k>.tcs, what `tinycl pull` would
# bring then. Allocates what the runtime does, and the samples of one class.
#   usage: micropython on_board.py adaptive|large FREE_BYTES CLASS…
import gc
import json
import sys

import growth
from keeper import Keeper
from store import Store


class Board(Keeper):
    """A Keeper that plans for a board of which so many bytes are free, whatever this process has."""

    def __init__(self, free_bytes):
        self.free_bytes = free_bytes
        super().__init__(Store(""), "", lambda: None)

    def free(self):
        gc.collect()
        return min(gc.mem_free(), self.free_bytes)


def pull(store, learner, path):
    with open(path, "wb") as target:
        names = ["state%d" % (store.sequence & 1)]
        names += ["class%d.raw" % uid for uid in list(learner.replay.uids)[: learner.replay.classes] if uid]
        for name in names:
            with open(store.path(name), "rb") as source:
                target.write(source.read())


def tell(learner, done, events, step):
    done["events"] = events
    done["stored"] = sum(list(learner.replay.counts)[: learner.replay.classes])
    done["rung"] = learner.rung
    done["exit"] = learner.exit
    done["top"] = learner.top
    done["macs"] = learner.macs()[0]
    done["early_macs"] = learner.early_macs()[0]
    done["step"] = step
    print(json.dumps(done))


def start_large(board):
    """The base classes at the ladder's last rung, trained there as an enrolment trains them."""
    learner = board.learner
    total = {"steps": 0, "macs": 0}
    for _ in board.recompute(learner, learner.exit_of(learner.top)):
        pass
    learner.grow(learner.top)
    for _ in growth.fit(learner, total):
        pass
    for k in range(learner.blob.refit_epochs):
        for _ in growth.one_epoch(learner, "refit", k, learner.blob.shift_last, total):
            pass
    board.store.commit(learner)


def main(mode, free_bytes, *names):
    board = Board(int(free_bytes))
    store = board.store
    for _ in board.activate("up.tcb"):
        pass
    if mode == "large":
        start_large(board)
    learner = board.learner
    pull(store, learner, "after0.tcs")
    tell(learner, {}, [], 0)
    for k, name in enumerate(names):
        store.open_stage()
        learner.staged = 0
        with open("%d.raw" % k, "rb") as f:
            while f.readinto(learner.sample) == len(learner.sample):
                learner.check_sample()
                store.add_stage(learner.sample)
                learner.add_staged()
        store.close_stage()
        events = []
        for news in board.train(name):
            if news and news["t"] in ("grow", "grown"):
                events.append(news)
            elif news and news["t"] == "done":
                done = news
        pull(store, learner, "after%d.tcs" % (k + 1))
        tell(learner, done, events, k + 1)


main(*sys.argv[1:])
