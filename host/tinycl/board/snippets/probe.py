# Runs on the board (any MicroPython), at its raw REPL: what it is, as a dict. Imports nothing that may be missing,
# writes nothing.
# `needs` comes from the host: names such as "os.rename", of which those that are missing are listed.
import sys

if sys.platform in ("rp2", "esp32", "esp8266", "samd", "mimxrt"):
    import os

    os.chdir("/")


def lacks(name):
    module, _, attribute = name.partition(".")
    try:
        found = __import__(module)
    except ImportError:
        return True
    for part in attribute.split(".") if attribute else ():
        if not hasattr(found, part):
            return True
        found = getattr(found, part)
    return False


def unique_id():
    try:
        from machine import unique_id

        return "".join(["%02x" % b for b in unique_id()])
    except (ImportError, AttributeError):
        try:
            with open("board-id") as f:
                return f.read().strip()
        except OSError:
            return ""


def files():
    try:
        import os

        os.listdir()
        room = os.statvfs(os.getcwd())
        return {"block": room[1] or room[0], "free": room[1] * room[4], "bytes": room[1] * room[2]}
    except (OSError, AttributeError) as e:
        return {"trouble": repr(e)}


word = sys.implementation
print(
    {
        "name": word.name,
        "version": list(word.version)[:3],
        "machine": getattr(word, "_machine", ""),
        "build": getattr(word, "_build", ""),
        "mpy": getattr(word, "_mpy", 0),
        "platform": sys.platform,
        "board": unique_id(),
        "missing": [name for name in needs if lacks(name)],  # noqa: F821
        "files": files(),
    }
)
