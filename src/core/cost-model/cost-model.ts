import { BPF_FUNC } from '../../bpf/helper-ids.js';
import { PS_PER_NS, type Picoseconds } from '../contract/clock.js';
import { XdpbedError } from '../diagnostic.js';
import type { Calibration } from './calibration.js';
import {
  COST_PARAMETERS,
  COST_PARAMETER_NAMES,
  type CostParameterName,
  type CostUnit,
} from './cost-parameters.js';

/**
 * What everything costs, in whole numbers, so that sums are exact and the same on every machine: times in picoseconds,
 * of bytes in picoseconds each (the line rate, too), frames and bytes as they are.
 */
export interface CostModel {
  readonly name: string;
  readonly of: Readonly<Record<CostParameterName, number>>;
  /** Picoseconds of a call, by the helper's number. */
  helper(id: number): Picoseconds;
}

/** Another value for a parameter, or for `helper.` and the name of a helper or `default`; in the parameter's unit. */
export type CostOverrides = Readonly<Record<string, number>>;

const PS_PER_US = 1_000_000;
/** A wire of 1 Gbit/s takes so long for a byte. */
const PS_PER_BYTE_AT_1_GBIT = 8_000;

/** @throws XdpbedError `testbed-invalid` for an override of what is no parameter, or that is below 0 */
export function costModel(
  { name, parameters, helpers }: Calibration,
  overrides: CostOverrides = {},
): CostModel {
  const values = new Map<string, number>();
  for (const parameter of COST_PARAMETER_NAMES) values.set(parameter, parameters[parameter].value);
  for (const [helper, { value }] of Object.entries(helpers)) values.set(`helper.${helper}`, value);
  for (const [parameter, value] of Object.entries(overrides)) {
    const helper = /^helper\.(.*)$/.exec(parameter)?.[1];
    if (
      helper === undefined ? !values.has(parameter) : helper !== 'default' && helperId(helper) === undefined
    ) {
      throw new XdpbedError('testbed-invalid', `the cost model has no parameter '${parameter}'`);
    }
    if (!Number.isFinite(value) || value < 0) {
      throw new XdpbedError('testbed-invalid', `cost ${parameter} is ${value}: costs are numbers from 0 on`);
    }
    values.set(parameter, value);
  }
  const of = Object.fromEntries(
    COST_PARAMETER_NAMES.map((parameter) => [parameter, inBaseUnit(parameter, values.get(parameter)!)]),
  ) as Record<CostParameterName, number>;
  const byHelper = new Map<number, Picoseconds>();
  for (const [parameter, value] of values) {
    const id = parameter.startsWith('helper.') ? helperId(parameter.slice('helper.'.length)) : undefined;
    if (id !== undefined) byHelper.set(id, Math.round(value * PS_PER_NS));
  }
  const other = Math.round(values.get('helper.default')! * PS_PER_NS);
  return { name, of, helper: (id) => byHelper.get(id) ?? other };
}

function inBaseUnit(parameter: CostParameterName, value: number): number {
  const unit: CostUnit = COST_PARAMETERS[parameter].unit;
  switch (unit) {
    case 'ns':
      return Math.round(value * PS_PER_NS);
    case 'µs':
      return Math.round(value * PS_PER_US);
    case 'Gbit/s':
      if (value <= 0)
        throw new XdpbedError('testbed-invalid', `cost ${parameter} is ${value}: nothing would arrive`);
      return Math.max(1, Math.round(PS_PER_BYTE_AT_1_GBIT / value));
    case 'frames':
      return Math.max(1, Math.round(value));
    case 'ps/byte':
    case 'bytes':
      return Math.round(value);
  }
}

/** The number of a helper by its full name, as `bpf_map_lookup_elem`. */
function helperId(name: string): number | undefined {
  const short = name.replace(/^bpf_/, '');
  return short !== name && Object.hasOwn(BPF_FUNC, short)
    ? BPF_FUNC[short as keyof typeof BPF_FUNC]
    : undefined;
}
