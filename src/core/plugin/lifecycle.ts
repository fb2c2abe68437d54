import { XdpbedError, messageOf } from '../diagnostic.js';
import type { Lifecycle } from '../contract/plugin.js';

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
   * Probes and starts an instance. Throws `host-unsupported`, `plugin-failed` or `plugin-timeout`, all with the
   * plugin's name. The instance is stopped later even when its start failed half-way.
   */
  async start(name: string, instance: Lifecycle): Promise<void> {
    const probe = await this.#within(name, 'probe', async () => instance.probe?.());
    if (probe?.status === 'unsupported') {
      throw new XdpbedError('host-unsupported', `plugin ${name} cannot work here: ${probe.reason}`, {
        hint: probe.remedy,
      });
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
      if (error instanceof XdpbedError) throw error;
      throw new XdpbedError('plugin-failed', `plugin ${name} failed in ${phase}: ${messageOf(error)}`, {
        cause: error,
      });
    } finally {
      clearTimeout(timer);
      if (onAbort !== undefined) this.signal?.removeEventListener('abort', onAbort);
    }
  }

  #throwIfInterrupted(): void {
    if (this.signal?.aborted === true) throw new XdpbedError('interrupted', 'the run was interrupted');
  }
}
