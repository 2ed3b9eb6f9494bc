# The latents of samples by every implementation of the integer kernels that loads here: a line each, its name and hex.
#   usage: micropython latents.py BLOB SAMPLES    (SAMPLES: int8 [n, h, w, c], one after the other)
import sys
from array import array
from binascii import hexlify

import kernels as kernel_choice
from backbone import Backbone

from shared import blob as b
from shared import plan

with open(sys.argv[1], "rb") as f:
    blob = b.Blob(f)
    with open(sys.argv[2], "rb") as g:
        raw = g.read()
    top = len(blob.rungs) // b.RUNG_INTS - 1
    leave = blob.rungs[top * b.RUNG_INTS]
    buffers = {}
    for name, code, items in plan.buffers(blob, top):
        buffers[name] = bytearray(items) if code == "B" else array("i", bytes(4 * items))
    out = bytearray(blob.features[leave])
    for name in kernel_choice.available():
        kernels = kernel_choice.load(name)
        if isinstance(kernels.ONE, float):
            continue
        made = Backbone(blob, buffers, kernels)
        said = b""
        for at in range(0, len(raw), blob.sample_bytes):
            made.latents(raw[at : at + blob.sample_bytes], leave, out, 0)
            said += out
        print(name, hexlify(said).decode())
