import { Type, type Static } from '@sinclair/typebox';
import { closest } from 'fastest-levenshtein';
import { HELPER_NAMES, helperId, helperName, knownHelperName } from '../../src/bpf/helper-ids.js';
import type { ConfigProblem, PolicySurroundings } from '../../src/core/contract/plugin.js';
import type { Grants, Policy, PolicyRequest, Ruling } from '../../src/core/contract/policy.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import {
  guestOverrides,
  settingsFor,
  unknownGuests,
  type GuestSettings,
} from '../../src/core/offload/guest-overrides.js';
import {
  HELPER_CLASS_NAMES,
  HELPER_CLASSES,
  helperClass,
  helpersOfClass,
  type HelperClass,
} from '../../src/core/offload/helper-classes.js';
import { OFFLOADABLE_HELPER_IDS, WITHHELD_HELPERS } from '../../src/core/offload/offloadable-helpers.js';

// Numbers 0 and the last are markers of the enumeration, not helpers.
const CALLABLE_NAMES = HELPER_NAMES.slice(1).filter((name) => name !== 'bpf_MAX_ID');

const HelperList = (description: string, example: string) =>
  Type.Array(Type.Unsafe<string>({ type: 'string', enum: CALLABLE_NAMES, description: 'name of a helper' }), {
    default: [],
    uniqueItems: true,
    description,
    examples: [[example]],
  });

const Lists = Type.Object(
  {
    base: Type.Unsafe<'default' | 'none'>({
      type: 'string',
      enum: ['default', 'none'],
      default: 'default',
      description: 'what the list starts from: the built-in one, or nothing',
    }),
    classes: Type.Array(
      Type.Unsafe<HelperClass>({ type: 'string', enum: HELPER_CLASS_NAMES, description: 'name of a class' }),
      {
        default: [],
        uniqueItems: true,
        description: 'classes of helpers to add to the list',
        examples: [['time']],
      },
    ),
    allow: HelperList('helpers to add to the list', 'bpf_ktime_get_ns'),
    deny: HelperList('helpers to take off the list; wins over classes and allow', 'bpf_get_prandom_u32'),
  },
  { additionalProperties: false },
);
type Lists = Static<typeof Lists>;

export const HelperAllowListConfig = Type.Object(
  {
    ...Lists.properties,
    guests: guestOverrides(Lists, 'lists of single guests, by name, each instead of the same key'),
  },
  {
    additionalProperties: false,
    description: 'the helpers that an offloaded program may call',
    examples: [
      {
        classes: ['time'],
        allow: ['bpf_get_smp_processor_id'],
        deny: ['bpf_get_prandom_u32'],
        guests: { alice: { base: 'none', classes: ['packet', 'maps'] } },
      },
    ],
  },
);
export type HelperAllowListConfig = Static<typeof HelperAllowListConfig>;

const DEFAULT_LISTS: Lists = { base: 'default', classes: [], allow: [], deny: [] };

/** `Plugin.rules` */
export const HELPER_ALLOW_LIST_RULES: Readonly<Record<string, string>> = {
  helpers: 'a program calls no helper that is not on the guest’s list',
};

/** `Plugin.checkTestbed` */
export function checkHelperAllowList(
  { guests }: HelperAllowListConfig,
  testbed: PolicySurroundings,
): ConfigProblem[] {
  return unknownGuests(guests, testbed.guests);
}

/**
 * Denies a program that calls a helper which is not on the guest's list. It rules twice: on the calls that can be read
 * off the insns, and again on those that the verifier found.
 *
 * The constructor throws `testbed-invalid` for a name that no kernel helper has, with the nearest one.
 */
export class HelperAllowList implements Policy {
  readonly name = 'helper-allow-list';
  readonly #lists: Lists;
  readonly #guests: HelperAllowListConfig['guests'];
  readonly #allowed: ReadonlySet<number>;
  /** Of guests with lists of their own. */
  readonly #ofGuests: ReadonlyMap<string, ReadonlySet<number>>;

  constructor({ guests = {}, ...lists }: Partial<HelperAllowListConfig> = {}) {
    this.#lists = { ...DEFAULT_LISTS, ...lists };
    this.#guests = guests;
    this.#allowed = allowedBy(this.#lists);
    this.#ofGuests = new Map(
      Object.keys(guests).map((guest) => [guest, allowedBy(this.#settings(guest).values)]),
    );
  }

  /** Numbers of the helpers on the list of guests without one of their own. */
  get allowed(): ReadonlySet<number> {
    return this.#allowed;
  }

  grants(guest: string): Grants {
    return { helpers: this.#ofGuests.get(guest) ?? this.#allowed };
  }

  rule(request: PolicyRequest): Ruling {
    switch (request.operation) {
      case 'program-load':
        return this.#ruleOn(request.guest, request.program.helpers);
      case 'program-attach':
        return this.#ruleOn(request.guest, [
          ...new Set([...request.program.helpers, ...(request.properties?.helpers ?? [])]),
        ]);
      case 'map-create':
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
      case 'btf-load':
        return { ruling: 'allow', reason: 'calls no helper' };
    }
  }

  #ruleOn(guest: string, helpers: readonly number[]): Ruling {
    const allowed = this.#ofGuests.get(guest) ?? this.#allowed;
    const denied = helpers.filter((helper) => !allowed.has(helper));
    if (denied.length > 0) {
      const at = this.#settings(guest).at('allow');
      const reason = denied.map(describe).join('; ');
      return {
        ruling: 'deny',
        reason,
        toGuest: reason,
        breaches: [{ rule: 'helpers', asked: denied.map(helperName), at }],
      };
    }
    return {
      ruling: 'allow',
      reason: helpers.length === 0 ? 'calls no helper' : 'calls only helpers that are on the list',
    };
  }

  #settings(guest: string): GuestSettings<Lists> {
    return settingsFor(guest, this.#lists, [], this.#guests);
  }
}

function allowedBy({ base, classes, allow, deny }: Lists): ReadonlySet<number> {
  const allowed = new Set(base === 'none' ? [] : OFFLOADABLE_HELPER_IDS);
  for (const name of classes) for (const helper of helpersOfClass(name)) allowed.add(helper);
  for (const name of allow) allowed.add(requireHelper(name));
  for (const name of deny) allowed.delete(requireHelper(name));
  return allowed;
}

function describe(helper: number): string {
  const kind = helperClass(helper);
  const why =
    WITHHELD_HELPERS[knownHelperName(helper) ?? ''] ??
    (kind === undefined ? undefined : `class ${kind}: ${HELPER_CLASSES[kind].description}`);
  return `${helperName(helper)} is not on the list${why === undefined ? '' : ` (${why})`}`;
}

function requireHelper(name: string): number {
  const id = CALLABLE_NAMES.includes(name) ? helperId(name) : undefined;
  if (id !== undefined) return id;
  throw new XdpbedError('testbed-invalid', `there is no helper '${name}'`, {
    hint: `did you mean '${closest(name, CALLABLE_NAMES)}'?`,
  });
}
