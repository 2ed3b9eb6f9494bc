# The distillers: one contract for all of them, and what distribution matching is for.

import numpy as np
import pytest

from tinycl import data
from tinycl.distil import JOINT, LABEL_ONE, LEARN_LABELS, METHODS, PER_CLASS, Space, distil_classes, kmeans, samples_for
from tinycl.distil.herding import herd
from tinycl.errors import DataError
from tinycl.learn.heads import accuracy, ridge_head, train_head
from tinycl.model.train import train_backbone


@pytest.fixture(scope="module")
def digits():
    d = data.load("digits")
    return data.to_int8(d.x_train, d.low, d.high), d.y_train


@pytest.fixture(scope="module")
def setting(digits):
    x, y = digits
    base = y < 4
    return x[base], y[base], train_backbone(x[base], y[base], seed=0, steps=120)


@pytest.mark.parametrize("space", ["input", "latent"])
@pytest.mark.parametrize("method", METHODS)
def test_the_contract(setting, method, space):
    x, y, backbone = setting
    seen = []
    leave = 0 if space == "latent" else None
    shape = (8, 8, 1) if space == "input" else (backbone.features(0),)

    def run(progress=None):
        return distil_classes(method, x, y + 10, 5, backbone, 3, progress, space, leave)

    one, two = run(lambda done, total: seen.append((done, total))), run()
    assert one.samples.dtype == np.int8 and one.samples.shape == (20, *shape) and one.samples.min() >= 0
    assert one.y.tolist() == np.repeat(range(10, 14), 5).tolist()
    assert one.samples.tobytes() == two.samples.tobytes()
    assert seen[-1][0] == seen[-1][1] and len(seen) >= 4
    if method in LEARN_LABELS:
        assert one.labels.dtype == np.int8 and one.labels.shape == (20, 4) and one.labels.tobytes() == two.labels.tobytes()
        assert (one.labels.argmax(1) == one.y - 10).mean() > 0.9 and len(np.unique(one.labels)) > 4
    else:
        assert one.labels is None
    selects = ("random", "herding", "kmeans") if space == "input" else ("random", "herding")
    if method in selects:  # real samples, each at most once
        real = {sample.tobytes() for sample in Space(backbone, space, leave).take(x)}
        chosen = [sample.tobytes() for sample in one.samples]
        assert set(chosen) <= real and len(set(chosen)) == len(chosen)


@pytest.mark.parametrize("method", PER_CLASS)
def test_edges(setting, method):
    x, y, backbone = setting
    few, space = x[y == 0][:4], Space(backbone)
    assert PER_CLASS[method](few, 4, space).shape == few.shape
    assert PER_CLASS[method](np.repeat(few[:1], 6, axis=0), 3, space).shape == (3, 8, 8, 1)  # all samples equal
    for count in (0, 5):
        with pytest.raises(DataError, match=rf"4 real samples, {count} distilled .* ask for 1 to 4"):
            PER_CLASS[method](few, count, space)


@pytest.mark.parametrize("method", JOINT)
def test_edges_of_all_classes_at_once(setting, method):
    x, y, backbone = setting
    few = np.concatenate([np.flatnonzero(y == c)[:4] for c in range(4)])
    assert distil_classes(method, x[few], y[few], 4, backbone).samples.shape == (16, 8, 8, 1)
    same = np.repeat(x[few[::4]], 6, axis=0)  # all samples of a class equal
    assert distil_classes(method, same, np.repeat(range(4), 6), 3, backbone).samples.shape == (12, 8, 8, 1)
    for count in (0, 5):
        with pytest.raises(DataError, match=rf"4 real samples, {count} distilled .* ask for 1 to 4"):
            distil_classes(method, x[few], y[few], count, backbone)


def test_bytes_become_a_count(setting):
    backbone = setting[2]
    latent = backbone.features(0)
    assert samples_for("dm", 4 * 64 * 7 + 63, 4, backbone) == 7
    assert samples_for("dm", 4 * latent * 7, 4, backbone, "latent", 0) == 7
    assert samples_for("dm", 4 * latent * 7 - 1, 4, backbone, "latent", 0) == 6
    assert samples_for("frepo", 4 * (64 + 4) * 7, 4, backbone) == 7 == samples_for("frepo", 4 * 68 * 8 - 1, 4, backbone)
    with pytest.raises(DataError, match="255 bytes for 4 classes, one input sample of each needs 256: give more"):
        samples_for("kmeans", 255, 4, backbone)


def test_spaces_are_checked(setting):
    x, y, backbone = setting
    with pytest.raises(DataError, match="space 'pixel' is not one of the 2"):
        distil_classes("dm", x, y, 2, backbone, space="pixel")
    with pytest.raises(DataError, match="exit 2 of a backbone with 2: take 0 to 1"):
        distil_classes("dm", x, y, 2, backbone, space="latent", exit_index=2)


def test_latents_are_exact(setting):
    """What a method matches is what the head on the board will see of its samples."""
    x, _, backbone = setting
    space = Space(backbone, "latent", 0)
    assert np.array_equal(space.take(x[:9]), backbone.forward(x[:9])[:, : backbone.features(0)])
    assert Space(backbone).prefixes == (backbone.features(0), backbone.features(1)) and space.prefixes == (space.features,)


@pytest.mark.parametrize("method", ["dm", "frepo", "dc"])
def test_one_learned_sample_a_class_beats_random_ones(digits, setting, method):
    """All ten digits through a backbone that knows four: the head trained on ten samples, at both exits."""
    (x, y), backbone = digits, setting[2]
    z = backbone.forward(x)
    made = distil_classes(method, x, y, 1, backbone)
    picks = [distil_classes("random", x, y, 1, backbone, seed) for seed in range(5)]
    for width in (backbone.features(0), backbone.features(1)):

        def score(one, width=width):
            head = train_head(backbone.forward(one.samples)[:, :width], one.y, 10)
            return accuracy(head, z[:, :width], y)

        assert score(made) > np.mean([score(one) for one in picks]) + 0.1


def test_learned_labels_train_a_head(setting):
    x, y, backbone = setting
    made = distil_classes("frepo", x, y, 2, backbone, space="latent", exit_index=0)
    z = backbone.forward(x)[:, : backbone.features(0)]
    hard = np.eye(4)[made.y] * LABEL_ONE
    assert accuracy(ridge_head(made.samples, made.labels), z, y) > 0.97
    assert accuracy(ridge_head(made.samples, np.roll(hard, 1, axis=1)), z, y) < 0.1  # the labels are what counts


def test_unknown_method(setting):
    with pytest.raises(DataError, match="'dream' is not one of the 6"):
        distil_classes("dream", *setting[:2], 5, setting[2])


def test_distribution_matching_matches_best(setting):
    x, y, backbone = setting
    distance = {}
    for method in METHODS:
        samples, labels, _ = distil_classes(method, x, y, 10, backbone, seed=1)
        distance[method] = np.mean(
            [
                np.linalg.norm(backbone.forward(samples[labels == c]).mean(0) - backbone.forward(x[y == c]).mean(0))
                for c in range(4)
            ]
        )
    assert distance["dm"] < 0.5 * min(distance[other] for other in METHODS if other != "dm")
    assert distance["herding"] < distance["random"]


def test_herding_picks_the_sample_nearest_to_the_mean_first():
    latents = np.array([[0], [10], [4], [6], [5]], np.int8)
    assert herd(latents, 3).tolist()[0] == 4
    assert sorted(herd(latents, 5).tolist()) == [0, 1, 2, 3, 4]


def test_kmeans_finds_clusters_and_leaves_none_empty():
    rng = np.random.RandomState(0)
    centres = np.array([[0, 0], [100, 0], [0, 100]])
    latents = (centres[np.arange(60) % 3] + rng.randint(0, 10, (60, 2))).astype(np.int8)
    centroids, member = kmeans.cluster(latents, 3, seed=0)
    assert sorted(np.round(centroids / 100).astype(int).tolist()) == sorted((centres // 100).tolist())
    assert np.bincount(member).tolist() == [20, 20, 20]
    _, member = kmeans.cluster(np.zeros((7, 2), np.int8), 5, seed=0)
    assert np.bincount(member, minlength=5).min() >= 1
