// The kernels of device/kernels/plain.py in C, as a MicroPython native module: the fast path on stock firmware.
// Integers only, no division, no writable data of its own, nothing allocated: links for every architecture, armv6m included.
// Depends on MicroPython's py/dynruntime.h, and on fixed.h, which the Makefile makes from shared/fixed.py and shared/blob.py.
//
// What keeps 32 bits (constants of shared/fixed.py; a call outside of what is checked is a ValueError):
//   dense     |w >> W_SHIFT| <= 2^15, |x| <= 2^7, n <= MAX_INPUTS checked, one bias: < 501 * 2^22 < 2^31
//   update    |e * x| <= 2^15 * 2^7, |w| <= 2^23 before: < 2^24
//   back      |w >> BACK_SHIFT| <= 2^11, sum of |e| <= 2^16: < 2^27
//   softmax   any z: shifted by T_SHIFT before the difference; t <= T_MAX < 2^16, t * LOG2E < 2^29; 2^15 <= sum of v
//   conv2d    the blob's writer keeps |bias + sum| <= MAX_ACC; clamped to 16 bits before mult < 2^15 is applied
//   distance  n * 255^2 < 2^31 for n <= 32768, checked
// Weights or errors that break these bounds wrap (-fwrapv); they never move an address. Every address comes from a buffer
// whose length was checked against the sizes of the same call.
#include "py/dynruntime.h"
#include "fixed.h"

#define HOT static __attribute__((noinline))

// Inner loops. On a Cortex-M0+ a load takes 2 cycles but ldm of n words 1 + n, a taken branch 2, all else 1: so words are
// taken in pairs, four int8 channels share each x, and sums live in the high registers, where only add reaches them.

#if defined(__ARM_ARCH_6M__)

// acc[k] += sum of x_end[i] * w_end[k * stride + i] for i = -n .. -1 and k = 0 .. 3. n > 0.
__attribute__((naked)) static void dot4(const int8_t *x_end, int minus_n, const int8_t *w_end, int stride, int32_t *acc) {
    __asm volatile (
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "mov r4, r8\n mov r5, r9\n mov r6, r10\n mov r7, r11\n"
        "push {r4-r7}\n"
        "ldr r7, [sp, #36]\n"
        "ldmia r7!, {r4-r6}\n"
        "mov r8, r4\n mov r9, r5\n mov r10, r6\n"
        "ldr r6, [r7]\n mov r11, r6\n"
        "adds r4, r2, r3\n adds r5, r4, r3\n adds r3, r5, r3\n" // w_end of channels 0 to 3: r2, r4, r5, r3
        ".macro dot4_one\n"
        "ldrsb r6, [r0, r1]\n"
        "ldrsb r7, [r2, r1]\n muls r7, r6, r7\n add r8, r7\n"
        "ldrsb r7, [r4, r1]\n muls r7, r6, r7\n add r9, r7\n"
        "ldrsb r7, [r5, r1]\n muls r7, r6, r7\n add r10, r7\n"
        "ldrsb r7, [r3, r1]\n muls r7, r6, r7\n add r11, r7\n"
        "adds r1, r1, #1\n"
        ".endm\n"
        "lsls r6, r1, #30\n beq 2f\n"
        "1: dot4_one\n lsls r6, r1, #30\n bne 1b\n" // until what is left is a multiple of 4
        "2: cmp r1, #0\n beq 4f\n"
        "3: dot4_one\n dot4_one\n dot4_one\n dot4_one\n bne 3b\n"
        "4: ldr r7, [sp, #36]\n"
        "mov r4, r8\n mov r5, r9\n mov r6, r10\n"
        "stmia r7!, {r4-r6}\n"
        "mov r4, r11\n str r4, [r7]\n"
        "pop {r4-r7}\n"
        "mov r8, r4\n mov r9, r5\n mov r10, r6\n mov r11, r7\n"
        "pop {r4-r7, pc}\n"
        );
}

// z[i] += sum of (w[i * stride + j] >> 8) * x[j], two rows at a time. x_end - x is a multiple of 8 and
// z_end - z one of 2, neither 0.
__attribute__((naked)) static void dense_pairs(
    const int32_t *w, const int32_t *x, const int32_t *x_end, int32_t *z, int32_t *z_end, uint32_t stride) {
    __asm volatile (
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "mov r4, r8\n mov r5, r9\n mov r6, r10\n mov r7, r11\n"
        "push {r4-r7}\n"
        "mov r12, r1\n mov r10, r2\n mov r11, r3\n"
        "ldr r4, [sp, #40]\n lsls r4, r4, #2\n" // bytes of a row
        "subs r5, r2, r1\n"
        "adds r1, r0, r4\n" // rows a and b at r0 and r1
        "lsls r4, r4, #1\n subs r4, r4, r5\n mov lr, r4\n" // from behind a's columns to the next pair's
        "1:\n"
        "mov r7, r11\n ldr r3, [r7]\n mov r8, r3\n ldr r3, [r7, #4]\n mov r9, r3\n"
        "mov r2, r12\n"
        "2:\n"
        ".rept 4\n"
        "ldmia r2!, {r3, r4}\n"
        "ldmia r0!, {r5, r6}\n"
        "asrs r5, r5, #8\n asrs r6, r6, #8\n muls r5, r3, r5\n muls r6, r4, r6\n add r8, r5\n add r8, r6\n"
        "ldmia r1!, {r5, r6}\n"
        "asrs r5, r5, #8\n asrs r6, r6, #8\n muls r5, r3, r5\n muls r6, r4, r6\n add r9, r5\n add r9, r6\n"
        ".endr\n"
        "cmp r2, r10\n bne 2b\n"
        "mov r3, r8\n mov r4, r9\n stmia r7!, {r3, r4}\n mov r11, r7\n"
        "add r0, lr\n add r1, lr\n"
        "ldr r3, [sp, #36]\n cmp r7, r3\n bne 1b\n"
        "pop {r4-r7}\n"
        "mov r8, r4\n mov r9, r5\n mov r10, r6\n mov r11, r7\n"
        "pop {r4-r7, pc}\n"
        );
}

// w[i * stride + j] -= (e[i] * x[j]) >> shift; rows whose error is 0 stay. x_end - x is a multiple of 8, not 0;
// e_end > e.
__attribute__((naked)) static void update_rows(
    int32_t *w, const int32_t *x, int shift, const int32_t *e, const int32_t *x_end, const int32_t *e_end, uint32_t stride) {
    __asm volatile (
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "mov r4, r8\n mov r5, r9\n mov r6, r10\n mov r7, r11\n"
        "push {r4-r7}\n"
        "ldr r4, [sp, #36]\n mov r8, r4\n" // x_end
        "mov r9, r1\n mov r10, r3\n"
        "ldr r5, [sp, #40]\n mov r11, r5\n" // e_end
        "subs r4, r4, r1\n mov r12, r4\n" // bytes of the columns
        "ldr r5, [sp, #44]\n lsls r5, r5, #2\n subs r5, r5, r4\n mov lr, r5\n" // from behind them to the next row
        "1:\n"
        "mov r4, r10\n ldmia r4!, {r3}\n mov r10, r4\n"
        "cmp r3, #0\n beq 3f\n"
        "mov r1, r9\n"
        "2:\n"
        ".rept 4\n"
        "ldmia r1!, {r4, r5}\n"
        "muls r4, r3, r4\n muls r5, r3, r5\n asrs r4, r4, r2\n asrs r5, r5, r2\n"
        "ldr r6, [r0]\n ldr r7, [r0, #4]\n"
        "subs r6, r6, r4\n subs r7, r7, r5\n"
        "stmia r0!, {r6, r7}\n"
        ".endr\n"
        "cmp r1, r8\n bne 2b\n"
        "add r0, lr\n"
        "cmp r10, r11\n bne 1b\n"
        "b 4f\n"
        "3: add r0, r12\n add r0, lr\n"
        "cmp r10, r11\n bne 1b\n"
        "4:\n"
        "pop {r4-r7}\n"
        "mov r8, r4\n mov r9, r5\n mov r10, r6\n mov r11, r7\n"
        "pop {r4-r7, pc}\n"
        );
}

#else

HOT void dot4(const int8_t *x_end, int minus_n, const int8_t *w_end, int stride, int32_t *acc) {
    int32_t s0 = acc[0], s1 = acc[1], s2 = acc[2], s3 = acc[3];
    const int8_t *w1 = w_end + stride, *w2 = w1 + stride, *w3 = w2 + stride;
    for (intptr_t i = minus_n; i < 0; ++i) {
        int32_t x = x_end[i];
        s0 += x * w_end[i];
        s1 += x * w1[i];
        s2 += x * w2[i];
        s3 += x * w3[i];
    }
    acc[0] = s0;
    acc[1] = s1;
    acc[2] = s2;
    acc[3] = s3;
}

HOT void dense_pairs(
    const int32_t *w, const int32_t *x, const int32_t *x_end, int32_t *z, int32_t *z_end, uint32_t stride) {
    int n = x_end - x;
    for (; z < z_end; z += 2, w += 2 * stride) {
        const int32_t *b = w + stride;
        int32_t s0 = z[0], s1 = z[1];
        for (int j = 0; j < n; ++j) {
            s0 += (w[j] >> W_SHIFT) * x[j];
            s1 += (b[j] >> W_SHIFT) * x[j];
        }
        z[0] = s0;
        z[1] = s1;
    }
}

HOT void update_rows(
    int32_t *w, const int32_t *x, int shift, const int32_t *e, const int32_t *x_end, const int32_t *e_end, uint32_t stride) {
    int n = x_end - x;
    for (; e < e_end; ++e, w += stride) {
        int err = *e;
        if (err) {
            for (int j = 0; j < n; ++j) {
                w[j] -= err * x[j] >> shift;
            }
        }
    }
}

#endif

static inline int32_t clamp(int32_t v, int32_t low, int32_t high) {
    return v < low ? low : v > high ? high : v;
}

// Arguments

__attribute__((noinline, noreturn)) static void refuse(void) {
    mp_raise_ValueError("a size, an offset or a buffer of this call does not fit the others: see kernels/plain.py");
    for (;;) {
    }
}

static inline void check(bool ok) {
    if (!ok) {
        refuse();
    }
}

typedef struct {
    void *at;
    uint32_t n; // items
} span_t;

static span_t bytes_of(mp_obj_t o, mp_uint_t flags) {
    mp_buffer_info_t info;
    mp_get_buffer_raise(o, &info, flags);
    check(info.len < (1u << 30));
    return (span_t) {info.buf, info.len};
}

static span_t words_of(mp_obj_t o, mp_uint_t flags) {
    span_t s = bytes_of(o, flags);
    check(((uintptr_t)s.at & 3) == 0);
    s.n >>= 2;
    return s;
}

// Offset and length of a part: both at least 0, and within n items.
static inline bool within(uint32_t at, uint32_t length, uint32_t n) {
    return at <= n && length <= n - at;
}

// Columns col .. col + n - 1 of `rows` rows of `stride` weights lie within w.
static void check_rows(uint32_t have, uint32_t stride, uint32_t rows, uint32_t col, uint32_t n) {
    check(n <= MAX_INPUTS && rows <= 0x7fff && stride <= 0x7fff && col >= 1 && within(col, n, stride) && rows * stride <= have);
}

// Backbone

#define PATCH_BYTES 640 // on the stack; a window larger than that is read in place, a channel at a time

typedef struct {
    int in_h, in_w, in_c, out_h, out_w, out_c, kernel_h, kernel_w, stride, pad_h, pad_w, shift1, shift2;
} layer_t;

static inline void requantise(int32_t acc, const int32_t *q, const layer_t *l, int8_t *y) {
    int32_t v = clamp(acc >> l->shift1, -E_ONE, E_ONE - 1) * q[1] + (1 << (l->shift2 - 1));
    *y = clamp(v >> l->shift2, 0, 127);
}

static void copy(int8_t *to, const int8_t *from, int n, bool aligned) {
    if (aligned) {
        for (int i = 0; i < n >> 2; ++i) {
            ((int32_t *)to)[i] = ((const int32_t *)from)[i];
        }
        return;
    }
    for (; n >= 4; n -= 4, to += 4, from += 4) {
        int8_t a = from[0], b = from[1], c = from[2], d = from[3];
        to[0] = a;
        to[1] = b;
        to[2] = c;
        to[3] = d;
    }
    while (n-- > 0) {
        *to++ = *from++;
    }
}

static inline void zeros(int8_t *to, int n) {
    while (n-- > 0) {
        *to++ = 0;
    }
}

// The window at (iy, ix), with zeros where it hangs over the edge.
static void gather(const int8_t *x, const layer_t *l, int iy, int ix, int8_t *to, bool aligned) {
    int run = l->kernel_w * l->in_c, left = 0, width = l->kernel_w;
    if (ix < 0) {
        left = -ix;
        width += ix;
    }
    if (ix + l->kernel_w > l->in_w) {
        width -= ix + l->kernel_w - l->in_w;
    }
    left *= l->in_c;
    width = width < 0 ? 0 : width * l->in_c;
    const int8_t *from = x + (iy * l->in_w + ix) * l->in_c + left;
    for (int ky = 0; ky < l->kernel_h; ++ky, ++iy, to += run, from += l->in_w * l->in_c) {
        if (iy < 0 || iy >= l->in_h || width == 0) {
            zeros(to, run);
            continue;
        }
        if (width != run) {
            zeros(to, left);
            zeros(to + left + width, run - left - width);
        }
        copy(to + left, from, width, aligned);
    }
}

static void conv_standard(const int8_t *x, const int8_t *w, const int32_t *q, int8_t *y, const layer_t *l) {
    int32_t patch[PATCH_BYTES / 4];
    int n = l->kernel_h * l->kernel_w * l->in_c;
    bool aligned = ((l->in_c | (uintptr_t)x) & 3) == 0;
    // A 1x1 window is its own patch.
    bool pointwise = l->kernel_h == 1 && l->kernel_w == 1;
    for (int oy = 0; oy < l->out_h; ++oy) {
        int iy = oy * l->stride - l->pad_h;
        for (int ox = 0; ox < l->out_w; ++ox) {
            int ix = ox * l->stride - l->pad_w;
            const int8_t *end = (int8_t *)patch + n;
            if (pointwise) {
                end = x + (iy * l->in_w + ix) * l->in_c + n;
            } else {
                gather(x, l, iy, ix, (int8_t *)patch, aligned);
            }
            const int8_t *we = w + n;
            const int32_t *qe = q;
            int oc = l->out_c;
            for (; oc >= 4; oc -= 4, we += 4 * n, qe += 8, y += 4) {
                int32_t acc[4] = {qe[0], qe[2], qe[4], qe[6]};
                dot4(end, -n, we, n, acc);
                requantise(acc[0], qe, l, y);
                requantise(acc[1], qe + 2, l, y + 1);
                requantise(acc[2], qe + 4, l, y + 2);
                requantise(acc[3], qe + 6, l, y + 3);
            }
            for (; oc; --oc, we += n, qe += 2) {
                int32_t acc = qe[0];
                for (intptr_t i = -n; i < 0; ++i) {
                    acc += end[i] * we[i];
                }
                requantise(acc, qe, l, y++);
            }
        }
    }
}

// In place: a depthwise window (each channel has kernels and windows of its own), or one too large for a patch.
static void conv_in_place(const int8_t *x, const int8_t *w, const int32_t *q, int8_t *y, const layer_t *l, bool depthwise) {
    int c = l->in_c, run = depthwise ? 1 : c, area = l->kernel_h * l->kernel_w * run;
    for (int oy = 0; oy < l->out_h; ++oy) {
        int iy = oy * l->stride - l->pad_h;
        int ky0 = iy < 0 ? -iy : 0, ky1 = l->in_h - iy < l->kernel_h ? l->in_h - iy : l->kernel_h;
        for (int ox = 0; ox < l->out_w; ++ox) {
            int ix = ox * l->stride - l->pad_w;
            int kx0 = ix < 0 ? -ix : 0, kx1 = l->in_w - ix < l->kernel_w ? l->in_w - ix : l->kernel_w;
            const int8_t *corner = x + (iy * l->in_w + ix) * c;
            for (int oc = 0; oc < l->out_c; ++oc) {
                int32_t acc = q[2 * oc];
                for (int ky = ky0; ky < ky1; ++ky) {
                    const int8_t *xa = corner + (ky * l->in_w + kx0) * c + (depthwise ? oc : 0);
                    const int8_t *wa = w + oc * area + (ky * l->kernel_w + kx0) * run;
                    if (depthwise) {
                        for (int kx = kx0; kx < kx1; ++kx, xa += c) {
                            acc += *xa * *wa++;
                        }
                    } else {
                        for (int i = (kx1 - kx0) * c; i > 0; --i) {
                            acc += *xa++ * *wa++;
                        }
                    }
                }
                requantise(acc, q + 2 * oc, l, y++);
            }
        }
    }
}

// conv2d(x, w, q, y, d, o)
static mp_obj_t conv2d(size_t n_args, const mp_obj_t *args) {
    span_t x = bytes_of(args[0], MP_BUFFER_READ), w = bytes_of(args[1], MP_BUFFER_READ), q = words_of(args[2], MP_BUFFER_READ);
    span_t y = bytes_of(args[3], MP_BUFFER_WRITE), d = words_of(args[4], MP_BUFFER_READ);
    uint32_t o = mp_obj_get_int(args[5]);
    check(within(o, LAYER_INTS, d.n));
    const int32_t *t = (const int32_t *)d.at + o;
    layer_t l = {t[IN_H], t[IN_W], t[IN_C], t[OUT_H], t[OUT_W], t[OUT_C], t[KERNEL], t[KERNEL_W] ? t[KERNEL_W] : t[KERNEL],
                 t[STRIDE], t[PAD], t[PAD], t[SHIFT1], t[SHIFT2]};
    for (int i = IN_H; i <= OUT_W; ++i) { // sides, and the channels among them, at least 1
        check((uint32_t)t[i] - 1 < MAX_SIDE);
    }
    bool depthwise = t[OP] == DEPTHWISE2D;
    check((uint32_t)l.in_c <= MAX_CHANNELS && (uint32_t)l.out_c - 1 < MAX_CHANNELS && (!depthwise || l.in_c == l.out_c)
        && (uint32_t)l.kernel_h - 1 < 16 && (uint32_t)l.kernel_w - 1 < 16 && (uint32_t)l.stride - 1 < 16
        && (uint32_t)t[PAD] < 16 && (uint32_t)l.shift1 <= 30 && (uint32_t)l.shift2 - 1 < 30);
    if (l.kernel_h == 1) {
        l.pad_h = 0;
    }
    if (l.kernel_w == 1) {
        l.pad_w = 0;
    }
    // the last window begins inside the padded input, so none reaches behind the buffer: gather and in place cut at its edges
    check((l.out_h - 1) * l.stride < l.in_h + l.pad_h && (l.out_w - 1) * l.stride < l.in_w + l.pad_w);
    uint32_t area = l.kernel_h * l.kernel_w * (depthwise ? 1 : l.in_c); // < 2^17
    check((uint32_t)(l.in_h * l.in_w * l.in_c) <= x.n && (uint32_t)(l.out_h * l.out_w * l.out_c) <= y.n
        && within(t[W_AT], area * l.out_c, w.n) && within(t[Q_AT], 2 * l.out_c, q.n));
    const int8_t *weights = (const int8_t *)w.at + t[W_AT];
    const int32_t *quant = (const int32_t *)q.at + t[Q_AT];
    if (depthwise || area > PATCH_BYTES) {
        conv_in_place(x.at, weights, quant, y.at, &l, depthwise);
    } else {
        conv_standard(x.at, weights, quant, y.at, &l);
    }
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(conv2d_obj, 6, 6, conv2d);

// maxpool2d(x, h, w, c, k, stride, y, yo)
static mp_obj_t maxpool2d(size_t n_args, const mp_obj_t *args) {
    span_t x = bytes_of(args[0], MP_BUFFER_READ), y = bytes_of(args[6], MP_BUFFER_WRITE);
    uint32_t v[5];
    for (int i = 0; i < 5; ++i) {
        v[i] = mp_obj_get_int(args[1 + i]);
        check(v[i] - 1 < MAX_SIDE);
    }
    uint32_t h = v[0], w = v[1], c = v[2], k = v[3], stride = v[4], yo = mp_obj_get_int(args[7]);
    check(k <= h && k <= w && h * w * c <= x.n);
    uint32_t oh = 1, ow = 1;
    for (uint32_t at = stride; at <= h - k; at += stride) {
        ++oh;
    }
    for (uint32_t at = stride; at <= w - k; at += stride) {
        ++ow;
    }
    check(within(yo, oh * ow * c, y.n));
    int8_t *to = (int8_t *)y.at + yo;
    for (uint32_t oy = 0; oy < oh; ++oy) {
        for (uint32_t ox = 0; ox < ow; ++ox) {
            const int8_t *corner = (const int8_t *)x.at + (oy * stride * w + ox * stride) * c;
            for (uint32_t ch = 0; ch < c; ++ch, ++corner) {
                int best = -128;
                const int8_t *row = corner;
                for (uint32_t ky = 0; ky < k; ++ky, row += w * c) {
                    const int8_t *at = row;
                    for (uint32_t kx = 0; kx < k; ++kx, at += c) {
                        best = *at > best ? *at : best;
                    }
                }
                *to++ = best;
            }
        }
    }
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(maxpool2d_obj, 8, 8, maxpool2d);

// Head

static int32_t product(const int32_t *w, const int8_t *x, int n, int32_t acc) {
    for (int j = 0; j < n; ++j) {
        acc += (w[j] >> W_SHIFT) * x[j];
    }
    return acc;
}

static int32_t product_wide(const int32_t *w, const int32_t *x, int n, int32_t acc) {
    for (int j = 0; j < n; ++j) {
        acc += (w[j] >> W_SHIFT) * x[j];
    }
    return acc;
}

// int8 to int32, so that pairs can be loaded at once
static void widen(const int8_t *x, int n, int32_t *to) {
    for (; n >= 4; n -= 4, x += 4, to += 4) {
        int32_t a = x[0], b = x[1], c = x[2], d = x[3];
        to[0] = a;
        to[1] = b;
        to[2] = c;
        to[3] = d;
    }
    while (n-- > 0) {
        *to++ = *x++;
    }
}

// z += W x for `rows` rows of n columns from w on, x widened
static void dense_wide(const int32_t *w, uint32_t stride, int rows, const int32_t *x, int n, int32_t *z) {
    int whole = n & ~7, paired = rows & ~1;
    if (whole && paired) {
        dense_pairs(w, x, x + whole, z, z + paired, stride);
    }
    if (whole != n) {
        for (int i = 0; i < paired; ++i) {
            z[i] = product_wide(w + i * stride + whole, x + whole, n - whole, z[i]);
        }
    }
    if (paired != rows) {
        z[paired] = product_wide(w + paired * stride, x, n, z[paired]);
    }
}

static void biases(const int32_t *w, int stride, int rows, int32_t *z) {
    for (; rows; --rows, w += stride) {
        *z++ = (*w >> W_SHIFT) * BIAS_INPUT;
    }
}

static void relu_to(const int32_t *z, int n, int8_t *h) {
    for (int j = 0; j < n; ++j) {
        h[j] = clamp(z[j] >> HIDDEN_SHIFT, 0, 127);
    }
}

// e = softmax(z) at E_FRAC; returns the first index of the largest z
static int softmax_to(const int32_t *z, int n, int32_t *e, const uint16_t *exp2) {
    int best = 0;
    for (int i = 1; i < n; ++i) {
        if (z[i] > z[best]) {
            best = i;
        }
    }
    int32_t top = z[best] >> T_SHIFT;
    uint32_t total = 0;
    for (int i = 0; i < n; ++i) {
        int32_t t = top - (z[i] >> T_SHIFT);
        uint32_t u = (uint32_t)(t > T_MAX ? T_MAX : t) * LOG2E >> 16;
        e[i] = exp2[u & 255] >> (u >> 8);
        total += e[i];
    }
    // (1 << 30) / total by shift and subtract, as there is no division on armv6m; 2^15 <= total, so the quotient has 16 bits
    uint32_t r = 0, rest = 1u << 30;
    for (int bit = 15; bit >= 0; --bit) {
        if (rest >> bit >= total) {
            rest -= total << bit;
            r += 1u << bit;
        }
    }
    for (int i = 0; i < n; ++i) {
        e[i] = (uint32_t)e[i] * r >> E_FRAC;
    }
    return best;
}

static void update_clamped(int32_t *w, const int8_t *x, int n, int e, int shift) {
    for (int j = 0; j < n; ++j) {
        w[j] = clamp(w[j] - (e * x[j] >> shift), -W_MAX, W_MAX);
    }
}

static void back_to(const int32_t *w, int stride, int rows, int n, const int32_t *e, const int8_t *h, int32_t *g) {
    for (int j = 0; j < n; ++j) {
        int32_t acc = 0;
        if (0 < h[j] && h[j] < 127) {
            const int32_t *at = w + j;
            for (int i = 0; i < rows; ++i, at += stride) {
                acc += (*at >> BACK_SHIFT) * e[i];
            }
            acc = clamp(acc >> BACK_E_SHIFT, -E_ONE, E_ONE);
        }
        g[j] = acc;
    }
}

// dense(w, stride, rows, col, x, xo, n, z)
static mp_obj_t dense(size_t n_args, const mp_obj_t *args) {
    span_t w = words_of(args[0], MP_BUFFER_READ), x = bytes_of(args[4], MP_BUFFER_READ), z = words_of(args[7], MP_BUFFER_WRITE);
    uint32_t stride = mp_obj_get_int(args[1]), rows = mp_obj_get_int(args[2]), col = mp_obj_get_int(args[3]);
    uint32_t xo = mp_obj_get_int(args[5]), n = mp_obj_get_int(args[6]);
    check_rows(w.n, stride, rows, col, n);
    check(within(xo, n, x.n) && rows <= z.n);
    const int32_t *row = w.at;
    for (uint32_t i = 0; i < rows; ++i, row += stride) {
        int32_t *to = (int32_t *)z.at + i;
        *to = product(row + col, (const int8_t *)x.at + xo, n, col == 1 ? (row[0] >> W_SHIFT) * BIAS_INPUT : *to);
    }
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(dense_obj, 8, 8, dense);

// relu(z, n, h, ho)
static mp_obj_t relu(size_t n_args, const mp_obj_t *args) {
    span_t z = words_of(args[0], MP_BUFFER_READ), h = bytes_of(args[2], MP_BUFFER_WRITE);
    uint32_t n = mp_obj_get_int(args[1]), ho = mp_obj_get_int(args[3]);
    check(n <= z.n && within(ho, n, h.n));
    relu_to(z.at, n, (int8_t *)h.at + ho);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(relu_obj, 4, 4, relu);

// softmax(z, n, e, exp2)
static mp_obj_t softmax(size_t n_args, const mp_obj_t *args) {
    span_t z = words_of(args[0], MP_BUFFER_READ), e = words_of(args[2], MP_BUFFER_WRITE);
    span_t exp2 = bytes_of(args[3], MP_BUFFER_READ);
    uint32_t n = mp_obj_get_int(args[1]);
    check(n - 1 < MAX_CLASSES && n <= z.n && n <= e.n && exp2.n >= 512 && ((uintptr_t)exp2.at & 1) == 0);
    softmax_to(z.at, n, e.at, exp2.at);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(softmax_obj, 4, 4, softmax);

// update(w, stride, rows, col, x, xo, n, e, shift)
static mp_obj_t update(size_t n_args, const mp_obj_t *args) {
    span_t w = words_of(args[0], MP_BUFFER_WRITE), x = bytes_of(args[4], MP_BUFFER_READ), e = words_of(args[7], MP_BUFFER_READ);
    uint32_t stride = mp_obj_get_int(args[1]), rows = mp_obj_get_int(args[2]), col = mp_obj_get_int(args[3]);
    uint32_t xo = mp_obj_get_int(args[5]), n = mp_obj_get_int(args[6]), shift = mp_obj_get_int(args[8]);
    check_rows(w.n, stride, rows, col, n);
    check(within(xo, n, x.n) && rows <= e.n && shift <= 15);
    static const int8_t one = BIAS_INPUT;
    int32_t *row = w.at;
    for (uint32_t i = 0; i < rows; ++i, row += stride) {
        int32_t err = ((const int32_t *)e.at)[i];
        if (err == 0) {
            continue;
        }
        if (col == 1) {
            update_clamped(row, &one, 1, err, shift);
        }
        update_clamped(row + col, (const int8_t *)x.at + xo, n, err, shift);
    }
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(update_obj, 9, 9, update);

// back(w, stride, rows, col, n, e, h, ho, g)
static mp_obj_t back(size_t n_args, const mp_obj_t *args) {
    span_t w = words_of(args[0], MP_BUFFER_READ), e = words_of(args[5], MP_BUFFER_READ);
    span_t h = bytes_of(args[6], MP_BUFFER_READ), g = words_of(args[8], MP_BUFFER_WRITE);
    uint32_t stride = mp_obj_get_int(args[1]), rows = mp_obj_get_int(args[2]), col = mp_obj_get_int(args[3]);
    uint32_t n = mp_obj_get_int(args[4]), ho = mp_obj_get_int(args[7]);
    check_rows(w.n, stride, rows, col, n);
    check(rows <= e.n && within(ho, n, h.n) && n <= g.n);
    back_to((const int32_t *)w.at + col, stride, rows, n, e.at, (const int8_t *)h.at + ho, g.at);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(back_obj, 9, 9, back);

// The head in one call: `forward` and `step` of kernels/chain.py

enum { INPUTS, UNITS, MOST_INPUTS, MOST_UNITS, ROOM, DIMS }; // of a model, as in chain.py

typedef struct {
    int32_t *dims, *head, *hidden, *z, *e, *g, *wide;
    int8_t *units;
    const int8_t *x;
    const uint16_t *exp2;
    uint32_t inputs, hiddens, most, stride, classes;
} head_t;

// Takes a model apart and checks all of it: afterwards no index can leave its buffer.
static void take(head_t *m, mp_obj_t model, mp_obj_t classes) {
    size_t items;
    mp_obj_t *part;
    mp_obj_get_array(model, &items, &part);
    check(items == 10);
    span_t s = words_of(part[1], MP_BUFFER_WRITE);
    check(s.n >= DIMS);
    m->dims = s.at;
    m->inputs = m->dims[INPUTS];
    m->hiddens = m->dims[UNITS];
    m->most = m->dims[MOST_INPUTS];
    uint32_t most_units = m->dims[MOST_UNITS];
    m->stride = 1 + m->most + most_units;
    m->classes = mp_obj_get_int(classes);
    check(m->inputs <= m->most && m->most <= MAX_INPUTS && m->hiddens <= most_units && most_units <= MAX_HIDDEN
        && m->classes - 1 < MAX_CLASSES);
    s = words_of(part[2], MP_BUFFER_WRITE);
    check(m->classes * m->stride <= s.n);
    m->head = s.at;
    s = words_of(part[4], MP_BUFFER_WRITE);
    check(m->classes <= s.n);
    m->z = s.at;
    s = words_of(part[5], MP_BUFFER_WRITE);
    check(m->classes <= s.n);
    m->e = s.at;
    if (m->hiddens) {
        s = words_of(part[3], MP_BUFFER_WRITE);
        check(m->hiddens * (1 + m->most) <= s.n);
        m->hidden = s.at;
        s = words_of(part[6], MP_BUFFER_WRITE);
        check(m->hiddens <= s.n);
        m->g = s.at;
        s = bytes_of(part[7], MP_BUFFER_WRITE);
        check(within(m->most, m->hiddens, s.n));
        m->units = (int8_t *)s.at + m->most;
    }
    s = words_of(part[8], MP_BUFFER_WRITE);
    check(m->inputs <= s.n);
    m->wide = s.at;
    s = bytes_of(part[9], MP_BUFFER_READ);
    check(s.n >= 512 && ((uintptr_t)s.at & 1) == 0);
    m->exp2 = s.at;
}

static void take_row(head_t *m, span_t x, uint32_t at) {
    check(within(at, m->inputs, x.n));
    m->x = (const int8_t *)x.at + at;
}

// Logits, hidden units (wide_units: widened too) and probabilities; returns the best class.
static int probabilities(head_t *m, int32_t *wide_units) {
    widen(m->x, m->inputs, m->wide);
    biases(m->head, m->stride, m->classes, m->z);
    dense_wide(m->head + 1, m->stride, m->classes, m->wide, m->inputs, m->z);
    if (m->hiddens) {
        biases(m->hidden, 1 + m->most, m->hiddens, m->g);
        dense_wide(m->hidden + 1, 1 + m->most, m->hiddens, m->wide, m->inputs, m->g);
        relu_to(m->g, m->hiddens, m->units);
        widen(m->units, m->hiddens, wide_units);
        dense_wide(m->head + 1 + m->most, m->stride, m->classes, wide_units, m->hiddens, m->z);
    }
    return softmax_to(m->z, m->classes, m->e, m->exp2);
}

static int32_t largest(const int32_t *v, uint32_t n) {
    int32_t most = 0, least = 0;
    for (; n; --n) {
        int32_t a = *v++;
        most = a > most ? a : most;
        least = a < least ? a : least;
    }
    return most > -least ? most : -least;
}

// w -= (e x) >> shift for `rows` rows of n columns from w on, x widened; for weights that cannot reach W_MAX
static void update_wide(int32_t *w, uint32_t stride, int rows, const int32_t *e, const int32_t *x, int n, int shift) {
    int whole = n & ~7;
    if (whole) {
        update_rows(w, x, shift, e, x + whole, e + rows, stride);
    }
    if (whole != n) {
        for (; rows; --rows, w += stride) {
            int err = *e++;
            for (int j = whole; j < n; ++j) {
                w[j] -= err * x[j] >> shift;
            }
        }
    }
}

// The same with clamping, x as it is
static void update_near(int32_t *w, int stride, int rows, const int32_t *e, const int8_t *x, int n, int shift) {
    for (; rows; --rows, w += stride) {
        update_clamped(w, x, n, *e++, shift);
    }
}

static void update_biases(int32_t *w, int stride, int rows, const int32_t *e, int shift) {
    for (; rows; --rows, w += stride) {
        *w = clamp(*w - (*e++ * BIAS_INPUT >> shift), -W_MAX, W_MAX);
    }
}

// One step of training on m->x; returns 1 - p(label).
static int step_on(head_t *m, int32_t *wide_units, uint32_t label, int shift) {
    probabilities(m, wide_units);
    m->e[label] -= E_ONE;
    int32_t most = -m->e[label]; // probabilities add up to 1 at most: no other error is larger
    if (m->hiddens) {
        back_to(m->head + 1 + m->most, m->stride, m->classes, m->hiddens, m->e, m->units, m->g);
        int32_t g = largest(m->g, m->hiddens);
        most = g > most ? g : most;
    }
    // Clamping costs half as much again as the update. No weight moves by more than `need`, so as long as all of them are
    // further than that from W_MAX, nothing has to be clamped; how far they are is measured only when it may be too little.
    int32_t need = (most << 7 >> shift) + 1, room = m->dims[ROOM];
    if (room < need) {
        int32_t w = largest(m->head, m->classes * m->stride);
        int32_t u = m->hiddens ? largest(m->hidden, m->hiddens * (1 + m->most)) : 0;
        room = W_MAX - (w > u ? w : u);
    }
    bool clamps = room < need;
    m->dims[ROOM] = clamps ? 0 : room - need;
    update_biases(m->head, m->stride, m->classes, m->e, shift);
    if (clamps) {
        update_near(m->head + 1, m->stride, m->classes, m->e, m->x, m->inputs, shift);
    } else {
        update_wide(m->head + 1, m->stride, m->classes, m->e, m->wide, m->inputs, shift);
    }
    if (m->hiddens) {
        update_biases(m->hidden, 1 + m->most, m->hiddens, m->g, shift);
        if (clamps) {
            update_near(m->head + 1 + m->most, m->stride, m->classes, m->e, m->units, m->hiddens, shift);
            update_near(m->hidden + 1, 1 + m->most, m->hiddens, m->g, m->x, m->inputs, shift);
        } else {
            update_wide(m->head + 1 + m->most, m->stride, m->classes, m->e, wide_units, m->hiddens, shift);
            update_wide(m->hidden + 1, 1 + m->most, m->hiddens, m->g, m->wide, m->inputs, shift);
        }
    }
    return -m->e[label];
}

// forward(model, x, xo, classes)
static mp_obj_t forward(size_t n_args, const mp_obj_t *args) {
    head_t m;
    int32_t wide_units[MAX_HIDDEN];
    take(&m, args[0], args[3]);
    take_row(&m, bytes_of(args[1], MP_BUFFER_READ), mp_obj_get_int(args[2]));
    return MP_OBJ_NEW_SMALL_INT(probabilities(&m, wide_units));
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(forward_obj, 4, 4, forward);

// step(model, x, xo, label, shift, classes)
static mp_obj_t step(size_t n_args, const mp_obj_t *args) {
    head_t m;
    int32_t wide_units[MAX_HIDDEN];
    take(&m, args[0], args[5]);
    take_row(&m, bytes_of(args[1], MP_BUFFER_READ), mp_obj_get_int(args[2]));
    uint32_t label = mp_obj_get_int(args[3]), shift = mp_obj_get_int(args[4]);
    check(label < m.classes && shift <= 15);
    return MP_OBJ_NEW_SMALL_INT(step_on(&m, wide_units, label, shift));
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(step_obj, 6, 6, step);

// train(model, x, stage, order, n, shift, classes)
static mp_obj_t train(size_t n_args, const mp_obj_t *args) {
    head_t m;
    int32_t wide_units[MAX_HIDDEN];
    take(&m, args[0], args[6]);
    span_t x = bytes_of(args[1], MP_BUFFER_READ), stage = bytes_of(args[2], MP_BUFFER_READ);
    span_t order = words_of(args[3], MP_BUFFER_READ);
    uint32_t n = mp_obj_get_int(args[4]), shift = mp_obj_get_int(args[5]);
    check(n <= MAX_CLASSES && 2 * n <= order.n && shift <= 15);
    // all of it is checked before any weight is touched
    const int32_t *pair = order.at;
    for (uint32_t k = 0; k < n; ++k, pair += 2) {
        check((uint32_t)pair[0] < m.classes);
        take_row(&m, pair[1] < 0 ? stage : x, pair[1] < 0 ? ~pair[1] : pair[1]);
    }
    int32_t loss = 0; // at most MAX_CLASSES * E_ONE
    pair = order.at;
    for (uint32_t k = 0; k < n; ++k, pair += 2) {
        take_row(&m, pair[1] < 0 ? stage : x, pair[1] < 0 ? ~pair[1] : pair[1]);
        loss += step_on(&m, wide_units, pair[0], shift);
    }
    return MP_OBJ_NEW_SMALL_INT(loss);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(train_obj, 7, 7, train);

// a % b by shift and subtract, for a < 2^16 and b > 0
static uint32_t modulo(uint32_t a, uint32_t b) {
    for (int bit = 15; bit >= 0; --bit) {
        if (a >> bit >= b) {
            a -= b << bit;
        }
    }
    return a;
}

// deal(order, cursor, counts, n, known, per_class, inputs, every, last, x)
static mp_obj_t deal(size_t n_args, const mp_obj_t *args) {
    span_t orders = words_of(args[0], MP_BUFFER_WRITE), cursors = words_of(args[1], MP_BUFFER_WRITE);
    span_t counts = words_of(args[2], MP_BUFFER_READ);
    uint32_t v[7];
    for (int i = 0; i < 7; ++i) {
        v[i] = mp_obj_get_int(args[3 + i]);
        check(v[i] <= 0xffff);
    }
    uint32_t n = v[0], known = v[1], per_class = v[2], inputs = v[3], every = v[4], last = v[5], x = v[6];
    check(n - 1 < MAX_CLASSES && 2 * n <= orders.n && n <= cursors.n && n <= counts.n && every && per_class <= 0x400
        && inputs <= MAX_INPUTS);
    int32_t *order = orders.at, *cursor = cursors.at;
    for (uint32_t k = 0; k < n; ++k) {
        check((uint32_t)order[2 * k] < n && (uint32_t)cursor[k] <= 0xffff);
    }
    for (uint32_t k = n - 1; k; --k) {
        x ^= x << 7 & 0xffff;
        x ^= x >> 9;
        x ^= x << 8 & 0xffff;
        uint32_t j = 2 * modulo(x, k + 1);
        int32_t c = order[2 * k];
        order[2 * k] = order[j];
        order[j] = c;
    }
    for (uint32_t k = 0; k < n; ++k) {
        uint32_t c = order[2 * k];
        int32_t i = cursor[c];
        if (modulo(i, every) == last) {
            ++i;
        }
        if (i >= ((const int32_t *)counts.at)[c]) {
            i = 0;
        }
        cursor[c] = i + 1;
        order[2 * k + 1] = c < known ? (int32_t)((c * per_class + i) * inputs) : ~(int32_t)(i * inputs);
    }
    return MP_OBJ_NEW_SMALL_INT(x);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(deal_obj, 10, 10, deal);

// Condensation

// distance(a, ao, b, bo, n)
static mp_obj_t distance(size_t n_args, const mp_obj_t *args) {
    span_t a = bytes_of(args[0], MP_BUFFER_READ), b = bytes_of(args[2], MP_BUFFER_READ);
    uint32_t ao = mp_obj_get_int(args[1]), bo = mp_obj_get_int(args[3]), n = mp_obj_get_int(args[4]);
    check(n <= 0x8000 && within(ao, n, a.n) && within(bo, n, b.n));
    const int8_t *p = (const int8_t *)a.at + ao, *q = (const int8_t *)b.at + bo;
    int32_t total = 0;
    for (uint32_t j = 0; j < n; ++j) {
        int32_t v = p[j] - q[j];
        total += v * v;
    }
    return mp_obj_new_int(total);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(distance_obj, 5, 5, distance);

// accumulate(x, xo, n, sums)
static mp_obj_t accumulate(size_t n_args, const mp_obj_t *args) {
    span_t x = bytes_of(args[0], MP_BUFFER_READ), sums = words_of(args[3], MP_BUFFER_WRITE);
    uint32_t xo = mp_obj_get_int(args[1]), n = mp_obj_get_int(args[2]);
    check(within(xo, n, x.n) && n <= sums.n);
    const int8_t *p = (const int8_t *)x.at + xo;
    for (uint32_t j = 0; j < n; ++j) {
        ((int32_t *)sums.at)[j] += p[j];
    }
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(accumulate_obj, 4, 4, accumulate);

mp_obj_t mpy_init(mp_obj_fun_bc_t *self, size_t n_args, size_t n_kw, mp_obj_t *args) {
    MP_DYNRUNTIME_INIT_ENTRY
    mp_store_global(MP_QSTR_conv2d, MP_OBJ_FROM_PTR(&conv2d_obj));
    mp_store_global(MP_QSTR_maxpool2d, MP_OBJ_FROM_PTR(&maxpool2d_obj));
    mp_store_global(MP_QSTR_dense, MP_OBJ_FROM_PTR(&dense_obj));
    mp_store_global(MP_QSTR_relu, MP_OBJ_FROM_PTR(&relu_obj));
    mp_store_global(MP_QSTR_softmax, MP_OBJ_FROM_PTR(&softmax_obj));
    mp_store_global(MP_QSTR_update, MP_OBJ_FROM_PTR(&update_obj));
    mp_store_global(MP_QSTR_back, MP_OBJ_FROM_PTR(&back_obj));
    mp_store_global(MP_QSTR_forward, MP_OBJ_FROM_PTR(&forward_obj));
    mp_store_global(MP_QSTR_step, MP_OBJ_FROM_PTR(&step_obj));
    mp_store_global(MP_QSTR_train, MP_OBJ_FROM_PTR(&train_obj));
    mp_store_global(MP_QSTR_deal, MP_OBJ_FROM_PTR(&deal_obj));
    mp_store_global(MP_QSTR_distance, MP_OBJ_FROM_PTR(&distance_obj));
    mp_store_global(MP_QSTR_accumulate, MP_OBJ_FROM_PTR(&accumulate_obj));
    MP_DYNRUNTIME_INIT_EXIT
}
