import { assemble } from '../../src/bpf/assembler.js';
import { encodeInsns } from '../../src/bpf/insn.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import type { BpfRequest } from '../../src/core/offload/protocol/control-protocol.js';
import type { AttackEntry } from './attack-entry.js';
import { bytesOf, keyOf, type Attacker } from './attacker.js';
import { btfSection } from './btf-section.js';
import { syscallUpdate } from './syscall-command.js';

const { BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_PROG_ARRAY } = BPF_MAP_TYPE;
const TABLE = 'src/core/offload/object-table.ts';
const OBJECTS_TEST = 'src/core/offload/guest-objects.test.ts';
const MAPS_TEST = 'src/core/offload/guest-maps.test.ts';
const PROGRAMS_TEST = 'src/core/offload/guest-programs.test.ts';
const PASS = 'r0 = 2\nexit';
const OBJECT_KINDS = ['map', 'program', 'link', 'btf'] as const;
type ObjectKind = (typeof OBJECT_KINDS)[number];

/** What is done with objects of protocol 2, and with their names: handles, ids, pins. */
export const PROTOCOL_2_OBJECT_ATTACKS: readonly AttackEntry[] = [
  {
    name: 'numbers-of-every-kind',
    protocol: 'bpf-offload',
    defect: 'handles are numbers of the process',
    does: 'CLOSE of every number from 0 to 63 but its own, and INFO, LINK_DETACH and MAP_FREEZE of 1000 random ones',
    mustHold:
      'A handle is a name in the guest’s own table for an object of one kind: no number that was not given to the guest names anything, whichever command it comes with.',
    aims: ['belongings-intact', 'refused'],
    stoppedBy: [TABLE],
    tests: ['src/core/offload/object-table.test.ts', OBJECTS_TEST],
    async run(attacker) {
      const own = await attacker.createMap();
      let taken = 0;
      const attempt = async (request: BpfRequest): Promise<void> => {
        if ((await attacker.send(request)).kind !== 'error') taken++;
      };
      for (let handle = 0; handle < 64; handle++) {
        if (handle !== own) await attempt({ kind: 'close', handle });
      }
      for (let n = 0; n < 1000; n++) {
        const handle = attacker.guest.random() >>> 0;
        if (handle === own) continue;
        const requests: BpfRequest[] = [
          { kind: 'get-info', handle },
          { kind: 'detach-link', link: handle },
          { kind: 'freeze-map', handle },
        ];
        await attempt(requests[n % requests.length]!);
      }
      attacker.mustBeRefused(taken > 0, `${taken} numbers that it never got named something`);
      attacker.guest.did(`1063 numbers tried, ${taken} taken`);
    },
  },
  {
    name: 'old-handles-of-every-kind',
    protocol: 'bpf-offload',
    defect: 'a closed handle is given out again',
    does: 'closes a map, a program, a link and BTF, makes others, and goes on with the old handles, as what they were and as what they may be now',
    mustHold:
      'A handle that was closed names nothing ever again, whatever kind of object is made after it: a handle is given out once.',
    aims: ['refused'],
    stoppedBy: [TABLE],
    tests: ['src/core/offload/object-table.test.ts', OBJECTS_TEST],
    async run(attacker) {
      const old: number[] = [];
      const program = await loadProgram(attacker, PASS);
      const link = await attacker.mustGet({ kind: 'create-link', program, hook: 0 }, 'a link');
      const btf = await attacker.mustGet({ kind: 'load-btf', bytes: btfSection() }, 'BTF');
      for (const handle of [link, program, btf, await attacker.createMap()]) {
        attacker.mustWork((await attacker.send({ kind: 'close', handle })).kind === 'done', 'CLOSE');
        old.push(handle);
      }
      for (let n = 0; n < 4; n++) await attacker.createMap();
      let alive = 0;
      for (const handle of old) {
        const replies = [
          await attacker.send({ kind: 'get-info', handle }),
          await attacker.lookup(handle, 0),
          await attacker.send({ kind: 'create-link', program: handle, hook: 0 }),
          await attacker.send({ kind: 'pin', handle, name: `old-${handle}` }),
          await attacker.send({ kind: 'close', handle }),
        ];
        if (replies.some(({ kind }) => kind !== 'error')) alive++;
      }
      attacker.mustBeRefused(alive > 0, `${alive} handles that were closed name something`);
      attacker.guest.did(`4 handles closed, ${alive} still good for something`);
    },
  },
  {
    name: 'another-guests-pin',
    protocol: 'bpf-offload',
    defect: 'one name space for all guests',
    does: 'walks through the names of pins, opens what it has not pinned itself, reads and writes it, and unpins it',
    mustHold:
      'Names of pins are those of one device: what another guest has pinned is neither listed nor opened, and the same name is free to everybody.',
    aims: ['no-leak', 'neighbour-untouched', 'refused'],
    stoppedBy: [TABLE, 'src/core/offload/guest-bpf.ts'],
    tests: [OBJECTS_TEST],
    async run(attacker) {
      const mine = await attacker.createMap();
      await attacker.send({ kind: 'pin', handle: mine, name: 'mine' });
      const found: string[] = [];
      let after = '';
      for (let n = 0; n < 64; n++) {
        const next = await attacker.send({ kind: 'next-pinned', after });
        if (next.kind !== 'name') break;
        after = next.name;
        if (after !== 'mine') found.push(after);
      }
      for (const name of found) {
        const handle = await attacker.handleOf({ kind: 'open-pinned', name });
        if (handle !== undefined) await readAndWrite(attacker, handle, `by the name '${name}'`);
        await attacker.send({ kind: 'unpin', name });
      }
      attacker.mustBeRefused(found.length > 0, `names of others were listed: ${found.join(', ')}`);
      attacker.guest.did(`names walked through, ${found.length} of others`);
    },
  },
  {
    name: 'another-guests-id',
    protocol: 'bpf-offload',
    defect: 'one series of ids for all guests',
    does: 'walks through the ids of every kind, opens those below 256, and reads and writes what it has not made itself',
    mustHold:
      'Ids are those of one device: a walk through them finds the guest’s own objects, and no number opens another’s.',
    aims: ['no-leak', 'neighbour-untouched', 'refused'],
    stoppedBy: [TABLE, 'src/core/offload/guest-bpf.ts'],
    tests: [OBJECTS_TEST],
    async run(attacker) {
      const mine = await attacker.createMap();
      await attacker.update(mine, 1, 'mine');
      let foreign = 0;
      for (const object of OBJECT_KINDS) {
        const ids = new Set([...(await walk(attacker, object)), ...Array.from({ length: 256 }, (_, n) => n)]);
        for (const id of ids) {
          const handle = await attacker.handleOf({ kind: 'open-by-id', object, id });
          if (handle === undefined) continue;
          const value = await attacker.lookup(handle, 1);
          const isMine =
            object === 'map' && value.kind === 'value' && Buffer.from(value.value).equals(bytesOf('mine'));
          if (!isMine) {
            foreign++;
            await readAndWrite(attacker, handle, `by id ${id}`);
          }
          await attacker.send({ kind: 'close', handle });
        }
      }
      attacker.mustBeRefused(foreign > 0, `${foreign} objects that it has not made were opened`);
      attacker.guest.did(`ids of ${OBJECT_KINDS.length} kinds walked through, ${foreign} of others`);
    },
  },
  {
    name: 'circle-of-programs',
    protocol: 'bpf-offload',
    defect: 'objects that keep one another',
    does: 'makes PROG_ARRAYs whose programs use them, pins some of it, closes every handle, and resets the device',
    mustHold:
      'After a reset nothing is left, whatever held what: neither programs and arrays that keep one another, nor what is pinned. Without a reset, an array that nobody can name lets go of its programs.',
    aims: ['reset-frees'],
    stoppedBy: ['src/core/offload/guest-maps.ts', TABLE],
    tests: [MAPS_TEST, OBJECTS_TEST],
    async run(attacker) {
      let circles = 0;
      for (let n = 0; n < 3; n++) {
        const array = await programArray(attacker);
        const program = await loadProgram(attacker, TAIL_CALL, new Map([['jumps', array]]));
        const request = { handle: array, key: keyOf(0), value: keyOf(program), flags: 0n } as const;
        const put = await attacker.send({ kind: 'update-elem', ...request });
        attacker.mustWork(put.kind === 'done', 'a program in a PROG_ARRAY');
        if (n === 0) await attacker.send({ kind: 'pin', handle: program, name: 'circle' });
        for (const handle of [array, program]) await attacker.send({ kind: 'close', handle });
        circles++;
      }
      await attacker.guest.reset();
      attacker.guest.did(`${circles} circles of a PROG_ARRAY and a program, then a reset`);
    },
  },
  {
    name: 'inner-map-closed',
    protocol: 'bpf-offload',
    defect: 'an element is not kept',
    does: 'puts a map into an ARRAY_OF_MAPS, closes it, makes others, and asks for the element and for what is in it',
    mustHold:
      'What is an element of a map stays alive for as long as it is: it is found there with its content, and nothing else is.',
    aims: ['no-stray-access', 'truly-answered'],
    stoppedBy: ['src/core/offload/guest-maps.ts', TABLE],
    tests: [MAPS_TEST],
    async run(attacker) {
      const inner = await attacker.createMap();
      await attacker.update(inner, 1, 'inside');
      const outer = await attacker.mustGet(
        { ...MAP, mapType: BPF_MAP_TYPE_ARRAY_OF_MAPS, valueSize: 4, inner },
        'a map of maps',
      );
      const put = await attacker.send({
        kind: 'update-elem',
        handle: outer,
        key: keyOf(0),
        value: keyOf(inner),
        flags: 0n,
      });
      attacker.mustWork(put.kind === 'done', 'a map in a map');
      await attacker.send({ kind: 'close', handle: inner });
      for (let n = 0; n < 4; n++) await attacker.createMap();
      const content = await behindElement(attacker, outer, 'map', (handle) => attacker.lookup(handle, 1));
      const whole = content?.kind === 'value' && Buffer.from(content.value).equals(bytesOf('inside'));
      if (!whole) attacker.guest.saw('truly-answered', 'the map in the map is gone, or another one');
      attacker.guest.did(`a map in a map closed: ${whole ? 'it is' : 'it is not'} what was put there`);
    },
  },
  {
    name: 'tail-call-target-replaced',
    protocol: 'bpf-offload',
    defect: 'what a link lets go of is freed',
    does: 'attaches a program that is in a PROG_ARRAY as well, has LINK_UPDATE put another in its place, closes every handle of it, and asks for the element',
    mustHold:
      'A program lives as long as something refers to it: replaced in its link, and without a handle, it is still what the PROG_ARRAY holds.',
    aims: ['no-stray-access', 'truly-answered'],
    stoppedBy: ['src/core/offload/program-place.ts', TABLE],
    tests: [PROGRAMS_TEST, MAPS_TEST],
    async run(attacker) {
      const array = await programArray(attacker);
      const target = await loadProgram(attacker, PASS);
      const put = await attacker.send({
        kind: 'update-elem',
        handle: array,
        key: keyOf(0),
        value: keyOf(target),
        flags: 0n,
      });
      attacker.mustWork(put.kind === 'done', 'a program in a PROG_ARRAY');
      const info = await attacker.send({ kind: 'get-info', handle: target });
      const link = await attacker.mustGet({ kind: 'create-link', program: target, hook: 0 }, 'a link');
      const program = await loadProgram(attacker, TAIL_CALL, new Map([['jumps', array]]));
      const updated = await attacker.send({ kind: 'update-link', link, program });
      attacker.mustWork(updated.kind === 'done', 'LINK_UPDATE');
      await attacker.send({ kind: 'close', handle: target });
      await loadProgram(attacker, 'r0 = 1\nexit');
      const now = await behindElement(attacker, array, 'program', (handle) =>
        attacker.send({ kind: 'get-info', handle }),
      );
      const same = info.kind === 'info' && now?.kind === 'info' && now.info.id === info.info.id;
      if (!same)
        attacker.guest.saw('truly-answered', 'the program in the PROG_ARRAY is gone, or another one');
      attacker.guest.did(`a program in a PROG_ARRAY replaced in its link: ${same ? 'still there' : 'gone'}`);
    },
  },
  {
    name: 'frozen-by-another-door',
    protocol: 'bpf-offload',
    defect: 'one door is locked',
    does: 'freezes a map, and then writes and deletes by MAP_UPDATE, MAP_DELETE, MAP_LOOKUP_AND_DELETE, by batches and by SYSCALL, by another handle, and as what is in a map of maps',
    mustHold:
      'A frozen map is changed by no command: a verifier may have taken what is in it for a constant.',
    aims: ['refused'],
    stoppedBy: ['src/core/offload/guest-maps.ts'],
    tests: [MAPS_TEST],
    async run(attacker) {
      const handle = await attacker.mustGet(
        { ...MAP, mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, valueSize: 8 },
        'a map',
      );
      await attacker.update(handle, 1, 'frozen');
      await attacker.send({ kind: 'pin', handle, name: 'frozen' });
      const outer = await attacker.handleOf({
        ...MAP,
        mapType: BPF_MAP_TYPE_ARRAY_OF_MAPS,
        valueSize: 4,
        inner: handle,
      });
      attacker.mustWork((await attacker.send({ kind: 'freeze-map', handle })).kind === 'done', 'MAP_FREEZE');
      const again = await attacker.mustGet({ kind: 'open-pinned', name: 'frozen' }, 'a second handle');
      if (outer !== undefined) {
        const value = keyOf(handle);
        await attacker.send({ kind: 'update-elem', handle: outer, key: keyOf(0), value, flags: 0n });
      }
      const key = keyOf(1);
      const value = bytesOf('thawed');
      const attempts: Readonly<Record<string, () => Promise<unknown>>> = {
        MAP_UPDATE: () => attacker.update(handle, 1, 'thawed'),
        'another handle': () => attacker.update(again, 1, 'thawed'),
        MAP_UPDATE_BATCH: () =>
          attacker.send({
            kind: 'update-batch',
            handle,
            keySize: 4,
            valueSize: 8,
            count: 1,
            keys: key,
            values: value,
            flags: 0n,
          }),
        'SYSCALL update': () => attacker.sendBytes(syscallUpdate(handle, key, value), 4096),
        'a map of maps': () =>
          outer === undefined
            ? Promise.resolve()
            : behindElement(attacker, outer, 'map', (inner) => attacker.update(inner, 1, 'thawed')),
        MAP_DELETE_BATCH: () =>
          attacker.send({ kind: 'delete-batch', handle, keySize: 4, count: 1, keys: key }),
        MAP_DELETE: () => attacker.send({ kind: 'delete-elem', handle, key, valueSize: 8 }),
        MAP_LOOKUP_AND_DELETE: () =>
          attacker.send({ kind: 'lookup-and-delete-elem', handle, key, valueSize: 8 }),
        'MAP_LOOKUP_BATCH that removes': () =>
          attacker.send({
            kind: 'lookup-batch',
            handle,
            keySize: 4,
            valueSize: 8,
            count: 4,
            cursor: undefined,
            remove: true,
          }),
      };
      const open: string[] = [];
      let before = 'frozen  ';
      for (const [door, write] of Object.entries(attempts)) {
        await write();
        const found = await attacker.lookup(handle, 1);
        const now = found.kind === 'value' ? Buffer.from(found.value).toString('latin1') : '';
        if (now !== before) open.push(door);
        before = now;
        // So that the next has something to change.
        if (now !== 'frozen  ' && open.length > 0) {
          await attacker.sendBytes(syscallUpdate(handle, key, bytesOf('frozen')), 4096);
          const put = await attacker.lookup(handle, 1);
          before = put.kind === 'value' ? Buffer.from(put.value).toString('latin1') : '';
        }
      }
      attacker.mustBeRefused(open.length > 0, `a frozen map was changed by ${open.join(', ')}`);
      attacker.guest.did(
        `${Object.keys(attempts).length} ways tried to change a frozen map, ${open.length} open`,
      );
    },
  },
];

const MAP = {
  kind: 'create-map',
  keySize: 4,
  maxEntries: 4,
  mapFlags: 0,
} as const;

const TAIL_CALL = 'r2 = map[jumps]\nr3 = 0\ncall bpf_tail_call\nr0 = 2\nexit';

function programArray(attacker: Attacker): Promise<number> {
  return attacker.mustGet({ ...MAP, mapType: BPF_MAP_TYPE_PROG_ARRAY, valueSize: 4 }, 'a PROG_ARRAY');
}

function loadProgram(attacker: Attacker, text: string, maps?: ReadonlyMap<string, number>): Promise<number> {
  const insns = encodeInsns(assemble(text, maps === undefined ? {} : { maps }));
  return attacker.mustGet(
    { kind: 'load-program', name: 'attack', insns, gplCompatible: true, frags: false },
    'a harmless program',
  );
}

/** What is asked of the object that is element 0 of a map; undefined when there is none. */
async function behindElement<T>(
  attacker: Attacker,
  map: number,
  object: ObjectKind,
  ask: (handle: number) => Promise<T>,
): Promise<T | undefined> {
  const element = await attacker.send({ kind: 'lookup-elem', handle: map, key: keyOf(0), valueSize: 4 });
  if (element.kind !== 'value') return undefined;
  const id = new DataView(element.value.buffer, element.value.byteOffset).getUint32(0, true);
  const handle = await attacker.handleOf({ kind: 'open-by-id', object, id });
  if (handle === undefined) return undefined;
  const answer = await ask(handle);
  await attacker.send({ kind: 'close', handle });
  return answer;
}

/** The ids of a kind, a few hundred at most. */
async function walk(attacker: Attacker, object: ObjectKind): Promise<number[]> {
  const ids: number[] = [];
  for (let n = 0; n < 300; n++) {
    const next = await attacker.send({ kind: 'next-id', object, after: ids.at(-1) ?? 0 });
    if (next.kind !== 'id') break;
    ids.push(next.id);
  }
  return ids;
}

async function readAndWrite(attacker: Attacker, handle: number, how: string): Promise<void> {
  const found = await attacker.lookup(handle, 1);
  if (found.kind === 'value') {
    const text = Buffer.from(found.value)
      .toString('latin1')
      .replaceAll(/[^ -~]/g, '.');
    attacker.guest.saw('no-leak', `${how} it read '${text}'`);
  }
  if ((await attacker.update(handle, 1, 'mallory!')).kind === 'done')
    attacker.guest.saw('refused', `${how} a value was taken`);
}
