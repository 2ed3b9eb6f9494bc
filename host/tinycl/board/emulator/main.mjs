// node main.mjs --modules DIR --rom FILE --image FILE [--id HEX] [--port N] [--paced] [--untimed] [--slow]
// An emulated Pico: its USB console on a loopback TCP port, its flash in FILE, its owner on stdin and stdout, one JSON a line.
// It ends when stdin does, so that it never outlives its owner. Depends on chip.mjs.
//
// First line out: {"port": N}. Then for each line in, one out:
//   {"do": "state"}                               cycles since power-on, those of them in sleep, flash operations, …
//   {"do": "cut", "flash_operations": N, "torn": 0.5}   the power goes in the middle of the N-th erase or program from now
//   {"do": "cut", "cycles": N}                    … in N cycles
//   {"do": "read", "on": false}                   the host keeps the port open but takes nothing
//   {"do": "stall", "on": true}                   the chip stands still
//   {"do": "reset"}                               as by the reset button
import fs from 'node:fs';
import net from 'node:net';
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';
import { Chip, NANOS_PER_CYCLE } from './chip.mjs';

const SLICE_MS = 3;
const { values: given } = parseArgs({
  options: {
    modules: { type: 'string' },
    rom: { type: 'string' },
    image: { type: 'string' },
    id: { type: 'string', default: 'e660000000000000' },
    port: { type: 'string', default: '0' },
    paced: { type: 'boolean', default: false },
    untimed: { type: 'boolean', default: false },
    slow: { type: 'boolean', default: false },
  },
});
const rp2040js = await import(pathToFileURL(`${given.modules}/rp2040js/dist/esm/index.js`));
console.warn = () => {}; // rp2040js tells of each register that it does not know
const words = fs.readFileSync(given.rom);

let socket = null;
let out = [];
const chip = new Chip({
  rp2040js,
  rom: new Uint32Array(words.buffer, words.byteOffset, words.length / 4),
  image: given.image,
  id: Buffer.from(given.id, 'hex'),
  timed: !given.untimed,
  slow: given.slow,
  onData: (bytes) => out.push(bytes),
  onReset: () => hangUp(), // off the bus: whoever has the port open sees it vanish
});

function hangUp() {
  flush();
  if (socket) socket.destroy();
  socket = null;
  chip.dtr = false;
}

function flush() {
  if (socket && out.length) socket.write(Buffer.concat(out));
  out = [];
}

const server = net.createServer((client) => {
  if (chip.bootLoader) return client.destroy();
  if (socket) socket.destroy();
  socket = client;
  client.setNoDelay(true);
  chip.open(true);
  client.on('data', (bytes) => {
    if (client !== socket) return;
    chip.send(bytes);
    wake();
  });
  client.on('error', () => {});
  client.on('close', () => {
    if (client !== socket) return;
    socket = null;
    chip.open(false);
    wake();
  });
  wake();
});

const commands = {
  state: () => ({
    cycles: chip.nanos / NANOS_PER_CYCLE,
    asleep: chip.sleptNanos / NANOS_PER_CYCLE,
    boot_cycles: chip.clock.nanos / NANOS_PER_CYCLE,
    last_in_us: chip.lastInNanos / 1000,
    last_out_us: chip.lastOutNanos / 1000,
    boots: chip.boots,
    idle: chip.idle,
    boot_loader: chip.bootLoader,
    flash_operations: chip.flash.operations,
    erases: chip.flash.erases,
    programs: chip.flash.programs,
  }),
  cut: ({ flash_operations: operations, torn = 0, cycles }) => {
    if (operations) chip.flash.cut = { at: chip.flash.operations + operations, torn };
    if (cycles) chip.cutAtNanos = chip.nanos + cycles * NANOS_PER_CYCLE;
    return {};
  },
  read: ({ on }) => (chip.read(on), {}),
  stall: ({ on }) => ((chip.stalled = on), {}),
  reset: () => (chip.reset(), {}),
};

let line = '';
process.stdin.setEncoding('utf8');
process.stdin.on('data', (text) => {
  line += text;
  for (let at; (at = line.indexOf('\n')) >= 0; line = line.slice(at + 1)) {
    let answer;
    try {
      const order = JSON.parse(line.slice(0, at));
      answer = commands[order.do](order);
    } catch (e) {
      answer = { error: String(e) };
    }
    fs.writeSync(1, JSON.stringify(answer) + '\n');
    wake();
  }
});
process.stdin.on('end', () => process.exit(0));

let timer = null;
function turn() {
  timer = null;
  const idle = chip.run(SLICE_MS, given.paced);
  flush();
  if (idle) timer = setTimeout(turn, idle);
  else setImmediate(turn);
}
function wake() {
  if (!timer) return; // it runs already
  clearTimeout(timer);
  timer = null;
  setImmediate(turn);
}

server.listen(Number(given.port), '127.0.0.1', () => {
  fs.writeSync(1, JSON.stringify({ port: server.address().port }) + '\n');
  turn();
});
