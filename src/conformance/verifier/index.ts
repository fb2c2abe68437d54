export * from './random-programs.js';
export * from './seeded-random.js';
export * from './verifier-conformance.js';
