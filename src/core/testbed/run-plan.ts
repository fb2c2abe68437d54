import type { ExchangeKind, GuestPlan, HostPlan, MeasurePlan, RequestsPlan } from '../contract/plan.js';
import { DEFAULT_HOOKS, DEFAULT_RING_ACCESS, type Plugin } from '../contract/plugin.js';
import { MAX_UDP_PAYLOAD } from '../contract/plan.js';
import { parseFeatureNames } from '../../virtio/features.js';
import type { PresetNames } from './preset-value.js';
import type { RequestsSection, Testbed } from './testbed-schema.js';

/**
 * Interface indexes: host NICs first, then taps, in the order of the file, from 2 on (1 is the loopback
 * device, as on every Linux host). Guests count their own nics from 2 as well.
 */
const FIRST_IFINDEX = 2;

/** @param fabric decides what is done where the testbed does not say. */
export function buildHostPlan(testbed: Testbed, fabric: Pick<Plugin, 'hooks' | 'ringAccess'>): HostPlan {
  const { host } = testbed;
  const { kind, batch, polling, 'ring-access': ringAccess } = host.reader;
  const indexes = hostIfindexes(testbed);
  return {
    case: host.case,
    hook: host.hook ?? (fabric.hooks ?? DEFAULT_HOOKS)[host.case][0],
    cpus: host.cpus,
    nics: Object.entries(host.nics).map(([name, nic]) => ({
      name,
      ifindex: indexes.get(name)!,
      mac: nic.mac.toLowerCase(),
      program: nicProgram(testbed, nic.program),
    })),
    taps: Object.entries(host.taps).map(([name, tap]) => ({
      name,
      ifindex: indexes.get(name)!,
      rxProgram: tap['rx-program'],
      ring: tap.ring,
    })),
    bridges:
      host.case === 'bridge'
        ? Object.entries(host.bridges ?? {}).map(([name, { ports }]) => ({ name, ports }))
        : [],
    reader: {
      kind,
      batch,
      polling,
      ringAccess: ringAccess ?? (fabric.ringAccess ?? DEFAULT_RING_ACCESS)[0],
    },
    verification: {
      milliseconds: host.verification.milliseconds,
      memoryMiB: host.verification['memory-mib'],
      atOnce: host.verification['at-once'],
      atOncePerGuest: host.verification['at-once-per-guest'],
    },
    commandMicroseconds: host['command-microseconds'],
  };
}

/** The NIC's program is what case `redirect` consists of; in case `bridge` there is none. */
function nicProgram({ host }: Testbed, program: string | undefined): string | undefined {
  return host.case === 'redirect' ? program : undefined;
}

export function buildMeasurePlan({ measure }: Testbed): MeasurePlan | undefined {
  if (measure === undefined) return undefined;
  const { seconds, samples, 'warm-up': warmUp, frames, rate, size, flows, nics, together } = measure;
  const exchanges = measure.exchanges.map(({ kind, size: bytes, streams }) => ({
    kind,
    size: bytes ?? EXCHANGE_SIZES[kind],
    streams,
  }));
  return { seconds, samples, warmUp, frames, rate, size, flows, nics, together, exchanges };
}

/** Bytes, where the testbed does not say: as much as a frame takes, what netperf writes on most systems, and its least. */
const EXCHANGE_SIZES: Readonly<Record<ExchangeKind, number>> = {
  'udp-stream': MAX_UDP_PAYLOAD,
  'tcp-stream': 16_384,
  'udp-rr': 1,
  'tcp-rr': 1,
};

export function buildGuestPlans(testbed: Testbed, fabric: Pick<Plugin, 'guests'>): GuestPlan[] {
  return Object.entries(testbed.guests).map(([name, guest]) => ({
    name,
    // A fabric without kinds has the guests of its own, whatever the testbed says of others.
    kind: fabric.guests === undefined ? undefined : (guest.kind ?? fabric.guests[0]),
    cpus: guest.cpus,
    nics: Object.entries(guest.nics).map(([nicName, nic], index) => ({
      name: nicName,
      ifindex: FIRST_IFINDEX + index,
      mac: nic.mac.toLowerCase(),
      ipv4: nic.ipv4,
      tap: nic.tap,
      queues: nic.queues,
      queueSize: nic['queue-size'],
      features: featureBits(nic.features),
      program: nic.program,
      placement: nic.placement,
      hostile: nic.hostile,
      driverHelpers: nic['driver-helpers'],
      ...(nic.show.length === 0 ? {} : { show: nic.show }),
      requests: requestsPlan(nic.requests),
    })),
  }));
}

/** That exactly one thing is asked for has been seen to with the wiring. */
function requestsPlan(section: RequestsSection | undefined): RequestsPlan | undefined {
  if (section === undefined) return undefined;
  const { lookup, load, 'per-second': perSecond, 'warm-up': warmUp, seconds } = section;
  const times = { perSecond, warmUp, seconds };
  return lookup === undefined
    ? { kind: 'load', name: load ?? '', ...times }
    : { kind: 'lookup', name: lookup, ...times };
}

/** Unknown names have been reported with the wiring's problems; they offer nothing. */
function featureBits(names: readonly string[]): bigint {
  const parsed = parseFeatureNames(names);
  return parsed.ok ? parsed.features : 0n;
}

/** Names of the programs that are attached somewhere or offered to the host, the host's and the guests'. */
export function attachedPrograms(testbed: Testbed): Set<string> {
  const { host, guests } = testbed;
  const names = [
    ...Object.values(host.nics).map((nic) => nicProgram(testbed, nic.program)),
    ...Object.values(host.taps).map((tap) => tap['rx-program']),
    ...Object.values(guests).flatMap(({ nics }) =>
      Object.values(nics).flatMap((nic) => [nic.program, nic.requests?.load]),
    ),
  ];
  return new Set(names.filter((name) => name !== undefined));
}

/** What `{ ifindex: … }` and `{ mac: … }` in map presets may name. */
export function presetNames(testbed: Testbed): PresetNames {
  const macs = new Map<string, string>();
  for (const [name, nic] of Object.entries(testbed.host.nics)) macs.set(`host.${name}`, nic.mac);
  for (const [guest, { nics }] of Object.entries(testbed.guests)) {
    for (const [name, nic] of Object.entries(nics)) macs.set(`${guest}.${name}`, nic.mac);
  }
  return { ifindexes: hostIfindexes(testbed), macs };
}

function hostIfindexes(testbed: Testbed): Map<string, number> {
  const names = [...Object.keys(testbed.host.nics), ...Object.keys(testbed.host.taps)];
  return new Map(names.map((name, index) => [name, FIRST_IFINDEX + index]));
}
