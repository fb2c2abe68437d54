import { inspect } from 'node:util';
import type { Lifecycle, ProbeResult } from '../contract/plugin.js';
import { XdpbedError, messageOf } from '../diagnostic.js';
import { pluginFailure } from './plugin-failure.js';

/** Milliseconds a plugin may take to start, and to stop. */
export const PHASE_TIMEOUT_MS = 30_000;

/** What `work` gives, or the failure that `onTimeout` makes of it when that takes longer than `ms`. */
export async function withTimeLimit<T>(ms: number, work: Promise<T>, onTimeout: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(onTimeout()), ms);
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}

/** What a probe gave, which is anything where a plugin was not checked by a compiler. */
function checkProbe(name: string, given: unknown): ProbeResult {
  const { status, reason, remedy } = Object(given) as Partial<
    Record<'status' | 'reason' | 'remedy', unknown>
  >;
  const isText = (value: unknown): boolean => typeof value === 'string';
  const isReasoned = status === 'unsupported' || status === 'inconclusive';
  const isResult =
    status === 'supported' || (isReasoned && isText(reason) && (remedy === undefined || isText(remedy)));
  if (isResult) return given as ProbeResult;
  throw new XdpbedError('plugin-invalid', `plugin ${name}: its probe() gave ${shown(given)}`, {
    hint: "{ status: 'supported' }, { status: 'unsupported', reason: '…', remedy?: '…' } or { status: 'inconclusive', reason: '…' }",
  });
}

/** A value as a message can hold it. */
function shown(value: unknown): string {
  return inspect(value, { depth: 1, breakLength: Infinity }).slice(0, 200);
}

/**
 * Starts instances in the order they are added and stops them in reverse: always all of them, whatever each
 * throws. tsyringe's own disposal does neither, so the container's is never used.
 */
export class LifecycleManager {
  readonly #started: { name: string; instance: Lifecycle }[] = [];
  #stopping: Promise<void> | undefined;

  constructor(
    readonly timeoutMs = PHASE_TIMEOUT_MS,
    /** Interrupts starts under way. Stopping goes on regardless: it is what an interruption asks for. */
    readonly signal?: AbortSignal,
  ) {}

  /**
   * Probes and starts an instance. Throws `host-unsupported`, `plugin-failed`, `plugin-timeout`, or `plugin-invalid` for a
   * probe that gave something else than a ProbeResult, all with the plugin's name. The instance is stopped later even when its start failed half-way.
   */
  async start(name: string, instance: Lifecycle): Promise<void> {
    if (instance.probe !== undefined) {
      const probe = checkProbe(name, await this.#within(name, 'probe', async () => instance.probe!()));
      if (probe.status === 'unsupported') {
        throw new XdpbedError('host-unsupported', `plugin ${name} cannot work here: ${probe.reason}`, {
          hint: probe.remedy,
        });
      }
    }
    this.#started.push({ name, instance });
    const abort = new AbortController();
    await this.#within(name, 'start', async () => instance.start?.(abort.signal), abort);
  }

  /** Stops everything once. Failures are collected in an AggregateError of `plugin-failed` errors. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stopAll();
    return this.#stopping;
  }

  async #stopAll(): Promise<void> {
    const failures: unknown[] = [];
    for (const { name, instance } of this.#started.reverse()) {
      try {
        await this.#within(name, 'stop', async () => instance.stop?.(), undefined, false);
      } catch (error) {
        failures.push(error);
      }
    }
    this.#started.length = 0;
    if (failures.length > 0) {
      throw new AggregateError(failures, failures.map(messageOf).join('; '));
    }
  }

  async #within<T>(
    name: string,
    phase: string,
    work: () => Promise<T>,
    abort?: AbortController,
    interruptible = true,
  ): Promise<T> {
    if (interruptible) this.#throwIfInterrupted();
    let timer: NodeJS.Timeout | undefined;
    let onAbort: (() => void) | undefined;
    const limit = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        abort?.abort();
        reject(
          new XdpbedError('plugin-timeout', `plugin ${name} did not ${phase} within ${this.timeoutMs} ms`),
        );
      }, this.timeoutMs);
      if (interruptible && this.signal !== undefined) {
        onAbort = () => {
          abort?.abort();
          reject(new XdpbedError('interrupted', `interrupted while plugin ${name} was in ${phase}`));
        };
        this.signal.addEventListener('abort', onAbort, { once: true });
      }
    });
    try {
      return await Promise.race([work(), limit]);
    } catch (error) {
      throw pluginFailure(name, phase, error);
    } finally {
      clearTimeout(timer);
      if (onAbort !== undefined) this.signal?.removeEventListener('abort', onAbort);
    }
  }

  #throwIfInterrupted(): void {
    if (this.signal?.aborted === true) throw new XdpbedError('interrupted', 'the run was interrupted');
  }
}
