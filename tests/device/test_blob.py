# The vectors of the blob format, run by MicroPython itself: the good blob is read right, every hostile one is refused with
# FormatError, for the reason that blobs.json says and with nothing else, from a file and from memory. Exits with 1 on a
# failure.
#   usage: micropython test_blob.py FOLDER    (tests/vectors)
import json
import os
import sys

from shared import blob as b
from shared.errors import FormatError

# MicroPython decodes what is no UTF-8 here, and check_name sees it
DECODED = {
    "name-utf8-overlong": "a name of 2 bytes that could be 1",
    "name-utf8-surrogate": "a name with the number 55296",
    "name-utf8-too-large": "a name with the number 2097151",
}

root = sys.argv[1]
passed = 0
failed = 0


def check(good, what):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print(what)


def refused(source, name, said):
    try:
        b.Blob(source)
    except FormatError as e:
        check(e.code == 2 and ": " in e.text and said in e.text, "%s: refused with %r" % (name, e.text))
    except Exception as e:
        check(False, "%s: %s %s" % (name, type(e).__name__, e))
    else:
        check(False, name + ": accepted")


with open(root + "/tiny.tcb", "rb") as f:
    blob = b.Blob(f)
    check(blob.names == ["north-west", "nord-östlich"], "names")
    check((blob.in_h, blob.in_w, blob.in_c, blob.sample_bytes) == (4, 4, 1, 16), "shape")
    check(blob.features == [16, 20] and list(blob.rungs[:4]) == [0, 0, 16, 640], "ladder")
    check((blob.low, blob.high, blob.dataset) == (0.0, 1.0, "quadrants"), "range and data set")
    raws = bytearray(blob.section_bytes("RAWS"))
    blob.read("RAWS", raws, len(raws))
    f.seek(0)
    data = f.read()
memory = b.Blob(data)
for name, version, features in (("tiny-format1", 1, [16, 20]), ("signal", 2, [8])):
    with open(root + "/" + name + ".tcb", "rb") as f:
        other = b.Blob(f)
        check((other.version, other.features) == (version, features), name)
check(memory.id == blob.id and bytes(memory.view("RAWS")) == raws, "file and memory differ")
with open(root + "/blobs.json") as f:
    expected = json.load(f)
expected.update(DECODED)
for entry in sorted(os.listdir(root + "/blobs")):
    with open(root + "/blobs/" + entry, "rb") as f:
        refused(f, entry, expected[entry[:-4]])
        f.seek(0)
        data = f.read()
    refused(data, entry + " in memory", expected[entry[:-4]])
print("%d passed, %d failed" % (passed, failed))
sys.exit(1 if failed or not passed else 0)
