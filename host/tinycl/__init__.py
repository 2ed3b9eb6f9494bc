"""tinycl: continual learning on microcontrollers, distilled on the host, learned on the board."""

__version__ = "0.1.0"
