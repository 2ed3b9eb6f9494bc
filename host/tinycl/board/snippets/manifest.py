# Runs on the board, at its raw REPL: prints the files that an earlier deployment put there, as a list. Writes nothing.
import json

try:
    with open("tinycl.json") as f:
        names = [str(name) for name in json.load(f)["files"]]
except (OSError, ValueError, KeyError, TypeError):
    names = []
print(names)
