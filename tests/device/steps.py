# Heap bytes that rounds of training take on a rung, dealing included, with collection off: prints those bytes, and 1 or 0 for
# whether the weights of the head and those of its hidden units have changed.
#   usage: micropython steps.py KERNELS BLOB RUNG ROUNDS
import gc
import sys
from binascii import crc32

import kernels
from learner import Learner

from shared import plan
from shared.blob import Blob


def train(learner, rounds):
    """Deals and trains, as an epoch does."""
    replay = learner.replay
    n = replay.classes
    order, cursor, counts = learner.order, learner.cursor, learner.dealt
    deal = learner.kernels.deal
    every = learner.blob.holdout_every
    while rounds:
        rounds -= 1
        learner.random = deal(order, cursor, counts, n, n, replay.per_class, learner.inputs, every, every - 1, learner.random)
        learner.train(order, n, 4, n)


def main(name, path, rung, rounds):
    with open(path, "rb") as f:
        blob = Blob(f.read())
    top = len(blob.rungs) // 4 - 1
    learner = Learner(blob, kernels.load(name), top, plan.buffers(blob, top))
    learner.load_base()
    for c in range(blob.base_classes):
        for i in range(blob.base_per_class):
            learner.read_base(c, i)
            learner.backbone.latents(learner.sample, learner.exit_of(rung), learner.replay.buffer, learner.replay.at(c, i))
    if rung:
        learner.grow(rung)
    for c in range(blob.base_classes):
        learner.order[2 * c] = c
        learner.dealt[c] = blob.base_per_class
    head, hidden = crc32(learner.head), crc32(learner.hidden)
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    train(learner, rounds)
    after = gc.mem_alloc()
    print(after - before, int(crc32(learner.head) != head), int(crc32(learner.hidden) != hidden))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
