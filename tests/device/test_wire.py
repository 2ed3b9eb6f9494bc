# The vectors of the wire format, run by MicroPython itself: every frame becomes its line and comes back, and every stream
# gives its frames, fed whole, byte by byte, and as a port would (`need` bytes at a time). Exits with 1 on a failure.
#   usage: micropython test_wire.py wire.json
import json
import sys
from binascii import unhexlify

from shared import wire

passed = 0
failed = 0


def check(good, name, what):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print("%s: %s" % (name, what))


def read_like_a_port(decoder, data):
    found = []
    at = 0
    while at < len(data):
        n = decoder.n
        part = data[at : at + decoder.need()]
        decoder.view[n : n + len(part)] = part
        at += len(part)
        frame = decoder.took(len(part))
        while frame:
            found.append(frame)
            frame = decoder.took(0)
    return found


with open(sys.argv[1]) as f:
    for text in f:
        text = text.strip()
        if text in ("[", "]"):
            continue
        case = json.loads(text[:-1] if text.endswith(",") else text)
        name = case["name"]
        if "line" in case:
            frame = (case["kind"], case["seq"], unhexlify(case["payload"]))
            line = wire.encode(*frame)
            check(line == unhexlify(case["line"]), name, "another line")
            check(b"\x03" not in line and line.rfind(b"\x7e") == 0, name, "a byte that must not be there")
            check(wire.Decoder(len(line)).feed(line) == [frame], name, "another frame back")
        else:
            data = unhexlify(case["stream"])
            want = [(kind, seq, unhexlify(payload)) for kind, seq, payload in case["frames"]]
            check(wire.Decoder(case["buffer"]).feed(data) == want, name, "whole")
            decoder = wire.Decoder(case["buffer"])
            found = []
            for i in range(len(data)):
                found += decoder.feed(data[i : i + 1])
            check(found == want, name, "byte by byte")
            check(read_like_a_port(wire.Decoder(case["buffer"]), data) == want, name, "like a port")
print("%d passed, %d failed" % (passed, failed))
sys.exit(1 if failed or not passed else 0)
