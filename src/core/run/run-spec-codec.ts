import { createHash } from 'node:crypto';
import { XdpbedError, messageOf } from '../diagnostic.js';
import { RUN_SPEC_SCHEMA, type RunSpec, type Sha256 } from '../contract/run-spec.js';

/**
 * A run spec as canonical JSON: members sorted, no white space, so that equal specs are equal text. What JSON has no
 * word for is an object of one member: `{"$bigint":"12"}` in decimal, `{"$bytes":"00ff"}` in hex.
 */
export function encodeRunSpec(spec: RunSpec): string {
  return JSON.stringify(spec, (_key, value: unknown) => {
    if (typeof value === 'bigint') return { $bigint: String(value) };
    if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString('hex') };
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
    return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
  });
}

/** Throws `usage` for text that is no run spec of this version. */
export function decodeRunSpec(text: string): RunSpec {
  let spec: unknown;
  try {
    spec = JSON.parse(text, (_key, value: unknown) => {
      if (typeof value !== 'object' || value === null || Object.keys(value).length !== 1) return value;
      const { $bigint, $bytes } = value as { $bigint?: unknown; $bytes?: unknown };
      if (typeof $bigint === 'string') return BigInt($bigint);
      if (typeof $bytes === 'string') return Uint8Array.from(Buffer.from($bytes, 'hex'));
      return value;
    });
  } catch (cause) {
    throw new XdpbedError('usage', `the run spec is no JSON: ${messageOf(cause)}`, { cause });
  }
  const schema = (spec as { schema?: unknown } | null)?.schema;
  if (schema !== RUN_SPEC_SCHEMA) {
    throw new XdpbedError('usage', `the run spec is of schema '${String(schema)}', not ${RUN_SPEC_SCHEMA}`);
  }
  return spec as RunSpec;
}

/** What a run can be known by: two specs with the same hash are the same run. */
export function hashRunSpec(spec: RunSpec): Sha256 {
  return createHash('sha256').update(encodeRunSpec(spec)).digest('hex');
}
