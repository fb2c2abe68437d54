/**
 * How long one run of a program may be. A run that a verifier let pass need not be short: eight million rounds of
 * bpf_loop may be nested, walks of maps in them. So every executor counts the insns of a run, and helpers add what
 * their work is worth (`HelperContext.charge`).
 *
 * A run that exceeds its limit ends as a fault does, with XDP_ABORTED and the reason of `insnLimitReason`. The limit
 * is looked at where a run can grow (jumps backwards, local calls, callbacks, helpers that go through something), so
 * that a run may exceed it by some times the length of its programs.
 */

/**
 * The limit of a run for which nothing else is said, in insns. Sixteen times the million insns that the kernel's
 * verifier follows (BPF_COMPLEXITY_LIMIT_INSNS). What a run of that length costs is in docs/engine-differences.md.
 */
export const DEFAULT_INSN_LIMIT = 2 ** 24;

/** The highest limit there is: executors count in 31 bits. */
export const MAX_INSN_LIMIT = 2 ** 31 - 1;

/** Bytes that a helper copies, compares or searches for the price of one insn. */
export const BYTES_PER_INSN = 8;

/** Work on so few bytes is part of the call: nothing is charged for it. */
export const BYTES_WITHIN_CALL = 256;

/**
 * Elements of a hash chain that a look-up passes as part of the call, and for how many more it is charged at once. A
 * chain of more than 32 is next to impossible where keys are not chosen to collide: with as many elements as buckets,
 * less than one bucket in 10^37 has one.
 */
export const CHAIN_WITHIN_CALL = 32;

/**
 * Insns that a walk along a hash chain is worth: none for the first `CHAIN_WITHIN_CALL` elements that it passes, then
 * as many as it passes, rounded up to `CHAIN_WITHIN_CALL`. Of keys compared in full (because their hashes are equal),
 * the first belongs to the call; the others cost what as many bytes do elsewhere.
 */
export function chainCharge(passed: number, compared: number, keySize: number): number {
  const beyond = passed <= CHAIN_WITHIN_CALL ? 0 : passed - CHAIN_WITHIN_CALL;
  const elements = Math.ceil(beyond / CHAIN_WITHIN_CALL) * CHAIN_WITHIN_CALL;
  if (compared <= 1 || keySize <= BYTES_WITHIN_CALL) return elements;
  return elements + (compared - 1) * Math.ceil(keySize / BYTES_PER_INSN);
}

/**
 * Insns that the longest way down an LPM_TRIE is worth: one for each node that it comes to, of which there may be one for each
 * length that a prefix can have. Unlike a long hash chain, a deep trie is nothing out of the ordinary, so that none of it
 * belongs to the call. Bytes of the key are compared once on the way, and charged for with the key.
 */
export function longestTrieWay(keySize: number): number {
  return 8 * (keySize - TRIE_KEY_HEADER) + 1;
}

/** Bytes of `struct bpf_lpm_trie_key_u8` in front of the prefix. */
const TRIE_KEY_HEADER = 4;

/** The limit in force when `limit` was asked for. Throws RangeError when that is no number of insns. */
export function insnLimitOf(limit: number | undefined): number {
  if (limit === undefined) return DEFAULT_INSN_LIMIT;
  if (!Number.isSafeInteger(limit) || limit < 1) throw new RangeError(`${limit} is no limit of insns`);
  return Math.min(limit, MAX_INSN_LIMIT);
}

/** `ProgramFault.reason` of a run that exceeded `limit` insns. */
export function insnLimitReason(limit: number): string {
  return `the limit of ${limit} insns is used up`;
}

/** Whether a fault's reason is that of `insnLimitReason`; an executor may have added a program's name to it. */
export function isInsnLimitReason(reason: string): boolean {
  return /^the limit of \d+ insns is used up/.test(reason);
}
