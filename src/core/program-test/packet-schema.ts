import { Type, type Static } from '@sinclair/typebox';
import { MAX_FRAME_BYTES, TCP_FLAG, type TcpFlagName } from '../../packet/index.js';
import { Words } from '../testbed/testbed-schema.js';

/** Frames as they are written in cases: in hex, or by layers. */
const closed = { additionalProperties: false } as const;
const number = (maximum: number, description: string) =>
  Type.Optional(Type.Integer({ minimum: 0, maximum, description }));
const flag = (description: string) => Type.Optional(Type.Boolean({ description }));
const address = (description: string) => Type.Optional(Type.String({ description }));

/** Hex digits in pairs, blanks and colons between them. */
export const Hex = (description: string) =>
  Type.String({ pattern: '^([0-9a-fA-F]{2}[\\s:]*)*$', description, expects: 'hex bytes' });

const LAYERS = {
  eth: Type.Optional(
    Type.Object(
      {
        src: address('MAC address; 02:00:00:00:00:01 where it is left out'),
        dst: address('MAC address; 02:00:00:00:00:02 where it is left out'),
        type: number(0xffff, 'EtherType of what follows the tags; of IP it need not be given'),
      },
      { ...closed, description: 'Ethernet' },
    ),
  ),
  vlan: Type.Optional(
    Type.Array(
      Type.Object(
        { id: Type.Integer({ minimum: 0, maximum: 4095, description: 'VID' }), priority: number(7, 'PCP') },
        closed,
      ),
      { description: 'tags, the outermost first' },
    ),
  ),
  ipv4: Type.Optional(
    Type.Object(
      {
        src: address('address, e.g. 192.0.2.1'),
        dst: address('address, e.g. 192.0.2.2'),
        ttl: number(255, '64 where it is left out'),
        protocol: number(255, 'of UDP and TCP it need not be given'),
        id: number(0xffff, 'identification'),
        dscp: number(63, 'class of service'),
        ecn: number(3, 'congestion notification'),
        dontFragment: flag('DF'),
        moreFragments: flag('MF'),
        fragmentOffset: number(0xfff8, 'bytes, a multiple of 8'),
        checksum: number(0xffff, 'instead of the right one'),
      },
      { ...closed, description: 'IPv4' },
    ),
  ),
  ipv6: Type.Optional(
    Type.Object(
      {
        src: address('address, e.g. 2001:db8::1'),
        dst: address('address, e.g. 2001:db8::2'),
        hopLimit: number(255, '64 where it is left out'),
        nextHeader: number(255, 'of UDP and TCP it need not be given'),
        trafficClass: number(255, 'class of service and congestion notification'),
        flowLabel: number(0xfffff, 'of the flow'),
      },
      { ...closed, description: 'IPv6' },
    ),
  ),
  udp: Type.Optional(
    Type.Object(
      {
        srcPort: number(0xffff, 'source port'),
        dstPort: number(0xffff, 'destination port'),
        checksum: number(0xffff, 'instead of the right one; 0: none'),
      },
      { ...closed, description: 'UDP' },
    ),
  ),
  tcp: Type.Optional(
    Type.Object(
      {
        srcPort: number(0xffff, 'source port'),
        dstPort: number(0xffff, 'destination port'),
        seq: number(0xffff_ffff, 'sequence number'),
        ack: number(0xffff_ffff, 'acknowledgment number'),
        flags: Type.Optional(
          Type.Array(Words(Object.keys(TCP_FLAG) as TcpFlagName[]), { description: 'those that are set' }),
        ),
        window: number(0xffff, '65535 where it is left out'),
        checksum: number(0xffff, 'instead of the right one'),
      },
      { ...closed, description: 'TCP' },
    ),
  ),
  payload: Type.Optional(
    Type.Union([Type.String(), Type.Object({ bytes: Hex('in hex') }, closed)], {
      description: 'behind the last header: text, or { bytes: "68 65" }',
    }),
  ),
  size: Type.Optional(
    Type.Integer({
      minimum: 14,
      maximum: MAX_FRAME_BYTES,
      description: 'bytes of the whole frame without FCS; more than 3520 need a program in xdp.frags',
    }),
  ),
};

const hex = Type.Optional(
  Type.String({
    pattern: '^([0-9a-fA-F]{2}[\\s:]*)+$',
    description: 'the whole frame in hex; spaces and line breaks are allowed',
    expects: 'hex bytes',
  }),
);

export const PacketSection = Type.Object(
  { hex, ...LAYERS },
  {
    ...closed,
    minProperties: 1,
    description: 'a frame: in hex, or built from its layers with lengths and checksums filled in',
  },
);
export type PacketSection = Static<typeof PacketSection>;

export const ExpectedPacketSection = Type.Object(
  {
    hex,
    ...LAYERS,
    checksums: Type.Optional(
      Words(['valid'], {
        description: 'the checksums of IPv4, UDP and TCP are right, each where there is one',
      }),
    ),
  },
  {
    ...closed,
    minProperties: 1,
    description: 'the frame in hex, or the fields that are named: others may have any value',
  },
);
export type ExpectedPacketSection = Static<typeof ExpectedPacketSection>;
