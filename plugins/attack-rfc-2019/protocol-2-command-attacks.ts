import { ENOENT } from '../../src/bpf/errno.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { BPF_OFFLOAD } from '../../src/core/offload/protocol/bpf-offload/bpf-offload.js';
import type { BpfRequest } from '../../src/core/offload/protocol/control-protocol.js';
import { VIRTIO_NET_CTRL_BPF, VIRTIO_NET_OK } from '../../src/virtio/index.js';
import type { AttackEntry } from './attack-entry.js';
import { bytesOf, keyOf, mapCommand, MAP_HEADER_BYTES } from './attacker.js';
import { BTF_KIND, btfInt, btfSection, btfType } from './btf-section.js';
import {
  areasAt,
  BPF_MAP_CREATE,
  BPF_MAP_LOOKUP_ELEM,
  BPF_MAP_UPDATE_ELEM,
  syscallCommand,
} from './syscall-command.js';

const { BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_RINGBUF } = BPF_MAP_TYPE;
const TABLE = 'src/core/offload/object-table.ts';
const DECODER = 'src/core/offload/protocol/bpf-offload/decode-request.ts';
const DECODER_TEST = 'src/core/offload/protocol/bpf-offload/decode-request.test.ts';
const SYSCALL = 'src/core/offload/protocol/bpf-offload/syscall.ts';
const SYSCALL_TEST = 'src/core/offload/protocol/bpf-offload/syscall.test.ts';
const MAPS_TEST = 'src/core/offload/guest-maps.test.ts';
const OBJECTS_TEST = 'src/core/offload/guest-objects.test.ts';
/** Bytes of `struct virtio_net_bpf_result`, and room for some text. */
const RESULT_BYTES = 16;
const ROOM = 4096;

/** What is done with the bytes of protocol 2's commands, and with how many there are. */
export const PROTOCOL_2_COMMAND_ATTACKS: readonly AttackEntry[] = [
  {
    name: 'batch-overruns',
    protocol: 'bpf-offload',
    defect: 'counts are believed',
    does: 'MAP_LOOKUP_BATCH and MAP_UPDATE_BATCH whose count is more than there are elements or room, or near 2^32 by the size of one',
    mustHold:
      'A count is compared with the bytes that are there, and with the room for the answer, before anything is multiplied by it or copied.',
    aims: ['no-stray-access', 'refused'],
    stoppedBy: [DECODER],
    tests: [DECODER_TEST, 'src/core/offload/protocol/bpf-offload/wire.test.ts'],
    async run(attacker) {
      const handle = await attacker.createMap(BPF_MAP_TYPE_ARRAY, { maxEntries: 64 });
      const elements = new Uint8Array(12 * 4);
      let taken = 0;
      let sent = 0;
      // Of 4 and 8 bytes: 0x1555_5556 times 12 is 8 more than 2^32, 0x4000_0001 times 4 is 4 more.
      for (const count of [64, 4096, 0x1555_5556, 0x4000_0001, 0x8000_0000, 0xffff_ffff]) {
        for (const command of [LOOKUP_BATCH, UPDATE_BATCH, DELETE_BATCH]) {
          const behind = command === LOOKUP_BATCH ? new Uint8Array() : elements;
          const room = RESULT_BYTES + 24;
          const answer = await attacker.sendBytes(batchCommand(command, handle, count, behind), room);
          sent++;
          if (answer[0] === VIRTIO_NET_OK) taken++;
        }
      }
      attacker.mustBeRefused(taken > 0, `${taken} batches of more than there is were carried out`);
      attacker.guest.did(`${sent} batches with counts that are not true, ${taken} carried out`);
    },
  },
  {
    name: 'attributes-passed-on',
    protocol: 'bpf-offload',
    defect: 'bpf(2) by the guest’s attributes',
    does: 'SYSCALLs with attributes set that the call does not have, with more of them than there are, with sizes that are not true, and with pointers that lead elsewhere',
    mustHold:
      'Attributes are parsed: one that is set and means nothing here is refused, and a pointer is the offset of an area of the command, or nothing is done.',
    aims: ['refused', 'no-stray-access', 'no-leak'],
    stoppedBy: [SYSCALL],
    tests: [SYSCALL_TEST],
    async run(attacker) {
      const handle = await attacker.createMap();
      const [key, value] = [keyOf(1), bytesOf('attack')];
      const areas = Uint8Array.of(...key, ...value);
      const at = areasAt(32);
      const create = { 0: BPF_MAP_TYPE_ARRAY, 4: 4, 8: 8, 12: 4 };
      const update = { 0: handle, 8: at, 16: at + 4 };
      const lookup = { cmd: BPF_MAP_LOOKUP_ELEM, attrBytes: 32, outLength: 8 };
      const write = { cmd: BPF_MAP_UPDATE_ELEM, attrBytes: 32, areas };
      const commands: Readonly<Record<string, Uint8Array>> = {
        'map_ifindex set': syscallCommand({ cmd: BPF_MAP_CREATE, attrBytes: 72, attr: { ...create, 44: 2 } }),
        'numa_node set': syscallCommand({ cmd: BPF_MAP_CREATE, attrBytes: 72, attr: { ...create, 24: 7 } }),
        'an attribute that no kernel has': syscallCommand({
          cmd: BPF_MAP_CREATE,
          attrBytes: 160,
          attr: { ...create, 140: 1 },
        }),
        'more attributes than there are': syscallCommand({
          cmd: BPF_MAP_CREATE,
          attrBytes: 2048,
          attr: create,
        }),
        'attr_size beyond the command': syscallCommand({
          cmd: BPF_MAP_CREATE,
          attrBytes: 72,
          attr: create,
          attrSize: 4096,
        }),
        'areas_length beyond the command': syscallCommand({
          ...write,
          attr: update,
          areasLength: 0xffff_fff0,
        }),
        'a key beyond the command': syscallCommand({ ...lookup, attr: { 0: handle, 8: 0x1000 } }),
        'a key by an address of the kernel': syscallCommand({
          ...lookup,
          attr: { 0: handle, 8: 0x8100_0000, 12: 0xffff_ffff },
          areas: key,
        }),
        'a value beyond the command': syscallCommand({ ...write, attr: { ...update, 16: at + 12 } }),
        'a value that lies over the attributes': syscallCommand({ ...write, attr: { ...update, 16: 16 } }),
        'a value of 64 KiB': syscallCommand({ ...write, attr: update, outLength: 65_536 }),
      };
      const taken: string[] = [];
      for (const [what, command] of Object.entries(commands)) {
        const answer = await attacker.sendBytes(command, ROOM);
        if (answer[0] === VIRTIO_NET_OK) taken.push(what);
        const found = await attacker.lookup(handle, 1);
        if (found.kind !== 'value') continue;
        const own = [new Uint8Array(8), value];
        if (!own.some((bytes) => Buffer.from(bytes).equals(found.value))) {
          const text = Buffer.from(found.value)
            .toString('latin1')
            .replaceAll(/[^ -~]/g, '.');
          attacker.guest.saw('no-leak', `by ${what} '${text}' came into its map`);
        }
      }
      attacker.mustBeRefused(taken.length > 0, `a call was carried out with ${taken.join(', ')}`);
      attacker.guest.did(`${Object.keys(commands).length} calls, ${taken.length} carried out`);
    },
  },
  {
    name: 'malformed-btf',
    protocol: 'bpf-offload',
    defect: 'BTF is not looked at',
    does: 'BTF_LOAD of sections whose lengths, counts, names or kinds are not true, and maps whose types contain themselves, are nested 4000 deep, or take more than 2^32 bytes',
    mustHold:
      'A section is parsed before it is kept, and a type is followed a bounded number of steps: what has no size is the type of no map.',
    aims: ['refused'],
    stoppedBy: ['src/bpf/btf/btf.ts', 'src/core/offload/guest-bpf.ts', 'src/core/offload/guest-maps.ts'],
    tests: [MAPS_TEST, 'src/bpf/btf/btf.test.ts'],
    async run(attacker) {
      const kept: string[] = [];
      for (const [what, bytes] of Object.entries(MALFORMED_BTF)) {
        if ((await attacker.handleOf({ kind: 'load-btf', bytes })) !== undefined) kept.push(what);
      }
      for (const [what, types] of Object.entries(ENDLESS_TYPES)) {
        const btf = await attacker.handleOf({ kind: 'load-btf', bytes: btfSection({ types }) });
        if (btf === undefined) continue;
        const map = await attacker.handleOf({ ...MAP, btf: { handle: btf, keyType: 0, valueType: 1 } });
        if (map !== undefined) kept.push(what);
      }
      attacker.mustBeRefused(kept.length > 0, `BTF was taken with ${kept.join(', ')}`);
      const tried = Object.keys(MALFORMED_BTF).length + Object.keys(ENDLESS_TYPES).length;
      attacker.guest.did(`${tried} sections, ${kept.length} taken`);
    },
  },
  {
    name: 'records-beyond-ring',
    protocol: 'bpf-offload',
    defect: 'a length is believed',
    does: 'MAP_RECORDS of a ring buffer of 4096 bytes in which nothing is, of up to 64 KiB, of 4 GiB, and of maps that have no records',
    mustHold:
      'What is returned of a ring are whole records that programs have written; the length that is asked for is a bound and not a size.',
    aims: ['no-stray-access', 'no-leak'],
    stoppedBy: ['src/core/offload/guest-maps.ts', DECODER],
    tests: [MAPS_TEST, DECODER_TEST],
    async run(attacker) {
      let leaked = 0;
      const read = async (handle: number): Promise<void> => {
        for (const length of [4096, 4100, 8192, 65_536, 0x4000_0000, 0xffff_ffff]) {
          const command = new Uint8Array(10);
          command.set([VIRTIO_NET_CTRL_BPF, 11]);
          new DataView(command.buffer).setUint32(2, handle, true);
          new DataView(command.buffer).setUint32(6, length, true);
          const answer = await attacker.sendBytes(command, RESULT_BYTES + 65_536);
          // Nothing was written by any program.
          if (answer[0] === VIRTIO_NET_OK) leaked += Math.max(0, answer.length - RESULT_BYTES);
        }
      };
      const array = await attacker.createMap();
      await read(array);
      // The quota of entries has room for one of them.
      await attacker.send({ kind: 'close', handle: array });
      const ring = await attacker.mustGet(
        { ...MAP, mapType: BPF_MAP_TYPE_RINGBUF, keySize: 0, valueSize: 0, maxEntries: 4096 },
        'a ring buffer',
      );
      await read(ring);
      if (leaked > 0) attacker.guest.saw('no-leak', `${leaked} bytes came out of rings in which nothing is`);
      attacker.guest.did(`12 reads of empty rings, ${leaked} bytes`);
    },
  },
  {
    name: 'exhaust-names',
    protocol: 'bpf-offload',
    defect: 'nobody counts what is small',
    does: 'asks for 5000 handles of one map, and pins it under 1500 names',
    mustHold:
      'A device has so many handles and so many pins, and refuses one more: what takes no memory of a map’s takes its place in a table.',
    aims: ['memory-bounded'],
    stoppedBy: [TABLE, 'src/core/offload/guest-bpf.ts'],
    tests: ['src/core/offload/object-table.test.ts', OBJECTS_TEST],
    async run(attacker) {
      const handle = await attacker.createMap();
      await attacker.send({ kind: 'pin', handle, name: 'first' });
      let handles = 0;
      let pins = 0;
      for (let n = 0; n < 5000; n++) {
        if ((await attacker.handleOf({ kind: 'open-pinned', name: 'first' })) !== undefined) handles++;
      }
      for (let n = 0; n < 1500; n++) {
        if ((await attacker.send({ kind: 'pin', handle, name: `pin-${n}` })).kind === 'done') pins++;
      }
      attacker.guest.did(`${handles} of 5000 handles and ${pins} of 1500 pins got`);
    },
  },
  {
    name: 'exhaust-links',
    protocol: 'bpf-offload',
    defect: 'nobody counts what is small',
    does: 'LINK_CREATE and LINK_DETACH 6500 times, without a CLOSE',
    mustHold: 'A link that is detached is an object still, and counts as one until it is closed.',
    aims: ['memory-bounded'],
    stoppedBy: [TABLE],
    tests: ['src/core/offload/object-table.test.ts', OBJECTS_TEST],
    async run(attacker) {
      const program = await attacker.mustGet(
        { kind: 'load-program', name: '', insns: PASS_INSNS, gplCompatible: true, frags: false },
        'a harmless program',
      );
      let links = 0;
      for (let n = 0; n < 6500; n++) {
        const link = await attacker.handleOf({ kind: 'create-link', program, hook: 0 });
        if (link === undefined) break;
        await attacker.send({ kind: 'detach-link', link });
        links++;
      }
      attacker.guest.did(`${links} of 6500 links got`);
    },
  },
  {
    name: 'exhaust-btf',
    protocol: 'bpf-offload',
    defect: 'nobody counts BTF',
    does: 'BTF_LOAD of 60 KiB three hundred times',
    mustHold: 'BTF is charged for as long as it is kept, and a guest has as much of it as its quota allows.',
    aims: ['memory-bounded'],
    stoppedBy: ['plugins/policy-quota/quota.ts'],
    tests: ['plugins/policy-quota/quota.test.ts', MAPS_TEST],
    async run(attacker) {
      const strings = `\0int\0${'x'.repeat(60 * 1024)}\0`;
      const bytes = btfSection({ strings });
      let loaded = 0;
      for (let n = 0; n < 300; n++) {
        if ((await attacker.handleOf({ kind: 'load-btf', bytes })) !== undefined) loaded++;
      }
      attacker.guest.did(`300 sections of 60 KiB sent, ${loaded} kept`);
    },
  },
  {
    name: 'commands-not-negotiated',
    protocol: 'none',
    defect: 'features are not looked at',
    does: 'negotiates neither protocol, and sends the commands of both',
    mustHold:
      'Which commands there are is decided by what was negotiated, and not by what comes: a feature that the host did not offer cannot be had by using it.',
    aims: ['refused'],
    stoppedBy: ['src/core/offload/control-endpoint.ts'],
    tests: [OBJECTS_TEST, 'src/core/offload/control-endpoint.attack.test.ts'],
    async run(attacker) {
      const taken: string[] = [];
      const requests: readonly BpfRequest[] = [
        { ...MAP },
        { kind: 'load-btf', bytes: btfSection() },
        { kind: 'next-id', object: 'map', after: 0 },
        { kind: 'next-pinned', after: '' },
        { kind: 'load-program', name: '', insns: PASS_INSNS, gplCompatible: true, frags: false },
      ];
      for (const request of requests) {
        const sent = BPF_OFFLOAD.encodeRequest(request);
        const decoded = BPF_OFFLOAD.decodeReply(request, sent, await attacker.sendBytes(sent, ROOM));
        if (!decoded.ok) continue;
        // That there is nothing behind a name or an id is an answer as well.
        const { reply } = decoded;
        if (reply.kind !== 'error' || reply.errno === ENOENT) taken.push(BPF_OFFLOAD.requestName(request));
      }
      const rfc = mapCommand({
        cmd: 1,
        mapType: BPF_MAP_TYPE_ARRAY,
        keySize: 4,
        valueSize: 8,
        maxEntries: 4,
      });
      const answer = await attacker.sendBytes(rfc, MAP_HEADER_BYTES + 1);
      if (answer.at(-1) === VIRTIO_NET_OK) taken.push('EBPF_MAP/CREATE_MAP');
      if (await attacker.offloadBytes(PASS_INSNS)) taken.push('EBPF_PROG/SET_OFFLOAD');
      attacker.mustBeRefused(taken.length > 0, `without its feature, ${taken.join(', ')} was carried out`);
      attacker.guest.did(
        `${requests.length + 2} commands without their feature, ${taken.length} carried out`,
      );
    },
  },
];

const LOOKUP_BATCH = 7;
const UPDATE_BATCH = 8;
const DELETE_BATCH = 9;

/** r0 = XDP_PASS; exit. */
const PASS_INSNS = Uint8Array.of(0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);

const MAP = {
  kind: 'create-map',
  mapType: BPF_MAP_TYPE_ARRAY,
  keySize: 4,
  valueSize: 8,
  maxEntries: 4,
  mapFlags: 0,
} as const;

/** Sections that are none. */
const MALFORMED_BTF: Readonly<Record<string, Uint8Array>> = {
  'another magic number': btfSection({ magic: 0x9feb }),
  'a header of 4 GiB': btfSection({ headerLength: 0xffff_fff0 }),
  'a header of no bytes': btfSection({ headerLength: 0 }),
  'types of 4 GiB': btfSection({ typesLength: 0xffff_fffc }),
  'types beyond the section': btfSection({ typesLength: 4096 }),
  'strings beyond the section': btfSection({ stringsLength: 4096 }),
  'strings without an end': btfSection({ strings: '\0int' }),
  'half a type': btfSection({ types: [1, BTF_KIND.INT << 24] }),
  'a name beyond the strings': btfSection({
    types: btfType(BTF_KIND.INT, 8, { name: 0x7fff_ffff, more: [64] }),
  }),
  '65535 members that are not there': btfSection({ types: btfType(BTF_KIND.STRUCT, 8, { vlen: 0xffff }) }),
  'a kind that there is not': btfSection({ types: btfType(31, 8) }),
};

/** Types, of which the first has no size. */
const ENDLESS_TYPES: Readonly<Record<string, readonly number[]>> = {
  'a typedef of itself': btfType(BTF_KIND.TYPEDEF, 1, { name: 1 }),
  'two typedefs of one another': [
    ...btfType(BTF_KIND.TYPEDEF, 2, { name: 1 }),
    ...btfType(BTF_KIND.TYPEDEF, 1, { name: 1 }),
  ],
  'an array of itself': btfType(BTF_KIND.ARRAY, 0, { more: [1, 1, 2] }),
  'typedefs 4000 deep': [
    ...Array.from({ length: 4000 }, (_, n) => btfType(BTF_KIND.TYPEDEF, n + 2, { name: 1 })).flat(),
    ...btfInt(8),
  ],
  'an array of more than 2^32 bytes': [
    ...btfType(BTF_KIND.ARRAY, 0, { more: [2, 2, 0x2000_0001] }),
    ...btfInt(8),
  ],
};

/** A command of `struct virtio_net_bpf_map_batch`: keys of 4 bytes, values of 8. */
function batchCommand(command: number, handle: number, count: number, behind: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(2 + 28 + behind.length);
  bytes.set([VIRTIO_NET_CTRL_BPF, command]);
  const view = new DataView(bytes.buffer, 2);
  const valueSize = command === DELETE_BATCH ? 0 : 8;
  [handle, 4, valueSize, count].forEach((field, index) => view.setUint32(4 * index, field, true));
  bytes.set(behind, 30);
  return bytes;
}
