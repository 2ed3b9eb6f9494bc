# The golden vectors of the kernels, run by MicroPython itself: every integer implementation that loads here must give
# them to the bit. One case is held in memory at a time. Exits with 1 on a failure.
#   usage: micropython test_golden.py [kernels.json]
import json
import sys

import kernels as kernel_choice
from calls import run

passed = 0
failed = 0
with open(sys.argv[1] if len(sys.argv) > 1 else "kernels.json") as f:
    for line in f:
        line = line.strip()
        if line in ("[", "]"):
            continue
        case = json.loads(line[:-1] if line.endswith(",") else line)
        for name in kernel_choice.available():
            kernels = kernel_choice.load(name)
            if isinstance(kernels.ONE, float):
                continue
            buffers, returned = run(kernels, case["buffers"], case["calls"])
            if buffers == case["after"] and returned == case["returned"]:
                passed += 1
            else:
                failed += 1
                print("%s: %s differs" % (name, case["name"]))
print("kernels: %s" % ", ".join(kernel_choice.available()))
print("%d passed, %d failed" % (passed, failed))
sys.exit(1 if failed or not passed else 0)
