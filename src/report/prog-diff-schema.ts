import { Type, type Static } from '@sinclair/typebox';
import { RejectionSchema, SentPacketSchema } from './sent-packet-schema.js';
import { closed, Count, Decimal } from './schema-parts.js';

const ValueDifference = Type.Object(
  {
    what: Type.String({ description: 'e.g. `verdict`, `bytes 14 to 17`, `records in events`, `counts[3]`' }),
    old: Type.String({
      description: 'of the old program: a word, bytes in hex, or a value as cases write it',
    }),
    new: Type.String({ description: 'of the new program, likewise' }),
  },
  closed,
);

const Difference = Type.Object(
  {
    packets: Type.Array(
      Type.Object(
        {
          ...SentPacketSchema.properties,
          differences: Type.Array(ValueDifference, {
            description: 'in what came of it; empty: both programs did the same',
          }),
        },
        closed,
      ),
      { description: 'the smallest sequence that was found, in the order in which it is sent' },
    ),
    maps: Type.Array(ValueDifference, { description: 'in what the maps hold after the sequence' }),
    mapsCut: Type.Boolean({ description: 'there are more differences in maps than are told' }),
  },
  { ...closed, description: 'what tells the programs apart' },
);

const ProgramDiff = Type.Object(
  {
    program: Type.String({ description: 'its name in the old object' }),
    newProgram: Type.String({ description: 'its name in the new object' }),
    result: Type.Union([Type.Literal('same'), Type.Literal('different'), Type.Literal('rejected')], {
      description: '`same`: on all packets that were run; `rejected`: a verifier refused one of the two',
    }),
    notCompared: Type.Array(Type.String(), {
      description: 'maps and variables that are not compared, and why; one sentence each',
    }),
    packets: Count('packets that were run until something was found, or in all'),
    sequences: Count('sequences that they were in, each from the same maps'),
    difference: Type.Optional(Difference),
    rejection: Type.Optional(
      Type.Object(
        {
          object: Type.Union([Type.Literal('old'), Type.Literal('new')], { description: 'whose program' }),
          ...RejectionSchema.properties,
        },
        { ...closed, description: RejectionSchema.description! },
      ),
    ),
  },
  closed,
);

/** What `prog diff --format json` prints. */
export const ProgDiffDocument = Type.Object(
  {
    schema: Type.Literal('xdpbed.prog-diff/1'),
    old: Type.String({ description: 'path of the old object' }),
    new: Type.String({ description: 'path of the new object' }),
    seed: Decimal('what packets were drawn from'),
    notCompared: Type.Array(Type.String(), {
      description: 'programs that only one object has; one sentence each',
    }),
    programs: Type.Array(ProgramDiff, { description: 'of one name, in the order of the old object' }),
    interrupted: Type.Optional(
      Type.String({
        description:
          'the program that was under way when it was ended from outside: what is told of it is what was found so far, of those behind it nothing',
      }),
    ),
  },
  { ...closed, $id: 'urn:xdpbed:schemas:prog-diff.schema.json', title: 'xdpbed prog diff' },
);
export type ProgDiffDocument = Static<typeof ProgDiffDocument>;
