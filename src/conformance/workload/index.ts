export * from './workload-conformance.js';
export * from './workload-context.js';
