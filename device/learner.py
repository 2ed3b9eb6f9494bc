# The learner on the board: head, replay memory and training step, in buffers that the plan allocates once.
# Allocates at construction: the plan. Per training step: nothing large (nothing at all in the kernels, but for ulab's).
#
# The head (ours; the paper leaves the form of growth open):
#   logits = W [1; x; h],  h = relu(U [1; x])     x: latents of exits 0..e, h: hidden units
# W has a column for every input of the largest rung, so that growing never moves a weight: new hidden units start with
# random U and zero in W, the inputs of a deeper exit with zero in both, and the function stays as it was.
from array import array
from binascii import crc32

from backbone import Backbone
from kernels import chain
from replay import Replay

from shared import blob as b
from shared import errors, fixed
from shared.errors import TinyclError
from shared.state import NEVER_SURE

ACCURACY_ONE = 1 << 16
MARGIN = 1 << 18  # a new hidden unit stands this far (0.5) on the bright side of its ReLU for one sample of the memory
EARLY_MISTAKES = 100  # of so many held-back samples, one may leave at the first exit with a mistake that the whole model avoids
SPREAD = 4  # a new weight of U: a signed 16-bit random number << 4, that is uniform within +-0.5


def _size(entry):
    return entry[2] * (1 if entry[1] == "B" else 4)


class Learner:
    """blob: a checked Blob; kernels: a module of kernels/; top, plan: the ladder's last rung and its memory (plan.fit)."""

    def __init__(self, blob, kernels, top, plan):
        self.blob = blob
        self.kernels = kernels
        self.top = top
        buffers = {}
        for name, code, items in sorted(plan, key=_size, reverse=True):  # the largest first, while there is room in one piece
            if code == "w":
                buffers[name] = kernels.weights(items)
            elif code == "i":
                buffers[name] = array("i", bytes(4 * items))
            else:
                buffers[name] = bytearray(items)
        self.buffers = buffers
        self.sample = buffers["sample"]
        self.features = buffers["features"]
        self.stage = buffers["stage"]
        self.head = buffers["head"]
        self.hidden = buffers["hidden"]
        self.logits = buffers["logits"]
        self.errors = buffers["errors"]
        self.hidden_errors = buffers["hidden_errors"]
        leave, self.units = blob.rungs[top * b.RUNG_INTS], blob.rungs[top * b.RUNG_INTS + 1]
        self.inputs = blob.features[leave]  # of the largest rung: the length of a latent row
        self.w_stride = 1 + self.inputs + self.units
        self.u_stride = 1 + self.inputs
        self.h_col = 1 + self.inputs
        self.model = chain.model(
            kernels,
            self.head,
            self.hidden,
            self.logits,
            self.errors,
            self.hidden_errors,
            self.features,
            buffers["sums"],
            self.inputs,
            self.units,
        )
        # The first exit's own head: a sample whose class it is sure of leaves there (see `predict`).
        self.early = buffers["early"]
        self.early_inputs = blob.features[0] if len(self.early) else 0
        self.early_model = chain.model(
            kernels,
            self.early,
            self.hidden,
            self.logits,
            self.errors,
            self.hidden_errors,
            self.features,
            buffers["sums"],
            self.early_inputs,
            0,
        )
        self.sure = NEVER_SURE  # a certainty above it is enough to leave
        self.forwards = 0  # forward passes of the head on stored samples, of the whole model
        self.early_forwards = 0  # and of the first exit's own: what they cost is told with a training's MACs
        self.asked = 0  # predictions since the start,
        self.left_early = 0  # and how many of them left at the first exit
        self.order = array("i", bytes(8 * blob.max_classes))  # of one round of training, as kernels/chain.py's `deal` has it
        self.cursor = array("i", bytes(4 * blob.max_classes))
        self.dealt = array("i", bytes(4 * blob.max_classes))  # samples of each class in this epoch
        self.backbone = Backbone(blob, buffers, kernels)
        self.replay = Replay(buffers["replay"], blob.max_classes, blob.per_class, self.inputs)
        self.staged = 0  # samples of the class that is being enrolled, in `stage`
        self.random = blob.seed
        self.set_rung(0)

    # the model

    def set_rung(self, rung):
        self.rung = rung
        at = rung * b.RUNG_INTS
        self.exit = self.blob.rungs[at]
        self.h = self.blob.rungs[at + 1]
        self.n = self.blob.rungs[at + 2]
        if not self.has_early:
            self.sure = NEVER_SURE
        dims = self.model[1]
        dims[chain.INPUTS] = self.n
        dims[chain.UNITS] = self.h
        dims[chain.ROOM] = 0  # weights are written around a change of rung

    @property
    def has_early(self):
        """Whether the rung in use has a head at the first exit beside its own."""
        return self.exit > 0 and self.early_inputs > 0

    def exit_of(self, rung):
        return self.blob.rungs[rung * b.RUNG_INTS]

    @property
    def classes(self):
        """Rows of the head that are in use: the known classes, and the one whose samples are staged."""
        return self.replay.classes + (1 if self.staged else 0)

    def macs(self):
        """(inference, training step on a latent): multiply-accumulates at this rung with the classes so far."""
        forward = self.head_macs()
        return self.blob.exits[self.exit * b.EXIT_INTS + 3] + forward, 2 * forward + self.classes * self.h

    def head_macs(self):
        """Multiply-accumulates of the head alone."""
        return self.classes * (1 + self.n + self.h) + self.h * (1 + self.n)

    def early_macs(self):
        """The same of the first exit's own head; zeros where there is none."""
        if not self.has_early:
            return 0, 0
        forward = self.classes * (1 + self.early_inputs)
        return self.blob.exits[3] + forward, 2 * forward

    def load_base(self):
        """Base classes and their head as the blob has them; their latents are the caller's to make."""
        blob = self.blob
        self.replay.clear()
        for c in range(blob.base_classes):
            self.replay.add(blob.names[c], blob.base_per_class, 0, c)
        self.staged = 0
        self.set_rung(0)
        self.clear_weights()
        row = array("i", bytes(4 * (1 + self.n)))
        for c in range(blob.base_classes):
            blob.read("HEAD", row, 4 * len(row), 4 * len(row) * c)
            self.kernels.adopt(self.head, c * self.w_stride, row)

    def clear_weights(self):
        self.kernels.clear(self.head)
        self.kernels.clear(self.hidden)
        self.sure = NEVER_SURE
        if self.early_inputs:
            self.kernels.clear(self.early)

    def forget(self, c):
        """Takes class c out of the model: its row of the last layer, its replay memory, its name. The logits of all other
        classes stay what they were."""
        kernels = self.kernels
        last = self.replay.classes - 1
        heads = [(self.head, self.w_stride)]
        if self.early_inputs:
            heads.append((self.early, 1 + self.early_inputs))
        for head, stride in heads:
            for k in range(c, last + 1):
                at = k * stride
                row = kernels.export(head, at + stride, stride) if k < last else array("i", bytes(4 * stride))
                kernels.adopt(head, at, row)
        self.replay.remove(c)

    def read_base(self, c, i):
        """Raw sample i of the blob's class c into `sample`."""
        n = self.blob.sample_bytes
        self.blob.read("RAWS", self.sample, n, (c * self.blob.base_per_class + i) * n)

    def check_sample(self):
        """Refuses what lies outside the range that the blob was made for."""
        low, high = self.blob.q_low, self.blob.q_high
        if low >= 0:  # as unsigned bytes, negative values are the largest
            least, most = min(self.sample), max(self.sample)
            if least >= low and most <= high:
                return
        for v in self.sample:
            v = (v ^ 128) - 128
            if not low <= v <= high:
                raise TinyclError("a value of %d, the blob takes %d to %d: scale the sample" % (v, low, high), errors.SAMPLE)

    # one sample

    def forward(self, x, xo, classes):
        """Logits, hidden units and probabilities (in `errors`) for one latent row; the class with the largest logit, the
        first of equals."""
        return self.kernels.forward(self.model, x, xo, classes)

    def train(self, order, n, shift, classes, early=False):
        """n steps on stored samples, as kernels/chain.py's `train`; returns the sum of their 1 - p(label)."""
        model = self.early_model if early else self.model
        return self.kernels.train(model, self.replay.buffer, self.stage, order, n, shift, classes)

    def predict(self):
        """(class, probability in 1/255) of the raw sample in `sample`. Where the first exit's own head is sure, the rest of the
        backbone is not computed."""
        classes = self.replay.classes
        self.asked += 1
        at = first = 0
        if self.sure < NEVER_SURE:
            first = 1
            at = self.backbone.latents(self.sample, 0, self.features, 0)
            c = self.kernels.forward(self.early_model, self.features, 0, classes)
            certainty = self.certainty(c)
            if certainty > self.sure:
                self.left_early += 1
                return c, certainty
        self.backbone.latents(self.sample, self.exit, self.features, at, first)
        c = self.forward(self.features, 0, classes)
        return c, self.certainty(c)

    def certainty(self, c):
        """Probability of class c after a forward pass, in 1/255."""
        return min(255, int(self.errors[c] * 255 / self.kernels.ONE))

    # many samples

    def add_staged(self):
        """Takes the raw sample in `sample` as the next one of the class that is being enrolled."""
        self.backbone.latents(self.sample, self.exit, self.stage, self.staged * self.inputs)
        self.staged += 1

    def count(self, c):
        return self.replay.counts[c] if c < self.replay.classes else self.staged

    def validate(self):
        """(accuracy in 1/65536, loss) on the held-back samples: mean over classes of the share that is right, and of
        1 - p(label). The accuracy decides about growth, so it is an integer, the same on every board. Where the newest class
        is missed more often than hit, its share stands for all: among many good classes a mean would not notice.

        For the newest class these samples are unseen. Those of older classes were trained on when these were the newest
        (the refit at the end of an enrolment) or by the host, so for them it watches over forgetting rather than fit."""
        every = self.blob.holdout_every
        classes = self.classes
        accuracy = 0
        loss = 0.0
        seen = 0
        for c in range(classes):
            right = 0
            wrong = 0
            total = 0
            for i in range(every - 1, self.count(c), every):
                right += self._forward_stored(c, i, classes) == c
                wrong += self.kernels.ONE - self.errors[c]
                total += 1
            if total:
                newest = right * ACCURACY_ONE // total
                accuracy += newest
                loss += wrong / total / self.kernels.ONE
                seen += 1
        if not seen:
            return ACCURACY_ONE, 0.0
        accuracy //= seen
        return (min(accuracy, newest) if newest < ACCURACY_ONE // 2 else accuracy), loss / seen

    def where(self, c, i):
        """(buffer, first byte) of the latents of sample i of class c, stored or staged."""
        if c < self.replay.classes:
            return self.replay.buffer, self.replay.at(c, i)
        return self.stage, i * self.inputs

    def _forward_stored(self, c, i, classes):
        self.forwards += 1
        return self.forward(*self.where(c, i), classes)

    def epoch(self, shift, all_samples=False, early=False):
        """A generator: one pass in which every class is drawn equally often, as often as the largest class has samples.

        Held-back samples are skipped unless all_samples; `early` trains the first exit's own head. Yields after each round over
        the classes; the last value is (steps, sum of 1 - p(label) in the kernels' unit).
        """
        classes = self.classes
        known = self.replay.classes
        every = self.blob.holdout_every
        last = every if all_samples else every - 1  # i % every of samples that are held back; with all_samples of none
        order, cursor, counts = self.order, self.cursor, self.dealt
        for c in range(classes):
            order[2 * c] = c
            counts[c] = self.count(c)
            cursor[c] = self.draw(counts[c])
        rounds = max([counts[c] - (0 if all_samples else counts[c] // every) for c in range(classes)])
        deal = self.kernels.deal
        loss = 0
        (self.early_model if early else self.model)[1][chain.ROOM] = 0  # whatever wrote weights since the last epoch
        for _ in range(rounds):
            self.random = deal(
                order, cursor, counts, classes, known, self.replay.per_class, self.inputs, every, last, self.random
            )
            loss += self.train(order, classes, shift, classes, early)
            yield None
        yield rounds * classes, loss

    def draw(self, n):
        """A number below n from a 16-bit xorshift (7, 9, 8): small integers only, the same on every board."""
        x = self.random
        x ^= (x << 7) & 0xFFFF
        x ^= x >> 9
        x ^= (x << 8) & 0xFFFF
        self.random = x
        return x % n

    # growth

    def grow(self, rung):
        """Goes to a larger rung without a change of the function. The latents up to its exit must be there already."""
        units = self.h
        self.buffers["head_before"][:] = self.head
        self.buffers["hidden_before"][:] = self.hidden
        self.set_rung(rung)
        if self.h > units:
            row = array("i", bytes(4 * (1 + self.n)))
            for k in range(units, self.h):
                row[0] = 0
                for j in range(1, 1 + self.n):
                    row[j] = (self.draw(1 << 16) - (1 << 15)) << SPREAD
                # Latents are never negative, so a unit without bias may be dark for all of them and would never learn.
                c = self.draw(self.classes)
                z = self._product(row, c, self.draw(self.count(c)))
                row[0] = max(-fixed.W_MAX, min(fixed.W_MAX, (MARGIN - z) // fixed.BIAS_INPUT << fixed.W_SHIFT))
                self.kernels.adopt(self.hidden, k * self.u_stride, row)

    # leaving early

    def begin_early(self):
        """The first exit's own head starts as the columns of the last layer that see this exit."""
        n = 1 + self.early_inputs
        for c in range(self.classes):
            self.kernels.adopt(self.early, c * n, self.kernels.export(self.head, c * self.w_stride, n))

    def set_sure(self):
        """A generator: finds, on the held-back samples of the memory, above which certainty the first exit's own head may speak
        for the whole model: one in EARLY_MISTAKES of them, at most, may leave with a mistake where the whole model is right."""
        classes = self.classes
        every = self.blob.holdout_every
        allowed = sum([self.count(c) // every for c in range(classes)]) // EARLY_MISTAKES
        surest = []  # the largest certainties of mistakes, rising: one more than are allowed
        for c in range(classes):
            for i in range(every - 1, self.count(c), every):
                x, at = self.where(c, i)
                best = self.kernels.forward(self.early_model, x, at, classes)
                certainty = self.certainty(best)
                self.early_forwards += 1
                if best == c or (len(surest) > allowed and certainty <= surest[0]):
                    continue
                if self._forward_stored(c, i, classes) == c:
                    surest.append(certainty)
                    surest.sort()
                    if len(surest) > allowed + 1:
                        surest.pop(0)
            yield None
        self.sure = surest[0] if len(surest) > allowed else 0

    def _product(self, row, c, i):
        """The pre-activation that a row of U without bias gives for a stored sample, in plain integers."""
        x, at = self.where(c, i)
        z = 0
        for j in range(self.n):
            z += (row[1 + j] >> fixed.W_SHIFT) * ((x[at + j] ^ 128) - 128)
        return z

    def shrink(self, rung):
        """The model as it was before `grow`."""
        self.head[:] = self.buffers["head_before"]
        self.hidden[:] = self.buffers["hidden_before"]
        self.set_rung(rung)

    def weights_in_use(self, early=True):
        """A generator of (weights, first, count): what a stored state holds, whatever rung the plan ends at. Without `early`,
        what one of an agent before 0.3 holds."""
        for c in range(self.replay.classes):
            yield self.head, c * self.w_stride, 1 + self.n
            if self.h:
                yield self.head, c * self.w_stride + self.h_col, self.h
        for k in range(self.h):
            yield self.hidden, k * self.u_stride, 1 + self.n
        if early and self.has_early:
            n = 1 + self.early_inputs
            for c in range(self.replay.classes):
                yield self.early, c * n, n

    def digest(self):
        """CRC-32 over everything that decides a prediction: equal states have equal digests."""
        crc = crc32(bytes((self.rung, self.sure) if self.has_early else (self.rung,)) + "\n".join(self.replay.names).encode())
        for weights, at, count in self.weights_in_use():
            crc = crc32(self.kernels.export(weights, at, count), crc)
        for c in range(self.replay.classes):
            for i in range(self.replay.counts[c]):
                at = self.replay.at(c, i)
                crc = crc32(memoryview(self.replay.buffer)[at : at + self.n], crc)
        return crc & 0xFFFFFFFF
