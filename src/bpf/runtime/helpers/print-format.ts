import { EINVAL } from '../../errno.js';
import { BoundedText } from './bounded-text.js';

/** Most arguments one format may name (kernel MAX_BPRINTF_VARARGS). */
export const MAX_BPRINTF_VARARGS = 12;

/** The widest field, in characters (lib/vsprintf.c): wider ones are cut to it. */
const FIELD_WIDTH_MAX = (1 << 23) - 1;

/** Reads for `%s` and `%pI4`: the bytes a program's pointer names, or undefined where there are none. */
export interface FormatMemory {
  /** The zero-terminated string at `address`, without the terminator. */
  string(address: bigint): string | undefined;
  bytes(address: bigint, length: number): Uint8Array | undefined;
}

/**
 * Formats as bpf_trace_printk and bpf_snprintf do (kernel/trace/bpf_trace.c and kernel/bpf/helpers.c,
 * bpf_bprintf_prepare): of printf only `%[0 +-][width]` with d i u x X c s, the lengths l and ll, and of the
 * kernel's pointer forms p, px, pK, ps, pS, pB, pks, pus, pi4, pI4, pi6, pI6. Anything else is -EINVAL, as is
 * a format that names more arguments than there are. Of the text, `limit` characters are kept.
 *
 * Differs from the kernel in two things: `%p` prints the address and not a hash of it, because the kernel's hash
 * has a secret key and the address is one of a testbed; and `memory` has less to read (docs/engine-differences.md).
 */
export function formatForProgram(
  format: string,
  args: readonly bigint[],
  memory: FormatMemory,
  limit: number,
): BoundedText | number {
  const out = new BoundedText(limit);
  let next = 0;
  for (let i = 0; i < format.length; i++) {
    const char = format[i]!;
    if (!/[\x20-\x7e\t\n\v\f\r]/.test(char)) return -EINVAL;
    if (char !== '%') {
      out.append(char);
      continue;
    }
    if (format[i + 1] === '%') {
      out.append('%');
      i++;
      continue;
    }
    if (next >= args.length) return -EINVAL;
    const argument = args[next++]!;
    const [, flags, width] = /^([0+ -]*)([1-9][0-9]*)?/.exec(format.slice(i + 1))!;
    i += 1 + flags!.length + (width?.length ?? 0);
    const spec: FieldSpec = { flags: flags!, width: Math.min(Number(width ?? 0), FIELD_WIDTH_MAX) };
    const last = convert(out, format, i, spec, argument, memory);
    if (last === undefined) return -EINVAL;
    i = last;
  }
  return out;
}

interface FieldSpec {
  readonly flags: string;
  readonly width: number;
}

/**
 * Converts the argument of the conversion whose letter is at `at`. Returns the index of its last character, or
 * undefined when there is no such conversion.
 */
function convert(
  out: BoundedText,
  format: string,
  at: number,
  spec: FieldSpec,
  argument: bigint,
  memory: FormatMemory,
): number | undefined {
  const done = (text: string, last: number) => {
    appendField(out, '', text, spec);
    return last;
  };
  switch (format[at]) {
    case 'p': {
      const rest = format.slice(at + 1);
      if (/^(?:$|[\s!-/:-@[-`{-~])/.test(rest)) return done(pointer(argument), at);
      if (/^[ku]s/.test(rest)) {
        return endsConversion(format[at + 3]) ? done(memory.string(argument) ?? '', at + 2) : undefined;
      }
      if (/^[Kx]/.test(rest)) return done(pointer(argument), at + 1);
      // No symbols are known, so a symbol's name is its address, as in the kernel without kallsyms.
      if (/^[sSB]/.test(rest)) return done(`0x${argument.toString(16)}`, at + 1);
      if (/^[iI][46]/.test(rest)) {
        const length = rest[1] === '4' ? 4 : 16;
        const bytes = memory.bytes(argument, length) ?? new Uint8Array(length);
        return done(internetAddress(bytes, rest[0] === 'I'), at + 2);
      }
      return undefined;
    }
    case 's':
      return endsConversion(format[at + 1]) ? done(memory.string(argument) ?? '', at) : undefined;
    case 'c': {
      const code = Number(argument & 0xffn);
      return done(String.fromCharCode(code), at);
    }
    default: {
      const [length, letter] = /^(l{0,2})([idxXu])/.exec(format.slice(at))?.slice(1) ?? [];
      if (letter === undefined) return undefined;
      appendInteger(out, argument, length === '' ? 32 : 64, letter, spec);
      return at + length!.length;
    }
  }
}

/** A string conversion must be followed by the end, white space or punctuation. */
function endsConversion(char: string | undefined): boolean {
  return char === undefined || /[\s!-/:-@[-`{-~]/.test(char);
}

function appendInteger(
  out: BoundedText,
  argument: bigint,
  bits: number,
  letter: string,
  spec: FieldSpec,
): void {
  const signed = letter === 'd' || letter === 'i';
  const value = signed ? BigInt.asIntN(bits, argument) : BigInt.asUintN(bits, argument);
  let digits = (value < 0n ? -value : value).toString(letter === 'x' || letter === 'X' ? 16 : 10);
  if (letter === 'X') digits = digits.toUpperCase();
  let sign = '';
  if (value < 0n) sign = '-';
  else if (signed && spec.flags.includes('+')) sign = '+';
  else if (signed && spec.flags.includes(' ')) sign = ' ';
  appendField(out, sign, digits, spec, spec.flags.includes('0') ? '0' : ' ');
}

/** `sign` and `text` in a field of the spec's width, filled on the left with `fill`: zeros come after the sign. */
function appendField(out: BoundedText, sign: string, text: string, spec: FieldSpec, fill = ' '): void {
  const missing = spec.width - sign.length - text.length;
  const left = spec.flags.includes('-');
  if (!left && fill === ' ') out.repeat(fill, missing);
  out.append(sign);
  if (!left && fill !== ' ') out.repeat(fill, missing);
  out.append(text);
  if (left) out.repeat(' ', missing);
}

function pointer(argument: bigint): string {
  return argument.toString(16).padStart(16, '0');
}

/** `%pI4` 1.2.3.4, `%pi4` 001.002.003.004, `%pI6` with colons, `%pi6` without. */
function internetAddress(bytes: Uint8Array, usual: boolean): string {
  if (bytes.length === 4) {
    return Array.from(bytes, (byte) => (usual ? String(byte) : String(byte).padStart(3, '0'))).join('.');
  }
  const hex = Buffer.from(bytes).toString('hex');
  return usual ? hex.match(/.{4}/g)!.join(':') : hex;
}
