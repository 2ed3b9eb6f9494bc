# Starts the agent on the board's own serial line. On a real board this is main.py, never boot.py: Ctrl-C gets the REPL at any
# time but in a session with a host. The order of imports is fixed, so that the heap is laid out the same way at every start.
import gc
import sys
import time

import micropython

ESCAPE_MS = 250  # before anything else, so that whatever follows cannot make the board unreachable
START_BYTES = 16384  # between two collections while the agent starts; there is room, the plan's reserve is as large


def window_bytes():
    """Most bytes that a host may have under way to us. USB and pseudo-terminals hold back what does not fit. An ESP32 is mostly
    reached through a UART, whose ring has 260 bytes; where another board is, a file `window` on its flash says so."""
    try:
        with open("window") as f:
            return max(64, min(16384, int(f.read())))
    except (OSError, ValueError):
        return 256 if sys.platform == "esp32" else 2048


def compiled():
    """Whether the runtime lies on the flash as .mpy files."""
    try:
        open("agent.mpy").close()
        return True
    except OSError:
        return False


def main():
    time.sleep_ms(0 if sys.platform == "linux" else ESCAPE_MS)
    # MicroPython looks for a built-in module on the flash at each import, 6 ms each time on an RP2040, until it is listed here.
    for name in ("array", "binascii", "hashlib", "io", "json", "os", "select", "struct", "time"):
        sys.modules[name] = __import__(name)
    # Compiling leaves garbage between what stays; collected often, what stays lies close together at the bottom of the heap
    # and the plan's largest buffer finds room in one piece. A .mpy leaves little, and each collection delays the start.
    start_bytes = START_BYTES if compiled() else 4096
    gc.threshold(start_bytes)
    from agent import Agent
    from link import Link

    kernels = sys.argv[1] if len(sys.argv) > 1 else ""
    link = Link(sys.stdin.buffer, sys.stdout.buffer, sys.stdin, sys.stdout, window_bytes())
    agent = Agent(link, "", kernels, micropython.kbd_intr)
    gc.collect()
    gc.threshold(max(8192, start_bytes))
    try:
        agent.start()
        gc.threshold(8192)  # frames leave garbage too; training leaves none, so it is not interrupted
        agent.run()
    except EOFError:
        pass  # the line is gone; only the unix port can tell
    finally:
        micropython.kbd_intr(3)


try:
    main()
except KeyboardInterrupt:
    print("tinycl stopped by Ctrl-C; a reset (Ctrl-D) starts it again")
except Exception as e:  # too little memory for the runtime, mostly; a real board goes to its REPL then
    sys.print_exception(e, sys.stderr)
