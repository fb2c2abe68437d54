import { Value } from '@sinclair/typebox/value';
import { InterpreterExecutor } from '../../plugins/executor-interpreter/interpreter-executor.js';
import { MemoryMapBackend } from '../../plugins/map-backend-memory/memory-map-backend.js';
import { HelperAllowList } from '../../plugins/policy-helper-allow-list/helper-allow-list.js';
import { Quota, QuotaConfig } from '../../plugins/policy-quota/quota.js';
import { StructuralVerifier } from '../../plugins/verifier-structural/structural-verifier.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { mapSpec, OffloadRig, u32Key } from '../../src/conformance/offload/offload-rig.js';
import type { Party } from '../../src/core/contract/party.js';
import type { DeviceMap } from '../../src/core/offload/device-map.js';
import { OffloadNetdev } from '../../src/core/offload/offload-netdev.js';
import { BPF_OFFLOAD } from '../../src/core/offload/protocol/bpf-offload/bpf-offload.js';
import type { ControlProtocol } from '../../src/core/offload/protocol/control-protocol.js';
import { RFC_2019 } from '../../src/core/offload/protocol/rfc-2019/rfc-2019.js';
import { featureSet } from '../../src/virtio/index.js';
import type { TransportUnderTest } from './transports.js';

const HASH = { type: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 8, maxEntries: 1024 };
/** Lookups that are on their way at once where they are pipelined. */
export const PIPELINE = 64;

/** One way to look up elements of a map. */
export interface Contender {
  readonly name: string;
  readonly round: (lookups: number) => Promise<void> | void;
  readonly close?: () => Promise<void>;
}

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

function rig(protocol: ControlProtocol = BPF_OFFLOAD): OffloadRig {
  const policies = [
    new HelperAllowList({ base: 'default', allow: [], deny: [] }),
    new Quota(Value.Parse(QuotaConfig, Value.Default(QuotaConfig, {}))),
  ];
  return new OffloadRig({ host: party('host of guest0'), guest: party('guest0'), policies, protocol });
}

const KEYS = Array.from({ length: HASH.maxEntries }, (_, index) => u32Key(index));
const keyAt = (index: number): Uint8Array => KEYS[index & (HASH.maxEntries - 1)]!;

/** What looks up one element of a map, with what it found: of a map of the guest's, an offloaded one or another. */
interface LookedUp {
  lookup(key: Uint8Array): Promise<{ readonly ok: boolean; readonly message?: string }>;
}

/** The next lookup is sent when the last is answered, as a guest's bpf(2) does. */
function oneByOne(map: LookedUp): Contender['round'] {
  return async (lookups) => {
    for (let index = 0; index < lookups; index++) {
      const found = await map.lookup(keyAt(index));
      if (!found.ok) throw new Error(found.message);
    }
  };
}

/** Several are on their way, as of a guest with as many threads. */
function pipelined(map: LookedUp): Contender['round'] {
  return async (lookups) => {
    let next = 0;
    const thread = async (): Promise<void> => {
      while (next < lookups) {
        const found = await map.lookup(keyAt(next++));
        if (!found.ok) throw new Error(found.message);
      }
    };
    await Promise.all(Array.from({ length: PIPELINE }, thread));
  };
}

/** A map of the device's with all its elements, on the guest's side of a control channel. */
async function farMap(netdev: OffloadNetdev): Promise<LookedUp> {
  const created = await netdev.createMap(mapSpec('flows', HASH));
  if (!created.ok) throw new Error(created.message);
  for (const key of KEYS) await created.value.update(key, new Uint8Array(8), 0n);
  return created.value;
}

/** How much lies between whoever asks and the map, without a transport. */
export async function direct(): Promise<Contender[]> {
  const bare = party('host').mapBackend.create({ ...HASH, flags: 0 }, { name: 'bare' });
  if (typeof bare === 'number') throw new Error(`map: ${bare}`);
  for (const key of KEYS) bare.update(key, new Uint8Array(8), 0n);
  const { device, netdev } = rig();
  const created = await netdev.createMap(mapSpec('flows', HASH));
  if (!created.ok) throw new Error(created.message);
  const map = created.value;
  for (const key of KEYS) await map.update(key, new Uint8Array(8), 0n);
  const requestOf = (key: Uint8Array) =>
    ({ kind: 'lookup-elem', handle: map.handle, key, valueSize: HASH.valueSize }) as const;
  const requests = KEYS.map((key) => BPF_OFFLOAD.encodeRequest(requestOf(key)));
  const room = BPF_OFFLOAD.replyBytes(requestOf(KEYS[0]!));
  return [
    {
      name: 'the map alone',
      round: (lookups) => {
        for (let index = 0; index < lookups; index++) bare.lookup(keyAt(index));
      },
    },
    {
      name: 'endpoint, protocol, policies, map',
      round: (lookups) => {
        for (let index = 0; index < lookups; index++) {
          if (!(device.handle(requests[index & (KEYS.length - 1)]!, room) instanceof Uint8Array))
            throw new Error('waited');
        }
      },
    },
    { name: 'guest driver and endpoint, no transport', round: oneByOne(map) },
  ];
}

/** A map of a device's, with the whole way to it: guest driver, channel, endpoint, protocol, policies. */
async function behind(
  { transport, features }: TransportUnderTest,
  protocol: ControlProtocol = BPF_OFFLOAD,
): Promise<{ readonly map: LookedUp; readonly close: () => Promise<void> }> {
  const { device, driverPlace } = rig(protocol);
  const negotiated = features | featureSet(protocol.feature);
  const channel = await transport.open({ label: 'guest0.eth0', features: negotiated });
  await channel.server.serve((request, room) => device.handle(request, room));
  const netdev = new OffloadNetdev({
    guest: 'guest0',
    nic: 'eth0',
    control: await channel.connect(),
    protocol,
    party: party('guest0'),
    world: { trace: () => undefined },
    hook: driverPlace,
  });
  return { map: await farMap(netdev), close: () => channel.close() };
}

export async function over(transport: TransportUnderTest): Promise<Contender[]> {
  const { name } = transport;
  const { map, close } = await behind(transport);
  return [
    { name, round: oneByOne(map) },
    { name: `${name}, ${PIPELINE} at once`, round: pipelined(map), close },
  ];
}

/** As `over`, one after the other, with the protocol of RFC 2019. */
export async function overRfc2019(transport: TransportUnderTest): Promise<Contender[]> {
  const { map, close } = await behind(transport, RFC_2019);
  return [{ name: `${transport.name}, RFC 2019’s protocol`, round: oneByOne(map), close }];
}

/** Elements by the batch. */
export async function batches(transport: TransportUnderTest): Promise<Contender[]> {
  const behindIt = await behind(transport);
  const map = behindIt.map as DeviceMap;
  return [
    {
      name: `${transport.name}, ${HASH.maxEntries} in a batch`,
      round: async (lookups) => {
        for (let read = 0; read < lookups;) {
          const batch = await map.lookupBatch!(undefined, HASH.maxEntries);
          if (!batch.ok) throw new Error(batch.message);
          read += batch.value.entries.length;
        }
      },
      close: behindIt.close,
    },
  ];
}
