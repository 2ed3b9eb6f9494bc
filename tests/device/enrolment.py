# A learner without an agent, for the tests: enrols classes from raw samples that it keeps in memory, as the agent does from
# flash. Runs under CPython (with any kernels, NumPy's included) and MicroPython.
#   usage: micropython enrolment.py KERNELS BLOB SAMPLES CLASSES   prints one line of JSON for each class enrolled
import json
import sys

import growth
from learner import Learner
from replay import condense

from shared import plan
from shared.blob import Blob


class Enrolment:
    """blob: bytes; kernels: a module; top: the last rung of the ladder, by default that of the blob."""

    def __init__(self, data, kernels, top=None):
        blob = Blob(data)
        if top is None:
            top = len(blob.rungs) // 4 - 1
        self.plan = plan.buffers(blob, top)
        self.learner = Learner(blob, kernels, top, self.plan)
        self.learner.load_base()
        self.raw = [None] * blob.base_classes  # of each enrolled class: the samples it keeps
        self.staged = []
        for _ in self.recompute(0):
            pass

    def stage(self, samples):
        """samples: a list of bytes-like objects, one raw sample each."""
        self.staged = samples
        self.learner.staged = 0
        for sample in samples:
            self.learner.sample[:] = sample
            self.learner.add_staged()

    def recompute(self, leave):
        learner = self.learner
        for c in range(learner.replay.classes):
            for i in range(learner.replay.counts[c]):
                if self.raw[c]:
                    learner.sample[:] = self.raw[c][i]
                else:
                    learner.read_base(c, i)
                learner.backbone.latents(learner.sample, leave, learner.replay.buffer, learner.replay.at(c, i))
        for i in range(learner.staged):
            learner.sample[:] = self.staged[i]
            learner.backbone.latents(learner.sample, leave, learner.stage, i * learner.inputs)
        yield None

    def enrol(self, name):
        """A generator of the events of training the staged class; it is condensed and known afterwards."""
        learner = self.learner
        for event in growth.enrol(learner, self.recompute):
            if event:
                yield event
        replay = learner.replay
        chosen = quiet(
            condense(
                learner.kernels,
                learner.stage,
                learner.staged,
                learner.inputs,
                learner.n,
                replay.buffer,
                replay.at(replay.classes, 0),
                min(learner.blob.per_class, learner.staged),
                learner.buffers["sums"],
            )
        )
        replay.add(name, len(chosen))
        self.raw.append([self.staged[i] for i in chosen])
        learner.staged = 0


def quiet(generator):
    """The generator's result, without what it yields on the way."""
    while True:
        try:
            next(generator)
        except StopIteration as e:
            return e.value


def report(data, kernels, samples, classes):
    """Enrols that many classes, with equally many of `samples` (raw samples back to back) each; a dict for each class."""
    made = Enrolment(data, kernels)
    size = len(made.learner.sample)
    each = len(samples) // size // classes
    found = []
    for k in range(classes):
        made.stage([samples[i * size : (i + 1) * size] for i in range(k * each, (k + 1) * each)])
        events = list(made.enrol("new%d" % k))
        last = events[-1]
        found.append(
            {
                "digest": made.learner.digest(),
                "rung": last["rung"],
                "steps": last["steps"],
                "macs": last["train_macs"],
                "grown": [[e["to"], e["accepted"]] for e in events if e["t"] == "grown"],
            }
        )
    return found


if __name__ == "__main__":
    import kernels as kernel_choice

    with open(sys.argv[2], "rb") as f:
        data = f.read()
    with open(sys.argv[3], "rb") as f:
        samples = f.read()
    for line in report(data, kernel_choice.load(sys.argv[1]), samples, int(sys.argv[4])):
        print(json.dumps(line))
