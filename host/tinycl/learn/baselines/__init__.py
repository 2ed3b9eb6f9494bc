"""Continual-learning baselines on int8 latents, one file each behind the interface in base.py."""

from .base import Baseline
from .finetune import FineTuning
from .gdumb import GDumb
from .joint import Joint
from .knn import NearestNeighbours
from .ncm import NearestClassMean
from .replay import ExperienceReplay
from .slda import SLDA
from .trees import EmlearnTrees

BASELINES: dict[str, type[Baseline]] = {
    kind.name: kind
    for kind in (
        FineTuning,
        NearestClassMean,
        SLDA,
        NearestNeighbours,
        ExperienceReplay,
        GDumb,
        EmlearnTrees,
        Joint,
    )
}

__all__ = ["BASELINES", "Baseline"]
