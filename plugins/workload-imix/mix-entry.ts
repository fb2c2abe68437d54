import { Type, type Static } from '@sinclair/typebox';
import { ETHERNET_MIN_FRAME_BYTES, MAX_IPV4_FRAME_BYTES } from '../../src/packet/index.js';

export const MixEntry = Type.Object(
  {
    weight: Type.Integer({
      minimum: 1,
      maximum: 1000,
      default: 1,
      description: 'frames of this kind in each round of the mix',
      examples: [7],
    }),
    size: Type.Integer({
      minimum: ETHERNET_MIN_FRAME_BYTES,
      maximum: MAX_IPV4_FRAME_BYTES,
      default: ETHERNET_MIN_FRAME_BYTES,
      description:
        'bytes of the frame without FCS (60 is 64 with FCS); of more than 3520, XDP programs see several buffers. Headers that need more make the frame longer',
      examples: [60, 590, 1514],
    }),
    protocol: Type.Unsafe<'udp' | 'tcp' | 'icmp'>({
      type: 'string',
      enum: ['udp', 'tcp', 'icmp'],
      default: 'udp',
      description: 'UDP datagram, TCP segment with ACK set, or ICMP (ICMPv6) echo request',
    }),
    ip: Type.Unsafe<4 | 6>({ type: 'integer', enum: [4, 6], default: 4, description: 'version of IP' }),
    vlan: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 4094,
        description: 'VLAN id of an 802.1Q tag; without it the frame is not tagged',
        examples: [100],
      }),
    ),
  },
  { additionalProperties: false, description: 'one kind of frame and how often it comes' },
);
export type MixEntry = Static<typeof MixEntry>;
