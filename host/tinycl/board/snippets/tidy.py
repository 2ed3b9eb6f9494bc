# Runs on the board, at its raw REPL: gives what stands in the way another name (`moves`, pairs of old and new), then removes
# files of ours that are not needed any more (`removes`). Both come from the host.
import os

for old, new in moves:  # noqa: F821
    os.rename(old, new)
for path in removes:  # noqa: F821
    try:
        os.remove(path)
    except OSError as e:
        if e.errno != 2:
            raise
