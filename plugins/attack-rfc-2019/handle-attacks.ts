import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import type { AttackEntry } from './attack-entry.js';

const TABLE = 'src/core/offload/object-table.ts';
const TABLE_TEST = 'src/core/offload/object-table.test.ts';
const ENDPOINT_TEST = 'src/core/offload/control-endpoint.attack.test.ts';

/** What is done with names that are not the guest's to use. */
export const HANDLE_ATTACKS: readonly AttackEntry[] = [
  {
    name: 'close-any-descriptor',
    defect: 1,
    does: 'FREE_MAP of every number from 0 to 63 but its own',
    mustHold:
      'A guest frees what it has created and nothing else: its handles are looked up in a table of its own, so that no number it sends names a descriptor of the process or an object of another guest.',
    aims: ['belongings-intact', 'refused'],
    stoppedBy: [TABLE],
    tests: [TABLE_TEST, ENDPOINT_TEST],
    async run(attacker) {
      const own = await attacker.createMap();
      let closed = 0;
      for (let handle = 0; handle < 64; handle++) {
        if (handle === own) continue;
        const reply = await attacker.send({ kind: 'free-map', handle });
        if (reply.kind === 'done') closed++;
      }
      attacker.mustBeRefused(closed > 0, `${closed} numbers that it never got were freed`);
      attacker.guest.did(`63 numbers tried, ${closed} freed`);
    },
  },
  {
    name: 'another-guests-map',
    defect: 1,
    does: 'reads and writes by all numbers to 1023, by those near its own handles and by 1000 random ones',
    mustHold:
      'What another guest has can be neither read nor written: the same number is another thing to each guest, or nothing.',
    aims: ['no-leak', 'neighbour-untouched', 'refused'],
    stoppedBy: [TABLE],
    tests: [TABLE_TEST, ENDPOINT_TEST, 'src/conformance/device/device-conformance.ts'],
    async run(attacker) {
      const own = new Set([await attacker.createMap(), await attacker.createMap()]);
      const guesses = new Set<number>(Array.from({ length: 1024 }, (_, number) => number));
      for (const handle of own) {
        for (let distance = -64; distance <= 64; distance++) {
          guesses.add((handle + distance) >>> 0);
          guesses.add((handle + distance * 4096) >>> 0);
        }
      }
      for (let n = 0; n < 1000; n++) guesses.add(attacker.guest.random() >>> 0);
      let read = 0;
      let written = 0;
      for (const handle of guesses) {
        if (own.has(handle)) continue;
        const found = await attacker.lookup(handle, 1);
        if (found.kind === 'value') {
          read++;
          attacker.guest.saw('no-leak', `by number ${handle} it read '${printed(found.value)}'`);
        }
        if ((await attacker.update(handle, 1, 'mallory!')).kind === 'done') written++;
      }
      attacker.mustBeRefused(written > 0, `${written} numbers that it never got took a value`);
      attacker.guest.did(`${guesses.size - own.size} numbers tried, ${read} read, ${written} written`);
    },
  },
  {
    name: 'use-after-free',
    defect: 1,
    does: 'frees maps, creates others, and goes on with the old handles',
    mustHold:
      'A handle that was freed never names anything again, whatever is created after it: each slot of the table has generations, and no handle is given out twice.',
    aims: ['refused'],
    stoppedBy: [TABLE],
    tests: [TABLE_TEST],
    async run(attacker) {
      const old: number[] = [];
      for (let round = 0; round < 64; round++) {
        const handle = await attacker.createMap();
        await attacker.send({ kind: 'free-map', handle });
        old.push(handle);
      }
      await attacker.createMap();
      let alive = 0;
      for (const handle of old) {
        const requests = [
          await attacker.lookup(handle, 0),
          await attacker.update(handle, 0, 'stale'),
          await attacker.send({ kind: 'get-first', handle, keySize: 4, valueSize: 8 }),
        ];
        if (requests.some(({ kind }) => kind !== 'error')) alive++;
      }
      const freedTwice = (await attacker.send({ kind: 'free-map', handle: old[0]! })).kind === 'done';
      attacker.mustBeRefused(alive > 0, `${alive} handles that were freed name a map`);
      attacker.mustBeRefused(freedTwice, 'a handle was freed twice');
      attacker.guest.did(`64 handles freed, ${alive} still good for something`);
    },
  },
  {
    name: 'outlive-a-reset',
    defect: 8,
    does: 'creates maps, offloads a program that uses one, resets the device, and goes on with the old handles',
    mustHold:
      'A device reset detaches the program and frees every map: the next user of the guest starts with nothing, and what the host holds does not grow from one reset to the next.',
    aims: ['reset-frees', 'refused'],
    stoppedBy: ['src/core/offload/guest-bpf.ts', 'src/core/offload/control-endpoint.ts'],
    tests: [ENDPOINT_TEST],
    async run(attacker) {
      const handles: number[] = [];
      for (let n = 0; n < 8; n++) handles.push(await attacker.createMap());
      await attacker.offload('r1 = map[m]\nr0 = 2\nexit', new Map([['m', handles[0]!]]));
      await attacker.guest.reset();
      let alive = 0;
      for (const handle of handles) if ((await attacker.lookup(handle, 0)).kind === 'value') alive++;
      attacker.mustBeRefused(alive > 0, `${alive} handles of before the reset name a map`);
      attacker.guest.did(`8 maps and a program, then a reset: ${alive} maps left`);
    },
  },
  {
    name: 'reset-in-the-middle',
    defect: 8,
    does: 'resets the device while SET_OFFLOAD is under way',
    mustHold:
      'A command that was under way when the device was reset has no effect afterwards: it belongs to the life before, and gives back what it had taken.',
    aims: ['reset-frees'],
    stoppedBy: ['src/core/offload/control-endpoint.ts', 'src/core/offload/guest-bpf.ts'],
    tests: [ENDPOINT_TEST],
    async run(attacker) {
      let reset = 0;
      for (let turns = 0; turns < 6; turns++) {
        const handle = await attacker.tryMap(BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY);
        if (handle === undefined) break;
        const loading = attacker.offload('r1 = map[m]\nr0 = 1\nexit', new Map([['m', handle]]));
        // Each time somewhat later, so that it meets the command in another of its steps.
        for (let turn = 0; turn < turns; turn++) await attacker.guest.turn();
        await attacker.guest.reset();
        await loading;
        reset++;
      }
      attacker.guest.did(`${reset} resets while a program was loaded`);
    },
  },
];

function printed(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString('latin1')
    .replaceAll(/[^ -~]/g, '.');
}
