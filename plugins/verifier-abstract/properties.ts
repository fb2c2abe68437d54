import type { ProgramProperties } from '../../src/core/contract/verifier.js';
import type { Exploration } from './exploration.js';
import type { Simulation } from './simulation.js';

/** What a policy may set limits on; everything is an upper bound over the explored paths. */
export function programProperties(
  simulation: Simulation,
  exploration: Exploration,
  stackBytes: number,
): ProgramProperties {
  const { facts } = simulation;
  return {
    helpers: facts.helpers,
    mapTypes: facts.mapTypes,
    writesPacket: facts.writesPacket || facts.helpers.some((id) => PACKET_WRITERS.has(id)),
    verdicts: facts.verdicts,
    worstCaseInsns: simulation.changesIteratedMap ? Infinity : exploration.longestRun,
    stackBytes,
  };
}

/** bpf_xdp_store_bytes, and what moves the ends of the packet: head, tail (which clears what it adds). */
const PACKET_WRITERS: ReadonlySet<number> = new Set([190, 44, 65]);
