# Augmentation keeps shape and range and changes something; pretext forms are distinct, and the first is the sample itself.

import pytest
import torch

from tinycl.model.augment import PRETEXTS, augment, form, pretext, skew
from tinycl.model.train import deterministic

SHAPES = [
    *((shape, "image") for shape in ((1, 8, 8), (1, 8, 16), (3, 32, 32))),
    *((shape, "motion") for shape in ((6, 64, 1), (6, 1, 64), (2, 40, 1))),
    ((1, 30, 1), "image"),  # a plain vector: its shape makes it a signal
    ((1, 49, 32), "sound"),
]


def samples(shape: tuple[int, int, int]) -> torch.Tensor:
    with deterministic(1):
        return torch.rand(20, *shape)


@pytest.mark.parametrize(("shape", "modality"), SHAPES)
def test_augmented_samples_stay_samples(shape, modality):
    x = samples(shape)
    with deterministic(2):
        made, other = augment(x, modality), augment(x, modality)
    assert made.shape == x.shape and made.min() >= 0 and made.max() <= 1
    assert not torch.equal(made, other) and (made != x).flatten(1).any(1).all()
    smooth = torch.full_like(x, 0.5)
    with deterministic(2):
        moved = augment(smooth, modality)
    assert (moved - smooth).abs().mean() < 0.25  # no more than an edge that comes in, a mask, another light


@pytest.mark.parametrize(("shape", "modality"), SHAPES)
def test_pretext_forms_differ(shape, modality):
    x = samples(shape)
    forms = [form(x, k, modality) for k in range(PRETEXTS)]
    assert torch.equal(forms[0], x)
    for k, made in enumerate(forms):
        assert made.shape == x.shape and made.min() >= 0 and made.max() <= 1
        assert all(not torch.equal(made, other) for other in forms[:k])
    kind = torch.arange(len(x)) % PRETEXTS
    assert torch.equal(pretext(x, kind, modality), torch.stack([forms[k][i] for i, k in enumerate(kind.tolist())]))


def test_sensors_turn_as_one():
    """A turn keeps the length of the vector, and accelerometer and gyroscope turn alike."""
    turn = torch.matrix_exp(skew(torch.tensor([[0.1, -0.2, 0.3]], dtype=torch.float64)))[0]
    assert torch.allclose(turn @ turn.T, torch.eye(3, dtype=torch.float64)) and torch.det(turn) > 0.99
    same = 0.5 + 0.2 * (samples((3, 16, 1)) - 0.5)
    with deterministic(4):
        made = augment(same.repeat(1, 2, 1, 1), "motion")
    assert (made[:, :3] - made[:, 3:]).abs().mean() < 0.03  # but for the noise
