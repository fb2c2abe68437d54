/**
 * Gives a record a key that somebody else chose. Assigned, `__proto__` would be no key but what the record inherits
 * from.
 */
export function setOwn<T>(record: Record<string, T>, key: string, value: T): void {
  Object.defineProperty(record, key, { value, writable: true, enumerable: true, configurable: true });
}
