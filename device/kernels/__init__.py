# Which kernels there are on this board, and which one is best. Every implementation that the firmware
# can run is imported once, and its code stays in memory, so that the host may ask for another.

ORDER = ("viper", "ulab", "plain")  # best first
refused = {}  # name: why it does not load here


def load(name):
    """The kernels module of that name, or None where this firmware cannot run it."""
    try:
        if name == "viper":
            from . import viper as kernels
        elif name == "ulab":
            from . import ulab as kernels
        elif name == "plain":
            from . import plain as kernels
        else:
            return None
    except (SyntaxError, ImportError, NotImplementedError) as e:
        refused[name] = str(e)
        return None
    return kernels


def available():
    """Names of the kernels that load here, best first."""
    return [name for name in ORDER if load(name)]
