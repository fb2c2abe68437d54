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
    if (isInteger(value, max)) return value;
    throw this.invalid(field);
  }

  /** State within the state. */
  object(field: string): StateReader {
    const value = this.state[field];
    if (isObject(value)) return new StateReader(`${this.what}, ${field}`, value);
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
      if (!isObject(item)) throw this.invalid(field);
      return read(new StateReader(`${this.what}, ${field} ${index}`, item));
    });
  }

  /** A list of pairs, each of an integer from 0 to `max` that no other has and of anything. */
  entries(field: string, maxLength: number, max: number): (readonly [number, unknown])[] {
    const value = this.state[field];
    if (!Array.isArray(value) || value.length > maxLength) throw this.invalid(field);
    const numbers = new Set<number>();
    return value.map((item: unknown) => {
      if (!Array.isArray(item) || item.length !== 2) throw this.invalid(field);
      const [number, other] = item as [unknown, unknown];
      if (!isInteger(number, max) || numbers.has(number)) throw this.invalid(field);
      numbers.add(number);
      return [number, other];
    });
  }

  /** A list of integers from 0 to `max`. */
  integers(field: string, maxLength: number, max: number): number[] {
    const value = this.state[field];
    if (!Array.isArray(value) || value.length > maxLength) throw this.invalid(field);
    // A copy: whoever gave the state may change it when it has been looked at.
    return value.map((item: unknown) => {
      if (!isInteger(item, max)) throw this.invalid(field);
      return item;
    });
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

function isInteger(value: unknown, max: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max;
}

function isObject(value: unknown): value is QueueState {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
