import { Type, type Static, type TSchema } from '@sinclair/typebox';
import { BPF_FUNC } from '../../bpf/helper-ids.js';
import { ProblemList } from '../testbed/problem-list.js';
import { SchemaValidator } from '../testbed/schema-validator.js';
import { YamlSource } from '../testbed/yaml-source.js';
import { COST_PARAMETERS, type CostParameterName } from './cost-parameters.js';

/**
 * A calibration file: a value for each parameter of the cost model, where it comes from, and which of them
 * `xdpbed calibrate` may change.
 */
const closed = { additionalProperties: false } as const;

const Source = Type.String({
  minLength: 1,
  description: 'where the value comes from: a measurement and who made it',
});

const FreeParameter = Type.Object(
  {
    prior: Type.Number({ minimum: 0, description: 'what it was taken for before the fit, by the source' }),
    spread: Type.Number({
      exclusiveMinimum: 0,
      description: 'one standard deviation of what is known of it',
    }),
  },
  { ...closed, description: 'the parameter is fitted; left out, it stays as it is' },
);

const Parameter = (description: string, unit: string): TSchema =>
  Type.Object(
    {
      value: Type.Number({ minimum: 0, description: `in ${unit}` }),
      source: Source,
      free: Type.Optional(FreeParameter),
    },
    { ...closed, description: `${unit}: ${description}` },
  );

const helperNames = Object.keys(BPF_FUNC).map((name) => `bpf_${name}`);

const HelperCost = Type.Object(
  { value: Type.Number({ minimum: 0, description: 'in ns' }), source: Source },
  closed,
);

export const CalibrationSchema = Type.Object(
  {
    $schema: Type.Optional(Type.String({ description: 'for editors' })),
    version: Type.Literal(1, { description: 'version of this format' }),
    name: Type.String({ minLength: 1, description: 'of the machine, or of who measured it' }),
    description: Type.Optional(Type.String()),
    parameters: Type.Object(
      Object.fromEntries(
        Object.entries(COST_PARAMETERS).map(([name, { unit, meaning }]) => [name, Parameter(meaning, unit)]),
      ),
      closed,
    ),
    // Names and costs apart: two hundred properties would take longer to compile than the rest takes to run.
    helpers: Type.Object(
      { default: HelperCost },
      {
        propertyNames: { enum: ['default', ...helperNames] },
        additionalProperties: HelperCost,
        description: 'a call of a helper by its name, and of all others',
      },
    ),
  },
  { ...closed, title: 'xdpbed calibration', description: 'what things cost in the model fabric’s time' },
);

export interface CalibratedParameter {
  readonly value: number;
  readonly source: string;
  readonly free?: Static<typeof FreeParameter> | undefined;
}

export interface Calibration {
  readonly name: string;
  readonly description?: string | undefined;
  readonly parameters: Readonly<Record<CostParameterName, CalibratedParameter>>;
  readonly helpers: Readonly<Record<string, Static<typeof HelperCost>>>;
}

/** Compiling the schema takes longer than everything else here, and a fit reads its calibration hundreds of times. */
const validator = new SchemaValidator();

/** What was read of bytes that were asked for before: the runs of a testbed all have the same. */
const known = new WeakMap<Uint8Array, Calibration>();

/**
 * Reads a calibration file. Throws `testbed-invalid` with every problem and its place.
 *
 * @param file its name, for messages
 */
export function readCalibration(file: string, bytes: Uint8Array): Calibration {
  let calibration = known.get(bytes);
  if (calibration === undefined) known.set(bytes, (calibration = parseCalibration(file, bytes)));
  return calibration;
}

function parseCalibration(file: string, bytes: Uint8Array): Calibration {
  const source = new YamlSource(file, bytes);
  const problems = new ProblemList(source);
  problems.throwIfAny();
  const data = structuredClone(source.value);
  for (const violation of validator.validate(CalibrationSchema, data)) problems.reportViolation(violation);
  problems.throwIfAny();
  return data as Calibration;
}
