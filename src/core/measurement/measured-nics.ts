import type { GuestNicPlan, MeasurePlan, RunPlan } from '../contract/plan.js';

/** A guest nic whose rate is measured. */
export interface MeasuredNic {
  /** `guest0.eth0` */
  readonly node: string;
  readonly nic: GuestNicPlan;
}

/** Those with a program, if the plan names some, of these; in the order of the guests. */
export function measuredNics(
  { guests }: Pick<RunPlan, 'guests'>,
  { nics: named }: Pick<MeasurePlan, 'nics'>,
): MeasuredNic[] {
  return guests
    .flatMap(({ name, nics }) => nics.map((nic) => ({ node: `${name}.${nic.name}`, nic })))
    .filter(({ node, nic }) => nic.program !== undefined && (named?.includes(node) ?? true));
}
