"""The linear softmax head that the trained baselines share: the board's rung 0 in float32, trained by the same stochastic
gradient descent in small batches. Depends on NumPy only."""

import numpy as np

EPOCHS = 20
RATE_FIRST, RATE_LAST = 1.0, 0.25  # of the mean gradient of a batch; the board's 1/8 to 1/32 a sample, in batches of 8
BATCH = 8
BATCHES_MOST = 300  # of an epoch: larger sets get larger batches


class SoftmaxHead:
    """float32 weights [classes so far, 1 + inputs], bias first; x = latents / 128."""

    def __init__(self, inputs: int) -> None:
        self.w = np.zeros((0, 1 + inputs), np.float32)

    @staticmethod
    def room(inputs: int, classes: int) -> int:
        """Bytes of a head with so many classes."""
        return 4 * classes * (1 + inputs)

    @property
    def bytes(self) -> int:
        return self.w.nbytes

    @property
    def macs(self) -> int:
        """Of one prediction."""
        return self.w.size

    def grow(self, classes: int) -> None:
        """Room for so many classes in all; new rows are zero."""
        more = np.zeros((classes - len(self.w), self.w.shape[1]), np.float32)
        self.w = np.concatenate([self.w, more])

    def train(self, latents: np.ndarray, rows: np.ndarray, rng: np.random.Generator, balance: bool = True) -> int:
        """EPOCHS of descent on int8 [n, inputs], rows int64 [n]. balance: every class that is there is drawn equally often, as
        often as the largest has samples. Returns the MACs: forward and update, as the board counts them."""
        x, steps = _with_bias(latents), 0
        groups = [np.flatnonzero(rows == k) for k in np.unique(rows)]
        most = max(len(group) for group in groups)
        for epoch in range(EPOCHS):
            rate = np.float32(RATE_FIRST * (RATE_LAST / RATE_FIRST) ** (epoch / (EPOCHS - 1)))
            drawn = [np.resize(rng.permutation(group), most) for group in groups] if balance else groups
            order = rng.permutation(np.concatenate(drawn))
            for part in np.array_split(order, min(BATCHES_MOST, -(-len(order) // BATCH))):
                error = softmax(x[part] @ self.w.T)
                error[np.arange(len(part)), rows[part]] -= 1
                self.w -= (rate / len(part)) * (error.T @ x[part])
            steps += len(order)
        return steps * 2 * self.w.size

    def predict(self, latents: np.ndarray) -> np.ndarray:
        """Rows, int64 [n]."""
        return (_with_bias(latents) @ self.w.T).argmax(1)


def softmax(z: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _with_bias(latents: np.ndarray) -> np.ndarray:
    x = np.empty((len(latents), 1 + latents.shape[1]), np.float32)
    x[:, 0] = 127 / 128
    np.multiply(latents, np.float32(1 / 128), out=x[:, 1:], casting="unsafe")
    return x
