# How the tests call kernels from data: buffers travel as [typecode, hex], calls as [function, argument, …] where an
# argument is a number, or the name "b0", "b1", … of a buffer. The same on MicroPython and, with NumPy, on the host.
#
# Typecodes: B bytes; i int32; w weights, z logits, e errors: int32 with the fraction bits of shared/fixed.py, which
# float kernels get and give as the numbers they stand for.
from array import array
from binascii import hexlify, unhexlify

from kernels import chain

from shared.fixed import E_FRAC, W_FRAC, Z_FRAC

FRAC = {"w": W_FRAC, "z": Z_FRAC, "e": E_FRAC}


def load(code, text, kernels):
    data = unhexlify(text)
    if code == "B":
        return bytearray(data)
    ints = array("i", data)
    if code == "i":
        return ints
    w = kernels.weights(len(ints)) if code == "w" else kernels.vector(len(ints))
    if code == "w" or isinstance(kernels.ONE, int):
        kernels.adopt(w, 0, ints)
    else:
        for i in range(len(ints)):
            w[i] = ints[i] / (1 << FRAC[code])
    return w


def save(code, buffer, kernels):
    if code in ("z", "e") and isinstance(kernels.ONE, float):
        buffer = array("i", [int(v * (1 << FRAC[code])) for v in buffer])
    return hexlify(kernels.export(buffer, 0, len(buffer)) if code == "w" else buffer).decode()


def model(kernels, head, hidden, logits, errors, hidden_errors, features, inputs, units, most_inputs, most_units):
    """A model as a learner makes it, on buffers from a test."""
    scratch = array("i", bytes(4 * most_inputs))
    made = chain.model(kernels, head, hidden, logits, errors, hidden_errors, features, scratch, most_inputs, most_units)
    made[1][chain.INPUTS] = inputs
    made[1][chain.UNITS] = units
    return made


def train(kernels, head, hidden, logits, errors, hidden_errors, features, latents, labels, *numbers):
    """One step for each label, on the latent rows in their order, again and again from the first.
    numbers: inputs, units, most_inputs, most_units, shift, classes."""
    made = model(kernels, head, hidden, logits, errors, hidden_errors, features, *numbers[:4])
    loss = 0
    for k in range(len(labels)):
        xo = k * numbers[0] % (len(latents) // numbers[0] * numbers[0])
        loss += kernels.step(made, latents, xo, labels[k], *numbers[4:])
    return loss


def forward(kernels, head, hidden, logits, errors, hidden_errors, features, latents, *numbers):
    """The class for one latent row. numbers: inputs, units, most_inputs, most_units, xo, classes."""
    made = model(kernels, head, hidden, logits, errors, hidden_errors, features, *numbers[:4])
    return kernels.forward(made, latents, *numbers[4:])


def run(kernels, buffers, calls):
    """([buffer as hex, …], [returned value, …]) of calls, one after the other, with a module of kernels."""
    made = [load(code, text, kernels) for code, text in buffers]
    returned = []
    for call in calls:
        arguments = [made[int(a[1:])] if isinstance(a, str) else a for a in call[1:]]
        if call[0] == "train":
            returned.append(train(kernels, *arguments))
        elif call[0] == "forward":
            returned.append(forward(kernels, *arguments))
        else:
            returned.append(getattr(kernels, call[0])(*arguments))
    return [save(buffers[i][0], made[i], kernels) for i in range(len(made))], returned
