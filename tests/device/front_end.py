# The log-mel front end on a board: `clips` answers lines of "samples hop mels hex of int16" with what plain and viper make of
# them; `bytes_of` says what a frame takes from the heap. Run by MicroPython; depends on shared/ and sensors/.
import gc
import sys
from array import array
from binascii import hexlify, unhexlify

from sensors import logmel as viper

from shared.logmel import LogMel, Plain


def sound(data):
    x = array("h", bytes(len(data)))
    for i in range(len(x)):
        v = data[2 * i] | data[2 * i + 1] << 8
        x[i] = (v ^ 32768) - 32768
    return x


def answer(steps, x, hop, mels):
    made = LogMel(len(x), hop, mels, steps)
    y = bytearray(made.frames * mels)
    made.clip(x, y)
    return hexlify(bytes(made.logs)).decode() + " " + hexlify(y).decode()


def clips(lines):
    for line in lines:
        hop, mels, data = line.split()
        x = sound(unhexlify(data))
        for steps in (Plain, viper):
            print(answer(steps, x, int(hop), int(mels)))


def bytes_of(steps):
    """Bytes that three frames of a loud square wave take from the heap."""
    made = LogMel(1152, 320, 32, steps)
    x = array("h", [32767 if i & 16 else -32768 for i in range(1152)])
    y = bytearray(3 * 32)
    made.clip(x, y)
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    made.frame(x, 0, 0)
    made.frame(x, 320, 1)
    made.frame(x, 640, 2)
    made.features(y)
    after = gc.mem_alloc()
    gc.enable()
    return after - before


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(bytes_of(Plain), bytes_of(viper))
    else:
        clips(sys.stdin)
