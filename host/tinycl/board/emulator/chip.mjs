// An RP2040 in rp2040js with what that leaves out: a flash chip that is a file, the boot ROM's flash routines, a USB host that
// behaves as a real one does, resets. Depends on rp2040js 1.4.1 (some of its fields are private; the version is pinned).
import fs from 'node:fs';
import { quickly } from './cpu.mjs';

const FLASH_BYTES = 2 * 1024 * 1024;
const XIP_BASE = 0x10000000;
const SECTOR_BYTES = 4096;
const PAGE_BYTES = 256;
export const NANOS_PER_CYCLE = 8; // 125 MHz
const ERASE_NANOS = 45e6; // a sector and a page of the Pico's W25Q16JV take so long, by its data sheet (typical)
const PROGRAM_NANOS = 0.4e6;
const PACKET_MICROS = 53; // a full-speed bus carries 19 bulk packets of 64 bytes in a frame of 1 ms
const FREE_IDLE_NANOS = 2e9;
const IDLE_NANOS = 0.9e9;
const READ_UNIQUE_ID = 0x4b; // the flash chip's command: 4 dummy bytes, then 8 of the id

// What an erase or a program changes is in the file before the chip goes on: whenever this process ends, the file is what the
// chip's flash would be.
class Flash {
  constructor(path, timed) {
    this.file = fs.openSync(path, 'r+');
    this.bytes = new Uint8Array(FLASH_BYTES).fill(0xff);
    fs.readSync(this.file, this.bytes, 0, FLASH_BYTES, 0);
    this.timed = timed;
    this.erases = 0;
    this.programs = 0;
    this.cut = null; // { at, torn }: the power goes in the middle of operation number `at`, with this share of it done
  }

  get operations() {
    return this.erases + this.programs;
  }

  erase(chip, at, length) {
    for (let sector = at; sector < at + length; sector += SECTOR_BYTES) {
      this.change(chip, sector, SECTOR_BYTES, (i) => 0xff, ERASE_NANOS);
      this.erases++;
    }
  }

  program(chip, at, data) {
    for (let page = 0; page < data.length; page += PAGE_BYTES) {
      const length = Math.min(PAGE_BYTES, data.length - page);
      this.change(chip, at + page, length, (i) => this.bytes[at + page + i] & data[page + i], PROGRAM_NANOS);
      this.programs++;
    }
  }

  change(chip, at, length, value, nanos) {
    const last = this.cut && this.operations + 1 >= this.cut.at;
    const done = last ? Math.floor(length * this.cut.torn) : length;
    for (let i = 0; i < done; i++) this.bytes[at + i] = value(i);
    chip.mcu.flash.set(this.bytes.subarray(at, at + length), at);
    fs.writeSync(this.file, this.bytes, at, length, at);
    if (last) process.kill(process.pid, 'SIGKILL');
    chip.active();
    if (this.timed) chip.clock.tick(nanos);
  }
}

export class Chip {
  // rp2040js: the module; rom: its words; image: path of the flash's file; id: 8 bytes; timed: flash takes its time; slow: see
  // `stepwise`; onData(bytes): what the board sends to its host; onReset(): it left the bus.
  constructor({ rp2040js, rom, image, id, timed, slow, onData, onReset }) {
    Object.assign(this, { rp2040js, id, slow, onData, onReset });
    this.rom = new Uint32Array(rom);
    this.flash = new Flash(image, timed);
    this.routines = serveFlashRoutines(this.rom);
    this.toBoard = []; // bytes that wait for the board to take them
    this.dtr = false; // a host has the port open
    this.reading = true; // and takes what comes
    this.stalled = false;
    this.bootLoader = false;
    this.cutAtNanos = Infinity;
    this.nanosBefore = 0; // of the boots before this one
    this.sleptNanos = 0;
    this.boots = 0;
    this.boot(0, null);
  }

  boot(reason, scratch) {
    if (this.clock) this.nanosBefore += this.clock.nanos;
    this.boots++;
    this.resetting = false;
    const simulator = new this.rp2040js.Simulator();
    this.mcu = simulator.rp2040;
    this.core = this.mcu.core;
    this.clock = simulator.clock;
    this.activeNanos = this.paceNanos = this.lastInNanos = this.lastOutNanos = 0;
    this.paceWall = performance.now();
    this.mcu.logger = { debug() {}, info() {}, warn() {}, error() {} };
    this.mcu.loadBootrom(this.rom);
    this.mcu.flash.set(this.flash.bytes);
    this.mcu.onBreak = (code) => this.routine(code);
    const watchdog = this.mcu.peripherals[0x40058];
    watchdog.reason = reason;
    if (scratch) watchdog.scratchData.set(scratch);
    watchdog.onWatchdogTrigger = () => (this.resetting = true);
    this.serveUniqueId(this.mcu.peripherals[0x18000]);
    this.plugIn(this.mcu.usbCtrl);
    this.core.PC = XIP_BASE;
    this.work = this.slow
      ? (until, most) => stepwise(this, until, most)
      : quickly(this.mcu, this.clock, () => this.resetting || this.bootLoader);
  }

  routine(code) {
    const [a, b, n] = [this.core.registers[0], this.core.registers[1], this.core.registers[2]];
    switch (this.routines[code]) {
      case 'RE':
        return this.flash.erase(this, a, b);
      case 'RP':
        return this.flash.program(this, a, Uint8Array.from({ length: n }, (_, i) => this.mcu.readUint8(b + i)));
      case 'UB':
        this.bootLoader = true;
        return this.onReset();
      case undefined:
        throw new Error(`the firmware stopped at breakpoint ${code}, at 0x${this.core.PC.toString(16)}`);
    }
  }

  // The id's eight bytes are shifted out by the flash chip; the firmware sends and reads in lockstep.
  serveUniqueId(ssi) {
    const [read, write, DATA] = [ssi.readUint32.bind(ssi), ssi.writeUint32.bind(ssi), 0x60];
    let at = -1;
    ssi.writeUint32 = (offset, value) => {
      if (offset === DATA) at = at >= 0 && at < 12 ? at + 1 : value === READ_UNIQUE_ID ? 0 : -1;
      write(offset, value);
    };
    ssi.readUint32 = (offset) => (offset === DATA && at > 4 ? this.id[at - 5] : read(offset));
  }

  // The host's end of the bus. Stock rp2040js answers an idle OUT endpoint with an empty packet every 10 us, so that the
  // firmware lives in its USB stack; here the read stays pending until there is a byte, as under a real host. What the board
  // sends is acknowledged when it is delivered: not at all while the host does not read.
  plugIn(usb) {
    usb.readDelayMicroseconds = usb.writeDelayMicroseconds = PACKET_MICROS;
    const cdc = (this.cdc = new this.rp2040js.USBCDC(usb));
    this.usb = usb;
    this.pendingReads = [];
    this.held = [];
    this.lines = []; // states of DTR and RTS to be told, one control transfer after the other
    this.telling = true; // the first is sent by rp2040js when it has configured the device
    const { onEndpointRead, onEndpointWrite } = usb;
    usb.onEndpointRead = (endpoint, size) => {
      if (endpoint === 0 || endpoint !== cdc.outEndpoint) return onEndpointRead(endpoint, size);
      this.pendingReads.push(size);
      this.feed();
    };
    let unacknowledged = 0;
    const acknowledge = usb.indicateBufferReady.bind(usb);
    usb.indicateBufferReady = (endpoint, out) => {
      if (out || endpoint === 0 || endpoint !== cdc.inEndpoint) acknowledge(endpoint, out);
      else unacknowledged++;
    };
    this.deliver = (bytes) => {
      this.active();
      this.lastOutNanos = this.clock.nanos;
      if (this.dtr) this.onData(bytes);
      if (unacknowledged) {
        unacknowledged--;
        acknowledge(cdc.inEndpoint, false);
      }
    };
    cdc.onSerialData = (bytes) => (this.reading ? this.deliver(bytes) : this.held.push(bytes));
    usb.onEndpointWrite = (endpoint, bytes) => {
      const told = cdc.initialized && endpoint === 0 && bytes.length === 0;
      onEndpointWrite(endpoint, bytes);
      if (told) {
        this.telling = false;
        this.tellLines();
      }
    };
    cdc.onDeviceConnected = () => {
      if (!this.dtr) this.lines.push(false);
    };
  }

  tellLines() {
    if (this.telling || !this.lines.length) return;
    this.telling = true;
    this.cdc.cdcSetControlLineState(this.lines.shift() ? 3 : 0);
  }

  // A host opens the port (DTR and RTS rise) or closes it.
  open(on) {
    this.dtr = on;
    this.toBoard.length = 0;
    if (this.cdc.initialized) {
      this.lines.push(on);
      this.tellLines();
    }
  }

  send(bytes) {
    this.toBoard.push(bytes);
    this.feed();
  }

  feed() {
    while (this.pendingReads.length && this.toBoard.length) {
      const size = this.pendingReads.shift();
      const packet = this.toBoard[0].subarray(0, size);
      if (packet.length < this.toBoard[0].length) this.toBoard[0] = this.toBoard[0].subarray(size);
      else this.toBoard.shift();
      this.active();
      this.lastInNanos = this.clock.nanos;
      this.usb.endpointReadDone(this.cdc.outEndpoint, packet);
    }
  }

  read(on) {
    this.reading = on;
    if (on) for (const bytes of this.held.splice(0)) this.deliver(bytes);
  }

  active() {
    this.activeNanos = this.clock.nanos;
  }

  reset() {
    this.bootLoader = false;
    this.toBoard.length = 0;
    this.boot(0, null);
    this.onReset();
  }

  // It sleeps, and neither its host nor its flash has kept it busy for a while: it waits for its host.
  get idle() {
    return this.core.waiting && this.clock.nanos - this.activeNanos > IDLE_NANOS;
  }

  sleep(nanos) {
    this.sleptNanos += nanos;
    this.clock.tick(nanos);
  }

  get nanos() {
    return this.nanosBefore + this.clock.nanos;
  }

  // Runs for so long, or until the chip sleeps; returns the milliseconds for which it needs no CPU (0: it has work).
  // Code runs as fast as it goes. Sleep is skipped for the first two seconds after the board did or got something, and then
  // lasts as long as it says; `paced` never runs ahead of the clock on the wall.
  run(milliseconds, paced) {
    if (this.stalled || this.bootLoader) return 50;
    const { core, clock } = this;
    const now = performance.now();
    const end = now + milliseconds;
    const free = this.activeNanos + FREE_IDLE_NANOS;
    if (!paced && clock.nanos < free) {
      this.paceNanos = clock.nanos;
      this.paceWall = now;
    }
    let wall = this.paceNanos + (now - this.paceWall) * 1e6;
    if (clock.nanos < wall - 20e6) {
      this.paceNanos = wall = clock.nanos; // slower than life: the debt is forgotten
      this.paceWall = now;
    }
    const sleepUntil = paced ? wall : Math.max(free, wall);
    const until = Math.min(paced ? wall : Infinity, this.cutAtNanos - this.nanosBefore);
    do {
      if (core.waiting) {
        const next = clock.nextAlarm;
        if (next === null || next.nanos > sleepUntil) {
          const left = next === null ? 50 : (next.nanos - clock.nanos) / 1e6;
          this.sleep(Math.max(0, Math.min(sleepUntil, next === null ? Infinity : next.nanos) - clock.nanos));
          return Math.max(1, Math.min(50, left));
        }
        this.sleep(next.nanos - clock.nanos);
      }
      this.work(until, 40000);
      if (this.bootLoader) return 50;
      if (this.resetting) {
        const { scratchData, reason } = this.mcu.peripherals[0x40058];
        this.boot(reason, scratchData);
        this.onReset();
        return 0;
      }
      if (clock.nanosCounter >= until) {
        if (this.nanos >= this.cutAtNanos) process.kill(process.pid, 'SIGKILL');
        return 1;
      }
    } while (performance.now() < end);
    return 0;
  }
}

// As `quickly`, by rp2040js alone: what that is compared with.
function stepwise(chip, until, most) {
  const { core, clock } = chip;
  while (most > 0 && !core.waiting && clock.nanosCounter < until) {
    const cycles = core.executeInstruction();
    clock.tick(cycles * NANOS_PER_CYCLE);
    most -= cycles;
    if (chip.resetting || chip.bootLoader) return;
  }
}

// Flash routines of the boot ROM drive a flash chip that rp2040js lacks, and its boot loader a host that it lacks: their first
// instructions become `bkpt n; bx lr`, and `routine` serves them. Returns { n: name }.
function serveFlashRoutines(rom) {
  const view = new DataView(rom.buffer);
  const served = {};
  for (let entry = view.getUint16(0x14, true), n = 0xd0; view.getUint16(entry, true); entry += 4) {
    const name = String.fromCharCode(view.getUint8(entry), view.getUint8(entry + 1));
    if (!['RE', 'RP', 'IF', 'EX', 'FC', 'CX', 'UB'].includes(name)) continue;
    const address = view.getUint16(entry + 2, true) & ~1;
    view.setUint16(address, 0xbe00 | n, true);
    view.setUint16(address + 2, 0x4770, true);
    served[n++] = name;
  }
  return served;
}
