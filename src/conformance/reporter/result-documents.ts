import type { RunEvent, StreamEvent, TestbedEvent } from '../../core/contract/event.js';
import {
  emptyVerdictCounts,
  RESULT_SCHEMA_VERSION,
  type CheckResult,
  type ResultDocument,
  type RunFailure,
  type RunResult,
} from '../../core/contract/result.js';

/**
 * A run as the fabric `model` reports one: 10 frames to guest0.eth0, dropped by `xdp1`, which is offloaded when
 * the run's id ends in `host`. Each guest gets its own 10.
 */
export function exampleRun(id = 'redirect/xdp1/host', options: { guests?: number } = {}): RunResult {
  const variants = id.split('/');
  const names = variants.length === 3 ? ['case', 'program', 'placement'] : variants.map((_, n) => `axis${n}`);
  const offloaded = variants.at(-1) === 'host';
  const guests = Array.from({ length: options.guests ?? 1 }, (_, index) => `guest${index}`);
  return {
    id,
    axes: Object.fromEntries(names.map((axis, index) => [axis, variants[index]!])),
    fabric: 'model',
    framesSent: 10 * guests.length,
    framesCopied: 0,
    attachments: guests.map((guest) => ({
      node: `${guest}.eth0`,
      program: 'xdp1',
      placement: offloaded ? 'host' : 'guest',
      attached: true,
    })),
    hooks: guests.map((guest) => ({
      site: offloaded ? 'offload' : 'guest-driver',
      node: `${guest}.eth0`,
      program: 'xdp1',
      frames: 10,
      verdicts: { ...emptyVerdictCounts(), XDP_DROP: 10 },
    })),
    ends: guests.map((guest) => ({
      place: offloaded ? `host.tap-${guest}` : `${guest}.eth0`,
      fate: 'xdp-drop',
      frames: 10,
    })),
    maps: guests.map((guest) => ({
      guest,
      nic: 'eth0',
      name: 'rxcnt',
      type: 'BPF_MAP_TYPE_ARRAY',
      readFrom: offloaded ? 'device' : 'guest-kernel',
      entries: [
        { key: '01000000', value: '0300000000000000' },
        { key: '11000000', value: '0700000000000000' },
      ],
    })),
    control: guests.map((guest) => ({
      guest,
      nic: 'eth0',
      commands: offloaded ? { 'EBPF_MAP/CREATE_MAP': 1, 'EBPF_PROG/SET_OFFLOAD': 1 } : {},
      acks: { ok: offloaded ? 2 : 0, err: 0 },
    })),
    links: guests.map((guest) => ({
      guest,
      nic: 'eth0',
      framesToGuest: offloaded ? 0 : 10,
      framesFromGuest: 0,
      kicks: 2,
      interrupts: 1,
      suppressedNotifications: 5,
      violations: 0,
    })),
    ...(offloaded
      ? {
          offloads: guests.map((guest) => ({
            tap: 'tap0',
            guest,
            nic: 'eth0',
            features: ['VIRTIO_NET_F_XDP_OFFLOAD'],
            capabilities: { word: '0x00010001', names: ['XDP_OFFLOAD', 'RFC_2019'] },
            program: {
              name: 'xdp1',
              tag: '0123456789abcdef',
              insns: 24,
              loaded: 0,
              executor: 'interpreter',
              verdicts: { ...emptyVerdictCounts(), XDP_DROP: 10 },
            },
            maps: [],
            mapMemory: 0,
          })),
        }
      : {}),
    rulings: offloaded
      ? guests.map((guest) => ({
          request: 1,
          time: 0,
          guest,
          nic: 'eth0',
          operation: 'map-create',
          policy: 'quota',
          ruling: 'allow',
          reason: '1 map of at most 16',
          count: 1,
        }))
      : [],
    audit: [],
  };
}

/** A run whose program was not attached: the device refused it twice, once with text hostile to what prints it. */
export function refusedRun(id = 'redirect/xdp1/host'): RunResult {
  const denied = 'denied: by quota: 4097 insns exceed the quota of 4096';
  return {
    ...exampleRun(id),
    attachments: [
      {
        node: 'guest0.eth0',
        program: 'xdp1',
        placement: 'host',
        attached: false,
        reason: 'offload failed: EPERM',
      },
    ],
    hooks: [],
    ends: [{ place: 'guest0.eth0', fate: 'guest-stack', frames: 10 }],
    maps: [],
    control: [
      { guest: 'guest0', nic: 'eth0', commands: { 'EBPF_PROG/SET_OFFLOAD': 2 }, acks: { ok: 0, err: 2 } },
    ],
    rulings: [
      {
        request: 1,
        time: 1500,
        guest: 'guest0',
        nic: 'eth0',
        operation: 'program-load',
        policy: 'quota',
        ruling: 'deny',
        reason: denied,
        breaches: [
          {
            rule: 'insns-per-program',
            limit: 4096,
            asked: 4097,
            path: 'policies.0.config.insns-per-program',
          },
        ],
        count: 2,
      },
    ],
    audit: [
      {
        request: 1,
        time: 1500,
        guest: 'guest0',
        nic: 'eth0',
        command: 'EBPF_PROG/SET_OFFLOAD',
        outcome: 'error-ack',
        reason: denied,
      },
      {
        time: 0,
        guest: 'guest0',
        nic: 'eth0',
        command: 'EBPF_PROG/SET_OFFLOAD',
        outcome: 'error-ack',
        reason: HOSTILE_TEXT,
      },
    ],
  };
}

/** What guests and objects can name, named to harm: reasons, maps and what is in them, and what a guest shows. */
function hostileRun(): RunResult {
  const run = refusedRun();
  const [attachment] = run.attachments;
  const [map] = exampleRun().maps;
  return {
    ...run,
    attachments: [{ ...attachment!, attached: false, reason: HOSTILE_TEXT }],
    maps: [{ ...map!, name: HOSTILE_TEXT, entries: [{ key: '00000000', value: '00' }] }],
    views: [{ node: 'guest0.eth0', command: 'bpftool map dump', text: HOSTILE_TEXT, json: HOSTILE_TEXT }],
  };
}

/**
 * An escape sequence, markup, quotes, a comma, line ends, NUL, a lone surrogate, DEL, NEL, the one-character form of CSI, a direction
 * override, an isolate and a line separator.
 */
export const HOSTILE_TEXT =
  '\u001b[31mred\u001b[0m </x>&"\',;\r\n\t\u0000\ud800\u007f\u0085\u009b2J\u202egpj\u2066\u2028 end';

export const PASSED_CHECK: CheckResult = {
  check: 'conservation',
  description: 'every frame is accounted for exactly once',
  runs: ['redirect/xdp1/host'],
  passed: true,
  problems: [],
};

export const FAILED_CHECK: CheckResult = {
  check: 'expect',
  description: 'ends.transmitted is 10',
  runs: ['redirect/xdp1/host', 'bridge/xdp1/host'],
  passed: false,
  problems: [
    'redirect/xdp1/host: ends.transmitted is 0, not 10',
    'bridge/xdp1/host: ends.transmitted is 0, not 10',
  ],
};

/** Why the second run of `failedResult` has no result. */
export const RUN_FAILURE: RunFailure = {
  run: 'redirect/xdp2/host',
  index: 1,
  axes: { case: 'redirect', program: 'xdp2', placement: 'host' },
  stage: 'run',
  code: 'plugin-failed',
  message: 'plugin executor wasm failed in run: out of order',
  hint: 'use the interpreter',
};

/** Why the first run of `failedResult`, which has a result, left something behind. */
export const CLEAN_UP_FAILURE: RunFailure = {
  run: 'redirect/xdp1/host',
  index: 0,
  axes: { case: 'redirect', program: 'xdp1', placement: 'host' },
  stage: 'clean-up',
  code: 'leftovers',
  message: 'interface tap0 is still there',
};

/** Of three runs the first was taken down badly, the second failed, and the third was not started. */
export function failedResult(): ResultDocument {
  const { axes } = exampleRun('bridge/xdp1/host');
  const problems = ['redirect/xdp2/host: the run failed', 'bridge/xdp1/host: the run was not started'];
  return {
    ...exampleResult([exampleRun()], [{ ...PASSED_CHECK, passed: false, problems }]),
    failures: [CLEAN_UP_FAILURE, RUN_FAILURE],
    notStarted: [{ run: 'bridge/xdp1/host', index: 2, axes }],
  };
}

/** Of three runs the first came to its end, and the second was interrupted. */
export function interruptedResult(): ResultDocument {
  const { axes } = exampleRun('bridge/xdp1/host');
  const problems = [
    'redirect/xdp2/host: the run was interrupted',
    'bridge/xdp1/host: the run was not started',
  ];
  const { run, index, axes: axesOfSecond } = RUN_FAILURE;
  return {
    ...exampleResult([exampleRun()], [{ ...PASSED_CHECK, passed: false, problems }]),
    interrupted: { run, index, axes: axesOfSecond },
    notStarted: [{ run: 'bridge/xdp1/host', index: 2, axes }],
  };
}

/** A whole result; `passed` follows from the checks. */
export function exampleResult(
  runs: readonly RunResult[] = [exampleRun()],
  checks: readonly CheckResult[] = [PASSED_CHECK],
): ResultDocument {
  return {
    schema: RESULT_SCHEMA_VERSION,
    xdpbed: '0.1.0',
    testbed: 'rfc-2019',
    seed: '1',
    passed: checks.every((check) => check.passed),
    runs: [...runs],
    checks: [...checks],
  };
}

/** Results that a reporter must cope with, by what is special about them. */
export function exampleResults(): Readonly<Record<string, ResultDocument>> {
  const eight = ['redirect', 'bridge'].flatMap((hostCase) =>
    ['xdp1', 'xdp2'].flatMap((program) =>
      ['guest', 'host'].map((placement) => exampleRun(`${hostCase}/${program}/${placement}`)),
    ),
  );
  const many = Array.from({ length: 64 }, (_, index) => exampleRun(`variant${index}`, { guests: 3 }));
  const long = exampleRun();
  const wide = Array.from({ length: 300 }, (_, key) => ({
    key: key.toString(16).padStart(16, '0'),
    value: 'ff'.repeat(64),
  }));
  return {
    'no run and no check': exampleResult([], []),
    'one run': exampleResult(),
    'one run without a matrix': exampleResult([{ ...exampleRun('default'), axes: {} }]),
    'eight runs': exampleResult(eight),
    'sixty-four runs of three guests': exampleResult(many),
    'failed checks': exampleResult([exampleRun()], [PASSED_CHECK, FAILED_CHECK]),
    'runs that failed or were not started': failedResult(),
    'runs that were interrupted or not started': interruptedResult(),
    'no run but one that failed with hostile text': {
      ...exampleResult([], []),
      passed: false,
      failures: [{ ...RUN_FAILURE, index: 0, message: HOSTILE_TEXT, hint: HOSTILE_TEXT }],
    },
    'refused commands and hostile text': exampleResult(
      [hostileRun()],
      [{ ...FAILED_CHECK, description: HOSTILE_TEXT, problems: [HOSTILE_TEXT] }],
    ),
    'a run in which nothing happened': exampleResult([
      {
        ...exampleRun(),
        framesSent: 0,
        attachments: [],
        hooks: [],
        ends: [],
        maps: [],
        control: [],
        links: [],
        rulings: [],
      },
    ]),
    'measured rates and exchanges': measuredResult(),
    'a big map of wide values': exampleResult([
      { ...long, maps: [{ ...long.maps[0]!, type: 'BPF_MAP_TYPE_HASH', entries: wide }] },
    ]),
  };
}

/** A rate, an exchange of each sort, and one that could not be measured; beside them the figures of others. */
function measuredResult(): ResultDocument {
  const run = exampleRun('redirect/xdp1/host');
  const { axes, ends } = run;
  const exchange = { node: 'guest0.eth0', streams: 1, guest: HOSTILE_TEXT, seconds: 1 };
  return {
    ...exampleResult([
      {
        ...run,
        axes,
        rates: [
          {
            node: 'guest0.eth0',
            program: 'xdp1',
            placement: 'host',
            hook: 'tail-call',
            guest: HOSTILE_TEXT,
            size: 388.5,
            workloadFrames: 12,
            seconds: 1,
            rate: 100,
            framesPerSecond: { median: 99.5, min: 99, max: 100 },
            samples: [99, 100],
            offeredPerSecond: 100,
            framesSent: 200,
            framesCopied: 0,
            ends,
            unexplained: 0,
          },
        ],
        totalRate: {
          framesPerSecond: { median: 99.5, min: 99, max: 100 },
          samples: [99, 100],
          offeredPerSecond: 100,
          fairness: 1,
        },
        exchanges: [
          {
            ...exchange,
            kind: 'udp-stream',
            size: 1472,
            samples: [7e9, 7.1e9],
            bitsPerSecond: { median: 7.05e9, min: 7e9, max: 7.1e9 },
            messagesSentPerSecond: 600_000,
            messagesReceivedPerSecond: 598_675.25,
          },
          {
            ...exchange,
            kind: 'tcp-rr',
            size: 1,
            samples: [13_000],
            transactionsPerSecond: { median: 13_000, min: 13_000, max: 13_000 },
            latency: { p50: 70, p90: 80.5, p99: 120, max: 4000 },
            unanswered: 0,
          },
          { ...exchange, kind: 'tcp-stream', size: 16_384, samples: [], unmeasured: HOSTILE_TEXT },
        ],
      },
    ]),
    comparison: {
      reference: {
        name: HOSTILE_TEXT,
        exchanges: { [run.id]: { 'udp-stream/1472': { [HOSTILE_TEXT]: 7026 } } },
      },
    },
  };
}

/** The events of a run of `result`, as the core emits them. */
export function exampleEvents(result: ResultDocument): StreamEvent[] {
  const { failures = [], interrupted, notStarted = [] } = result;
  const ended = interrupted === undefined ? [] : [interrupted];
  const finished = new Set(result.runs.map((run) => run.id));
  const failed = failures.filter(({ run }) => !finished.has(run));
  const count = finished.size + new Set(failed.map(({ run }) => run)).size + ended.length + notStarted.length;
  const events: (TestbedEvent | RunEvent)[] = [
    { event: 'testbed-started', testbed: result.testbed, runs: count, seed: result.seed },
    ...result.runs.flatMap((run, index): (TestbedEvent | RunEvent)[] => [
      { event: 'run-started', run: run.id, index, of: count },
      ...run.hooks.map(({ node, program, site }): RunEvent => ({
        event: 'program-attached',
        run: run.id,
        node,
        program,
        placement: site === 'offload' ? 'host' : 'guest',
      })),
      { event: 'trace', run: run.id, node: 'guest0', text: HOSTILE_TEXT },
      ...run.rulings.map((record): RunEvent => ({ event: 'ruling', run: run.id, record })),
      ...run.audit.map((record): RunEvent => ({ event: 'audit', run: run.id, record })),
      { event: 'run-finished', run: run.id, result: run },
      ...failures
        .filter((failure) => failure.run === run.id)
        .map((failure): TestbedEvent => ({ event: 'run-failed', run: run.id, failure })),
    ]),
    ...failed.flatMap((failure): TestbedEvent[] => [
      { event: 'run-started', run: failure.run, index: failure.index, of: count },
      { event: 'run-failed', run: failure.run, failure },
    ]),
    ...ended.flatMap((place): TestbedEvent[] => [
      { event: 'run-started', run: place.run, index: place.index, of: count },
      { event: 'run-interrupted', run: place.run, place },
    ]),
    ...notStarted.map((place): TestbedEvent => ({ event: 'run-not-started', run: place.run, place })),
    ...result.checks.map((check): TestbedEvent => ({ event: 'check-finished', result: check })),
    { event: 'testbed-finished', passed: result.passed },
  ];
  // Only what happens in a run has a time: a microsecond between two of them.
  return events.map((event, seq) =>
    isOfRun(event) ? { ...event, seq, time: seq * 1_000_000 } : { ...event, seq },
  );
}

function isOfRun(event: TestbedEvent | RunEvent): event is RunEvent {
  return ['program-attached', 'trace', 'ruling', 'audit'].includes(event.event);
}
