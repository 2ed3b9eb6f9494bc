"""tinycl: continual learning on microcontrollers, distilled on the host, learned on the board."""

from tinycl.shared import wire

__version__ = wire.RELEASE
