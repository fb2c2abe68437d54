/**
 * The public API: everything a plugin or an embedding program needs. The pure libraries have entry points of
 * their own (`xdpbed/bpf`, `xdpbed/virtio`, `xdpbed/packet`, `xdpbed/linux`), and so have the conformance suites
 * (`xdpbed/conformance`).
 */
export * from './core/diagnostic.js';
export * from './core/contract/clock.js';
export * from './core/contract/event.js';
export * from './core/contract/executor.js';
export * from './core/contract/fabric.js';
export * from './core/contract/hook-place.js';
export * from './core/contract/injection.js';
export * from './core/contract/map-backend.js';
export * from './core/contract/plan.js';
export * from './core/contract/plugin.js';
export * from './core/contract/policy.js';
export * from './core/contract/program-debugging.js';
export * from './core/contract/reporter.js';
export * from './core/contract/result.js';
export * from './core/contract/transport.js';
export * from './core/contract/verifier.js';
export * from './core/contract/workload.js';
export { LifecycleManager } from './core/plugin/lifecycle.js';
export { PluginRegistry, type PluginEntry, type PluginLocation } from './core/plugin/plugin-registry.js';
export { Scope } from './core/plugin/scope.js';
export { formatProblem, TestbedError } from './core/testbed/problem-list.js';
export {
  loadTestbed,
  resolveTestbed,
  type PluginChoice,
  type ResolvedRun,
  type ResolvedTestbed,
  type ResolveOptions,
} from './core/testbed/resolve-testbed.js';
export { runTestbed } from './core/run/run-testbed.js';
export { BUILT_IN_PLUGINS } from './presets.js';
export { OffloadNetdev } from './core/offload/guest-driver.js';
export { readGuestMap } from './core/offload/guest-map.js';
export { HostLedger } from './core/offload/host-ledger.js';
export { loadObjectProgram, requireAccepted } from './core/offload/load-program.js';
export {
  OFFLOADABLE_HELPER_IDS,
  OFFLOADABLE_HELPERS,
  WITHHELD_HELPERS,
} from './core/offload/offloadable-helpers.js';
export { RulingLog } from './core/offload/policy-chain.js';
export { QemuDevice } from './core/offload/qemu-device.js';
export { selectProgram } from './core/offload/select-program.js';
