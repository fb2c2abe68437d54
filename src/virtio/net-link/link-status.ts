import { XdpbedError } from '../../core/diagnostic.js';

/**
 * Whether one end may still work with the other. A link breaks once, when a rule of it is broken, and stays down
 * until it is reset (virtio 1.3, 2.1.2: DEVICE_NEEDS_RESET); a closed one stays so for ever.
 */
export class LinkStatus {
  /** Rules that were broken. */
  violations = 0;
  /** Goes up with every reset, break and close, so that what was under way before knows that it comes too late. */
  generation = 0;
  #broken: string | undefined;
  #closed = false;
  readonly #handlers: ((reason: string) => void)[] = [];

  constructor(
    /** Used in messages: `guest0.eth0`. */
    readonly label: string,
    /** Forgets what is under way, with the reason. */
    readonly forget: (reason: string) => void,
  ) {}

  get isDown(): boolean {
    return this.#closed || this.#broken !== undefined;
  }

  /** Why it is down, until it is reset. */
  get brokenReason(): string | undefined {
    return this.#broken;
  }

  get closed(): boolean {
    return this.#closed;
  }

  onBroken(handler: (reason: string) => void): void {
    this.#handlers.push(handler);
  }

  /** A rule of this link was broken. */
  violate(reason: string): void {
    if (this.isDown) return;
    this.violations++;
    this.break(reason);
  }

  /** Takes the link down, for a rule that was broken here or elsewhere on the same device. */
  break(reason: string): void {
    if (this.isDown) return;
    this.generation++;
    this.#broken = reason;
    this.forget(`the link is broken: ${reason}`);
    for (const handler of this.#handlers) {
      try {
        handler(reason);
      } catch {
        // A handler must not throw; the link is down already, which is all that could be done about it.
      }
    }
  }

  reset(): void {
    this.generation++;
    this.forget('the link was reset');
    this.#broken = undefined;
  }

  close(): void {
    this.generation++;
    this.#closed = true;
    this.forget('the link is closed');
  }

  error(reason: string): XdpbedError {
    return new XdpbedError('virtio-violation', `${this.label}: ${reason}`);
  }
}
