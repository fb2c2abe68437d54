import { plain } from '../testbed/json-schema.js';
import { CaseFileSchema } from './case-schema.js';

type JsonSchema = Record<string, unknown>;

/**
 * The JSON Schema of cases files for editors: as it is checked, but where a case has a number, a word, a list or a
 * text of some form, `$name` of its table may stand in its place.
 */
export function casesJsonSchema(): JsonSchema {
  const schema = plain(CaseFileSchema);
  const { items } = (schema['properties'] as { cases: { items: JsonSchema } }).cases;
  const { name, each, ...others } = items['properties'] as JsonSchema;
  items['properties'] = { name, each, ...(withPlaceholders(others) as JsonSchema) };
  return schema;
}

const PLACEHOLDER = { type: 'string', pattern: '^\\$([A-Za-z_]\\w*|\\{[A-Za-z_]\\w*\\})$' };
const REPLACED: ReadonlySet<unknown> = new Set(['integer', 'boolean', 'number', 'array']);

function withPlaceholders(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(withPlaceholders);
  if (typeof node !== 'object' || node === null) return node;
  const schema = node as JsonSchema;
  const isRestricted = schema['type'] === 'string' && ('enum' in schema || 'pattern' in schema);
  if ([schema['type']].flat().some((type) => REPLACED.has(type)) || isRestricted) {
    const { description, items, ...rest } = schema;
    const own = items === undefined ? rest : { ...rest, items: withPlaceholders(items) };
    return { ...(description === undefined ? {} : { description }), anyOf: [own, PLACEHOLDER] };
  }
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, withPlaceholders(value)]));
}
