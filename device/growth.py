# Training and growth, the criterion of the paper's steps 3 and 4: train, validate on held-back samples, and only where the
# target is missed after training converged, take the next step of the ladder as a transaction.
# Everything here is a generator: it yields None or an event (a dict) every few training steps, so that the link stays
# alive while the board trains. Allocates one small dict per epoch.
import gc
import time

from learner import ACCURACY_ONE


def enrol(learner, recompute):
    """Trains the staged class into the head, growing only if it must. The last event is {"t": "trained", …}.

    recompute(exit): a generator that fills the latents of all stored and staged samples up to a deeper exit.
    """
    blob = learner.blob
    target = blob.target_permille * ACCURACY_ONE // 1000
    start = time.ticks_ms()
    total = {"steps": 0, "macs": 0}
    val, loss = yield from fit(learner, total)
    rung = learner.rung
    for wanted in range(rung + 1, learner.top + 1):
        if val >= target:
            break
        yield {"t": "grow", "from": rung, "to": wanted, "val": share(val), "target": share(target)}
        if learner.exit_of(wanted) != learner.exit:
            yield from recompute(learner.exit_of(wanted))
        learner.grow(wanted)
        new, new_loss = yield from fit(learner, total)
        accepted = new > val
        if not accepted:
            learner.shrink(rung)
        yield {"t": "grown", "from": rung, "to": wanted, "before": share(val), "after": share(new), "accepted": accepted}
        if accepted:
            rung, val, loss = wanted, new, new_loss
    if learner.has_early:
        learner.begin_early()
        for k in range(blob.early_epochs):
            yield from one_epoch(learner, "early", k, blob.shift_last, total)
        passes, early_passes = learner.forwards, learner.early_forwards
        yield from learner.set_sure()
        total["macs"] += (learner.forwards - passes) * learner.head_macs()
        total["macs"] += (learner.early_forwards - early_passes) * learner.early_macs()[1] // 2
    # What was held back has done its work: the last epochs learn from it too.
    for k in range(blob.refit_epochs):
        yield from one_epoch(learner, "refit", k, blob.shift_last, total)
    yield {
        "t": "trained",
        "val": share(val),
        "loss": loss,
        "target": share(target),
        "rung": learner.rung,
        "macs": learner.macs()[0],
        "early_macs": learner.early_macs()[0],
        "sure": learner.sure,
        "train_macs": total["macs"],
        "steps": total["steps"],
        "train_ms": time.ticks_diff(time.ticks_ms(), start),
    }


def share(accuracy):
    """An accuracy as people read it."""
    return accuracy / ACCURACY_ONE


def mean_loss(learner, steps, loss):
    """Mean of 1 - p(label) from the sum of an epoch."""
    return loss / steps / learner.kernels.ONE


def fit(learner, total):
    """Epochs until neither training loss nor validation improves for `patience` of them; returns (accuracy, loss)."""
    blob = learner.blob
    best_loss = None
    best_val = -1
    stale = 0
    for k in range(blob.epochs):
        shift = blob.shift_first + (blob.shift_last - blob.shift_first) * k // blob.epochs
        steps, loss = yield from one_epoch(learner, "fit", k, shift, total)
        passes = learner.forwards
        val, val_loss = learner.validate()
        total["macs"] += (learner.forwards - passes) * learner.head_macs()
        yield {
            "t": "epoch",
            "phase": "fit",
            "rung": learner.rung,
            "epoch": k,
            "loss": mean_loss(learner, steps, loss),
            "val": share(val),
            "val_loss": val_loss,
            "free": gc.mem_free(),
        }
        # sums of integers, as many steps each time: the same decision with floats of any width
        if best_loss is None or 100 * loss < 98 * best_loss or val > best_val:
            stale = 0
        else:
            stale += 1
            if stale >= blob.patience:
                break
        best_loss = loss if best_loss is None else min(best_loss, loss)
        best_val = max(best_val, val)
    return val, val_loss


def one_epoch(learner, phase, k, shift, total):
    """One epoch; returns (steps, sum of its losses) and adds its steps and MACs to `total`."""
    if k == 0:  # not before each: it takes half as long as a small epoch, which leaves a kilobyte or two of garbage
        gc.collect()
    early = phase == "early"
    last = None
    for last in learner.epoch(shift, phase == "refit", early):
        if last is None:
            yield None
    steps, loss = last
    total["steps"] += steps
    total["macs"] += steps * (learner.early_macs() if early else learner.macs())[1]
    if phase != "fit":
        yield {"t": "epoch", "phase": phase, "rung": learner.rung, "epoch": k, "loss": mean_loss(learner, steps, loss)}
    return steps, loss
