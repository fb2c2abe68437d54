import { buildFrame, TCP_FLAG, type FrameSpec, type TcpFlagName } from '../../packet/index.js';
import type { ProgramConstants } from './program-constants.js';
import type { RandomSource } from './random-source.js';
import { SHORTEST_FRAME } from './sent-packet.js';

export interface GeneratorOptions {
  readonly constants: ProgramConstants;
  /** Byte strings that packets should hold now and then, e.g. the keys of maps. */
  readonly tokens?: readonly Uint8Array[] | undefined;
  /** Bytes of the longest packet. Default 1514. */
  readonly longest?: number | undefined;
}

const MACS = ['02:00:00:00:00:01', '02:00:00:00:00:02', 'ff:ff:ff:ff:ff:ff', '01:00:5e:00:00:01'];
const IPV4 = ['10.0.0.1', '10.0.0.2', '192.168.1.1', '127.0.0.1', '224.0.0.1', '255.255.255.255', '0.0.0.0'];
const IPV6 = ['2001:db8::1', '2001:db8::2', 'fe80::1', 'ff02::1', '::1', '::'];
const PORTS = [0, 22, 53, 80, 443, 1024, 4789, 8080, 65535];
const ETHERTYPES = [0x0806, 0x88cc, 0x8847, 0x0800, 0x86dd, 0x0000];
/** ICMP, IGMP, IPIP, TCP, UDP, IPv6, GRE, ESP, ICMPv6, SCTP; hop-by-hop, routing, fragment, destination options. */
const PROTOCOLS = [1, 2, 4, 6, 17, 41, 47, 50, 58, 132, 0, 43, 44, 60, 255];
const TTLS = [64, 64, 1, 0, 255, 2];
const FLAGS = Object.keys(TCP_FLAG) as TcpFlagName[];

/**
 * Packets as a network has them, and as somebody sends them who means ill: Ethernet, VLAN tags, IPv4 and IPv6 with UDP,
 * TCP, ICMP or anything else in them; options; lengths at the bounds that the program compares with; cut off anywhere; and
 * with the program's own constants in their fields.
 */
export class PacketGenerator {
  readonly #words: ReadonlyMap<number, readonly Uint8Array[]>;
  readonly #all: readonly Uint8Array[];
  readonly #lengths: readonly number[];
  /** Bytes of the longest packet. */
  readonly longest: number;

  constructor(
    readonly random: RandomSource,
    { constants, tokens = [], longest = 1514 }: GeneratorOptions,
  ) {
    this.longest = longest;
    this.#all = [...constants.words, ...tokens].filter(({ length }) => length > 0 && length <= longest);
    const bySize = new Map<number, Uint8Array[]>();
    for (const word of this.#all) bySize.set(word.length, [...(bySize.get(word.length) ?? []), word]);
    this.#words = bySize;
    this.#lengths = constants.lengths.filter((length) => length >= SHORTEST_FRAME && length <= longest);
  }

  /** A new packet. */
  packet(): Uint8Array {
    const { random } = this;
    const packet = this.#fit(buildFrame(this.#spec()));
    return random.chance(15) ? this.#overwritten(packet) : packet;
  }

  /** A packet made of another by a few changes. */
  mutate(packet: Uint8Array): Uint8Array {
    let changed = packet;
    for (let changes = 1 + this.random.below(3); changes > 0; changes--) changed = this.#mutateOnce(changed);
    return changed;
  }

  #mutateOnce(packet: Uint8Array): Uint8Array {
    const { random } = this;
    switch (random.below(6)) {
      case 0: {
        const changed = packet.slice();
        changed[random.below(packet.length)]! ^= 1 << random.below(8);
        return changed;
      }
      case 1: {
        const changed = packet.slice();
        changed[random.below(Math.min(packet.length, 64))] = random.pick([
          0,
          1,
          0x7f,
          0x80,
          0xff,
          random.below(256),
        ]);
        return changed;
      }
      case 2: {
        const changed = packet.slice();
        const at = random.below(packet.length);
        changed[at] = changed[at]! + random.pick([1, -1, 2, -2, 16, -16]);
        return changed;
      }
      case 3:
        return resized(packet, this.#length(packet.length));
      default:
        return this.#overwritten(packet);
    }
  }

  /** With one of the program's constants somewhere, mostly where headers are. */
  #overwritten(packet: Uint8Array): Uint8Array {
    const { random } = this;
    const changed = packet.slice();
    const word =
      this.#all.length > 0 && random.chance(80) ? random.pick(this.#all) : random.bytes(1 + random.below(4));
    const room = packet.length - word.length;
    if (room < 0) return changed;
    const at = random.below(1 + (random.chance(80) ? Math.min(room, 60) : room));
    // Fields lie at even offsets, mostly.
    changed.set(word, word.length > 1 && random.chance(75) ? at & ~1 : at);
    return changed;
  }

  #fit(packet: Uint8Array): Uint8Array {
    const { random } = this;
    if (packet.length > this.longest) return packet.slice(0, this.longest);
    return random.chance(25) ? resized(packet, this.#length(packet.length)) : packet;
  }

  /** A length for a packet that has `length` bytes. */
  #length(length: number): number {
    const { random } = this;
    if (this.#lengths.length > 0 && random.chance(50)) return random.pick(this.#lengths);
    const most = random.chance(50) ? Math.min(length, 80) : this.longest;
    return random.between(SHORTEST_FRAME, Math.max(SHORTEST_FRAME, most));
  }

  #spec(): FrameSpec {
    const { random } = this;
    const eth = { src: this.#mac(), dst: this.#mac() };
    const vlan = Array.from({ length: random.chance(70) ? 0 : 1 + random.below(2) }, () => ({
      id: this.#number(2, [0, 1, 100, 4095]) & 0xfff,
      priority: random.below(8),
    }));
    const kind = random.below(100);
    if (kind < 10) {
      const payload = random.bytes(random.below(64));
      return { eth: { ...eth, type: this.#number(2, ETHERTYPES) }, vlan, payload };
    }
    const transport = this.#transport(kind >= 60);
    const body = { vlan, ...transport, payload: this.#payload(), padTo: random.chance(50) ? 0 : 60 };
    const carries = transport.udp === undefined && transport.tcp === undefined;
    if (kind < 60) {
      const fragment = random.chance(10);
      return {
        eth,
        ...body,
        ipv4: {
          src: this.#ipv4(),
          dst: this.#ipv4(),
          ttl: random.pick(TTLS),
          dscp: random.chance(10) ? random.below(64) : 0,
          dontFragment: random.chance(30),
          ...(fragment ? { moreFragments: random.chance(50), fragmentOffset: 8 * random.below(200) } : {}),
          ...(random.chance(15) ? { options: random.bytes(4 * (1 + random.below(10))) } : {}),
          ...(carries ? { protocol: this.#number(1, PROTOCOLS) } : {}),
        },
      };
    }
    return {
      eth,
      ...body,
      ipv6: {
        src: this.#ipv6(),
        dst: this.#ipv6(),
        hopLimit: random.pick(TTLS),
        ...(carries ? { nextHeader: this.#number(1, PROTOCOLS) } : {}),
      },
    };
  }

  #transport(overIpv6: boolean): Pick<FrameSpec, 'udp' | 'tcp'> {
    const { random } = this;
    const ports = { srcPort: this.#number(2, PORTS), dstPort: this.#number(2, PORTS) };
    const kind = random.below(100);
    // RFC 768: over IPv4 a datagram may come without a checksum.
    if (kind < 40) return { udp: { ...ports, ...(!overIpv6 && random.chance(10) ? { checksum: 0 } : {}) } };
    if (kind < 80) {
      return {
        tcp: {
          ...ports,
          flags: FLAGS.filter(() => random.chance(25)),
          ...(random.chance(20) ? { options: random.bytes(4 * (1 + random.below(10))) } : {}),
        },
      };
    }
    return {};
  }

  #payload(): Uint8Array {
    const { random } = this;
    const length = random.chance(80) ? random.below(64) : random.below(1400);
    const payload = random.chance(50) ? new Uint8Array(length) : random.bytes(length);
    if (this.#all.length > 0 && random.chance(30)) {
      const word = random.pick(this.#all);
      if (word.length <= length)
        payload.set(word, random.chance(50) ? 0 : random.below(length - word.length + 1));
    }
    return payload;
  }

  /** A field of so many bytes: one of those that are usual, of the program's, or any. */
  #number(bytes: 1 | 2, usual: readonly number[]): number {
    const { random } = this;
    const words = this.#words.get(bytes) ?? [];
    const choice = random.below(10);
    if (choice < 4 && words.length > 0)
      return random.pick(words).reduce((value, byte) => value * 256 + byte, 0);
    return choice < 9 ? random.pick(usual) : random.below(bytes === 1 ? 256 : 65536);
  }

  #mac(): string {
    const word = this.#token(6);
    if (word === undefined) return this.random.pick(MACS);
    return [...word].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
  }

  #ipv4(): string {
    const word = this.#token(4);
    return word === undefined ? this.random.pick(IPV4) : word.join('.');
  }

  #ipv6(): string {
    const word = this.#token(16);
    if (word === undefined) return this.random.pick(IPV6);
    const groups = Array.from({ length: 8 }, (_, i) => ((word[2 * i]! << 8) | word[2 * i + 1]!).toString(16));
    return groups.join(':');
  }

  /** One of the program's or of the maps' byte strings of this length, sometimes. */
  #token(bytes: number): Uint8Array | undefined {
    const words = this.#words.get(bytes);
    return words !== undefined && this.random.chance(40) ? this.random.pick(words) : undefined;
  }
}

function resized(packet: Uint8Array, length: number): Uint8Array {
  const changed = new Uint8Array(length);
  changed.set(packet.subarray(0, length));
  return changed;
}
