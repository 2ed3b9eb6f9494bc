# The arithmetic of tinycl: every constant that the NumPy reference on the host and the kernels on the board must share.
# Runs unchanged under CPython and MicroPython; needs `array` only. Allocates EXP2 (512 bytes) once, at import.
#
# Fixed-point formats (value = integer / 2**FRAC):
#   sample, latent, hidden unit   int8, -128..127 (0..127 behind a ReLU)   X_FRAC  = 7
#   head weight, bias             int32, |w| <= W_MAX                      W_FRAC  = 20
#   logit                         int32                                    Z_FRAC  = (W_FRAC - W_SHIFT) + X_FRAC = 19
#   probability, softmax error    int32, |e| <= 2**15                      E_FRAC  = 15
#
# Why nothing overflows 32 bits:
#   logit       |w >> 8| <= 2**15, |x| <= 2**7, at most MAX_INPUTS = 500 of them, one bias: < 501 * 2**22 < 2**31
#   update      |e * x| <= 2**15 * 2**7 = 2**22, and |w| <= 2**23 before it is clamped again
#   backprop    |w >> 12| <= 2**11, the sum of |e| over all classes <= 2**16: < 2**27
#   requantise  (acc + bias) >> shift1 is clamped to 16 bits (the host chooses shift1 so that it never has to be);
#               mult < 2**15; rounding < 2**30
#   distance    (x - c)**2 <= 255**2, at most MAX_INPUTS of them: < 2**25
from array import array

X_FRAC = 7
W_FRAC = 20
W_SHIFT = 8
W_MAX = (1 << 23) - 1
Z_FRAC = W_FRAC - W_SHIFT + X_FRAC
E_FRAC = 15
E_ONE = 1 << E_FRAC
BACK_SHIFT = 12  # weights lose this many bits on the way back through the last layer
BACK_E_SHIFT = W_FRAC - BACK_SHIFT  # brings a back-propagated error to E_FRAC
HIDDEN_SHIFT = 13  # hidden unit = clamp(z >> HIDDEN_SHIFT, 0, 127): 127 stands for a pre-activation of about 2
BIAS_INPUT = 127  # a bias is the weight of an input that is always this

MAX_INPUTS = 500  # inputs of one layer of the head, bias not counted
MAX_CLASSES = 64
MAX_HIDDEN = 128

# softmax: exp(-t) = 2**(-u) with u = t * log2(e), the integer part of u a shift and its fraction a table (steps at EXP2)
LOG2E = 5909  # round(log2(e) * 2**12)
T_SHIFT = Z_FRAC - 12  # t >> T_SHIFT has 12 fraction bits
T_MAX = (16 << 12) - 1  # t is cut below 16: exp(-16) is 0 at E_FRAC


def _exp2_table():
    # 2**(-i/256) with E_FRAC bits by repeated multiplication in integers: the same on every machine, unlike float pow
    table = array("H", bytes(512))
    v = 1 << 40
    r = 1096538610001  # round(2**40 * 2**(-1/256))
    for i in range(256):
        table[i] = (v + (1 << 24)) >> 25
        v = v * r >> 40
    return table


# EXP2[i] = 2**(-i / 256) at E_FRAC. The softmax over n logits z, all of them exact integer steps:
#   t = min((max(z) >> T_SHIFT) - (z_i >> T_SHIFT), T_MAX)   12 fraction bits, below 16.0; shifted first, as the
#                                                            difference of two logits may need 33 bits
#   u = t * LOG2E >> 16                            8 fraction bits; t * LOG2E < 2**29
#   v_i = EXP2[u & 255] >> (u >> 8)
#   r = (1 << 30) // sum(v)                        sum(v) >= 2**15, so r <= 2**15
#   p_i = v_i * r >> 15
EXP2 = _exp2_table()
