import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import {
  VIRTIO_NET_OK,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from '../../src/virtio/index.js';
import type { AttackEntry } from './attack-entry.js';
import { bytesOf, keyOf, MAP_HEADER_BYTES, mapCommand, type Attacker } from './attacker.js';
import type { RawRing } from './raw-ring.js';

const QUEUE = 'src/virtio/split-device-queue.ts';
const QUEUE_TESTS = ['src/virtio/split-device-queue.test.ts', 'plugins/attack-rfc-2019/ring-attacks.test.ts'];

const NEXT = VIRTQ_DESC_F_NEXT;
const WRITE = VIRTQ_DESC_F_WRITE;
const INDIRECT = VIRTQ_DESC_F_INDIRECT;
const DESCRIPTOR_BYTES = 16;
/** Turns of the event loop in which a device that sees a broken rule has long seen it. */
const PATIENCE = 100;

/** A way to break the rules of the ring: puts something into it and makes it available. */
interface BrokenRule {
  readonly what: string;
  readonly put: (raw: RawRing) => void;
}

/** What is done with descriptors and rings. */
export const RING_ATTACKS: readonly AttackEntry[] = [
  {
    name: 'looping-descriptors',
    defect: 'the ring',
    target: 'ring',
    does: 'chains that come back to themselves, or go on beyond their table',
    mustHold:
      'A chain has no more descriptors than its table, whatever `next` says: the walk ends, the link goes down, and works again after a reset (virtio 1.3, 2.7.5).',
    aims: ['link-state'],
    stoppedBy: [QUEUE],
    tests: QUEUE_TESTS,
    run: (attacker) =>
      breakRules(attacker, [
        ['a descriptor that is its own next', (raw) => chain(raw, [[8, NEXT, 0]])],
        [
          'two that are each other’s',
          (raw) =>
            chain(raw, [
              [8, NEXT, 1],
              [8, NEXT, 0],
            ]),
        ],
        [
          'the whole table in a circle',
          (raw) =>
            chain(
              raw,
              Array.from({ length: raw.size }, (_, n) => [8, NEXT, (n + 1) % raw.size] as const),
            ),
        ],
        ['a next beyond the table', (raw) => chain(raw, [[8, NEXT, raw.size]])],
        ['a next far beyond it', (raw) => chain(raw, [[8, NEXT, 0xffff]])],
      ]),
  },
  {
    name: 'index-jumps',
    defect: 'the ring',
    target: 'ring',
    does: 'moves avail.idx further than the ring is long, back, or to heads that are none',
    mustHold:
      'The available ring never holds more than its size: a jump of the index, or a head beyond the table, takes the link down before anything is read by it.',
    aims: ['link-state'],
    stoppedBy: [QUEUE],
    tests: QUEUE_TESTS,
    run: (attacker) =>
      breakRules(attacker, [
        ['one more than there is room for', (raw) => raw.jumpAvail(raw.size + 1)],
        ['half of all indices', (raw) => raw.jumpAvail(0x8000)],
        ['one back', (raw) => raw.jumpAvail(-1)],
        ['a head beyond the table', (raw) => raw.offer(raw.size)],
        ['the last of all heads', (raw) => raw.offer(0xffff)],
      ]),
  },
  {
    name: 'descriptors-elsewhere',
    defect: 'the ring',
    target: 'ring',
    does: 'descriptors of memory that is not the guest’s, or whose end wraps',
    mustHold:
      'An address is looked at before anything is read or written there, and the sum of address and length does not wrap 2^64.',
    aims: ['link-state'],
    stoppedBy: ['src/virtio/guest-memory.ts', QUEUE],
    tests: [...QUEUE_TESTS, 'src/virtio/guest-memory.test.ts'],
    run: (attacker) =>
      breakRules(
        attacker,
        (
          [
            ['the null page', 0, 8],
            ['just before the memory', (raw) => raw.ring.memory.base - 1, 8],
            ['across its end', (raw) => raw.ring.memory.base + raw.ring.memory.size - 4, 8],
            ['2^53', 2n ** 53n, 8],
            ['the last bytes of all', 2n ** 64n - 8n, 8],
            ['a sum that wraps', 2n ** 64n - 8n, 4096],
          ] as readonly (readonly [string, number | bigint | ((raw: RawRing) => number), number])[]
        ).flatMap(([what, place, length]) =>
          [0, WRITE].map((flags): readonly [string, BrokenRule['put']] => [
            `${flags === WRITE ? 'room at' : 'bytes at'} ${what}`,
            (raw) => {
              const address = typeof place === 'function' ? place(raw) : place;
              // A readable part first, so that only the address is wrong.
              raw.describe(0, { address: raw.place(new Uint8Array(8)), length: 8, flags: NEXT, next: 1 });
              raw.describe(1, { address, length, flags });
              raw.offer(0);
            },
          ]),
        ),
      ),
  },
  {
    name: 'descriptor-lengths',
    defect: 'the ring',
    target: 'ring',
    does: 'descriptors of no bytes, of 4 GiB, and many of the same megabyte',
    mustHold:
      'A chain has bytes, and no more than the device takes: overlapping descriptors count as often as they are there, so that a small memory does not become a large command.',
    aims: ['link-state'],
    stoppedBy: [QUEUE],
    tests: QUEUE_TESTS,
    run: (attacker) =>
      breakRules(attacker, [
        ['a descriptor of no bytes', (raw) => chain(raw, [[0, 0, 0]])],
        [
          'one of no bytes behind another',
          (raw) =>
            chain(raw, [
              [8, NEXT, 1],
              [0, 0, 0],
            ]),
        ],
        ['4 GiB', (raw) => chain(raw, [[0xffff_ffff, 0, 0]])],
        [
          'the same half megabyte again and again',
          (raw) => {
            const address = raw.allocate(1 << 19);
            for (let n = 0; n < raw.size; n++) {
              const isLast = n === raw.size - 1;
              raw.describe(n, { address, length: 1 << 19, flags: isLast ? 0 : NEXT, next: n + 1 });
            }
            raw.offer(0);
          },
        ],
        [
          'readable bytes behind room',
          (raw) =>
            chain(raw, [
              [8, NEXT | WRITE, 1],
              [8, 0, 0],
            ]),
        ],
      ]),
  },
  {
    name: 'indirect-tables',
    defect: 'the ring',
    target: 'ring',
    does: 'indirect tables that are empty, cut off, elsewhere, within one another, or go in circles',
    mustHold:
      'An indirect table is bounded by its own length, lies in the guest’s memory, and holds no table (virtio 1.3, 2.7.5.3.1).',
    aims: ['link-state'],
    stoppedBy: [QUEUE],
    tests: QUEUE_TESTS,
    run: (attacker) =>
      breakRules(attacker, [
        ['a table of no bytes', (raw) => indirect(raw, [[8, 0, 0]], { length: 0 })],
        ['a table of 17 bytes', (raw) => indirect(raw, [[8, 0, 0]], { length: 17 })],
        ['a table elsewhere', (raw) => indirect(raw, [[8, 0, 0]], { address: 2n ** 53n })],
        ['a table in a table', (raw) => indirect(raw, [[16, INDIRECT, 0]], {})],
        ['a table and a next', (raw) => indirect(raw, [[8, 0, 0]], { flags: INDIRECT | NEXT })],
        [
          'a circle in a table',
          (raw) =>
            indirect(
              raw,
              [
                [8, NEXT, 1],
                [8, NEXT, 0],
              ],
              {},
            ),
        ],
        ['a next beyond the table', (raw) => indirect(raw, [[8, NEXT, 1]], {})],
        ['a next in the ring’s table', (raw) => indirect(raw, [[8, NEXT, 40]], {})],
      ]),
  },
  {
    name: 'overlapping-descriptors',
    defect: 'the ring',
    target: 'ring',
    does: 'commands whose answer lies over them, and commands a byte to a descriptor',
    mustHold:
      'How the parts of a command lie in memory means nothing (virtio 1.3, 2.7.4): what the device was sent is what it copied, wherever its answer goes, and each is answered once.',
    aims: ['truly-answered', 'one-answer'],
    stoppedBy: [QUEUE],
    tests: QUEUE_TESTS,
    async run(attacker) {
      const handle = await preparedMap(attacker);
      if (handle === undefined) return;
      const { raw } = attacker;
      const command = lookup(handle);
      const room = MAP_HEADER_BYTES + 12 + 1;
      const answers: [string, Uint8Array | undefined][] = [];

      const over = raw.allocate(Math.max(command.length, room));
      raw.write(over, command);
      raw.describeCommand(0, over, command.length, room, over);
      raw.offer(0);
      answers.push(['an answer over its command', await collected(attacker, over, room)]);

      const within = raw.allocate(command.length + room);
      raw.write(within, command);
      raw.describeCommand(0, within, command.length, room, within + 2);
      raw.offer(0);
      answers.push(['an answer that begins in its command', await collected(attacker, within + 2, room)]);

      const at = raw.place(command);
      const answer = raw.allocate(room);
      for (let n = 0; n < command.length; n++) {
        raw.describe(n, { address: at + n, length: 1, flags: NEXT, next: n + 1 });
      }
      raw.describe(command.length, { address: answer, length: room, flags: WRITE });
      raw.offer(0);
      answers.push(['a byte to a descriptor', await collected(attacker, answer, room)]);

      for (const [what, bytes] of answers) {
        if (bytes === undefined) continue;
        const found = bytes.subarray(MAP_HEADER_BYTES + 4, MAP_HEADER_BYTES + 12);
        const isTrue = bytes.at(-1) === VIRTIO_NET_OK && Buffer.compare(found, bytesOf('mine')) === 0;
        if (!isTrue) attacker.guest.saw('truly-answered', `${what}: it is not the element that was put in`);
      }
      await freeMap(attacker, handle);
      attacker.guest.did(`${answers.length} commands that lie over their answers, or in pieces`);
    },
  },
  {
    name: 'used-ring-scribbled',
    defect: 'the ring',
    target: 'ring',
    does: 'writes over the used ring, which is the device’s to write, and over what the device may be told by event indices',
    mustHold:
      'The device keeps its own place in the used ring: what a driver writes there changes nothing of what the device does, and every command is answered once.',
    aims: ['one-answer'],
    stoppedBy: [QUEUE],
    tests: QUEUE_TESTS,
    async run(attacker) {
      const handle = await preparedMap(attacker);
      if (handle === undefined) return;
      const { raw } = attacker;
      const { usedRing, availRing, size } = raw.ring.layout;
      const before = raw.usedIndex;
      const command = raw.place(lookup(handle));
      const room = MAP_HEADER_BYTES + 12 + 1;
      const answer = raw.allocate(room);
      const commands = 8;
      for (let n = 1; n <= commands; n++) {
        // flags, idx, elements and avail_event; then avail.flags and used_event.
        raw.write(
          usedRing,
          Uint8Array.from({ length: 4 + 8 * size + 2 }, (_, at) => (at * 37 + n) & 0xff),
        );
        raw.write(availRing, Uint8Array.of(0xff, 0xff));
        raw.write(availRing + 4 + 2 * size, Uint8Array.of(n, 0x80));
        raw.describeCommand(0, command, MAP_HEADER_BYTES + 14, room, answer);
        raw.write(answer, new Uint8Array(room).fill(0xee));
        raw.offer(0);
        raw.kick();
        for (let turn = 0; turn < 4; turn++) await attacker.guest.turn();
        const index = (before + n) & 0xffff;
        if (raw.usedIndex !== index) {
          attacker.guest.saw(
            'one-answer',
            `used.idx is ${raw.usedIndex} where ${index} commands were answered`,
          );
          break;
        }
        const { head, length } = raw.usedElement(index - 1);
        if (head !== 0 || length !== room || raw.read(answer, room).at(-1) !== VIRTIO_NET_OK) {
          attacker.guest.saw('one-answer', 'the element in the used ring is not the one of the command');
        }
      }
      attacker.forgetRing();
      await freeMap(attacker, handle);
      attacker.guest.did(`${commands} commands with a scribbled used ring`);
    },
  },
];

/** Breaks each rule, sees whether the link goes down, resets the device, and sees whether it works again. */
async function breakRules(
  attacker: Attacker,
  rules: readonly (readonly [what: string, put: BrokenRule['put']])[],
): Promise<void> {
  const { guest } = attacker;
  for (const [what, put] of rules) {
    const { raw } = attacker;
    put(raw);
    raw.kick();
    for (let turn = 0; turn < PATIENCE && !raw.ring.isDown; turn++) await guest.turn();
    if (!raw.ring.isDown) guest.saw('link-state', `${what}: the link is up`);
    await guest.neighbour.ask();
    await guest.reset();
    attacker.forgetRing();
    if (attacker.raw.ring.isDown) {
      guest.saw('link-state', `${what}: the link is down after a reset`);
      continue;
    }
    const handle = await preparedMap(attacker);
    if (handle === undefined) guest.saw('link-state', `${what}: nothing works after a reset`);
    else await freeMap(attacker, handle);
  }
  guest.did(`${rules.length} ways to break a rule of the ring`);
}

/** A map with an element, made by the raw ring; undefined when that does not work. */
async function preparedMap(attacker: Attacker): Promise<number | undefined> {
  const create = mapCommand({
    cmd: 1,
    mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
    keySize: 4,
    valueSize: 8,
    maxEntries: 4,
  });
  const created = await attacker.rawCommand(create, MAP_HEADER_BYTES + 1);
  if (created?.bytes.at(-1) !== VIRTIO_NET_OK) return undefined;
  const handle = new DataView(created.bytes.buffer).getUint32(28, true);
  const element = Uint8Array.of(...keyOf(1), ...bytesOf('mine'));
  const update = mapCommand({ bufLen: 12, cmd: 3, keySize: 4, valueSize: 8, mapFd: handle }, element);
  const updated = await attacker.rawCommand(update, 1);
  return updated?.bytes.at(-1) === VIRTIO_NET_OK ? handle : undefined;
}

/** Leaves nothing behind: what a device does about that is not what these attacks are for. */
async function freeMap(attacker: Attacker, handle: number): Promise<void> {
  const freed = await attacker.rawCommand(mapCommand({ cmd: 2, mapFd: handle }), 1);
  if (freed?.bytes.at(-1) !== VIRTIO_NET_OK) attacker.guest.saw('one-answer', 'a map could not be freed');
}

function lookup(handle: number): Uint8Array {
  const key = Uint8Array.of(...keyOf(1), ...new Uint8Array(8));
  return mapCommand({ bufLen: 12, cmd: 4, keySize: 4, valueSize: 8, mapFd: handle }, key);
}

/** Kicks, and reads what is answered; says so when that is nothing, or more than once. */
async function collected(
  { guest, raw }: Attacker,
  address: number,
  room: number,
): Promise<Uint8Array | undefined> {
  raw.kick();
  let answers = 0;
  for (let turn = 0; turn < PATIENCE && answers === 0 && !raw.ring.isDown; turn++) {
    answers += raw.takeUsed().length;
    await guest.turn();
  }
  answers += raw.takeUsed().length;
  if (answers !== 1) guest.saw('one-answer', `a command was answered ${answers} times`);
  return answers === 1 ? raw.read(address, room) : undefined;
}

/** Descriptors from entry 0 on, each of own memory. */
function chain(
  raw: RawRing,
  parts: readonly (readonly [length: number, flags: number, next: number])[],
): void {
  parts.forEach(([length, flags, next], index) => {
    raw.describe(index, { address: raw.place(new Uint8Array(16)), length, flags, next });
  });
  raw.offer(0);
}

/** The same in an indirect table. */
function indirect(
  raw: RawRing,
  parts: readonly (readonly [length: number, flags: number, next: number])[],
  changes: { readonly address?: bigint; readonly length?: number; readonly flags?: number },
): void {
  const length = DESCRIPTOR_BYTES * parts.length;
  const table = raw.allocate(length);
  parts.forEach(([bytes, flags, next], index) => {
    raw.describe(index, { address: raw.place(new Uint8Array(16)), length: bytes, flags, next }, table);
  });
  raw.describe(0, { address: table, length, flags: INDIRECT, next: 1, ...changes });
  raw.describe(1, { address: raw.place(new Uint8Array(16)), length: 8 });
  raw.offer(0);
}
