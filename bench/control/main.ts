import { Value } from '@sinclair/typebox/value';
import { MemoryMapBackend } from '../../plugins/map-backend-memory/memory-map-backend.js';
import { InterpreterExecutor } from '../../plugins/executor-interpreter/interpreter-executor.js';
import { HelperAllowList } from '../../plugins/policy-helper-allow-list/helper-allow-list.js';
import { Quota, QuotaConfig } from '../../plugins/policy-quota/quota.js';
import { StructuralVerifier } from '../../plugins/verifier-structural/structural-verifier.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { mapSpec, OffloadRig, RIG_FEATURES, u32Key } from '../../src/conformance/offload/offload-rig.js';
import type { Party } from '../../src/core/contract/party.js';
import { OffloadNetdev } from '../../src/core/offload/offload-netdev.js';
import { RFC_2019 } from '../../src/core/offload/protocol/rfc-2019/rfc-2019.js';
import { ControlLink } from '../../src/virtio/index.js';

const ROUNDS = 7;
const LOOKUPS = 20_000;
const HASH = { type: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 8, maxEntries: 1024 };

function party(name: string): Party {
  const runtime = new BpfRuntime({ memoryBytes: 8 << 20 });
  return {
    name,
    cpus: 1,
    mapBackend: new MemoryMapBackend(runtime),
    executor: new InterpreterExecutor(runtime),
    verifier: new StructuralVerifier(),
  };
}

/** Lookups one after the other, as a guest makes them: the next is sent when the last is answered. */
interface Contender {
  readonly name: string;
  readonly round: (lookups: number) => Promise<void> | void;
}

/**
 * Lookups a second of one element of a HASH with 1024 elements, by how much lies between the asker and the map; with
 * the policies of the main testbed. Rounds are interleaved, so that a machine that slows down slows all of them down.
 */
async function contenders(): Promise<Contender[]> {
  const host = party('host');
  const bare = host.mapBackend.create({ ...HASH, flags: 0 }, { name: 'bare' });
  if (typeof bare === 'number') throw new Error(`map: ${bare}`);
  const keys = Array.from({ length: HASH.maxEntries }, (_, index) => u32Key(index));
  for (const key of keys) bare.update(key, new Uint8Array(8), 0n);

  const policies = [
    new HelperAllowList({ base: 'default', allow: [], deny: [] }),
    new Quota(Value.Parse(QuotaConfig, Value.Default(QuotaConfig, {}))),
  ];
  const rig = new OffloadRig({ host: party('host of guest0'), guest: party('guest0'), policies });
  const created = await rig.netdev.createMap(mapSpec('flows', HASH));
  if (!created.ok) throw new Error(created.message);
  const map = created.value;
  for (const key of keys) await map.update(key, new Uint8Array(8), 0n);
  const requests = keys.map((key) =>
    RFC_2019.encodeRequest({ kind: 'lookup-elem', handle: map.handle, key, valueSize: HASH.valueSize }),
  );
  const room = RFC_2019.replyBytes({
    kind: 'lookup-elem',
    handle: 1,
    key: keys[0]!,
    valueSize: HASH.valueSize,
  });

  const link = new ControlLink({ label: 'guest0.eth0', features: RIG_FEATURES });
  link.serve((request, space) => rig.device.handle(request, space));
  const through = new OffloadNetdev({
    guest: 'guest0',
    nic: 'eth0',
    control: { send: (parts, space) => link.send(parts, space) },
    party: party('guest0'),
    world: { trace: () => undefined },
    hook: rig.driverPlace,
  });
  const far = await through.createMap(mapSpec('far', HASH));
  if (!far.ok) throw new Error(far.message);
  for (const key of keys) await far.value.update(key, new Uint8Array(8), 0n);

  const at = (index: number): number => index & (HASH.maxEntries - 1);
  return [
    {
      name: 'the map alone',
      round: (lookups) => {
        for (let index = 0; index < lookups; index++) bare.lookup(keys[at(index)]!);
      },
    },
    {
      name: 'endpoint, protocol, policies, map',
      round: (lookups) => {
        for (let index = 0; index < lookups; index++) {
          if (!(rig.device.handle(requests[at(index)]!, room) instanceof Uint8Array))
            throw new Error('waited');
        }
      },
    },
    {
      name: 'guest driver and endpoint',
      round: async (lookups) => {
        for (let index = 0; index < lookups; index++) {
          const found = await map.lookup(keys[at(index)]!);
          if (!found.ok) throw new Error(found.message);
        }
      },
    },
    {
      name: 'guest driver, control virtqueue, endpoint',
      round: async (lookups) => {
        for (let index = 0; index < lookups; index++) {
          const found = await far.value.lookup(keys[at(index)]!);
          if (!found.ok) throw new Error(found.message);
        }
      },
    },
  ];
}

const all = await contenders();
const seconds = new Map(all.map(({ name }) => [name, [] as number[]]));
for (const { round } of all) await round(LOOKUPS);
for (let index = 0; index < ROUNDS; index++) {
  for (const { name, round } of all) {
    const start = process.cpuUsage();
    await round(LOOKUPS);
    const { user, system } = process.cpuUsage(start);
    seconds.get(name)!.push((user + system) / 1e6);
  }
}
const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;
const first = median(seconds.get(all[0]!.name)!);
console.log(`lookups per CPU second, median of ${ROUNDS} interleaved rounds of ${LOOKUPS}`);
for (const { name } of all) {
  const spent = median(seconds.get(name)!);
  const rate = Math.round(LOOKUPS / spent).toLocaleString('en');
  console.log(`${name.padEnd(44)} ${rate.padStart(12)}   ${(spent / first).toFixed(1)} × the map alone`);
}
