/**
 * One suite for each role, to be run under vitest by whoever implements it: `executorConformance`,
 * `mapBackendConformance`, `policyConformance` and so on.
 */
export * from './attack/index.js';
export * from './device/index.js';
export * from './executor/index.js';
export * from './fabric/fabric-conformance.js';
export * from './map-backend/map-backend-suite.js';
export type { MapBackendUnderTest, MapConformanceOptions } from './map-backend/map-bench.js';
export { CONFORMANCE_MAP_TYPES, allKeys, lpmKey, plainAttributes, u32 } from './map-backend/map-samples.js';
export * from './map-backend/resident-map-suite.js';
export * from './policy/index.js';
export * from './program-generator/index.js';
export * from './reporter/index.js';
export * from './transport/index.js';
export * from './verifier/index.js';
export * from './workload/index.js';
