import { Type, type Static } from '@sinclair/typebox';
import { MAX_METADATA_LENGTH, XDP_ACTION_NAMES } from '../../bpf/xdp.js';
import { MAX_FRAME_BYTES, TCP_FLAG, type TcpFlagName } from '../../packet/index.js';
import { MaxEntries, Words } from '../testbed/testbed-schema.js';

/**
 * Unit tests of an XDP program: given a packet and maps, expect a verdict, a packet and maps. Each case starts
 * from freshly created maps.
 */
const closed = { additionalProperties: false } as const;
const Byte = Type.Integer({ minimum: 0, maximum: 255 });
const Port = Type.Integer({ minimum: 0, maximum: 65535 });

export const PacketSection = Type.Object(
  {
    hex: Type.Optional(
      Type.String({
        pattern: '^([0-9a-fA-F]{2}[\\s:]*)+$',
        description: 'the whole frame in hex; spaces and line breaks are allowed',
        expects: 'hex bytes',
      }),
    ),
    eth: Type.Optional(
      Type.Object(
        {
          src: Type.String(),
          dst: Type.String(),
          type: Type.Optional(Type.Integer({ minimum: 0, maximum: 65535 })),
        },
        closed,
      ),
    ),
    vlan: Type.Optional(
      Type.Array(
        Type.Object(
          { id: Type.Integer({ minimum: 0, maximum: 4095 }), priority: Type.Optional(Byte) },
          closed,
        ),
      ),
    ),
    ipv4: Type.Optional(
      Type.Object(
        { src: Type.String(), dst: Type.String(), ttl: Type.Optional(Byte), protocol: Type.Optional(Byte) },
        closed,
      ),
    ),
    ipv6: Type.Optional(
      Type.Object(
        {
          src: Type.String(),
          dst: Type.String(),
          hopLimit: Type.Optional(Byte),
          nextHeader: Type.Optional(Byte),
        },
        closed,
      ),
    ),
    udp: Type.Optional(Type.Object({ srcPort: Port, dstPort: Port }, closed)),
    tcp: Type.Optional(
      Type.Object(
        {
          srcPort: Port,
          dstPort: Port,
          flags: Type.Optional(Type.Array(Words(Object.keys(TCP_FLAG) as TcpFlagName[]))),
        },
        closed,
      ),
    ),
    payload: Type.Optional(Type.String({ description: 'text, or hex bytes behind 0x' })),
    size: Type.Optional(
      Type.Integer({
        minimum: 14,
        maximum: MAX_FRAME_BYTES,
        description: 'bytes of the whole frame without FCS; more than 3520 need a program in xdp.frags',
      }),
    ),
  },
  {
    ...closed,
    description: 'a frame: in hex, or built from its layers with lengths and checksums filled in',
  },
);
export type PacketSection = Static<typeof PacketSection>;

const Hex = (description: string) =>
  Type.String({
    pattern: '^([0-9a-fA-F]{2}[\\s:]*)*$',
    description,
    expects: 'hex bytes',
  });

const Maps = Type.Record(Type.String(), Type.Unknown(), {
  description:
    'content by map name: a list of { key, value }, of per-CPU maps also of { key, cpus: { CPU: value } }; or an object by variable name for .data, .rodata and .bss',
});

export const CaseSection = Type.Object(
  {
    name: Type.String({ minLength: 1 }),
    program: Type.Optional(Type.String({ description: 'program or section, if not that of the file' })),
    packet: PacketSection,
    metadata: Type.Optional(
      Hex(
        `bytes in front of the packet, from data_meta to data: a multiple of 4, ${MAX_METADATA_LENGTH} at most`,
      ),
    ),
    maps: Type.Optional(Maps),
    'max-entries': Type.Optional(MaxEntries),
    context: Type.Optional(
      Type.Object(
        {
          'ingress-ifindex': Type.Optional(Type.Integer({ minimum: 0 })),
          'rx-queue-index': Type.Optional(Type.Integer({ minimum: 0 })),
          'egress-ifindex': Type.Optional(Type.Integer({ minimum: 0 })),
          cpu: Type.Optional(
            Type.Integer({
              minimum: 0,
              description: 'number of the CPU that the program runs on; below cpus',
            }),
          ),
        },
        closed,
      ),
    ),
    time: Type.Optional(Type.Integer({ minimum: 0, description: 'what bpf_ktime_get_ns returns' })),
    repeat: Type.Integer({
      minimum: 1,
      maximum: 1_000_000,
      default: 1,
      description: 'send the packet so often; the last outcome counts',
    }),
    expect: Type.Object(
      {
        verdict: Type.Optional(Words(XDP_ACTION_NAMES)),
        packet: Type.Optional(PacketSection),
        metadata: Type.Optional(Hex('bytes from data_meta to data; empty for none')),
        unchanged: Type.Optional(Type.Boolean({ description: 'the packet is as it was sent' })),
        maps: Type.Optional(Maps),
        redirect: Type.Optional(
          Type.Object(
            {
              ifindex: Type.Optional(
                Type.Integer({
                  description: 'of bpf_redirect, or of what the entry of the device map names',
                }),
              ),
              map: Type.Optional(Type.String({ description: 'the map of bpf_redirect_map' })),
              key: Type.Optional(Type.Integer({ description: 'the key in that map' })),
              cpu: Type.Optional(Type.Integer({ description: 'the CPU behind the key of a CPUMAP' })),
              broadcast: Type.Optional(
                Type.Boolean({ description: 'to every entry of the device map (BPF_F_BROADCAST)' }),
              ),
            },
            { ...closed, minProperties: 1, description: 'where XDP_REDIRECT leads' },
          ),
        ),
        trace: Type.Optional(
          Type.Array(Type.String(), { description: 'lines of bpf_trace_printk, in order' }),
        ),
      },
      { ...closed, minProperties: 1 },
    ),
  },
  closed,
);
export type CaseSection = Static<typeof CaseSection>;

export const CaseFileSchema = Type.Object(
  {
    $schema: Type.Optional(Type.String()),
    program: Type.Optional(
      Type.String({
        description: 'program or section of the object; may be left out when there is one XDP program',
      }),
    ),
    cpus: Type.Integer({
      minimum: 1,
      maximum: 64,
      default: 1,
      description: 'CPUs that per-CPU maps have values for',
    }),
    maps: Type.Optional(Maps),
    'max-entries': Type.Optional(MaxEntries),
    cases: Type.Array(CaseSection, { minItems: 1 }),
  },
  { ...closed, title: 'xdpbed program test cases', description: 'unit tests of an XDP program' },
);
export type CaseFile = Static<typeof CaseFileSchema>;
