import { MISSING_FUNCTION } from '../../bpf/helper-ids.js';
import { XDP_ABORTED } from '../../bpf/xdp.js';
import { u32, u64, type XdpCase } from './executor-case.js';

const SOURCE = 'a checked executor names the object that was overrun';

const ARRAY = {
  type: 'BPF_MAP_TYPE_ARRAY',
  keySize: 4,
  valueSize: 8,
  maxEntries: 4,
  entries: [[u32(1), u64(5n)]],
} as const;

/** R0 := the value under key 1 of `counts`, which is there. */
const LOOKUP = `
  *(u32 *)(r10 -4) = 1
  r2 = r10
  r2 += -4
  r1 = map[counts]
  call bpf_map_lookup_elem`;

function fault(
  name: string,
  program: string,
  insn: number | undefined,
  reason: RegExp,
  more: Partial<XdpCase> = {},
): XdpCase {
  return { name, source: SOURCE, program, verdict: XDP_ABORTED, fault: { insn, reason }, ...more };
}

/** Programs that a verifier would reject, for executors that check: XDP_ABORTED, the insn and the reason. */
export const FAULT_CASES: readonly XdpCase[] = [
  fault(
    'a call of a weak function that is not there',
    `r0 = 2\ncall ${MISSING_FUNCTION}\nexit`,
    1,
    /not there/,
  ),
  fault('a read through NULL', 'r1 = 0\nr0 = *(u32 *)(r1 +8)\nexit', 1, /null pointer/),
  fault('a write through NULL', 'r1 = 0\n*(u64 *)(r1 +0) = 1\nr0 = 2\nexit', 1, /null pointer/),
  fault(
    'a read one byte past the packet',
    'r1 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r1 +64)\nexit',
    1,
    /read of 1 bytes at offset 64 of the packet/,
  ),
  fault(
    'a read across the end of the packet',
    'r1 = *(u32 *)(r1 +0)\nr0 = *(u32 *)(r1 +61)\nexit',
    1,
    /read of 4 bytes at offset 61 of the packet/,
  ),
  fault(
    'a write before the packet',
    'r1 = *(u32 *)(r1 +0)\n*(u8 *)(r1 -1) = 1\nr0 = 2\nexit',
    1,
    /write of 1 bytes 1 bytes before the packet/,
  ),
  fault('a write to the context', '*(u32 *)(r1 +16) = 1\nr0 = 2\nexit', 0, /context/),
  fault('a read past the context', 'r0 = *(u32 *)(r1 +24)\nexit', 0, /read of 4 bytes/),
  fault('a read below the stack frame', 'r0 = *(u64 *)(r10 -520)\nexit', 0, /./),
  fault('a write above the stack frame', '*(u64 *)(r10 +0) = 1\nr0 = 2\nexit', 0, /./),
  fault('a write across the end of the stack frame', '*(u64 *)(r10 -4) = 1\nr0 = 2\nexit', 0, /stack/),
  fault(
    'a read across the end of a map value, though within the map',
    `${LOOKUP}\nif r0 == 0 goto pc+1\nr0 = *(u64 *)(r0 +4)\nexit`,
    7,
    /counts/,
    { maps: { counts: ARRAY } },
  ),
  fault(
    'a write to a value that programs may only read',
    `${LOOKUP}\nif r0 == 0 goto pc+2\n*(u64 *)(r0 +0) = 1\nr0 = 2\nexit`,
    7,
    /read-only/,
    { maps: { counts: { ...ARRAY, flags: 128 } } },
  ),
  fault('a pointer with an upper half', 'r1 = 0x100000000ll\nr0 = *(u8 *)(r1 +0)\nexit', 2, /./),
  fault('a pointer that no object has', 'r1 = 0x7fffff00\nr0 = *(u8 *)(r1 +0)\nexit', 1, /./),
  fault('a map’s handle is no memory', 'r1 = map[counts]\nr0 = *(u64 *)(r1 +0)\nexit', 2, /./, {
    maps: { counts: ARRAY },
  }),
  fault(
    'a helper is given a key beyond the stack',
    'r1 = map[counts]\nr2 = r10\ncall bpf_map_lookup_elem\nr0 = 2\nexit',
    3,
    /r2/,
    { maps: { counts: ARRAY } },
  ),
  fault(
    'a helper is given something else for a map',
    'r1 = 1\nr2 = r10\nr2 += -4\ncall bpf_map_delete_elem\nr0 = 2\nexit',
    3,
    /is not a map/,
  ),
  fault('a loop without an end', 'r0 = 0\nloop: r0 += 1\ngoto loop', undefined, /1000 insns/, {
    insnLimit: 1000,
  }),
  fault(
    'an endless loop that calls a helper',
    'r6 = 1\nagain:\ncall bpf_get_smp_processor_id\nr6 &= 1\nif r6 > 0 goto again\nr0 = 0\nexit',
    undefined,
    /1000 insns/,
    { insnLimit: 1000 },
  ),
];
