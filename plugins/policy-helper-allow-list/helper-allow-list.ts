import { Type, type Static } from '@sinclair/typebox';
import { closest } from 'fastest-levenshtein';
import { HELPER_NAMES, helperId, helperName, knownHelperName } from '../../src/bpf/helper-ids.js';
import type { Grants, Policy, PolicyRequest, Ruling } from '../../src/core/contract/policy.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
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

export const HelperAllowListConfig = Type.Object(
  {
    base: Type.Unsafe<'default' | 'none'>({
      type: 'string',
      enum: ['default', 'none'],
      default: 'default',
      description: 'what the list starts from: the built-in one, or nothing',
    }),
    allow: HelperList('helpers to add to the list', 'bpf_ktime_get_ns'),
    deny: HelperList('helpers to take off the list; wins over allow', 'bpf_get_prandom_u32'),
  },
  { additionalProperties: false, description: 'the helpers that an offloaded program may call' },
);
export type HelperAllowListConfig = Static<typeof HelperAllowListConfig>;

/**
 * Denies a program that calls a helper which is not on the list. It rules twice: on the calls that can be read
 * off the insns, and on those that the verifier found.
 *
 * The constructor throws `testbed-invalid` for a name that no kernel helper has, with the nearest one.
 */
export class HelperAllowList implements Policy {
  readonly name = 'helper-allow-list';
  readonly #allowed: Set<number>;

  constructor(config: HelperAllowListConfig) {
    this.#allowed = new Set(config.base === 'none' ? [] : OFFLOADABLE_HELPER_IDS);
    for (const name of config.allow) this.#allowed.add(requireHelper(name));
    for (const name of config.deny) this.#allowed.delete(requireHelper(name));
  }

  /** Numbers of the helpers on the list. */
  get allowed(): ReadonlySet<number> {
    return this.#allowed;
  }

  grants(): Grants {
    return { helpers: this.#allowed };
  }

  rule(request: PolicyRequest): Ruling {
    switch (request.operation) {
      case 'program-load':
        return this.#ruleOn(request.program.helpers);
      case 'program-attach':
        return this.#ruleOn([
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
      case 'btf-load':
        return { ruling: 'allow', reason: 'calls no helper' };
    }
  }

  #ruleOn(helpers: readonly number[]): Ruling {
    const denied = helpers.filter((helper) => !this.#allowed.has(helper));
    if (denied.length > 0) {
      return {
        ruling: 'deny',
        reason: denied.map(describe).join('; '),
        breaches: [{ rule: 'helpers', asked: denied.map(helperName), at: ['allow'] }],
      };
    }
    return {
      ruling: 'allow',
      reason: helpers.length === 0 ? 'calls no helper' : 'calls only helpers that are on the list',
    };
  }
}

function describe(helper: number): string {
  const why = WITHHELD_HELPERS[knownHelperName(helper) ?? ''];
  return `${helperName(helper)} is not on the list${why === undefined ? '' : ` (${why})`}`;
}

function requireHelper(name: string): number {
  const id = CALLABLE_NAMES.includes(name) ? helperId(name) : undefined;
  if (id !== undefined) return id;
  throw new XdpbedError('testbed-invalid', `there is no helper '${name}'`, {
    hint: `did you mean '${closest(name, CALLABLE_NAMES)}'?`,
  });
}
