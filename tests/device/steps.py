# Heap bytes that training steps take on a rung, with collection off: prints those bytes, and 1 or 0 for whether the weights of
# the head and those of its hidden units have changed.
#   usage: micropython steps.py KERNELS BLOB RUNG STEPS
import gc
import sys
from binascii import crc32

import kernels
from learner import Learner

from shared import plan
from shared.blob import Blob


def train(learner, steps):
    replay = learner.replay
    while steps:
        steps -= 1
        c = steps % replay.classes
        learner.step(replay.buffer, replay.at(c, steps % replay.counts[c]), c, 4, replay.classes)


def main(name, path, rung, steps):
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
    head, hidden = crc32(learner.head), crc32(learner.hidden)
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    train(learner, steps)
    after = gc.mem_alloc()
    print(after - before, int(crc32(learner.head) != head), int(crc32(learner.hidden) != hidden))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
