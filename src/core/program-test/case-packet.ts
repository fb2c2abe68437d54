import {
  buildFrame,
  checkChecksums,
  dissect,
  findLayer,
  formatIpv6Address,
  parseIpv4Address,
  parseIpv6Address,
  parseMac,
  formatMac,
  tcpFlagNames,
  type Dissection,
} from '../../packet/index.js';
import { XdpbedError } from '../diagnostic.js';
import { hex } from './map-dump.js';
import type { ExpectedPacketSection, PacketSection } from './packet-schema.js';
import { changedRanges } from './program-session.js';

const DEFAULT_SOURCE = '02:00:00:00:00:01';
const DEFAULT_DESTINATION = '02:00:00:00:00:02';

/** The frame that a section describes. Throws `packet-invalid`. */
export function buildPacket(section: PacketSection): Uint8Array {
  const { hex: text, payload, eth = {}, ipv4, ipv6, udp, tcp, ...rest } = section;
  if (text !== undefined) {
    if (Object.keys(section).length > 1)
      throw new XdpbedError('packet-invalid', "a packet in 'hex' has no other keys");
    return parseHex(text);
  }
  return buildFrame({
    ...rest,
    eth: { src: DEFAULT_SOURCE, dst: DEFAULT_DESTINATION, ...eth },
    ...(ipv4 && { ipv4: { ...ipv4, ...addresses('ipv4', ipv4) } }),
    ...(ipv6 && { ipv6: { ...ipv6, ...addresses('ipv6', ipv6) } }),
    ...(udp && { udp: { ...udp, ...ports('udp', udp) } }),
    ...(tcp && { tcp: { ...tcp, ...ports('tcp', tcp) } }),
    ...(payload === undefined ? {} : { payload: parsePayload(payload) }),
  });
}

function addresses(
  layer: string,
  { src, dst }: { readonly src?: string | undefined; readonly dst?: string | undefined },
): { src: string; dst: string } {
  if (src !== undefined && dst !== undefined) return { src, dst };
  throw new XdpbedError('packet-invalid', `${layer} needs 'src' and 'dst'`);
}

function ports(
  layer: string,
  { srcPort, dstPort }: { readonly srcPort?: number | undefined; readonly dstPort?: number | undefined },
): { srcPort: number; dstPort: number } {
  if (srcPort !== undefined && dstPort !== undefined) return { srcPort, dstPort };
  throw new XdpbedError('packet-invalid', `${layer} needs 'srcPort' and 'dstPort'`);
}

export function parseHex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replace(/[\s:]/g, ''), 'hex'));
}

function parsePayload(payload: NonNullable<PacketSection['payload']>): Uint8Array {
  return typeof payload === 'string' ? new TextEncoder().encode(payload) : parseHex(payload.bytes);
}

/** What is wrong with the addresses of a section, at the path of each. */
export function addressProblems(
  section: PacketSection | ExpectedPacketSection,
): { readonly path: readonly string[]; readonly message: string; readonly hint: string | undefined }[] {
  const parsers = { eth: parseMac, ipv4: parseIpv4Address, ipv6: parseIpv6Address };
  return (['eth', 'ipv4', 'ipv6'] as const).flatMap((layer) =>
    (['src', 'dst'] as const).flatMap((end) => {
      const text = section[layer]?.[end];
      if (text === undefined) return [];
      try {
        parsers[layer](text);
        return [];
      } catch (error) {
        if (!(error instanceof XdpbedError)) throw error;
        return [{ path: [layer, end], message: error.message, hint: error.hint }];
      }
    }),
  );
}

/** A difference of an outcome from what is expected, at a path below the expectation. */
export interface Difference {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** In what a frame is not as expected: by field, or for one in hex by bytes. */
export function comparePacket(expected: ExpectedPacketSection, actual: Uint8Array): Difference[] {
  if (expected.hex !== undefined) {
    return compareBytes('packet', parseHex(expected.hex), actual).map((message) => ({
      path: ['hex'],
      message,
    }));
  }
  const dissection = dissect(actual);
  const differences: Difference[] = [];
  for (const [layer, fields] of Object.entries(fieldsOf(expected))) {
    const found = headerFields(layer as HeaderName, dissection);
    if (found === undefined) {
      differences.push({ path: [layer], message: `the packet has no ${layer} header` });
      continue;
    }
    for (const [field, wanted] of Object.entries(fields)) {
      const is = found[field];
      if (is === wanted) continue;
      differences.push({ path: [layer, field], message: `${layer}.${field} is ${is}, not ${wanted}` });
    }
  }
  if (expected.vlan !== undefined) differences.push(...compareTags(expected.vlan, dissection));
  if (expected.payload !== undefined) {
    const layer = findLayer(dissection, 'payload');
    const bytes =
      layer === undefined ? new Uint8Array() : actual.subarray(layer.offset, layer.offset + layer.length);
    const messages = compareBytes('payload', parsePayload(expected.payload), bytes);
    differences.push(...messages.map((message) => ({ path: ['payload'], message })));
  }
  if (expected.size !== undefined && actual.length !== expected.size)
    differences.push({ path: ['size'], message: `size is ${actual.length}, not ${expected.size}` });
  if (expected.checksums !== undefined) {
    for (const [layer, state] of Object.entries(checkChecksums(actual, dissection))) {
      if (state === 'ok' || state === 'none') continue;
      const message = `${layer}.checksum is ${state === 'bad' ? 'wrong' : 'not to be told: bytes are missing'}`;
      differences.push({ path: ['checksums'], message });
    }
  }
  return differences;
}

type HeaderName = 'eth' | 'ipv4' | 'ipv6' | 'udp' | 'tcp';
type Fields = Readonly<Record<string, string | number | boolean | undefined>>;

/** The fields that are expected, as `headerFields` has them. */
function fieldsOf(expected: ExpectedPacketSection): Partial<Record<HeaderName, Fields>> {
  const { eth, ipv4, ipv6, udp, tcp } = expected;
  const mac = (text: string | undefined): string | undefined => text && formatMac(parseMac(text));
  const ip = (text: string | undefined): string | undefined =>
    text && formatIpv6Address(parseIpv6Address(text));
  const fields: Partial<Record<HeaderName, Fields>> = {
    ...(eth && { eth: { ...eth, src: mac(eth.src), dst: mac(eth.dst) } }),
    ...(ipv4 && { ipv4 }),
    ...(ipv6 && { ipv6: { ...ipv6, src: ip(ipv6.src), dst: ip(ipv6.dst) } }),
    ...(udp && { udp }),
    ...(tcp && { tcp: { ...tcp, flags: tcp.flags === undefined ? undefined : flagText(tcp.flags) } }),
  };
  return Object.fromEntries(
    Object.entries(fields).map(([layer, named]) => [
      layer,
      Object.fromEntries(Object.entries(named).filter(([, value]) => value !== undefined)),
    ]),
  );
}

/** Fields of the outermost header of a kind; undefined when there is none. */
function headerFields(layer: HeaderName, dissection: Dissection): Fields | undefined {
  switch (layer) {
    case 'eth': {
      const header = findLayer(dissection, 'ethernet')?.header;
      const tags = dissection.layers.flatMap((found) => (found.kind === 'vlan' ? found.header : []));
      // That of the payload, as it is given: tags have their own in front of it.
      return header && { src: header.src, dst: header.dst, type: tags.at(-1)?.etherType ?? header.etherType };
    }
    case 'tcp': {
      const header = findLayer(dissection, 'tcp')?.header;
      return header && { ...withoutBytes(header), flags: flagText(tcpFlagNames(header.flags)) };
    }
    default: {
      const header = findLayer(dissection, layer)?.header;
      return header && withoutBytes(header);
    }
  }
}

function withoutBytes(header: object): Fields {
  return Object.fromEntries(Object.entries(header).filter(([, value]) => typeof value !== 'object'));
}

function flagText(flags: readonly string[]): string {
  return `[${[...flags].sort().join(', ')}]`;
}

function compareTags(
  expected: NonNullable<ExpectedPacketSection['vlan']>,
  dissection: Dissection,
): Difference[] {
  const tags = dissection.layers.flatMap((found) => (found.kind === 'vlan' ? found.header : []));
  if (tags.length !== expected.length)
    return [{ path: ['vlan'], message: `the packet has ${tags.length} vlan tags, not ${expected.length}` }];
  return expected.flatMap((wanted, index) =>
    (['id', 'priority'] as const).flatMap((field) => {
      const [is, want] = [tags[index]![field], wanted[field]];
      if (want === undefined || is === want) return [];
      return [{ path: ['vlan', index, field], message: `vlan[${index}].${field} is ${is}, not ${want}` }];
    }),
  );
}

export function compareBytes(what: string, expected: Uint8Array, actual: Uint8Array): string[] {
  const problems: string[] = [];
  if (expected.length !== actual.length)
    problems.push(`${what} has ${actual.length} bytes, not ${expected.length}`);
  for (const { start, end } of changedRanges(expected, actual)) {
    problems.push(
      `${what} bytes ${start}..${end - 1} are ${hex(actual.subarray(start, end)) || 'absent'}, not ${hex(expected.subarray(start, end)) || 'absent'}`,
    );
  }
  return problems;
}
