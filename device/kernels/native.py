# The kernels in C: the interface of plain.py from the native module `tinycl_native` (device/native/), which lies at the root
# of the flash, built for the board's architecture. Equal to plain to the bit; allocates nothing.
# Importing this file raises ImportError where there is no such module, and ValueError where it is for another architecture.
# ruff: noqa: E402, F401
import sys

OLDEST = (1, 24)  # earlier releases free native code that is in use, or lose its data (micropython#6769, #6592)
if tuple(sys.implementation[1][:2]) < OLDEST:
    raise ImportError("native kernels need MicroPython %d.%d, this is %d.%d: update it" % (OLDEST + sys.implementation[1][:2]))

import tinycl_native
from tinycl_native import (
    accumulate,
    back,
    conv2d,
    deal,
    dense,
    distance,
    forward,
    maxpool2d,
    relu,
    step,
    train,
    update,
)

from shared.fixed import EXP2

from .plain import ONE, SCRATCH_BYTES, WEIGHT_BYTES, adopt, clear, export, vector, weights

NAME = "native"


def softmax(z, n, e):
    tinycl_native.softmax(z, n, e, EXP2)
