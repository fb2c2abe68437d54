import { Type, type Static } from '@sinclair/typebox';

const closed = { additionalProperties: false } as const;
const Cpus = (description: string) => Type.Optional(Type.Integer({ minimum: 1, maximum: 1024, description }));

export const ModelConfig = Type.Object(
  {
    calibration: Type.Optional(
      Type.String({
        minLength: 1,
        description:
          'file with what things cost, relative to the testbed’s folder; without one, no rates are predicted',
        examples: ['calibration/rfc-2019.yaml'],
      }),
    ),
    costs: Type.Record(Type.String(), Type.Number({ minimum: 0 }), {
      default: {},
      description:
        'other values than the file’s, by parameter, in its unit; `helper.` and its name for that of a helper',
      examples: [{ 'vhost-rx': 200, 'helper.bpf_map_lookup_elem': 10 }],
    }),
    'sample-ms': Type.Number({
      minimum: 0.1,
      maximum: 10_000,
      default: 4,
      description:
        'ms of virtual time of a sample at most: there is no noise that longer ones would even out',
    }),
    'warm-up-ms': Type.Number({
      minimum: 0,
      maximum: 10_000,
      default: 2,
      description:
        'ms of virtual time before the first sample at most: until all queues are as full as they get',
    }),
    'exchange-ms': Type.Number({
      minimum: 1,
      maximum: 10_000,
      default: 40,
      description:
        'ms of virtual time of a sample of an exchange at most; half as long is its warm-up at most',
    }),
    'nic-queues': Type.Integer({
      minimum: 1,
      maximum: 256,
      default: 1,
      description:
        'receive queues of the host’s NIC while rates are predicted, each with a CPU; a flow keeps to one',
    }),
    cpus: Type.Object(
      {
        vhost: Cpus('that the readers of all taps share; left out, each has one of its own'),
        guests: Cpus('that the virtual CPUs of all guests share; left out, each has one of its own'),
      },
      { ...closed, default: {}, description: 'CPUs of the host' },
    ),
  },
  {
    ...closed,
    title: 'fabric model',
    description:
      'guest drivers, virtqueues, QEMU devices, taps, bridges and NICs in this process; needs nothing but Node',
  },
);
export type ModelConfig = Static<typeof ModelConfig>;
