export * from './transport-conformance.js';
