import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { PS_PER_NS } from '../../src/core/contract/clock.js';
import type { AttackEntry } from './attack-entry.js';
import { mapCommand, MAP_HEADER_BYTES } from './attacker.js';

const { BPF_MAP_TYPE_ARRAY } = BPF_MAP_TYPE;
const QUOTA = 'plugins/policy-quota/quota.ts';
const QUOTA_TEST = 'plugins/policy-quota/quota.test.ts';
const ENDPOINT_TEST = 'src/core/offload/control-endpoint.attack.test.ts';
/** Of each of the two measurements. */
const FLOOD_MS = 20;

/** What is done to use up what is everybody's. */
export const EXHAUSTION_ATTACKS: readonly AttackEntry[] = [
  {
    name: 'exhaust-maps',
    defect: 9,
    does: 'CREATE_MAP two thousand times',
    mustHold:
      'A guest has as many maps as its quota allows: each is charged for before it is made, and what is refused has taken nothing.',
    aims: ['memory-bounded'],
    stoppedBy: [QUOTA, 'src/core/offload/quota-accounts.ts', 'src/core/offload/object-table.ts'],
    tests: [QUOTA_TEST, ENDPOINT_TEST],
    async run(attacker) {
      let made = 0;
      for (let n = 0; n < 2000; n++) {
        if ((await attacker.tryMap(BPF_MAP_TYPE_ARRAY, { maxEntries: 1 })) !== undefined) made++;
      }
      attacker.guest.did(`2000 maps asked for, ${made} got`);
    },
  },
  {
    name: 'exhaust-memory',
    defect: 9,
    does: 'CREATE_MAP of arrays of 256 KiB, 192 of them, and of sizes near 2^32',
    mustHold:
      'What a guest’s maps take is counted as the backend takes it, and bounded; sizes whose product does not fit are no sizes.',
    aims: ['memory-bounded'],
    stoppedBy: [QUOTA, 'src/bpf/map-sizes.ts'],
    tests: [QUOTA_TEST, ENDPOINT_TEST],
    async run(attacker) {
      let made = 0;
      for (let n = 0; n < 192; n++) {
        const sizes = { valueSize: 1024, maxEntries: 256 };
        if ((await attacker.tryMap(BPF_MAP_TYPE_ARRAY, sizes)) !== undefined) made++;
      }
      for (const sizes of [
        { maxEntries: 0xffff_ffff },
        { valueSize: 65_528, maxEntries: 65_536 },
        { valueSize: 65_528, maxEntries: 0x7fff_ffff },
      ]) {
        const got = await attacker.tryMap(BPF_MAP_TYPE_ARRAY, sizes);
        attacker.mustBeRefused(got !== undefined, 'a map of gigabytes was created');
      }
      attacker.guest.did(`192 maps of 256 KiB asked for, ${made} got`);
    },
  },
  {
    name: 'exhaust-log',
    defect: 9,
    does: 'ten thousand malformed commands',
    mustHold:
      'What is written down of a guest’s faults is bounded for each guest, what is dropped is counted, and other guests’ records are not crowded out.',
    aims: ['log-bounded'],
    stoppedBy: ['src/core/offload/offload-records.ts'],
    tests: [ENDPOINT_TEST],
    async run(attacker) {
      for (let n = 0; n < 10_000; n++) {
        await attacker.sendBytes(mapCommand({ cmd: 8 + (n % 1000), bufLen: n }), MAP_HEADER_BYTES + 1);
      }
      attacker.guest.did('10000 malformed commands');
    },
  },
  {
    name: 'slow-verification',
    defect: 9,
    does: 'offloads a program that is made to be slow to verify, while its neighbour reads a map',
    mustHold:
      'Judging a program keeps nobody up: it happens in a process of its own, within a limit of CPU time and memory, and by turns of the guests.',
    aims: ['neighbour-served'],
    stoppedBy: [
      'src/core/verification/guest-verification.ts',
      'docs/decisions/0014-guests-programs-are-judged-in-processes.md',
    ],
    tests: [
      'src/core/verification/guest-verification.test.ts',
      'src/core/verification/judge-process.test.ts',
    ],
    async run(attacker) {
      const { guest } = attacker;
      const sink = await attacker.createMap(BPF_MAP_TYPE_ARRAY, { valueSize: 64, maxEntries: 1 });
      const loading = attacker.offload(slowProgram(), new Map([['sink', sink]]));
      await guest.turn();
      await guest.neighbour.ask(loading);
      const taken = await loading;
      guest.did(`a slow program was sent and ${taken ? 'taken' : 'refused'}`);
    },
  },
  {
    name: 'command-flood',
    defect: 9,
    does: 'keeps its control queue full of commands for 20 ms of virtual time',
    mustHold:
      'A guest that floods its control queue slows down itself: commands of different guests are carried out by turns, so that a quiet one waits for one of the attacker’s commands at most, and with commands as short as its own its p99 is less than twice that of when it is alone.',
    aims: ['neighbour-latency'],
    stoppedBy: ['src/core/offload/command-turns.ts'],
    tests: ['src/core/offload/command-turns.test.ts'],
    async run(attacker) {
      const { guest, raw } = attacker;
      const handle = await attacker.createMap();
      const command = raw.place(
        mapCommand({ bufLen: 12, cmd: 4, keySize: 4, valueSize: 8, mapFd: handle }, new Uint8Array(12)),
      );
      const room = MAP_HEADER_BYTES + 12 + 1;
      const answer = raw.allocate(room);
      const heads = Array.from({ length: raw.size / 2 }, (_, n) => 2 * n);
      for (const head of heads) raw.describeCommand(head, command, MAP_HEADER_BYTES + 14, room, answer);
      const duration = FLOOD_MS * 1_000_000 * PS_PER_NS;
      await guest.neighbour.askInTime(true, duration);
      let answered = 0;
      const refill = (): void => {
        const used = raw.takeUsed().map(({ head }) => head);
        answered += used.length;
        if (used.length > 0) raw.offer(...used);
      };
      // All at once, when time has begun to pass.
      let begun = false;
      await guest.neighbour.askInTime(false, duration, () => {
        if (begun) refill();
        else {
          begun = true;
          raw.offer(...heads);
          raw.kick();
        }
      });
      attacker.mustWork(answered > 0, 'a command of its own');
      guest.did(`${answered} commands in ${FLOOD_MS} ms`);
    },
  },
];

/** As testbeds/unsafe/slow_to_verify.bpf.c: at each branch a stack slot may or may not change. */
function slowProgram(): string {
  const slots = 48;
  const branches = 200;
  const slot = (n: number): string => `r10 -${8 * ((n % slots) + 1)}`;
  const lines: string[] = [];
  for (let n = 0; n < slots; n++) lines.push('call bpf_get_prandom_u32', `*(u64 *)(${slot(n)}) = r0`);
  for (let n = 0; n < branches; n++) {
    lines.push(
      'call bpf_get_prandom_u32',
      `if r0 > ${3 * n + 1} goto next${n}`,
      `*(u64 *)(${slot(n)}) = r0`,
      `next${n}:`,
    );
  }
  lines.push('r6 = 0');
  for (let n = 0; n < slots; n++) lines.push(`r1 = *(u64 *)(${slot(n)})`, 'r6 += r1');
  lines.push(
    'r1 = 0',
    '*(u32 *)(r10 -392) = r1',
    'r1 = map[sink]',
    'r2 = r10',
    'r2 += -392',
    'call bpf_map_lookup_elem',
    'if r0 == 0 goto out',
    'r6 &= 63',
    'r0 += r6',
    'r1 = 1',
    '*(u8 *)(r0 +0) = r1',
    'out:',
    'r0 = 2',
    'exit',
  );
  return lines.join('\n');
}
