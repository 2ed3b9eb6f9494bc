# Which kernels there are on this board, and which one is best. Every implementation that the firmware can run is imported once
# and its code stays in memory, so that the host may ask for another; but not viper (the largest) where native serves.
import sys

ORDER = ("native", "viper", "ulab", "plain")  # best first
refused = {}  # name: why it does not load here


def load(name):
    """The kernels module of that name, or None where this firmware cannot run it."""
    try:
        if name == "native":
            from . import native as kernels
        elif name == "viper":
            from . import viper as kernels
        elif name == "ulab":
            from . import ulab as kernels
        elif name == "plain":
            from . import plain as kernels
        else:
            return None
    except (SyntaxError, ImportError, NotImplementedError, ValueError) as e:  # ValueError: a .mpy for another board
        refused[name] = str(e)
        sys.modules.pop(__name__ + "." + name, None)  # what was left half imported must not pass for whole the next time
        return None
    return kernels


def let_go():
    """Before a model's memory is given back: the assembler kernels keep addresses of it, which the collector takes for use."""
    thumb = sys.modules.get(__name__ + ".thumb")
    if thumb:
        thumb.let_go()


def available():
    """Names of the kernels that load here, best first."""
    names = []
    for name in ORDER:
        if (name == "viper" and "native" in names and _emits()) or load(name):
            names.append(name)
    return names


def _emits():
    # whether this firmware has the viper emitter, without importing what it would emit
    try:
        exec("import micropython\n@micropython.viper\ndef f(): pass", {})
    except SyntaxError:
        return False
    return True
