import { EINVAL, ERANGE } from '../../errno.js';
import { HelperFault, pointerArgument, type HelperContext, type HelperGroup } from './helper-context.js';

/** Bits of the flags that hold the base: 0 (by prefix), 8, 10 or 16. */
const BPF_STRTOX_BASE_MASK = 0x1f;
/** Bytes of the number's text that are looked at (kernel/bpf/helpers.c copies that many). */
const STRTOX_LENGTH = 63;

/** Characters that are charged for at once, an insn each; a shorter string is part of the call. */
const CHARGED_TOGETHER = 64;

/** Helpers on strings (kernel/bpf/helpers.c). */
export const STRING_HELPERS: HelperGroup = {
  /** long (buf, buf_len, flags, s64 *res): characters consumed, -EINVAL or -ERANGE. */
  bpf_strtol(context) {
    const parsed = parse(context);
    if (typeof parsed === 'number') return finish(context, parsed, 0n);
    // INT64_MIN negated is itself: the one magnitude that only a minus sign makes valid.
    const limit = parsed.negative ? 1n << 63n : (1n << 63n) - 1n;
    if (parsed.magnitude > limit) return finish(context, -ERANGE, 0n);
    return finish(context, parsed.consumed, parsed.negative ? -parsed.magnitude : parsed.magnitude);
  },

  /** long (buf, buf_len, flags, u64 *res) */
  bpf_strtoul(context) {
    const parsed = parse(context);
    if (typeof parsed === 'number') return finish(context, parsed, 0n);
    if (parsed.negative) return finish(context, -EINVAL, 0n);
    return finish(context, parsed.consumed, parsed.magnitude);
  },

  /** long (s1, u32 s1_sz, s2): -1, 0 or 1; s2 is a zero-terminated constant. */
  bpf_strncmp(context) {
    const { state } = context;
    const { u8 } = context.runtime.space;
    const size = state.argLow(2) >>> 0;
    const s1 = pointerArgument(context, 1, size, false);
    const s2 = state.argLow(3) >>> 0;
    let result = 0;
    for (let i = 0; i < size; i++) {
      context.work?.addBytes(1);
      // Each with a check: dearer than a copy.
      if (i % CHARGED_TOGETHER === CHARGED_TOGETHER - 1) context.charge(CHARGED_TOGETHER);
      const a = u8[s1 + i]!;
      const fault = context.check?.(s2 + i, 1, false);
      if (fault !== undefined) throw new HelperFault(`argument r3: ${fault}`);
      const b = u8[s2 + i]!;
      if (a !== b) {
        result = a < b ? -1 : 1;
        break;
      }
      if (a === 0) break;
    }
    state.setResult(result);
  },
};

interface ParsedNumber {
  readonly negative: boolean;
  readonly magnitude: bigint;
  readonly consumed: number;
}

function parse(context: HelperContext): ParsedNumber | number {
  const { state } = context;
  const { u8 } = context.runtime.space;
  const length = state.argLow(2) >>> 0;
  const buffer = pointerArgument(context, 1, length, false);
  const flags = state.argLow(3) >>> 0;
  let base = flags & BPF_STRTOX_BASE_MASK;
  if (flags !== base || state.argHigh(3) !== 0) return -EINVAL;
  if (length === 0 || ![0, 8, 10, 16].includes(base)) return -EINVAL;

  const looked = Math.min(length, 4096);
  context.work?.addBytes(looked);
  if (looked >= CHARGED_TOGETHER) context.charge(looked);
  let text = String.fromCharCode(...u8.subarray(buffer, buffer + looked));
  const blanks = /^[ \t\n\v\f\r\xa0]*/.exec(text)![0].length;
  const negative = text[blanks] === '-';
  let consumed = blanks + (negative ? 1 : 0);
  if (consumed >= length) return -EINVAL;
  text = text.slice(consumed, consumed + STRTOX_LENGTH);

  if (base === 0) base = /^0x[0-9a-f]/i.test(text) ? 16 : text.startsWith('0') ? 8 : 10;
  if (base === 16 && /^0x/i.test(text)) {
    text = text.slice(2);
    consumed += 2;
  }
  const digits = { 8: /^[0-7]+/, 10: /^[0-9]+/, 16: /^[0-9a-f]+/i }[base]!.exec(text)?.[0];
  if (digits === undefined) return -EINVAL;
  const magnitude = BigInt({ 8: '0o', 10: '', 16: '0x' }[base]! + digits);
  if (magnitude >= 1n << 64n) return -ERANGE;
  return { negative, magnitude, consumed: consumed + digits.length };
}

/** The result is written in any case: 0 after an error. */
function finish(context: HelperContext, result: number, value: bigint): void {
  const at = pointerArgument(context, 4, 8, true);
  context.runtime.space.view.setBigUint64(at, BigInt.asUintN(64, value), true);
  context.state.setResult(result);
}
