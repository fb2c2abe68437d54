import type { TSchema } from '@sinclair/typebox';
import type { Plugin, Role } from '../contract/plugin.js';
import { CHECKS, TestbedSchema } from './testbed-schema.js';

type JsonSchema = Record<string, unknown>;

/**
 * The JSON Schema of the testbed language for editors: the language itself, and for each built-in plugin and
 * each kind of check what the word behind `use:` or `kind:` makes of the keys beside it.
 */
export function testbedJsonSchema(plugins: readonly Plugin[]): JsonSchema {
  const schema = plain(TestbedSchema);
  const properties = schema.properties as Record<string, JsonSchema>;
  const roles = properties.plugins!.properties as Record<string, JsonSchema>;
  for (const [role, use] of Object.entries(roles)) discriminatePlugin(use, role as Role, plugins);
  const verifierMember = (
    (roles.verifier!.properties as Record<string, JsonSchema>).of as { items: JsonSchema }
  ).items;
  discriminatePlugin(verifierMember, 'verifier', plugins);
  discriminatePlugin(properties.policies!.items as JsonSchema, 'policy', plugins);
  discriminatePlugin(properties.workload!, 'workload', plugins);
  for (const guest of Object.values(properties.guests!.patternProperties as Record<string, JsonSchema>)) {
    const { migration } = guest.properties as Record<string, JsonSchema>;
    const elsewhere = (migration!.properties as Record<string, JsonSchema>).policies!;
    discriminatePlugin(elsewhere.items as JsonSchema, 'policy', plugins);
  }
  discriminate(
    properties.checks!.items as JsonSchema,
    'kind',
    Object.entries(CHECKS).map(([kind, check]) => ({ word: kind, then: plain(check) })),
  );
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    $id: 'urn:xdpbed:schemas:testbed.schema.json',
    ...schema,
  };
}

/**
 * A TypeBox schema as plain JSON, without its symbols and without words only our validator reads. What has a
 * default may be left out: our validator fills it in before it looks, an editor would call it missing.
 */
export function plain(schema: TSchema): JsonSchema {
  return JSON.parse(
    JSON.stringify(schema, (key, value: unknown) =>
      key === 'expects' ? undefined : withoutDefaulted(value),
    ),
  ) as JsonSchema;
}

function withoutDefaulted(value: unknown): unknown {
  const { properties, required } = (value ?? {}) as { properties?: unknown; required?: unknown };
  if (!Array.isArray(required) || typeof properties !== 'object' || properties === null) return value;
  const missing = (required as string[]).filter((name) => {
    const property = (properties as Record<string, { default?: unknown } | undefined>)[name];
    return property?.default === undefined;
  });
  return { ...(value as object), required: missing.length === 0 ? undefined : missing };
}

function discriminatePlugin(use: JsonSchema, role: Role, plugins: readonly Plugin[]): void {
  const ofRole = plugins.filter((plugin) => plugin.role === role);
  const properties = use.properties as Record<string, JsonSchema>;
  properties.use = { ...properties.use, examples: ofRole.map((plugin) => plugin.name) };
  discriminate(
    use,
    'use',
    ofRole.map((plugin) => ({
      word: plugin.name,
      then: { properties: { use: { description: plugin.description }, config: plain(plugin.configSchema) } },
    })),
  );
}

/** `if`/`then` for each word rather than `oneOf`: an editor then names the one problem, not every alternative. */
function discriminate(
  schema: JsonSchema,
  property: string,
  cases: readonly { word: string; then: JsonSchema }[],
): void {
  schema.allOf = cases.map(({ word, then }) => ({
    if: { properties: { [property]: { const: word } }, required: [property] },
    then,
  }));
}
