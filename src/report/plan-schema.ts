import { Type, type Static, type TSchema } from '@sinclair/typebox';
import {
  EXCHANGE_KINDS,
  FRAME_SOURCES,
  GUEST_KINDS,
  HOOK_POINTS,
  RING_ACCESSES,
  VIEWS,
  type ViewName,
} from '../core/contract/plan.js';
import { CHAIN_MODES } from '../core/contract/policy.js';
import { CHECKS, VERIFIER_RULES } from '../core/testbed/testbed-schema.js';
import { closed, Count, Decimal, MAP_ENTRY, Words } from './schema-parts.js';

const Amount = (description: string) => Type.Number({ minimum: 0, description });
const Text = (description: string) => Type.String({ description });
const ByName = <T extends TSchema>(value: T, description: string) =>
  Type.Record(Type.String(), value, { description });
const Mac = Type.String({ pattern: '^([0-9a-f]{2}:){5}[0-9a-f]{2}$', description: 'its MAC address' });
const Ifindex = (description: string) => Type.Integer({ minimum: 1, description });
const Name = Text('in the testbed');
const ProgramName = (description: string) => Type.Optional(Text(`name of a program; ${description}`));

const Host = Type.Object(
  {
    case: Words(['redirect', 'bridge'], 'how frames get from the NIC to the tap'),
    hook: Words(HOOK_POINTS, 'where offloaded programs run, docs/linux/hooks.md'),
    cpus: Count('CPUs of the host'),
    nics: Type.Array(
      Type.Object(
        {
          name: Name,
          ifindex: Ifindex('its number on the host'),
          mac: Mac,
          program: ProgramName('its native XDP'),
        },
        closed,
      ),
      { description: 'the workload’s frames arrive at the first' },
    ),
    taps: Type.Array(
      Type.Object(
        {
          name: Name,
          ifindex: Ifindex('its number on the host'),
          rxProgram: ProgramName('native XDP in the tap’s Rx path, on what the guest sends'),
          ring: Count('entries of each queue’s ptr_ring'),
        },
        closed,
      ),
      { description: 'one for each guest nic' },
    ),
    bridges: Type.Array(
      Type.Object(
        { name: Name, ports: Type.Array(Text('a NIC, tap or bridge'), { description: 'what it connects' }) },
        closed,
      ),
      { description: 'that are up: none in case `redirect`' },
    ),
    reader: Type.Object(
      {
        kind: Words(['vhost', 'read'], 'vhost, or a plain read of the tap’s file'),
        batch: Count('frames that vhost takes in one go'),
        polling: Type.Boolean({ description: 'vhost looks again before it sleeps' }),
        ringAccess: Words(RING_ACCESSES, 'how vhost takes frames out of a tap’s ring'),
      },
      { ...closed, description: 'who takes frames from the taps' },
    ),
    verification: Type.Object(
      {
        milliseconds: Count('ms of CPU time to judge one program'),
        memoryMiB: Count('MiB that judging one program may take'),
        atOnce: Count('programs judged at the same time, of all guests'),
        atOncePerGuest: Count('of these, programs of one guest'),
      },
      { ...closed, description: 'what the host grants to judging guests’ programs' },
    ),
    commandMicroseconds: Amount('µs of the device’s thread that a control command takes, in virtual time'),
  },
  { ...closed, description: 'the host and how it is wired' },
);

const Requests = Type.Object(
  {
    kind: Words(['lookup', 'load'], '`lookup`: a map’s first element; `load`: a program, again and again'),
    name: Text('of the map in the object, or of the program in the testbed'),
    perSecond: Type.Optional(
      Amount('that are due in a second; absent: each when the one before is answered'),
    ),
    warmUp: Amount('s of requests that are not counted'),
    seconds: Amount('s of requests that are'),
  },
  { ...closed, description: 'what the guest keeps asking of the device before there is traffic' },
);

const GuestNic = Type.Object(
  {
    name: Name,
    ifindex: Ifindex('its number in the guest'),
    mac: Mac,
    ipv4: Text('dotted; address that workloads send to'),
    tap: Text('the tap that backs it'),
    queues: Count('queue pairs'),
    queueSize: Count('descriptors of each virtqueue'),
    features: Type.Array(Type.String(), { description: 'that the device offers: VIRTIO_…' }),
    program: ProgramName('the guest’s'),
    placement: Words(['guest', 'host'], 'where the program runs: in the guest’s driver, or offloaded'),
    hostile: Type.Boolean({ description: 'the guest sends programs unverified' }),
    driverHelpers: Type.Optional(
      Type.Array(Type.String(), {
        description: 'helpers that the guest’s driver lets be offloaded; also `default` and `any`',
      }),
    ),
    show: Type.Optional(
      Type.Array(Words(Object.keys(VIEWS) as ViewName[], 'as `ip link` or `bpftool` show it'), {
        description: 'what the guest shows of its offload when the traffic is over',
      }),
    ),
    requests: Type.Optional(Requests),
  },
  closed,
);

const Guest = Type.Object(
  {
    name: Name,
    kind: Type.Optional(Words(GUEST_KINDS, 'where guests are real: what plays it')),
    cpus: Count('virtual CPUs'),
    nics: Type.Array(GuestNic, { description: 'virtio-net devices' }),
  },
  closed,
);

const Measure = Type.Object(
  {
    seconds: Amount('s of one sample'),
    samples: Count('the median counts'),
    warmUp: Amount('s of traffic before the first sample'),
    frames: Words(FRAME_SOURCES, 'equal UDP frames, or those of the workload over and over'),
    rate: Type.Optional(Amount('frames per second, of all flows together; absent: as many as can be had')),
    size: Count('bytes of a uniform frame, without FCS'),
    flows: Count('UDP source ports that uniform frames have by turns'),
    nics: Type.Optional(
      Type.Array(Type.String(), { description: 'whose rate is measured, as `guest0.eth0`; absent: all' }),
    ),
    together: Type.Boolean({ description: 'all these nics are loaded at the same time' }),
    exchanges: Type.Array(
      Type.Object(
        {
          kind: Words(EXCHANGE_KINDS, 'netperf’s UDP_STREAM, TCP_STREAM, UDP_RR, TCP_RR'),
          size: Count('bytes of payload of a message, a write or a request'),
          streams: Count('how many at the same time'),
        },
        closed,
      ),
      { description: 'with the stack of each guest, one after the other' },
    ),
  },
  { ...closed, description: 'what is measured when the workload is through; absent: nothing' },
);

const Program = Type.Object(
  {
    name: Name,
    object: Text('file, relative to the testbed’s'),
    function: Text('name of the function in the object'),
    type: Type.Optional(
      Type.Literal('xdp', { description: 'what programs of the object are whose section does not say it' }),
    ),
    maxEntries: Type.Optional(
      ByName(Count('elements; of a ring buffer, bytes'), 'by map, where they are not the object’s'),
    ),
    presets: ByName(
      Type.Array(Type.Object(MAP_ENTRY, closed)),
      'elements that are placed in maps before the program is attached, by map',
    ),
    sha256: Type.String({ pattern: '^[0-9a-f]{64}$', description: 'hex; of the object’s bytes' }),
  },
  closed,
);

const USE = {
  use: Text('built-in name, path of a module, or package, as the testbed has it'),
  config: Type.Optional(Type.Unknown({ description: 'with the defaults of the plugin’s own schema' })),
};
const Use = (description: string) => Type.Object(USE, { ...closed, description });
const Policies = (description: string) =>
  Type.Array(
    Type.Object(
      {
        ...USE,
        'dry-run': Type.Optional(
          Type.Literal(true, { description: 'it is recorded how it would rule, and it denies nothing' }),
        ),
      },
      closed,
    ),
    { description },
  );
const PARTY = {
  verifier: Type.Object(
    {
      rule: Words(VERIFIER_RULES, 'which of several must accept'),
      of: Type.Array(Use('a verifier'), {
        description: 'one or several, in the order in which they are asked',
      }),
    },
    { ...closed, description: 'judges programs before they are loaded' },
  ),
  executor: Use('runs programs on packets'),
  'map-backend': Use('creates and serves maps'),
};
const Plugins = Type.Object(
  {
    fabric: Use('builds guests, devices and links'),
    transport: Use('carries control commands between driver and device'),
    device: Use('answers the guests’ control commands'),
    ...PARTY,
    host: Type.Optional(
      Type.Object(PARTY, { ...closed, description: 'the host’s own, on a fabric that has such' }),
    ),
  },
  { ...closed, description: 'which plugin does the work of each role' },
);

const Run = Type.Object(
  {
    id: Text('variants joined by `/`; `default` without a matrix'),
    axes: ByName(Text('the variant'), 'of the matrix'),
    host: Host,
    guests: Type.Array(Guest, { description: 'in the order of the testbed' }),
    measure: Type.Optional(Measure),
    programs: Type.Array(Program, { description: 'that the run attaches or sends' }),
    plugins: Plugins,
    policies: Policies('guards of the host, in the order in which they are asked'),
    'policy-chain': Words(CHAIN_MODES, 'whether policies behind one that denies are asked'),
    workload: Use('the traffic to send'),
    attacks: Type.Optional(
      Type.Array(
        Type.Object({ guest: Text('which is hostile'), nic: Text('by which it attacks'), ...USE }, closed),
        { description: 'before there is traffic' },
      ),
    ),
    migrations: Type.Optional(
      Type.Array(
        Type.Object(
          {
            guest: Text('which goes to another host'),
            'after-frames': Count('frames of the workload that are sent before'),
            policies: Policies('of the host that it goes to'),
          },
          closed,
        ),
        { description: 'in the midst of the traffic' },
      ),
    ),
  },
  closed,
);

/** What `plan` prints. */
export const PlanDocument = Type.Object(
  {
    schema: Type.Literal('xdpbed.plan/1'),
    testbed: Text('its name'),
    seed: Decimal('everything random is drawn from it'),
    runs: Type.Array(Run, { description: 'in the order in which they are carried out' }),
    checks: Type.Array(Type.Union(Object.values(CHECKS) as TSchema[]), {
      description: 'what must hold when all runs are done, as the testbed has it, with defaults',
    }),
  },
  { ...closed, $id: 'urn:xdpbed:schemas:plan.schema.json', title: 'xdpbed plan' },
);
export type PlanDocument = Static<typeof PlanDocument>;
