import { BPF_FUNC, helperName } from '../../src/bpf/helper-ids.js';
import { frozenContent, isConstantString } from './map-access.js';
import type { Simulation } from './simulation.js';
import { spilledNumber } from './stack-access.js';
import { rejectStale } from './stale-pointers.js';
import { describeKind } from './value-format.js';
import { Kind, type Value } from './value.js';

/** A call of bpf_trace_printk. */
export interface Printing {
  /** What it prints, byte by byte as far as it is known; found out with the first argument that it may name. */
  format: readonly (number | undefined)[] | undefined;
}

/** Where bpf_trace_printk takes the first argument that its format names. */
const FIRST_PRINTED = 3;
/** Of a format, no more is read (src/bpf/runtime/helpers/output-helpers.ts). */
const MOST_FORMAT_BYTES = 4096;

const byteOf = (character: string): number => character.charCodeAt(0);
const PERCENT = byteOf('%');

/** What a conversion does with its argument. */
enum Conversion {
  /** Prints it, in as many characters as it takes. */
  Number,
  /** Prints it in 16 digits, whatever it is. */
  Address,
  /**
   * Takes it for an address and prints what is there: bytes, or the name of a symbol of the kernel. What is there is checked by
   * nobody, so that a program that chooses the address reads any memory, as with bpf_probe_read_kernel.
   */
  Memory,
}

/**
 * An argument of bpf_trace_printk has to be there as far as the format (R1, of R2 bytes) may name it. Programs leave
 * the others unset; what happens to be in the register would be printed. Of a pointer the helper gives back how many
 * characters it took, which tells the address of one that is moved until it takes one more.
 */
export function checkPrintArgument(sim: Simulation, call: Printing, register: number): void {
  const value = sim.peek(register);
  const format = (call.format ??= knownBytes(sim, sim.peek(1), Number(sim.peek(2).scalar.umax)));
  const index = register - FIRST_PRINTED;
  if (mostConversions(format) <= index) return;
  const isKnown = format.indexOf(undefined) < 0;
  if (value.kind === Kind.NotInit) {
    sim.reject(
      'uninitialised-register',
      isKnown
        ? `the format of bpf_trace_printk names R${register}, but nothing was put into it on this path`
        : `the format of bpf_trace_printk is not known and may name R${register}, but nothing was put into it on this path`,
      {
        registers: [register, 1],
        suggestion: isKnown
          ? 'pass an argument for each conversion of the format'
          : `keep the format in .rodata (static const char text[] = "…"), or put 0 into R${register}`,
      },
    );
  }
  if (mayPrintAnything(sim)) return;
  // Of a format that is not known, the worst.
  const conversion = isKnown ? conversionsOf(format)[index] : undefined;
  if (isKnown && conversion === undefined) return;
  if (value.isPointer) {
    if (value.kind === Kind.Stale) rejectStale(sim, register);
    if (conversion === Conversion.Address) return;
    if (conversion === Conversion.Memory && isConstantString(value)) return;
    sim.reject(
      'pointer-leak',
      `R${register} is ${describeKind(value)}, and how many characters bpf_trace_printk makes of it would tell the address`,
      {
        registers: [register, 1],
        suggestion:
          'print it with %p, or a constant string with %s, and keep the format in .rodata or on the stack',
      },
    );
  }
  if (conversion === Conversion.Number || conversion === Conversion.Address) return;
  if (value.isZero) sim.precise(register);
  else rejectMemoryOfNumber(sim, 'bpf_trace_printk', isKnown, [register, 1]);
}

/** The format of a helper that takes its arguments from memory: all are numbers, as no pointer may be in it. */
export function checkFormat(sim: Simulation, helper: number): void {
  const register = helper === BPF_FUNC.snprintf ? 3 : 1;
  const limit = helper === BPF_FUNC.snprintf ? MOST_FORMAT_BYTES : Number(sim.peek(2).scalar.umax);
  const format = knownBytes(sim, sim.peek(register), limit);
  const isKnown = format.indexOf(undefined) < 0;
  const name = helperName(helper);
  if (helper === BPF_FUNC.snprintf && format.at(-1) !== 0) {
    sim.reject('helper-argument', `the format of ${name} has more than ${MOST_FORMAT_BYTES - 1} characters`, {
      registers: [register],
      suggestion: 'print in several calls',
    });
  }
  if (mayPrintAnything(sim)) return;
  if (isKnown ? !conversionsOf(format).includes(Conversion.Memory) : mostConversions(format) === 0) return;
  rejectMemoryOfNumber(sim, name, isKnown, [register]);
}

/** Who may see addresses may have them printed, and who may read the kernel's memory may do so here. */
function mayPrintAnything({ options }: Simulation): boolean {
  return options.allowPointerLeaks || options.allowPrivilegedHelpers;
}

function rejectMemoryOfNumber(
  sim: Simulation,
  name: string,
  isKnown: boolean,
  registers: readonly number[],
): never {
  const what = isKnown ? 'takes' : 'is not known and may take';
  sim.reject(
    'helper-privileged',
    `the format of ${name} ${what} a number for the address of what it prints, and so reads any memory`,
    {
      registers,
      suggestion: isKnown
        ? 'print numbers with %d, %u or %x, addresses of packets byte by byte, and constant strings as part of the format'
        : 'keep the format in .rodata (static const char text[] = "…")',
    },
  );
}

/** What the conversions of a format do, in their order. Anything that is not known to be harmless counts as `Memory`. */
function conversionsOf(format: readonly (number | undefined)[]): Conversion[] {
  const end = format.indexOf(0);
  const text = String.fromCharCode(...(format.slice(0, end < 0 ? undefined : end) as number[]));
  const conversions: Conversion[] = [];
  for (let at = text.indexOf('%'); at >= 0; at = text.indexOf('%', at)) {
    at++;
    if (text[at] === '%') {
      at++;
      continue;
    }
    at += /^[0+ -]*[0-9]*/.exec(text.slice(at, at + MOST_FLAGS))![0].length;
    const rest = text.slice(at, at + 4);
    if (/^(l{0,2}[diuxX]|c)/.test(rest)) conversions.push(Conversion.Number);
    else if (/^p([Kx]|$|[^A-Za-z0-9])/.test(rest)) conversions.push(Conversion.Address);
    else conversions.push(Conversion.Memory);
  }
  return conversions;
}

/** Flags and width of a conversion that anybody writes; what has more counts as not known. */
const MOST_FLAGS = 16;

/** The bytes at `pointer` up to the first zero, undefined where they are not known. */
function knownBytes(sim: Simulation, pointer: Value, size: number): (number | undefined)[] {
  const bytes: (number | undefined)[] = [];
  for (let i = 0; i < Math.min(size, MOST_FORMAT_BYTES) && bytes[i - 1] !== 0; i++) {
    bytes.push(knownByte(sim, pointer, i));
  }
  return bytes;
}

function knownByte(sim: Simulation, pointer: Value, index: number): number | undefined {
  if (pointer.kind === Kind.MapValue) {
    const byte = frozenContent(pointer, index, 1);
    return byte === undefined ? undefined : Number(byte);
  }
  const spilled = spilledNumber(sim, pointer, 1, index);
  if (spilled?.scalar.constant === undefined) return undefined;
  // That it is live is seen to with the memory argument; states have to agree on the number as well.
  sim.preciseNumber(spilled.origin);
  return Number(spilled.scalar.constant);
}

/** How many conversions a format can have, whatever stands where a byte is not known. The last byte ends it. */
function mostConversions(format: readonly (number | undefined)[]): number {
  const most = new Array<number>(format.length + 2).fill(0);
  for (let i = format.length - 2; i >= 0; i--) {
    const byte = format[i];
    const next = i + 1 < format.length - 1 ? format[i + 1] : 0;
    if (byte === 0) continue;
    if (byte !== PERCENT) most[i] = most[i + 1]!;
    if (byte !== PERCENT && byte !== undefined) continue;
    // `%%` is a character; of any other conversion what follows is no `%`.
    const isConversion = next !== 0 && next !== PERCENT;
    most[i] = Math.max(most[i]!, most[i + 2]! + (isConversion ? 1 : 0));
  }
  return most[0]!;
}
