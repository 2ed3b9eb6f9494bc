// The RP2040's processor, the quick way: the same registers, memory and cycle counts as rp2040js's own core. Common instructions
// on RAM, flash and boot ROM run in one loop over typed arrays; whatever else there is (peripherals, interrupts, sleep, rare
// instructions) is left to rp2040js, one instruction at a time. Depends on rp2040js 1.4.1.
//
// Cycles are rp2040js's: 1, plus 1 for a load or store, a taken branch, each register of a list; see its executeInstruction.

const NANOS_PER_CYCLE = 8;
const RAM = 0x20000000;
const RAM_BYTES = 264 * 1024;
const FLASH = 0x10000000;
const FLASH_BYTES = 16 * 1024 * 1024;
const ROM_BYTES = 16 * 1024;

// kind of each of the 65536 opcodes: 0 is left to rp2040js
const PATTERNS = [
  ['00000', 'LSL'], ['00001', 'LSR'], ['00010', 'ASR'],
  ['0001100', 'ADD3'], ['0001101', 'SUB3'], ['0001110', 'ADDI3'], ['0001111', 'SUBI3'],
  ['00100', 'MOVI'], ['00101', 'CMPI'], ['00110', 'ADDI'], ['00111', 'SUBI'],
  ['0100000000', 'AND'], ['0100000001', 'EOR'], ['0100000010', 'LSLR'], ['0100000011', 'LSRR'],
  ['0100000100', 'ASRR'], ['0100000101', 'ADC'], ['0100000110', 'SBC'], ['0100000111', 'ROR'],
  ['0100001000', 'TST'], ['0100001001', 'RSB'], ['0100001010', 'CMP'], ['0100001011', 'CMN'],
  ['0100001100', 'ORR'], ['0100001101', 'MUL'], ['0100001110', 'BIC'], ['0100001111', 'MVN'],
  ['01000100', 'ADDH'], ['01000101', 'CMPH'], ['01000110', 'MOVH'], ['010001110', 'BX'], ['010001111', 'BLX'],
  ['01001', 'LDRL'],
  ['0101000', 'STRR'], ['0101001', 'STRHR'], ['0101010', 'STRBR'], ['0101011', 'LDRSB'],
  ['0101100', 'LDRR'], ['0101101', 'LDRHR'], ['0101110', 'LDRBR'], ['0101111', 'LDRSH'],
  ['01100', 'STR'], ['01101', 'LDR'], ['01110', 'STRB'], ['01111', 'LDRB'], ['10000', 'STRH'], ['10001', 'LDRH'],
  ['10010', 'STRSP'], ['10011', 'LDRSP'], ['10100', 'ADR'], ['10101', 'ADDSP'],
  ['101100000', 'SPUP'], ['101100001', 'SPDOWN'],
  ['1011001000', 'SXTH'], ['1011001001', 'SXTB'], ['1011001010', 'UXTH'], ['1011001011', 'UXTB'],
  ['1011010', 'PUSH'], ['1011110', 'POP'], ['1011101000', 'REV'],
  ['11000', 'STM'], ['11001', 'LDM'], ['11100', 'B'], ['11110', 'BL'],
  ...Array.from({ length: 14 }, (_, i) => ['1101' + i.toString(2).padStart(4, '0'), 'BC' + i]),
];
const KIND = new Uint8Array(65536);
const K = {};
PATTERNS.forEach(([bits, name], i) => {
  K[name] = i + 1;
  const first = parseInt(bits.padEnd(16, '0'), 2);
  KIND.fill(i + 1, first, first + (1 << (16 - bits.length)));
});
const { LSL, LSR, ASR, ADD3, SUB3, ADDI3, SUBI3, MOVI, CMPI, ADDI, SUBI, AND, EOR, LSLR, LSRR, ASRR, ADC, SBC, ROR, TST, RSB } = K;
const { CMP, CMN, ORR, MUL, BIC, MVN, ADDH, CMPH, MOVH, BX, BLX, LDRL, STRR, STRHR, STRBR, LDRSB, LDRR, LDRHR, LDRBR, LDRSH } = K;
const { STR, LDR, STRB, LDRB, STRH, LDRH, STRSP, LDRSP, ADR, ADDSP, SPUP, SPDOWN, SXTH, SXTB, UXTH, UXTB, PUSH, POP, REV } = K;
const { STM, LDM, B, BL, BC0 } = K;

const COUNT = new Uint8Array(256).map((_, i) => i.toString(2).replaceAll('0', '').length);

// For one chip (rp2040js's RP2040 and its clock): run(until, most) works until the clock has come to `until` nanoseconds, `most`
// cycles have gone, the core sleeps, or `stop()` says so after an instruction that rp2040js did.
export function quickly(mcu, clock, stop) {
  const core = mcu.core;
  const R = new Int32Array(core.registers.buffer);
  const [ram8, ram16, ram32] = [mcu.sram, new Uint16Array(mcu.sram.buffer), new Int32Array(mcu.sram.buffer)];
  const [flash8, flash16, flash32] = [mcu.flash, mcu.flash16, new Int32Array(mcu.flash.buffer)];
  const rom = mcu.bootrom.buffer;
  const [rom8, rom16, rom32] = [new Uint8Array(rom), new Uint16Array(rom), new Int32Array(rom)];

  return function run(until, most) {
    while (most > 0 && !core.waiting && clock.nanosCounter < until) {
      if (!core.interruptsUpdated) {
        const now = clock.nanosCounter;
        const alarm = clock.nextAlarm;
        const end = alarm !== null && alarm.nanos < until ? alarm.nanos : until;
        const budget = Math.max(1, Math.min(most, Math.ceil((end - now) / NANOS_PER_CYCLE)));
        const used = burst(budget);
        if (used) {
          most -= used;
          core.cycles += used;
          const time = now + used * NANOS_PER_CYCLE;
          if (alarm !== null && alarm.nanos <= time) clock.tick(used * NANOS_PER_CYCLE);
          else clock.nanosCounter = time; // what tick does when no alarm is due
          if (used >= budget) continue;
        }
      }
      const cycles = core.executeInstruction();
      clock.tick(cycles * NANOS_PER_CYCLE);
      most -= cycles;
      if (stop()) return;
    }
  };

  // Instructions of the common kinds until `budget` cycles are used or one of another kind comes; returns the cycles.
  function burst(budget) {
    let pc = R[15] & ~1;
    let nz = core.Z ? 0 : core.N ? -1 : 1; // the last result: its sign is N, its being 0 is Z
    let c = core.C ? 1 : 0;
    let v = core.V ? 1 : 0;
    let used = 0;
    let base = 0;
    let length = 0;
    let code = rom16;
    loop: while (used < budget) {
      let at = (pc - base) | 0;
      if (at >>> 0 >= length) {
        if (((pc - FLASH) | 0) >>> 0 < FLASH_BYTES) {
          base = FLASH;
          length = FLASH_BYTES;
          code = flash16;
        } else if (((pc - RAM) | 0) >>> 0 < RAM_BYTES) {
          base = RAM;
          length = RAM_BYTES;
          code = ram16;
        } else if (pc >>> 0 < ROM_BYTES) {
          base = 0;
          length = ROM_BYTES;
          code = rom16;
        } else break;
        at = (pc - base) | 0;
      }
      const op = code[at >> 1];
      const d = op & 7;
      const m = (op >> 3) & 7;
      const n8 = (op >> 8) & 7;
      const kind = KIND[op];
      switch (kind) {
        case LSL: {
          const s = (op >> 6) & 31;
          const a = R[m];
          if (s) c = (a >>> (32 - s)) & 1;
          R[d] = nz = a << s;
          break;
        }
        case LSR: {
          const s = (op >> 6) & 31;
          const a = R[m];
          c = (a >>> ((s - 1) & 31)) & 1;
          R[d] = nz = s ? (a >>> s) | 0 : 0;
          break;
        }
        case ASR: {
          const s = (op >> 6) & 31;
          const a = R[m];
          c = (a >>> ((s - 1) & 31)) & 1;
          R[d] = nz = a >> (s || 31);
          break;
        }
        case ADD3:
        case ADDI3:
        case ADDI: {
          const a = kind === ADDI ? R[n8] : R[m];
          const b = kind === ADD3 ? R[(op >> 6) & 7] : kind === ADDI3 ? (op >> 6) & 7 : op & 255;
          const r = (a + b) | 0;
          c = r >>> 0 < a >>> 0 ? 1 : 0;
          v = ((a ^ r) & (b ^ r)) >>> 31;
          R[kind === ADDI ? n8 : d] = nz = r;
          break;
        }
        case SUB3:
        case SUBI3:
        case SUBI: {
          const a = kind === SUBI ? R[n8] : R[m];
          const b = kind === SUB3 ? R[(op >> 6) & 7] : kind === SUBI3 ? (op >> 6) & 7 : op & 255;
          const r = (a - b) | 0;
          c = a >>> 0 >= b >>> 0 ? 1 : 0;
          v = ((a ^ b) & (a ^ r)) >>> 31;
          R[kind === SUBI ? n8 : d] = nz = r;
          break;
        }
        case MOVI:
          R[n8] = nz = op & 255;
          break;
        case CMPI:
        case CMP:
        case CMPH: {
          let a;
          let b;
          if (kind === CMPI) {
            a = R[n8];
            b = op & 255;
          } else if (kind === CMP) {
            a = R[d];
            b = R[m];
          } else {
            const n = ((op >> 4) & 8) | d;
            const h = (op >> 3) & 15;
            if (n === 15 || h === 15) break loop;
            a = R[n];
            b = R[h];
          }
          const r = (a - b) | 0;
          c = a >>> 0 >= b >>> 0 ? 1 : 0;
          v = ((a ^ b) & (a ^ r)) >>> 31;
          nz = r;
          break;
        }
        case AND:
          R[d] = nz = R[d] & R[m];
          break;
        case EOR:
          R[d] = nz = R[d] ^ R[m];
          break;
        case ORR:
          R[d] = nz = R[d] | R[m];
          break;
        case BIC:
          R[d] = nz = R[d] & ~R[m];
          break;
        case MVN:
          R[d] = nz = ~R[m];
          break;
        case TST:
          nz = R[d] & R[m];
          break;
        case MUL:
          R[d] = nz = Math.imul(R[d], R[m]);
          break;
        case LSLR: {
          const s = R[m] & 255;
          const a = R[d];
          if (s) c = s <= 32 ? (a >>> (32 - s)) & 1 : 0;
          R[d] = nz = s < 32 ? a << s : 0;
          break;
        }
        case LSRR: {
          const s = R[m] & 255;
          const a = R[d];
          if (s) c = s <= 32 ? (a >>> (s - 1)) & 1 : 0;
          R[d] = nz = s < 32 ? (a >>> s) | 0 : 0;
          break;
        }
        case ASRR: {
          const s = R[m] & 255;
          const a = R[d];
          if (s) c = s < 32 ? (a >>> (s - 1)) & 1 : a >>> 31;
          R[d] = nz = a >> (s < 32 ? s : 31);
          break;
        }
        case ROR: {
          const s = R[m] & 255;
          const a = R[d];
          const r = (a >>> (s & 31)) | (a << ((32 - s) & 31));
          if (s) c = r >>> 31;
          R[d] = nz = r;
          break;
        }
        case ADC: {
          const a = R[d];
          const b = R[m];
          const r = (a + b + c) | 0;
          c = (a >>> 0) + (b >>> 0) + c > 0xffffffff ? 1 : 0;
          v = ((a ^ r) & (b ^ r)) >>> 31;
          R[d] = nz = r;
          break;
        }
        case SBC: {
          const a = R[d];
          const b = R[m];
          const r = (a - b - 1 + c) | 0;
          c = a >>> 0 >= (b >>> 0) + 1 - c ? 1 : 0;
          v = ((a ^ b) & (a ^ r)) >>> 31;
          R[d] = nz = r;
          break;
        }
        case RSB: {
          const b = R[m];
          const r = -b | 0;
          c = b === 0 ? 1 : 0;
          v = (b & r) >>> 31;
          R[d] = nz = r;
          break;
        }
        case CMN: {
          const a = R[d];
          const b = R[m];
          const r = (a + b) | 0;
          c = r >>> 0 < a >>> 0 ? 1 : 0;
          v = ((a ^ r) & (b ^ r)) >>> 31;
          nz = r;
          break;
        }
        case ADDH:
        case MOVH: {
          const n = ((op >> 4) & 8) | d;
          const h = (op >> 3) & 15;
          const b = h === 15 ? (pc + 4) | 0 : R[h];
          const r = kind === MOVH ? b : ((n === 15 ? pc + 4 : R[n]) + b) | 0;
          if (n === 15) {
            pc = r & ~1;
            used += 2;
            continue;
          }
          R[n] = n === 13 ? r & ~3 : r;
          break;
        }
        case BX: {
          const to = R[(op >> 3) & 15];
          if (d || to >>> 28 === 15 || (op >> 3 & 15) === 15) break loop; // the end of an exception, perhaps
          pc = to & ~1;
          used += 2;
          continue;
        }
        case BLX: {
          if (d || (op >> 3 & 15) === 15) break loop;
          const to = R[(op >> 3) & 15];
          R[14] = (pc + 2) | 1;
          pc = to & ~1;
          used += 2;
          continue;
        }
        case B:
          pc = (pc + 4 + ((op << 21) >> 20)) | 0;
          used += 2;
          continue;
        case BL: {
          const op2 = code[(at >> 1) + 1];
          if ((op2 & 0xd000) !== 0xd000) break loop;
          const s = (op >> 10) & 1;
          const high = ((1 ^ s ^ (op2 >> 13)) & 1) << 23 | ((1 ^ s ^ (op2 >> 11)) & 1) << 22;
          R[14] = (pc + 4) | 1;
          pc = (pc + 4 + ((s ? 0xff000000 : 0) | high | ((op & 0x3ff) << 12) | ((op2 & 0x7ff) << 1))) | 0;
          used += 3;
          continue;
        }
        case LDRL:
        case LDRSP:
        case LDR:
        case LDRR: {
          let a;
          if (kind === LDR) a = (R[m] + ((op >> 4) & 0x7c)) | 0;
          else if (kind === LDRSP) a = (R[13] + ((op & 255) << 2)) | 0;
          else if (kind === LDRL) a = (((pc + 4) & ~3) + ((op & 255) << 2)) | 0;
          else a = (R[m] + R[(op >> 6) & 7]) | 0;
          if (a & 3) break loop;
          const to = kind === LDRL || kind === LDRSP ? n8 : d;
          if (((a - RAM) | 0) >>> 0 < RAM_BYTES) R[to] = ram32[(a - RAM) >> 2];
          else if (((a - FLASH) | 0) >>> 0 < FLASH_BYTES) R[to] = flash32[(a - FLASH) >> 2];
          else if (a >>> 0 < ROM_BYTES) R[to] = rom32[a >> 2];
          else break loop;
          used++;
          break;
        }
        case LDRB:
        case LDRBR:
        case LDRSB: {
          const a = (R[m] + (kind === LDRB ? (op >> 6) & 31 : R[(op >> 6) & 7])) | 0;
          let byte;
          if (((a - RAM) | 0) >>> 0 < RAM_BYTES) byte = ram8[a - RAM];
          else if (((a - FLASH) | 0) >>> 0 < FLASH_BYTES) byte = flash8[a - FLASH];
          else if (a >>> 0 < ROM_BYTES) byte = rom8[a];
          else break loop;
          R[d] = kind === LDRSB ? (byte << 24) >> 24 : byte;
          used++;
          break;
        }
        case LDRH:
        case LDRHR:
        case LDRSH: {
          const a = (R[m] + (kind === LDRH ? (op >> 5) & 62 : R[(op >> 6) & 7])) | 0;
          if (a & 1) break loop;
          let half;
          if (((a - RAM) | 0) >>> 0 < RAM_BYTES) half = ram16[(a - RAM) >> 1];
          else if (((a - FLASH) | 0) >>> 0 < FLASH_BYTES) half = flash16[(a - FLASH) >> 1];
          else if (a >>> 0 < ROM_BYTES) half = rom16[a >> 1];
          else break loop;
          R[d] = kind === LDRSH ? (half << 16) >> 16 : half;
          used++;
          break;
        }
        case STR:
        case STRSP:
        case STRR: {
          let a;
          if (kind === STR) a = (R[m] + ((op >> 4) & 0x7c)) | 0;
          else if (kind === STRSP) a = (R[13] + ((op & 255) << 2)) | 0;
          else a = (R[m] + R[(op >> 6) & 7]) | 0;
          if (a & 3 || ((a - RAM) | 0) >>> 0 >= RAM_BYTES) break loop;
          ram32[(a - RAM) >> 2] = R[kind === STRSP ? n8 : d];
          used++;
          break;
        }
        case STRB:
        case STRBR: {
          const a = (R[m] + (kind === STRB ? (op >> 6) & 31 : R[(op >> 6) & 7])) | 0;
          if (((a - RAM) | 0) >>> 0 >= RAM_BYTES) break loop;
          ram8[a - RAM] = R[d];
          used++;
          break;
        }
        case STRH:
        case STRHR: {
          const a = (R[m] + (kind === STRH ? (op >> 5) & 62 : R[(op >> 6) & 7])) | 0;
          if (a & 1 || ((a - RAM) | 0) >>> 0 >= RAM_BYTES) break loop;
          ram16[(a - RAM) >> 1] = R[d];
          used++;
          break;
        }
        case ADR:
          R[n8] = ((pc & ~3) + 4 + ((op & 255) << 2)) | 0;
          break;
        case ADDSP:
          R[n8] = (R[13] + ((op & 255) << 2)) | 0;
          break;
        case SPUP:
          R[13] = R[13] + ((op & 127) << 2);
          break;
        case SPDOWN:
          R[13] = R[13] - ((op & 127) << 2);
          break;
        case SXTH:
          R[d] = (R[m] << 16) >> 16;
          break;
        case SXTB:
          R[d] = (R[m] << 24) >> 24;
          break;
        case UXTH:
          R[d] = R[m] & 0xffff;
          break;
        case UXTB:
          R[d] = R[m] & 0xff;
          break;
        case REV: {
          const a = R[m];
          R[d] = (a << 24) | ((a & 0xff00) << 8) | ((a >> 8) & 0xff00) | (a >>> 24);
          break;
        }
        case PUSH: {
          const list = op & 255;
          const n = COUNT[list] + ((op >> 8) & 1);
          const low = (R[13] - RAM - 4 * n) | 0;
          if (low & 3 || low < 0 || low + 4 * n > RAM_BYTES) break loop;
          let i = low >> 2;
          for (let r = 0; r < 8; r++) if (list & (1 << r)) ram32[i++] = R[r];
          if (op & 256) ram32[i] = R[14];
          R[13] = low + RAM;
          used += COUNT[list];
          break;
        }
        case POP: {
          const list = op & 255;
          const n = COUNT[list];
          const low = (R[13] - RAM) | 0;
          const back = op & 256;
          if (low & 3 || low < 0 || low + 4 * n + 4 > RAM_BYTES) break loop;
          let i = low >> 2;
          if (back && ram32[i + n] >>> 28 === 15) break loop; // the end of an exception, perhaps
          for (let r = 0; r < 8; r++) if (list & (1 << r)) R[r] = ram32[i++];
          if (back) {
            R[13] = low + 4 * n + 4 + RAM;
            pc = ram32[i] & ~1;
            used += n + 3;
            continue;
          }
          R[13] = low + 4 * n + RAM;
          used += n;
          break;
        }
        case STM:
        case LDM: {
          const list = op & 255;
          const low = (R[n8] - RAM) | 0;
          const n = COUNT[list];
          if (list & (1 << n8) || low & 3 || low < 0 || low + 4 * n > RAM_BYTES) break loop;
          let i = low >> 2;
          if (kind === STM) {
            for (let r = 0; r < 8; r++) if (list & (1 << r)) ram32[i++] = R[r];
          } else {
            for (let r = 0; r < 8; r++) if (list & (1 << r)) R[r] = ram32[i++];
          }
          R[n8] = low + 4 * n + RAM;
          used += n;
          break;
        }
        default: {
          if (kind < BC0) break loop;
          let take;
          switch ((kind - BC0) >> 1) {
            case 0:
              take = nz === 0;
              break;
            case 1:
              take = c === 1;
              break;
            case 2:
              take = nz < 0;
              break;
            case 3:
              take = v === 1;
              break;
            case 4:
              take = c === 1 && nz !== 0;
              break;
            case 5:
              take = nz < 0 === (v === 1);
              break;
            default:
              take = nz < 0 === (v === 1) && nz !== 0;
          }
          if (take !== (((kind - BC0) & 1) === 1)) {
            pc = (pc + 4 + ((op << 24) >> 23)) | 0;
            used += 2;
            continue;
          }
        }
      }
      pc += 2;
      used++;
    }
    R[15] = pc;
    core.N = nz < 0;
    core.Z = nz === 0;
    core.C = c === 1;
    core.V = v === 1;
    return used;
  }
}
