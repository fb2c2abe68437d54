import { Type, type Static } from '@sinclair/typebox';
import type { Policy, PolicyRequest, Ruling } from '../../src/core/contract/policy.js';
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
    return problems.length === 0
      ? { ruling: 'allow', reason: 'within every limit' }
      : { ruling: 'deny', reason: problems.join('; ') };
  }

  #problems(properties: ProgramProperties): string[] {
    const { config } = this;
    const problems: string[] = [];
    const verdicts = beyond(properties.verdicts, config.verdicts);
    if (verdicts.length > 0) problems.push(`it may return ${verdicts.join(', ')}`);
    const helpers = beyond(properties.helpers.map(helperName), config.helpers);
    if (helpers.length > 0) problems.push(`it calls ${helpers.join(', ')}`);
    const mapTypes = beyond(properties.mapTypes.map(mapTypeName), config['map-types']);
    if (mapTypes.length > 0) problems.push(`it uses ${mapTypes.join(', ')}`);
    if (properties.writesPacket && !config['write-packet']) problems.push('it writes the packet');
    const insns = config['insns-per-packet'];
    // What is not a number is no bound.
    if (insns !== undefined && !(properties.worstCaseInsns <= insns)) {
      problems.push(`${properties.worstCaseInsns} insns for a packet exceed the limit of ${insns}`);
    }
    if (config.stack !== undefined && properties.stackBytes > config.stack) {
      problems.push(`${properties.stackBytes} bytes of stack exceed the limit of ${config.stack}`);
    }
    return problems;
  }
}

function beyond(found: readonly string[], allowed: readonly string[] | undefined): string[] {
  return allowed === undefined ? [] : found.filter((word) => !allowed.includes(word));
}
