# A start of the agent in its parts, as main.py and the agent do it, with the time of each. The host sends this file to the REPL
# of a board that was soft reset, so that nothing is loaded. Prints a dict of milliseconds. Depends on the runtime.
# ruff: noqa: E402
import gc
import sys
import time

import micropython

parts = {}
began = time.ticks_us()


def part(name):
    """Ends a part that began with the last one's end."""
    global began
    parts[name] = time.ticks_diff(time.ticks_us(), began) // 1000
    began = time.ticks_us()


for name in ("array", "binascii", "hashlib", "io", "json", "os", "select", "struct", "time"):  # as main.py
    sys.modules[name] = __import__(name)
gc.threshold(16384)
part("builtins")
from agent import Agent
from link import Link

part("imports")
link = Link(sys.stdin.buffer, sys.stdout.buffer, sys.stdin, sys.stdout, 2048)
agent = Agent(link, "", "", micropython.kbd_intr)
gc.collect()
part("agent")
from shared.blob import Blob

keeper, store = agent.keeper, agent.store
gc.collect()
blob = Blob(open(store.path("blob.tcb"), "rb"))
part("blob")
learner = keeper.make_learner(blob)
part("learner")
if not store.load(learner):
    raise ValueError("no state on this board: teach it first")
if store.stale:
    for _ in keeper.recompute(learner, learner.exit):
        pass
part("state")
store.sweep()
keeper.learner = learner
gc.collect()
part("sweep")
agent.hello()
part("hello")
gc.collect()
part("one_collection")
print(parts)
