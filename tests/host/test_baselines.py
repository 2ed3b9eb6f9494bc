# The continual-learning baselines: one contract on a small synthetic stream, and what each of them is known for.

import shutil
import subprocess
from itertools import pairwise

import numpy as np
import pytest

from tinycl.errors import BudgetError, SampleError
from tinycl.learn.baselines import BASELINES
from tinycl.learn.baselines.memory import Memory, quotas

INPUTS, CLASSES, BASE = 24, 6, 3
BUDGET = 4000
NAMES = [pytest.param(name, id=name.replace(" ", "-")) for name in BASELINES]


def stream(seed=0, n=80):
    """int8 [CLASSES * n, INPUTS] and labels 10, 11, …: noise around a few random points for each class, behind a ReLU."""
    rng = np.random.default_rng([seed, 5])
    centres = np.random.default_rng(1).integers(0, 90, (CLASSES, 2, INPUTS))
    y = np.repeat(np.arange(CLASSES), n)
    x = centres[y, rng.integers(0, 2, len(y))] + rng.normal(0, 16, (len(y), INPUTS))
    return np.clip(x, 0, 127).astype(np.int8), y + 10


def taught(name, budget=BUDGET, seed=0, **options):
    """A baseline after the stream, and its bytes after each step."""
    x, y = stream()
    model = BASELINES[name](INPUTS, budget, seed, max_classes=CLASSES, **options)
    first = y < 10 + BASE
    model.base(x[first], y[first])
    sizes = [model.bytes]
    for label in range(10 + BASE, 10 + CLASSES):
        model.enrol(x[y == label], label)
        sizes.append(model.bytes)
    return model, sizes


def accuracy(model, labels=range(10, 10 + CLASSES)):
    x, y = stream(seed=7)
    asked = np.isin(y, list(labels))
    return (model.predict(x[asked]) == y[asked]).mean()


@pytest.mark.parametrize("name", NAMES)
def test_learns_within_its_budget_and_is_deterministic(name):
    model, sizes = taught(name)
    again, _ = taught(name)
    x, _ = stream(seed=8)
    found = model.predict(x)
    assert found.dtype == np.int64 and np.array_equal(found, again.predict(x))
    if model.bounded:
        assert max(sizes) <= BUDGET
    if name != "fine-tuning":
        assert accuracy(model) > 0.9
    assert model.macs_predict >= len(x) * model.macs_per_prediction > 0
    assert (model.macs_trained > 0) == (name not in ("emlearn", "kNN"))  # these have nothing to train on a board


def test_fine_tuning_forgets_and_replay_does_not():
    tuned, replayed = taught("fine-tuning")[0], taught("experience replay")[0]
    newest = [10 + CLASSES - 1]
    assert accuracy(tuned, newest) > 0.95 and accuracy(tuned, range(10, 10 + BASE)) < 0.5
    assert accuracy(replayed, range(10, 10 + BASE)) > 0.9


def test_joint_training_keeps_everything():
    _, sizes = taught("joint training", budget=0)
    assert sizes[-1] == 4 * CLASSES * (1 + INPUTS) + CLASSES * 80 * (INPUTS + 1) and all(a < b for a, b in pairwise(sizes))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_budget_cannot_hold_is_refused_with_numbers(name):
    if BASELINES[name].bounded:
        with pytest.raises(BudgetError, match=r"needs [\d,]+ bytes .* the budget is 90: give more"):
            BASELINES[name](INPUTS, 90, max_classes=CLASSES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("budget", [1500, 2500, 9000, 40_000])
def test_no_budget_is_passed(name, budget):
    if BASELINES[name].bounded:
        model, sizes = taught(name, budget)
        assert max(sizes) <= budget and accuracy(model) > 0.15


def test_the_stream_is_checked():
    x, y = stream()
    model = BASELINES["nearest class mean"](INPUTS, BUDGET, max_classes=CLASSES)
    with pytest.raises(SampleError, match="after 0 classes"):
        model.enrol(x[:3], 10)
    model.base(x[y < 12], y[y < 12])
    for latents, label, why in ((x[:3], 11, "1 of them known"), (x[:0], 12, "0 samples"), (x[:3, 1:], 12, "give int8")):
        with pytest.raises(SampleError, match=why):
            model.enrol(latents, label)
    with pytest.raises(SampleError, match="call it once"):
        model.base(x, y)
    with pytest.raises(SampleError, match="float32"):
        model.predict(x.astype(np.float32))


def test_slda_is_linear_discriminant_analysis():
    """After any order of classes it is LDA with the pooled covariance; scikit-learn's, shrunk by hand, is the judge."""
    from sklearn.covariance import empirical_covariance

    model, _ = taught("SLDA", budget=1 << 20)
    x, y = stream()
    z = x.astype(np.float64) / 128
    means = np.array([z[y == c].mean(0) for c in range(10, 10 + CLASSES)])
    pooled = empirical_covariance(z - means[y - 10], assume_centered=True)
    precision = np.linalg.inv((1 - 1e-4) * pooled + 1e-4 * np.eye(INPUTS))
    asked = stream(seed=9)[0]
    scores = asked / 128 @ precision @ means.T - 0.5 * np.einsum("cd,de,ce->c", means, precision, means)
    assert model.full and (model.predict(asked) == scores.argmax(1) + 10).mean() > 0.995
    assert not taught("SLDA", budget=3000)[0].full


def test_a_memory_is_even_and_bounded():
    assert quotas([100, 100, 4], 20) == [8, 8, 4] and quotas([1, 2], 20) == [1, 2] and sum(quotas([9, 9, 9], 10)) == 10
    x, y = stream()
    for reservoir in (True, False):
        memory = Memory(INPUTS, 30, np.random.default_rng(0), reservoir)
        for c in range(CLASSES):
            memory.add(x[y == 10 + c], np.full(80, c))
            counts = np.bincount(memory.rows)
            assert len(memory.rows) == 30 and counts.max() - counts.min() <= 1 and memory.bytes == 30 * (INPUTS + 1)
    assert np.array_equal(memory.latents[memory.rows == CLASSES - 1], x[y == 10 + CLASSES - 1][:5])  # greedy: the first ones


def test_a_reservoir_is_uniform():
    """Every one of 20 samples of a class stays equally often after two more classes have taken their room."""
    kept = np.zeros(20)
    x = np.arange(20, dtype=np.int8)[:, None]
    for seed in range(400):
        memory = Memory(1, 12, np.random.default_rng(seed))
        for c in range(3):
            memory.add(x, np.full(20, c))
        kept[memory.latents[memory.rows == 0, 0]] += 1
    assert kept.sum() == 1600 and kept.min() > 50 and kept.max() < 115  # 80 expected, deviation 8


def test_the_c_of_emlearn_predicts_the_same(tmp_path):
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler on this machine: install one that is called cc")
    import emlearn

    model, _ = taught("emlearn")
    x, _ = stream(seed=8)
    main = """
    #include <stdio.h>
    int main(void) {
        int16_t x[%d];
        for (;;) {
            for (int i = 0; i < %d; i++) if (scanf("%%hd", &x[i]) != 1) return 0;
            printf("%%d\\n", (int)trees_predict(x, %d));
        }
    }
    """
    (tmp_path / "main.c").write_text("#include <stdint.h>\n" + model.code("trees") + main % (INPUTS, INPUTS, INPUTS))
    command = [compiler, "-std=c99", "-I", emlearn.includedir, str(tmp_path / "main.c"), "-o", str(tmp_path / "main"), "-lm"]
    subprocess.run(command, check=True, capture_output=True)
    text = "\n".join(" ".join(map(str, row)) for row in x.tolist())
    done = subprocess.run([str(tmp_path / "main")], input=text, capture_output=True, text=True, check=True)
    assert [model.labels[int(line)] for line in done.stdout.split()] == model.predict(x).tolist()
