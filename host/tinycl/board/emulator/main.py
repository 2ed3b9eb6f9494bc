"""python main.py --rom FILE --image FILE [--id HEX] [--port N] [--paced] [--untimed]

The emulated Pico of main.mjs on rp2040py, for machines without node: same console, same orders, slower. Runs as a process of
its own and depends on rp2040py and the standard library. The reasons of what it does are in chip.mjs.
"""

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from rp2040py.execute_batch import execute_batch
from rp2040py.rp2040 import RP2040
from rp2040py.simulator import Simulator
from rp2040py.usb.cdc import USBCDC
from rp2040py.utils.logging import ConsoleLogger, LogLevel

FLASH_BYTES = 2 * 1024 * 1024
XIP_BASE = 0x10000000
SECTOR_BYTES = 4096
PAGE_BYTES = 256
NANOS_PER_CYCLE = 8
ERASE_NANOS = 45_000_000
PROGRAM_NANOS = 400_000
PACKET_MICROS = 53
FREE_IDLE_NANOS = 2_000_000_000
IDLE_NANOS = 900_000_000
BREAK_AT_BOOT_LOADER = 0xD0
SECTOR_ERASE, PAGE_PROGRAM, READ_UNIQUE_ID = 0x20, 0x02, 0x4B


def power_off() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit


class Flash:
    """The flash chip: hooks into the commands that rp2040py's SPI controller knows, and writes them through to a file."""

    def __init__(self, chip: "Chip", image: Path, board_id: bytes, timed: bool):
        self.chip = chip
        self.file = os.open(image, os.O_RDWR)
        self.board_id = board_id
        self.timed = timed
        self.erases = self.programs = 0
        self.cut_at = 0
        self.torn = 0.0
        self.nanos = 0
        self.ssi = chip.mcu.ssi
        chip.mcu.flash[:FLASH_BYTES] = os.pread(self.file, FLASH_BYTES, 0).ljust(FLASH_BYTES, b"\xff")
        self.apply, self.shift = self.ssi._apply_command, self.ssi._shift_byte
        self.ssi._apply_command = self._apply
        self.ssi._shift_byte = self._shift

    @property
    def operations(self) -> int:
        return self.erases + self.programs

    def _shift(self, byte: int) -> int:
        shifted = int(self.shift(byte))
        at = len(self.ssi._tx_buffer) - 1
        if self.ssi._tx_buffer[0] == READ_UNIQUE_ID and 5 <= at < 13:
            return self.board_id[at - 5]
        return shifted

    def _apply(self) -> None:
        command = bytes(self.ssi._tx_buffer)
        writes = self.ssi._write_enabled and len(command) >= 4
        if writes and command[0] == PAGE_PROGRAM:
            self._change(command, len(command) - 4, PROGRAM_NANOS)
            self.programs += 1
        elif writes and command[0] in (SECTOR_ERASE, 0xD8):
            size = SECTOR_BYTES if command[0] == SECTOR_ERASE else 65536
            self._change(command, size, ERASE_NANOS * (size // SECTOR_BYTES))
            self.erases += size // SECTOR_BYTES
        else:
            self.apply()

    def _change(self, command: bytes, length: int, nanos: int) -> None:
        at = int.from_bytes(command[1:4], "big")
        if command[0] != PAGE_PROGRAM:
            at &= -length
        memory = self.chip.mcu.flash
        before = bytes(memory[at : at + length])
        last = self.cut_at and self.operations + 1 >= self.cut_at
        self.apply()
        if last:
            done = int(length * self.torn)
            memory[at + done : at + length] = before[done:]
        os.pwrite(self.file, bytes(memory[at : at + length]), at)
        if last:
            power_off()
        self.chip.active()
        if self.timed:
            self.nanos += nanos
            self.chip.clock.tick(nanos)


class Chip:
    """The RP2040 and its USB host."""

    def __init__(self, rom: list[int], image: Path, board_id: bytes, timed: bool):
        self.simulator = Simulator(rp2040=RP2040())
        self.mcu: Any = self.simulator.rp2040
        self.clock: Any = self.simulator.clock
        self.mcu.logger = ConsoleLogger(LogLevel.NONE if hasattr(LogLevel, "NONE") else LogLevel.ERROR)
        self.mcu.load_bootrom(with_break_at_boot_loader(rom))
        self.flash = Flash(self, image, board_id, timed)
        self.mcu.on_break = self._break
        self.mcu.watchdog.on_watchdog_trigger = self._watchdog
        self.to_board = bytearray()
        self.to_host = bytearray()
        self.dtr = False
        self.reading = True
        self.stalled = False
        self.boot_loader = False
        self.gone = False  # it left the bus
        self.resetting = False
        self.boots = 1
        self.boot_nanos = 0.0
        self.cycles_before = 0
        self.active_nanos = 0.0
        self.last_in = self.last_out = 0.0
        self.gate = self.clock.create_alarm(self._at_gate)
        self.cut_alarm = self.clock.create_alarm(power_off)
        self._plug_in()
        self.mcu.core.pc = XIP_BASE

    def _break(self, code: int) -> None:
        if code != BREAK_AT_BOOT_LOADER:
            raise RuntimeError(f"the firmware stopped at breakpoint {code}, at 0x{self.mcu.core.pc:x}")
        self.boot_loader = self.gone = self.simulator.stopped = True

    # the host's end of the bus

    def _plug_in(self) -> None:
        self.usb: Any = self.mcu.usb_ctrl
        self.usb.read_delay_microseconds = self.usb.write_delay_microseconds = PACKET_MICROS
        self.cdc: Any = USBCDC(self.usb)
        self.on_read, self.on_write, self.on_reset = self.usb.on_endpoint_read, self.usb.on_endpoint_write, self.usb.on_reset
        self.acknowledge = self.usb._indicate_buffer_ready
        self.usb.on_endpoint_read = self._wants
        self.usb.on_endpoint_write = self._wrote
        self.usb._indicate_buffer_ready = self._ready
        self.usb.on_reset = self._off_the_bus
        self.cdc.on_serial_data = self._sent
        self.cdc.on_device_connected = self._connected
        self._forget()

    def _forget(self) -> None:
        self.pending: list[int] = []
        self.held: list[bytes] = []
        self.lines: list[bool] = []
        self.telling = True
        self.unacknowledged = 0

    def _off_the_bus(self) -> None:
        self.on_reset()
        self._forget()

    def _wants(self, endpoint: int, size: int) -> None:
        if endpoint == 0 or endpoint != self.cdc._out_endpoint:
            self.on_read(endpoint, size)
        else:
            self.pending.append(size)
            self.feed()

    def _ready(self, endpoint: int, out: bool) -> None:
        if out or endpoint == 0 or endpoint != self.cdc._in_endpoint:
            self.acknowledge(endpoint, out)
        else:
            self.unacknowledged += 1

    def _wrote(self, endpoint: int, data: bytes) -> None:
        told = self.cdc._initialized and endpoint == 0 and len(data) == 0
        self.on_write(endpoint, data)
        if told:
            self.telling = False
            self._tell()

    def _connected(self) -> None:
        if not self.dtr:
            self.lines.append(False)

    def _tell(self) -> None:
        if not self.telling and self.lines:
            self.telling = True
            on = self.lines.pop(0)
            self.cdc.set_control_lines(dtr=on, rts=on)

    def _sent(self, data: bytes | bytearray) -> None:
        if self.reading:
            self._deliver(bytes(data))
        else:
            self.held.append(bytes(data))

    def _deliver(self, data: bytes) -> None:
        self.active()
        self.last_out = self.clock.nanos
        if self.dtr:
            self.to_host += data
            self.simulator.stopped = True  # the turn ends, so that it goes out at once
        if self.unacknowledged:
            self.unacknowledged -= 1
            self.acknowledge(self.cdc._in_endpoint, False)

    def open(self, on: bool) -> None:
        self.dtr = on
        self.to_board.clear()
        if self.cdc._initialized:
            self.lines.append(on)
            self._tell()

    def feed(self) -> None:
        while self.pending and self.to_board:
            size = self.pending.pop(0)
            packet = bytes(self.to_board[:size])
            del self.to_board[:size]
            self.active()
            self.last_in = self.clock.nanos
            self.usb.endpoint_read_done(self.cdc._out_endpoint, packet)

    def read(self, on: bool) -> None:
        self.reading = on
        while on and self.held:
            self._deliver(self.held.pop(0))

    # running

    def active(self) -> None:
        self.active_nanos = self.clock.nanos

    def _watchdog(self) -> None:
        self.resetting = self.simulator.stopped = True  # not in the middle of the write that asks for it

    def reset(self, from_watchdog: bool = False) -> None:
        self.cycles_before += self.mcu.core.cycles
        self.mcu.enter_reset(from_watchdog=from_watchdog)
        if not from_watchdog:
            self.mcu.watchdog.reset()
        self.mcu.leave_reset()
        self.resetting = self.boot_loader = False
        self.to_board.clear()
        self.boots += 1
        self.boot_nanos = self.active_nanos = self.clock.nanos
        self.gone = True

    def _at_gate(self) -> None:
        """Ends the turn of a chip that sleeps; one that works goes on."""
        if self.mcu.core.waiting:
            self.simulator.stopped = True
        else:
            self.gate.schedule(1_000_000)

    def run(self, sleep_until: float) -> bool:
        """Some milliseconds of work, or sleep up to the given moment; True where it sleeps."""
        if self.stalled or self.boot_loader:
            return True
        self.simulator.stopped = False
        if self.mcu.core.waiting and sleep_until <= self.clock.nanos:
            return True
        self.gate.schedule(max(0.0, sleep_until - self.clock.nanos))
        execute_batch(self.simulator, 1)
        if self.resetting:
            self.reset(from_watchdog=True)
            return False
        return bool(self.mcu.core.waiting) and self.clock.nanos >= sleep_until

    def state(self) -> dict[str, Any]:
        cycles = round(self.clock.nanos / NANOS_PER_CYCLE)
        worked = self.cycles_before + self.mcu.core.cycles + round(self.flash.nanos / NANOS_PER_CYCLE)
        return {
            "cycles": cycles,
            "asleep": cycles - worked,
            "boot_cycles": round((self.clock.nanos - self.boot_nanos) / NANOS_PER_CYCLE),
            "last_in_us": (self.last_in - self.boot_nanos) / 1000,
            "last_out_us": (self.last_out - self.boot_nanos) / 1000,
            "boots": self.boots,
            "idle": bool(self.mcu.core.waiting) and self.clock.nanos - self.active_nanos > IDLE_NANOS,
            "boot_loader": self.boot_loader,
            "flash_operations": self.flash.operations,
            "erases": self.flash.erases,
            "programs": self.flash.programs,
        }


def with_break_at_boot_loader(rom: list[int]) -> list[int]:
    """The boot ROM with `bkpt; bx lr` for its USB boot loader."""
    data = bytearray(struct.pack(f"<{len(rom)}I", *rom))
    entry = struct.unpack_from("<H", data, 0x14)[0]
    while data[entry : entry + 2] != b"\0\0":
        if data[entry : entry + 2] == b"UB":
            address = struct.unpack_from("<H", data, entry + 2)[0] & ~1
            struct.pack_into("<HH", data, address, 0xBE00 | BREAK_AT_BOOT_LOADER, 0x4770)
        entry += 4
    return list(struct.unpack(f"<{len(rom)}I", data))


class Owner:
    """Console, orders and the turns of the chip, all in one thread."""

    def __init__(self, chip: Chip, port: int, paced: bool):
        self.chip = chip
        self.paced = paced
        self.pace_nanos = 0.0
        self.pace_wall = time.monotonic()
        self.server = socket.create_server(("127.0.0.1", port))
        self.client: socket.socket | None = None
        self.orders = b""
        say({"port": self.server.getsockname()[1]})

    def turn(self) -> None:
        chip = self.chip
        now = time.monotonic()
        free = chip.active_nanos + FREE_IDLE_NANOS
        if not self.paced and chip.clock.nanos < free:
            self.pace_nanos, self.pace_wall = chip.clock.nanos, now
        wall = self.pace_nanos + (now - self.pace_wall) * 1e9
        if chip.clock.nanos < wall - 20e6:
            self.pace_nanos = wall = chip.clock.nanos
            self.pace_wall = now
        idle = chip.run(wall if self.paced else max(free, wall))
        if chip.to_host:
            self._write()
        if chip.gone:
            chip.gone = False
            self._hang_up()
        sources = [sys.stdin, self.server, *([self.client] if self.client else [])]
        readable, _, _ = select.select(sources, [], [], 0.005 if idle else 0)
        if sys.stdin in readable:
            self._obey(os.read(0, 65536))
        if self.server in readable:
            self._accept()
        elif self.client in readable:
            self._read()

    def _accept(self) -> None:
        client, _ = self.server.accept()
        self._hang_up()
        if self.chip.boot_loader:
            client.close()
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.client = client
        self.chip.open(True)

    def _hang_up(self) -> None:
        if self.client:
            self.client.close()
            self.client = None
            self.chip.dtr = False

    def _read(self) -> None:
        assert self.client is not None
        try:
            data = self.client.recv(65536)
        except OSError:
            data = b""
        if data:
            self.chip.to_board += data
            self.chip.feed()
        else:
            self._hang_up()
            self.chip.open(False)

    def _write(self) -> None:
        data = bytes(self.chip.to_host)
        self.chip.to_host.clear()
        if self.client:
            with contextlib.suppress(OSError):
                self.client.sendall(data)

    def _obey(self, data: bytes) -> None:
        if not data:
            sys.exit(0)
        self.orders += data
        while b"\n" in self.orders:
            line, _, self.orders = self.orders.partition(b"\n")
            try:
                say(self._do(json.loads(line)))
            except (ValueError, KeyError, TypeError) as e:
                say({"error": str(e)})

    def _do(self, order: dict[str, Any]) -> dict[str, Any]:
        chip, do = self.chip, order["do"]
        if do == "state":
            return chip.state()
        if do == "cut":
            if order.get("flash_operations"):
                chip.flash.cut_at = chip.flash.operations + order["flash_operations"]
                chip.flash.torn = order.get("torn", 0.0)
            if order.get("cycles"):
                chip.cut_alarm.schedule(order["cycles"] * NANOS_PER_CYCLE)
        elif do == "read":
            chip.read(order["on"])
        elif do == "stall":
            chip.stalled = order["on"]
        elif do == "reset":
            chip.reset()
        else:
            raise ValueError(f"no such order: {do}")
        return {}


def say(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rom", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--id", default="e660000000000000")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--paced", action="store_true")
    parser.add_argument("--untimed", action="store_true")
    given = parser.parse_args()
    words = given.rom.read_bytes()
    rom = list(struct.unpack(f"<{len(words) // 4}I", words))
    owner = Owner(Chip(rom, given.image, bytes.fromhex(given.id), not given.untimed), given.port, given.paced)
    while True:
        owner.turn()


if __name__ == "__main__":
    main()
