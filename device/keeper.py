# What the board keeps: the active blob, the learner made from it, and its state on flash. Every change is a job, a generator
# that yields now and then, and either commits or, where it fails or is called off, is undone by `restore`.
# Allocates the Learner and its plan when a blob is loaded.
import gc

import growth
import kernels as kernel_choice
from learner import Learner
from replay import condense
from store import flash_error

from shared import blob as b
from shared import errors, plan
from shared.errors import PlanError, TinyclError
from shared.state import State


class Keeper:
    """store: a Store; kernels: a name, or '' for the best one there is; pulse: called now and then while a state is loaded."""

    def __init__(self, store, kernels, pulse):
        self.store = store
        self.pulse = pulse
        self.available = kernel_choice.available()
        # where the ones that were asked for do not load, the best ones serve, and HELLO says so
        self.kernels = kernel_choice.load(kernels) or kernel_choice.load(self.available[0])
        self.learner = None
        self.trouble = ""  # why there is no learner although there is a blob
        self.touched = False  # the job has begun to change the learner or its files

    def start(self):
        """Brings back the last state; what is wrong with it is told in HELLO and keeps nobody from sending a new blob."""
        store = self.store
        if store.exists("blob.old"):
            # An agent before 0.2 was cut while it tried another blob: this one's state and samples are still whole.
            store.rename("blob.old", "blob.tcb")
        self.boot_or_explain()

    def boot_or_explain(self):
        """Loads blob and state; where that fails, `trouble` says why, and a new blob may be sent."""
        if self.store.exists("blob.tcb"):
            try:
                for _ in self.boot():
                    self.pulse()
            except (TinyclError, MemoryError, OSError) as e:
                self.release()
                self.store.begin()  # commits are counted on from the newest slot, whatever becomes of this blob
                self.trouble = str(flash_error(e) if isinstance(e, OSError) else e) or "not enough memory"
            else:
                self.trouble = ""
        else:
            self.store.begin()

    def need(self):
        if not self.learner:
            raise TinyclError("no active blob%s: send one" % (" (%s)" % self.trouble if self.trouble else ""), errors.NO_BLOB)
        return self.learner

    def free(self):
        """Free bytes of the heap after a collection."""
        gc.collect()
        return gc.mem_free()

    def freed_by_swap(self):
        """Bytes of the present plan, which another blob could use."""
        if not self.learner:
            return 0
        return plan.total_bytes(plan.buffers(self.learner.blob, self.learner.top), self.kernels.WEIGHT_BYTES)

    def choose_kernels(self, name):
        """Other kernels for the same state; TinyclError, and the ones before, where they cannot serve it."""
        if name not in self.available:
            raise TinyclError(
                "no %s kernels on this firmware: choose one of %s" % (name, ", ".join(self.available)), errors.UNKNOWN_REQUEST
            )
        before, served = self.kernels, self.learner is not None
        if name != before.NAME:
            found = kernel_choice.load(name)
            if not found:
                raise TinyclError(
                    "%s kernels do not load (%s): keep %s" % (name, kernel_choice.refused.get(name), before.NAME),
                    errors.UNKNOWN_REQUEST,
                )
            self.kernels = found
            self.restore()
            if served and not self.learner:
                why = self.trouble
                self.kernels = before
                self.restore()
                raise TinyclError("%s kernels cannot serve the blob (%s): keep %s" % (name, why, before.NAME), errors.PLAN)

    def boot(self, name="blob.tcb", fresh=False):
        """A generator: a learner from a blob and, unless fresh, the newest state."""
        gc.collect()
        store = self.store
        blob = b.Blob(open(store.path(name), "rb"))
        learner = self.make_learner(blob)
        if fresh:
            store.fresh()
        if fresh or not store.load(learner):
            learner.load_base()
            store.stale = True
        if store.stale:
            yield from self.recompute(learner, learner.exit)
        if not fresh:
            store.sweep()
        self.learner = learner
        gc.collect()

    def restore(self):
        """The last good state from flash, after an abort or a fault in the middle of a job."""
        self.release()
        self.boot_or_explain()

    def make_learner(self, blob):
        """A learner with the longest ladder whose plan fits; a plan that finds no contiguous room gives way to a shorter."""
        top, buffers = plan.fit(blob, self.free() - self.kernels.SCRATCH_BYTES, self.kernels.WEIGHT_BYTES)
        while True:
            try:
                return Learner(blob, self.kernels, top, buffers)
            except MemoryError:
                gc.collect()
                if top == 0:
                    raise PlanError(
                        "the plan of %d bytes finds no contiguous room in %d free bytes: reset the board, or use a smaller blob"
                        % (plan.total_bytes(buffers, self.kernels.WEIGHT_BYTES), gc.mem_free())
                    )
                top -= 1
                buffers = plan.buffers(blob, top)

    def release(self):
        """Gives the learner's memory and its open blob back."""
        if self.learner:
            self.learner.blob.source.close()
            self.learner = None
        kernel_choice.let_go()
        gc.collect()

    def recompute(self, learner, leave):
        """A generator: the latents of all stored and staged samples at an exit, from their raw samples."""
        replay = learner.replay
        for c in range(replay.classes):
            for i in range(replay.counts[c]):
                if replay.uids[c]:
                    self.store.read_raw(replay.uids[c], i, learner.sample)
                else:
                    learner.read_base(replay.crcs[c], i)
                learner.backbone.latents(learner.sample, leave, replay.buffer, replay.at(c, i))
                yield None
        for i in range(learner.staged):
            self.store.read_stage(i, learner.sample)
            learner.backbone.latents(learner.sample, leave, learner.stage, i * learner.inputs)
            yield None

    # jobs

    def activate(self, upload):
        """Checks an uploaded blob, then makes it the active one. Any failure leaves the old one and its state."""
        store = self.store
        with open(store.path(upload), "rb") as f:
            blob = b.Blob(f)
        plan.fit(blob, self.free() + self.freed_by_swap() - self.kernels.SCRATCH_BYTES, self.kernels.WEIGHT_BYTES)
        yield {"t": "checked", "blob": blob.id}
        self.touched = True
        blob = None
        self.release()
        yield from self.boot(upload, fresh=True)
        learner = self.learner
        store.commit(learner)  # to the older slot: the newer one is the present blob's, which is active up to the next lines
        learner.blob.source.close()
        store.rename(upload, "blob.tcb")
        learner.blob.source = open(store.path("blob.tcb"), "rb")
        store.sweep()
        self.trouble = ""
        yield {"t": "done", "blob": learner.blob.id, "top": learner.top, "plan_bytes": self.freed_by_swap()}

    def train(self, name):
        """Trains the staged samples in as a class of that name, condenses them, commits."""
        learner = self.need()
        samples = learner.staged
        self.touched = True
        # the same whether there was a reset before or not
        learner.random = (learner.blob.seed + 40503 * self.store.enrolments) & 0xFFFF or learner.blob.seed
        summary = None
        for news in growth.enrol(learner, lambda leave: self.recompute(learner, leave)):
            if news and news["t"] == "trained":
                summary = news
            else:
                yield news
        replay = learner.replay
        c = replay.classes
        keep = learner.blob.per_class
        chosen = yield from condense(
            self.kernels,
            learner.stage,
            learner.staged,
            learner.inputs,
            learner.n,
            replay.buffer,
            replay.at(c, 0),
            min(keep, learner.staged),
            learner.buffers["sums"],
        )
        uid, crc = self.store.keep_class(learner, chosen)
        replay.add(name, len(chosen), uid, crc)
        learner.staged = 0
        self.store.enrolments += 1
        self.store.commit(learner)
        summary.update({"t": "done", "class": name, "samples": samples, "kept": len(chosen)})
        yield summary

    def number(self, name):
        """Number of a class; TinyclError where there is none of that name."""
        replay = self.need().replay
        names = replay.names
        if name not in names:
            raise TinyclError(
                "no class '%s' among %d (%s): choose one of them" % (name, len(names), ", ".join(names)[:120]),
                errors.UNKNOWN_CLASS,
            )
        return names.index(name)

    def forget(self, name):
        """Takes a class out, or, without a name, all that was learned since the blob was activated."""
        learner = self.need()
        c = self.number(name) if name else -1
        if name and learner.replay.classes < 2:
            raise TinyclError("'%s' is the only class: enrol another one first" % name, errors.TOO_FEW)
        yield None
        self.touched = True
        if name:
            learner.forget(c)
        else:
            learner.load_base()
            self.store.enrolments = 0
            yield from self.recompute(learner, learner.exit)
        yield self.committed(learner)

    def rename(self, old, new):
        """Gives a class another name."""
        c = self.number(old)
        b.check_name(new)
        learner = self.learner
        if new in learner.replay.names:
            raise TinyclError("the class '%s' exists already: choose another name" % new, errors.CLASS_EXISTS)
        yield None
        self.touched = True
        learner.replay.rename(c, new)
        yield self.committed(learner)

    def committed(self, learner):
        """Commits, clears up what no class names any more, and tells what is there now."""
        self.store.commit(learner)
        self.store.sweep()
        return {
            "t": "done",
            "classes": learner.replay.classes,
            "rung": learner.rung,
            "sequence": self.store.sequence,
            "digest": learner.digest(),
        }

    def adopt(self, upload):
        """Takes over a learned state that was uploaded, in place of its own."""
        learner = self.need()
        store = self.store
        with open(store.path(upload), "rb") as f:
            kept = State(f)
            store.check_fit(kept, learner)
            sizes = [count * len(learner.sample) for _, count, uid, _ in kept.classes if uid]
            store.check_room(sizes + [store.most_state_bytes(learner)], "a learned state of %d classes" % len(kept.classes))
            yield {"t": "checked", "blob": kept.blob_id}
            self.touched = True
            kept.classes = store.adopt(kept, f, learner)
            yield None
            store.apply(kept, f, learner)
        if store.stale:
            yield from self.recompute(learner, learner.exit)
        store.enrolments = kept.enrolments
        done = self.committed(learner)
        store.remove(upload)
        yield done
