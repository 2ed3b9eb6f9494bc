# How the tests call kernels from data: buffers travel as [typecode, hex], calls as [function, argument, …] where an
# argument is a number, or the name "b0", "b1", … of a buffer. The same on MicroPython and, with NumPy, on the host.
#
# Typecodes: B bytes; i int32; w weights, z logits, e errors: int32 with the fraction bits of shared/fixed.py, which
# float kernels get and give as the numbers they stand for.
from array import array
from binascii import hexlify, unhexlify

from learner import Learner

from shared.fixed import E_FRAC, W_FRAC, Z_FRAC

FRAC = {"w": W_FRAC, "z": Z_FRAC, "e": E_FRAC}


class Head:
    """The part of a learner that trains: its forward and step, on buffers from a test."""

    forward = Learner.forward
    step = Learner.step


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


def train(kernels, head, hidden, logits, errors, hidden_errors, features, latents, labels, inputs, units, classes, shift):
    """One step of the learner for each label, on the latent rows in their order, again and again from the first."""
    h = Head()
    h.kernels = kernels
    h.head, h.hidden, h.logits, h.errors, h.hidden_errors, h.features = head, hidden, logits, errors, hidden_errors, features
    h.n = h.inputs = inputs
    h.h = units
    h.w_stride = 1 + inputs + units
    h.u_stride = h.h_col = 1 + inputs
    loss = 0
    for k in range(len(labels)):
        xo = k * inputs % len(latents)
        loss += h.step(latents, xo, labels[k], shift, classes)
    return loss


def run(kernels, buffers, calls):
    """([buffer as hex, …], [returned value, …]) of calls, one after the other, with a module of kernels."""
    made = [load(code, text, kernels) for code, text in buffers]
    returned = []
    for call in calls:
        arguments = [made[int(a[1:])] if isinstance(a, str) else a for a in call[1:]]
        if call[0] == "train":
            returned.append(train(kernels, *arguments))
        else:
            returned.append(getattr(kernels, call[0])(*arguments))
    return [save(buffers[i][0], made[i], kernels) for i in range(len(made))], returned
