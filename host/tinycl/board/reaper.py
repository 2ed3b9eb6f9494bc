"""Ends simulated boards whose host was killed and could not: a MicroPython whose terminal is gone reads ends of file for ever.
One small shell for each host process; it outlives the host by a moment. Depends on a POSIX system."""

import contextlib
import subprocess
import threading

SCRIPT = """
alive=""
while read -r sign pid; do
  rest=""
  for one in $alive; do [ "$one" = "$pid" ] || rest="$rest $one"; done
  alive=$rest
  [ "$sign" = "+" ] && alive="$alive $pid"
done
[ -z "$alive" ] || kill -9 $alive
"""


class Reaper:
    """watch(pid) and forget(pid), from any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.shell: subprocess.Popen[bytes] | None = None

    def watch(self, pid: int) -> None:
        self._say(b"+ %d\n" % pid)

    def forget(self, pid: int) -> None:
        self._say(b"- %d\n" % pid)

    def _say(self, line: bytes) -> None:
        with self.lock:
            if self.shell is None or self.shell.poll() is not None:
                self.shell = subprocess.Popen(
                    ["/bin/sh", "-c", SCRIPT], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/"
                )
            assert self.shell.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self.shell.stdin.write(line)
                self.shell.stdin.flush()


reaper = Reaper()
