import type { AddressSpace, Region } from '../../src/bpf/runtime/address-space.js';
import type { BpfMap } from '../../src/bpf/runtime/bpf-map.js';
import { RUN_STATE } from '../../src/bpf/runtime/run-state.js';
import { FRAME_SLOT, FRAME_SLOT_SIZE } from '../../src/bpf/runtime/xdp-frame.js';
import { errnoName } from '../../src/bpf/errno.js';
import { mapTypeName } from '../../src/bpf/map-spec.js';
import { XDP_MD } from '../../src/bpf/xdp.js';

/** Fields by the offset of their first byte, ascending. */
type Fields = readonly (readonly [number, string])[];

const FRAME_FIELDS: Fields = [
  ...Object.entries(XDP_MD).map(([name, offset]) => [offset, `ctx->${name}`] as const),
  [FRAME_SLOT.hardStart, 'start of the headroom'],
  [FRAME_SLOT.hardEnd, 'end of the tailroom'],
  [FRAME_SLOT.verdict, 'verdict'],
  [FRAME_SLOT.redirectKind, 'redirect: kind of target'],
  [FRAME_SLOT.redirectTarget, 'redirect: target'],
  [FRAME_SLOT.redirectMap, 'redirect: map'],
  [FRAME_SLOT.redirectFlags, 'redirect: flags'],
  [FRAME_SLOT.fragsLength, 'length of the frags'],
  [FRAME_SLOT.frags, 'address of the frags'],
  [FRAME_SLOT.frags + 4, 'reserved word'],
];

const RUN_STATE_FIELDS: Fields = [
  [RUN_STATE.r0, 'r0'],
  [RUN_STATE.r1, 'arguments of a helper'],
  [RUN_STATE.context, 'address of the frame'],
  [RUN_STATE.cpu, 'cpu'],
  [RUN_STATE.now, 'clock'],
  [RUN_STATE.prng, 'state of bpf_get_prandom_u32'],
  [RUN_STATE.givenLeft, 'what bpf_get_prandom_u32 was given'],
];

/** What lies at an address, in words: `byte 14 of the packet in slot 0`, `byte 4 of the value of map m, element 3`. */
export function describeAddress(space: AddressSpace, address: number): string {
  const region = space.regionAt(address);
  if (region === undefined) return `address 0x${address.toString(16)}`;
  const offset = address - region.start;
  switch (region.kind) {
    case 'packet':
      return describeFrameByte(space, region, offset);
    case 'run-state':
      return `the run state (${fieldAt(RUN_STATE_FIELDS, offset)})`;
    default:
      return describeElementByte(region, offset);
  }
}

function describeFrameByte(space: AddressSpace, region: Region, offset: number): string {
  const slot = Math.floor(offset / FRAME_SLOT_SIZE);
  const within = offset % FRAME_SLOT_SIZE;
  if (within < FRAME_SLOT.buffer) return `the frame in slot ${slot} (${fieldAt(FRAME_FIELDS, within)})`;
  const word = (region.start + slot * FRAME_SLOT_SIZE) >> 2;
  const fromData = region.start + offset - space.i32[word]!;
  if (fromData < 0) return `the headroom in slot ${slot}, ${-fromData} bytes before the packet`;
  const length = space.i32[word + 1]! - space.i32[word]!;
  return fromData < length
    ? `byte ${fromData} of the packet in slot ${slot}`
    : `the tailroom in slot ${slot}, ${fromData - length} bytes behind the packet`;
}

function describeElementByte({ elements, label }: Region, offset: number): string {
  if (elements === undefined) return `byte ${offset} of ${label}`;
  const index = Math.floor((offset - elements.first) / elements.stride);
  const within = offset - elements.first - index * elements.stride;
  if (index >= 0 && within < elements.size) return `byte ${within} of ${label}, element ${index}`;
  return `byte ${offset} of ${label} (bookkeeping)`;
}

function fieldAt(fields: Fields, offset: number): string {
  return fields.findLast(([start]) => start <= offset)?.[1] ?? `byte ${offset}`;
}

/** Elements of a map that are listed; the rest is counted. */
const MAX_LISTED = 32;

/** `map m (BPF_MAP_TYPE_HASH, handle 1)` and its elements in hex; those of an array that are zero are left out. */
export function describeMap(handle: number, map: BpfMap): string[] {
  const lines = [`map ${map.name} (${mapTypeName(map.attributes.type)}, handle ${handle})`];
  let cursor: Uint8Array | null = null;
  let left = 0;
  do {
    const batch = map.lookupBatch(cursor, 256);
    if (typeof batch === 'number') {
      lines.push(`  cannot be listed: ${errnoName(batch)}`);
      return lines;
    }
    for (const { key, value } of batch.entries) {
      if (value.every((byte) => byte === 0) && isIndexed(map)) continue;
      if (lines.length <= MAX_LISTED) lines.push(`  ${hex(key)}: ${hex(value)}`);
      else left++;
    }
    cursor = batch.next;
  } while (cursor !== null);
  if (left > 0) lines.push(`  and ${left} more`);
  return lines;
}

function isIndexed({ attributes }: BpfMap): boolean {
  return mapTypeName(attributes.type).endsWith('ARRAY');
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
