import { assemble } from '../../src/bpf/assembler.js';
import { encodeInsns } from '../../src/bpf/insn.js';
import type { AttackEntry } from './attack-entry.js';

const PASS = 'r0 = 2\nexit';
const INSN_BYTES = 8;

/** Programs of which each is beyond one limit. The first four a verifier takes: the host's policies do not. */
const BEYOND_LIMITS: Readonly<Record<string, string>> = {
  'sends frames back': 'r0 = 3\nexit',
  'redirects frames': 'r0 = 4\nexit',
  'writes the packet': [
    'r2 = *(u32 *)(r1 +0)',
    'r3 = *(u32 *)(r1 +4)',
    'r4 = r2',
    'r4 += 14',
    'if r4 > r3 goto pass',
    'r5 = 0',
    '*(u8 *)(r2 +0) = r5',
    'pass:',
    PASS,
  ].join('\n'),
  'takes 400 bytes of stack': `r1 = 0\n*(u64 *)(r10 -400) = r1\n${PASS}`,
  'takes 1500 insns a packet': `r0 = 0\n${'r0 += 1\n'.repeat(1500)}${PASS}`,
  'has more than 4096 insns': `r0 = 0\n${'r0 += 1\n'.repeat(4096)}${PASS}`,
  'takes more stack than there is': `r1 = 0\n*(u64 *)(r10 -520) = r1\n${PASS}`,
  'never ends': 'again:\nr0 = 2\ngoto again\nexit',
  'has no end': 'r0 = 2',
  'reads beyond the packet': 'r2 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r2 +0)\nr0 = 2\nexit',
  'reads what was never written': 'r0 = r7\nexit',
  'gives away an address': 'r0 = r10\nexit',
  'takes an address for a number':
    'r0 = 2\n*(u64 *)(r10 -8) = r10\nr1 = *(u64 *)(r10 -8)\nr1 *= 2\nr0 = *(u64 *)(r1 +0)\nexit',
};

/** Helpers that tell of the host, or reach beyond the guest's own. */
const HELPERS = [
  'bpf_get_smp_processor_id',
  'bpf_ktime_get_ns',
  'bpf_ktime_get_boot_ns',
  'bpf_jiffies64',
] as const;

/** What is done with programs. */
export const PROGRAM_ATTACKS: readonly AttackEntry[] = [
  {
    name: 'programs-beyond-limits',
    defect: 9,
    does: 'offloads a program beyond each limit: of the host’s policies, of the device, of the verifier',
    mustHold:
      'A program is put in its place only when the verifier has shown that it ends and keeps to its memory, and when every policy allows what it may do; what was refused has left nothing.',
    aims: ['refused'],
    stoppedBy: [
      'plugins/policy-program-limits/program-limits.ts',
      'plugins/policy-quota/quota.ts',
      'plugins/verifier-abstract/README.md',
    ],
    tests: ['plugins/policy-program-limits/program-limits.test.ts'],
    async run(attacker) {
      attacker.mustWork(await attacker.offload(PASS), 'a harmless program');
      const taken: string[] = [];
      for (const [what, text] of Object.entries(BEYOND_LIMITS)) {
        if (await attacker.offload(text)) taken.push(what);
      }
      attacker.mustBeRefused(taken.length > 0, `a program was taken that ${taken.join(', that ')}`);
      attacker.guest.did(`${Object.keys(BEYOND_LIMITS).length} programs, ${taken.length} taken`);
    },
  },
  {
    name: 'host-reading-helpers',
    defect: 'helpers that read the host (section 5 of the notes)',
    does: 'offloads programs that call helpers which tell of the host',
    mustHold:
      'An offloaded program calls helpers of a list that holds none that reads the host: the guest’s own driver may be left out, so the host checks.',
    aims: ['refused'],
    stoppedBy: ['plugins/policy-helper-allow-list/helper-allow-list.ts'],
    tests: ['plugins/policy-helper-allow-list/helper-allow-list.test.ts'],
    async run(attacker) {
      attacker.mustWork(
        await attacker.offload(`call bpf_get_prandom_u32\n${PASS}`),
        'a program that calls a harmless helper',
      );
      const taken: string[] = [];
      for (const helper of HELPERS) {
        if (await attacker.offload(`call ${helper}\n${PASS}`)) taken.push(helper);
      }
      attacker.mustBeRefused(taken.length > 0, `a program was taken that calls ${taken.join(', ')}`);
      attacker.guest.did(`${HELPERS.length} programs, ${taken.length} taken`);
    },
  },
  {
    name: 'malformed-insns',
    defect: 'insns that are none',
    does: 'SET_OFFLOAD with lengths that are no multiple of 8, that promise more, or with bytes that are no insns',
    mustHold:
      'The insns are all that was sent and nothing else: a length that does not fit, and a byte that means nothing, is refused and not cut to what would do.',
    aims: ['refused'],
    stoppedBy: ['src/core/offload/protocol/rfc-2019/decode-request.ts', 'src/bpf/insn-validity.ts'],
    tests: ['src/core/offload/control-endpoint.fuzz.test.ts', 'src/bpf/insn-validity.test.ts'],
    async run(attacker) {
      const pass = encodeInsns(assemble(PASS));
      attacker.mustWork(await attacker.offloadBytes(pass), 'a harmless program');
      const taken: string[] = [];
      const tries: readonly (readonly [string, Uint8Array, number?])[] = [
        ['half an insn at the end', concatenated(pass, new Uint8Array(4))],
        ['three bytes more', concatenated(pass, Uint8Array.of(1, 2, 3))],
        ['nothing', new Uint8Array(), 0],
        ['more than was sent', pass, pass.length + INSN_BYTES],
        ['a length near 2^32', pass, 0xffff_fff8],
        ['an opcode that is none', concatenated(Uint8Array.of(0xff, 0, 0, 0, 0, 0, 0, 0), pass)],
        ['a register that is none', concatenated(Uint8Array.of(0xb7, 0x0f, 0, 0, 0, 0, 0, 0), pass)],
        ['half an lddw', Uint8Array.of(0x18, 0, 0, 0, 0, 0, 0, 0)],
        [
          'a call of a helper that is none',
          concatenated(Uint8Array.of(0x85, 0, 0, 0, 0xff, 0xff, 0, 0), pass),
        ],
      ];
      for (const [what, bytes, length] of tries) {
        if (await attacker.offloadBytes(bytes, length ?? bytes.length)) taken.push(what);
      }
      attacker.mustBeRefused(taken.length > 0, `a program was taken with ${taken.join(', with ')}`);
      attacker.guest.did(`${tries.length} programs that are none, ${taken.length} taken`);
    },
  },
  {
    name: 'second-queue',
    defect: 10,
    does: 'offloads a program that drops everything on a nic with two queue pairs; traffic for both follows',
    mustHold:
      'A program is in front of the guest, not of one of its queues: which queue a sender’s flow hashes to must not decide whether a frame is filtered.',
    aims: ['every-queue'],
    stoppedBy: ['plugins/fabric-model/tap.ts', 'src/core/contract/hook-place.ts'],
    tests: ['src/conformance/fabric/fabric-conformance.ts'],
    async run(attacker) {
      const taken = await attacker.offload('r0 = 1\nexit');
      attacker.guest.did(
        `${attacker.guest.queuePairs} queue pairs, the program was ${taken ? 'taken' : 'refused'}`,
      );
    },
  },
];

function concatenated(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}
