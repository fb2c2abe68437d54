import { Type, type Static, type TObject, type TInteger } from '@sinclair/typebox';
import type { ConfigProblem, PolicySurroundings } from '../../src/core/contract/plugin.js';
import type {
  Breach,
  Grants,
  HostUsage,
  Policy,
  PolicyRequest,
  Ruling,
} from '../../src/core/contract/policy.js';

import { denialText } from '../../src/core/offload/denial-text.js';
import {
  guestOverrides,
  settingsFor,
  unknownGuests,
  type GuestSettings,
} from '../../src/core/offload/guest-overrides.js';

type LimitName = 'maps' | 'map-memory' | 'entries' | 'programs' | 'insns' | 'btf-memory';

/** Which counter each limit is held against, and how messages call what it counts. */
const LIMITS: Readonly<Record<LimitName, { usage: keyof HostUsage; unit: string; description: string }>> = {
  maps: {
    usage: 'maps',
    unit: 'maps',
    description: 'maps; one that only a program keeps alive counts until it is gone',
  },
  'map-memory': {
    usage: 'mapMemory',
    unit: 'bytes of map memory',
    description:
      "bytes of the host's memory that maps take: keys, values and bookkeeping, as the map backend counts them",
  },
  entries: { usage: 'entries', unit: 'map entries', description: 'sum of max_entries over all maps' },
  programs: {
    usage: 'programs',
    unit: 'programs',
    description: 'programs; while one replaces another, both are there and both count',
  },
  insns: {
    usage: 'insns',
    unit: 'insns',
    description: 'sum of the lengths of all programs, in 8-byte slots',
  },
  'btf-memory': {
    usage: 'btfMemory',
    unit: 'bytes of BTF',
    description: 'bytes of BTF: what a guest loads, and what its maps keep of it',
  },
};
const LIMIT_NAMES = Object.keys(LIMITS) as LimitName[];

const MIB = 1024 * 1024;
const PER_GUEST: Readonly<Record<LimitName, number>> = {
  maps: 64,
  'map-memory': 16 * MIB,
  entries: 1_048_576,
  programs: 16,
  insns: 65_536,
  'btf-memory': MIB,
};
const TOTAL: Readonly<Record<LimitName, number>> = {
  maps: 1024,
  'map-memory': 256 * MIB,
  entries: 16_777_216,
  programs: 256,
  insns: 1_048_576,
  'btf-memory': 16 * MIB,
};

const PerGuest = limits(PER_GUEST, 'what one guest may hold, over all of its nics');

export const QuotaConfig = Type.Object(
  {
    'per-guest': PerGuest,
    guests: guestOverrides(PerGuest, 'limits of single guests, by name, instead of those in per-guest'),
    total: limits(TOTAL, 'what all guests together may hold'),
    'insns-per-program': Type.Integer({
      minimum: 1,
      default: 4096,
      description: 'length of one program in 8-byte slots',
      examples: [4096],
    }),
  },
  {
    additionalProperties: false,
    description: 'limits on what the host holds for guests; 0 allows none',
    examples: [
      {
        'per-guest': { maps: 8, 'map-memory': MIB },
        guests: { alice: { maps: 64 } },
        total: { programs: 4 },
        'insns-per-program': 1024,
      },
    ],
  },
);
export type QuotaConfig = Static<typeof QuotaConfig>;

/** `Plugin.rules` */
export const QUOTA_RULES: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    LIMIT_NAMES.flatMap((name) => [
      [`per-guest.${name}`, `a guest holds no more than so many ${LIMITS[name].unit}`],
      [`total.${name}`, `all guests together hold no more than so many ${LIMITS[name].unit}`],
    ]),
  ),
  'insns-per-program': 'no program is longer than so many insns',
};

/** `Plugin.checkTestbed` */
export function checkQuota({ guests }: QuotaConfig, testbed: PolicySurroundings): ConfigProblem[] {
  return unknownGuests(guests, testbed.guests);
}

/** Each limit an integer with its default, the whole with all defaults. */
function limits(
  defaults: Readonly<Record<LimitName, number>>,
  description: string,
): TObject<Record<LimitName, TInteger>> {
  const properties = Object.fromEntries(
    LIMIT_NAMES.map((name) => [
      name,
      Type.Integer({
        minimum: 0,
        default: defaults[name],
        description: LIMITS[name].description,
        examples: [defaults[name]],
      }),
    ]),
  ) as Record<LimitName, TInteger>;
  return Type.Object(properties, { additionalProperties: false, default: {}, description });
}

/**
 * Denies what would take a guest, or all guests together, over a limit. RFC 2019 had none: offloaded maps use
 * memory of the host beyond the guest's own, so a guest could use it all up.
 *
 * The numbers are those of the ledger before the request; it counts what the host really holds, so a map that
 * the guest has freed counts for as long as a program keeps it alive.
 */
export class Quota implements Policy {
  readonly name = 'quota';

  constructor(readonly config: QuotaConfig) {}

  grants(guest: string): Grants {
    const { values } = settingsFor(guest, this.config['per-guest'], ['per-guest'], this.config.guests);
    const { maps, programs, 'map-memory': mapMemory } = values;
    return { maps, programs, mapMemory, insns: this.config['insns-per-program'] };
  }

  rule(request: PolicyRequest): Ruling {
    switch (request.operation) {
      case 'map-create':
        return this.#ruleOnCost(request, {
          maps: 1,
          mapMemory: request.memoryBytes,
          entries: request.map.maxEntries,
        });
      case 'program-load': {
        const { insnCount } = request.program;
        const limit = this.config['insns-per-program'];
        if (insnCount > limit) {
          const reason = `${insnCount} insns exceed the quota of ${limit} for one program`;
          return {
            ruling: 'deny',
            reason,
            toGuest: reason,
            breaches: [{ rule: 'insns-per-program', limit, asked: insnCount, at: ['insns-per-program'] }],
          };
        }
        return this.#ruleOnCost(request, { programs: 1, insns: insnCount });
      }
      case 'btf-load':
        return this.#ruleOnCost(request, { btfMemory: request.bytes });
      case 'map-lookup':
      case 'map-update':
      case 'map-delete':
      case 'map-next-key':
      case 'map-free':
      case 'map-freeze':
      case 'map-read-records':
      case 'object-pin':
      case 'object-open':
      case 'migrate-out':
      case 'migrate-in':
      case 'program-attach':
        return { ruling: 'allow', reason: 'takes nothing more of the host' };
    }
  }

  #ruleOnCost(request: PolicyRequest, cost: Partial<HostUsage>): Ruling {
    const { config } = this;
    const own = settingsFor(request.guest, config['per-guest'], ['per-guest'], config.guests);
    const total: Limits = { values: config.total, at: (name) => ['total', name] };
    const ofGuest = exceededLimits(request.usage, cost, 'per-guest', own, `guest ${request.guest}`);
    const exceeded = [...ofGuest, ...exceededLimits(request.totalUsage, cost, 'total', total, 'all guests')];
    if (exceeded.length === 0) return { ruling: 'allow', reason: 'within every limit' };
    return {
      ruling: 'deny',
      reason: exceeded.map(({ text }) => text).join('; '),
      toGuest: denialText(ofGuest.map(({ text }) => text)),
      breaches: exceeded.map(({ breach }) => breach),
    };
  }
}

type Limits = GuestSettings<Record<LimitName, number>>;

/** @param section what rules of these limits are called after. */
function exceededLimits(
  usage: HostUsage,
  cost: Partial<HostUsage>,
  section: string,
  { values, at }: Limits,
  holder: string,
): { readonly text: string; readonly breach: Breach }[] {
  return LIMIT_NAMES.flatMap((name) => {
    const { usage: key, unit } = LIMITS[name];
    const asked = cost[key];
    if (asked === undefined) return [];
    const held = usage[key];
    const limit = values[name];
    // Written so that a cost that is no number is over every limit.
    if (held + asked <= limit) return [];
    return [
      {
        text: `${held + asked} ${unit} of ${holder} exceed the quota of ${limit}`,
        breach: { rule: `${section}.${name}`, limit, asked, held, at: at(name) },
      },
    ];
  });
}
