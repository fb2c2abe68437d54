import { Type, type Static } from '@sinclair/typebox';
import type { ConfigProblem, PolicySurroundings } from '../../src/core/contract/plugin.js';
import type { Breach, Policy, PolicyRequest, Ruling } from '../../src/core/contract/policy.js';
import type { ProgramProperties } from '../../src/core/contract/verifier.js';
import { BPF_MAP_TYPE, mapTypeName, type MapTypeName } from '../../src/bpf/map-spec.js';
import { BPF_FUNC, HELPER_NAMES, helperName } from '../../src/bpf/helper-ids.js';
import { MAX_TAIL_CALL_CNT } from '../../src/bpf/opcodes.js';
import { guestOverrides, settingsFor, unknownGuests } from '../../src/core/offload/guest-overrides.js';
import { XDP_ACTION_NAMES } from '../../src/bpf/xdp.js';

/** A closed set of words as one `enum`: an editor and an error then name what is allowed. */
const words = <W extends string>(all: readonly W[], description: string) =>
  Type.Optional(
    Type.Array(Type.Unsafe<W>({ type: 'string', enum: [...all] }), { uniqueItems: true, description }),
  );

const Limits = Type.Object(
  {
    verdicts: words(
      XDP_ACTION_NAMES,
      'verdicts that a program may be able to return; any other one is denied',
    ),
    helpers: words(HELPER_NAMES.slice(1), 'helpers that a program may call'),
    'map-types': words(
      Object.keys(BPF_MAP_TYPE) as MapTypeName[],
      'types of the maps that a program may use',
    ),
    'write-packet': Type.Boolean({ default: true, description: 'a program may write the packet' }),
    'insns-per-packet': Type.Optional(
      Type.Integer({
        minimum: 1,
        description:
          'most insns that a program may execute for one packet; one that makes tail calls counts 34 times (33 others may follow it), and so does one that is put into a PROG_ARRAY',
        examples: [1000],
      }),
    ),
    stack: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 512,
        description: 'most bytes of stack that a program may use',
        examples: [256],
      }),
    ),
  },
  { additionalProperties: false },
);
type Limits = Static<typeof Limits>;

export const ProgramLimitsConfig = Type.Object(
  {
    ...Limits.properties,
    guests: guestOverrides(Limits, 'limits of single guests, by name, each instead of the same key'),
  },
  {
    additionalProperties: false,
    description:
      'limits on what a program is able to do, as the verifier found it out; what is left out has no limit',
    examples: [
      {
        verdicts: ['XDP_PASS', 'XDP_DROP'],
        'write-packet': false,
        'insns-per-packet': 1000,
        stack: 256,
        helpers: ['bpf_map_lookup_elem'],
        'map-types': ['BPF_MAP_TYPE_ARRAY', 'BPF_MAP_TYPE_HASH'],
        guests: { alice: { 'insns-per-packet': 100_000 } },
      },
    ],
  },
);
export type ProgramLimitsConfig = Static<typeof ProgramLimitsConfig>;

/** `Plugin.rules` */
export const PROGRAM_LIMITS_RULES: Readonly<Record<keyof Limits, string>> = {
  verdicts: 'a program can return no other verdicts on any path',
  helpers: 'it calls no other helpers on any path',
  'map-types': 'it uses no maps of other types',
  'write-packet': 'it does not write the packet where that is not allowed',
  'insns-per-packet':
    'no packet has more than so many insns executed; a program that makes tail calls, or is put where they lead, counts 34 times',
  stack: 'it uses no more than so many bytes of stack',
};

/**
 * Programs that one packet passes through by tail calls, the first included. Each is held to so small a part of the limit,
 * those that make the calls when they are loaded and those that they lead to when they are put into a PROG_ARRAY.
 */
const LONGEST_CHAIN = MAX_TAIL_CALL_CNT + 1;

/** `Plugin.checkTestbed` */
export function checkProgramLimits(
  { guests }: ProgramLimitsConfig,
  testbed: PolicySurroundings,
): ConfigProblem[] {
  return unknownGuests(guests, testbed.guests);
}

/**
 * Denies a program that could do more than a limit allows, on any path. It rests on what the verifier found out
 * (`Acceptance.properties`); a program of which that is not known is denied, since nothing vouches for it.
 */
export class ProgramLimits implements Policy {
  readonly name = 'program-limits';

  readonly #limits: Limits;
  readonly #guests: ProgramLimitsConfig['guests'];

  constructor({ guests = {}, ...limits }: Limits & Partial<ProgramLimitsConfig>) {
    this.#limits = limits;
    this.#guests = guests;
  }

  rule(request: PolicyRequest): Ruling {
    const own = settingsFor(request.guest, this.#limits, [], this.#guests);
    let problems: Problem[];
    if (request.operation === 'program-attach') {
      if (request.properties === undefined) return UNKNOWN;
      problems = problemsOf(request.properties, own.values);
    } else if (request.operation === 'map-update' && request.programs !== undefined) {
      const insns: number[] = [];
      for (const { properties } of request.programs) {
        if (properties === undefined) return UNKNOWN;
        insns.push(properties.worstCaseInsns);
      }
      problems = problemsOfTarget(Math.max(0, ...insns), own.values);
    } else {
      return { ruling: 'allow', reason: 'attaches no program' };
    }
    if (problems.length === 0) return { ruling: 'allow', reason: 'within every limit' };
    const reason = problems.map(({ text }) => text).join('; ');
    return {
      ruling: 'deny',
      reason,
      toGuest: reason,
      breaches: problems.map(({ breach }) => ({ ...breach, at: own.at(breach.rule) })),
    };
  }
}

const WITHOUT_PROPERTIES = 'the verifier does not say what the program is able to do';
const UNKNOWN: Ruling = { ruling: 'deny', reason: WITHOUT_PROPERTIES, toGuest: WITHOUT_PROPERTIES };

interface Problem {
  readonly text: string;
  readonly breach: Breach & { readonly rule: keyof Limits };
}

function problemsOf(properties: ProgramProperties, config: Limits): Problem[] {
  const problems: Problem[] = [];
  const words = (rule: 'verdicts' | 'helpers' | 'map-types', found: readonly string[], what: string) => {
    const limit: readonly string[] | undefined = config[rule];
    const asked = limit === undefined ? [] : found.filter((word) => !limit.includes(word));
    if (asked.length > 0)
      problems.push({ text: `${what} ${asked.join(', ')}`, breach: { rule, limit, asked } });
  };
  words('verdicts', properties.verdicts, 'it may return');
  words('helpers', properties.helpers.map(helperName), 'it calls');
  words('map-types', properties.mapTypes.map(mapTypeName), 'it uses');
  if (properties.writesPacket && !config['write-packet']) {
    problems.push({ text: 'it writes the packet', breach: { rule: 'write-packet' } });
  }
  const callsOthers = properties.helpers.includes(BPF_FUNC.tail_call);
  problems.push(
    ...(callsOthers
      ? problemsOfTarget(properties.worstCaseInsns, config)
      : excess('insns-per-packet', config, properties.worstCaseInsns, 'insns for a packet')),
    ...excess('stack', config, properties.stackBytes, 'bytes of stack'),
  );
  return problems;
}

/** Of a program that may be one of many for a packet, of several the longest. */
function problemsOfTarget(worstCaseInsns: number, config: Limits): Problem[] {
  const asked = worstCaseInsns * LONGEST_CHAIN;
  const what = `insns for a packet, with tail calls to ${MAX_TAIL_CALL_CNT} others,`;
  return excess('insns-per-packet', config, asked, what);
}

function excess(
  rule: 'insns-per-packet' | 'stack',
  { [rule]: limit }: Limits,
  asked: number,
  what: string,
): Problem[] {
  // What is not a number is no bound.
  if (limit === undefined || asked <= limit) return [];
  return [{ text: `${asked} ${what} exceed the limit of ${limit}`, breach: { rule, limit, asked } }];
}
