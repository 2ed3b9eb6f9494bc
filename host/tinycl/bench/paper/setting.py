"""What an experiment starts from: a data set, a deal of its classes, a backbone that saw the first half of them, and latents,
each made once and found again. Depends on PyTorch."""

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tinycl import pipeline
from tinycl.data import Dataset, load, to_int8
from tinycl.distil import Distilled, distil_classes
from tinycl.errors import DataError
from tinycl.learn.heads import accuracy, to_fixed, train_head
from tinycl.model import files, latents
from tinycl.model.backbone import IntegerBackbone
from tinycl.model.export import LADDER, Settings, export

DATA = ("mnist", "cifar10", "grocery_store", "har", "speech_commands")  # grocery_store stands in for CORe50
CLIP_BYTES = 32_000  # of the published one-second clips, of which samples are made; a value of motion is published as 16 bits
BYTES_SHARE = 0.01  # of the data's bytes may be kept: the paper's figure
MOST_PER_CLASS = 15
NEW_SAMPLES = 60  # of a class that is enrolled, if it has so many
JOINT_SAMPLES = 20_000


def silent(done: int, total: int) -> None:
    """A progress that nobody watches."""


@dataclass(frozen=True)
class Setting:
    """name, data_dir: as `data.load` takes them; seed: deals the classes, and of everything random."""

    name: str
    seed: int
    data_dir: str | None = None

    @cached_property
    def data(self) -> Dataset:
        return load(self.name, self.data_dir)

    @cached_property
    def order(self) -> list[int]:
        """Classes in the order of the stream, as the seed deals them; the first half are base classes."""
        count = len(self.data.classes)
        return [int(c) for c in np.random.default_rng([self.seed, count]).permutation(count)]

    @property
    def base(self) -> list[int]:
        return self.order[: len(self.order) // 2]

    @property
    def rest(self) -> list[int]:
        return self.order[len(self.order) // 2 :]

    @property
    def train_bytes(self) -> int:
        """Bytes of the published training part."""
        one = {"sound": CLIP_BYTES, "motion": 2 * self.sample_bytes}.get(self.data.modality, self.sample_bytes)
        return one * len(self.data.y_train)

    @property
    def sample_bytes(self) -> int:
        return int(np.prod(self.data.sample_shape))

    def per_class(self, share: float = BYTES_SHARE, most: int = MOST_PER_CLASS) -> int:
        """Samples of each class whose raw bytes are at most that share of the data's; DataError where that is none."""
        fits = int(share * self.train_bytes / (len(self.order) * self.sample_bytes))
        if fits < 1:
            raise DataError(f"{self.name}: {share:.3%} of {self.train_bytes:,} bytes is less than a sample a class: allow more")
        least = min(int((self.data.y_train == c).sum()) for c in self.order)
        return min(fits, most, least)

    @cached_property
    def backbone(self) -> IntegerBackbone:
        """Trained on the base classes; kept in build/cache by what it depends on."""
        code = hashlib.sha256(Path(pipeline.__file__).read_bytes())
        for path in sorted(Path(files.__file__).parent.glob("*.py")):
            code.update(path.read_bytes())
        shape = self.data.sample_shape
        code.update(repr((self.name, self.base, self.seed, shape, self.data.low, self.data.high)).encode())
        code.update(self.data.y_train.tobytes())
        path = latents.CACHE / f"backbone-{code.hexdigest()[:24]}.npz"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            made = pipeline.make_backbone(self.data, self.base, self.seed, silent)
            part = path.with_name(f"{path.stem}.{os.getpid()}.npz")
            files.save(part, made, self.base, self.data, self.seed)
            part.replace(path)
        return files.load(path).backbone

    @property
    def macs(self) -> list[int]:
        """Multiply-accumulates of the backbone up to each exit."""
        return [self.backbone.macs(e) for e in range(len(self.backbone.exits))]

    @cached_property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """(latents of all exits, int8 [m, inputs]; class numbers in the order of the stream, int64 [m])."""
        return self._latents(self.data.x_test), np.argsort(self.order)[self.data.y_test]

    @cached_property
    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """The same of the training part."""
        return self._latents(self.data.x_train), np.argsort(self.order)[self.data.y_train]

    def _latents(self, x: np.ndarray) -> np.ndarray:
        return latents.latents(self.backbone, x, lambda part: to_int8(part, self.data.low, self.data.high))

    @cached_property
    def base_samples(self) -> tuple[np.ndarray, np.ndarray]:
        return pipeline.base_samples(self.data, self.base)

    @cached_property
    def _distilled(self) -> dict[tuple[str, int], Distilled]:
        return {}

    def distilled(self, method: str, per_class: int) -> Distilled:
        """Distilled base samples, class after class in the order of the stream; each made once."""
        if (method, per_class) not in self._distilled:
            x, y = self.base_samples
            self._distilled[method, per_class] = distil_classes(method, x, y, per_class, self.backbone, self.seed)
        return self._distilled[method, per_class]

    def synthetic(self, method: str, per_class: int) -> np.ndarray:
        """The same as int8 [base, per class, h, w, c]."""
        return self.distilled(method, per_class).samples.reshape(len(self.base), per_class, *self.data.sample_shape)

    def new_index(self, label: int, count: int = NEW_SAMPLES) -> np.ndarray:
        """Which training samples a class is taught with: `count`, or as many as there are."""
        own = np.flatnonzero(self.data.y_train == label)
        return np.random.default_rng([self.seed, label, 5]).permutation(own)[:count]

    def new(self, count: int = NEW_SAMPLES) -> list[np.ndarray]:
        """The samples of each class to come, int8 [n, h, w, c]."""
        return [self.raw(self.new_index(c, count)) for c in self.rest]

    @cached_property
    def base_head(self) -> np.ndarray:
        """What every variant starts from: a linear head on the first exit that saw all base samples, int32."""
        x, y = self.train
        mine = np.flatnonzero(y < len(self.base))
        first = np.ascontiguousarray(np.asarray(x)[mine, : self.backbone.features(0)])
        return to_fixed(train_head(first, y[mine], len(self.base), seed=1))

    def raw(self, index: np.ndarray) -> np.ndarray:
        """Training samples by number, int8 [n, h, w, c]."""
        return to_int8(self.data.x_train[index], self.data.low, self.data.high)

    def blob(
        self, synthetic: np.ndarray, target: float = 0.9, early_epochs: int = 0, ladder: tuple[tuple[int, int], ...] = LADDER
    ) -> bytes:
        settings = Settings(
            per_class=synthetic.shape[1],
            max_classes=len(self.order),
            max_samples=NEW_SAMPLES,
            target=target,
            early_epochs=early_epochs,
        )
        names = [self.data.classes[c] for c in self.base]
        data = self.data
        return export(self.backbone, self.base_head, synthetic, names, data.name, data.low, data.high, settings, ladder)

    def joint(self) -> float:
        """Accuracy of the large head in float32, trained at once on up to JOINT_SAMPLES samples of all classes."""
        x, y = self.train
        if len(x) > JOINT_SAMPLES:
            some = np.random.default_rng([self.seed, 7]).permutation(len(x))[:JOINT_SAMPLES]
            x, y = x[some], y[some]
        head = train_head(np.asarray(x), y, len(self.order), LADDER[-1][1], epochs=30, seed=self.seed)
        return accuracy(head, np.asarray(self.test[0]), self.test[1])
