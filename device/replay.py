# Replay memory: int8 latents of every class that the board knows, a fixed number of slots a class, and the table of classes.
# Keeps nothing more after construction: enrolling a class fills room that was there before. Also condensation: k-means in
# place, on the new class's slots, with two short-lived lists of one number a sample.
from array import array

from shared.blob import MAX_NAME_BYTES


class Replay:
    """buffer: max_classes * per_class * inputs bytes; the samples of class c lie at at(c, 0), at(c, 1), …

    counts[c]: samples kept; uids[c], crcs[c]: the raw samples' file and CRC-32 (uid 0: the base class of that number in the
    blob, which holds its samples).
    """

    def __init__(self, buffer, max_classes, per_class, inputs):
        self.buffer = buffer
        self.per_class = per_class
        self.inputs = inputs
        self.classes = 0
        self.counts = array("H", bytes(2 * max_classes))
        self.uids = array("H", bytes(2 * max_classes))
        self.crcs = array("I", bytes(4 * max_classes))
        self.texts = bytearray(max_classes * (1 + MAX_NAME_BYTES))

    def clear(self):
        self.classes = 0

    def add(self, name, count, uid=0, crc=0):
        """A further class; its latents are the caller's to fill in."""
        c = self.classes
        self.rename(c, name)
        self.counts[c] = count
        self.uids[c] = uid
        self.crcs[c] = crc
        self.classes = c + 1

    def rename(self, c, name):
        text = name.encode()
        at = c * (1 + MAX_NAME_BYTES)
        self.texts[at] = len(text)
        self.texts[at + 1 : at + 1 + len(text)] = text

    def remove(self, c):
        """Takes class c out; the classes behind it move up, with their latents."""
        row = self.per_class * self.inputs
        for k in range(c + 1, self.classes):
            self.buffer[(k - 1) * row : k * row] = memoryview(self.buffer)[k * row : (k + 1) * row]
            self.rename(k - 1, self.name(k))
            self.counts[k - 1] = self.counts[k]
            self.uids[k - 1] = self.uids[k]
            self.crcs[k - 1] = self.crcs[k]
        self.classes -= 1

    def name(self, c):
        at = c * (1 + MAX_NAME_BYTES)
        return bytes(self.texts[at + 1 : at + 1 + self.texts[at]]).decode()

    @property
    def names(self):
        """All names as a new list."""
        return [self.name(c) for c in range(self.classes)]

    def at(self, c, i):
        """First byte of sample i of class c."""
        return (c * self.per_class + i) * self.inputs

    def used_bytes(self, inputs):
        """Bytes of latents that are in use when the head reads `inputs` of each."""
        return sum([self.counts[c] for c in range(self.classes)]) * inputs


def condense(kernels, x, count, inputs, n, out, at, keep, sums):
    """Chooses `keep` of `count` samples that stand for all of them. A generator that yields between passes over the samples
    and returns the chosen ones' numbers, ascending.

    k-means on the first n of `inputs` bytes a sample (int8 rows in x), started from the farthest points (Gonzalez 1985),
    then the sample nearest to each mean, no sample twice. Centroids live in `out` from byte `at` on, rows of `inputs`
    bytes; afterwards the chosen latents lie there. sums: array of int32, at least n. Integers only, no randomness.
    """
    if count <= keep:
        out[at : at + count * inputs] = memoryview(x)[: count * inputs]
        return list(range(count))
    nearest = [1 << 29] * count  # squared distance to the nearest centroid
    home = [0] * count
    pick = 0
    for k in range(keep):
        to = at + k * inputs
        out[to : to + inputs] = memoryview(x)[pick * inputs : pick * inputs + inputs]
        for i in range(count):
            d = kernels.distance(x, i * inputs, out, to, n)
            if d < nearest[i]:
                nearest[i] = d
                home[i] = k
        pick = nearest.index(max(nearest))
        yield None
    for _ in range(5):
        for k in range(keep):
            members = 0
            for j in range(n):
                sums[j] = 0
            for i in range(count):
                if home[i] == k:
                    kernels.accumulate(x, i * inputs, n, sums)
                    members += 1
            if members:
                to = at + k * inputs
                for j in range(n):
                    out[to + j] = ((2 * sums[j] + members) // (2 * members)) & 255
        moved = False
        for i in range(count):
            best = 1 << 29
            for k in range(keep):
                d = kernels.distance(x, i * inputs, out, at + k * inputs, n)
                if d < best:
                    best = d
                    near = k
            if near != home[i]:
                home[i] = near
                moved = True
            yield None
        if not moved:
            break
    chosen = []
    for k in range(keep):
        best = 1 << 29
        for i in range(count):
            if i not in chosen:
                d = kernels.distance(x, i * inputs, out, at + k * inputs, n)
                if d < best:
                    best = d
                    near = i
        chosen.append(near)
        yield None
    chosen.sort()
    for k in range(keep):
        to = at + k * inputs
        out[to : to + inputs] = memoryview(x)[chosen[k] * inputs : chosen[k] * inputs + inputs]
    return chosen
