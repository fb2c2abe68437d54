export * from './policy-conformance.js';
