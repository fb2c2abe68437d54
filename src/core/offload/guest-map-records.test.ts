import { describe, expect, it } from 'vitest';
import { EMSGSIZE, EOPNOTSUPP } from '../../bpf/errno.js';
import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import type { ResidentMap } from '../../bpf/runtime/bpf-map.js';
import { BpfOffloadGuest } from '../../conformance/offload/bpf-offload-guest.js';
import { normative } from '../../conformance/offload/normative.js';
import type { Party } from '../contract/party.js';
import { ProgramHook } from './program-hook.js';
import { QuotaAccounts } from './quota-accounts.js';
import { testingParty, type TestingParty } from './testing-party.js';

function party(name: string): TestingParty {
  return testingParty(name, { mebibytes: 8 });
}

const RING = { mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF, keySize: 0, valueSize: 0, maxEntries: 1 << 20 };

/** A guest with a ring buffer, and that map as the host holds it now. */
async function withRing(maxEntries = RING.maxEntries) {
  const place = new ProgramHook('guest0.eth0', 1);
  const g = new BpfOffloadGuest({ host: party('host'), guest: party('guest'), device: { place } });
  const handle = await g.map({ ...RING, maxEntries });
  const held = (): ResidentMap => {
    const [object] = g.device.objects;
    if (object?.kind !== 'map') throw new Error('no map');
    return object.map as ResidentMap;
  };
  const read = async (bytes: number) =>
    (await g.expect('records', { kind: 'read-records', handle, bytes })).records;
  return { g, handle, held, read };
}

/** Empty records until there is no room: how many there was room for. */
function fill(map: ResidentMap): number {
  for (let count = 0; ; count++) {
    const record = map.ringReserve!(0);
    if (record === 0) return count;
    map.ringSubmit!(record, 0);
  }
}

/** Bytes of the ring that nobody has read. */
const waiting = (map: ResidentMap): number => Number(map.ringQuery!(0));

describe('records that nobody has read', () => {
  normative('dev-records-bounded', 'stay in the map until there is room for them', async () => {
    const { held, read } = await withRing();
    const count = fill(held());
    expect(count).toBe((1 << 17) - 1);
    expect(await read(12)).toHaveLength(1);
    expect(waiting(held())).toBe(8 * (count - 1));
    expect(await read(25)).toHaveLength(2);
    expect(waiting(held())).toBe(8 * (count - 3));
    // So there is no more to be had than programs find room for.
    expect(fill(held())).toBe(3);
  });

  normative('dev-records', 'are returned in answers of no more than 4096', async () => {
    const { held, read } = await withRing();
    const count = fill(held());
    expect(await read(256 * 1024)).toHaveLength(4096);
    expect(waiting(held())).toBe(8 * (count - 4096));
  });

  it('are lost one at a time where they are too long for any answer', async () => {
    const { g, handle, held, read } = await withRing();
    for (const length of [300_000, 8, 300_000]) held().ringSubmit!(held().ringReserve!(length), 0);
    const refused = async (): Promise<number | undefined> =>
      g.errno({ kind: 'read-records', handle, bytes: 256 * 1024 });
    expect(await refused()).toBe(EMSGSIZE);
    expect(await read(4096)).toMatchObject([{ lost: 1, data: { length: 8 } }]);
    expect(await refused()).toBe(EMSGSIZE);
    expect(waiting(held())).toBe(0);
    fill(held());
    // With nothing behind it at the time, the loss waits for what comes.
    expect(await read(24)).toMatchObject([{ lost: 1 }, { lost: 0 }]);
  });
});

describe('records in a move to another host', () => {
  const move = async (g: BpfOffloadGuest, to = party('there')) => {
    const moving = await g.device.prepareMove({ party: to, policies: [], accounts: new QuotaAccounts() });
    if ('ok' in moving) return moving;
    moving.commit();
    return moving.finish();
  };

  it('come along, all of them, with how many were lost', async () => {
    const { g, held, read } = await withRing(4096);
    const count = fill(held());
    expect(count).toBe(511);
    await read(12);
    expect(fill(held())).toBe(1);
    // The first refusal is told already by the record that was written last; this one and two more are not.
    for (let lost = 0; lost < 2; lost++) expect(held().ringReserve!(0)).toBe(0);
    const before = held();
    expect(await move(g)).toMatchObject({ maps: 1, bytesBefore: 4088, bytesAtSwitch: 4088 });
    expect(held()).not.toBe(before);
    expect(waiting(held())).toBe(4088);
    await read(12);
    expect(fill(held())).toBe(1);
    const records = [...(await read(65536)), ...(await read(65536))];
    expect(records).toHaveLength(511);
    const told = records.map(({ lost }) => lost);
    expect(told.slice(0, 509)).toEqual(new Array(509).fill(0));
    expect(told.slice(509)).toEqual([1, 3]);
  });

  it('stay, with their guest, when the other host cannot take them over', async () => {
    const { g, held } = await withRing(4096);
    fill(held());
    const to = party('there');
    const create: Party['mapBackend']['create'] = (attributes, options) => {
      const map = to.mapBackend.create(attributes, options);
      return typeof map === 'number' ? map : Object.assign(map, { copyRecords: undefined });
    };
    const backend = Object.assign(Object.create(to.mapBackend) as Party['mapBackend'], {
      create,
      memoryCost: (attributes: Parameters<Party['mapBackend']['memoryCost']>[0]) =>
        to.mapBackend.memoryCost(attributes),
    });
    expect(await move(g, { ...to, mapBackend: backend })).toMatchObject({
      ok: false,
      errno: EOPNOTSUPP,
      reason: 'map 1 cannot be filled: EOPNOTSUPP',
    });
    expect(waiting(held())).toBe(4088);
  });
});
