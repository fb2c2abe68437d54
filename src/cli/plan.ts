import { EXIT, type ExitCode } from '../core/diagnostic.js';
import { entryToText } from '../bpf/map-entry-text.js';
import type { PluginReference, PolicyReference, RunSpec } from '../core/contract/run-spec.js';
import { featureNames } from '../virtio/features.js';
import type { PlanDocument } from '../report/plan-schema.js';
import type { Printed } from '../report/printed.js';
import type { CliContext } from './cli-context.js';
import { openTestbed } from './open-testbed.js';
import { toResolveOptions, type TestbedOptions } from './testbed-options.js';

/** `xdpbed plan`: what each run will be, every default filled in, as JSON. As `validate`, runs no plugin's code unasked. */
export async function plan(context: CliContext, file: string, options: TestbedOptions): Promise<ExitCode> {
  const testbed = await openTestbed(context, file, {
    ...toResolveOptions(options),
    trust: options.trust === true,
  });
  const document: Printed<PlanDocument> = {
    schema: 'xdpbed.plan/1',
    testbed: testbed.name,
    seed: String(testbed.seed),
    runs: testbed.runs.map(describeRun),
    checks: testbed.checks.map(({ numbers: _, perCpu: __, ...check }) => check),
  };
  context.terminal.out(`${JSON.stringify(document, null, 2)}\n`);
  return EXIT.OK;
}

/** The spec in the words of the testbed language: feature bits by name, bytes in hex. */
function describeRun({ plan, plugins, objects }: RunSpec): Printed<PlanDocument>['runs'][number] {
  const use = ({ use: name, config }: PluginReference) => ({ use: name, config });
  const policyUse = (policy: PolicyReference) =>
    policy.dryRun === true ? { ...use(policy), 'dry-run': true as const } : use(policy);
  const guests = plan.guests.map((guest) => ({
    ...guest,
    nics: guest.nics.map((nic) => ({ ...nic, features: featureNames(nic.features) })),
  }));
  const programs = Object.values(plan.programs).map((program) => ({
    ...program,
    sha256: objects[program.object]!,
    presets: Object.fromEntries(
      Object.entries(program.presets).map(([map, presets]) => [map, presets.map(entryToText)]),
    ),
  }));
  return {
    ...plan,
    guests,
    programs,
    plugins: {
      fabric: use(plugins.fabric),
      transport: use(plugins.transport),
      device: use(plugins.device),
      verifier: { rule: plugins.verifiers.rule, of: plugins.verifiers.of.map(use) },
      executor: use(plugins.executor),
      'map-backend': use(plugins.mapBackend),
      ...(plugins.host === undefined
        ? {}
        : {
            host: {
              verifier: { rule: plugins.host.verifiers.rule, of: plugins.host.verifiers.of.map(use) },
              executor: use(plugins.host.executor),
              'map-backend': use(plugins.host.mapBackend),
            },
          }),
    },
    policies: plugins.policies.map(policyUse),
    'policy-chain': plugins.policyChain ?? 'all-report',
    workload: use(plugins.workload),
    ...(plugins.attacks === undefined
      ? {}
      : { attacks: plugins.attacks.map(({ guest, nic, attack }) => ({ guest, nic, ...use(attack) })) }),
    ...(plugins.migrations === undefined
      ? {}
      : {
          migrations: plugins.migrations.map(({ guest, afterFrames, policies }) => ({
            guest,
            'after-frames': afterFrames,
            policies: policies.map(policyUse),
          })),
        }),
  };
}
