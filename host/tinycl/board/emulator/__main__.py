"""python -m tinycl.board.emulator [--install] : which emulators of the RP2040 can run here; with --install, what they need is
fetched now and not at the first use. Depends on tinycl.board.emulator."""

import sys

from tinycl.board import emulator
from tinycl.board.base import BoardError


def main() -> int:
    usable = 0
    for kind in emulator.KINDS:
        try:
            emulator.choose(kind)
            if "--install" in sys.argv[1:]:
                emulator.install(kind)
        except BoardError as e:
            print(f"{kind}: {e}")
        else:
            usable += 1
            print(f"{kind}: can be used" + (", the faster one" if kind == emulator.KINDS[0] else ""))
    return 0 if usable else 1


if __name__ == "__main__":
    sys.exit(main())
