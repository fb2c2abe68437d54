export { runConformanceProgram, type ConformanceResult } from './bpf-conformance.js';
export type { CaseMap, ComputationCase, OperandCase, XdpCase } from './executor-case.js';
export { executorConformance, type ExecutorConformanceOptions } from './executor-suite.js';
export type { ExecutorLimits, ExecutorNeed } from './executor-limits.js';
