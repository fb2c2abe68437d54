import type { Rejection, Verification } from '../../src/core/contract/verifier.js';
import { markdownTable } from './markdown-table.js';

/**
 * What it means that the kernel rejects what `abstract` accepts. Only `safety` counts as a miss. For `dead code` and
 * `precision` the word is that of `abstract` itself: these classes sort differences, they do not prove it right.
 */
export const CLASSES = {
  safety: 'something that must not happen',
  'dead code':
    'on a way that `abstract` has proved nobody takes, by ranges that the kernel does not have (shifts by registers, divisions, constants)',
  precision:
    'an offset or size of which `abstract` knows the one value that it can have, and the kernel a range; or what a pointer is moved by, of which `abstract` has bounds and the kernel has none, or wider ones, or what a callback returns: it accepts the program when comparisons that change nothing tell it those',
  'beyond the end':
    'a pointer that was found to lie beyond the end of the packet, moved back to bytes that an earlier comparison covers: the kernel forgets that one',
  complexity: 'more insns or branches to look at than the kernel has patience for',
  availability: 'a helper or map that the kernel does not give to this process',
  speculation:
    'a guard against what a CPU does speculatively, or what the kernel finds on paths that only speculation takes, of a program that it accepts for root',
  length:
    'the distance of two pointers into the same memory, as `data_end - data`, in which the kernel sees an address',
  'no address':
    'a comparison with 0 in a register, or of what is never NULL with 0, or of pointers into the same memory, or a 32-bit copy of a packet pointer, in which the kernel sees an address',
  'NULL in a register':
    'a pointer is checked for NULL by a comparison with a register that holds 0, which tells the kernel nothing: it accepts the program when that is the constant',
  "caller's stack":
    "a pointer to a caller's stack, stored there by a callee: the kernel refuses any, `abstract` those that outlive what they point to",
  remains:
    'a spilled pointer is overwritten in part: the kernel forbids it, `abstract` lets nobody read what is left of it',
  'stale copy': 'a pointer of before the packet was moved is copied, and nothing is done with it',
  form: 'code that cannot be reached, which the kernel minds and nobody runs',
  'kernel bug': 'the kernel says itself that its verifier failed',
} as const;
export type RejectionClass = keyof typeof CLASSES;

const COMPLEXITY: ReadonlySet<string> = new Set([
  'too-many-insns',
  'too-many-branches',
  'out-of-memory',
  'out-of-time',
  'program-too-long',
]);
const AVAILABILITY: ReadonlySet<string> = new Set(['helper-unknown', 'helper-gpl-only', 'map-invalid']);
/** What the kernel says of paths that only speculation takes, if it says it of programs that root may load. */
const OF_SPECULATIVE_PATHS: ReadonlySet<string> = new Set([
  'infinite-loop',
  'too-many-insns',
  'too-many-branches',
  'kernel-other',
]);

export interface Circumstances {
  /** Whether `abstract` has proved that nobody comes to where the kernel rejects. */
  isDead(): Promise<boolean>;
  /** Whether the kernel sees an address at an insn that shows none. */
  tellsNoAddress(): Promise<boolean>;
  /** Whether the insn that the kernel rejects moves a pointer by a number that `abstract` has bounds of. */
  movesByBoundedNumber(): Promise<boolean>;
  /** Whether the kernel accepts the program, or rejects it for something harmless, once it is told bounds that `abstract` has. */
  boundsSuffice(): Promise<boolean>;
  /** The same, once registers that are checked for NULL are compared with the constant 0, and not with a register that holds it. */
  constantNullSuffices(): Promise<boolean>;
  /** Whether the insn that the kernel rejects only moves a register, or spills it. */
  readonly isCopy: boolean;
  /** Whether `abstract` knows the one offset of the access, or constants of the call, that the kernel rejects. */
  readonly isExact: boolean;
  /** Whether the kernel accepts the program if it need not mind speculation and addresses. */
  readonly acceptedForRoot: boolean;
}

export async function classOf(
  { code, reason }: Rejection,
  circumstances: Circumstances,
): Promise<RejectionClass> {
  const { isExact, acceptedForRoot } = circumstances;
  if (isKernelBug(reason)) return 'kernel bug';
  if (acceptedForRoot && OF_SPECULATIVE_PATHS.has(code)) return 'speculation';
  if (/prohibited for !root/.test(reason)) return 'speculation';
  if (COMPLEXITY.has(code)) return 'complexity';
  if (AVAILABILITY.has(code)) return 'availability';
  if (code === 'unreachable-insn') return 'form';
  if (isExact && /min value|max value|\(id=[1-9]/.test(reason)) return 'precision';
  if (/^math between .* unbounded/.test(reason) && (await circumstances.movesByBoundedNumber()))
    return 'precision';
  if (/attempt to corrupt spilled pointer/.test(reason)) return 'remains';
  if (/^r\d+ offset is outside of the packet/i.test(reason)) return 'beyond the end';
  if (/pointer -= pointer prohibited/.test(reason)) return 'length';
  if (/pointer comparison prohibited|partial copy of pointer/.test(reason)) {
    if (await circumstances.tellsNoAddress()) return 'no address';
    return (await circumstances.isDead()) ? 'dead code' : 'safety';
  }
  // A pointer that the kernel has taken away, where `abstract` lets it be copied, and nothing else.
  if (code === 'stale-packet-pointer' && circumstances.isCopy) return 'stale copy';
  if (/cannot spill pointers to stack into stack frame of the caller/.test(reason)) return "caller's stack";
  if (await circumstances.isDead()) return 'dead code';
  if (code === 'null-dereference' && (await circumstances.constantNullSuffices()))
    return 'NULL in a register';
  return (await circumstances.boundsSuffice()) ? 'precision' : 'safety';
}

/** The kernel's own words for a state that it takes for impossible. */
export function isKernelBug(reason: string): boolean {
  return reason.startsWith('verifier bug');
}

interface Group {
  readonly code: string;
  readonly reason: string;
  readonly meaning: RejectionClass | undefined;
  count: number;
  /** The first few. */
  readonly seeds: number[];
}

/** What two verifiers said of many programs. */
export class Tally {
  readonly matrix = { both: 0, neither: 0, onlyAbstract: 0, onlyKernel: 0 };
  /** Of the programs that both reject: at the same insn, and by the same code. */
  sameInsn = 0;
  sameCode = 0;
  readonly onlyAbstract = new Map<string, Group>();
  readonly onlyKernel = new Map<string, Group>();
  readonly ratios: { readonly seed: number; readonly ratio: number }[] = [];

  /** `meaning`: that of a rejection by the kernel alone. */
  add(seed: number, abstract: Verification, kernel: Verification, meaning: RejectionClass | undefined): void {
    const { matrix } = this;
    if (abstract.accepted && kernel.accepted) {
      matrix.both++;
      this.ratios.push({
        seed,
        ratio: abstract.statistics.processedInsns / kernel.statistics.processedInsns,
      });
    } else if (abstract.accepted && !kernel.accepted) {
      matrix.onlyAbstract++;
      addTo(this.onlyAbstract, seed, kernel, meaning);
    } else if (!abstract.accepted && kernel.accepted) {
      matrix.onlyKernel++;
      addTo(this.onlyKernel, seed, abstract, undefined);
    } else if (!abstract.accepted && !kernel.accepted) {
      matrix.neither++;
      if (abstract.insn === kernel.insn) this.sameInsn++;
      if (abstract.code === kernel.code) this.sameCode++;
    }
  }

  /** Insns that `abstract` processed for each that the kernel did: the middle one of the programs both accept. */
  get medianRatio(): number {
    const sorted = this.ratios.map(({ ratio }) => ratio).sort((a, b) => a - b);
    return sorted[sorted.length >> 1] ?? NaN;
  }

  /** Programs that take `abstract` the most insns, compared with the kernel. */
  get worstRatios(): readonly { readonly seed: number; readonly ratio: number }[] {
    return [...this.ratios].sort((a, b) => b.ratio - a.ratio).slice(0, 5);
  }

  get safetyMisses(): number {
    return [...this.onlyAbstract.values()]
      .filter(({ meaning }) => meaning === 'safety')
      .reduce((sum, { count }) => sum + count, 0);
  }
}

function addTo(
  groups: Map<string, Group>,
  seed: number,
  { code, reason }: Rejection,
  meaning: RejectionClass | undefined,
): void {
  const general = generalise(reason);
  const key = `${code} ${meaning ?? ''} ${general}`;
  let group = groups.get(key);
  if (group === undefined) groups.set(key, (group = { code, reason: general, meaning, count: 0, seeds: [] }));
  group.count++;
  if (group.seeds.length < 3) group.seeds.push(seed);
}

/** Without what differs between programs that are rejected for one reason. */
function generalise(reason: string): string {
  return reason
    .replaceAll(/\bR\d+\b/g, 'R*')
    .replaceAll(/0x[0-9a-f]+/g, 'N')
    .replaceAll(/-?\b\d+\b/g, 'N')
    .replaceAll(
      /\b(map|the value of) '?(direct|array|percpu_array|hash|percpu_hash|lru_hash|lru_percpu|trie|queue|devices|programs)'?/g,
      '$1 *',
    )
    .replaceAll('|', '\\|');
}

export function groupTable(groups: ReadonlyMap<string, Group>, withClass: boolean): string {
  if (groups.size === 0) return 'None.';
  const sorted = [...groups.values()].sort((a, b) => b.count - a.count || (a.code < b.code ? -1 : 1));
  const header = ['code', ...(withClass ? ['class'] : []), 'programs', 'reason (numbers left out)', 'seeds'];
  return markdownTable(
    header,
    sorted.map(({ code, meaning, count, reason, seeds }) => [
      `\`${code}\``,
      ...(withClass ? [meaning ?? ''] : []),
      String(count),
      reason.length > 110 ? `${reason.slice(0, 107)}…` : reason,
      seeds.join(' '),
    ]),
  );
}
