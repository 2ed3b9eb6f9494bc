# The FFT's stage of the log-mel front end in inline assembler, for Cortex-M: logmel.py takes it in place of its own where this
# file loads, and elsewhere (SyntaxError) keeps that. Equal to shared/logmel.py to the bit. Allocates a block of 9 words once.
#
# Only what every Cortex-M has (ARMv6-M). What the assembler of MicroPython lacks is there as data:
#   0xc8.. ldmia   0xc0.. stmia   0x44.. add with a high register   0x5e.. ldrsh with a register as offset   0x9.00 ldr from sp
from array import array

import micropython

_p = array("i", bytes(36))


# block: &z[2 k], bytes from a to b, bytes from the end of a to the next a, s, half, end of z, cos, 2 a, bytes between twiddles;
# r1 counts them. r8 s, r9 half, r10 c, r11 d, r12 bytes to the next, r14 the OR of all magnitudes.
@micropython.asm_thumb
def _stage(r0, r1):
    mov(r4, r8)
    mov(r5, r9)
    mov(r6, r10)
    mov(r7, r11)
    push({r4, r5, r6, r7})
    push({r0, r1})
    ldr(r2, [r0, 8])
    mov(r12, r2)
    ldr(r2, [r0, 12])
    mov(r8, r2)
    ldr(r2, [r0, 16])
    mov(r9, r2)
    mov(r2, 0)
    mov(r14, r2)
    label(TWIDDLE)
    data(2, 0x9F00)  # ldr r7, [sp, 0]
    ldr(r2, [r7, 28])
    ldr(r3, [r7, 24])
    data(2, 0x5E9C)  # ldrsh r4, [r3, r2]
    mov(r10, r4)
    sub(r2, 255)
    sub(r2, 1)
    bpl(SINE)
    neg(r2, r2)
    label(SINE)
    data(2, 0x5E9C)
    mov(r11, r4)
    ldr(r0, [r7, 0])
    ldr(r1, [r7, 4])
    add(r1, r0, r1)
    label(BUTTERFLY)
    data(2, 0xC90C)  # ldmia r1!, {r2, r3}
    sub(r1, 8)
    mov(r7, r9)
    add(r2, r2, r7)
    add(r3, r3, r7)
    mov(r7, r8)
    asr(r2, r7)
    asr(r3, r7)
    mov(r6, r10)
    mov(r7, r11)
    mov(r4, r2)
    mul(r4, r6)
    mov(r5, r3)
    mul(r5, r7)
    add(r4, r4, r5)
    mul(r3, r6)
    mul(r2, r7)
    sub(r3, r3, r2)
    mov(r5, 1)
    lsl(r5, r5, 13)
    add(r4, r4, r5)
    add(r3, r3, r5)
    asr(r4, r4, 14)  # tr
    asr(r3, r3, 14)  # ti
    ldr(r2, [r0, 0])
    ldr(r5, [r0, 4])
    mov(r7, r9)
    add(r2, r2, r7)
    add(r5, r5, r7)
    mov(r7, r8)
    asr(r2, r7)
    asr(r5, r7)
    add(r6, r2, r4)
    sub(r2, r2, r4)
    add(r7, r5, r3)
    sub(r5, r5, r3)
    data(2, 0xC0C0)  # stmia r0!, {r6, r7}
    data(2, 0xC124)  # stmia r1!, {r2, r5}
    mov(r4, r14)
    asr(r3, r2, 31)
    eor(r3, r2)
    orr(r4, r3)
    asr(r3, r5, 31)
    eor(r3, r5)
    orr(r4, r3)
    asr(r3, r6, 31)
    eor(r3, r6)
    orr(r4, r3)
    asr(r3, r7, 31)
    eor(r3, r7)
    orr(r4, r3)
    mov(r14, r4)
    data(2, 0x4460)  # add r0, r12
    data(2, 0x4461)  # add r1, r12
    data(2, 0x9F00)
    ldr(r3, [r7, 20])
    cmp(r0, r3)
    bcc(BUTTERFLY)
    ldr(r2, [r7, 0])
    add(r2, 8)
    str(r2, [r7, 0])
    ldr(r2, [r7, 28])
    ldr(r3, [r7, 32])
    add(r2, r2, r3)
    str(r2, [r7, 28])
    data(2, 0x9E01)  # ldr r6, [sp, 4]
    sub(r6, 1)
    data(2, 0x9601)  # str r6, [sp, 4]
    bne(TWIDDLE)
    pop({r0, r1})
    mov(r0, r14)
    pop({r4, r5, r6, r7})
    mov(r8, r4)
    mov(r9, r5)
    mov(r10, r6)
    mov(r11, r7)


@micropython.viper
def stage(z: ptr32, span: int, cos: ptr16, s: int) -> int:
    p = ptr32(_p)
    p[0] = int(z)
    p[1] = 8 * span
    p[2] = 16 * span - 8
    p[3] = s
    p[4] = 1 << s >> 1
    p[5] = int(z) + 2048
    p[6] = int(cos)
    p[7] = 0
    p[8] = 512 // span
    return int(_stage(_p, span))
