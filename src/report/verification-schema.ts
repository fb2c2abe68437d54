import { Type, type TSchema } from '@sinclair/typebox';
import { closed, Count } from './schema-parts.js';

const Insn = (description: string) =>
  Type.Integer({ minimum: 0, description: `slot of the insn; ${description}` });

const Line = Type.Object(
  {
    insn: Insn('the first of this line'),
    file: Type.String(),
    text: Type.String({ description: 'the source, trimmed' }),
    line: Count('from 1'),
    column: Count('from 1'),
  },
  closed,
);

const Hotspot = Type.Object(
  {
    insn: Insn('where states multiply'),
    visits: Count('how often'),
    states: Count('that are stored there'),
    kind: Type.Union([Type.Literal('loop'), Type.Literal('branch'), Type.Literal('call')]),
    line: Type.Optional(Line),
  },
  closed,
);

const Statistics = Type.Object(
  {
    processedInsns: Count(
      'insns simulated, each visit; of the kernel’s verifier also those at which a path was pruned',
    ),
    prunedPaths: Type.Optional(Count('paths that came to a state that was explored before')),
    peakStates: Count('held at a time'),
    totalStates: Count('in all'),
    hotspots: Type.Optional(Type.Array(Hotspot, { description: 'most first' })),
    visits: Type.Optional(
      Type.Array(Count('how often'), {
        description: 'with `--complexity`: simulations of each insn, by slot',
      }),
    ),
    milliseconds: Type.Optional(Type.Number({ minimum: 0, description: 'ms by the clock' })),
    memoryMiB: Type.Optional(Type.Number({ minimum: 0, description: 'MiB held at most' })),
  },
  closed,
);

const Properties = Type.Object(
  {
    helpers: Type.Array(Count('number of a helper')),
    mapTypes: Type.Array(Count('number of a map type')),
    writesPacket: Type.Boolean(),
    verdicts: Type.Array(Type.String({ description: 'XDP_…' })),
    worstCaseInsns: Type.Union([Type.Number({ minimum: 0 }), Type.Null()], {
      description: 'insns executed for one packet at most; null: nothing bounds it',
    }),
    stackBytes: Count('bytes'),
  },
  closed,
);

const BY_INSN = '^[0-9]+$';
const ByInsn = (value: TSchema, description: string) =>
  Type.Unsafe<object>({
    type: 'object',
    patternProperties: { [BY_INSN]: value },
    additionalProperties: false,
    description,
  });

const Facts = Type.Object(
  {
    accesses: ByInsn(
      Type.Object(
        {
          region: Type.Union(
            ['context', 'packet', 'packet-meta', 'stack', 'map-value', 'memory'].map((region) =>
              Type.Literal(region),
            ),
          ),
          write: Type.Boolean(),
          size: Count('bytes'),
          minOffset: Type.Integer({ description: 'bytes from the start of the object' }),
          maxOffset: Type.Integer({ description: 'bytes from the start of the object, inclusive' }),
          map: Type.Optional(Count('handle, for `map-value`')),
        },
        closed,
      ),
      'loads, stores and atomics, by insn',
    ),
    calls: ByInsn(
      Type.Object(
        {
          helper: Type.Integer({
            minimum: -1,
            description: 'number of the helper; -1: a call within the program',
          }),
          map: Type.Optional(Count('handle of the map argument')),
          constants: Type.Unsafe<object>({
            type: 'object',
            patternProperties: { '^[1-5]$': { type: 'string', pattern: '^-?[0-9]+$' } },
            additionalProperties: false,
            description: 'arguments that are constant, decimal, by their number',
          }),
        },
        closed,
      ),
      'calls, by insn',
    ),
    unreachable: Type.Array(Insn('no path reaches it')),
  },
  { ...closed, description: 'what is known at insns on every path' },
);

const Common = {
  verifier: Type.String({ description: 'who judged' }),
  statistics: Statistics,
  log: Type.Optional(Type.String({ description: 'with `--log`' })),
  opinions: Type.Optional(
    Type.Array(Type.Unsafe<object>({ $ref: '#/definitions/verification' }), {
      description: 'where several judged: what each said',
    }),
  ),
};

const Acceptance = Type.Object(
  {
    accepted: Type.Literal(true),
    ...Common,
    contained: Type.Optional(
      Type.Boolean({ description: 'every access was shown to stay within the object that it is for' }),
    ),
    properties: Type.Optional(Properties),
    facts: Type.Optional(Facts),
  },
  closed,
);

const Rejection = Type.Object(
  {
    accepted: Type.Literal(false),
    ...Common,
    code: Type.String({ description: 'stable, e.g. `packet-bounds`' }),
    reason: Type.String({ description: 'one sentence' }),
    insn: Type.Optional(Insn('the one at fault; absent: the program as a whole')),
    disassembly: Type.Optional(Type.String()),
    line: Type.Optional(Line),
    registers: Type.Optional(Type.Array(Type.String(), { description: 'as the kernel’s log has them' })),
    path: Type.Optional(
      Type.Array(
        Type.Object({ insn: Insn('of the step'), text: Type.String(), line: Type.Optional(Line) }, closed),
        {
          description: 'how it came to this, oldest first',
        },
      ),
    ),
    suggestion: Type.Optional(Type.String({ description: 'what would help' })),
  },
  closed,
);

export const VERIFICATION_SCHEMA_VERSION = 'xdpbed.verification/1';

/** What `prog verify --format json` prints. */
export const VerificationDocument = Type.Object(
  {
    schema: Type.Literal(VERIFICATION_SCHEMA_VERSION),
    programs: Type.Array(
      Type.Object(
        {
          program: Type.String({ description: 'its name' }),
          verifications: Type.Array(Type.Unsafe<object>({ $ref: '#/definitions/verification' }), {
            description: 'one of each verifier, in the order in which they were named',
          }),
          unsupported: Type.Optional(
            Type.String({ description: 'why it cannot be loaded: nobody was asked' }),
          ),
        },
        closed,
      ),
    ),
    interrupted: Type.Optional(
      Type.String({ description: 'the program that was under way when it was ended from outside' }),
    ),
  },
  {
    ...closed,
    $id: 'urn:xdpbed:schemas:verification.schema.json',
    title: 'xdpbed prog verify',
    definitions: { verification: Type.Union([Acceptance, Rejection]) },
  },
);
