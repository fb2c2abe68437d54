import { EXIT, type ExitCode } from '../core/diagnostic.js';
import { loadTestbed, type PluginChoice, type ResolvedRun } from '../core/testbed/resolve-testbed.js';
import type { CliContext } from './cli-context.js';
import { toResolveOptions, type TestbedOptions } from './testbed-options.js';

/** `xdpbed plan`: what each run will be, every default filled in, as JSON. As `validate`, runs no plugin's code unasked. */
export async function plan(context: CliContext, file: string, options: TestbedOptions): Promise<ExitCode> {
  const testbed = await loadTestbed(file, context.registry, {
    ...toResolveOptions(options),
    trust: options.trust === true,
  });
  const plan = {
    schema: 'xdpbed.plan/1',
    testbed: testbed.name,
    seed: String(testbed.seed),
    runs: testbed.runs.map(describeRun),
    checks: testbed.checks,
  };
  context.terminal.out(`${JSON.stringify(plan, null, 2)}\n`);
  return EXIT.OK;
}

function describeRun(run: ResolvedRun): object {
  const describe = ({ plugin, config }: PluginChoice) => ({
    use: plugin.name,
    version: plugin.version,
    config,
  });
  // The file's own name for the object: an absolute path would differ from machine to machine.
  const programs = Object.values(run.plan.programs).map(({ object: _, ...program }) => program);
  return {
    ...run.plan,
    programs,
    plugins: {
      fabric: describe(run.fabric),
      transport: describe(run.transport),
      verifier: { rule: run.verifiers.rule, of: run.verifiers.choices.map(describe) },
      executor: describe(run.executor),
      'map-backend': describe(run.mapBackend),
    },
    policies: run.policies.map(describe),
    workload: describe(run.workload),
  };
}
