"""emlearn: extra-trees (Geurts, Ernst and Wehenkel, Machine Learning 63, 2006) on the latents that a class-balanced reservoir
keeps, trained anew on the host at each step and converted with emlearn. Depends on scikit-learn and emlearn."""

from typing import Any

import numpy as np

from tinycl.errors import BudgetError

from .base import Baseline
from .memory import Memory

MEMORY_SHARE = 0.5  # of the budget; the trees get what is left
TREES_MOST = 100
NODE_BYTES = 8  # of one decision node, as emlearn counts it


class EmlearnTrees(Baseline):
    """bytes: the memory, and the trees as emlearn reports them (emlearn.evaluate.trees.model_size_bytes). macs_trained stays 0:
    the board does not train. A prediction counts one operation for each node that it passes.

    `code()` is the C of the model; the tables that it is made of are what predicts here.
    """

    name = "emlearn"

    def __init__(self, inputs: int, budget_bytes: int, seed: int = 0, max_classes: int = 10) -> None:
        super().__init__(inputs, budget_bytes, seed, max_classes)
        try:
            with np.errstate():  # it makes NumPy raise on every underflow, for the whole process
                import emlearn  # noqa: F401
        except ImportError as e:
            raise BudgetError(f"the baseline emlearn needs 1 package more ({e}): pip install 'tinycl[emlearn]'") from e
        self.need(2 * max_classes * max(inputs + 1, NODE_BYTES))
        self.seed = seed
        self.memory = Memory(inputs, int(budget_bytes * MEMORY_SHARE) // (inputs + 1), self.rng)
        self.model: Any = None
        self.tree_bytes = 0
        self.depth = 0.0

    @property
    def bytes(self) -> int:
        return self.memory.bytes + self.tree_bytes

    @property
    def macs_per_prediction(self) -> int:
        return round(self.depth)

    def code(self, name: str = "trees") -> str:
        """C99 with `int32_t NAME_predict(const int16_t *latents, int32_t length)`, which includes emlearn's headers."""
        return str(self.model.save(name=name))

    def _learn(self, latents: np.ndarray, rows: np.ndarray) -> None:
        import emlearn
        from emlearn.evaluate.trees import model_size_bytes

        self.memory.add(latents, rows)
        forest = self._fit()
        self.model = emlearn.convert(forest, method="inline", dtype="int16_t")
        self.tree_bytes = int(model_size_bytes(self.model))
        inner = [tree.tree_.n_node_samples[tree.tree_.children_left >= 0].sum() for tree in forest.estimators_]
        self.depth = float(sum(inner)) / len(self.memory.rows)
        nodes, roots, leaves = self.model.forest_
        self.nodes = np.array([[int(v) for v in node] for node in nodes], np.int64)  # thresholds cut as emlearn's C has them
        self.roots, self.leaves = np.array(roots), np.array(leaves)

    def _fit(self) -> Any:
        """As many trees as the rest of the budget holds; one that is pruned where that is less than one."""
        from sklearn.ensemble import ExtraTreesClassifier

        # scikit-learn goes left at x <= t, emlearn's C at x < (int)t. Trained one higher, both say the same of integers.
        x = self.memory.latents.astype(np.float32) + 1
        room = (self.budget_bytes - self.memory.bytes) // NODE_BYTES
        forest = ExtraTreesClassifier(TREES_MOST, random_state=self.seed).fit(x, self.memory.rows)
        sizes = [max(1, tree.tree_.node_count // 2) for tree in forest.estimators_]
        count = int(np.searchsorted(np.cumsum(sizes), room, side="right"))
        if count == 0:
            return ExtraTreesClassifier(1, random_state=self.seed, max_leaf_nodes=max(2, room)).fit(x, self.memory.rows)
        forest.estimators_ = forest.estimators_[:count]
        return forest

    def _predict(self, latents: np.ndarray) -> np.ndarray:
        at = np.tile(self.roots, (len(latents), 1))
        x = latents.astype(np.int64)
        while (at >= 0).any():
            feature, threshold, left, right = self.nodes[np.maximum(at, 0)].transpose(2, 0, 1)
            low = np.take_along_axis(x, feature, 1) < threshold
            at = np.where(at >= 0, np.where(low, left, right), at)
        votes = self.leaves[-at - 1]
        return np.stack([(votes == k).sum(1) for k in range(len(self.labels))], 1).argmax(1)
