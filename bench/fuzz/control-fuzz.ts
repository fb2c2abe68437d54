import { Value } from '@sinclair/typebox/value';
import { InterpreterExecutor } from '../../plugins/executor-interpreter/interpreter-executor.js';
import { MemoryMapBackend } from '../../plugins/map-backend-memory/memory-map-backend.js';
import { HelperAllowList } from '../../plugins/policy-helper-allow-list/helper-allow-list.js';
import { Quota, QuotaConfig } from '../../plugins/policy-quota/quota.js';
import { StructuralVerifier } from '../../plugins/verifier-structural/structural-verifier.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import {
  runControlCampaign,
  type ControlCampaignReport,
} from '../../src/conformance/offload/control-campaign.js';
import type { MakeRequestGenerator } from '../../src/conformance/offload/request-generator.js';
import { BpfOffloadRequests } from '../../src/conformance/offload/bpf-offload-requests.js';
import { Rfc2019Requests } from '../../src/conformance/offload/rfc-2019-requests.js';
import { featureSet, VIRTIO_F_INDIRECT_DESC, VIRTIO_NET_F_MQ } from '../../src/virtio/index.js';
import type { TransportUnderTest } from '../control/transports.js';

/** What fuzzes a protocol, by its name. */
export const GENERATORS: Readonly<Record<string, MakeRequestGenerator>> = {
  'rfc-2019': (random) => new Rfc2019Requests(random),
  'bpf-offload': (random) => new BpfOffloadRequests(random),
};

/** As many maps as a guest may have: some of its requests have to be denied. */
const MOST_MAPS = 24;

/** A campaign with one seed over one transport, against the in-process engine. */
export async function fuzzControl(
  { transport, features }: TransportUnderTest,
  generator: MakeRequestGenerator,
  options: {
    readonly commands: number;
    readonly seed: number;
    readonly collectGarbage?: () => void;
    readonly onProgress?: (commands: number) => void;
  },
): Promise<ControlCampaignReport> {
  const runtime = new BpfRuntime({ memoryBytes: 8 << 20 });
  const frames = new FrameRing(runtime.space, 1);
  const baseline = runtime.space.bytesInUse;
  const report = await runControlCampaign({
    transport,
    features: features | featureSet(VIRTIO_F_INDIRECT_DESC, VIRTIO_NET_F_MQ),
    generator,
    host: {
      name: 'host',
      cpus: 1,
      mapBackend: new MemoryMapBackend(runtime),
      executor: new InterpreterExecutor(runtime),
      // It tracks no values, so that much is let in: what programs then do must not hurt either.
      verifier: new StructuralVerifier(),
    },
    policies: [
      new Quota(Value.Parse(QuotaConfig, Value.Default(QuotaConfig, { 'per-guest': { maps: MOST_MAPS } }))),
      new HelperAllowList({ base: 'default', allow: [], deny: [] }),
    ],
    run: (program, frame) => {
      frames.load(0, frame);
      program.run(frames, 0);
    },
    ...options,
  });
  const left = runtime.space.bytesInUse - baseline;
  frames.close();
  return left === 0
    ? report
    : { ...report, problems: [...report.problems, `${left} bytes of the runtime are left`] };
}
