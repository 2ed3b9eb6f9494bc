# The int8 backbone: raw sample in, latents out. Buffers come from the plan; nothing of their size is allocated.
from shared import blob as b


class Backbone:
    """Runs the layers of a blob with the given kernels.

    buffers: {name: buffer} of shared/plan.py, of which it fills `weights` and `quant` and uses the two activations.
    """

    def __init__(self, blob, buffers, kernels):
        self.layers = blob.layers
        self.exits = blob.exits
        self.weights = buffers["weights"]
        self.quant = buffers["quant"]
        self.act = (buffers["activation_a"], buffers["activation_b"])
        self.kernels = kernels
        blob.read("WGHT", self.weights, len(self.weights))
        blob.read("QUAN", self.quant, 4 * len(self.quant))

    def latents(self, sample, leave, out, at, first=0):
        """Writes the latents of exits first..leave of one sample (int8 [h, w, c]) to out[at:]; returns how many bytes. With
        first > 0 it goes on where the last call, for this sample, left at exit first - 1."""
        t = self.layers
        kernels = self.kernels
        start = at
        layer = self.exits[(first - 1) * b.EXIT_INTS] if first else 0
        x = self.act[(layer - 1) & 1] if layer else sample
        o = (layer - 1) * b.LAYER_INTS
        for e in range(first, leave + 1):
            ea = e * b.EXIT_INTS
            while layer < self.exits[ea]:
                o = layer * b.LAYER_INTS
                y = self.act[layer & 1]
                if t[o] == b.MAXPOOL2D:
                    kernels.maxpool2d(x, t[o + b.IN_H], t[o + b.IN_W], t[o + b.IN_C], t[o + b.KERNEL], t[o + b.STRIDE], y, 0)
                else:
                    kernels.conv2d(x, self.weights, self.quant, y, t, o)
                x = y
                layer += 1
            k = self.exits[ea + 1]
            h, w = b.exit_view(t[o + b.OUT_H], t[o + b.OUT_W], k)
            kernels.maxpool2d(x, h, w, t[o + b.OUT_C], k, k, out, at)
            at += self.exits[ea + 2]
        return at - start
