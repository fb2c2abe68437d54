import { Type, type Static } from '@sinclair/typebox';
import { RejectionSchema, SentPacketSchema } from './sent-packet-schema.js';
import { closed, Count, Decimal } from './schema-parts.js';

const Share = (description: string) =>
  Type.Object(
    { hit: Count('that were reached'), found: Count('that can be reached, as far as the verifier says') },
    { ...closed, description },
  );

const Violation = Type.Object(
  {
    property: Type.String({ description: 'as `--expect` has it' }),
    reason: Type.String({ description: 'what is instead, e.g. `verdict is XDP_DROP`' }),
    packet: Type.Integer({
      minimum: 1,
      description: 'number of the packet after which it does not hold, from 1',
    }),
    packets: Type.Array(SentPacketSchema, {
      description: 'the smallest sequence that was found, in the order in which it is sent',
    }),
    case: Type.String({ description: 'the same as an item of `cases` of a cases file: lines of YAML' }),
  },
  { ...closed, description: 'a sequence of packets after which a property does not hold' },
);

/** What `prog fuzz --format json` prints. */
export const ProgFuzzDocument = Type.Object(
  {
    schema: Type.Literal('xdpbed.prog-fuzz/1'),
    object: Type.String({ description: 'its path' }),
    program: Type.String({ description: 'its name' }),
    seed: Decimal('what packets were drawn from'),
    properties: Type.Array(Type.String(), { description: 'what had to hold, as `--expect` has it' }),
    result: Type.Union([Type.Literal('holds'), Type.Literal('violated'), Type.Literal('rejected')], {
      description: '`holds`: on all packets that were run; `rejected`: a verifier refused the program',
    }),
    packets: Count('packets that were run until something was found, or in all'),
    sequences: Count('sequences that they were in, each from the same maps'),
    coverage: Type.Optional(
      Type.Object(
        { lines: Share('lines of C that made insns'), branches: Share('ways of conditional jumps') },
        { ...closed, description: 'how far the packets came; absent: the object has no line info' },
      ),
    ),
    violation: Type.Optional(Violation),
    rejection: Type.Optional(RejectionSchema),
    interrupted: Type.Optional(
      Type.Literal(true, { description: 'it was ended from outside: this is what was found so far' }),
    ),
  },
  { ...closed, $id: 'urn:xdpbed:schemas:prog-fuzz.schema.json', title: 'xdpbed prog fuzz' },
);
export type ProgFuzzDocument = Static<typeof ProgFuzzDocument>;
