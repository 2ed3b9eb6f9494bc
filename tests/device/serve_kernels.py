# Runs kernels for the tests on the host: a line of JSON in, {"implementation", "buffers", "calls"} as in calls.py, a line
# out, {"buffers", "returned"} or {"error"}. Ends at the end of input.
import json
import sys

import kernels as kernel_choice
from calls import run

while True:
    line = sys.stdin.readline()
    if not line:
        break
    try:
        request = json.loads(line)
        buffers, returned = run(kernel_choice.load(request["implementation"]), request["buffers"], request["calls"])
        answer = {"buffers": buffers, "returned": returned}
    except Exception as e:
        answer = {"error": "%s: %s" % (type(e).__name__, e)}
    sys.stdout.write(json.dumps(answer) + "\n")
