/**
 * bpf(2) as functions: one per command, every one synchronous. A result below 0 is `-errno`; what is thrown is only
 * `host-unsupported`, where the system call cannot be made at all. File descriptors are close-on-exec, as the
 * kernel makes them, and the caller's to close.
 *
 * Layouts are in bpf-layout.ts.
 */
export { closeFd } from './bpf-attr.js';
export * from './id-calls.js';
export * from './link-calls.js';
export * from './map-calls.js';
export * from './program-calls.js';
export * from './test-run-calls.js';
