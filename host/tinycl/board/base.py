"""A board, whatever it is: found, opened, deployed to and closed in the same way. One file per kind beside this one."""

from abc import ABC, abstractmethod
from importlib.resources import files
from typing import Any

import serial

from tinycl.link.client import Client
from tinycl.link.link import Link
from tinycl.shared.errors import TinyclError


class BoardError(TinyclError):
    """A board that cannot be found, started or opened."""


def runtime() -> dict[str, bytes]:
    """The files of the runtime, by their path on the board's flash."""
    found = {}
    for package, folder in (("tinycl.device", ""), ("tinycl.shared", "shared/")):
        root = files(package)
        for item in root.iterdir():
            if item.name.endswith(".py") and not (folder == "" and item.name == "__init__.py"):
                found[folder + item.name] = item.read_bytes()
    for folder in ("kernels", "sensors"):
        for item in files(f"tinycl.device.{folder}").iterdir():
            if item.name.endswith(".py"):
                found[f"{folder}/{item.name}"] = item.read_bytes()
    return found


class Board(ABC):
    """Use as a context manager: `with SimBoard() as board: board.client.predict(x)`.

    Entering deploys the runtime, starts it, opens the port and says hello; leaving closes everything that was started.
    """

    name: str

    @classmethod
    @abstractmethod
    def find(cls) -> list[str]:
        """Names of the boards of this kind that can be used here and now."""

    @abstractmethod
    def deploy(self) -> None:
        """Sees to it that the runtime is on the board's flash; nothing to do for a board that somebody else deployed to."""

    @abstractmethod
    def start(self) -> None:
        """Starts (or resets) the board, so that its agent runs."""

    @abstractmethod
    def open_port(self) -> serial.SerialBase:
        """Its serial port, opened for this host alone."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the board. May be called twice."""

    def __enter__(self) -> "Board":
        try:
            self.deploy()
            self.start()
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def restart(self) -> None:
        """A power cycle."""
        self.start()
        self.connect()

    def connect(self) -> None:
        """Opens the port and says hello."""
        self.link = Link(self.open_port())
        self.client = Client(self.link)  # before hello: where that fails, both still speak of the same port
        self.link.hello(deadline_s=10.0)

    def check_kernels(self, wanted: str) -> None:
        """BoardError unless the board, which has said hello, has kernels of this name; "" for whichever are its best."""
        hello = self.link.board
        if wanted and wanted not in hello["available"]:
            why = hello["refused"].get(wanted, "there is no implementation of that name")
            raise BoardError(f"no '{wanted}' kernels on this board ({why}): take --kernels {' or '.join(hello['available'])}")
