import { Type } from '@sinclair/typebox';

/** A field that is not described is not printed. */
export const closed = { additionalProperties: false } as const;

/** @param description what is counted, or the unit */
export const Count = (description: string) => Type.Integer({ minimum: 0, description });

export const Hex = (description: string) =>
  Type.String({ pattern: '^([0-9a-f]{2})*$', description: `hex bytes; ${description}` });

/** An element that is placed in a map (`MapEntryText`): its key, and one of the others. */
export const MAP_ENTRY = {
  key: Hex('in the order of memory'),
  value: Type.Optional(Hex('in the order of memory; of a per-CPU map that of every CPU')),
  cpuValues: Type.Optional(
    Type.Array(Type.Object({ cpu: Count('its number'), value: Hex('in the order of memory') }, closed), {
      description: 'of a per-CPU map in place of `value`: of these CPUs; others have 0',
    }),
  ),
  mapName: Type.Optional(
    Type.String({ description: 'of a map of maps in place of `value`: the map of the object' }),
  ),
  programName: Type.Optional(
    Type.String({ description: 'of a PROG_ARRAY in place of `value`: the program of the object' }),
  ),
};

/** A number as text, which may be longer than a double holds exactly. */
export const Decimal = (description: string) =>
  Type.String({ pattern: '^[0-9]+$', description: `decimal; ${description}` });

/** One of these words. */
export const Words = <const W extends readonly string[]>(words: W, description: string) =>
  Type.Union(
    words.map((word) => Type.Literal(word as W[number])),
    { description },
  );
