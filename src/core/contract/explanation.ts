import { Type, type Static } from '@sinclair/typebox';

const closed = { additionalProperties: false } as const;
const Nanoseconds = (description: string) => Type.Number({ minimum: 0, description: `ns; ${description}` });

/** Why a rate is what it is, where a fabric can tell: over the samples, not the warm-up. */
export const RateExplanation = Type.Object(
  {
    bottleneck: Type.String({
      description: 'what kept the rate from being higher: the CPU that had no time left, or the wire',
    }),
    cpus: Type.Array(
      Type.Object(
        {
          name: Type.String(),
          utilisation: Type.Number({
            minimum: 0,
            description: 'part of the time that it worked, 0 to 1; polling is no work',
          }),
        },
        closed,
      ),
    ),
    queues: Type.Array(
      Type.Object(
        {
          name: Type.String(),
          capacity: Type.Integer({ minimum: 1 }),
          mean: Type.Number({ minimum: 0, description: 'frames in it, on average' }),
          max: Type.Integer({ minimum: 0, description: 'frames in it, at most' }),
          course: Type.Array(Type.Integer({ minimum: 0 }), {
            description: 'the most frames that were in it, by equal stretches of time',
          }),
        },
        closed,
      ),
    ),
    wakeUps: Type.Array(
      Type.Object(
        {
          name: Type.String({ description: 'who slept' }),
          perFrame: Type.Number({
            minimum: 0,
            description: 'how often it was woken, for each frame of the rate',
          }),
        },
        closed,
      ),
    ),
    latency: Type.Object(
      {
        p50: Nanoseconds('half of the frames took no longer'),
        p90: Nanoseconds('nine of ten'),
        p99: Nanoseconds('99 of 100'),
        max: Nanoseconds('the longest'),
      },
      { ...closed, description: 'from a frame’s arrival at the NIC to its end; lost frames do not count' },
    ),
  },
  closed,
);
export type RateExplanation = Static<typeof RateExplanation>;
