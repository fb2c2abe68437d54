import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { describe, expect, it } from 'vitest';
import { policyRequests } from '../src/conformance/policy/index.js';
import type { Plugin } from '../src/core/contract/plugin.js';
import { POLICY, type Policy } from '../src/core/contract/policy.js';
import { Scope } from '../src/core/plugin/scope.js';
import { SchemaValidator } from '../src/core/testbed/schema-validator.js';
import { BUILT_IN_PLUGINS } from '../src/presets.js';
import { POLICIES_PAGE, renderPoliciesPage } from './policies-page.js';

const policies: Plugin[] = [];
for (const entry of BUILT_IN_PLUGINS) if (entry.role === 'policy') policies.push(await entry.load());
policies.sort((a, b) => (a.name < b.name ? -1 : 1));
const page = renderPoliciesPage(policies);

it(`${POLICIES_PAGE} says what schemas and rules of the policies say`, () => {
  const file = fileURLToPath(new URL(`../${POLICIES_PAGE}`, import.meta.url));
  if (process.env['UPDATE_DOCS'] === '1') writeFileSync(file, page);
  expect(readFileSync(file, 'utf8')).toBe(page);
});

describe.each(policies)('policy $name', (plugin) => {
  const { name, configSchema, rules = {} } = plugin;

  async function make(config: unknown): Promise<Policy> {
    const whole = structuredClone(config);
    expect(new SchemaValidator().validate(configSchema, whole, 'own')).toEqual([]);
    const scope = new Scope(name);
    await plugin.register(scope, whole);
    return scope.resolve(POLICY);
  }

  it('has an example that its schema takes, as the page shows it', async () => {
    const shown = page.split(`\n## ${name}\n`)[1]!.split('```yaml\n')[1]!.split('```')[0]!;
    const [{ use, config }] = parse(shown) as [{ use: string; config: object }];
    expect(use).toBe(name);
    expect(Object.keys(config).length).toBeGreaterThan(1);
    expect(config).toHaveProperty('guests.alice');
    await make(config);
  });

  it('has a description and a default or a bound for every key', () => {
    const rows = page.split(`\n## ${name}\n`)[1]!.split('\n## ')[0]!.split('\n');
    const keys = rows.filter((row) => /^\| `[^`]*` \| .*\| .*\|$/.test(row));
    expect(keys.length).toBeGreaterThan(2);
    for (const row of keys) expect(row.split('|').at(-2)!.trim(), row).not.toBe('');
  });

  it('denies by rules that it names', async () => {
    const denying = await make(strictest(configSchema));
    const told = new Set<string>();
    for (const request of policyRequests()) {
      const ruling = denying.rule(request);
      if (ruling.ruling === 'deny') for (const { rule } of ruling.breaches ?? []) told.add(rule);
    }
    expect(told.size).toBeGreaterThan(0);
    for (const rule of told) expect(Object.keys(rules)).toContain(rule);
  });
});

/** A config that allows next to nothing: lists are empty, numbers the least there may be, and switches off. */
function strictest(schema: unknown): unknown {
  const {
    type,
    properties,
    minimum,
    enum: words,
  } = schema as {
    type?: string;
    properties?: Record<string, unknown>;
    minimum?: number;
    enum?: string[];
  };
  if (words !== undefined) return words.at(-1);
  switch (type) {
    case 'object':
      return Object.fromEntries(
        Object.entries(properties ?? {}).map(([key, property]) => [key, strictest(property)]),
      );
    case 'array':
      return [];
    case 'boolean':
      return false;
    default:
      return minimum ?? 0;
  }
}
