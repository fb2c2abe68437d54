import { Type } from '@sinclair/typebox';
import { describe, expect, it } from 'vitest';
import { GuardedDevice } from '../../../plugins/device-guarded/guarded-device.js';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { DEVICE, type Device, type DeviceMove, type NicDevice } from '../contract/device.js';
import { definePlugin } from '../contract/plugin.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { resolveTestbed } from '../testbed/resolve-testbed.js';
import { runTestbed } from './run-testbed.js';

const programs = new URL('../../../testbeds/programs/', import.meta.url).pathname;
const FEATURES = '[VIRTIO_F_VERSION_1, VIRTIO_NET_F_MAC, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_BPF_OFFLOAD]';

type Prepare = NonNullable<NicDevice['prepareMove']>;

/** Guests cannot go once they are to be switched. */
const changingItsMind =
  (device: NicDevice): Prepare =>
  async (to) => {
    const move = await device.prepareMove!(to);
    if ('ok' in move) return move;
    const never: DeviceMove = {
      copy: () => false,
      commit: () => expect.unreachable('it was switched'),
      finish: async () => (await move.abort(), { ok: false, reason: 'it changed its mind' }),
      abort: () => move.abort(),
    };
    return never;
  };

/** The guest resets the device when it has been switched, and nothing has arrived yet. */
const resetting =
  (device: NicDevice): Prepare =>
  async (to) => {
    const move = await device.prepareMove!(to);
    if ('ok' in move) return move;
    const commit = (): void => {
      move.commit();
      void device.reset();
    };
    return { copy: () => move.copy(), commit, finish: () => move.finish(), abort: () => move.abort() };
  };

/** A device with moves of its own at `nic`, of every guest; empty: at all. */
const refusing = (nic: string, prepareMove: (device: NicDevice) => Prepare) =>
  definePlugin({
    name: 'refusing',
    version: '1.0.0',
    role: 'device',
    api: '^2',
    description: 'has something happen to the moves of one nic',
    configSchema: Type.Object({}),
    register: (scope) =>
      scope.bindFactory(DEVICE, (): Device => {
        const guarded = new GuardedDevice();
        return {
          name: 'refusing',
          open: (options) => {
            const device = guarded.open(options);
            if (nic !== '' && options.nic !== nic) return device;
            return { ...bound(device), prepareMove: prepareMove(device) };
          },
        };
      }),
  });

/** A device that has its methods. */
function bound(device: NicDevice): NicDevice {
  return {
    handle: device.handle.bind(device),
    reset: device.reset.bind(device),
    unplug: device.unplug.bind(device),
    idle: device.idle.bind(device),
    transportBroken: device.transportBroken.bind(device),
    inspect: device.inspect.bind(device),
    configuration: device.configuration,
  };
}

async function run(flows: number, device?: string, here = '[]', there = '[]', prepareMove = changingItsMind) {
  const { runs, failures } = await runAll(flows, device, here, there, prepareMove);
  expect(failures ?? []).toEqual([]);
  return runs[0]!;
}

async function runAll(
  flows: number,
  device: string | undefined,
  here: string,
  there: string,
  prepareMove: (device: NicDevice) => Prepare,
) {
  const text = `version: 1
name: two-nics
workload: { use: udp-flood, config: { frames: 400 } }
${device === undefined ? '' : 'plugins: { device: { use: refusing } }'}
policies: ${here}
programs:
  stages: { object: ${programs}tail_chain.o, section: tail_entry }
  flows: { object: ${programs}flow_count.o, max-entries: { flows: ${flows} } }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {}, tap1: {}, tap2: {} }
  bridges: { br0: { ports: [eth0, tap0, tap1, tap2] } }
guests:
  alice:
    migration: { after-frames: 100, policies: ${there} }
    nics:
      eth0: { tap: tap0, mac: 52:54:00:00:01:00, placement: host, program: stages, features: ${FEATURES} }
      eth1: { tap: tap1, mac: 52:54:00:00:01:01, placement: host, program: flows, features: ${FEATURES} }
  bob:
    migration: { after-frames: 100 }
    nics:
      eth0: { tap: tap2, mac: 52:54:00:00:01:02, placement: host, program: stages, features: ${FEATURES} }
`;
  const registry = new PluginRegistry([
    ...BUILT_IN_PLUGINS,
    ...(device === undefined ? [] : [refusing(device, prepareMove)]),
  ]);
  const testbed = await resolveTestbed('/t.yaml', text, registry);
  return runTestbed(testbed, { version: '0' });
}

async function migrations(flows: number, device?: string) {
  const moves = (await run(flows, device)).migrations!;
  return new Map(moves.map((move) => [move.node, move.moved ? 'moved' : move.reason]));
}

describe('a guest of two nics that is to go to another host', () => {
  it('goes with both', async () => {
    expect(await migrations(64)).toEqual(
      new Map([
        ['alice.eth0', 'moved'],
        ['alice.eth1', 'moved'],
        ['bob.eth0', 'moved'],
      ]),
    );
  });

  it('stays with both when one cannot be made ready there, and others go', async () => {
    const moves = await migrations(70_000);
    expect(moves.get('alice.eth1')).toMatch(/70000/);
    expect(moves.get('alice.eth0')).toMatch(/^alice\.eth1 cannot go: .*70000/);
    expect(moves.get('bob.eth0')).toBe('moved');
  });

  it.each(['eth0', 'eth1'])('stays with both when %s cannot go at the last moment', async (nic) => {
    const moves = await migrations(64, nic);
    const other = nic === 'eth0' ? 'eth1' : 'eth0';
    expect(moves.get(`alice.${nic}`)).toBe('it changed its mind');
    expect(moves.get(`alice.${other}`)).toBe(`alice.${nic} cannot go: it changed its mind`);
    expect(moves.get('bob.eth0')).toBe(nic === 'eth0' ? 'it changed its mind' : 'moved');
  });

  it.each(['eth0', 'eth1'])('goes with both when it resets %s in the midst of it', async (nic) => {
    const { migrations: moves } = await run(64, nic, '[]', '[]', resetting);
    const maps = new Map(moves!.map((move) => [move.node, move.moved ? move.maps : move.reason]));
    // What was reset has nothing left, and is on the other host all the same.
    expect(maps.get(`alice.${nic}`)).toBe(0);
    expect(maps.get(nic === 'eth0' ? 'alice.eth1' : 'alice.eth0')).toBeGreaterThan(0);
  });

  it('is not held up where it is when making one nic ready throws', async () => {
    let aborted = 0;
    const counted =
      (device: NicDevice): Prepare =>
      async (to) => {
        const move = await device.prepareMove!(to);
        if ('ok' in move) return move;
        const abort = async (): Promise<void> => {
          aborted++;
          await move.abort();
          throw new Error('abort threw');
        };
        return { copy: () => move.copy(), commit: () => move.commit(), finish: () => move.finish(), abort };
      };
    const throwing = (device: NicDevice): Prepare => {
      opened++;
      return opened === 1 ? counted(device) : () => Promise.reject(new Error('prepare threw'));
    };
    let opened = 0;
    const { failures } = await runAll(64, '', '[]', '[]', throwing);
    const told = (failures ?? []).map(({ message }) => message).join('\n');
    expect(told).toMatch(/prepare threw/);
    expect(aborted).toBe(1);
  }, 20_000);

  it('is told of as what the host is that it has gone to', async () => {
    const insns = '{ per-second: 1.0e+9, burst: 1.0e+9 }';
    const policed = `[{ use: rate-limit, config: { per-guest: { insns: ${insns} } } }]`;
    const names = async (here: string, there: string) =>
      (await run(64, undefined, here, there)).offloads!.find(({ guest }) => guest === 'alice')!.capabilities
        .names;
    const told = ['POLICED', 'INSNS_COUNTED'];
    expect(await names(policed, '[]')).not.toEqual(
      expect.arrayContaining([expect.stringMatching('POLICED|COUNTED')]),
    );
    expect(await names('[]', policed)).toEqual(expect.arrayContaining(told));
  });
});
