import { isLddw, type Insn } from '../../src/bpf/insn.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import * as op from '../../src/bpf/opcodes.js';
import type { VerifierMap } from '../../src/core/contract/verifier.js';
import { RejectSignal } from './reject-signal.js';
import type { RejectionCode } from './rejection-codes.js';

/** An offset into a value is below this, in bytes, however large the value is (kernel BPF_MAX_VAR_OFF). */
const MAX_OFFSET = 1 << 29;

/**
 * What each `lddw` says of maps, whether or not a path leads there: that the map exists and, for the address of a value, that
 * it has one and the offset lies in it. As the kernel, which puts addresses into all of them before it verifies anything
 * (kernel/bpf/verifier.c, resolve_pseudo_ldimm64; kernel/bpf/arraymap.c, array_map_direct_value_addr). Throws RejectSignal.
 */
export function checkMapReferences(insns: readonly Insn[], maps: ReadonlyMap<number, VerifierMap>): void {
  for (let index = 0; index < insns.length; index++) {
    const insn = insns[index]!;
    if (!isLddw(insn)) continue;
    const isValue = insn.src === op.BPF_PSEUDO_MAP_VALUE;
    if (isValue || insn.src === op.BPF_PSEUDO_MAP_FD) {
      const map = maps.get(insn.imm);
      if (map === undefined)
        fail(index, 'map-unknown', `the lddw names map ${insn.imm}, which does not exist`);
      if (isValue) checkValueAddress(index, map, insns[index + 1]!.imm >>> 0);
    }
    index++;
  }
}

function checkValueAddress(insn: number, map: VerifierMap, offset: number): void {
  const { name, type, maxEntries, valueSize } = map;
  if (type !== BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY || maxEntries !== 1) {
    const reason = `map ${name} is not an array of one element, so its value has no fixed address`;
    fail(insn, 'map-value-address', reason);
  }
  if (offset >= Math.min(valueSize, MAX_OFFSET)) {
    fail(insn, 'map-value-address', `offset ${offset} is outside the ${valueSize} bytes of map ${name}`);
  }
}

function fail(insn: number, code: RejectionCode, reason: string): never {
  throw new RejectSignal({ code, insn, reason });
}
