# The inner loops of the viper kernels in inline assembler, for Cortex-M: viper.py takes these in place of its own where this
# file loads, and elsewhere (SyntaxError) keeps them. Equal to plain to the bit. Depends on viper.py for windows that are too
# large and for depthwise layers. Allocates 1.2 kB once: a window of the backbone, and blocks of numbers for calls.
#
# Only what every Cortex-M has (ARMv6-M) is used. The assembler of MicroPython lacks some of it, which is there as data:
#   0xc8.. ldmia   0xc0.. stmia   0x56.. ldrsb with a register as offset   0x44.. add and 0x45.. cmp with high registers
# Registers r0 to r7 are saved by the compiler, r8 to r11 by `push` here. Each function gets the address of a block of 16 words
# with its numbers, as four arguments would not do; a step fills its blocks once and calls them again and again.
# ruff: noqa: F821
from array import array

import micropython

from shared.fixed import EXP2

from .viper import conv2d as conv2d_viper
from .viper import relu

WINDOW_BYTES = 640
_window = bytearray(WINDOW_BYTES)
_p = array("i", bytes(64 * 9))
_one = array("i", bytes(8))  # the order of a single step


def let_go():
    """Forgets the addresses of the last model; each call writes its own."""
    for i in range(len(_p)):
        _p[i] = 0


# block: w, x, z, rows, n, bytes from the end of a row to the next, 4 if a bias comes before the first column and 0 if not
@micropython.asm_thumb
def _dense(r0):
    mov(r4, r8)
    mov(r5, r9)
    mov(r6, r10)
    mov(r7, r11)
    push({r4, r5, r6, r7})
    ldr(r1, [r0, 4])
    ldr(r2, [r0, 8])
    mov(r11, r2)
    ldr(r2, [r0, 12])
    mov(r9, r2)
    ldr(r2, [r0, 16])
    mov(r10, r2)
    ldr(r2, [r0, 20])
    mov(r8, r2)
    ldr(r2, [r0, 24])
    mov(r14, r2)
    ldr(r0, [r0, 0])
    label(ROW)
    mov(r3, r11)
    ldr(r3, [r3, 0])
    mov(r2, r14)
    cmp(r2, 0)
    beq(ADDS)
    data(2, 0xC810)  # ldmia r0!, {r4}
    asr(r4, r4, 8)
    mov(r3, 127)
    mul(r3, r4)
    mov(r2, 0)
    label(ADDS)
    mov(r7, r10)
    lsr(r7, r7, 2)
    beq(REST)
    label(FOUR)
    data(2, 0xC830)  # ldmia r0!, {r4, r5}
    asr(r4, r4, 8)
    data(2, 0x568E)  # ldrsb r6, [r1, r2]
    add(r2, 1)
    mul(r4, r6)
    add(r3, r3, r4)
    asr(r5, r5, 8)
    data(2, 0x568E)
    add(r2, 1)
    mul(r5, r6)
    add(r3, r3, r5)
    data(2, 0xC830)
    asr(r4, r4, 8)
    data(2, 0x568E)
    add(r2, 1)
    mul(r4, r6)
    add(r3, r3, r4)
    asr(r5, r5, 8)
    data(2, 0x568E)
    add(r2, 1)
    mul(r5, r6)
    add(r3, r3, r5)
    sub(r7, 1)
    bne(FOUR)
    label(REST)
    mov(r7, r10)
    mov(r6, 3)
    and_(r7, r6)
    beq(DONE)
    label(ONE)
    data(2, 0xC810)  # ldmia r0!, {r4}
    asr(r4, r4, 8)
    data(2, 0x568E)
    add(r2, 1)
    mul(r4, r6)
    add(r3, r3, r4)
    sub(r7, 1)
    bne(ONE)
    label(DONE)
    mov(r4, r11)
    str(r3, [r4, 0])
    add(r4, 4)
    mov(r11, r4)
    data(2, 0x4440)  # add r0, r8
    mov(r4, r9)
    sub(r4, 1)
    mov(r9, r4)
    bne(ROW)
    pop({r4, r5, r6, r7})
    mov(r8, r4)
    mov(r9, r5)
    mov(r10, r6)
    mov(r11, r7)


@micropython.viper
def dense(w: ptr32, stride: int, rows: int, col: int, x: ptr8, xo: int, n: int, z: ptr32):
    bias = 4 if col == 1 else 0
    p = ptr32(_p)
    p[0] = int(w) + 4 * col - bias
    p[1] = int(x) + xo
    p[2] = int(z)
    p[3] = rows
    p[4] = n
    p[5] = 4 * (stride - n) - bias
    p[6] = bias
    if rows > 0:
        _dense(_p)


# block: w, x, e, rows, n, bytes from the end of a row to the next, bias as in _dense, shift, W_MAX. A bias is column -1.
@micropython.asm_thumb
def _update(r0):
    mov(r4, r8)
    mov(r5, r9)
    mov(r6, r10)
    mov(r7, r11)
    push({r4, r5, r6, r7})
    ldr(r1, [r0, 4])
    ldr(r2, [r0, 8])
    mov(r11, r2)
    ldr(r7, [r0, 12])
    ldr(r2, [r0, 16])
    mov(r10, r2)
    ldr(r2, [r0, 20])
    mov(r8, r2)
    ldr(r4, [r0, 24])
    mov(r9, r4)
    ldr(r4, [r0, 28])
    ldr(r2, [r0, 32])
    mov(r12, r2)
    neg(r2, r2)
    mov(r14, r2)
    ldr(r0, [r0, 0])
    label(ROW)
    mov(r5, r11)
    data(2, 0xCD08)  # ldmia r5!, {r3}
    mov(r11, r5)
    cmp(r3, 0)
    beq(NONE)
    mov(r2, 0)
    mov(r6, r9)
    cmp(r6, 0)
    beq(ONE)
    mov(r6, 127)
    sub(r2, 1)
    b(TIMES)
    label(ONE)
    data(2, 0x568E)  # ldrsb r6, [r1, r2]
    label(TIMES)
    mul(r6, r3)
    asr(r6, r4)
    ldr(r5, [r0, 0])
    sub(r5, r5, r6)
    data(2, 0x4565)  # cmp r5, r12
    bgt(HIGH)
    data(2, 0x4575)  # cmp r5, r14
    blt(LOW)
    label(STORE)
    data(2, 0xC020)  # stmia r0!, {r5}
    add(r2, 1)
    data(2, 0x4552)  # cmp r2, r10
    bne(ONE)
    label(NEXT)
    data(2, 0x4440)  # add r0, r8
    sub(r7, 1)
    bne(ROW)
    b(END)
    label(HIGH)
    mov(r5, r12)
    b(STORE)
    label(LOW)
    mov(r5, r14)
    b(STORE)
    label(NONE)
    mov(r5, r10)
    lsl(r5, r5, 2)
    add(r0, r0, r5)
    data(2, 0x4448)  # add r0, r9
    b(NEXT)
    label(END)
    pop({r4, r5, r6, r7})
    mov(r8, r4)
    mov(r9, r5)
    mov(r10, r6)
    mov(r11, r7)


@micropython.viper
def update(w: ptr32, stride: int, rows: int, col: int, x: ptr8, xo: int, n: int, e: ptr32, shift: int):
    bias = 4 if col == 1 else 0
    p = ptr32(_p)
    p[0] = int(w) + 4 * col - bias
    p[1] = int(x) + xo
    p[2] = int(e)
    p[3] = rows
    p[4] = n
    p[5] = 4 * (stride - n) - bias
    p[6] = bias
    p[7] = shift
    p[8] = (1 << 23) - 1
    if rows > 0 and n + bias > 0:
        _update(_p)


# The same for weights that cannot reach W_MAX
@micropython.asm_thumb
def _update_free(r0):
    mov(r4, r8)
    mov(r5, r9)
    mov(r6, r10)
    mov(r7, r11)
    push({r4, r5, r6, r7})
    ldr(r1, [r0, 4])
    ldr(r2, [r0, 8])
    mov(r11, r2)
    ldr(r2, [r0, 12])
    mov(r12, r2)
    ldr(r2, [r0, 16])
    mov(r10, r2)
    ldr(r2, [r0, 20])
    mov(r8, r2)
    ldr(r2, [r0, 24])
    mov(r9, r2)
    ldr(r4, [r0, 28])
    ldr(r0, [r0, 0])
    label(ROW)
    mov(r5, r11)
    data(2, 0xCD08)  # ldmia r5!, {r3}
    mov(r11, r5)
    cmp(r3, 0)
    beq(NONE)
    mov(r6, r9)
    cmp(r6, 0)
    beq(BIASED)
    mov(r6, 127)
    mul(r6, r3)
    asr(r6, r4)
    ldr(r5, [r0, 0])
    sub(r5, r5, r6)
    data(2, 0xC020)  # stmia r0!, {r5}
    label(BIASED)
    mov(r2, 0)
    mov(r7, r10)
    mov(r6, 3)
    and_(r7, r6)
    beq(WHOLE)
    label(ONE)
    data(2, 0x568E)  # ldrsb r6, [r1, r2]
    mul(r6, r3)
    asr(r6, r4)
    ldr(r5, [r0, 0])
    sub(r5, r5, r6)
    data(2, 0xC020)  # stmia r0!, {r5}
    add(r2, 1)
    sub(r7, 1)
    bne(ONE)
    label(WHOLE)
    data(2, 0x4552)  # cmp r2, r10
    beq(NEXT)
    label(FOUR)
    data(2, 0x568E)
    mul(r6, r3)
    asr(r6, r4)
    ldr(r5, [r0, 0])
    sub(r5, r5, r6)
    data(2, 0xC020)
    add(r2, 1)
    data(2, 0x568E)
    mul(r6, r3)
    asr(r6, r4)
    ldr(r5, [r0, 0])
    sub(r5, r5, r6)
    data(2, 0xC020)
    add(r2, 1)
    data(2, 0x568E)
    mul(r6, r3)
    asr(r6, r4)
    ldr(r5, [r0, 0])
    sub(r5, r5, r6)
    data(2, 0xC020)
    add(r2, 1)
    data(2, 0x568E)
    mul(r6, r3)
    asr(r6, r4)
    ldr(r5, [r0, 0])
    sub(r5, r5, r6)
    data(2, 0xC020)
    add(r2, 1)
    data(2, 0x4552)
    bne(FOUR)
    label(NEXT)
    data(2, 0x4440)  # add r0, r8
    mov(r7, r12)
    sub(r7, 1)
    mov(r12, r7)
    bne(ROW)
    b(END)
    label(NONE)
    mov(r5, r10)
    lsl(r5, r5, 2)
    add(r0, r0, r5)
    data(2, 0x4448)  # add r0, r9
    b(NEXT)
    label(END)
    pop({r4, r5, r6, r7})
    mov(r8, r4)
    mov(r9, r5)
    mov(r10, r6)
    mov(r11, r7)


# An upper bound of the absolute values, the largest or one more. block: words, how many
@micropython.asm_thumb
def _largest(r0):
    ldr(r1, [r0, 4])
    ldr(r2, [r0, 0])
    mov(r0, 0)
    cmp(r1, 0)
    beq(END)
    label(EACH)
    data(2, 0xCA08)  # ldmia r2!, {r3}
    asr(r4, r3, 31)
    eor(r3, r4)
    cmp(r3, r0)
    ble(LESS)
    mov(r0, r3)
    label(LESS)
    sub(r1, 1)
    bne(EACH)
    label(END)
    add(r0, 1)


# g[j] += (w[i][j] >> 12) * e[i]. block: w, g, e, rows, n, bytes from the end of a row to the next
@micropython.asm_thumb
def _spread(r0):
    mov(r4, r8)
    mov(r5, r9)
    mov(r6, r10)
    mov(r7, r11)
    push({r4, r5, r6, r7})
    ldr(r1, [r0, 4])
    mov(r9, r1)
    ldr(r2, [r0, 8])
    ldr(r7, [r0, 12])
    ldr(r3, [r0, 16])
    mov(r10, r3)
    ldr(r3, [r0, 20])
    mov(r8, r3)
    ldr(r0, [r0, 0])
    label(ROW)
    data(2, 0xCA08)  # ldmia r2!, {r3}
    mov(r1, r9)
    mov(r6, r10)
    label(ONE)
    data(2, 0xC810)  # ldmia r0!, {r4}
    asr(r4, r4, 12)
    mul(r4, r3)
    ldr(r5, [r1, 0])
    add(r5, r5, r4)
    data(2, 0xC120)  # stmia r1!, {r5}
    sub(r6, 1)
    bne(ONE)
    data(2, 0x4440)  # add r0, r8
    sub(r7, 1)
    bne(ROW)
    pop({r4, r5, r6, r7})
    mov(r8, r4)
    mov(r9, r5)
    mov(r10, r6)
    mov(r11, r7)


@micropython.viper
def _gate(g: ptr32, h: ptr8, n: int):
    one = 1 << 15
    j = 0
    while j < n:
        unit = int(h[j])
        acc = int(g[j]) >> 8
        if acc > one:
            acc = one
        if acc < 0 - one:
            acc = 0 - one
        if unit == 0 or unit >= 127:
            acc = 0
        g[j] = acc
        j += 1


@micropython.viper
def back(w: ptr32, stride: int, rows: int, col: int, n: int, e: ptr32, h: ptr8, ho: int, g: ptr32):
    j = 0
    while j < n:
        g[j] = 0
        j += 1
    p = ptr32(_p)
    p[0] = int(w) + 4 * col
    p[1] = int(g)
    p[2] = int(e)
    p[3] = rows
    p[4] = n
    p[5] = 4 * (stride - n)
    if rows > 0 and n > 0:
        _spread(_p)
    _gate(int(g), int(h) + ho, n)


# block: z, n, e, EXP2, T_MAX, LOG2E
@micropython.asm_thumb
def _softmax(r0):
    mov(r4, r8)
    push({r4})
    mov(r8, r0)
    ldr(r1, [r0, 4])
    ldr(r2, [r0, 8])
    ldr(r3, [r0, 12])
    ldr(r4, [r0, 20])
    mov(r14, r4)
    ldr(r0, [r0, 0])
    ldr(r4, [r0, 0])  # the largest
    mov(r5, r0)
    mov(r6, r1)
    label(TOP)
    data(2, 0xCD80)  # ldmia r5!, {r7}
    cmp(r7, r4)
    ble(LESS)
    mov(r4, r7)
    label(LESS)
    sub(r6, 1)
    bne(TOP)
    asr(r4, r4, 7)
    mov(r5, r8)
    ldr(r7, [r5, 16])
    mov(r5, 0)
    mov(r12, r5)  # the sum
    label(EACH)
    data(2, 0xC820)  # ldmia r0!, {r5}
    asr(r5, r5, 7)
    sub(r5, r4, r5)
    cmp(r5, r7)
    ble(NEAR)
    mov(r5, r7)
    label(NEAR)
    mov(r6, r14)
    mul(r5, r6)
    lsr(r5, r5, 16)
    mov(r6, 255)
    and_(r6, r5)
    lsl(r6, r6, 1)
    add(r6, r3, r6)
    ldrh(r6, [r6, 0])
    lsr(r5, r5, 8)
    lsr(r6, r5)
    data(2, 0xC240)  # stmia r2!, {r6}
    data(2, 0x44B4)  # add r12, r6
    sub(r1, 1)
    bne(EACH)
    mov(r5, r12)  # (1 << 30) // sum by shift and subtract
    mov(r6, 1)
    lsl(r6, r6, 30)
    mov(r7, 0)
    mov(r1, 15)
    label(BIT)
    mov(r0, r6)
    lsr(r0, r1)
    cmp(r0, r5)
    bcc(ZERO)
    mov(r0, r5)
    lsl(r0, r1)
    sub(r6, r6, r0)
    mov(r0, 1)
    lsl(r0, r1)
    add(r7, r7, r0)
    label(ZERO)
    sub(r1, 1)
    bpl(BIT)
    mov(r5, r8)
    ldr(r1, [r5, 4])
    ldr(r2, [r5, 8])
    label(SCALE)
    ldr(r0, [r2, 0])
    mul(r0, r7)
    lsr(r0, r0, 15)
    data(2, 0xC201)  # stmia r2!, {r0}
    sub(r1, 1)
    bne(SCALE)
    pop({r4})
    mov(r8, r4)


@micropython.viper
def softmax(z: ptr32, n: int, e: ptr32):
    p = ptr32(_p)
    p[0] = int(z)
    p[1] = n
    p[2] = int(e)
    p[3] = int(ptr16(EXP2))
    p[4] = 65535
    p[5] = 5909
    _softmax(_p)


# A whole head in one call, as in chain.py. Blocks: 0 to 2 dense (W x, U x, W h), 3 softmax, 4 to 6 update (the same three),
# 7 back, 8 for measuring


@micropython.viper
def _prepare(dims: ptr32, head: ptr32, hidden: ptr32, z: ptr32, e: ptr32, g: ptr32, features: ptr8, shift: int, rows: int):
    p = ptr32(_p)
    n = int(dims[0])
    units = int(dims[1])
    most = int(dims[2])
    stride = 4 * (1 + most + int(dims[3]))
    k = 0
    while k < 5:  # dense, then update, of W and of U
        p[k * 16] = int(head)
        p[k * 16 + 2] = int(z) if k == 0 else int(e)
        p[k * 16 + 3] = rows
        p[k * 16 + 4] = n
        p[k * 16 + 5] = stride - 4 * n - 4
        p[k * 16 + 6] = 4
        p[k * 16 + 16] = int(hidden)
        p[k * 16 + 18] = int(g)
        p[k * 16 + 19] = units
        p[k * 16 + 20] = n
        p[k * 16 + 21] = 4 * (most - n)
        p[k * 16 + 22] = 4
        p[k * 16 + 32] = int(head) + 4 * (1 + most)
        p[k * 16 + 33] = int(features) + most
        p[k * 16 + 34] = int(z) if k == 0 else int(e)
        p[k * 16 + 35] = rows
        p[k * 16 + 36] = units
        p[k * 16 + 37] = stride - 4 * units
        p[k * 16 + 38] = 0
        k += 4
    k = 64
    while k < 112:
        p[k + 7] = shift
        p[k + 8] = (1 << 23) - 1
        k += 16
    p[48] = int(z)
    p[49] = rows
    p[50] = int(e)
    p[51] = int(ptr16(EXP2))
    p[52] = 65535
    p[53] = 5909
    p[112] = p[32]
    p[113] = int(g)
    p[114] = int(e)
    p[115] = rows
    p[116] = units
    p[117] = p[37]


@micropython.viper
def _units(x: int, g: ptr32, h: ptr8, units: int):
    p = ptr32(_p)
    at = int(p)
    p[17] = x
    _dense(at + 64)
    relu(g, units, h, 0)
    _dense(at + 128)


@micropython.viper
def _best(z: ptr32, n: int) -> int:
    best = 0
    i = 1
    while i < n:
        if int(z[i]) > int(z[best]):
            best = i
        i += 1
    return best


def forward(model, x, xo, classes):
    _, dims, head, hidden, z, e, g, features, _, _ = model
    _prepare(dims, head, hidden, z, e, g, features, 0, classes)
    _forward(dims, g, features, x, xo)
    return _best(z, classes)


@micropython.viper
def _forward(dims: ptr32, g: ptr32, features: ptr8, x: ptr8, xo: int):
    p = ptr32(_p)
    at = int(p)
    xa = int(x) + xo
    p[1] = xa
    _dense(at)
    if int(dims[1]):
        _units(xa, int(g), int(features) + int(dims[2]), int(dims[1]))
    _softmax(at + 192)


def step(model, x, xo, label, shift, classes):
    order = _one
    order[0] = label
    order[1] = xo
    return train(model, x, x, order, 1, shift, classes)


def train(model, x, stage, order, n, shift, classes):
    _, dims, head, hidden, z, e, g, features, _, _ = model
    _prepare(dims, head, hidden, z, e, g, features, shift, classes)
    return _train(dims, e, g, features, x, stage, order, n)


@micropython.viper
def _most(w: int, n: int) -> int:
    p = ptr32(_p)
    p[128] = w
    p[129] = n
    return int(_largest(int(p) + 512))


@micropython.viper
def _room(dims: ptr32, head: int, hidden: int, rows: int) -> int:
    most = int(_most(head, rows * (1 + int(dims[2]) + int(dims[3]))))
    u = int(_most(hidden, int(dims[1]) * (1 + int(dims[2]))))
    return (1 << 23) - 1 - (u if u > most else most)


@micropython.viper
def _train(dims: ptr32, e: ptr32, g: ptr32, features: ptr8, x: ptr8, stage: ptr8, order: ptr32, n: int) -> int:
    p = ptr32(_p)
    at = int(p)
    units = int(dims[1])
    h = int(features) + int(dims[2])
    shift = int(p[71])
    loss = 0
    k = 0
    while k < n:
        label = int(order[2 * k])
        xa = int(order[2 * k + 1])
        if xa < 0:
            xa = int(stage) - 1 - xa
        else:
            xa += int(x)
        p[1] = xa
        _dense(at)
        if units:
            _units(xa, int(g), h, units)
        _softmax(at + 192)
        err = int(e[label]) - 32768
        e[label] = err
        loss -= err
        most = 0 - err  # probabilities add up to 1 at most: no other error is larger
        if units:
            j = 0
            while j < units:
                g[j] = 0
                j += 1
            _spread(at + 448)
            _gate(int(g), h, units)
            u = int(_most(int(g), units))
            if u > most:
                most = u
        # as in tinycl_native.c: clamping is left out while no weight can get as far as W_MAX
        need = (most << 7 >> shift) + 1
        room = int(dims[4])
        if room < need:
            room = int(_room(int(dims), int(p[0]), int(p[16]), int(p[49])))
        p[65] = xa
        p[81] = xa
        if room < need:
            dims[4] = 0
            _update(at + 256)
            if units:
                _update(at + 320)
                _update(at + 384)
        else:
            dims[4] = room - need
            _update_free(at + 256)
            if units:
                _update_free(at + 320)
                _update_free(at + 384)
        k += 1
    return loss


# All channels of one window, two at a time. block: end of the window, end of channel 0's weights, n, channels, shift1, shift2,
# 1 << (shift2 - 1), (bias, multiplier) pairs, y. Of an odd last channel both sums are the same, and one is stored.
@micropython.asm_thumb
def _dots(r0):
    mov(r4, r8)
    mov(r5, r9)
    mov(r6, r10)
    mov(r7, r11)
    push({r4, r5, r6, r7})
    mov(r11, r0)
    ldr(r2, [r0, 4])
    ldr(r4, [r0, 8])
    mov(r10, r4)
    ldr(r4, [r0, 12])
    mov(r12, r4)
    ldr(r4, [r0, 28])
    mov(r8, r4)
    ldr(r4, [r0, 32])
    mov(r9, r4)
    ldr(r0, [r0, 0])
    label(PAIR)
    mov(r3, r2)
    mov(r5, r8)
    ldr(r6, [r5, 0])
    mov(r7, r6)
    mov(r4, r12)
    cmp(r4, 1)
    beq(ODD)
    ldr(r7, [r5, 8])
    data(2, 0x4453)  # add r3, r10
    label(ODD)
    mov(r1, r10)
    neg(r1, r1)
    lsl(r4, r1, 30)
    beq(WHOLE)
    label(ONE)
    data(2, 0x5644)  # ldrsb r4, [r0, r1]
    data(2, 0x5655)  # ldrsb r5, [r2, r1]
    mul(r5, r4)
    add(r6, r6, r5)
    data(2, 0x565D)  # ldrsb r5, [r3, r1]
    mul(r5, r4)
    add(r7, r7, r5)
    add(r1, 1)
    lsl(r4, r1, 30)
    bne(ONE)
    label(WHOLE)
    cmp(r1, 0)
    beq(SUMMED)
    label(FOUR)
    data(2, 0x5644, 0x5655)
    mul(r5, r4)
    add(r6, r6, r5)
    data(2, 0x565D)
    mul(r5, r4)
    add(r7, r7, r5)
    add(r1, 1)
    data(2, 0x5644, 0x5655)
    mul(r5, r4)
    add(r6, r6, r5)
    data(2, 0x565D)
    mul(r5, r4)
    add(r7, r7, r5)
    add(r1, 1)
    data(2, 0x5644, 0x5655)
    mul(r5, r4)
    add(r6, r6, r5)
    data(2, 0x565D)
    mul(r5, r4)
    add(r7, r7, r5)
    add(r1, 1)
    data(2, 0x5644, 0x5655)
    mul(r5, r4)
    add(r6, r6, r5)
    data(2, 0x565D)
    mul(r5, r4)
    add(r7, r7, r5)
    add(r1, 1)
    bne(FOUR)
    label(SUMMED)
    bl(STORE)
    mov(r4, r12)
    sub(r4, 1)
    beq(END)
    mov(r12, r4)
    mov(r6, r7)
    bl(STORE)
    mov(r2, r3)
    data(2, 0x4452)  # add r2, r10
    mov(r4, r12)
    sub(r4, 1)
    mov(r12, r4)
    bne(PAIR)
    b(END)

    label(STORE)  # r6 requantised to y; the next pair and byte
    mov(r4, r11)
    ldr(r5, [r4, 16])
    asr(r6, r5)
    mov(r5, 1)
    lsl(r5, r5, 15)
    cmp(r6, r5)
    blt(FITS)
    mov(r6, r5)
    sub(r6, 1)
    label(FITS)
    neg(r5, r5)
    cmp(r6, r5)
    bge(FITS2)
    mov(r6, r5)
    label(FITS2)
    mov(r5, r8)
    ldr(r1, [r5, 4])
    add(r5, 8)
    mov(r8, r5)
    mul(r6, r1)
    ldr(r1, [r4, 24])
    add(r6, r6, r1)
    ldr(r1, [r4, 20])
    asr(r6, r1)
    bpl(POSITIVE)
    mov(r6, 0)
    label(POSITIVE)
    cmp(r6, 127)
    ble(SMALL)
    mov(r6, 127)
    label(SMALL)
    mov(r5, r9)
    strb(r6, [r5, 0])
    add(r5, 1)
    mov(r9, r5)
    bx(r14)

    label(END)
    pop({r4, r5, r6, r7})
    mov(r8, r4)
    mov(r9, r5)
    mov(r10, r6)
    mov(r11, r7)


# Rows of a window that lies inside the input. block, from 9 on: to, from, bytes of a row, rows, bytes from the end of a row to
# the next
@micropython.asm_thumb
def _rows(r0):
    ldr(r1, [r0, 36])
    ldr(r2, [r0, 40])
    ldr(r3, [r0, 44])
    ldr(r4, [r0, 48])
    ldr(r5, [r0, 52])
    label(ROW)
    mov(r6, r3)
    label(BYTE)
    ldrb(r7, [r2, 0])
    strb(r7, [r1, 0])
    add(r2, 1)
    add(r1, 1)
    sub(r6, 1)
    bne(BYTE)
    add(r2, r2, r5)
    sub(r4, 1)
    bne(ROW)


@micropython.viper
def _gather(x: ptr8, d: ptr32, o: int, iy: int, ix: int, kernel_h: int, kernel_w: int):
    # a window that hangs over an edge, with zeros outside
    to = ptr8(_window)
    in_h = int(d[o + 1])
    in_w = int(d[o + 2])
    c = int(d[o + 3])
    at = 0
    ky = 0
    while ky < kernel_h:
        kx = 0
        while kx < kernel_w:
            y = iy + ky
            xx = ix + kx
            end = at + c
            if y >= 0 and y < in_h and xx >= 0 and xx < in_w:
                xa = (y * in_w + xx) * c
                while at < end:
                    to[at] = x[xa]
                    xa += 1
                    at += 1
            else:
                while at < end:
                    to[at] = 0
                    at += 1
            kx += 1
        ky += 1


@micropython.viper
def _conv2d(x: ptr8, w: ptr8, q: ptr32, y: ptr8, d: ptr32, o: int, kernel_h: int, kernel_w: int, xs, ds):
    p = ptr32(_p)
    in_h = int(d[o + 1])
    in_w = int(d[o + 2])
    c = int(d[o + 3])
    out_h = int(d[o + 4])
    out_w = int(d[o + 5])
    out_c = int(d[o + 6])
    stride = int(d[o + 8])
    pad_h = int(d[o + 9])
    pad_w = pad_h
    if kernel_h == 1:
        pad_h = 0
    if kernel_w == 1:
        pad_w = 0
    run = kernel_w * c
    n = kernel_h * run
    window = int(ptr8(_window))
    p[0] = window + n
    p[1] = int(w) + int(d[o + 12]) + n
    p[2] = n
    p[3] = out_c
    p[4] = int(d[o + 10])
    p[5] = int(d[o + 11])
    p[6] = 1 << (int(d[o + 11]) - 1)
    p[7] = int(q) + 4 * int(d[o + 13])
    p[8] = int(y)
    p[9] = window
    p[11] = run
    p[12] = kernel_h
    p[13] = (in_w - kernel_w) * c
    oy = 0
    while oy < out_h:
        iy = oy * stride - pad_h
        inside_h = iy >= 0 and iy + kernel_h <= in_h
        ox = 0
        while ox < out_w:
            ix = ox * stride - pad_w
            if inside_h and ix >= 0 and ix + kernel_w <= in_w:
                p[10] = int(x) + (iy * in_w + ix) * c
                _rows(_p)
            else:
                _gather(xs, ds, o, iy, ix, kernel_h, kernel_w)
            _dots(_p)
            p[8] = int(p[8]) + out_c
            ox += 1
        oy += 1


def conv2d(x, w, q, y, d, o):
    kernel_h = d[o + 7]
    kernel_w = d[o + 14] or kernel_h
    if d[o] != 1 or kernel_h * kernel_w * d[o + 3] > WINDOW_BYTES:
        conv2d_viper(x, w, q, y, d, o)
    else:
        _conv2d(x, w, q, y, d, o, kernel_h, kernel_w, x, d)
