import { dirname, resolve as resolvePath } from 'node:path';
import { XdpbedError, messageOf } from '../diagnostic.js';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { FABRIC, type Deployment, type Fabric, type FabricContext } from '../contract/fabric.js';
import type { RunEvent } from '../contract/event.js';
import { POLICY, type Policy } from '../contract/policy.js';
import { RESULT_SCHEMA_VERSION, RunResult, type ResultDocument } from '../contract/result.js';
import { TRANSPORT } from '../contract/transport.js';
import { WORKLOAD, type Workload, type WorkloadFrame } from '../contract/workload.js';
import { LifecycleManager, PHASE_TIMEOUT_MS, withTimeLimit } from '../plugin/lifecycle.js';
import { Scope } from '../plugin/scope.js';
import {
  readObjectFile,
  type PluginChoice,
  type ResolvedRun,
  type ResolvedTestbed,
} from '../testbed/resolve-testbed.js';
import { SchemaValidator } from '../testbed/schema-validator.js';
import { effectiveChecks, evaluateChecks } from './checks.js';
import { pluginFailure, pluginName, PluginInstances, requireMethods } from './plugin-instances.js';
import { randomStream } from './random.js';

/** Milliseconds an interrupted deployment gets to end before the run ends without it. */
const INTERRUPTION_GRACE_MS = 5_000;

export interface RunOptions {
  /** Version of xdpbed, for the result. */
  readonly version: string;
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: RunEvent) => void) | undefined;
  /** Milliseconds a plugin may take to start or stop. */
  readonly phaseTimeoutMs?: number | undefined;
}

/**
 * Runs a testbed: each run by itself, one after the other, then the checks. Whatever a run brought up is taken
 * down again, however it ended. Throws the XdpbedError of the run that failed; a failed check is no error.
 */
export async function runTestbed(testbed: ResolvedTestbed, options: RunOptions): Promise<ResultDocument> {
  const emit = options.onEvent ?? (() => undefined);
  emit({
    event: 'testbed-started',
    testbed: testbed.name,
    runs: testbed.runs.length,
    seed: String(testbed.seed),
  });
  const runs: RunResult[] = [];
  for (const [index, run] of testbed.runs.entries()) {
    emit({ event: 'run-started', run: run.plan.id, index, of: testbed.runs.length });
    const result = await new RunSession(
      run,
      testbed,
      dirname(resolvePath(testbed.file)),
      options,
      emit,
    ).execute();
    emit({ event: 'run-finished', run: run.plan.id, result });
    runs.push(result);
  }
  const checks = evaluateChecks(effectiveChecks(testbed.checks), runs, testbed.narrowed);
  for (const result of checks) emit({ event: 'check-finished', result });
  const passed = checks.every((check) => check.passed);
  emit({ event: 'testbed-finished', passed });
  return {
    schema: RESULT_SCHEMA_VERSION,
    xdpbed: options.version,
    testbed: testbed.name,
    seed: String(testbed.seed),
    passed,
    runs,
    checks,
  };
}

/** One run: its scopes, its plugin instances, its deployment. Used once. */
class RunSession {
  readonly #instances: PluginInstances;
  readonly #signal: AbortSignal;
  readonly #phaseTimeoutMs: number;
  readonly #objects = new Map<string, Promise<ObjectSpec>>();

  constructor(
    readonly run: ResolvedRun,
    readonly testbed: Pick<ResolvedTestbed, 'seed' | 'findExecutor'>,
    readonly folder: string,
    options: RunOptions,
    readonly emit: (event: RunEvent) => void,
  ) {
    this.#signal = options.signal ?? new AbortController().signal;
    this.#phaseTimeoutMs = options.phaseTimeoutMs ?? PHASE_TIMEOUT_MS;
    const lifecycle = new LifecycleManager(this.#phaseTimeoutMs, this.#signal);
    this.#instances = new PluginInstances(new Scope(`run ${run.plan.id}`), lifecycle, testbed.findExecutor);
  }

  async execute(): Promise<RunResult> {
    const failures: unknown[] = [];
    const name = pluginName(this.run.fabric);
    let result: RunResult | undefined;
    let deploying: Promise<Deployment> | undefined;
    try {
      const { fabric: fabricChoice, policies: policyChoices, workload: workloadChoice } = this.run;
      const policies: Policy[] = [];
      for (const choice of policyChoices) policies.push(await this.#instances.instantiate(choice, POLICY));
      const workload = await this.#instances.instantiate(workloadChoice, WORKLOAD);
      const fabric = await this.#instances.instantiate(fabricChoice, FABRIC);
      deploying = this.#deploy(fabric, policies);
      const deployment = await this.#guard(name, 'deploy', deploying);
      result = await this.#guard(name, 'drive', drive(deployment, this.#named(workloadChoice, workload)));
      checkResult(name, result);
    } catch (error) {
      failures.push(error);
    }
    try {
      await this.#takeDown(name, deploying);
    } catch (error) {
      failures.push(pluginFailure(name, 'down', error));
    }
    try {
      await this.#instances.lifecycle.stop();
    } catch (error) {
      failures.push(...(error instanceof AggregateError ? (error.errors as unknown[]) : [error]));
    }
    if (failures.length === 1) throw failures[0];
    if (failures.length > 1) throw new AggregateError(failures, failures.map(messageOf).join('; '));
    return result!;
  }

  async #deploy(fabric: Fabric, policies: readonly Policy[]): Promise<Deployment> {
    const deployment: unknown = await fabric.deploy(this.run.plan, this.#context(policies));
    requireMethods(pluginName(this.run.fabric), 'deployment', deployment, ['drive', 'down']);
    return deployment as Deployment;
  }

  /** Also takes down what an interrupted deployment still brings up; one that failed has left nothing. */
  async #takeDown(name: string, deploying: Promise<Deployment> | undefined): Promise<void> {
    if (deploying === undefined) return;
    const late = new XdpbedError(
      'plugin-timeout',
      `plugin ${name} was interrupted in deploy and did not end`,
    );
    const deployment = await withTimeLimit(
      Math.min(INTERRUPTION_GRACE_MS, this.#phaseTimeoutMs),
      deploying,
      () => late,
    ).catch((error: unknown) => {
      // Any other error is the one that ended the run, and told already.
      if (error === late) throw late;
      return undefined;
    });
    if (deployment === undefined) return;
    await withTimeLimit(
      this.#phaseTimeoutMs,
      takeDown(deployment),
      () =>
        new XdpbedError(
          'plugin-timeout',
          `plugin ${name} did not come down within ${this.#phaseTimeoutMs} ms`,
        ),
    );
  }

  #context(policies: readonly Policy[]): FabricContext {
    return {
      random: (stream) => randomStream(this.testbed.seed, stream),
      folder: this.folder,
      signal: this.#signal,
      policies,
      openParty: (name, runtimeOptions) =>
        this.#instances.openParty(name, this.run, { seed: this.testbed.seed, ...runtimeOptions }),
      openTransport: (name) =>
        this.#instances.instantiate(this.run.transport, TRANSPORT, this.#instances.scope.child(name)),
      readObject: (path) => {
        let object = this.#objects.get(path);
        if (object === undefined) this.#objects.set(path, (object = readObjectFile(path)));
        return object;
      },
      emit: this.emit,
    };
  }

  /** Gives what a plugin does while the run is under way the plugin's name, and ends it on interruption. */
  async #guard<T>(name: string, phase: string, work: Promise<T>): Promise<T> {
    let onAbort: (() => void) | undefined;
    const interrupted = new Promise<never>((_, reject) => {
      onAbort = () => reject(new XdpbedError('interrupted', `interrupted while ${name} was in ${phase}`));
      if (this.#signal.aborted) onAbort();
      this.#signal.addEventListener('abort', onAbort, { once: true });
    });
    try {
      return await Promise.race([work, interrupted]);
    } catch (error) {
      throw pluginFailure(name, phase, error);
    } finally {
      this.#signal.removeEventListener('abort', onAbort!);
    }
  }

  /** A workload's frames come lazily, in the middle of the fabric's work: its errors carry its own name. */
  #named(choice: PluginChoice, workload: Workload): Workload {
    return {
      name: workload.name,
      *frames(context) {
        try {
          for (const frame of workload.frames(context)) {
            checkFrame(frame);
            yield frame;
          }
        } catch (error) {
          throw pluginFailure(pluginName(choice), 'frames', error);
        }
      },
    };
  }
}

// Asynchronous, so that a throw is a rejection like any other.
async function drive(deployment: Deployment, workload: Workload): Promise<RunResult> {
  return deployment.drive(workload);
}

async function takeDown(deployment: Deployment): Promise<void> {
  await deployment.down();
}

const validator = new SchemaValidator();

/** A fabric of somebody else's may answer with anything; reporters and checks rely on the contract. */
function checkResult(name: string, result: unknown): void {
  const [violation] = validator.validate(RunResult, result);
  if (violation === undefined) return;
  const at = violation.path.length === 0 ? '' : `${violation.path.join('.')}: `;
  throw new XdpbedError(
    'plugin-failed',
    `plugin ${name} gave a result that is none: ${at}${violation.message}`,
  );
}

function checkFrame(frame: unknown): asserts frame is WorkloadFrame {
  const { bytes, at } = (frame ?? {}) as Partial<Record<keyof WorkloadFrame, unknown>>;
  if (!(bytes instanceof Uint8Array) || bytes.length === 0) {
    throw new TypeError('a frame without bytes (a Uint8Array that is not empty)');
  }
  if (typeof at !== 'bigint' || at < 0n) {
    throw new TypeError('a frame without a time (nanoseconds as a bigint, not negative)');
  }
}
