export * from './reporter-conformance.js';
export * from './result-documents.js';
