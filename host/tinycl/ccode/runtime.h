// The arithmetic of a tinycl model in C99, as device/kernels/plain.py defines it: int8 backbone, softmax. No allocation.
// The head's multiplications are emlearn's; see `logits`. Wants >> of a negative number to round down, as gcc and clang do.
#include <stdint.h>

// One layer as shared/BLOB.md has it.
enum { TCL_OP, TCL_IN_H, TCL_IN_W, TCL_IN_C, TCL_OUT_H, TCL_OUT_W, TCL_OUT_C, TCL_KERNEL, TCL_STRIDE, TCL_PAD, TCL_SHIFT1,
       TCL_SHIFT2, TCL_W_AT, TCL_Q_AT, TCL_KERNEL_W };
enum { TCL_CONV2D = 1, TCL_MAXPOOL2D = 2, TCL_DEPTHWISE2D = 3 };

static inline int32_t tcl_clamp(int32_t v, int32_t low, int32_t high) { return v < low ? low : v > high ? high : v; }

// x [h, w, c] to y [oh, ow, oc]; quant: (bias, multiplier) pairs. A side of 1 is not padded.
static void tcl_conv(const int8_t *x, const int8_t *weights, const int32_t *quant, int8_t *y, const int32_t *d) {
    const int32_t kernel_h = d[TCL_KERNEL], kernel_w = d[TCL_KERNEL_W] ? d[TCL_KERNEL_W] : kernel_h;
    const int32_t pad_h = kernel_h > 1 ? d[TCL_PAD] : 0, pad_w = kernel_w > 1 ? d[TCL_PAD] : 0;
    const int32_t depthwise = d[TCL_OP] == TCL_DEPTHWISE2D, run = depthwise ? 1 : d[TCL_IN_C];
    const int32_t *q = quant + d[TCL_Q_AT];
    for (int32_t oy = 0; oy < d[TCL_OUT_H]; oy++) {
        for (int32_t ox = 0; ox < d[TCL_OUT_W]; ox++) {
            for (int32_t oc = 0; oc < d[TCL_OUT_C]; oc++) {
                int32_t acc = q[2 * oc];
                for (int32_t ky = 0; ky < kernel_h; ky++) {
                    const int32_t iy = oy * d[TCL_STRIDE] + ky - pad_h;
                    if (iy < 0 || iy >= d[TCL_IN_H]) continue;
                    for (int32_t kx = 0; kx < kernel_w; kx++) {
                        const int32_t ix = ox * d[TCL_STRIDE] + kx - pad_w;
                        if (ix < 0 || ix >= d[TCL_IN_W]) continue;
                        const int8_t *a = x + (iy * d[TCL_IN_W] + ix) * d[TCL_IN_C] + (depthwise ? oc : 0);
                        const int8_t *w = weights + d[TCL_W_AT] + ((oc * kernel_h + ky) * kernel_w + kx) * run;
                        for (int32_t c = 0; c < run; c++) acc += a[c] * w[c];
                    }
                }
                acc = tcl_clamp(acc >> d[TCL_SHIFT1], -32768, 32767);
                acc = (acc * q[2 * oc + 1] + (1 << (d[TCL_SHIFT2] - 1))) >> d[TCL_SHIFT2];
                *y++ = (int8_t)tcl_clamp(acc, 0, 127);
            }
        }
    }
}

// The largest of every k x k window of x [h, w, c].
static void tcl_maxpool(const int8_t *x, int32_t h, int32_t w, int32_t c, int32_t k, int32_t stride, int8_t *y) {
    for (int32_t oy = 0; oy + k <= h; oy += stride) {
        for (int32_t ox = 0; ox + k <= w; ox += stride) {
            for (int32_t ch = 0; ch < c; ch++) {
                int8_t best = -128;
                for (int32_t ky = 0; ky < k; ky++) {
                    for (int32_t kx = 0; kx < k; kx++) {
                        const int8_t v = x[((oy + ky) * w + ox + kx) * c + ch];
                        if (v > best) best = v;
                    }
                }
                *y++ = best;
            }
        }
    }
}

// The latents of the exits from `first` to before `count`, each (layers up to here, pool, inputs that it adds, h and w as the pool
// sees the output), of one sample:
// out has room for those of all. With first > 0 it goes on where the last call, for this sample, left.
static void tcl_latents(const int8_t *sample, const int32_t layers[][16], const int32_t exits[][5], int32_t first, int32_t count,
                        const int8_t *weights, const int32_t *quant, int8_t *a, int8_t *b, int8_t *out) {
    int32_t layer = first ? exits[first - 1][0] : 0;
    const int8_t *x = !layer ? sample : (layer - 1) & 1 ? b : a;
    for (int32_t e = 0; e < first; e++) out += exits[e][2];
    for (int32_t e = first; e < count; e++) {
        const int32_t *d = layers[exits[e][0] - 1];
        for (; layer < exits[e][0]; layer++) {
            const int32_t *l = layers[layer];
            int8_t *y = layer & 1 ? b : a;
            if (l[TCL_OP] == TCL_MAXPOOL2D) {
                tcl_maxpool(x, l[TCL_IN_H], l[TCL_IN_W], l[TCL_IN_C], l[TCL_KERNEL], l[TCL_STRIDE], y);
            } else {
                tcl_conv(x, weights, quant, y, l);
            }
            x = y;
        }
        tcl_maxpool(x, exits[e][3], exits[e][4], d[TCL_OUT_C], exits[e][1], exits[e][1], out);
        out += exits[e][2];
    }
}

// What emlearn's layer summed, two halves for each weight: exact, as every product and sum is an integer below 2^24.
static inline int32_t tcl_joined(const float *halves) { return (int32_t)halves[0] * 256 + (int32_t)halves[1]; }

// Probability of class `best` in 1/255, in the integer steps of shared/fixed.py.
static uint8_t tcl_certainty(const int32_t *z, int32_t n, int32_t best, const uint16_t *exp2) {
    int32_t total = 0, mine = 0;
    for (int32_t i = 0; i < n; i++) {
        const int32_t t = (z[best] >> TCL_T_SHIFT) - (z[i] >> TCL_T_SHIFT);
        const int32_t u = (t > TCL_T_MAX ? TCL_T_MAX : t) * TCL_LOG2E >> 16;
        const int32_t v = exp2[u & 255] >> (u >> 8);
        total += v;
        if (i == best) mine = v;
    }
    return (uint8_t)((mine * ((1 << 30) / total) >> 15) * 255 >> 15);
}
