import { frozenContent } from './map-access.js';
import { markPrecise } from './origin.js';
import type { Simulation } from './simulation.js';
import { spilledNumber } from './stack-access.js';
import { Kind, type Value } from './value.js';

/** Where bpf_trace_printk takes the first argument that its format names. */
const FIRST_PRINTED = 3;
/** Of a format, no more is read (src/bpf/runtime/helpers/output-helpers.ts). */
const MOST_FORMAT_BYTES = 4096;
const PERCENT = 0x25;

/**
 * An argument of bpf_trace_printk has to be there as far as the format (R1, of R2 bytes) may name it. Programs leave
 * the others unset; what happens to be in the register would be printed.
 */
export function checkPrintArgument(sim: Simulation, register: number): void {
  if (sim.peek(register).kind !== Kind.NotInit) return;
  const format = knownBytes(sim, sim.peek(1), Number(sim.peek(2).scalar.umax));
  if (mostConversions(format) <= register - FIRST_PRINTED) return;
  const isKnown = format.indexOf(undefined) < 0;
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
  const spilled = spilledNumber(sim, pointer.with({ off: pointer.off + index }), 1);
  if (spilled?.scalar.constant === undefined) return undefined;
  // That it is live is seen to with the memory argument; states have to agree on the number as well.
  markPrecise(spilled.origin);
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
