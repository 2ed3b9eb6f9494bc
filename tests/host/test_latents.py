# The cache of latents: the same values as the backbone gives, computed once, found by content alone, and bounded.

from dataclasses import replace

import numpy as np
import pytest

from tinycl import data
from tinycl.errors import ModelError
from tinycl.model import Exit, IntegerBackbone, latents
from tinycl.model.latents import key
from tinycl.model.quantise import integer_conv


def backbone(seed: int = 0) -> IntegerBackbone:
    rng = np.random.RandomState(seed)
    layer = integer_conv(rng.randn(4, 3, 3, 1), np.full(4, 0.3), rng.randn(4) * 5, (8, 8, 1), 2, 1, True)
    return IntegerBackbone((layer,), (Exit(1, 2),))


@pytest.fixture
def x() -> np.ndarray:
    return np.random.RandomState(1).randint(0, 128, (500, 8, 8, 1)).astype(np.int8)


def count(folder) -> int:
    return len(list(folder.iterdir())) if folder.exists() else 0


def test_computed_once_and_the_same(tmp_path, x, monkeypatch):
    monkeypatch.setattr(latents, "PART_BYTES", 64 * 100)
    folder, seen = tmp_path / "cache", []
    first = latents.latents(backbone(), x, folder=folder, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 500) for n in range(100, 501, 100)] and count(folder) == 1
    monkeypatch.setattr(IntegerBackbone, "forward", lambda *_: pytest.fail("computed again"))
    again = latents.latents(backbone(), x.copy(), folder=folder, progress=lambda *_: pytest.fail("computed again"))
    monkeypatch.undo()
    for found in (first, again):
        assert found.dtype == np.int8 and np.array_equal(found, backbone().forward(x)) and not found.flags.writeable
    assert np.array_equal(latents.latents(backbone(), x, folder=None), first)
    assert np.array_equal(latents.latents(backbone(), x[:0], folder=folder), first[:0])


def test_the_key_is_the_content(x):
    other = x.copy()
    other[-1, -1, -1, 0] ^= 1
    made = backbone()
    layer = made.layers[0]
    variants = [
        IntegerBackbone((replace(layer, **change),), made.exits)
        for change in ({"bias": layer.bias + 1}, {"mult": layer.mult - 1}, {"shift2": layer.shift2 - 1})
    ]
    variants.append(IntegerBackbone((layer,), (Exit(1, 1),)))
    keys = [key(made, x), key(made, other), key(made, x[:-1]), *(key(each, x) for each in variants)]
    assert len(set(keys)) == len(keys)
    assert key(backbone(), x.copy()) == keys[0]


def test_raw_samples_are_converted_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "PART_BYTES", 64 * 30)
    raw = np.random.RandomState(2).randint(0, 256, (100, 8, 8, 1)).astype(np.uint8)
    np.save(tmp_path / "raw.npy", raw)
    sizes = []

    def convert(part: np.ndarray) -> np.ndarray:
        sizes.append(len(part))
        return data.to_int8(part, 0, 255)

    made = latents.latents(backbone(), np.load(tmp_path / "raw.npy", mmap_mode="r"), convert, tmp_path / "cache")
    assert max(sizes) == 30 and np.array_equal(made, backbone().forward(data.to_int8(raw, 0, 255)))
    assert key(backbone(), raw, convert) == key(backbone(), data.to_int8(raw, 0, 255))


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_made_again(tmp_path, x, damage):
    expected = np.array(latents.latents(backbone(), x, folder=tmp_path))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-7] if damage is None else damage)
    assert np.array_equal(latents.latents(backbone(), x, folder=tmp_path), expected)
    assert count(tmp_path) == 1


def test_what_fails_leaves_nothing(tmp_path, x):
    with pytest.raises(ModelError, match="is needed"):
        latents.latents(backbone(), x[:, :4], folder=tmp_path)
    assert count(tmp_path) == 0


def test_the_folder_stays_small(tmp_path, x, monkeypatch):
    monkeypatch.setattr(latents, "CACHE_BYTES", 20_000)  # each of these takes 8,128
    for seed in range(4):
        kept = latents.latents(backbone(seed), x, folder=tmp_path)
        assert count(tmp_path) == min(seed + 1, 2)
    assert np.array_equal(kept, backbone(3).forward(x))
