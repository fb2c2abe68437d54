/**
 * The public API: everything a plugin or an embedding program needs. The pure libraries have entry points of
 * their own (`xdpbed/bpf`, `xdpbed/virtio`, `xdpbed/packet`, `xdpbed/linux`), and so have unit tests of programs and testbeds
 * (`xdpbed/test`, which is here as well) and the conformance suites (`xdpbed/conformance`).
 */
export * from './core/diagnostic.js';
export * from './core/fresh-bytes.js';
export * from './core/printable.js';
export * from './core/contract/attack.js';
export * from './core/contract/clock.js';
export * from './core/contract/device.js';
export * from './core/contract/event.js';
export * from './core/contract/executor.js';
export * from './core/contract/explanation.js';
export * from './core/contract/fabric.js';
export * from './core/contract/guest-driver.js';
export * from './core/contract/hook-place.js';
export * from './core/contract/injection.js';
export * from './core/contract/insn-coverage.js';
export * from './core/contract/map-backend.js';
export * from './core/contract/party.js';
export * from './core/contract/plan.js';
export * from './core/contract/plugin.js';
export * from './core/contract/policy.js';
export * from './core/contract/program-debugging.js';
export * from './core/contract/reporter.js';
export * from './core/contract/result.js';
export * from './core/contract/run-scope.js';
export * from './core/contract/run-spec.js';
export * from './core/contract/transport.js';
export * from './core/contract/verifier.js';
export * from './core/contract/workload.js';
export * from './core/cost-model/index.js';
export { EventLoopTurns } from './core/clock/event-loop-turns.js';
export { MachineClock } from './core/clock/machine-clock.js';
export { VirtualClock } from './core/clock/virtual-clock.js';
export { LifecycleManager } from './core/plugin/lifecycle.js';
export { PluginRegistry, type PluginEntry, type PluginLocation } from './core/plugin/plugin-registry.js';
export { Scope } from './core/plugin/scope.js';
export { Workbench, type WorkbenchOptions } from './core/program-test/workbench.js';
export { choosePlugin, type PluginChoice } from './core/testbed/choose-plugin.js';
export { formatProblem, TestbedError } from './core/testbed/problem-list.js';
export {
  loadTestbed,
  resolveTestbed,
  type ResolvedTestbed,
  type ResolveOptions,
} from './core/testbed/resolve-testbed.js';
export { carryOutRun, executeRun, type RunEnvironment, type RunEnd } from './core/run/execute-run.js';
export { exitCodeOf } from './core/run/run-failures.js';
export { decodeRunSpec, encodeRunSpec, hashRunSpec } from './core/run/run-spec-codec.js';
export type { RunProgress } from './core/run/run-progress.js';
export { runTestbed, type RunOptions } from './core/run/run-testbed.js';
export { BUILT_IN_PLUGINS } from './presets.js';
export * from './unit-test/index.js';
export { ControlEndpoint, type ControlEndpointOptions } from './core/offload/control-endpoint.js';
export { ControlSocketChannel, type ControlSocketOptions } from './core/offload/control-socket-channel.js';
export {
  ControlSocketClient,
  type ControlSocketClientOptions,
} from './core/offload/control-socket-client.js';
export { DeviceClient } from './core/offload/device-client.js';
export { DeviceMap } from './core/offload/device-map.js';
export { CountedPlace } from './core/offload/counted-place.js';
export { denialText, HOST_IS_FULL } from './core/offload/denial-text.js';
export {
  guestOverrides,
  settingsFor,
  unknownGuests,
  type GuestOverrides,
  type GuestSettings,
} from './core/offload/guest-overrides.js';
export { readGuestMap } from './core/offload/guest-map.js';
export { loadObjectProgram, requireAccepted } from './core/offload/load-program.js';
export { LocalGuestDriver } from './core/offload/local-guest-driver.js';
export { negotiatedFeatures } from './core/offload/nic-session.js';
export { exchangeChange, exchangeFigure, referenceChange } from './core/measurement/exchange-figures.js';
export { firstFrames, framesFor, framesForEach, uniformFrame } from './core/measurement/measured-frames.js';
export { measuredNics, type MeasuredNic } from './core/measurement/measured-nics.js';
export { median, spread } from './core/measurement/spread.js';
export { translateHandles } from './core/offload/program-handles.js';
export { ProgramHook } from './core/offload/program-hook.js';
export type { ProgramOutcome } from './core/offload/program-hook.js';
export { resolveRedirect } from './core/offload/redirect-target.js';
export type { RedirectTarget } from './core/offload/redirect-target.js';
export { capabilityNames, TAP_CAPABILITIES, type TapCapability } from './core/offload/tap-capabilities.js';
export { UndoSteps } from './core/offload/undo-steps.js';
export { OffloadNetdev } from './core/offload/offload-netdev.js';
export {
  HELPER_CLASS_NAMES,
  HELPER_CLASSES,
  helperClass,
  helpersOfClass,
  OFFLOADABLE_CLASSES,
  type HelperClass,
} from './core/offload/helper-classes.js';
export {
  OFFLOADABLE_HELPER_IDS,
  OFFLOADABLE_HELPERS,
  WITHHELD_HELPERS,
} from './core/offload/offloadable-helpers.js';
export { OffloadRecords } from './core/offload/offload-records.js';
export type { BpfReply, BpfRequest, ControlProtocol } from './core/offload/protocol/control-protocol.js';
export { BPF_OFFLOAD } from './core/offload/protocol/bpf-offload/bpf-offload.js';
export { RFC_2019 } from './core/offload/protocol/rfc-2019/rfc-2019.js';
export { QuotaAccounts } from './core/offload/quota-accounts.js';
export { selectProgram } from './core/offload/select-program.js';
export { standardCommand } from './core/offload/standard-commands.js';
