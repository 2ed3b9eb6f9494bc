// node cpu_check.mjs MODULES ROM IMAGE : the quick processor of the emulator against rp2040js's own. Every opcode that it does,
// on random registers, flags and memory; then the boot of the firmware in IMAGE, compared as a whole. Prints what was compared.
// Where rp2040js strays from the ARMv6-M manual in a carry or an overflow, that flag is not compared (see `strays`).
import fs from 'node:fs';
import { pathToFileURL } from 'node:url';
import { Chip } from '../../host/tinycl/board/emulator/chip.mjs';
import { quickly } from '../../host/tinycl/board/emulator/cpu.mjs';

const [, , modules, romFile, image] = process.argv;
const rp2040js = await import(pathToFileURL(`${modules}/rp2040js/dist/esm/index.js`));
console.warn = () => {}; // rp2040js tells of each address that is nothing's
const logger = { debug() {}, info() {}, warn() {}, error() {} };

let seed = 12345;
const random = () => ((seed = (Math.imul(seed, 1664525) + 1013904223) | 0) >>> 8) & 0xffff;
const word = () => [(random() << 16) | random(), random() & 63, -1 - (random() & 63), 0x80000000, 0x7fffffff, 0][random() % 6] | 0;
const RAM = 0x20000000;

function make() {
  const simulator = new rp2040js.Simulator();
  simulator.rp2040.logger = logger;
  simulator.rp2040.onBreak = () => {};
  return { mcu: simulator.rp2040, clock: simulator.clock, core: simulator.rp2040.core };
}

// Where rp2040js is wrong: shifts by a register of 0 or more than 32, carries that make an operand overflow, `blx lr`.
function strays(op, registers, carry) {
  const top = op >> 6;
  const shift = registers[(op >> 3) & 7] & 255;
  if ([0x102, 0x103, 0x104, 0x107].includes(top) && (shift === 0 || shift >= 32)) return 'C';
  if (top === 0x105 && carry) return 'V';
  if (top === 0x106 && !carry) return 'V';
  return '';
}

const [one, two] = [make(), make()];
const run = quickly(one.mcu, one.clock, () => false);
let compared = 0;
const bytes = Uint8Array.from({ length: 0x1000 }, random);
for (let op = 0; op < 0x10000; op++) {
  if (op >> 8 === 0xbe || op >> 8 === 0xde || op >> 8 === 0xdf || op >> 12 === 0xf || op >> 11 === 0x1d) continue;
  if (op >> 8 === 0xb6 || op >> 8 === 0xbf) continue; // interrupts, sleep: rp2040js does them in both
  if (op === 0x47f0) continue; // blx lr: see `strays`
  for (let round = 0; round < 3; round++) {
    const registers = Int32Array.from({ length: 16 }, word);
    const data = round % 2 ? ((op >> 3) & 7) : ((op >> 8) & 7);
    registers[data] = RAM + 0x8000 + (random() & 0xffc); // so that loads and stores have somewhere to go
    if (round === 2) registers[(op >> 6) & 7] = random() & 0xfc;
    registers[13] = RAM + 0x20000 + (random() & 0xffc);
    const pc = RAM + 0x1000;
    const flags = random();
    for (const { mcu, clock, core } of [one, two]) {
      mcu.sram.fill(0, 0x8000, 0xa000);
      mcu.sram.set(bytes, 0x8000);
      mcu.sram.set(bytes, 0x20000);
      new DataView(mcu.sram.buffer).setUint16(0x1000, op, true);
      core.registers.set(registers);
      core.PC = pc;
      [core.N, core.Z, core.C, core.V] = [!!(flags & 1), !!(flags & 2) && !(flags & 1), !!(flags & 4), !!(flags & 8)];
      core.cycles = 0;
      core.currentMode = 0;
      clock.nanosCounter = 0;
    }
    const cycles = two.core.executeInstruction();
    two.clock.tick(cycles * 8);
    run(Infinity, 1);
    const state = ({ core, clock }) => {
      const skip = strays(op, registers, !!(flags & 4));
      const shown = ['N', 'Z', 'C', 'V'].filter((f) => f !== skip).map((f) => f + Number(core[f]));
      return [...core.registers, ...shown, core.cycles, clock.nanos].join();
    };
    const memory = ({ mcu }, at) => mcu.sram.subarray(at - 0x100, at + 0x2000);
    const same = [0x8000, 0x20000].every((at) => Buffer.compare(memory(one, at), memory(two, at)) === 0);
    if (!same || state(one) !== state(two)) {
      const show = (s) => state(s);
      console.log(`opcode ${op.toString(16)}, registers ${[...registers]}\n quick ${show(one)}\n slow  ${show(two)}`);
      process.exit(1);
    }
    compared++;
  }
}
console.log(`${compared} instructions`);

// The boot, with no host on the bus: the same registers, memory and clock at the same time.
const rom = fs.readFileSync(romFile);
const words = new Uint32Array(rom.buffer, rom.byteOffset, rom.length / 4);
const chips = [false, true].map((slow) => {
  const copy = `${image}.${slow ? 'slow' : 'quick'}`;
  fs.copyFileSync(image, copy);
  return new Chip({ rp2040js, rom: words, image: copy, id: Buffer.alloc(8), timed: true, slow, onData() {}, onReset() {} });
});
for (let step = 1; step <= 10; step++) {
  for (const chip of chips) {
    while (chip.clock.nanos < step * 40e6) {
      if (chip.core.waiting) chip.sleep(chip.clock.nextAlarm.nanos - chip.clock.nanos);
      else chip.work(step * 40e6, 1e9);
    }
  }
  const [quick, slow] = chips.map(({ core, mcu, clock, flash }) =>
    [...core.registers, core.N, core.Z, core.C, core.V, core.cycles, clock.nanos, flash.operations, Buffer.from(mcu.sram).toString('base64')].join(),
  );
  if (quick !== slow) {
    console.log(`boot differs after ${step * 40} ms\n quick ${quick.slice(0, 200)}\n slow  ${slow.slice(0, 200)}`);
    process.exit(1);
  }
}
console.log(`${chips[0].core.cycles} cycles of the boot`);
