"""Makes kernels.json, the golden vectors of the kernels, from the NumPy reference: one case a line, as tests/device/calls.py
reads it. The same file comes out every time.
    usage: python tests/vectors/make_kernels.py [OUT]
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "device"), str(HERE.parent.parent), str(HERE.parent.parent / "device")]

import kernel_cases  # noqa: E402
from calls import run  # noqa: E402

from tinycl.learn import kernels as reference  # noqa: E402

CASES = 8  # of each kernel
LARGEST = 900  # characters of a case's buffers: larger ones are left to the property tests


def text() -> str:
    """The file."""
    cases = []
    for make in kernel_cases.KERNELS:
        if make is kernel_cases.wide_conv2d:  # never that small
            continue
        seed = 0
        found = 0
        while found < CASES:
            case = make(np.random.default_rng([seed, len(make.__name__)]))
            seed += 1
            if sum(len(data) for _, data in case[0]) <= LARGEST:
                cases.append((f"{make.__name__} {found}", case))
                found += 1
    for extreme in (False, True):
        case = kernel_cases.training(np.random.default_rng(0), 150, 12, 6, 3, 4, extreme)
        cases.append(("training" + " from the limits" * extreme, case))
    lines = []
    for name, (buffers, calls) in cases:
        after, returned = run(reference, buffers, calls)
        returned = [v if v is None else int(v) for v in returned]
        lines.append(json.dumps({"name": name, "buffers": buffers, "calls": calls, "after": after, "returned": returned}))
    return "[\n" + ",\n".join(lines) + "\n]\n"


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else HERE / "kernels.json").write_text(text())
