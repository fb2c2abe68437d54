import { Type, type Static } from '@sinclair/typebox';
import { MAX_GIVEN_RANDOM } from '../../bpf/runtime/run-state.js';
import { MAX_METADATA_LENGTH, XDP_ACTION_NAMES } from '../../bpf/xdp.js';
import { MAX_CPUS, MaxEntries, Words } from '../testbed/testbed-schema.js';
import { ExpectedPacketSection, Hex, PacketSection } from './packet-schema.js';

/**
 * Unit tests of an XDP program: given packets and maps, expect verdicts, packets, maps and events. Each case starts from
 * the state in which the program was loaded.
 */
const closed = { additionalProperties: false } as const;

const Maps = Type.Record(Type.String(), Type.Unknown(), {
  description:
    'content by map name: a list of { key, value }, of per-CPU maps also of { key, cpus: { CPU: value } }; or an object by variable name for .data, .rodata and .bss',
});

const ContextSection = Type.Object(
  {
    'ingress-ifindex': Type.Optional(
      Type.Integer({ minimum: 0, description: 'interface that it came in by' }),
    ),
    'rx-queue-index': Type.Optional(Type.Integer({ minimum: 0, description: 'queue that it came in by' })),
    'egress-ifindex': Type.Optional(
      Type.Integer({ minimum: 0, description: 'interface that it leaves by, for programs of device maps' }),
    ),
    cpu: Type.Optional(
      Type.Integer({ minimum: 0, description: 'number of the CPU that the program runs on; below cpus' }),
    ),
  },
  { ...closed, description: 'what struct xdp_md says, and the CPU' },
);

export const ExpectSection = Type.Object(
  {
    verdict: Type.Optional(Words(XDP_ACTION_NAMES, { description: 'of every packet of the step' })),
    verdicts: Type.Optional(
      Type.Partial(
        Type.Object(
          Object.fromEntries(
            XDP_ACTION_NAMES.map((name) => [name, Type.Integer({ minimum: 0, description: 'packets' })]),
          ),
          closed,
        ),
        { description: 'how many packets each verdict had, of those that are named' },
      ),
    ),
    packet: Type.Optional(ExpectedPacketSection),
    unchanged: Type.Optional(Type.Boolean({ description: 'whether the packet is as it was sent' })),
    metadata: Type.Optional(Hex('bytes from data_meta to data; empty for none')),
    redirect: Type.Optional(
      Type.Object(
        {
          ifindex: Type.Optional(
            Type.Integer({ description: 'of bpf_redirect, or of what the entry of the device map names' }),
          ),
          map: Type.Optional(Type.String({ description: 'the map of bpf_redirect_map' })),
          key: Type.Optional(Type.Integer({ description: 'the key in that map' })),
          cpu: Type.Optional(Type.Integer({ description: 'the CPU behind the key of a CPUMAP' })),
          socket: Type.Optional(Type.Integer({ description: 'what lies behind the key of an XSKMAP' })),
          broadcast: Type.Optional(
            Type.Boolean({ description: 'to every entry of the device map (BPF_F_BROADCAST)' }),
          ),
        },
        { ...closed, minProperties: 1, description: 'where XDP_REDIRECT leads' },
      ),
    ),
    maps: Type.Optional(Maps),
    'whole-maps': Type.Optional(
      Type.Record(Type.String(), Type.Unknown(), {
        description:
          'as maps, but the map holds these elements and no others (of an array: others are all zero), and members that are left out are 0',
      }),
    ),
    events: Type.Optional(
      Type.Record(Type.String(), Type.Array(Type.Unknown()), {
        description:
          'by ring buffer or array of perf events: what was sent since the step before, in order. Members that are left out may have any value',
      }),
    ),
    trace: Type.Optional(
      Type.Array(Type.String(), { description: 'lines of bpf_trace_printk since the step before, in order' }),
    ),
    pcap: Type.Optional(
      Type.String({
        description:
          'capture, relative to this file, of the packets that are let through (XDP_PASS, XDP_TX, XDP_REDIRECT), in order; --update writes it',
      }),
    ),
    snapshot: Type.Optional(
      Type.String({
        description:
          'file, relative to this one, with the verdict of each packet in a line; --update writes it',
      }),
    ),
  },
  { ...closed, minProperties: 1, description: 'what has to come of it' },
);
export type ExpectSection = Static<typeof ExpectSection>;

const STEP = {
  packet: Type.Optional(PacketSection),
  pcap: Type.Optional(Type.String({ description: 'capture with the packets, relative to this file' })),
  packets: Type.Optional(
    Type.Union([Type.Integer({ minimum: 1 }), Type.String()], {
      description: 'which packets of the capture, counted from 1: 3, or "1-20", or "1,4-6"; all by default',
    }),
  ),
  metadata: Type.Optional(
    Hex(
      `bytes in front of the packet, from data_meta to data: a multiple of 4, ${MAX_METADATA_LENGTH} at most`,
    ),
  ),
  context: Type.Optional(ContextSection),
  time: Type.Optional(
    Type.Integer({
      minimum: 0,
      description: 'what bpf_ktime_get_ns returns; 0 by default, of a capture the time of the packet',
    }),
  ),
  random: Type.Optional(
    // Not a union: an error of each of its members would be told.
    Type.Unsafe<number | readonly number[]>({
      type: ['integer', 'array'],
      minimum: 0,
      maximum: 0xffff_ffff,
      items: { type: 'integer', minimum: 0, maximum: 0xffff_ffff },
      minItems: 1,
      maxItems: MAX_GIVEN_RANDOM,
      description: `what bpf_get_prandom_u32 returns first for a packet, or a list of its first returns (${MAX_GIVEN_RANDOM} at most); each after these follows from the last`,
    }),
  ),
  repeat: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 1_000_000,
      description: 'run each packet so often; its last outcome counts',
    }),
  ),
};

export const StepSection = Type.Object(
  {
    name: Type.Optional(Type.String({ minLength: 1, description: 'how messages call it' })),
    ...STEP,
    maps: Type.Optional(Maps),
    expect: Type.Optional(ExpectSection),
  },
  { ...closed, description: 'what a step does not say, it takes over from its case' },
);
export type StepSection = Static<typeof StepSection>;

export const CaseSection = Type.Object(
  {
    name: Type.String({ minLength: 1, description: 'no two cases of a file have the same' }),
    each: Type.Optional(
      Type.Array(Type.Record(Type.String({ pattern: '^[A-Za-z_]\\w*$' }), Type.Unknown()), {
        minItems: 1,
        description:
          'a table: the case is there once for each row, in which $NAME (or ${NAME}) stands for what the row says under NAME; $$ is a $',
      }),
    ),
    program: Type.Optional(Type.String({ description: 'program or section, if not that of the file' })),
    ...STEP,
    maps: Type.Optional(Maps),
    'max-entries': Type.Optional(MaxEntries),
    steps: Type.Optional(
      Type.Array(StepSection, {
        minItems: 1,
        description:
          'one after the other, on the same maps; what the case itself expects, it expects after the last',
      }),
    ),
    expect: Type.Optional(ExpectSection),
  },
  closed,
);
export type CaseSection = Static<typeof CaseSection>;

export const CaseFileSchema = Type.Object(
  {
    $schema: Type.Optional(Type.String()),
    object: Type.Optional(
      Type.String({ minLength: 1, description: 'ELF object or text (.s), relative to this file' }),
    ),
    type: Type.Optional(
      Type.Literal('xdp', {
        description: 'what programs of the object are whose section does not say it, e.g. section prog',
      }),
    ),
    program: Type.Optional(
      Type.String({
        description: 'program or section of the object; may be left out when there is one XDP program',
      }),
    ),
    cpus: Type.Integer({
      minimum: 1,
      maximum: MAX_CPUS,
      default: 1,
      description: 'CPUs that per-CPU maps have values for',
    }),
    maps: Type.Optional(Maps),
    'max-entries': Type.Optional(MaxEntries),
    'event-types': Type.Optional(
      Type.Record(Type.String(), Type.String(), {
        description: 'struct or typedef of what programs send, by ring buffer or array of perf events',
      }),
    ),
    cases: Type.Array(CaseSection, { minItems: 1 }),
  },
  { ...closed, title: 'xdpbed program test cases', description: 'unit tests of an XDP program' },
);
export type CaseFile = Static<typeof CaseFileSchema>;
