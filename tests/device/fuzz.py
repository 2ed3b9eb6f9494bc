# Any request at any time, run by MicroPython itself: each line of the input is a request as hexadecimal (kind, then payload),
# given to a real agent whose line is a list. Prints, for each, the codes of its answers and the heap bytes that it left in use,
# and at the end the most. Exits with 1 where an answer says INTERNAL, or there is none.
#   usage: micropython fuzz.py FOLDER/ < requests        micropython fuzz.py decoder < streams
import gc
import sys
from binascii import unhexlify

from shared import errors, wire

BUFFER = 256


class Line:
    """A Link to nobody: keeps what is sent."""

    def __init__(self):
        self.window = 2048
        self.decoder = wire.Decoder(64)
        self.dropped = 0
        self.sent = []

    def receive(self, timeout_ms):
        return None

    def send(self, kind, seq, payload=b"", timeout_ms=1000):
        self.sent.append((kind, bytes(payload[:1])))
        return True

    def write(self, line, timeout_ms):
        for kind, _, payload in wire.Decoder(20000).feed(line):
            self.sent.append((kind, bytes(payload[:160])))
        return True

    def event(self, text):
        pass


def requests(root):
    from agent import Agent

    line = Line()
    agent = Agent(line, root)
    agent.start()
    agent.handle(wire.HELLO, 0, bytes((wire.VERSION,)))
    seq = 1
    bad = 0
    counts = {}
    gc.collect()
    before = gc.mem_alloc()
    while True:
        text = sys.stdin.readline().strip()
        if not text:
            break
        request = unhexlify(text)
        kind, payload = request[0], request[1:]
        line.sent = []
        agent.handle(kind, seq, payload)
        turns = 0
        while agent.job and turns < 2000:
            agent.work()
            turns += 1
        if kind not in (wire.HELLO, wire.BYE, wire.ABORT) or kind == wire.HELLO:
            seq = (seq + 1) & 255
        answers = [(k, p) for k, p in line.sent if k in (wire.OK, wire.ERROR)]
        for k, p in answers:
            code = p[0] if k == wire.ERROR else 0
            counts[code] = counts.get(code, 0) + 1
            if code == errors.INTERNAL:
                bad += 1
                print("request 0x%02x %r: %s" % (kind, payload[:40], p[1:]))
        if len(answers) != (kind != wire.BYE):
            bad += 1
            print("request 0x%02x %r: %d answers" % (kind, payload[:40], len(answers)))
    line.sent = []
    agent.answers = []
    agent.handle(wire.HELLO, 0, bytes((wire.VERSION,)))
    line.sent = []
    agent.answers = []
    gc.collect()
    print("%d bad, %d bytes more in use, codes %s" % (bad, gc.mem_alloc() - before, sorted(counts.items())))
    return bad


def streams():
    decoder = wire.Decoder(BUFFER)
    bad = 0
    most = 0
    while True:
        text = sys.stdin.readline().strip()
        if not text:
            break
        data = unhexlify(text)
        gc.collect()
        before = gc.mem_alloc()
        found = decoder.feed(data)
        if decoder.n > BUFFER or not 1 <= decoder.need() <= BUFFER - decoder.n:
            bad += 1
        if [frame for frame in found if len(frame[2]) > BUFFER]:
            bad += 1
        found = None
        gc.collect()
        most = max(most, gc.mem_alloc() - before)
        decoder.feed(b"\x7e" * BUFFER)
        if decoder.feed(wire.encode(1, 2, b"three")) != [(1, 2, b"three")]:
            bad += 1
            print("lost after %r" % data[:60])
    print("%d bad, %d bytes at most kept by a stream" % (bad, most))
    return bad


if sys.argv[1] == "decoder":
    sys.exit(1 if streams() else 0)
sys.exit(1 if requests(sys.argv[1]) else 0)
