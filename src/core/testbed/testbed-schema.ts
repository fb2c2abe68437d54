import { Type, type Static, type TSchema } from '@sinclair/typebox';
import {
  DEFAULT_COMMAND_MICROSECONDS,
  DEFAULT_VERIFICATION,
  EXCHANGE_KINDS,
  FRAME_SOURCES,
  GUEST_KINDS,
  HOOK_POINTS,
  RING_ACCESSES,
  VIEWS,
  type ViewName,
} from '../contract/plan.js';
import { CHAIN_MODES } from '../contract/policy.js';
import { MAX_GUESTS } from './guest-copies.js';
import { Comparison, emptyVerdictCounts, FATES, HOOK_SITES } from '../contract/result.js';

/**
 * The testbed language. `schemas/testbed.schema.json` is generated from this file, so titles, descriptions,
 * defaults and examples here are what an editor shows. Values that depend on a word elsewhere (a plugin's
 * config, a check's keys) are left open here and checked against the schema that the word selects.
 */

/** A closed set of words. Not a TypeBox union: one `enum` gives one readable error, `anyOf` gives many. */
export function Words<const W extends readonly string[]>(words: W, options: object = {}) {
  return Type.Unsafe<W[number]>({ type: 'string', enum: [...words], ...options });
}

/** What to say when a `pattern` does not match. Read by the validator, ignored by editors. */
const expects = (what: string) => ({ expects: what });

const NAME_PATTERN = '^[a-z][a-z0-9_-]{0,30}$';
const Name = (description: string) =>
  Type.String({
    pattern: NAME_PATTERN,
    description,
    ...expects('a name of a-z, 0-9, - and _, at most 31 characters'),
  });

/** A section whose keys are names that the user chooses. */
function Named<T extends TSchema>(value: T, description: string, options: object = {}) {
  return Type.Unsafe<Record<string, Static<T>>>({
    type: 'object',
    description,
    patternProperties: { [NAME_PATTERN]: value },
    additionalProperties: false,
    ...options,
  });
}

/** CPUs that a host or a guest may have. */
export const MAX_CPUS = 64;

const closed = { additionalProperties: false } as const;

export const MacAddress = Type.String({
  pattern: '^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$',
  description: 'a MAC address',
  examples: ['52:54:00:12:34:01'],
  ...expects('a MAC address such as 52:54:00:12:34:01'),
});

export const PluginUse = Type.Object(
  {
    use: Type.String({
      minLength: 1,
      description:
        'a built-in plugin by name, `./path` of a module, or an npm package (`xdpbed-plugin-<role>-<name>` by its short name, scoped ones in full)',
    }),
    config: Type.Optional(
      Type.Object({}, { additionalProperties: true, description: 'checked by the plugin’s own schema' }),
    ),
  },
  closed,
);
export type PluginUse = Static<typeof PluginUse>;

export const PolicyUse = Type.Object(
  {
    ...PluginUse.properties,
    'dry-run': Type.Boolean({
      default: false,
      description: 'the policy rules, and is recorded as it would have ruled, and denies nothing',
    }),
  },
  closed,
);

/** The same under a key of its own: with a description and a default for that key. */
const Use = (options: object) => Type.Object(PluginUse.properties, { ...closed, ...options });

const VERIFIER_USE = { ...closed, description: 'judges programs before they are loaded' };
export const VERIFIER_RULES = ['all', 'in-turn', 'any', 'first'] as const;
export const VerifierUse = Type.Object(
  {
    use: Type.Optional(PluginUse.properties.use),
    config: PluginUse.properties.config,
    rule: Type.Optional(
      Words(VERIFIER_RULES, {
        default: 'all',
        description:
          'with `of`: every verifier must accept (`all`; `in-turn` asks one only when those before it have accepted), one is enough (`any`), or the first decides and the others are recorded (`first`)',
      }),
    ),
    of: Type.Optional(Type.Array(PluginUse, { minItems: 1, description: 'several verifiers side by side' })),
  },
  VERIFIER_USE,
);
export type VerifierUse = Static<typeof VerifierUse>;

const PresetValue = Type.Unsafe<unknown>({
  description:
    'by the BTF type: a number, an address (`10.0.0.1`, `2001:db8::1`, `02:00:00:00:00:01`), an enumerator, text, a list, or an object by member; `{ bytes: "0a 00 00 01" }`; at any depth `{ ifindex: tap0 }`, `{ mac: guest0.eth0 }`, or `{ index: guest }`, the number of a guest of which there are several (`count`)',
});

/** Elements, or the variables of `.data`, `.rodata` and `.bss`. Not a union: an error of each of its members would be told. */
const MapContent = Type.Unsafe<unknown>({
  type: ['array', 'object'],
  items: {
    type: 'object',
    properties: {
      key: PresetValue,
      value: PresetValue,
      cpus: {
        type: 'object',
        description: 'of a per-CPU map, in place of `value`: values by CPU, of others 0',
        patternProperties: { '^[0-9]+$': PresetValue },
        additionalProperties: false,
      },
    },
    required: ['key'],
    additionalProperties: false,
  },
  description:
    'a list of `{ key, value }`, of per-CPU maps also of `{ key, cpus: { CPU: value } }`; of `.data`, `.rodata` and `.bss` an object by variable; a value in a PROG_ARRAY or a map of maps is the name of a program or map of the object',
});

export const MaxEntries = Type.Record(
  Type.String(),
  Type.Integer({ minimum: 1, maximum: 0xffff_ffff, description: 'entries of the map' }),
  { description: 'entries of maps, where they are to be another number than the object’s, by map name' },
);

export const ProgramSection = Type.Object(
  {
    object: Type.String({
      minLength: 1,
      description: 'ELF object, relative to this file',
      examples: ['programs/xdp1.o'],
    }),
    section: Type.Optional(
      Type.String({
        description: 'section or function name; may be left out when the object holds one XDP program',
        examples: ['xdp'],
      }),
    ),
    type: Type.Optional(
      Type.Literal('xdp', {
        description: 'what programs of the object are whose section does not say it, e.g. section `prog`',
      }),
    ),
    maps: Type.Optional(
      Type.Record(Type.String(), MapContent, {
        description: 'content of the program’s maps before it is attached, by map name',
        examples: [{ counters: [{ key: 0, cpus: { 0: 5 } }], '.rodata': { min_len: 64 } }],
      }),
    ),
    'max-entries': Type.Optional(MaxEntries),
  },
  closed,
);

export const HostSection = Type.Object(
  {
    case: Words(['redirect', 'bridge'], {
      description:
        'how frames get from the NIC to the tap: redirected by the NIC’s XDP program, or through a bridge',
    }),
    hook: Type.Optional(
      Words(HOOK_POINTS, {
        description:
          'where an offloaded program runs; left out, what suits fabric and case. Fabric `model`, in the tap: in the reader’s context, per skb from the stack, or per redirected XDP frame. Fabric `linux`: see docs/linux/hooks.md',
      }),
    ),
    cpus: Type.Integer({
      minimum: 1,
      maximum: MAX_CPUS,
      default: 1,
      description: 'CPUs of the host: values per element of a per-CPU map',
    }),
    nics: Named(
      Type.Object(
        {
          mac: MacAddress,
          program: Type.Optional(Name('native XDP program of the NIC, attached in case `redirect` only')),
        },
        closed,
      ),
      'the host’s NICs; the workload’s frames arrive at the first',
      { minProperties: 1 },
    ),
    taps: Named(
      Type.Object(
        {
          'rx-program': Type.Optional(
            Name(
              'native XDP program in the tap’s Rx path: meets the frames that the guest sends and those that an offloaded program sends back',
            ),
          ),
          ring: Type.Integer({
            minimum: 1,
            maximum: 65536,
            default: 1024,
            description: 'entries of each queue’s ptr_ring',
          }),
        },
        closed,
      ),
      'tap devices, one for each guest nic',
    ),
    bridges: Type.Optional(
      Named(
        Type.Object(
          {
            ports: Type.Array(Name('a NIC, tap or bridge'), {
              minItems: 1,
              description: 'NICs, taps and other bridges',
            }),
          },
          closed,
        ),
        'bridges with MAC learning, used in case `bridge`',
      ),
    ),
    reader: Type.Object(
      {
        kind: Words(['vhost', 'read'], {
          default: 'vhost',
          description: 'vhost takes batches; `read` takes one frame at a time from the tap’s file',
        }),
        batch: Type.Integer({
          minimum: 1,
          maximum: 1024,
          default: 64,
          description: 'frames that vhost takes in one go',
        }),
        polling: Type.Boolean({ default: false, description: 'vhost looks again before it sleeps' }),
        'ring-access': Type.Optional(
          Words(RING_ACCESSES, {
            description:
              'how vhost gets at a tap’s ring: by the tap’s recvmsg, a batch a call, as the RFC changed it (fabric `model`, unless told otherwise), or by itself, as before (fabric `linux`)',
          }),
        ),
      },
      { ...closed, default: {}, description: 'who takes frames from the taps' },
    ),
    verification: Type.Object(
      {
        milliseconds: Type.Integer({
          minimum: 1,
          maximum: 600_000,
          default: DEFAULT_VERIFICATION.milliseconds,
          description:
            'ms of CPU time to judge one program; then it is rejected, whatever the verifier is at, and at the latest after ten times as long by the clock',
        }),
        'memory-mib': Type.Integer({
          minimum: 32,
          maximum: 4096,
          default: DEFAULT_VERIFICATION.memoryMiB,
          description: 'memory that judging one program may take',
        }),
        'at-once': Type.Integer({
          minimum: 1,
          maximum: 64,
          default: DEFAULT_VERIFICATION.atOnce,
          description: 'programs judged at the same time; further ones wait, by turns of the guests',
        }),
        'at-once-per-guest': Type.Integer({
          minimum: 1,
          maximum: 64,
          default: DEFAULT_VERIFICATION.atOncePerGuest,
          description: 'of these, programs of one guest',
        }),
      },
      {
        ...closed,
        default: {},
        description: 'what the host grants to judging the programs that guests offload',
      },
    ),
    'command-microseconds': Type.Number({
      minimum: 0.1,
      maximum: 10_000,
      default: DEFAULT_COMMAND_MICROSECONDS,
      description:
        'µs of the device’s thread that a control command of few bytes takes, where commands take virtual time: while an attack measures what a neighbour waits',
    }),
  },
  { ...closed, description: 'the host and how its parts are wired' },
);

const QueueSize = Type.Unsafe<number>({
  type: 'integer',
  enum: [16, 32, 64, 128, 256, 512, 1024],
  default: 256,
  description: 'descriptors of each virtqueue, a power of two',
});

export const RequestsSection = Type.Object(
  {
    lookup: Type.Optional(
      Type.String({ minLength: 1, description: 'map of the nic’s program whose first element is read' }),
    ),
    load: Type.Optional(Name('program that is sent to the host, in place of the one before')),
    'per-second': Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 100_000,
        description: 'how many are due in a second; left out, each is sent when the one before is answered',
      }),
    ),
    'warm-up': Type.Number({
      minimum: 0,
      maximum: 60,
      default: 0,
      description: 'seconds of requests before, which are neither counted nor timed',
    }),
    seconds: Type.Number({
      minimum: 0,
      maximum: 3600,
      default: 1,
      description: 'for how long, by the machine’s clock; what is under way then is waited for',
    }),
  },
  {
    ...closed,
    description:
      'what the guest keeps asking of the device (`lookup` or `load`), all guests at the same time, before there is traffic',
  },
);
export type RequestsSection = Static<typeof RequestsSection>;

export const GuestNicSection = Type.Object(
  {
    tap: Name('the tap that backs this nic'),
    mac: MacAddress,
    ipv4: Type.String({
      pattern: '^(25[0-5]|2[0-4]\\d|1?\\d?\\d)(\\.(25[0-5]|2[0-4]\\d|1?\\d?\\d)){3}$',
      default: '192.0.2.1',
      description: 'address that workloads send to',
      ...expects('an IPv4 address such as 192.0.2.1'),
    }),
    queues: Type.Integer({ minimum: 1, maximum: 16, default: 1, description: 'queue pairs' }),
    'queue-size': QueueSize,
    features: Type.Array(Type.String({ description: 'a VIRTIO_F_ or VIRTIO_NET_F_ name' }), {
      default: [
        'VIRTIO_F_VERSION_1',
        'VIRTIO_F_INDIRECT_DESC',
        'VIRTIO_F_EVENT_IDX',
        'VIRTIO_NET_F_MAC',
        'VIRTIO_NET_F_CTRL_VQ',
        'VIRTIO_NET_F_XDP_OFFLOAD',
      ],
      description: 'feature bits that the device offers',
      uniqueItems: true,
    }),
    program: Type.Optional(Name('the guest’s XDP program')),
    placement: Words(['guest', 'host'], {
      default: 'guest',
      description: 'where the program runs: in the guest’s driver, or offloaded to the host',
    }),
    hostile: Type.Boolean({
      default: false,
      description:
        'the guest sends its program to the host without verifying it or looking at its helpers first',
    }),
    'driver-helpers': Type.Array(Type.String({ description: '`default`, `any`, or a helper: bpf_…' }), {
      default: ['default'],
      uniqueItems: true,
      description:
        'helpers that the guest’s driver lets an offloaded program call, before the host is asked: `default` stands for those that say nothing about the host, `any` for all. With RFC 2019’s protocol only: a device of the other is asked itself',
      examples: [['default', 'bpf_ktime_get_ns'], ['any']],
    }),
    show: Type.Array(
      Words(Object.keys(VIEWS) as ViewName[], { description: 'as `ip link` or `bpftool` would show it' }),
      {
        default: [],
        uniqueItems: true,
        description: 'what the guest shows of its offload when the traffic is over',
        examples: [['link', 'prog', 'map', 'dump']],
      },
    ),
    requests: Type.Optional(RequestsSection),
    attack: Type.Optional(
      Use({
        description: 'what the guest, which is hostile, does to device and host before there is traffic',
      }),
    ),
  },
  closed,
);

export const MigrationSection = Type.Object(
  {
    'after-frames': Type.Integer({
      minimum: 0,
      description: 'frames of the workload that are sent before the guest is on the other host',
      examples: [500],
    }),
    policies: Type.Array(PolicyUse, {
      default: [],
      description: 'guards of the host that the guest goes to, asked in this order',
    }),
  },
  {
    ...closed,
    description:
      'the guest moves to another host in the midst of the traffic, with all that it has offloaded',
  },
);

export const GuestSection = Type.Object(
  {
    migration: Type.Optional(MigrationSection),
    kind: Type.Optional(
      Words(GUEST_KINDS, {
        description:
          'on a fabric with real guests: a virtual machine, or a process that reads the tap in its stead',
      }),
    ),
    count: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_GUESTS,
        description:
          'stands for as many guests, called after this one and their number from 0: each with taps of its own, called in the same way, and the next MAC and IPv4 address',
        examples: [64],
      }),
    ),
    cpus: Type.Integer({ minimum: 1, maximum: MAX_CPUS, default: 1, description: 'virtual CPUs' }),
    nics: Named(GuestNicSection, 'virtio-net devices', { minProperties: 1 }),
  },
  closed,
);

export const ExchangeSection = Type.Object(
  {
    kind: Words(EXCHANGE_KINDS, {
      description: 'netperf’s UDP_STREAM, TCP_STREAM, UDP_RR or TCP_RR',
    }),
    size: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 65536,
        description:
          'bytes of payload of a message, a write or a request; left out, 1472 (`udp-stream`), 16384 (`tcp-stream`) or 1. A message of UDP fits into one frame: 1472 at most',
      }),
    ),
    streams: Type.Integer({
      minimum: 1,
      maximum: 16,
      default: 1,
      description: 'how many at the same time, each from a port of its own',
    }),
  },
  closed,
);
export type ExchangeSection = Static<typeof ExchangeSection>;

export const MeasureSection = Type.Object(
  {
    seconds: Type.Number({ minimum: 0.05, maximum: 60, default: 1, description: 'of one sample' }),
    samples: Type.Integer({ minimum: 1, maximum: 100, default: 3, description: 'the median counts' }),
    'warm-up': Type.Number({
      minimum: 0,
      maximum: 60,
      default: 0.3,
      description: 'seconds of traffic before the first sample',
    }),
    frames: Words(FRAME_SOURCES, {
      default: 'uniform',
      description:
        'what rates are measured with: equal UDP frames of `size` and `flows`, or those of the workload over and over',
    }),
    rate: Type.Optional(
      Type.Number({
        minimum: 1,
        maximum: 100_000_000,
        description:
          'frames per second that are sent, of all flows together; left out, as many as can be had',
      }),
    ),
    size: Type.Integer({
      minimum: 60,
      maximum: 1514,
      default: 60,
      description: 'bytes of a uniform frame, without FCS',
    }),
    flows: Type.Integer({
      minimum: 1,
      maximum: 32768,
      default: 1,
      description: 'UDP source ports that uniform frames have by turns',
    }),
    nics: Type.Optional(
      Type.Array(Type.String({ description: 'e.g. `guest0.eth0`' }), {
        minItems: 1,
        uniqueItems: true,
        description: 'guest nics with a program that rates are measured of; left out, all of them',
      }),
    ),
    together: Type.Boolean({
      default: false,
      description:
        'all these nics are loaded at the same time, frames for them by turns, and what is theirs in common is shared; otherwise one nic after the other',
    }),
    exchanges: Type.Array(ExchangeSection, {
      default: [],
      maxItems: 32,
      description: 'streams and requests from the wire to the stack of each guest, as netperf measures them',
    }),
  },
  {
    ...closed,
    description:
      'what is measured when the workload is through, where the fabric measures: the rate of frames to each guest nic with a program, and exchanges with each guest nic',
  },
);

/** What an `expect` check can look at. */
export const COUNTERS: readonly string[] = [
  'frames-sent',
  'attachments.refused',
  'audit',
  'control.ok',
  'control.err',
  'rulings.allow',
  'rulings.deny',
  'rulings.would-deny',
  ...Object.keys(FATES).map((fate) => `ends.${fate}`),
  ...HOOK_SITES.flatMap((site) =>
    Object.keys(emptyVerdictCounts()).map((verdict) => `verdicts.${site}.${verdict}`),
  ),
  'verification.programs',
  'verification.out-of-time',
  'verification.out-of-memory',
  'verification.cancelled',
  'verifier.accepted',
  'verifier.rejected',
  'migrations.moved',
  'migrations.stayed',
];

/** What a number is to be. An integer that a double does not hold exactly, beyond 2^53, comes as its text. */
const Demand = (description: string, options: object = {}) =>
  Type.Unsafe<number | string>({
    type: ['integer', 'string'],
    pattern: '^(-?[0-9]{1,40}|0x[0-9a-fA-F]{1,32})$',
    description,
    ...expects('an integer'),
    ...options,
  });

const WHY = Type.Optional(
  Type.String({
    minLength: 1,
    maxLength: 500,
    description: 'printed when the check fails: why it must hold',
  }),
);

/** Checks by kind. Each demands something of the finished runs. */
export const CHECKS = {
  conservation: Type.Object(
    { kind: Type.Literal('conservation'), why: WHY },
    {
      ...closed,
      description: 'every frame sent, and every copy made by flooding, ended in exactly one place',
    },
  ),
  'same-across': Type.Object(
    {
      kind: Type.Literal('same-across'),
      why: WHY,
      axis: Type.String({ description: 'axis of the matrix along which results are compared' }),
      compare: Type.Array(Words(['verdicts', 'maps']), {
        default: ['verdicts', 'maps'],
        minItems: 1,
        description:
          'what must be equal: the verdicts of the guests’ programs, and the content of their maps, of per-CPU maps the sum of integers over all CPUs and which other values occur',
      }),
    },
    { ...closed, description: 'runs that differ only on this axis give the same verdicts and map content' },
  ),
  'offload-shields-guest': Type.Object(
    { kind: Type.Literal('offload-shields-guest'), why: WHY },
    {
      ...closed,
      description: 'frames that an offloaded program did not pass never reach the guest’s virtqueue',
    },
  ),
  expect: Type.Object(
    {
      kind: Type.Literal('expect'),
      why: WHY,
      where: Type.Optional(
        Type.Record(Type.String(), Type.String(), { description: 'only runs with these variants, by axis' }),
      ),
      value: Type.Optional(
        Words(COUNTERS, {
          description:
            'the counter that is looked at: `ends.<fate>`, `verdicts.<site>.<XDP_…>`, `control.ok`, `control.err`, `rulings.allow`, `rulings.deny`, `rulings.would-deny` (in a dry run), `audit`, `attachments.refused`, `frames-sent`; `verifier.accepted` and `verifier.rejected` are offloaded programs that the host’s verifier took and those that it refused; `verification.<…>` of runs with requests',
          examples: ['ends.transmitted', 'verdicts.offload.XDP_TX', 'control.err'],
        }),
      ),
      map: Type.Optional(
        Type.String({
          minLength: 1,
          description:
            'in place of `value`: a number in this map of the guests’ programs, by its name in the object file; of several nics, the sum. An element that is not there counts 0',
          examples: ['rxcnt', '.bss'],
        }),
      ),
      key: Type.Optional(
        Type.Unsafe<unknown>({
          description:
            'with `map`: the key of the element, written by its BTF type as in map presets, but without names of interfaces; maps of global variables (`.bss`, `.data`) need none',
          examples: [17, '10.0.0.1', { bytes: '0a 00 00 01' }],
        }),
      ),
      member: Type.Optional(
        Type.String({
          pattern: '^(\\[[0-9]+\\]|[A-Za-z_][A-Za-z0-9_]*)(\\[[0-9]+\\]|\\.[A-Za-z_][A-Za-z0-9_]*)*$',
          maxLength: 200,
          description: 'with `map`: the member of the value, or the global variable, that is the number',
          examples: ['packets', 'rx.bytes', 'hits[2]'],
          ...expects('a member such as packets, rx.bytes or hits[2]'),
        }),
      ),
      cpu: Type.Optional(
        Type.Integer({
          minimum: 0,
          description: 'with a `map` per CPU: the value of this CPU; else it is the sum over all CPUs',
        }),
      ),
      code: Type.Optional(
        Type.String({
          minLength: 1,
          description: 'with `verifier.rejected`: only programs that were rejected with this code',
          examples: ['out-of-time', 'program-too-long'],
        }),
      ),
      guest: Type.Optional(Name('only what this guest did, or was done to it')),
      nic: Type.Optional(Name('only what was with this nic, of all guests or of `guest`')),
      policy: Type.Optional(
        Type.String({ description: 'with `rulings.…`: only those of this policy', examples: ['quota'] }),
      ),
      operation: Type.Optional(
        Type.String({
          description: 'with `rulings.…`: only those on this operation',
          examples: ['map-create', 'program-load'],
        }),
      ),
      equals: Type.Optional(Demand('the value it must have in each of those runs')),
      'at-least': Type.Optional(Demand('it must be no less')),
      'at-most': Type.Optional(Demand('it must be no more')),
      between: Type.Optional(
        Type.Array(Demand('an end of the range'), {
          minItems: 2,
          maxItems: 2,
          description: 'it must be one of these two, or between them',
          examples: [[90, 110]],
        }),
      ),
    },
    {
      ...closed,
      description:
        'a counter (`value`), or a number in a map (`map`), is this; exactly one of `equals`, `at-least`, `at-most` and `between` says which',
    },
  ),
  'near-reference': Type.Object(
    {
      kind: Type.Literal('near-reference'),
      why: WHY,
      within: Type.Number({ exclusiveMinimum: 0, default: 5, description: 'per cent of each figure' }),
      ordered: Type.Boolean({
        default: true,
        description: 'of every two runs the one that is faster in the reference is faster',
      }),
      fabric: Type.Optional(Name('only runs on this fabric are looked at')),
    },
    {
      ...closed,
      description: 'rates of the runs are those of `comparison.reference.mpps`, where it has some',
    },
  ),
  'near-change': Type.Object(
    {
      kind: Type.Literal('near-change'),
      why: WHY,
      axis: Type.String({ description: 'axis of the matrix along which exchanges change' }),
      baseline: Type.String({ description: 'the variant that the others are compared with' }),
      within: Type.Number({
        exclusiveMinimum: 0,
        default: 1.5,
        description: 'percentage points that a change may be off by',
      }),
      fabric: Type.Optional(Name('only runs on this fabric are looked at')),
    },
    {
      ...closed,
      description:
        'exchanges change along the axis by as many per cent as those of `comparison.reference.exchanges`',
    },
  ),
  outpaces: Type.Object(
    {
      kind: Type.Literal('outpaces'),
      why: WHY,
      axis: Type.String({ description: 'axis of the matrix on which runs are compared' }),
      variant: Type.String({ description: 'the variant that has to be faster' }),
      baseline: Type.String({ description: 'than this one' }),
      'at-least-times': Type.Number({ exclusiveMinimum: 0, default: 1, description: 'by how many times' }),
      where: Type.Optional(
        Type.Record(Type.String(), Type.String(), { description: 'only runs with these variants, by axis' }),
      ),
    },
    { ...closed, description: 'runs of one variant have a higher rate than those that differ only in it' },
  ),
  'requests-undisturbed': Type.Object(
    {
      kind: Type.Literal('requests-undisturbed'),
      why: WHY,
      node: Type.String({ description: 'the nic that asks, e.g. `guest0.eth0`' }),
      axis: Type.String({ description: 'axis of the matrix on which others disturb it' }),
      baseline: Type.String({ description: 'variant of the axis in which nobody does' }),
      percentile: Words(['p50', 'p90', 'p99', 'max'], { default: 'p99', description: 'of the latencies' }),
      'at-most-times': Type.Number({
        exclusiveMinimum: 0,
        default: 2,
        description: 'how many times as long as in the baseline it may take',
      }),
    },
    {
      ...closed,
      description: 'a guest’s requests take about as long as when it is alone',
    },
  ),
  attacks: Type.Object(
    {
      kind: Type.Literal('attacks'),
      why: WHY,
      where: Type.Optional(
        Type.Record(Type.String(), Type.String(), { description: 'only runs with these variants, by axis' }),
      ),
      expect: Words(['fail', 'succeed'], {
        default: 'fail',
        description:
          '`fail`: everything held that must hold; `succeed`: something that the attack goes for did not, as on a device that is meant to be weak',
      }),
    },
    { ...closed, description: 'attacks of hostile guests fail, or succeed' },
  ),
} as const;
export type CheckKind = keyof typeof CHECKS;
export type CheckSection = { [K in CheckKind]: Static<(typeof CHECKS)[K]> }[CheckKind];

export const TestbedSchema = Type.Object(
  {
    $schema: Type.Optional(Type.String({ description: 'for editors' })),
    version: Type.Literal(1, { description: 'version of the testbed language' }),
    name: Name('name of the testbed'),
    description: Type.Optional(Type.String()),
    seed: Type.Integer({
      minimum: 0,
      maximum: Number.MAX_SAFE_INTEGER,
      default: 1,
      description: 'everything random in a run is drawn from it',
    }),
    plugins: Type.Object(
      {
        fabric: Use({ default: { use: 'model' }, description: 'builds guests, devices and links' }),
        transport: Use({
          default: { use: 'virtqueue' },
          description:
            'carries control commands and their answers between driver and device; frames travel apart from it',
        }),
        device: Use({
          default: { use: 'guarded' },
          description: 'answers the guests’ control commands on the host',
        }),
        verifier: Type.Object(VerifierUse.properties, { ...VERIFIER_USE, default: { use: 'abstract' } }),
        executor: Use({ default: { use: 'interpreter' }, description: 'runs programs on packets' }),
        'map-backend': Use({ default: { use: 'memory' }, description: 'creates and serves maps' }),
        reporter: Use({
          default: { use: 'table' },
          description: 'renders the result unless `--format` says otherwise',
        }),
      },
      { ...closed, default: {}, description: 'which plugin does the work of each role' },
    ),
    policies: Type.Array(PolicyUse, {
      default: [],
      description: 'guards of the host, asked in this order',
    }),
    'policy-chain': Words(CHAIN_MODES, {
      default: 'all-report',
      description:
        'how the policies are asked: every one rules on every request (`all-report`), or none any more after the first that denies (`first-deny`)',
    }),
    workload: Use({ default: { use: 'udp-flood' }, description: 'the traffic to send' }),
    measure: Type.Optional(MeasureSection),
    comparison: Type.Optional(Comparison),
    programs: Named(ProgramSection, 'XDP programs by name', { default: {} }),
    host: HostSection,
    guests: Named(GuestSection, 'guests by name', { minProperties: 1 }),
    matrix: Type.Optional(
      Type.Unsafe<Record<string, Record<string, Record<string, unknown>>>>({
        type: 'object',
        description:
          'axes; each variant of an axis sets values at paths of this file, and one run is made for each combination',
        examples: [{ case: { redirect: { 'host.case': 'redirect' }, bridge: { 'host.case': 'bridge' } } }],
        minProperties: 1,
        patternProperties: {
          [NAME_PATTERN]: {
            type: 'object',
            minProperties: 1,
            patternProperties: {
              '^[A-Za-z0-9][A-Za-z0-9_.-]{0,30}$': {
                type: 'object',
                description: 'values by path, e.g. `host.case: bridge`',
              },
            },
            additionalProperties: false,
          },
        },
        additionalProperties: false,
      }),
    ),
    checks: Type.Array(
      Type.Object(
        { kind: Words(Object.keys(CHECKS) as CheckKind[], { description: 'what is demanded' }) },
        { additionalProperties: true },
      ),
      { default: [], description: 'what must hold when all runs are done' },
    ),
  },
  {
    ...closed,
    title: 'xdpbed testbed',
    description: 'guests, QEMU devices and host, how they are wired, and what to try with them',
  },
);
export type Testbed = Static<typeof TestbedSchema>;
