# The distillers: one contract for all of them, and what distribution matching is for.

import numpy as np
import pytest

from tinycl import data
from tinycl.distil import METHODS, distil_classes, kmeans
from tinycl.distil.herding import herd
from tinycl.errors import DataError
from tinycl.model.train import train_backbone


@pytest.fixture(scope="module")
def setting():
    d = data.load("digits")
    base = d.y_train < 4
    x, y = data.to_int8(d.x_train[base], d.low, d.high), d.y_train[base]
    return x, y, train_backbone(x, y, seed=0, steps=120)


@pytest.mark.parametrize("method", METHODS)
def test_the_contract(setting, method):
    x, y, backbone = setting
    seen = []
    one = distil_classes(method, x, y, 5, backbone, seed=3, progress=lambda done, total: seen.append((done, total)))
    two = distil_classes(method, x, y, 5, backbone, seed=3)
    assert one[0].dtype == np.int8 and one[0].shape == (20, 8, 8, 1) and one[0].min() >= 0
    assert one[1].tolist() == np.repeat(range(4), 5).tolist()
    assert np.array_equal(one[0], two[0])
    assert seen[-1][0] == seen[-1][1] and len(seen) >= 4
    if method != "dm":  # selections are real samples, each at most once
        real = {sample.tobytes() for sample in x}
        chosen = [sample.tobytes() for sample in one[0]]
        assert set(chosen) <= real and len(set(chosen)) == len(chosen)


@pytest.mark.parametrize("method", METHODS)
def test_edges(setting, method):
    x, y, backbone = setting
    few = x[y == 0][:4]
    assert METHODS[method](few, 4, backbone).shape == few.shape
    assert METHODS[method](np.repeat(few[:1], 6, axis=0), 3, backbone).shape == (3, 8, 8, 1)  # all samples equal
    for count in (0, 5):
        with pytest.raises(DataError, match=rf"4 real samples, {count} distilled .* ask for 1 to 4"):
            METHODS[method](few, count, backbone)


def test_unknown_method(setting):
    with pytest.raises(DataError, match="'dream' is not one of the 4"):
        distil_classes("dream", *setting[:2], 5, setting[2])


def test_distribution_matching_matches_best(setting):
    x, y, backbone = setting
    distance = {}
    for method in METHODS:
        samples, labels = distil_classes(method, x, y, 10, backbone, seed=1)
        distance[method] = np.mean(
            [
                np.linalg.norm(backbone.forward(samples[labels == c]).mean(0) - backbone.forward(x[y == c]).mean(0))
                for c in range(4)
            ]
        )
    assert distance["dm"] < 0.5 * min(distance["kmeans"], distance["herding"], distance["random"])
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
