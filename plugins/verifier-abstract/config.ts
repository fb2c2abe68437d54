import { Type, type Static } from '@sinclair/typebox';

export const CONFIG_SCHEMA = Type.Object(
  {
    allowPointerLeaks: Type.Boolean({
      default: false,
      description:
        'Let addresses become numbers, as the kernel does for programs loaded by root. Off, no address of the host can get into maps, packets or verdicts.',
    }),
    allowPrivilegedHelpers: Type.Boolean({
      default: false,
      description:
        'Allow helpers that read kernel memory or signal tasks (bpf_probe_read_kernel, bpf_send_signal …).',
    }),
    maxProgramInsns: Type.Integer({
      default: 1_000_000,
      minimum: 1,
      maximum: 1_000_000,
      description: 'Longest program in insns.',
    }),
    maxProcessedInsns: Type.Integer({
      default: 1_000_000,
      minimum: 1,
      description:
        'Insns simulated over all paths before the program counts as too complex; the kernel has 1000000.',
    }),
    maxPendingBranches: Type.Integer({
      default: 8192,
      minimum: 1,
      description: 'Branches waiting to be explored at one time; the kernel has 8192.',
    }),
    maxMilliseconds: Type.Integer({
      default: 30_000,
      minimum: 1,
      description: 'Wall-clock time of one verification, for programs that are made to be slow to verify.',
    }),
    maxMemoryMiB: Type.Integer({
      default: 256,
      minimum: 1,
      description: 'Memory that the states of one verification may take, as estimated.',
    }),
    deterministic: Type.Boolean({
      default: false,
      description: 'Leave the time out of the statistics, so that the same program gives the same result.',
    }),
  },
  { additionalProperties: false },
);

export type AbstractVerifierConfig = Static<typeof CONFIG_SCHEMA>;

/** The defaults of the schema, for use without the plugin loader. */
export const DEFAULT_CONFIG: AbstractVerifierConfig = Object.fromEntries(
  Object.entries(CONFIG_SCHEMA.properties).map(([name, schema]) => [name, schema.default as unknown]),
) as AbstractVerifierConfig;
