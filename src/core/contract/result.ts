import { Type, type Static } from '@sinclair/typebox';
import { RateExplanation } from './explanation.js';
import { EXCHANGE_KINDS } from './plan.js';
import { MAX_BREACHES } from './policy.js';

/**
 * What a run of a testbed yields: the document that reporters render and `--format json` prints. Defined as
 * TypeBox so that `schemas/result.schema.json` cannot drift from it. The same testbed and seed give the same
 * bytes where the fabric's time is virtual: nothing then depends on the machine's clock but `requests` and `verification`,
 * which only runs with requests have, and what is said of a program that took too long to judge; and on another fabric the
 * times of records and loads.
 *
 * A version stays while fields are only added, each absent or with one meaning in the documents from before; a field that goes
 * or comes to mean something else makes the next.
 */
export const RESULT_SCHEMA_VERSION = 'xdpbed.result/1';

const Count = (description: string) => Type.Integer({ minimum: 0, description });

export const VerdictCounts = Type.Object(
  {
    XDP_ABORTED: Count('faults and unknown verdicts'),
    XDP_DROP: Count('frames dropped'),
    XDP_PASS: Count('frames passed on'),
    XDP_TX: Count('frames sent back'),
    XDP_REDIRECT: Count('frames redirected'),
  },
  { additionalProperties: false, description: 'how often each verdict was returned' },
);
export type VerdictCounts = Static<typeof VerdictCounts>;

/** Where XDP programs run. */
export const HOOK_SITES = ['host-nic', 'offload', 'tap-rx', 'guest-driver'] as const;

export const HookResult = Type.Object(
  {
    site: Type.Union(
      HOOK_SITES.map((site) => Type.Literal(site)),
      { description: 'which kind of hook the program ran at' },
    ),
    node: Type.String({ description: 'the interface, e.g. `host.eth0`, `host.tap0`, `guest0.eth0`' }),
    program: Type.String({ description: 'name in the testbed' }),
    frames: Count('frames the program ran on'),
    verdicts: VerdictCounts,
  },
  { additionalProperties: false },
);
export type HookResult = Static<typeof HookResult>;

/** What can become of a frame. Every frame and every copy made by flooding ends in exactly one. */
export const FATES = {
  'xdp-drop': 'dropped by a program (XDP_DROP)',
  'xdp-aborted': 'dropped because a program aborted',
  'redirect-failed': 'XDP_REDIRECT to a target that does not exist or cannot take it',
  'guest-stack': 'received by the guest’s network stack',
  'host-stack': 'received by the host’s network stack',
  transmitted: 'sent out on the wire',
  'nic-ring-full': 'lost on the wire because the host’s NIC had no room',
  'cpu-queue-full': 'dropped because the queue to another CPU was full',
  'ring-full': 'dropped because the tap’s ptr_ring was full',
  'device-filtered': 'dropped by the device: not for an address that the guest listens to',
  'no-receive-buffer': 'dropped because the guest offered no receive buffer',
  'transmit-queue-full': 'dropped because the guest’s transmit queue was full',
  'bridge-filtered': 'dropped by the bridge: the destination is behind the port it came from',
  'link-broken': 'dropped because the link to the guest is broken',
  'frame-too-long':
    'dropped because it was longer than what comes next takes: one page before a program without xdp.frags',
  'hop-limit':
    'dropped because it crossed more hooks, or was copied more often, than the limit: a forwarding loop',
} as const;
export type Fate = keyof typeof FATES;

export const EndResult = Type.Object(
  {
    place: Type.String({ description: 'where the frame ended, e.g. `guest0.eth0`' }),
    fate: Type.Union(
      (Object.keys(FATES) as Fate[]).map((fate) => Type.Literal(fate, { description: FATES[fate] })),
      { description: 'what became of it' },
    ),
    frames: Count('number of frames'),
  },
  { additionalProperties: false },
);
export type EndResult = Static<typeof EndResult>;

export const MapResult = Type.Object(
  {
    guest: Type.String(),
    nic: Type.String(),
    name: Type.String({ description: 'name of the map in the object file' }),
    type: Type.String({ description: 'BPF_MAP_TYPE_…' }),
    readFrom: Type.Union([Type.Literal('guest-kernel'), Type.Literal('device')], {
      description: 'where the guest read the content: in its own kernel, or over the control virtqueue',
    }),
    entries: Type.Array(
      Type.Object(
        {
          key: Type.String({ description: 'hex bytes' }),
          value: Type.String({ description: 'hex bytes' }),
        },
        { additionalProperties: false },
      ),
      { description: 'elements whose value is not all zero bytes, in key order' },
    ),
    records: Type.Optional(
      Type.Array(
        Type.Object(
          {
            cpu: Type.Integer({ minimum: 0, description: 'where it was written' }),
            data: Type.String({ description: 'hex bytes' }),
            lost: Count('records before it that there was no room for'),
          },
          { additionalProperties: false },
        ),
        { description: 'of a ring buffer or an array of perf events: what programs wrote, oldest first' },
      ),
    ),
    unreadable: Type.Optional(
      Type.String({ description: 'why the entries are missing or not all: a ring buffer, say, has no keys' }),
    ),
  },
  { additionalProperties: false },
);
export type MapResult = Static<typeof MapResult>;

export const ControlResult = Type.Object(
  {
    guest: Type.String(),
    nic: Type.String(),
    commands: Type.Record(Type.String(), Count('how often'), {
      description: 'control commands by name, e.g. `EBPF_MAP/CREATE_MAP`',
    }),
    acks: Type.Object(
      { ok: Count('VIRTIO_NET_OK'), err: Count('VIRTIO_NET_ERR') },
      { additionalProperties: false },
    ),
  },
  { additionalProperties: false },
);
export type ControlResult = Static<typeof ControlResult>;

const Picoseconds = (description: string) =>
  Type.Integer({ minimum: 0, description: `ps on the run’s clock; ${description}` });
const RequestNumber = (description: string) =>
  Type.Integer({ minimum: 1, description: `number of the command on its nic, from 1${description}` });

const Extent = (description: string) =>
  Type.Optional(Type.Union([Type.Number(), Type.Array(Type.String())], { description }));

export const BreachRecord = Type.Object(
  {
    rule: Type.String({ description: 'stable name of the rule, e.g. `per-guest.maps`' }),
    limit: Extent('the most that it allows, or the words; absent where they are many'),
    asked: Extent('what was asked for, or the words that are not allowed; absent where nothing bounds it'),
    held: Type.Optional(
      Type.Number({ description: 'what there was before, where `asked` comes on top of it' }),
    ),
    path: Type.Optional(
      Type.String({
        description:
          'where the testbed sets it, or would, e.g. `policies.1.config.per-guest.maps`: a path for `--set`',
      }),
    ),
  },
  { additionalProperties: false, description: 'a rule that a request broke' },
);
export type BreachRecord = Static<typeof BreachRecord>;

export const RulingRecord = Type.Object(
  {
    request: RequestNumber('; of several that are counted, the first'),
    time: Picoseconds('when the request came'),
    guest: Type.String(),
    nic: Type.String(),
    operation: Type.String({ description: 'what the guest asked for, e.g. `map-create`' }),
    policy: Type.String({ description: 'which policy ruled' }),
    ruling: Type.Union([Type.Literal('allow'), Type.Literal('deny')]),
    dryRun: Type.Optional(
      Type.Literal(true, { description: 'the policy only says how it would rule: its deny denied nothing' }),
    ),
    reason: Type.String(),
    breaches: Type.Optional(
      Type.Array(BreachRecord, {
        minItems: 1,
        maxItems: MAX_BREACHES,
        description: 'of a deny: the rules in the way, those of the first request where several are counted',
      }),
    ),
    count: Count('equal rulings in a row are counted, not repeated; numbers in breaches may differ'),
  },
  { additionalProperties: false },
);
export type RulingRecord = Static<typeof RulingRecord>;

export const AuditRecord = Type.Object(
  {
    request: Type.Optional(RequestNumber('; absent where it was none')),
    time: Picoseconds('when it was recorded'),
    guest: Type.String(),
    nic: Type.String(),
    command: Type.String(),
    outcome: Type.Union([Type.Literal('error-ack'), Type.Literal('violation')]),
    reason: Type.String({ description: 'why the device said no: malformed, denied, rejected, failed' }),
    code: Type.Optional(Type.String({ description: 'the verifier’s code for a rejection' })),
  },
  { additionalProperties: false },
);
export type AuditRecord = Static<typeof AuditRecord>;

export const AttachmentResult = Type.Object(
  {
    node: Type.String({ description: 'the interface, e.g. `guest0.eth0`' }),
    program: Type.String({ description: 'name in the testbed' }),
    placement: Type.Union([Type.Literal('guest'), Type.Literal('host')]),
    attached: Type.Boolean(),
    reason: Type.Optional(Type.String({ description: 'what the guest was told when it was not attached' })),
  },
  { additionalProperties: false },
);
export type AttachmentResult = Static<typeof AttachmentResult>;

export const LinkResult = Type.Object(
  {
    guest: Type.String(),
    nic: Type.String(),
    framesToGuest: Count('frames put into the guest’s receive virtqueues'),
    framesFromGuest: Count('frames taken from the guest’s transmit virtqueues'),
    kicks: Count('notifications by the driver'),
    interrupts: Count('notifications by the device'),
    suppressedNotifications: Count('notifications the other side had asked not to get'),
    violations: Count('broken rules of the transport'),
  },
  { additionalProperties: false },
);
export type LinkResult = Static<typeof LinkResult>;

const Microseconds = (description: string) => Type.Number({ minimum: 0, description: `µs; ${description}` });

const Latency = (what: string, description: string) =>
  Type.Object(
    {
      p50: Microseconds(`half of the ${what} took no longer`),
      p90: Microseconds('nine of ten'),
      p99: Microseconds('99 of 100'),
      max: Microseconds('the longest'),
    },
    { additionalProperties: false, description },
  );

export const OffloadedProgram = Type.Object(
  {
    name: Type.Optional(
      Type.String({
        description: 'in the testbed: what the guest was to offload. The host knows only its tag',
      }),
    ),
    tag: Type.String({
      pattern: '^[0-9a-f]{16}$',
      description: 'what names it by its insns, as `bpftool prog show` does with kernels up to 6.17 (SHA-1)',
    }),
    insns: Count('its length in 8-byte slots, as the guest sent it'),
    loaded: Picoseconds('when it was loaded'),
    executor: Type.String({ description: 'what runs it' }),
    verdicts: VerdictCounts,
  },
  { additionalProperties: false, description: 'the program in front of the guest' },
);
export type OffloadedProgram = Static<typeof OffloadedProgram>;

export const OffloadedMap = Type.Object(
  {
    type: Type.String({ description: 'BPF_MAP_TYPE_…' }),
    keySize: Count('bytes'),
    valueSize: Count('bytes'),
    maxEntries: Count('elements; of a ring buffer, bytes'),
    flags: Count('BPF_F_… bits'),
    memory: Count('bytes of the host that it takes and is charged for'),
    used: Type.Boolean({ description: 'a program uses it' }),
  },
  { additionalProperties: false },
);
export type OffloadedMap = Static<typeof OffloadedMap>;

export const OffloadResult = Type.Object(
  {
    tap: Type.String({ description: 'the tap in whose path the program runs' }),
    guest: Type.String({ description: 'whose it is' }),
    nic: Type.String({ description: 'of the guest, that the tap backs' }),
    features: Type.Array(Type.String(), { description: 'virtio features that driver and device negotiated' }),
    capabilities: Type.Object(
      {
        word: Type.String({ pattern: '^0x[0-9a-f]{8}$', description: 'bits, as TUNGETFEATURES has them' }),
        names: Type.Array(Type.String(), { description: 'of the bits that are set, lowest first' }),
      },
      { additionalProperties: false, description: 'what the tap can do for the guest' },
    ),
    program: Type.Optional(OffloadedProgram),
    maps: Type.Array(OffloadedMap, { description: 'oldest first' }),
    mapMemory: Count('bytes of the host that these maps take'),
  },
  { additionalProperties: false, description: 'what the host holds at one tap on behalf of a guest' },
);
export type OffloadResult = Static<typeof OffloadResult>;

export const RequestsResult = Type.Object(
  {
    node: Type.String({ description: 'the nic that asked, e.g. `guest0.eth0`' }),
    request: Type.Union([Type.Literal('lookup'), Type.Literal('load')]),
    name: Type.String({ description: 'of the map that was read, or the program that was sent' }),
    sent: Count('requests'),
    refused: Count('of these, those that were refused'),
    refusal: Type.Optional(Type.String({ description: 'the reason given most often' })),
    latency: Type.Optional(
      Latency('requests', 'from when a request was due to its answer, by the machine’s clock'),
    ),
  },
  { additionalProperties: false },
);
export type RequestsResult = Static<typeof RequestsResult>;

const PerSecond = (description: string) =>
  Type.Number({ minimum: 0, description: `frames per second; ${description}` });

export const RateResult = Type.Object(
  {
    node: Type.String({ description: 'the guest nic that the frames were for, e.g. `guest0.eth0`' }),
    program: Type.Optional(Type.String({ description: 'the guest’s program, by its name in the testbed' })),
    placement: Type.Union([Type.Literal('guest'), Type.Literal('host')], {
      description: 'where the program ran',
    }),
    hook: Type.String({ description: 'by which hook frames met an offloaded program' }),
    guest: Type.String({ description: 'what played the guest, e.g. `tap-reader in C`' }),
    size: Type.Number({
      minimum: 0,
      description: 'bytes of a frame, without FCS; of different ones, the mean',
    }),
    flows: Type.Optional(
      Type.Integer({
        minimum: 1,
        description: 'UDP source ports by turns; absent with the workload’s frames',
      }),
    ),
    workloadFrames: Type.Optional(
      Type.Integer({
        minimum: 1,
        description:
          'frames of the workload, those for the nic or for a group, that were sent over and over; absent with equal frames',
      }),
    ),
    seconds: Type.Number({ description: 'of one sample' }),
    rate: Type.Optional(PerSecond('that were to be sent; absent: as many as could be had')),
    framesPerSecond: Type.Object(
      { median: PerSecond('of the samples'), min: PerSecond('the lowest'), max: PerSecond('the highest') },
      {
        additionalProperties: false,
        description: 'frames that came to an end that a program or a receiver gave them; losses do not count',
      },
    ),
    samples: Type.Array(PerSecond('of one sample, in order')),
    offeredPerSecond: PerSecond('sent into the host, over all samples'),
    ceiling: Type.Optional(
      Type.Object(
        {
          what: Type.String({ description: 'what was measured for comparison, in the same run' }),
          framesPerSecond: PerSecond('the median'),
        },
        { additionalProperties: false },
      ),
    ),
    framesSent: Count('frames of the whole measurement'),
    framesCopied: Count('copies made on the way'),
    ends: Type.Array(EndResult, { description: 'where they ended, losses included' }),
    unexplained: Type.Integer({ description: 'frames that no counter has seen the end of' }),
    explanation: Type.Optional(RateExplanation),
  },
  { additionalProperties: false },
);
export type RateResult = Static<typeof RateResult>;

export const TotalRate = Type.Object(
  {
    framesPerSecond: RateResult.properties.framesPerSecond,
    samples: Type.Array(PerSecond('of one sample, in order')),
    offeredPerSecond: PerSecond('sent into the host for all of them'),
    fairness: Type.Number({
      minimum: 0,
      maximum: 1,
      description:
        'Jain’s index of the rates: 1 when all are equal, 1 ÷ their number when one has everything',
    }),
  },
  {
    additionalProperties: false,
    description: 'of nics that were loaded together (`measure.together`): the sum of their rates',
  },
);
export type TotalRate = Static<typeof TotalRate>;

const Spread = (unit: string, description: string) =>
  Type.Object(
    {
      median: Type.Number({ minimum: 0, description: `${unit}; of the samples` }),
      min: Type.Number({ minimum: 0, description: `${unit}; the lowest` }),
      max: Type.Number({ minimum: 0, description: `${unit}; the highest` }),
    },
    { additionalProperties: false, description },
  );
const MessagesPerSecond = (description: string) =>
  Type.Number({ minimum: 0, description: `messages per second, over all samples; ${description}` });

export const ExchangeResult = Type.Object(
  {
    node: Type.String({ description: 'the guest nic that it was with, e.g. `guest0.eth0`' }),
    kind: Type.Union(
      EXCHANGE_KINDS.map((kind) => Type.Literal(kind)),
      { description: 'as netperf’s UDP_STREAM, TCP_STREAM, UDP_RR, TCP_RR, from the wire to the guest' },
    ),
    size: Type.Integer({ minimum: 1, description: 'bytes of payload of a message, a write or a request' }),
    streams: Type.Integer({ minimum: 1, description: 'how many at the same time' }),
    guest: Type.String({ description: 'what received and answered in the guest' }),
    unmeasured: Type.Optional(
      Type.String({ description: 'why there are no figures; absent when there are some' }),
    ),
    seconds: Type.Number({ description: 'of one sample' }),
    samples: Type.Array(Type.Number({ minimum: 0 }), {
      description: 'in order: bits per second of a stream, transactions per second of requests',
    }),
    bitsPerSecond: Type.Optional(
      Spread('bits per second', 'payload of a stream that the guest’s receiver got'),
    ),
    messagesSentPerSecond: Type.Optional(MessagesPerSecond('given to the sender’s stack')),
    messagesReceivedPerSecond: Type.Optional(
      MessagesPerSecond('that the guest’s receiver got; absent with TCP, which has none'),
    ),
    transactionsPerSecond: Type.Optional(
      Spread('transactions per second', 'requests that were answered, of all streams together'),
    ),
    latency: Type.Optional(
      Latency('transactions', 'from a request to its answer, as the client sees it, over all samples'),
    ),
    unanswered: Type.Optional(Count('requests without an answer, whose stream then went on with the next')),
    explanation: Type.Optional(RateExplanation),
  },
  { additionalProperties: false },
);
export type ExchangeResult = Static<typeof ExchangeResult>;

/** Fates of frames that got lost for want of room: of a rate they are no part. */
export const LOSSES: ReadonlySet<Fate> = new Set([
  'nic-ring-full',
  'cpu-queue-full',
  'ring-full',
  'device-filtered',
  'no-receive-buffer',
  'transmit-queue-full',
  'link-broken',
]);

export const VerificationResult = Type.Object(
  {
    programs: Count('programs of guests that the host judged'),
    outOfTime: Count('of these, ended at the host’s limit of time'),
    outOfMemory: Count('of these, ended at the host’s limit of memory'),
    cancelled: Count('given up because the device was reset'),
    longestMs: Type.Number({ minimum: 0, description: 'ms; by the machine’s clock' }),
    peakMemoryMiB: Type.Number({
      minimum: 0,
      description: 'MiB that judging one program held at most, as far as was seen',
    }),
  },
  { additionalProperties: false, description: 'what judging the guests’ programs cost the host' },
);
export type VerificationResult = Static<typeof VerificationResult>;

export const AttackResult = Type.Object(
  {
    node: Type.String({ description: 'the nic that attacked, e.g. `mallory.eth0`' }),
    attack: Type.String({ description: 'name of the attack' }),
    device: Type.String({ description: 'what it was tried on' }),
    held: Type.Boolean({ description: 'everything held that must hold' }),
    aims: Type.Array(Type.String(), {
      description: 'what the attack goes for: of a device that has the fault, one of these does not hold',
    }),
    broken: Type.Array(
      Type.Object(
        {
          invariant: Type.String({ description: 'what did not hold' }),
          what: Type.String({ description: 'how it was seen' }),
        },
        { additionalProperties: false },
      ),
    ),
    detail: Type.String({ description: 'what the attacker did' }),
  },
  { additionalProperties: false },
);
export type AttackResult = Static<typeof AttackResult>;

export const ViewResult = Type.Object(
  {
    node: Type.String({ description: 'the nic, e.g. `guest0.eth0`' }),
    command: Type.String({ description: 'what shows it in a Linux guest' }),
    text: Type.String({ description: 'as people read it' }),
    json: Type.Unknown({ description: 'the same as data, in the members that the command has' }),
  },
  { additionalProperties: false },
);
export type ViewResult = Static<typeof ViewResult>;

export const MigrationResult = Type.Object(
  {
    node: Type.String({ description: 'the nic, e.g. `guest0.eth0`' }),
    afterFrames: Type.Integer({
      minimum: 0,
      description: 'frames of the workload that were to be sent before',
    }),
    moved: Type.Boolean({ description: 'the other host has it' }),
    reason: Type.Optional(Type.String({ description: 'why it stayed where it was' })),
    maps: Type.Optional(Count('maps that were moved')),
    programs: Type.Optional(Count('programs that were moved')),
    bytesBefore: Type.Optional(
      Count('bytes of keys and values copied while the programs ran where they were'),
    ),
    bytesAtSwitch: Type.Optional(
      Count('bytes of what had changed since, copied while no frame was processed'),
    ),
  },
  { additionalProperties: false },
);
export type MigrationResult = Static<typeof MigrationResult>;

export const RunResult = Type.Object(
  {
    id: Type.String({ description: 'the axes as one word, e.g. `redirect/xdp1/guest`' }),
    axes: Type.Record(Type.String(), Type.String(), {
      description: 'variant chosen on each axis of the matrix',
    }),
    fabric: Type.String(),
    framesSent: Count('frames the workload sent'),
    framesCopied: Count('copies made by flooding'),
    attachments: Type.Array(AttachmentResult, { description: 'what became of the guests’ programs' }),
    hooks: Type.Array(HookResult),
    ends: Type.Array(EndResult),
    maps: Type.Array(MapResult),
    control: Type.Array(ControlResult),
    links: Type.Array(LinkResult),
    views: Type.Optional(
      Type.Array(ViewResult, {
        description: 'what guests showed of their offload when the traffic was over',
      }),
    ),
    requests: Type.Optional(Type.Array(RequestsResult)),
    verification: Type.Optional(VerificationResult),
    attacks: Type.Optional(
      Type.Array(AttackResult, { description: 'what hostile guests tried, and whether what must hold held' }),
    ),
    migrations: Type.Optional(
      Type.Array(MigrationResult, { description: 'guests that were to go to another host meanwhile' }),
    ),
    rates: Type.Optional(
      Type.Array(RateResult, { description: 'rates of frames, where the fabric measures' }),
    ),
    totalRate: Type.Optional(TotalRate),
    ratesUnmeasured: Type.Optional(
      Type.String({ description: 'why there are no rates, where some were to be measured' }),
    ),
    exchanges: Type.Optional(
      Type.Array(ExchangeResult, {
        description: 'streams and requests with the guests’ stacks, where the fabric measures',
      }),
    ),
    offloads: Type.Optional(
      Type.Array(OffloadResult, {
        minItems: 1,
        description:
          'taps at which the host held something for a guest when the traffic was through; absent where it held nothing',
      }),
    ),
    rulings: Type.Array(RulingRecord),
    audit: Type.Array(AuditRecord),
    dropped: Type.Optional(
      Type.Object(
        { rulings: Count('rulings'), audit: Count('audit records') },
        {
          additionalProperties: false,
          description: 'records that were counted but not kept, because a guest made more than are kept',
        },
      ),
    ),
  },
  { additionalProperties: false },
);
export type RunResult = Static<typeof RunResult>;

const RUN_PLACE = {
  run: Type.String({ description: 'id of the run' }),
  index: Type.Integer({ minimum: 0, description: 'its place among all runs of the testbed' }),
  axes: RunResult.properties.axes,
};

export const RunFailure = Type.Object(
  {
    ...RUN_PLACE,
    stage: Type.Union([Type.Literal('run'), Type.Literal('clean-up')], {
      description:
        '`run`: the run ended in this error and has no result; `clean-up`: what it had brought up was not taken down',
    }),
    code: Type.String({ description: 'stable code of the error' }),
    message: Type.String(),
    hint: Type.Optional(Type.String({ description: 'what would help' })),
  },
  { additionalProperties: false },
);
export type RunFailure = Static<typeof RunFailure>;

/** Where a run without a result stands among all of its testbed. */
export const RunPlace = Type.Object(RUN_PLACE, { additionalProperties: false });
export type RunPlace = Static<typeof RunPlace>;

export const CheckResult = Type.Object(
  {
    check: Type.String({ description: 'kind of the check' }),
    description: Type.String({ description: 'what it demands, in words' }),
    why: Type.Optional(Type.String({ description: 'why it must hold, as the testbed says' })),
    runs: Type.Array(Type.String(), { description: 'ids of the runs it looked at' }),
    passed: Type.Boolean(),
    problems: Type.Array(Type.String(), {
      description: 'one line for each run that breaks it, or that it needs and that has no result',
    }),
  },
  { additionalProperties: false },
);
export type CheckResult = Static<typeof CheckResult>;

/** `udp-stream/1472` */
const EXCHANGE_PATTERN = `^(${EXCHANGE_KINDS.join('|')})/[1-9][0-9]*$`;

export const Comparison = Type.Object(
  {
    axis: Type.Optional(Type.String({ description: 'axis of the matrix along which rates are compared' })),
    baseline: Type.Optional(
      Type.String({ description: 'the variant of that axis that the others are compared with' }),
    ),
    reference: Type.Optional(
      Type.Object(
        {
          name: Type.String({ description: 'whose figures they are' }),
          mpps: Type.Optional(
            Type.Record(Type.String(), Type.Number({ exclusiveMinimum: 0 }), {
              description: 'million frames per second, by the id of the run',
            }),
          ),
          exchanges: Type.Optional(
            Type.Record(
              Type.String(),
              Type.Record(
                Type.String({ pattern: EXCHANGE_PATTERN }),
                Type.Record(Type.String(), Type.Number({ exclusiveMinimum: 0 }), {
                  description: 'one or several, by what they are called',
                }),
                {
                  additionalProperties: false,
                  description: 'by kind and size, e.g. `udp-stream/1472`',
                  expects: 'a kind and a size such as udp-stream/1472',
                },
              ),
              {
                description:
                  'of streams 10^6 bits per second, of requests transactions per second, by the id of the run',
              },
            ),
          ),
        },
        { additionalProperties: false, description: 'figures of others, shown beside those of the runs' },
      ),
    ),
  },
  { additionalProperties: false, description: 'how rates are to be read' },
);
export type Comparison = Static<typeof Comparison>;

export const ResultDocument = Type.Object(
  {
    schema: Type.Literal(RESULT_SCHEMA_VERSION),
    xdpbed: Type.String({ description: 'version of xdpbed' }),
    testbed: Type.String({ description: 'name of the testbed' }),
    seed: Type.String({ description: 'seed of the run, decimal' }),
    passed: Type.Boolean({
      description: 'every run was started and came to its end, and every check passed',
    }),
    runs: Type.Array(RunResult, { description: 'runs that came to their end' }),
    failures: Type.Optional(
      Type.Array(RunFailure, {
        minItems: 1,
        description: 'what went wrong with runs, in their order; absent when nothing did',
      }),
    ),
    interrupted: Type.Optional(
      Type.Object(RUN_PLACE, {
        additionalProperties: false,
        description:
          'the run that was under way, or about to begin, when all was ended from outside (SIGINT, SIGTERM): it has no result; absent when that did not happen',
      }),
    ),
    notStarted: Type.Optional(
      Type.Array(RunPlace, {
        minItems: 1,
        description:
          'runs that were left out because one before them failed or was interrupted; absent when there are none',
      }),
    ),
    comparison: Type.Optional(Comparison),
    checks: Type.Array(CheckResult),
  },
  {
    additionalProperties: false,
    $id: 'urn:xdpbed:schemas:result.schema.json',
    title: 'xdpbed result',
  },
);
export type ResultDocument = Static<typeof ResultDocument>;

export function emptyVerdictCounts(): VerdictCounts {
  return { XDP_ABORTED: 0, XDP_DROP: 0, XDP_PASS: 0, XDP_TX: 0, XDP_REDIRECT: 0 };
}

/** Adds `more` to `total`. */
export function addVerdicts(total: VerdictCounts, more: VerdictCounts): void {
  for (const verdict of Object.keys(total) as (keyof VerdictCounts)[]) total[verdict] += more[verdict];
}

/** The verdicts of several hooks together. */
export function sumVerdicts(hooks: Iterable<HookResult>): VerdictCounts {
  const total = emptyVerdictCounts();
  for (const { verdicts } of hooks) addVerdicts(total, verdicts);
  return total;
}

/** Whether a hook runs a guest's program, in the guest or offloaded, and not one of the host's own. */
export function isGuestHook(hook: HookResult): boolean {
  return hook.site === 'offload' || hook.site === 'guest-driver';
}

/** Something that the attack goes for did not hold. */
export function attackSucceeded({ aims, broken }: AttackResult): boolean {
  return broken.some(({ invariant }) => aims.includes(invariant));
}

/** How many frames of a run met each fate, wherever that was. */
export function sumFates(run: RunResult): Record<Fate, number> {
  const total = Object.fromEntries(Object.keys(FATES).map((fate) => [fate, 0])) as Record<Fate, number>;
  for (const { fate, frames } of run.ends) total[fate] += frames;
  return total;
}

/**
 * The rulings of a run, each as often as it was given; `wouldDeny`: those of policies that only say how they would rule.
 */
export function sumRulings(run: RunResult): { allow: number; deny: number; wouldDeny: number } {
  const total = { allow: 0, deny: 0, wouldDeny: 0 };
  for (const { ruling, dryRun, count } of run.rulings) {
    total[dryRun === true && ruling === 'deny' ? 'wouldDeny' : ruling] += count;
  }
  return total;
}

/** Control commands and their acks, of all guests or of those given. */
export function sumControl(control: Iterable<ControlResult>): { commands: number; ok: number; err: number } {
  const total = { commands: 0, ok: 0, err: 0 };
  for (const { commands, acks } of control) {
    for (const count of Object.values(commands)) total.commands += count;
    total.ok += acks.ok;
    total.err += acks.err;
  }
  return total;
}
