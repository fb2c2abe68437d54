import { HELPER_NAMES, helperId } from '../../bpf/helper-ids.js';
import { nearest } from '../nearest.js';
import { checkFeatures, parseFeatureNames, FEATURE_BITS } from '../../virtio/features.js';
import { MAX_UDP_PAYLOAD } from '../contract/plan.js';
import { DEFAULT_HOOKS, DEFAULT_RING_ACCESS, type Plugin } from '../contract/plugin.js';
import type { Testbed } from './testbed-schema.js';
import type { YamlPath } from './yaml-source.js';

type GuestNic = Testbed['guests'][string]['nics'][string];

/** What may stand among a driver's helpers beside their names. */
const DRIVER_HELPER_WORDS: readonly string[] = ['default', 'any'];

export type Report = (path: YamlPath, message: string, hint?: string, onKey?: boolean) => void;

/**
 * Checks what a schema cannot say: that every name refers to something, that nothing is wired twice or in a
 * circle, and that a program is attached where it can ever see a frame. `warn` is told of what is allowed and still hardly
 * what was meant.
 */
export function checkWiring(testbed: Testbed, report: Report, warn: Report): void {
  const { host, guests, programs } = testbed;
  const taps = host.taps;
  const programNames = Object.keys(programs);
  const program = (path: YamlPath, name: string | undefined): void => {
    if (name !== undefined && !Object.hasOwn(programs, name)) {
      report(path, `there is no program '${name}'`, suggest(name, programNames, 'programs'));
    }
  };

  const interfaces = new Map<string, string>();
  for (const [kind, section] of [
    ['nics', host.nics],
    ['taps', taps],
    ['bridges', host.bridges ?? {}],
  ] as const) {
    for (const name of Object.keys(section)) {
      const other = interfaces.get(name);
      if (other !== undefined)
        report(['host', kind, name], `'${name}' is also the name of one of host.${other}`, undefined, true);
      interfaces.set(name, kind);
    }
  }
  for (const [name, nic] of Object.entries(host.nics))
    program(['host', 'nics', name, 'program'], nic.program);
  for (const [name, tap] of Object.entries(taps))
    program(['host', 'taps', name, 'rx-program'], tap['rx-program']);

  for (const [index, { kind, size }] of (testbed.measure?.exchanges ?? []).entries()) {
    if (size === undefined || size <= MAX_UDP_PAYLOAD || !kind.startsWith('udp-')) continue;
    report(
      ['measure', 'exchanges', index, 'size'],
      `a UDP message of ${size} bytes does not go into one frame: ${MAX_UDP_PAYLOAD} at most`,
    );
  }
  checkMeasuredNics(testbed, report);
  checkBridges(testbed, interfaces, report);
  if (host.case === 'bridge') warnOfUnbridgedTaps(testbed, warn);
  if (host.case === 'bridge' && Object.keys(host.bridges ?? {}).length === 0) {
    report(['host', 'case'], 'case bridge needs a bridge', 'add host.bridges');
  }

  const tapUsers = new Map<string, string>();
  const macs = new Map<string, string>();
  const claimMac = (path: YamlPath, mac: string, owner: string): void => {
    const other = macs.get(mac.toLowerCase());
    if (other !== undefined) report(path, `${mac} is already the address of ${other}`);
    macs.set(mac.toLowerCase(), owner);
  };
  for (const [name, nic] of Object.entries(host.nics))
    claimMac(['host', 'nics', name, 'mac'], nic.mac, `host.${name}`);
  for (const [guest, { nics }] of Object.entries(guests)) {
    if (guest === 'host') report(['guests', guest], "'host' cannot be the name of a guest", undefined, true);
    for (const [name, nic] of Object.entries(nics)) {
      const at = ['guests', guest, 'nics', name];
      const label = `${guest}.${name}`;
      claimMac([...at, 'mac'], nic.mac, label);
      if (!Object.hasOwn(taps, nic.tap)) {
        report([...at, 'tap'], `there is no tap '${nic.tap}'`, suggest(nic.tap, Object.keys(taps), 'taps'));
      } else if (tapUsers.has(nic.tap)) {
        report([...at, 'tap'], `tap '${nic.tap}' already backs ${tapUsers.get(nic.tap)}`);
      } else {
        tapUsers.set(nic.tap, label);
      }
      program([...at, 'program'], nic.program);
      checkRequests([...at, 'requests'], nic, program, report);
      if (nic.attack !== undefined && !hasNeighbour(guests, guest)) {
        report(
          [...at, 'attack'],
          'an attack needs an honest guest beside it',
          'add a guest without an attack: what becomes of it shows whether the attack held',
        );
      }
      checkFeatureNames(at, nic, report);
      for (const [index, helper] of nic['driver-helpers'].entries()) {
        if (DRIVER_HELPER_WORDS.includes(helper) || helperId(helper) !== undefined) continue;
        const known = [...DRIVER_HELPER_WORDS, ...HELPER_NAMES.values()];
        report([...at, 'driver-helpers', index], `'${helper}' is not a helper`, suggest(helper, known));
      }
      if (nic.program !== undefined && nic.placement === 'host') {
        if (host.hook === 'tun_xdp_xmit' && host.case === 'bridge') {
          report(
            ['host', 'hook'],
            'tun_xdp_xmit never sees a frame in case bridge',
            'a bridge sends skbs: use tun_net_xmit or tun_recvmsg',
          );
        }
        if (host.hook === 'tun_net_xmit' && host.case === 'redirect') {
          report(
            ['host', 'hook'],
            'tun_net_xmit never sees a frame in case redirect',
            'redirected frames are no skbs: use tun_xdp_xmit or tun_recvmsg',
          );
        }
      }
    }
  }
}

function hasNeighbour(guests: Testbed['guests'], attacker: string): boolean {
  return Object.entries(guests).some(
    ([name, { nics }]) => name !== attacker && Object.values(nics).some(({ attack }) => attack === undefined),
  );
}

/** Checks that the fabric has what the testbed asks of it. */
export function checkFabric(testbed: Testbed, fabric: Plugin, report: Report): void {
  const { host, guests } = testbed;
  const hooks = (fabric.hooks ?? DEFAULT_HOOKS)[host.case];
  if (host.hook !== undefined && !hooks.includes(host.hook)) {
    report(
      ['host', 'hook'],
      `fabric ${fabric.name} has no hook ${host.hook} in case ${host.case}`,
      `it has ${hooks.join(', ')}`,
    );
  }
  const accesses = fabric.ringAccess ?? DEFAULT_RING_ACCESS;
  const access = host.reader['ring-access'];
  if (access !== undefined && !accesses.includes(access)) {
    report(
      ['host', 'reader', 'ring-access'],
      `on fabric ${fabric.name} vhost does not get at a tap’s ring by ${access}`,
      `it has ${accesses.join(', ')}`,
    );
  }
  const offloads = Object.values(guests).some(({ nics }) =>
    Object.values(nics).some(({ program, placement }) => program !== undefined && placement === 'host'),
  );
  if (
    offloads &&
    host.reader.kind === 'vhost' &&
    (access ?? accesses[0]) === 'ptr-ring' &&
    (host.hook ?? hooks[0]) === 'tun_recvmsg'
  ) {
    report(
      ['host', 'reader', 'ring-access'],
      'tun_recvmsg never sees a frame that vhost takes out of the ring by itself',
      'ring-access: recvmsg, or a hook before the ring',
    );
  }
  if (fabric.guests === undefined) return;
  for (const [name, { kind }] of Object.entries(guests)) {
    if (kind !== undefined && !fabric.guests.includes(kind)) {
      report(
        ['guests', name, 'kind'],
        `fabric ${fabric.name} has no guests of kind ${kind}`,
        `it has ${fabric.guests.join(', ')}`,
      );
    }
  }
}

/** Checks that each guest nic has queues of the format that its control queue has. */
export function checkTransport(testbed: Testbed, transport: Plugin, report: Report): void {
  if (transport.queueFormat === undefined) return;
  for (const [guest, { nics }] of Object.entries(testbed.guests)) {
    for (const [name, { features }] of Object.entries(nics)) {
      const path = ['guests', guest, 'nics', name, 'features'];
      const index = features.indexOf('VIRTIO_F_RING_PACKED');
      if (transport.queueFormat === 'packed' && index < 0) {
        report(
          path,
          `transport ${transport.name} needs VIRTIO_F_RING_PACKED, which the device does not offer`,
        );
      }
      if (transport.queueFormat === 'split' && index >= 0) {
        report(
          [...path, index],
          `transport ${transport.name} has no packed queues, and the device offers VIRTIO_F_RING_PACKED`,
          'use transport virtqueue-packed',
        );
      }
    }
  }
}

/** Different frames that one measurement sends by turns: all of them are kept. */
const MOST_FRAMES = 65_536;

function checkMeasuredNics({ measure, guests }: Testbed, report: Report): void {
  const programs = new Map(
    Object.entries(guests).flatMap(([guest, { nics }]) =>
      Object.entries(nics).map(([name, { program }]) => [`${guest}.${name}`, program]),
    ),
  );
  const loaded = measure?.nics?.length ?? [...programs.values()].filter((each) => each !== undefined).length;
  if (measure?.together === true && measure.frames === 'uniform' && loaded * measure.flows > MOST_FRAMES) {
    report(
      ['measure', 'flows'],
      `${measure.flows} flows to each of ${loaded} nics together are more than ${MOST_FRAMES}`,
    );
  }
  for (const [index, node] of (measure?.nics ?? []).entries()) {
    const path = ['measure', 'nics', index];
    if (!programs.has(node))
      report(path, `there is no guest nic '${node}'`, suggest(node, [...programs.keys()], 'nics'));
    else if (programs.get(node) === undefined)
      report(path, `${node} has no program, so no rate of it is measured`);
  }
}

function checkRequests(
  at: YamlPath,
  nic: GuestNic,
  program: (path: YamlPath, name: string | undefined) => void,
  report: Report,
): void {
  if (nic.requests === undefined) return;
  const { lookup, load } = nic.requests;
  if ((lookup === undefined) === (load === undefined)) {
    report(
      at,
      'requests are either `lookup` or `load`',
      lookup === undefined ? 'add one of them' : undefined,
    );
  }
  program([...at, 'load'], load);
  if (lookup !== undefined && nic.program === undefined) {
    report([...at, 'lookup'], 'a nic without a program has no map', 'give the nic a program');
  }
}

/** Each stands for a protocol; the last is spoken where both are offered. */
const OFFLOAD_FEATURES = ['VIRTIO_NET_F_XDP_OFFLOAD', 'VIRTIO_NET_F_BPF_OFFLOAD'];

function checkFeatureNames(at: YamlPath, nic: GuestNic, report: Report): void {
  const parsed = parseFeatureNames(nic.features);
  const path = [...at, 'features'];
  if (!parsed.ok) {
    for (const name of parsed.unknown) {
      const index = nic.features.indexOf(name);
      report([...path, index], `'${name}' is not a feature bit`, suggest(name, Object.keys(FEATURE_BITS)));
    }
    return;
  }
  for (const problem of checkFeatures(parsed.features)) report(path, problem.message);
  if ((nic.program !== undefined && nic.placement === 'host') || nic.requests?.load !== undefined) {
    for (const needed of [['VIRTIO_NET_F_CTRL_VQ'], OFFLOAD_FEATURES]) {
      if (!needed.some((name) => nic.features.includes(name)))
        report(path, `offloading needs ${needed.join(' or ')}, which the device does not offer`);
    }
  }
  if (nic.queues > 1 && !nic.features.includes('VIRTIO_NET_F_MQ')) {
    report(
      [...at, 'queues'],
      `${nic.queues} queue pairs need VIRTIO_NET_F_MQ, which the device does not offer`,
    );
  }
}

function checkBridges(testbed: Testbed, interfaces: ReadonlyMap<string, string>, report: Report): void {
  const bridges = testbed.host.bridges ?? {};
  const master = new Map<string, string>();
  for (const [name, { ports }] of Object.entries(bridges)) {
    for (const [index, port] of ports.entries()) {
      const at = ['host', 'bridges', name, 'ports', index];
      if (!interfaces.has(port)) {
        report(at, `there is no NIC, tap or bridge '${port}'`, suggest(port, [...interfaces.keys()]));
      } else if (master.has(port)) {
        report(at, `'${port}' is already a port of bridge '${master.get(port)}'`);
      } else {
        master.set(port, name);
      }
    }
  }
  // Each port has one master, so a circle is a chain of masters that returns to its start.
  for (const name of Object.keys(bridges)) {
    const seen = [name];
    for (let next = master.get(name); next !== undefined; next = master.get(next)) {
      if (next === name) {
        report(
          ['host', 'bridges', name],
          `bridges are wired in a circle: ${[...seen, name].join(' → ')}`,
          'frames would go round for ever',
          true,
        );
        break;
      }
      if (seen.includes(next)) break;
      seen.push(next);
    }
  }
}

/** In case bridge frames come to a tap through its bridge alone. */
function warnOfUnbridgedTaps({ host, guests }: Testbed, warn: Report): void {
  const ports = new Set(Object.values(host.bridges ?? {}).flatMap(({ ports: own }) => own));
  for (const tap of Object.keys(host.taps)) {
    if (ports.has(tap)) continue;
    const users = Object.entries(guests).flatMap(([guest, { nics }]) =>
      Object.entries(nics).flatMap(([nic, plan]) => (plan.tap === tap ? [`${guest}.${nic}`] : [])),
    );
    const unreached = users.length === 0 ? '' : `, so no frame reaches ${users.join(', ')}`;
    warn(
      ['host', 'taps', tap],
      `tap '${tap}' is a port of no bridge${unreached}`,
      'put it into host.bridges.<name>.ports',
      true,
    );
  }
}

export function suggest(name: string, candidates: readonly string[], section?: string): string | undefined {
  const near = nearest(name, candidates);
  if (near !== undefined) return `did you mean '${near}'?`;
  if (section === undefined) return undefined;
  return candidates.length === 0 ? `no ${section} are declared` : `${section}: ${candidates.join(', ')}`;
}
