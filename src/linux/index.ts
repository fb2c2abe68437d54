/**
 * bpf(2) on the running kernel, for plugins that ask it: feature probes, kernel maps and programs, test runs. Needs
 * Linux and the optional dependency koffi, which is loaded at the first call; without them a call throws
 * `host-unsupported`.
 */
export * from './bpf-probe.js';
export * from './bridge-fdb.js';
export * from './bridge-limit.js';
export * from './bpf-syscall.js';
export * from './bpf-thread.js';
export * from './exchange/exchange-end.js';
export * from './exchange/latency-histogram.js';
export * from './enter-run.js';
export * from './hook-programs/index.js';
export * from './cpu-affinity.js';
export * from './kernel-bpf-map.js';
export * from './kernel-frames.js';
export * from './kernel-loaded-program.js';
export * from './guest/index.js';
export * from './kernel-map.js';
export * from './kernel-object.js';
export * from './kernel-program.js';
export * from './map-memory.js';
export * from './network-namespace.js';
export * from './test-run.js';
export * from './iproute2.js';
export * from './ledger.js';
export * from './owned-namespace.js';
export * from './packet-socket.js';
export * from './peer-credentials.js';
export * from './prune.js';
export * from './tap-device.js';
export * from './ethtool.js';
export * from './requirements.js';
export * from './kernel-types.js';
export * from './redirect-drops.js';
export * from './cpu-counters.js';
export * from './verdict-counters.js';
