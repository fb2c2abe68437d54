import { BPF_F_RDONLY_PROG, BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { bytes } from './access.js';
import { boundAdvice } from './bound-advice.js';
import type { Simulation } from './simulation.js';
import { isInnerMap, Kind, type KnownMap, type Value } from './value.js';

export function checkBounds(
  sim: Simulation,
  register: number,
  base: Value,
  min: number,
  max: number,
  size: number,
  limit: number,
  code: 'map-value-bounds' | 'memory-bounds',
  what: string,
): void {
  if (min >= 0 && max + size <= limit) return;
  const variable = !base.scalar.isConst;
  if (min < 0) {
    sim.reject(
      code,
      `${bytes(size)} ${variable ? `as low as ${-min} bytes` : `${-min} bytes`} before the start of ${what} would be accessed`,
      {
        registers: [register],
        suggestion: !variable
          ? `use offsets from 0 to ${limit - size}`
          : base.scalar.smin < 0n
            ? boundAdvice(base.scalar, 'the index', 'never negative')
            : `make sure that the index is at least ${-min} more: so much is taken off it`,
      },
    );
  }
  if (max === Infinity) {
    sim.reject(code, `the offset into ${what} of ${limit} bytes has no upper bound`, {
      registers: [register],
      suggestion: boundAdvice(base.scalar, 'the index', `such that the offset is at most ${limit - size}`),
    });
  }
  sim.reject(
    code,
    `${bytes(size)} at offset ${variable ? `up to ${max}` : max} would be accessed, but ${what} has ${limit} bytes`,
    {
      registers: [register],
      suggestion: variable
        ? `bound the index so that the offset is at most ${limit - size}${isMaskOffByOne(base, max, limit) ? ': a power of two minus one as mask, not the size itself' : ''}`
        : `use offsets from 0 to ${Math.max(0, limit - size)}`,
    },
  );
}

function isMaskOffByOne(base: Value, max: number, limit: number): boolean {
  return max === limit && !base.scalar.isConst;
}

/** The content of a map whose one value never changes. */
export function frozenValueOf(map: KnownMap): Uint8Array | undefined {
  const { type, maxEntries, flags, frozenValue } = map.spec;
  const isOneValue = type === BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY && maxEntries === 1 && !isInnerMap(map);
  return isOneValue && (flags & BPF_F_RDONLY_PROG) !== 0 ? frozenValue : undefined;
}

/** The bytes of a frozen map at a constant offset. */
export function frozenContent(base: Value, off: number, size: number): bigint | undefined {
  if (base.kind !== Kind.MapValue) return undefined;
  const content = frozenValueOf(base.map!);
  if (content === undefined || !base.scalar.isConst) return undefined;
  const at = base.off + off + Number(base.scalar.smin);
  if (at < 0 || at + size > content.length) return undefined;
  let value = 0n;
  for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(content[at + i]!);
  return value;
}

/** Whether `value` points to a string in a map whose one value never changes, with its end in it. */
export function isConstantString(value: Value): boolean {
  const content = value.map === undefined ? undefined : frozenValueOf(value.map);
  if (value.kind !== Kind.MapValue || content === undefined || value.maybeNull || !value.scalar.isConst)
    return false;
  const at = value.off + Number(value.scalar.smin);
  return at >= 0 && content.indexOf(0, at) >= 0;
}
