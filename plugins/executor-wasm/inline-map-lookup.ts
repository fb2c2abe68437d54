import { CHAIN_WITHIN_CALL } from '../../src/bpf/runtime/insn-budget.js';
import { HASH_ELEMENT_KEY, hashMultipliers } from '../../src/bpf/runtime/map-layout.js';
import type { InlineLayout } from './call-plan.js';
import type { KnownValue } from './known-value.js';
import { OP, type FunctionWriter } from '../../src/bpf/wasm-encoder.js';

/** Up to four bytes of a key, zero-extended, wherever they are held. */
export interface KeyWord {
  /** Bytes of it that belong to the key. */
  readonly size: number;
  readonly known: KnownValue | undefined;
  push(): void;
}

export interface LookupSite {
  readonly out: FunctionWriter;
  readonly layout: InlineLayout;
  readonly keySize: number;
  keyWord(index: number): KeyWord;
  /** Address of the current CPU's number. */
  readonly cpuAddress: number;
  /** Writes the charge of so many insns, and the end of the run where that uses its budget up. */
  charge(insns: number): void;
  /** An i32 local for a purpose. */
  scratch(purpose: string): number;
}

/** Writes bpf_map_lookup_elem on a map of known layout; leaves the value's address, or 0, on the stack. */
export function emitLookup(site: LookupSite): void {
  if (site.layout.kind === 'hash') emitHashLookup(site, site.layout);
  else emitArrayLookup(site, site.layout);
}

function emitArrayLookup(site: LookupSite, layout: Exclude<InlineLayout, { kind: 'hash' }>): void {
  const { out } = site;
  const key = site.keyWord(0);
  const inRange = key.known !== undefined && key.known.high < layout.maxEntries;
  const index = site.scratch('index');
  key.push();
  if (!inRange) out.tee(index);
  if (layout.kind === 'slots') {
    // A load that may not happen out of range: the index is brought into range first, the result dropped after.
    if (!inRange) out.i32(0).get(index).i32(layout.maxEntries).op(OP.i32_lt_u).op(OP.select);
    out.i32(2).op(OP.i32_shl).memory(OP.i32_load, layout.slots);
  } else {
    emitElementAddress(site, layout);
  }
  if (!inRange) out.i32(0).get(index).i32(layout.maxEntries).op(OP.i32_lt_u).op(OP.select);
}

/** Pops the index of an array's element and pushes the address of its value. */
export function emitElementAddress(
  site: Pick<LookupSite, 'out' | 'cpuAddress'>,
  layout: Extract<InlineLayout, { kind: 'array' }>,
): void {
  const { out } = site;
  const shift = Math.log2(layout.stride);
  if (Number.isInteger(shift)) out.i32(shift).op(OP.i32_shl);
  else out.i32(layout.stride).op(OP.i32_mul);
  out.i32(layout.values).op(OP.i32_add);
  if (layout.cpuStride !== 0) addCpu(site, layout.cpuStride);
}

function addCpu({ out, cpuAddress }: Pick<LookupSite, 'out' | 'cpuAddress'>, stride: number): void {
  out.i32(cpuAddress).memory(OP.i32_load).i32(stride).op(OP.i32_mul).op(OP.i32_add);
}

/** Keys of more words are read again for the comparison instead of being kept in locals. */
const WORDS_IN_LOCALS = 8;

function emitHashLookup(site: LookupSite, layout: InlineLayout & { kind: 'hash' }): void {
  const { out } = site;
  const wordCount = Math.ceil(layout.keySize / 4);
  const words = Array.from({ length: wordCount }, (_, index) => site.keyWord(index));
  const hash = site.scratch('hash');
  const element = site.scratch('element');
  const kept = wordCount <= WORDS_IN_LOCALS;

  // As `hashKey` in map-layout.ts does; a test holds the two together.
  const { first: firstMultiplier, second: secondMultiplier } = hashMultipliers(layout.seed);
  out.i32(layout.seed | 0);
  words.forEach((word, index) => {
    word.push();
    if (kept) out.tee(site.scratch(`key ${index}`));
    const mixed = site.scratch('mixed word');
    out.i32(secondMultiplier).op(OP.i32_mul).tee(mixed);
    out.get(mixed).i32(15).op(OP.i32_shr_u).op(OP.i32_xor);
    out.op(OP.i32_xor).i32(firstMultiplier).op(OP.i32_mul).tee(hash);
    out.get(hash).i32(15).op(OP.i32_shr_u).op(OP.i32_xor);
  });
  out.set(hash);
  const pushWord = (index: number): void => {
    if (kept) out.get(site.scratch(`key ${index}`));
    else words[index]!.push();
  };
  /** Pushes 0 if the element in `element` has the key. */
  const pushDifference = (): void => {
    words.forEach((word, index) => {
      const at = HASH_ELEMENT_KEY + 4 * index;
      pushWord(index);
      if (word.size === 4) {
        out.get(element).memory(OP.i32_load, at);
      } else {
        out.get(element).memory(word.size === 1 ? OP.i32_load8_u : OP.i32_load16_u, at);
        if (word.size === 3) {
          out
            .get(element)
            .memory(OP.i32_load8_u, at + 2)
            .i32(16)
            .op(OP.i32_shl)
            .op(OP.i32_or);
        }
      }
      out.op(OP.i32_xor);
      if (index > 0) out.op(OP.i32_or);
    });
  };

  // The stored hash is worth a comparison only where the key is long.
  const compareHash = wordCount > 4;
  out
    .get(hash)
    .i32(layout.bucketCount - 1)
    .op(OP.i32_and)
    .i32(2)
    .op(OP.i32_shl);
  out.memory(OP.i32_load, layout.buckets).set(element);
  const done = out.block();
  const found = out.block();
  // The first element of a chain is the common case: outside the loops it costs no loop's stack check. The inner loop
  // ends after every so many elements, and is charged for before it goes on (`chainCharge`). A chain that memory
  // closes to a ring must end all the same.
  const passed = site.scratch('elements passed');
  const pass = (): void => {
    out.get(element).op(OP.i32_eqz).brIf(done);
    const next = compareHash ? out.block() : undefined;
    if (next !== undefined) {
      out.get(element).memory(OP.i32_load, 4).get(hash).op(OP.i32_ne).brIf(next);
    }
    pushDifference();
    out.op(OP.i32_eqz).brIf(found);
    if (next !== undefined) out.end();
    out.get(element).memory(OP.i32_load).set(element);
  };
  pass();
  out.i32(1).set(passed);
  const longer = layout.maxEntries > CHAIN_WITHIN_CALL ? out.loop() : undefined;
  const again = out.loop();
  pass();
  out.get(passed).i32(1).op(OP.i32_add).tee(passed);
  out
    .i32(CHAIN_WITHIN_CALL - 1)
    .op(OP.i32_and)
    .brIf(again);
  out.end();
  if (longer !== undefined) {
    out.get(element).op(OP.i32_eqz).brIf(done);
    site.charge(CHAIN_WITHIN_CALL);
    out.get(passed).i32(layout.maxEntries).op(OP.i32_lt_u).brIf(longer);
    out.end();
  }
  out.i32(0).set(element).br(done);
  out.end();
  if (layout.usedOffset >= 0) out.get(element).i32(1).memory(OP.i32_store, layout.usedOffset);
  out.get(element).i32(layout.valueOffset).op(OP.i32_add);
  if (layout.cpuStride !== 0) addCpu(site, layout.cpuStride);
  out.set(element);
  out.end();
  out.get(element);
}
