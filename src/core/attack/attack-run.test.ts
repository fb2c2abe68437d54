import { Type } from '@sinclair/typebox';
import { describe, expect, it } from 'vitest';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { ATTACK, type Attack, type HostileGuest, type Invariant } from '../contract/attack.js';
import {
  DEVICE,
  type Device,
  type DeviceInspection,
  type NicDevice,
  type NicDeviceOptions,
} from '../contract/device.js';
import { definePlugin } from '../contract/plugin.js';
import type { ResultDocument } from '../contract/result.js';
import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import { ControlEndpoint } from '../offload/control-endpoint.js';
import { RFC_2019 } from '../offload/protocol/rfc-2019/rfc-2019.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { MEMORY_BOUND, NAME_BOUND } from './attack-run.js';
import { resolveTestbed } from '../testbed/resolve-testbed.js';
import { runTestbed } from '../run/run-testbed.js';

class LeakyDevice implements Device {
  readonly name = 'leaky';

  open(options: NicDeviceOptions): NicDevice {
    const endpoint = new ControlEndpoint(options);
    const { mapBackend } = options.party;
    return {
      handle: (request, room) => {
        const lost = {
          type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
          keySize: 4,
          valueSize: 8,
          maxEntries: 1,
          flags: 0,
        };
        mapBackend.create(lost, { name: 'lost' });
        return endpoint.handle(request, room);
      },
      reset: () => endpoint.reset(),
      unplug: () => endpoint.unplug(),
      idle: () => endpoint.idle(),
      transportBroken: (reason) => endpoint.transportBroken(reason),
      inspect: () => ({
        held: endpoint.usage,
        peakCommandBytes: 0,
        belongings: new Map(),
        logBytes: 0,
        strayAccesses: [],
      }),
    };
  }
}

/** Guarded, but that the host finds other things in it than it has taken note of. */
class HoardingDevice implements Device {
  readonly name = 'hoarding';

  constructor(readonly found: Partial<DeviceInspection['held']>) {}

  open(options: NicDeviceOptions): NicDevice {
    const endpoint = new ControlEndpoint(options);
    return {
      handle: (request, room) => endpoint.handle(request, room),
      reset: () => endpoint.reset(),
      unplug: () => endpoint.unplug(),
      idle: () => endpoint.idle(),
      transportBroken: (reason) => endpoint.transportBroken(reason),
      inspect: () => ({
        held: { ...endpoint.usage, ...this.found },
        peakCommandBytes: 0,
        belongings: new Map(),
        logBytes: 0,
        strayAccesses: [],
      }),
    };
  }
}

/** Runs one attack against one device, with a check of how it is to end. */
async function attacked(
  run: Attack['run'],
  {
    device = 'guarded',
    aims = ['no-leak'],
    expected = 'fail',
    found = {},
  }: {
    device?: string;
    aims?: Invariant[];
    expected?: 'fail' | 'succeed';
    found?: Partial<DeviceInspection['held']>;
  } = {},
): Promise<ResultDocument> {
  const plugin = definePlugin({
    name: 'given',
    version: '1.0.0',
    role: 'attack',
    api: '^2.1',
    description: 'the one that the test gives',
    configSchema: Type.Object({}),
    register: (scope) =>
      scope.bindValue(ATTACK, { name: 'given', attack: 'given', aims, run } satisfies Attack),
  });
  const text = `version: 1
name: given
plugins: { device: { use: ${device} } }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {}, tap1: {} }
  bridges: { br0: { ports: [eth0, tap0, tap1] } }
guests:
  alice: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02 } } }
  mallory: { nics: { eth0: { tap: tap1, mac: 52:54:00:00:00:03, attack: { use: given } } } }
workload: { use: udp-flood, config: { frames: 10 } }
checks: [{ kind: attacks, expect: ${expected} }]
`;
  const leaky = definePlugin({
    name: 'leaky',
    version: '1.0.0',
    role: 'device',
    api: '^2.1',
    description: 'guarded, but that each command leaves a map behind that is in no table',
    configSchema: Type.Object({}),
    register: (scope) => scope.bindValue(DEVICE, new LeakyDevice()),
  });
  const hoarding = definePlugin({
    ...leaky,
    name: 'hoarding',
    description: 'guarded, but that the host finds other things in it',
    configSchema: Type.Object({}),
    register: (scope) => scope.bindValue(DEVICE, new HoardingDevice(found)),
  });
  const registry = new PluginRegistry([...BUILT_IN_PLUGINS, plugin, leaky, hoarding]);
  return runTestbed(await resolveTestbed('/given.testbed.yaml', text, registry), { version: '0' });
}

/** What an honest guest does: a map that it frees, unless it keeps it. */
const honest =
  (keep = false): Attack['run'] =>
  async ({ control, neighbour }: HostileGuest) => {
    const create = {
      kind: 'create-map',
      mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: 8,
      maxEntries: 4,
      mapFlags: 0,
    } as const;
    const bytes = RFC_2019.encodeRequest(create);
    const written = await control.send([bytes], RFC_2019.replyBytes(create));
    const decoded = RFC_2019.decodeReply(create, bytes, written);
    if (!decoded.ok || decoded.reply.kind !== 'handle') throw new Error('no map');
    await neighbour.ask();
    const free = { kind: 'free-map', handle: decoded.reply.handle } as const;
    if (!keep) await control.send([RFC_2019.encodeRequest(free)], RFC_2019.replyBytes(free));
  };

const brokenBy = (document: ResultDocument): string[] | undefined =>
  document.runs[0]?.attacks?.[0]?.broken.map(({ invariant }) => invariant);

describe('the judge', () => {
  it('finds nothing where a guest does nothing wrong, on either device', async () => {
    for (const device of ['guarded', 'rfc-2019-naive']) {
      const document = await attacked(honest(), { device });
      expect(brokenBy(document), device).toEqual([]);
      expect(document.passed).toBe(true);
    }
    expect(brokenBy(await attacked(honest(true)))).toEqual([]);
  });

  it('sees what the weak device does wrong with an honest guest, which is no success of an attack', async () => {
    const document = await attacked(honest(true), { device: 'rfc-2019-naive', expected: 'succeed' });
    expect(brokenBy(document)).toEqual(['accounts-exact', 'reset-frees']);
    expect(document.passed).toBe(false);
    expect(document.checks.find(({ check }) => check === 'attacks')!.problems).toEqual([
      'default: given of mallory.eth0 on rfc-2019-naive broke nothing that it goes for: no-leak',
    ]);
  });

  it('finds what no table of the device has any more', async () => {
    const document = await attacked(honest(), { device: 'leaky' });
    expect(brokenBy(document)).toEqual(['reset-frees']);
    expect(document.runs[0]!.attacks![0]!.broken[0]!.what).toMatch(
      /^after a reset \d+ bytes of the host's memory are still taken$/,
    );
  });

  it('bounds names, and BTF together with maps, and wants BTF to be charged for', async () => {
    const found = async (held: Partial<DeviceInspection['held']>): Promise<string[] | undefined> =>
      brokenBy(await attacked(honest(), { device: 'hoarding', found: held }));
    expect(await found({})).toEqual([]);
    expect(await found({ names: NAME_BOUND })).toEqual([]);
    expect(await found({ names: NAME_BOUND + 1 })).toEqual(['memory-bounded']);
    expect(await found({ btfMemory: 1 })).toEqual(['accounts-exact']);
    expect(await found({ btfMemory: MEMORY_BOUND + 1 })).toEqual(['memory-bounded', 'accounts-exact']);
  });

  it('takes the guest’s word for what only the guest can see', async () => {
    const leak: Attack['run'] = async (guest) => guest.saw('no-leak', 'a secret');
    const document = await attacked(leak);
    expect(document.runs[0]!.attacks).toMatchObject([
      { held: false, broken: [{ invariant: 'no-leak', what: 'a secret' }] },
    ]);
    expect(document.passed).toBe(false);
    expect((await attacked(leak, { expected: 'succeed' })).passed).toBe(true);
  });

  it('sees a neighbour that waits for what it should not wait for', async () => {
    const over: Attack['run'] = ({ neighbour }) => neighbour.ask(Promise.resolve());
    expect(brokenBy(await attacked(over))).toEqual(['neighbour-served']);
    const never: Attack['run'] = ({ neighbour }) => neighbour.ask(new Promise(() => {}));
    expect(brokenBy(await attacked(never))).toEqual([]);
  });

  it('compares what a neighbour waits in virtual time with what it waits alone', async () => {
    const quiet: Attack['run'] = async ({ neighbour }) => {
      await neighbour.askInTime(true, 5e9);
      await neighbour.askInTime(false, 5e9);
    };
    const document = await attacked(quiet);
    expect(brokenBy(document)).toEqual([]);
    // A command, its 107 bytes, and what idle time is looked ahead.
    expect(document.runs[0]!.attacks![0]!.detail).toMatch(
      /^p99 of the neighbour 5\.[01] µs alone, 5\.[01] µs beside the attacker$/,
    );
  });

  it('lets the guest’s frames arrive after a reset, on all its queues', async () => {
    const document = await attacked(async (guest) => {
      await guest.reset();
      await guest.reset();
    });
    const ends = document.runs[0]!.ends.map(({ place, fate, frames }) => [place, fate, frames]);
    expect(ends).toContainEqual(['mallory.eth0', 'guest-stack', 5]);
    expect(brokenBy(document)).toEqual([]);
  });

  it('what an attack throws ends its run', async () => {
    const document = await attacked(async () => {
      throw new Error('boom');
    });
    expect(document.runs).toEqual([]);
    expect(document.failures).toHaveLength(1);
    expect(document.failures![0]).toMatchObject({ stage: 'run' });
    expect(document.failures![0]!.message).toContain('boom');
  });
});
