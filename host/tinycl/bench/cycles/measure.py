# Cycles of the kernels on the chip, counted by the Cortex-M's SysTick. The host sends this file to the REPL and calls
# `measure`. Costs are slopes between two lengths of a run, so that starting and ending one does not count; the Python of the
# loop and the call of the kernel do. An `epoch` is one run, whole. Depends on the runtime.
# ruff: noqa: F821
import gc
import sys
import time
from array import array

import kernels
import micropython
from kernels import chain

CLOCK_HZ = 125_000_000
SHIFT = 8  # small steps, so that training is stable and no error becomes 0, which would save its row's work
state = 12345


@micropython.viper
def start():
    systick = ptr32(0xE000E010)
    systick[1] = 0xFFFFFF
    systick[2] = 0  # any write clears the counter
    systick[0] = 5  # on, with the processor's clock


@micropython.viper
def left() -> int:
    return int(ptr32(0xE000E018)[0])


def cycles(run, n):
    """Cycles of run(n): SysTick up to its 24 bits, the microsecond clock beyond."""
    gc.collect()
    gc.disable()
    at = time.ticks_us()
    start()
    run(n)
    now = left()
    us = time.ticks_diff(time.ticks_us(), at)
    gc.enable()
    return 0xFFFFFF - now if us < 100_000 else us * (CLOCK_HZ // 1_000_000)


def slope(run, few, many):
    run(1)
    return (cycles(run, many) - cycles(run, few)) / (many - few)


def noise():
    """0 to 127, the same at every start."""
    global state
    state = (state * 1103 + 12345) & 0xFFFFFF
    return state >> 9 & 127


def model(k, inputs, units, classes):
    """A head with small random weights, as training finds it."""
    head = k.weights(classes * (1 + inputs + units))
    hidden = k.weights(units * (1 + inputs))
    for w in (head, hidden):
        for i in range(len(w)):
            w[i] = (noise() - 64) << 12
    vectors = k.vector(classes), k.vector(classes), k.vector(units)
    scratch = array("i", bytes(4 * inputs))
    made = chain.model(k, head, hidden, *vectors, bytearray(inputs + units), scratch, inputs, units)
    made[1][chain.UNITS] = units
    return made


def train(k, inputs, units, classes, few, many):
    """One step of training, in rounds over the classes as an epoch makes them."""
    made = model(k, inputs, units, classes)
    x = bytes([noise() for _ in range(inputs)])  # of all classes: what cannot be told apart keeps its errors
    order = array("i", [c // 2 if c % 2 == 0 else 0 for c in range(2 * classes)])

    def run(n):
        while n:
            k.train(made, x, x, order, classes, SHIFT, classes)
            n -= 1

    return slope(run, few, many) / classes


def step(k, inputs, units, classes, few, many):
    """One step of training in a call of its own."""
    made = model(k, inputs, units, classes)
    x = bytes([noise() for _ in range(inputs)])

    def run(n):
        while n:
            n -= 1
            k.step(made, x, 0, n % classes, SHIFT, classes)

    return slope(run, few, many)


def step_bytes(k, inputs, units, classes, n):
    """Bytes that one step takes from the heap."""
    made = model(k, inputs, units, classes)
    x = bytes([noise() for _ in range(inputs)])
    order = array("i", bytes(8 * classes))
    k.train(made, x, x, order, classes, SHIFT, classes)
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    for _ in range(n):
        k.train(made, x, x, order, classes, SHIFT, classes)
    after = gc.mem_alloc()
    gc.enable()
    return (after - before) // (n * classes)


def forward(k, inputs, units, classes, few, many):
    made = model(k, inputs, units, classes)
    x = bytes([noise() for _ in range(inputs)])

    def run(n):
        while n:
            k.forward(made, x, 0, classes)
            n -= 1

    return slope(run, few, many)


def conv(k, op, side, in_c, out_c, kernel, few, many):
    """A whole layer, its edges included. op: 1 standard, 3 depthwise."""
    table = array("i", (op, side, side, in_c, side, side, out_c, kernel, 1, kernel // 2, 6, 15, 0, 0, 0, 0))
    x = bytes([noise() for _ in range(side * side * in_c)])
    w = bytes([(noise() - 64) & 255 for _ in range(kernel * kernel * in_c * out_c)])
    q = array("i", [20000 if i & 1 else noise() for i in range(2 * out_c)])
    y = bytearray(side * side * out_c)

    def run(n):
        while n:
            k.conv2d(x, w, q, y, table, 0)
            n -= 1

    return slope(run, few, many)


def distance(k, n, few, many):
    a = bytes([noise() for _ in range(n)])
    b = bytes([noise() for _ in range(n)])

    def run(times):
        while times:
            k.distance(a, 0, b, 0, n)
            times -= 1

    return slope(run, few, many)


def log_mel(k, few, many):
    """A frame of the log-mel front end, from sound to a row of logarithms; plain is the definition, all else the fastest."""
    from sensors import log_mel

    from shared.logmel import LogMel, Plain

    made = LogMel(512, 1, steps=Plain) if k.NAME == "plain" else log_mel(512, 1)
    x = array("h", [(noise() - 64) << 8 for _ in range(512)])

    def run(n):
        while n:
            made.frame(x, 0, 0)
            n -= 1

    return slope(run, few, many)


def learner(k, path, top):
    from learner import Learner

    from shared import plan
    from shared.blob import Blob

    blob = Blob(open(path, "rb"))
    made = Learner(blob, k, top, plan.buffers(blob, top))
    made.load_base()
    made.set_rung(top)
    for i in range(len(made.sample)):
        made.sample[i] = noise()
    return made


def predict(k, path, top, few, many):
    """A raw sample through the backbone and the head, by the learner."""
    made = learner(k, path, top)
    for c in range(made.replay.classes, 10):
        made.replay.add("c%d" % c, 0)

    def run(n):
        while n:
            made.predict()
            n -= 1

    return slope(run, few, many)


def epoch(k, path, samples):
    """One step of an epoch over ten classes by the learner, everything it does to choose samples included."""
    made = learner(k, path, 0)
    for i in range(len(made.replay.buffer)):
        made.replay.buffer[i] = noise()
    while made.replay.classes < 10:
        made.replay.add("c%d" % made.replay.classes, samples)
    for c in range(10):
        made.replay.counts[c] = samples
    steps = 0

    def run(_):
        nonlocal steps
        for last in made.epoch(SHIFT):
            steps = last and last[0]

    run(1)
    return cycles(run, 1) / steps


def kernels_of(name):
    """Kernels by name; `script`: viper without the assembler, as on boards that are no Cortex-M."""
    if name != "script":
        return kernels.load(name)
    whole = kernels.load("viper")
    thumb = sys.modules.get("kernels.thumb")
    del kernels.viper, sys.modules["kernels.viper"]
    sys.modules["kernels.thumb"] = None
    bare = kernels.load("viper")
    kernels.viper = sys.modules["kernels.viper"] = whole
    sys.modules["kernels.thumb"] = thumb
    return bare


def measure(what, name, *arguments):
    """Prints the figure, for the host to read."""
    gc.collect()
    print(globals()[what](kernels_of(name), *arguments))
