import { Type, type Static } from '@sinclair/typebox';
import { EAGAIN } from '../../src/bpf/errno.js';
import type { Picoseconds } from '../../src/core/contract/clock.js';
import type { ConfigProblem, PolicySurroundings } from '../../src/core/contract/plugin.js';
import type {
  ArrivedCommand,
  Breach,
  ObservedCost,
  Policy,
  PolicyRequest,
  Ruling,
} from '../../src/core/contract/policy.js';
import { denialText } from '../../src/core/offload/denial-text.js';
import { guestOverrides, settingsFor, unknownGuests } from '../../src/core/offload/guest-overrides.js';
import { LeakyBucket } from './leaky-bucket.js';

const RATE_NAMES = ['commands', 'bytes', 'elements', 'loads', 'verifier-milliseconds', 'insns'] as const;
type RateName = (typeof RATE_NAMES)[number];
/** How much of what. */
type Wanted = readonly [name: RateName, amount: number];

/** How messages call what each rate is of. */
const UNITS: Readonly<Record<RateName, string>> = {
  commands: 'commands',
  bytes: 'bytes of commands',
  elements: 'elements of maps',
  loads: 'loads',
  'verifier-milliseconds': 'ms of verifier time',
  insns: 'insns',
};

const perSecond = (options: object) =>
  Type.Number({ minimum: 0, description: 'how many there may be in a second, on average', ...options });
const burst = (options: object) =>
  Type.Number({
    minimum: 0,
    description: 'how many there may be at once, when there were none for long',
    ...options,
  });
const closed = { additionalProperties: false } as const;

const Rate = (description: string, each: number, atOnce: number) =>
  Type.Object(
    {
      'per-second': perSecond({ default: each, examples: [each] }),
      burst: burst({ default: atOnce, examples: [atOnce] }),
    },
    { ...closed, default: {}, description },
  );

/** One section of rates; the numbers are defaults. */
const rates = (
  commands: [number, number],
  bytes: [number, number],
  elements: [number, number],
  loads: [number, number],
  milliseconds: [number, number],
) => ({
  commands: Rate('commands of the control queue, whatever they are, malformed ones included', ...commands),
  bytes: Rate(
    'bytes of all these commands: what looking at a command costs, one that is then denied included, goes with its length; a command of more than the burst is never allowed',
    ...bytes,
  ),
  elements: Rate(
    'elements of maps that are looked up, updated, deleted or listed, one by one or in batches, as many as are asked for; a batch of more than the burst is never allowed',
    ...elements,
  ),
  loads: Rate('programs that are to be loaded, whatever becomes of them', ...loads),
  'verifier-milliseconds': Rate(
    'ms of CPU time that judging programs took; known afterwards, so the next load is denied until it is paid off',
    ...milliseconds,
  ),
  insns: Type.Optional(
    Type.Object(
      { 'per-second': perSecond({ examples: [1e8] }), burst: burst({ examples: [1e9] }) },
      {
        ...closed,
        description:
          'insns that offloaded programs execute; known afterwards, so the next load is denied until they are paid off. Left out: no limit. Only where the executor counts (`interpreter`, `wasm`, `differential`)',
      },
    ),
  ),
});

const MIB = 1024 * 1024;

const PerGuest = Type.Object(
  rates([100_000, 100_000], [16 * MIB, 64 * MIB], [1_000_000, 1_000_000], [20, 20], [1_000, 10_000]),
  {
    ...closed,
    default: {},
    description: 'how fast one guest may ask, over all of its nics',
  },
);

export const RateLimitConfig = Type.Object(
  {
    'per-guest': PerGuest,
    guests: guestOverrides(PerGuest, 'rates of single guests, by name, instead of those in per-guest'),
    total: Type.Object(
      rates(
        [1_000_000, 1_000_000],
        [160 * MIB, 640 * MIB],
        [10_000_000, 10_000_000],
        [200, 200],
        [2_000, 20_000],
      ),
      {
        ...closed,
        default: {},
        description: 'how fast all guests together may ask',
      },
    ),
  },
  {
    ...closed,
    description: 'how fast guests may ask, on the run’s clock; a burst of 0 allows nothing',
    examples: [
      {
        'per-guest': {
          commands: { 'per-second': 10_000, burst: 2_000 },
          bytes: { 'per-second': MIB, burst: 8 * MIB },
          elements: { 'per-second': 200_000, burst: 20_000 },
          loads: { 'per-second': 5, burst: 5 },
          'verifier-milliseconds': { 'per-second': 200, burst: 5_000 },
          insns: { 'per-second': 1e9, burst: 1e10 },
        },
        guests: { alice: { loads: { 'per-second': 50, burst: 50 } } },
        total: { 'verifier-milliseconds': { 'per-second': 1_000, burst: 20_000 } },
      },
    ],
  },
);
export type RateLimitConfig = Static<typeof RateLimitConfig>;

/** `Plugin.rules` */
export const RATE_LIMIT_RULES: Readonly<Record<string, string>> = Object.fromEntries(
  RATE_NAMES.flatMap((name) => [
    [`per-guest.${name}`, `a guest has no more than so many ${UNITS[name]} per second`],
    [`total.${name}`, `all guests together have no more than so many ${UNITS[name]} per second`],
  ]),
);

/** `Plugin.checkTestbed` */
export function checkRateLimit(
  config: RateLimitConfig,
  { guests, countsWork }: PolicySurroundings,
): ConfigProblem[] {
  const sections: (readonly [readonly string[], { readonly insns?: unknown }])[] = [
    [['per-guest'], config['per-guest']],
    [['total'], config.total],
    ...Object.entries(config.guests).map(([name, own]) => [['guests', name], own] as const),
  ];
  const uncounted = sections.filter(([, section]) => !countsWork && section.insns !== undefined);
  return [
    ...unknownGuests(config.guests, guests),
    ...uncounted.map(([section]) => ({
      path: [...section, 'insns'],
      message: 'the executor of what guests offload does not count insns',
      hint: 'plugins.executor: { use: wasm }, on fabric model',
    })),
  ];
}

const WITHIN: Ruling = { ruling: 'allow', reason: 'within every rate' };

/** What one guest, or all together, may ask and have asked. */
interface Meter {
  /** `per-guest` or `total`: with the rate's name, the name of the rule. */
  readonly section: string;
  readonly whose: string;
  readonly buckets: ReadonlyMap<RateName, LeakyBucket>;
  /** Where a rate is set. */
  readonly at: (name: RateName) => readonly string[];
}

/**
 * Denies what comes faster than it may: commands and their bytes when they come, before anything is spent on them, elements of maps before
 * they are touched, and programs before they are judged. What is denied for its rate counts for none, so that a guest that goes on asking is served at its rate.
 *
 * What judging a program took, and what programs execute, is known afterwards: it counts then, and no program is
 * loaded as long as more was spent than the burst. An attached program is not stopped by it.
 *
 * Holds one meter for each guest that has ever asked, of which a testbed has so many and no more.
 */
export class RateLimit implements Policy {
  readonly name = 'rate-limit';
  readonly countsInsns: boolean;
  readonly #config: RateLimitConfig;
  readonly #meters = new Map<string, Meter>();
  readonly #total: Meter;

  constructor(config: RateLimitConfig) {
    this.#config = config;
    this.countsInsns = [config['per-guest'], config.total, ...Object.values(config.guests)].some(
      ({ insns }) => insns !== undefined,
    );
    this.#total = meter('total', 'all guests', config.total, (name) => ['total', name]);
  }

  admit({ time, guest, bytes }: ArrivedCommand): Ruling {
    return (
      this.#take(
        [
          ['commands', 1],
          ['bytes', bytes],
        ],
        time,
        guest,
      ) ?? WITHIN
    );
  }

  rule(request: PolicyRequest): Ruling {
    const { operation, time, guest } = request;
    switch (operation) {
      case 'map-lookup':
      case 'map-update':
      case 'map-delete':
      case 'map-next-key':
        return this.#take([['elements', request.elements ?? 1]], time, guest) ?? WITHIN;
      case 'program-load':
        return this.#requirePaidOff(time, guest) ?? this.#take([['loads', 1]], time, guest) ?? WITHIN;
      default:
        return { ruling: 'allow', reason: 'of no rate' };
    }
  }

  observe(cost: ObservedCost): void {
    for (const { buckets } of this.#metersOf(cost.guest)) {
      if (cost.kind === 'verification') {
        buckets.get('verifier-milliseconds')?.add(cost.time, cost.milliseconds);
      } else {
        buckets.get('insns')?.add(cost.time, cost.insns);
      }
    }
  }

  /** As many of each, if each bucket has room; otherwise a denial, and none is taken. Asked for each command. */
  #take(wanted: readonly Wanted[], time: Picoseconds, guest: string): Ruling | undefined {
    const meters = this.#metersOf(guest);
    const full: { meter: Meter; name: RateName; asked: number }[] = [];
    for (const each of meters) {
      for (const [name, asked] of wanted) {
        if (each.buckets.get(name)?.fits(time, asked) === false) full.push({ meter: each, name, asked });
      }
    }
    if (full.length > 0) return denial(full, time);
    for (const { buckets } of meters)
      for (const [name, amount] of wanted) buckets.get(name)?.add(time, amount);
    return undefined;
  }

  #requirePaidOff(time: Picoseconds, guest: string): Ruling | undefined {
    const overdrawn = this.#metersOf(guest).flatMap((each) =>
      (['verifier-milliseconds', 'insns'] as const).flatMap((name) => {
        const bucket = each.buckets.get(name);
        // Written so that a level that is no number is over every burst.
        return bucket === undefined || bucket.level(time) < bucket.burst ? [] : [{ meter: each, name }];
      }),
    );
    return overdrawn.length === 0 ? undefined : denial(overdrawn, time);
  }

  #metersOf(guest: string): readonly [Meter, Meter] {
    let own = this.#meters.get(guest);
    if (own === undefined) {
      const { values, at } = settingsFor(
        guest,
        this.#config['per-guest'],
        ['per-guest'],
        this.#config.guests,
      );
      own = meter('per-guest', `guest ${guest}`, values, at);
      this.#meters.set(guest, own);
    }
    return [own, this.#total];
  }
}

function meter(
  section: string,
  whose: string,
  limits: Partial<RateLimitConfig['total']>,
  at: Meter['at'],
): Meter {
  const buckets = new Map<RateName, LeakyBucket>();
  for (const name of RATE_NAMES) {
    const limit = limits[name];
    if (limit !== undefined) buckets.set(name, new LeakyBucket(limit['per-second'], limit.burst));
  }
  return { section, whose, buckets, at };
}

/** The reason holds no number that changes, so that a flood is one record. */
function denial(
  full: readonly { readonly meter: Meter; readonly name: RateName; readonly asked?: number }[],
  time: Picoseconds,
): Ruling {
  const reasons = full.map(({ meter: { section, whose, buckets }, name }) => {
    const { perSecond: rate, burst: most } = buckets.get(name)!;
    return { section, text: `${UNITS[name]} of ${whose} exceed ${rate} per second after a burst of ${most}` };
  });
  return {
    ruling: 'deny',
    errno: EAGAIN,
    reason: reasons.map(({ text }) => text).join('; '),
    toGuest: denialText(reasons.filter(({ section }) => section !== 'total').map(({ text }) => text)),
    breaches: full.map(({ meter: { section, buckets, at }, name, asked }): Breach => {
      const bucket = buckets.get(name)!;
      return {
        rule: `${section}.${name}`,
        limit: bucket.burst,
        ...(asked === undefined ? {} : { asked }),
        held: Math.round(bucket.level(time) * 1000) / 1000,
        at: at(name),
      };
    }),
  };
}
