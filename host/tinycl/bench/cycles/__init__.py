"""What the cycle bench runs on the board: MicroPython sources, read as package data."""
