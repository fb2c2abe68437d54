import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { VIRTIO_NET_OK } from '../../src/virtio/index.js';
import type { AttackEntry } from './attack-entry.js';
import {
  bytesOf,
  keyOf,
  MAP_HEADER_BYTES,
  MAP_PAYLOAD,
  mapCommand,
  type Attacker,
  type MapFields,
} from './attacker.js';

const DECODER = 'src/core/offload/protocol/rfc-2019/decode-request.ts';
const ENDPOINT_TEST = 'src/core/offload/control-endpoint.attack.test.ts';
const TRANSPORT = 'src/virtio/split-device-queue.ts';

/** A header of LOOKUP_ELEM and room for its answer. */
const lookupOf = (handle: number): MapFields => ({
  bufLen: 12,
  cmd: 4,
  keySize: 4,
  valueSize: 8,
  mapFd: handle,
});
const LOOKUP_ROOM = MAP_HEADER_BYTES + 12 + 1;
/** Enough for what a device may give away. */
const SPARE = 4096;

/** What is done with the bytes of a command. */
export const COMMAND_ATTACKS: readonly AttackEntry[] = [
  {
    name: 'result-over-command',
    defect: 2,
    does: 'CREATE_MAP, LOOKUP_ELEM and GET_FIRST, and looks at its own command afterwards',
    mustHold:
      'Results lie in device-writable memory: what a driver has declared device-readable may be mapped read-only, or be something else by the time the device writes (virtio 1.3, 2.7.5.1).',
    aims: ['command-untouched'],
    stoppedBy: [TRANSPORT, 'docs/decisions/0002-answers-in-writable-memory.md'],
    tests: [ENDPOINT_TEST],
    async run(attacker) {
      const handle = await attacker.createMap();
      await attacker.update(handle, 0, 'mallory');
      const commands = [
        { bytes: mapCommand({ cmd: 1, mapType: 2, keySize: 4, valueSize: 8, maxEntries: 1 }), room: 41 },
        { bytes: mapCommand(lookupOf(handle), new Uint8Array(12)), room: LOOKUP_ROOM },
        { bytes: mapCommand({ ...lookupOf(handle), cmd: 6 }, new Uint8Array(12)), room: LOOKUP_ROOM },
      ];
      let changed = 0;
      for (const { bytes, room } of commands) {
        const answer = await attacker.rawCommand(bytes, room);
        if (answer === undefined) continue;
        const after = attacker.raw.read(answer.command, bytes.length);
        if (Buffer.compare(after, bytes) !== 0) changed++;
      }
      if (changed > 0) attacker.guest.saw('command-untouched', `${changed} commands were written over`);
      attacker.guest.did(`${commands.length} commands, ${changed} written over`);
    },
  },
  {
    name: 'double-fetch',
    defect: 3,
    does: 'changes buf_len, key and cmd in the instant after the device’s first read of them, its second, and so on',
    mustHold:
      'A command is copied once and decoded from the copy: what the guest’s other CPUs write meanwhile is not seen, so that what was checked is what is done.',
    aims: ['no-stray-access', 'no-leak', 'truly-answered'],
    stoppedBy: [TRANSPORT, 'docs/decisions/0017-the-device-is-a-role.md'],
    tests: [ENDPOINT_TEST, 'src/conformance/device/device-conformance.ts'],
    async run(attacker) {
      const handle = await attacker.createMap();
      await attacker.update(handle, 0, 'original');
      await attacker.update(handle, 1, 'swapped');
      const secret = bytesOf('original');
      let tries = 0;
      let answered = 0;
      for (let reads = 1; reads <= 4; reads++) {
        for (const spare of [0, SPARE]) {
          const command = mapCommand(lookupOf(handle), new Uint8Array(12 + spare));
          const answer = await afterReads(attacker, reads, command, LOOKUP_ROOM + spare);
          tries++;
          if (answer === undefined || answer.at(-1) !== VIRTIO_NET_OK) continue;
          answered++;
          const found = answer.subarray(MAP_HEADER_BYTES + 4, MAP_HEADER_BYTES + 12);
          if (Buffer.compare(found, secret) !== 0) {
            attacker.guest.saw('truly-answered', 'the answer is that to another command than was sent');
          }
          const rest = answer.subarray(LOOKUP_ROOM - 1, -1);
          if (rest.some((byte) => byte !== 0)) {
            attacker.guest.saw('no-leak', `it got ${rest.length} bytes that lie behind the device’s buffer`);
          }
        }
      }
      attacker.mustWork(answered > 0, 'every command, whole or changed');
      attacker.guest.did(`${tries} commands changed while they were read, ${answered} carried out`);
    },
  },
  {
    name: 'length-wraps',
    defect: 4,
    does: 'map commands with buf_len so near 2^32 that the header’s 40 bytes take the sum beyond it',
    mustHold:
      'A length is compared with the bytes that are there before anything is added to it, so that no sum wraps.',
    aims: ['no-stray-access', 'refused'],
    stoppedBy: [DECODER],
    tests: [ENDPOINT_TEST],
    async run(attacker) {
      const handle = await attacker.createMap();
      let taken = 0;
      for (const bufLen of [0xffff_ffd8, 0xffff_ffdc, 0xffff_ffe8, 0xffff_fff8, 0xffff_ffff]) {
        for (const cmd of [1, 2, 3, 4, 5, 6, 7]) {
          const fields = { ...lookupOf(handle), bufLen, cmd, mapType: 2, maxEntries: 1 };
          const answer = await attacker.sendBytes(mapCommand(fields, new Uint8Array(12)), LOOKUP_ROOM);
          if (answer.at(-1) === VIRTIO_NET_OK) taken++;
        }
      }
      attacker.mustBeRefused(taken > 0, `${taken} commands with a length near 2^32 were carried out`);
      attacker.guest.did(`35 commands, ${taken} carried out`);
    },
  },
  {
    name: 'length-unbounded',
    defect: 4,
    does: 'map commands of 42 bytes that promise up to 2 GiB',
    mustHold:
      'No memory is taken for what a command only promises: what is allocated is bounded by what was sent and by the room for the answer.',
    aims: ['memory-bounded'],
    stoppedBy: [DECODER],
    tests: [ENDPOINT_TEST],
    async run(attacker) {
      const handle = await attacker.createMap();
      for (const bufLen of [1 << 20, 1 << 25, 1 << 30, 0x7fff_ffff]) {
        const answer = await attacker.sendBytes(mapCommand({ ...lookupOf(handle), bufLen }), 1);
        attacker.mustBeRefused(answer.at(-1) === VIRTIO_NET_OK, `a length of ${bufLen} was taken`);
      }
      attacker.guest.did('4 commands that promise 1 MiB to 2 GiB');
    },
  },
  {
    name: 'sizes-beyond-buffer',
    defect: 5,
    does: 'element commands whose key_size or value_size is not what the buffer, or the map, has',
    mustHold:
      'The sizes of a request are those of the map and of the buffer, or the request is refused: the backend is never handed a key or a value that is shorter than it takes.',
    aims: ['no-stray-access', 'refused'],
    stoppedBy: [DECODER, 'src/core/offload/guest-bpf.ts'],
    tests: [ENDPOINT_TEST],
    async run(attacker) {
      const handle = await attacker.createMap();
      let taken = 0;
      let tries = 0;
      for (const [keySize, valueSize, bufLen] of [
        [4, 4096, 12],
        [4096, 8, 12],
        [0xffff_fff0, 8, 12],
        [8, 8, 16],
        [4, 16, 20],
        [4, 4, 8],
        [0, 8, 8],
        [4, 0, 4],
      ] as const) {
        for (const cmd of [3, 4, 5, 6, 7]) {
          const command = mapCommand(
            { bufLen, cmd, keySize, valueSize, mapFd: handle },
            new Uint8Array(bufLen),
          );
          const answer = await attacker.sendBytes(command, MAP_HEADER_BYTES + bufLen + 1);
          tries++;
          if (answer.at(-1) === VIRTIO_NET_OK) taken++;
        }
      }
      attacker.mustBeRefused(taken > 0, `${taken} commands of wrong sizes were carried out`);
      attacker.guest.did(`${tries} commands of wrong sizes, ${taken} carried out`);
    },
  },
  {
    name: 'delete-says-failed',
    defect: 6,
    does: 'DELETE_ELEM of an element that is there, and looks whether it still is',
    mustHold:
      'The ack says what was done: a guest that is told of a failure may rely on nothing having happened.',
    aims: ['truly-answered'],
    stoppedBy: ['src/core/offload/guest-bpf.ts'],
    tests: [ENDPOINT_TEST],
    async run(attacker) {
      const handle = await attacker.createMap(BPF_MAP_TYPE.BPF_MAP_TYPE_HASH);
      await attacker.update(handle, 5, 'there');
      const deleted = await attacker.send({ kind: 'delete-elem', handle, key: keyOf(5), valueSize: 8 });
      const isThere = (await attacker.lookup(handle, 5)).kind === 'value';
      if ((deleted.kind === 'done') === isThere) {
        const told = deleted.kind === 'done' ? 'deleted' : 'not deleted';
        attacker.guest.saw(
          'truly-answered',
          `it was told ${told}, and the element is ${isThere ? '' : 'not '}there`,
        );
      }
      attacker.guest.did('one element deleted');
    },
  },
  {
    name: 'other-byte-order',
    defect: 7,
    does: 'map commands with big-endian fields, as the driver of a big-endian guest sent them by the RFC',
    mustHold:
      'Fields are little-endian whoever sends and whoever reads them; what is in another order is refused for what it then says, and costs nothing.',
    aims: ['memory-bounded'],
    stoppedBy: ['src/core/offload/protocol/rfc-2019/wire.ts', DECODER],
    tests: [ENDPOINT_TEST],
    async run(attacker) {
      const handle = await attacker.createMap();
      let taken = 0;
      const commands = [
        mapCommand(lookupOf(handle), new Uint8Array(12), false),
        mapCommand({ ...lookupOf(handle), cmd: 3 }, new Uint8Array(12), false),
        mapCommand({ cmd: 1, mapType: 2, keySize: 4, valueSize: 8, maxEntries: 1 }, new Uint8Array(), false),
      ];
      for (const command of commands) {
        if ((await attacker.sendBytes(command, LOOKUP_ROOM)).at(-1) === VIRTIO_NET_OK) taken++;
      }
      attacker.mustBeRefused(taken > 0, `${taken} commands in the other byte order were carried out`);
      attacker.guest.did(`${commands.length} commands in the other byte order`);
    },
  },
  {
    name: 'no-room-for-answer',
    defect: 'an answer that does not fit',
    does: 'CREATE_MAP and LOOKUP_ELEM with room for an ack and no more, or for part of the answer',
    mustHold:
      'A command whose answer does not fit is refused before it is carried out: else the host holds a map that nobody can name.',
    aims: ['truly-answered'],
    stoppedBy: [DECODER],
    tests: [ENDPOINT_TEST],
    async run(attacker) {
      const handle = await attacker.createMap();
      const create = mapCommand({ cmd: 1, mapType: 2, keySize: 4, valueSize: 8, maxEntries: 1 });
      const lookup = mapCommand(lookupOf(handle), new Uint8Array(12));
      let lost = 0;
      for (const room of [1, 2, 20, 40]) {
        for (const command of [create, lookup]) {
          if ((await attacker.sendBytes(command, room)).at(-1) === VIRTIO_NET_OK) lost++;
        }
      }
      if (lost > 0) {
        attacker.guest.saw(
          'truly-answered',
          `${lost} commands were acknowledged without the answer they have`,
        );
      }
      attacker.guest.did(`8 commands without room, ${lost} acknowledged`);
    },
  },
];

/** Sends a LOOKUP_ELEM and changes it right after the device has read its fields for the n-th time. */
async function afterReads(
  attacker: Attacker,
  reads: number,
  command: Uint8Array,
  room: number,
): Promise<Uint8Array | undefined> {
  const { raw } = attacker;
  const { memory } = raw.ring;
  let left = reads;
  // Where the next command will lie.
  const address = raw.allocate(0);
  memory.afterRead = (at, length) => {
    if (at + length <= address + MAP_PAYLOAD || at >= address + MAP_PAYLOAD + 4) return;
    if (--left !== 0) return;
    const header = new Uint8Array(4);
    new DataView(header.buffer).setUint32(0, SPARE + 12, true);
    memory.write(address + MAP_PAYLOAD, header);
    memory.write(address + MAP_PAYLOAD + MAP_HEADER_BYTES, keyOf(1));
  };
  try {
    return (await attacker.rawCommand(command, room))?.bytes;
  } finally {
    memory.afterRead = undefined;
  }
}
