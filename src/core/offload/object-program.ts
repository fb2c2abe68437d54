import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import type { ProgramSpec } from '../../bpf/program.js';
import { XdpbedError } from '../diagnostic.js';
import type { ProgramPlan } from '../contract/plan.js';

/** The program of an object that a plan means. Throws `object-invalid` when the object is not the one planned with. */
export function objectProgram(object: ObjectSpec, plan: ProgramPlan): ProgramSpec {
  const program = object.programs.find(({ name }) => name === plan.function);
  if (program !== undefined) return program;
  throw new XdpbedError('object-invalid', `${plan.object} holds no program ${plan.function}`);
}
