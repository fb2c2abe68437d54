import { Type, type Static } from '@sinclair/typebox';
import type { Breach, Policy, PolicyRequest, Ruling } from '../../src/core/contract/policy.js';
import type { ProgramProperties } from '../../src/core/contract/verifier.js';
import { BPF_MAP_TYPE, mapTypeName, type MapTypeName } from '../../src/bpf/map-spec.js';
import { HELPER_NAMES, helperName } from '../../src/bpf/helper-ids.js';
import { XDP_ACTION_NAMES } from '../../src/bpf/xdp.js';

/** A closed set of words as one `enum`: an editor and an error then name what is allowed. */
const words = <W extends string>(all: readonly W[], description: string) =>
  Type.Optional(
    Type.Array(Type.Unsafe<W>({ type: 'string', enum: [...all] }), { uniqueItems: true, description }),
  );

export const ProgramLimitsConfig = Type.Object(
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
        description: 'most insns that a program may execute for one packet',
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
  {
    additionalProperties: false,
    description:
      'limits on what a program is able to do, as the verifier found it out; what is left out has no limit',
  },
);
export type ProgramLimitsConfig = Static<typeof ProgramLimitsConfig>;

/**
 * Denies a program that could do more than a limit allows, on any path. It rests on what the verifier found out
 * (`Acceptance.properties`); a program of which that is not known is denied, since nothing vouches for it.
 */
export class ProgramLimits implements Policy {
  readonly name = 'program-limits';

  constructor(readonly config: ProgramLimitsConfig) {}

  rule(request: PolicyRequest): Ruling {
    if (request.operation !== 'program-attach') return { ruling: 'allow', reason: 'attaches no program' };
    if (request.properties === undefined) {
      return { ruling: 'deny', reason: 'the verifier does not say what the program is able to do' };
    }
    const problems = this.#problems(request.properties);
    if (problems.length === 0) return { ruling: 'allow', reason: 'within every limit' };
    return {
      ruling: 'deny',
      reason: problems.map(({ text }) => text).join('; '),
      breaches: problems.map(({ breach }) => ({ ...breach, at: [breach.rule] })),
    };
  }

  #problems(properties: ProgramProperties): { readonly text: string; readonly breach: Breach }[] {
    const { config } = this;
    const problems: { text: string; breach: Breach }[] = [];
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
    const number = (rule: 'insns-per-packet' | 'stack', asked: number, what: string) => {
      const limit = config[rule];
      // What is not a number is no bound.
      if (limit === undefined || asked <= limit) return;
      problems.push({
        text: `${asked} ${what} exceed the limit of ${limit}`,
        breach: { rule, limit, asked },
      });
    };
    number('insns-per-packet', properties.worstCaseInsns, 'insns for a packet');
    number('stack', properties.stackBytes, 'bytes of stack');
    return problems;
  }
}
