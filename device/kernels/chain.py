# A head's forward pass and training step, put together from the kernels of whichever implementation the model names: the
# definition of `forward`, `step` and `train` for plain, viper and ulab. The native kernels do the same in one call.
# Allocates one tuple and one small array per model; a step takes nothing from the heap beyond what its kernels take.
from array import array

from shared.fixed import EXP2

# dims of a model: int32, in this order
INPUTS, UNITS, MOST_INPUTS, MOST_UNITS, ROOM = range(5)
#   INPUTS, UNITS             of the rung in use
#   MOST_INPUTS, MOST_UNITS   of the largest rung: W's rows have 1 + MOST_INPUTS + MOST_UNITS columns, U's 1 + MOST_INPUTS
#   ROOM                      how far every weight surely is from W_MAX; 0: not known. Whoever writes weights other than by
#                             `step` sets it to 0. Native kernels use it, so as to clamp only where a weight may need it.


def model(kernels, head, hidden, logits, errors, hidden_errors, features, scratch, most_inputs, most_units):
    """The buffers of a head as `forward` and `step` take them. A tuple, which C takes apart without looking up names.

    features: bytes, hidden units from byte most_inputs on; scratch: most_inputs int32, undefined after a call.
    """
    dims = array("i", (most_inputs, 0, most_inputs, most_units, 0))
    return (kernels, dims, head, hidden, logits, errors, hidden_errors, features, scratch, EXP2)


def _probabilities(model, x, xo, classes):
    k, dims, head, hidden, logits, errors, hidden_errors, features, _, _ = model
    most = dims[MOST_INPUTS]
    units = dims[UNITS]
    stride = 1 + most + dims[MOST_UNITS]
    k.dense(head, stride, classes, 1, x, xo, dims[INPUTS], logits)
    if units:
        k.dense(hidden, 1 + most, units, 1, x, xo, dims[INPUTS], hidden_errors)
        k.relu(hidden_errors, units, features, most)
        k.dense(head, stride, classes, 1 + most, features, most, units, logits)
    k.softmax(logits, classes, errors)


def forward(model, x, xo, classes):
    """Logits, hidden units and, in errors, probabilities for the latent row x[xo:]; returns the class with the largest
    logit, the first of equals."""
    _probabilities(model, x, xo, classes)
    z = model[4]
    best = 0
    for i in range(1, classes):
        if z[i] > z[best]:
            best = i
    return best


def step(model, x, xo, label, shift, classes):
    """One step of stochastic gradient descent on the latent row x[xo:]; returns 1 - p(label) in the kernels' unit."""
    _probabilities(model, x, xo, classes)
    k, dims, head, hidden, _, e, g, features, _, _ = model
    most = dims[MOST_INPUTS]
    units = dims[UNITS]
    stride = 1 + most + dims[MOST_UNITS]
    e[label] -= k.ONE
    if units:
        k.back(head, stride, classes, 1 + most, units, e, features, most, g)
        k.update(head, stride, classes, 1 + most, features, most, units, e, shift)
        k.update(hidden, 1 + most, units, 1, x, xo, dims[INPUTS], g, shift)
    k.update(head, stride, classes, 1, x, xo, dims[INPUTS], e, shift)
    return -e[label]


def train(model, x, stage, order, n, shift, classes):
    """n steps, one after the other; returns the sum of their 1 - p(label).

    order: int32 pairs of a label and the first byte of its latent row in x, or ~(first byte) of one in stage.
    """
    loss = 0
    for k in range(0, 2 * n, 2):
        xo = order[k + 1]
        if xo < 0:
            loss += step(model, stage, ~xo, order[k], shift, classes)
        else:
            loss += step(model, x, xo, order[k], shift, classes)
    return loss


def deal(order, cursor, counts, n, known, per_class, inputs, every, last, x):
    """The samples of one round over n classes into order, as `train` takes them; returns the random state that follows.

    order[::2]: the classes, each once; they are shuffled anew. cursor: the next sample of each class, counts: how many it has;
    those with i % every == last are left out. Class c < known lies in x from row c * per_class on, another one in stage.
    x: the state of a 16-bit xorshift (7, 9, 8): small integers only, the same on every board.
    """
    for k in range(n - 1, 0, -1):
        x ^= (x << 7) & 0xFFFF
        x ^= x >> 9
        x ^= (x << 8) & 0xFFFF
        j = 2 * (x % (k + 1))
        c = order[2 * k]
        order[2 * k] = order[j]
        order[j] = c
    for k in range(0, 2 * n, 2):
        c = order[k]
        i = cursor[c]
        if i % every == last:
            i += 1
        if i >= counts[c]:
            i = 0
        cursor[c] = i + 1
        order[k + 1] = (c * per_class + i) * inputs if c < known else ~(i * inputs)
    return x
