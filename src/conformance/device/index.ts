export * from './device-conformance.js';
