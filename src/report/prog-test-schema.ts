import { Type, type Static } from '@sinclair/typebox';
import { closed, Count } from './schema-parts.js';

const Place = (description: string) => Type.Integer({ minimum: 1, description });
const Milliseconds = (description: string) =>
  Type.Number({ minimum: 0, description: `ms by the machine’s clock; ${description}` });

const Case = Type.Object(
  {
    name: Type.String({ description: 'of the case' }),
    line: Place('where its name stands in the file, from 1'),
    passed: Type.Boolean({ description: 'all that it expects is so' }),
    milliseconds: Milliseconds('loading included, for the first that needs it'),
    problems: Type.Array(
      Type.Object(
        {
          line: Place('of what does not hold, in the file, from 1'),
          col: Place('character in that line, from 1'),
          message: Type.String({ description: 'what is instead' }),
        },
        closed,
      ),
      { description: 'what it expects and is not so' },
    ),
    notes: Type.Optional(
      Type.Array(Type.String(), { description: 'what is to be known of one that passed, too' }),
    ),
  },
  closed,
);

/** What `prog test --format json` prints. */
export const ProgTestDocument = Type.Object(
  {
    schema: Type.Literal('xdpbed.prog-test/1'),
    passed: Count('cases that passed, of all files'),
    failed: Count('cases that failed, of all files'),
    milliseconds: Milliseconds('of all, reading and loading included'),
    files: Type.Array(
      Type.Object(
        {
          file: Type.String({ description: 'path of the cases file' }),
          object: Type.String({ description: 'path of the object' }),
          cases: Type.Array(Case, { description: 'that were run, in the order of the file' }),
        },
        closed,
      ),
      { description: 'that could be read; what is wrong with others is on stderr' },
    ),
    interrupted: Type.Optional(
      Type.Literal(true, { description: 'it was ended from outside: the cases that were through by then' }),
    ),
  },
  { ...closed, $id: 'urn:xdpbed:schemas:prog-test.schema.json', title: 'xdpbed prog test' },
);
export type ProgTestDocument = Static<typeof ProgTestDocument>;
