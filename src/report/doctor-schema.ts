import { Type } from '@sinclair/typebox';
import { closed } from './schema-parts.js';

const Probe = Type.Union(
  [
    Type.Object({ status: Type.Literal('supported') }, closed),
    Type.Object(
      {
        status: Type.Literal('unsupported'),
        reason: Type.String(),
        remedy: Type.Optional(Type.String({ description: 'what would help' })),
      },
      closed,
    ),
    Type.Object({ status: Type.Literal('inconclusive'), reason: Type.String() }, closed),
  ],
  { description: 'what trying it has shown' },
);

/** What `doctor --format json` prints. */
export const DoctorDocument = Type.Object(
  {
    schema: Type.Literal('xdpbed.doctor/1'),
    machine: Type.String({ description: 'kernel and CPU in words' }),
    works: Type.Boolean({ description: 'fabric `linux` works here' }),
    found: Type.Array(
      Type.Object(
        {
          name: Type.String({ description: 'what is required' }),
          neededFor: Type.String({ description: 'what does not work without it' }),
          optional: Type.Boolean({ description: 'fabric `linux` works without it, in part at least' }),
          result: Probe,
          remedy: Type.Optional(Type.String({ description: 'what to do where it is missing' })),
        },
        closed,
      ),
    ),
  },
  { ...closed, $id: 'urn:xdpbed:schemas:doctor.schema.json', title: 'xdpbed doctor' },
);
