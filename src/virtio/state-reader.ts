import { XdpbedError } from '../core/diagnostic.js';
import type { QueueState } from './virtqueue.js';

/** Reads saved state: every field is looked at, because it may have come from anywhere. */
export class StateReader {
  constructor(
    readonly what: string,
    readonly state: QueueState,
  ) {}

  /** An integer from 0 to `max`. */
  integer(field: string, max: number): number {
    const value = this.state[field];
    if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max) return value;
    throw this.invalid(field);
  }

  boolean(field: string): boolean {
    const value = this.state[field];
    if (typeof value === 'boolean') return value;
    throw this.invalid(field);
  }

  /** A list, each of whose items `read` makes something of. */
  list<T>(field: string, maxLength: number, read: (item: StateReader) => T): T[] {
    const value = this.state[field];
    if (!Array.isArray(value) || value.length > maxLength) throw this.invalid(field);
    return value.map((item: unknown, index) => {
      if (typeof item !== 'object' || item === null || Array.isArray(item)) throw this.invalid(field);
      return read(new StateReader(`${this.what}, ${field} ${index}`, item as QueueState));
    });
  }

  /** A list of integers from 0 to `max`. */
  integers(field: string, maxLength: number, max: number): number[] {
    const value = this.state[field];
    if (!Array.isArray(value) || value.length > maxLength) throw this.invalid(field);
    for (const item of value as unknown[]) {
      if (typeof item !== 'number' || !Number.isInteger(item) || item < 0 || item > max)
        throw this.invalid(field);
    }
    return value as number[];
  }

  /** Hex text as bytes. */
  bytes(field: string, maxLength: number): Uint8Array {
    const value = this.state[field];
    if (typeof value !== 'string' || !/^([0-9a-f]{2})*$/.test(value) || value.length > 2 * maxLength) {
      throw this.invalid(field);
    }
    return Uint8Array.from(Buffer.from(value, 'hex'));
  }

  invalid(field: string): XdpbedError {
    return new XdpbedError('virtio-violation', `the saved state of ${this.what} has no usable '${field}'`);
  }
}
