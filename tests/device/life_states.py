# The vectors of the learned state, read by MicroPython itself: the good one is read right, every hostile one is refused with
# FormatError for the reason that states.json says. Prints how many were refused; exits with 1 on a failure.
#   usage: micropython life_states.py FOLDER    (tests/vectors/states)
import json
import sys

from shared.errors import FormatError
from shared.state import State

root = sys.argv[1]
with open(root + "/states.json") as f:
    expected = json.load(f)
failed = 0
refused = 0
for name, (said, in_state) in expected.items():
    with open(root + "/" + name + ".tcs", "rb") as f:
        try:
            State(f)
        except FormatError as e:
            refused += 1
            good = in_state and said in e.text and ": " in e.text
            said = e.text
        else:
            good = not in_state
    if not good:
        failed += 1
        print(name, said)
with open(root + "/good.tcs", "rb") as f:
    kept = State(f)
if [one[:3] for one in kept.classes] != [("nord-östlich", 6, 0), ("one", 6, 7)] or (kept.rung, kept.sequence) != (1, 5):
    failed += 1
    print("good", kept.classes)
print(json.dumps({"refused": refused, "failed": failed}))
sys.exit(1 if failed else 0)
