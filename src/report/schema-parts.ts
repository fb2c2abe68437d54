import { Type } from '@sinclair/typebox';

/** A field that is not described is not printed. */
export const closed = { additionalProperties: false } as const;

/** @param description what is counted, or the unit */
export const Count = (description: string) => Type.Integer({ minimum: 0, description });

export const Hex = (description: string) =>
  Type.String({ pattern: '^([0-9a-f]{2})*$', description: `hex bytes; ${description}` });

/** A number as text, which may be longer than a double holds exactly. */
export const Decimal = (description: string) =>
  Type.String({ pattern: '^[0-9]+$', description: `decimal; ${description}` });

/** One of these words. */
export const Words = <const W extends readonly string[]>(words: W, description: string) =>
  Type.Union(
    words.map((word) => Type.Literal(word as W[number])),
    { description },
  );
