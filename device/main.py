# Starts the agent on the board's own serial line. On a real board this is main.py, never boot.py: Ctrl-C in the first
# second gets the REPL. The order of imports is fixed, so that the heap is laid out the same way at every start.
import gc
import sys
import time

import micropython

# USB and pseudo-terminals hold back what does not fit; an ESP32 is mostly reached through a UART, whose ring has 260 bytes.
WINDOW_BYTES = 256 if sys.platform == "esp32" else 2048


def main():
    time.sleep_ms(0 if sys.platform == "linux" else 1000)
    # Compiling leaves garbage between what stays; collected often, what stays lies close together at the bottom of the heap
    # and the plan's largest buffer finds room in one piece.
    gc.threshold(4096)
    from agent import Agent
    from link import Link

    kernels = sys.argv[1] if len(sys.argv) > 1 else ""
    link = Link(sys.stdin.buffer, sys.stdout.buffer, sys.stdin, sys.stdout, WINDOW_BYTES)
    agent = Agent(link, "", kernels)
    gc.collect()
    gc.threshold(8192)  # frames leave garbage too; training leaves none, so it is not interrupted
    micropython.kbd_intr(-1)  # a byte 0x03 is data for the length of the session
    try:
        agent.start()
        agent.run()
    except EOFError:
        pass  # the line is gone; only the unix port can tell
    finally:
        micropython.kbd_intr(3)


try:
    main()
except Exception as e:  # too little memory for the runtime, mostly; a real board goes to its REPL then
    sys.print_exception(e, sys.stderr)
