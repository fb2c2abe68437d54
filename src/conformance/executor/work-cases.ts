import { XDP_PASS } from '../../bpf/xdp.js';
import { countingBytes, u32, u64, type XdpCase } from './executor-case.js';

const SOURCE = 'ProgramWork; counted by hand, as the numbers behind the insns do';

const PROG_ARRAY = { type: 'BPF_MAP_TYPE_PROG_ARRAY', keySize: 4, valueSize: 4, maxEntries: 4 } as const;
const ARRAY = { type: 'BPF_MAP_TYPE_ARRAY', keySize: 4, valueSize: 8, maxEntries: 2 } as const;

/** A case of which the work is what matters: the verdict is XDP_PASS, and the packet is 0, 1, 2 … 63. */
type WorkCase = Pick<XdpCase, 'program' | 'maps' | 'others'> & Required<Pick<XdpCase, 'work'>>;

const lookupOf = (map: string, index: number): string => `
  *(u32 *)(r10 -4) = ${index}
  r2 = r10
  r2 += -4
  r1 = map[${map}]
  call bpf_map_lookup_elem`;

const CASES: Readonly<Record<string, WorkCase>> = {
  'straight on, where an lddw is one insn': {
    program: `
      r0 = 2                      ; 1
      r1 = 0x123456789all         ; 2
      r0 += 0                     ; 3
      exit                        ; 4`,
    work: { insns: 4 },
  },
  'more insns than an executor may want to copy': {
    program: `
      r1 = *(u32 *)(r1 +0)        ; 1
      r2 = *(u8 *)(r1 +5)         ; 2
      r0 = 1                      ; 3
      if r2 == 6 goto out         ; 4
      r0 += 1                     ; 5
    out:
      ${'r0 += 0\n'.repeat(2000)} ; 2000
      exit                        ; and 1`,
    work: { insns: 5 + 2000 + 1 },
  },
  'a branch that is taken': {
    program: `
      r1 = *(u32 *)(r1 +0)        ; 1
      r2 = *(u8 *)(r1 +5)         ; 2
      r0 = 2                      ; 3
      if r2 == 5 goto out         ; 4
      r0 = 1
      r0 += 1
      goto out
    out:
      exit                        ; 5`,
    work: { insns: 5 },
  },
  'a branch that is not taken, and a jump': {
    program: `
      r1 = *(u32 *)(r1 +0)        ; 1
      r2 = *(u8 *)(r1 +5)         ; 2
      r0 = 1                      ; 3
      if r2 == 6 goto out         ; 4
      r0 += 1                     ; 5
      goto out                    ; 6
      r0 = 7
    out:
      exit                        ; 7`,
    work: { insns: 7 },
  },
  'a branch whose outcome is known beforehand': {
    program: `
      r2 = 1                      ; 1
      r0 = 2                      ; 2
      if r2 == 0 goto other       ; 3
      exit                        ; 4
    other:
      r0 = 1
      exit`,
    work: { insns: 4 },
  },
  'ways that part and do not meet again': {
    program: `
      r1 = *(u32 *)(r1 +0)        ; 1
      r2 = *(u8 *)(r1 +9)         ; 2
      if r2 > 100 goto far        ; 3
      if r2 > 8 goto near         ; 4
      r0 = 1
      exit
    far:
      r0 = 0
      exit
    near:
      call bpf_ktime_get_ns       ; 5
      r0 = 2                      ; 6
      exit                        ; 7`,
    work: { insns: 7, calls: { bpf_ktime_get_ns: 1 } },
  },
  'a loop of one body, 13 rounds': {
    program: `
      r1 = *(u32 *)(r1 +0)        ; 1
      r2 = *(u8 *)(r1 +13)        ; 2
      r0 = 2                      ; 3
    again:
      r2 += -1                    ; 13 rounds of 2
      if r2 != 0 goto again
      exit                        ; and 1`,
    work: { insns: 3 + 13 * 2 + 1 },
  },
  'a loop with two ways through it, and one out of its middle': {
    program: `
      r1 = *(u32 *)(r1 +0)        ; 1
      r2 = *(u8 *)(r1 +21)        ; 2
      r0 = 2                      ; 3
    again:
      r2 += -1                    ; 20, 19 … 1, 0
      if r2 == 0 goto out         ; 20 rounds and the start of one
      r3 = r2
      r3 &= 1
      if r3 == 0 goto again       ; 10 rounds of 5
      r0 += 0
      goto again                  ; 10 rounds of 7
    out:
      exit                        ; and 1`,
    work: { insns: 3 + 10 * 5 + 10 * 7 + 2 + 1 },
  },
  'loops in a loop': {
    program: `
      r1 = *(u32 *)(r1 +0)        ; 1
      r2 = *(u8 *)(r1 +3)         ; 2
      r0 = 2                      ; 3
    outer:
      r3 = r2                     ; r3: 3, 2, 1
    inner:
      r3 += -1
      if r3 != 0 goto inner       ; 6 rounds of 2
      r2 += -1
      if r2 != 0 goto outer       ; 3 rounds of 3 besides
      exit                        ; and 1`,
    work: { insns: 3 + 6 * 2 + 3 * 3 + 1 },
  },
  'a loop that begins with the program': {
    program: `
    again:
      r6 += 1                     ; 5 rounds of 2
      if r6 != 5 goto again
      r0 = 2
      exit                        ; and 2`,
    work: { insns: 5 * 2 + 2 },
  },
  'a loop with two entries': {
    program: `
      r1 = *(u32 *)(r1 +0)        ; 1
      r2 = *(u8 *)(r1 +3)         ; 2
      r0 = 2                      ; 3
      if r2 == 3 goto second      ; 4
    first:
      r2 += -1                    ; r2: 1, then -1
    second:
      r2 += -1                    ; r2: 2, 0, -2
      if r2 s> -1 goto first      ; 3 rounds, 1 less of the first insn
      exit                        ; and 1`,
    work: { insns: 4 + 2 + 3 * 2 + 1 },
  },
  'a local function, called twice': {
    program: `
      r6 = 0                      ; 1
      r1 = 3                      ; 2
      call plus_one               ; 3, and 3 more
      r1 = r0                     ; 4
      call plus_one               ; 5, and 3 more
      r0 = 2                      ; 6
      exit                        ; 7
    plus_one:
      r0 = r1
      r0 += 1
      exit`,
    work: { insns: 7 + 2 * 3 },
  },
  'a local function with a loop, which ends in two places': {
    program: `
      r6 = *(u32 *)(r1 +0)        ; 1
      r1 = *(u8 *)(r6 +12)        ; 2
      call count                  ; 3, and 2 + 12 * 3 + 1
      r1 = *(u8 *)(r6 +0)         ; 4
      call count                  ; 5, and 3
      r0 = 2                      ; 6
      exit                        ; 7
    count:
      r0 = 0
      if r1 == 0 goto none
    again:
      r0 += 1
      r1 += -1
      if r1 != 0 goto again
      exit
    none:
      exit`,
    work: { insns: 7 + (2 + 12 * 3 + 1) + 3 },
  },
  'a tail call that leaves for another program': {
    maps: { jumps: { ...PROG_ARRAY, programs: { 2: 'target' } } },
    program: `
      r2 = map[jumps]             ; 1
      r3 = 2                      ; 2
      call bpf_tail_call          ; 3
      r0 = 1
      exit`,
    others: {
      target: `
      r0 = 2                      ; 4
      exit                        ; 5`,
    },
    work: { insns: 5, calls: { bpf_tail_call: 1 } },
  },
  'a tail call that falls through': {
    maps: { jumps: PROG_ARRAY },
    program: `
      r2 = map[jumps]             ; 1
      r3 = 2                      ; 2
      call bpf_tail_call          ; 3
      r0 = 2                      ; 4
      exit                        ; 5`,
    work: { insns: 5, calls: { bpf_tail_call: 1 } },
  },
  'as many tail calls as there may be': {
    maps: { jumps: { ...PROG_ARRAY, programs: { 0: 'main' } } },
    program: `
      r2 = map[jumps]             ; 34 times: 33 that leave, and one that falls through
      r3 = 0
      call bpf_tail_call
      r0 = 2
      exit                        ; and 2`,
    work: { insns: 34 * 3 + 2, calls: { bpf_tail_call: 34 } },
  },
  'a tail call in a local function': {
    maps: { jumps: { ...PROG_ARRAY, programs: { 0: 'target' } } },
    program: `
      call leave                  ; 1, and 3 + 3
      r0 += 1                     ; 2
      exit                        ; 3
    leave:
      r2 = map[jumps]
      r3 = 0
      call bpf_tail_call
      r0 = 0
      exit`,
    others: { target: 'r0 = 0\nr0 += 1\nexit' },
    work: { insns: 3 + 3 + 3, calls: { bpf_tail_call: 1 } },
  },
  'bpf_loop: the callback in each round, with a helper of its own': {
    program: `
      r1 = 5                      ; 1
      r2 = subprog[body]          ; 2
      r3 = 0                      ; 3
      r4 = 0                      ; 4
      call bpf_loop               ; 5
      r0 = 2                      ; 6
      exit                        ; 7
    body:
      call bpf_get_prandom_u32    ; 5 rounds of 3
      r0 = 0
      exit`,
    work: { insns: 7 + 5 * 3, calls: { bpf_loop: 1, bpf_get_prandom_u32: 5 } },
  },
  'bpf_loop that its callback ends in the third round': {
    program: `
      r1 = 1000                   ; 1
      r2 = subprog[body]          ; 2
      r3 = 0                      ; 3
      r4 = 0                      ; 4
      call bpf_loop               ; 5
      r0 = 2                      ; 6
      exit                        ; 7
    body:
      r0 = 0                      ; 2 rounds of 3, one of 4
      if r1 != 2 goto out
      r0 = 1
    out:
      exit`,
    work: { insns: 7 + 2 * 3 + 4, calls: { bpf_loop: 1 } },
  },
  'bpf_for_each_map_elem: 2 elements': {
    maps: { values: ARRAY },
    program: `
      r1 = map[values]            ; 1
      r2 = subprog[visit]         ; 2
      r3 = 0                      ; 3
      r4 = 0                      ; 4
      call bpf_for_each_map_elem  ; 5
      r0 = 2                      ; 6
      exit                        ; 7
    visit:
      r0 = 0
      exit`,
    work: { insns: 7 + 2 * 2, calls: { bpf_for_each_map_elem: 1 } },
  },
  'helpers that executors write out in place': {
    program: `
      call bpf_ktime_get_ns           ; 1
      call bpf_ktime_get_ns           ; 2
      call bpf_ktime_get_boot_ns      ; 3
      call bpf_get_prandom_u32        ; 4
      call bpf_get_smp_processor_id   ; 5
      r1 = 3                          ; 6
      r2 = 0                          ; 7
      call bpf_redirect               ; 8
      r0 = 2                          ; 9
      exit                            ; 10`,
    work: {
      insns: 10,
      calls: {
        bpf_ktime_get_ns: 2,
        bpf_ktime_get_boot_ns: 1,
        bpf_get_prandom_u32: 1,
        bpf_get_smp_processor_id: 1,
        bpf_redirect: 1,
      },
    },
  },
  'a helper that may be called and is not': {
    program: `
      r1 = *(u32 *)(r1 +0)        ; 1
      r2 = *(u8 *)(r1 +1)         ; 2
      r0 = 2                      ; 3
      if r2 == 1 goto out         ; 4
      call bpf_ktime_get_ns
      r0 = 2
    out:
      exit                        ; 5`,
    work: { insns: 5, calls: { bpf_ktime_get_ns: 0 } },
  },
  'a look-up in an array that finds': {
    maps: { values: ARRAY },
    program: `
      ${lookupOf('values', 1)}    ; 5
      if r0 == 0 goto out         ; 6
      r1 = 1                      ; 7
      lock *(u64 *)(r0 +0) += r1  ; 8
    out:
      r0 = 2                      ; 9
      exit                        ; 10`,
    work: { insns: 10, calls: { bpf_map_lookup_elem: 1 }, bytes: 4 },
  },
  'a look-up in an array that does not find': {
    maps: { values: ARRAY },
    program: `
      ${lookupOf('values', 2)}    ; 5
      if r0 == 0 goto out         ; 6
      r1 = 1
      lock *(u64 *)(r0 +0) += r1
    out:
      r0 = 2                      ; 7
      exit                        ; 8`,
    work: { insns: 8, calls: { bpf_map_lookup_elem: 1 }, bytes: 4 },
  },
  'look-ups in a hash of 16-byte keys around an update': {
    maps: { flows: { type: 'BPF_MAP_TYPE_HASH', keySize: 16, valueSize: 8, maxEntries: 64 } },
    program: `
      *(u64 *)(r10 -16) = 7       ; 1
      *(u64 *)(r10 -8) = 9        ; 2
      *(u64 *)(r10 -24) = 1       ; 3
      r2 = r10                    ; 4
      r2 += -16                   ; 5
      r1 = map[flows]             ; 6
      call bpf_map_lookup_elem    ; 7: 16 bytes
      if r0 != 0 goto out         ; 8
      r1 = map[flows]             ; 9
      r2 = r10                    ; 10
      r2 += -16                   ; 11
      r3 = r10                    ; 12
      r3 += -24                   ; 13
      r4 = 0                      ; 14
      call bpf_map_update_elem    ; 15: 16 and 8 bytes
    out:
      r2 = r10                    ; 16
      r2 += -16                   ; 17
      r1 = map[flows]             ; 18
      call bpf_map_lookup_elem    ; 19: 16 bytes
      if r0 == 0 goto end         ; 20
      r0 = 2                      ; 21
    end:
      exit                        ; 22`,
    work: { insns: 22, calls: { bpf_map_lookup_elem: 2, bpf_map_update_elem: 1 }, bytes: 16 + 24 + 16 },
  },
  'an update for both CPUs of an array per CPU': {
    maps: { values: { ...ARRAY, type: 'BPF_MAP_TYPE_PERCPU_ARRAY' } },
    program: `
      *(u64 *)(r10 -16) = 1       ; 1
      *(u32 *)(r10 -4) = 0        ; 2
      r1 = map[values]            ; 3
      r2 = r10                    ; 4
      r2 += -4                    ; 5
      r3 = r10                    ; 6
      r3 += -16                   ; 7
      r4 = 0                      ; 8
      call bpf_map_update_elem    ; 9
      r0 = 2                      ; 10
      exit                        ; 11`,
    work: { insns: 11, calls: { bpf_map_update_elem: 1 }, bytes: 4 + 2 * 8 },
  },
  'look-ups in a map that is itself looked up': {
    maps: {
      inner: { ...ARRAY, entries: [[u32(0), u64(2n)]] },
      outer: {
        type: 'BPF_MAP_TYPE_ARRAY_OF_MAPS',
        keySize: 4,
        valueSize: 4,
        maxEntries: 1,
        inner: [[u32(0), 'inner']],
      },
    },
    program: `
      ${lookupOf('outer', 0)}     ; 5
      if r0 == 0 goto out         ; 6
      r1 = r0                     ; 7
      r2 = r10                    ; 8
      r2 += -4                    ; 9
      call bpf_map_lookup_elem    ; 10
      if r0 == 0 goto out         ; 11
      r0 = *(u64 *)(r0 +0)        ; 12
    out:
      exit                        ; 13`,
    work: { insns: 13, calls: { bpf_map_lookup_elem: 2 }, bytes: 4 + 4 },
  },
  'look-ups in a loop': {
    maps: { values: ARRAY },
    program: `
      r6 = *(u32 *)(r1 +0)        ; 1
      r6 = *(u8 *)(r6 +5)         ; 2
    again:
      ${lookupOf('values', 0)}
      r6 += -1
      if r6 != 0 goto again       ; 5 rounds of 7
      r0 = 2
      exit                        ; and 2`,
    work: { insns: 2 + 5 * 7 + 2, calls: { bpf_map_lookup_elem: 5 }, bytes: 5 * 4 },
  },
  'bytes of the packet that are copied, and of a checksum': {
    program: `
      r2 = 0                      ; 1
      r3 = r10                    ; 2
      r3 += -24                   ; 3
      r4 = 20                     ; 4
      call bpf_xdp_load_bytes     ; 5: 20 bytes
      r1 = 0                      ; 6
      r2 = 0                      ; 7
      r3 = r10                    ; 8
      r3 += -24                   ; 9
      r4 = 16                     ; 10
      r5 = 0                      ; 11
      call bpf_csum_diff          ; 12: 16 bytes
      r0 = 2                      ; 13
      exit                        ; 14`,
    work: { insns: 14, calls: { bpf_xdp_load_bytes: 1, bpf_csum_diff: 1 }, bytes: 20 + 16 },
  },
  'a packet whose end is moved there and back': {
    program: `
      r6 = r1                     ; 1
      r2 = 8                      ; 2
      call bpf_xdp_adjust_tail    ; 3: 8 bytes that are cleared
      r1 = r6                     ; 4
      r2 = -8                     ; 5
      call bpf_xdp_adjust_tail    ; 6: none
      r0 = 2                      ; 7
      exit                        ; 8`,
    work: { insns: 8, calls: { bpf_xdp_adjust_tail: 2 }, bytes: 8 },
  },
};

/** What `ProgramWork` counts of a run; the comments behind the insns number those that are executed. */
export const WORK_CASES: readonly XdpCase[] = Object.entries(CASES).map(([name, rest]) => ({
  name,
  source: SOURCE,
  packet: countingBytes(64),
  verdict: XDP_PASS,
  ...rest,
}));
