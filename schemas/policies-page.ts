import { stringify } from 'yaml';
import type { Plugin } from '../src/core/contract/plugin.js';
import {
  HELPER_CLASS_NAMES,
  HELPER_CLASSES,
  OFFLOADABLE_CLASSES,
} from '../src/core/offload/helper-classes.js';
import { plain } from '../src/core/testbed/json-schema.js';

/** Where the page is, from the root of the repository. */
export const POLICIES_PAGE = 'docs/policies.md';

const HEAD = `# Policies

What a guest may ask of the host. This page is made from the schemas and the rules of the built-in policies, and a test keeps it current
(\`UPDATE_DOCS=1 npx vitest run schemas/policies-page.test.ts\`). How a policy of your own is written: docs/plugins.md.

\`\`\`yaml
policy-chain: all-report            # every policy rules on every request; first-deny: none is asked behind one that denies
policies:                           # asked in this order; one deny is enough
  - use: quota
    config: { per-guest: { maps: 8 } }
  - use: program-limits
    config: { write-packet: false }
    dry-run: true                   # rules and is recorded as it would have ruled, and denies nothing
\`\`\`

- A denied request changes nothing: it ends in an error ack, a ruling and an audit record.
- Each ruling has the request's number on its nic, the time on the run's clock, guest, nic, operation, policy and, if it is a deny, each rule
  in the way: its name, the limit, what was asked, what was held before, and its path in the testbed, as \`--set\` takes it (of a default: where
  it would be). They are in the result (\`rulings\`, \`audit\`), in \`--format ndjson\`, and alone in the file of \`run --audit FILE\`.
- In the result equal rulings in a row are one record with a count. 1024 records of each kind are kept of each guest; what is not kept is
  counted (\`dropped\`). Streams have every one; the file of \`--audit\` has up to 256 MiB
  of each guest, and the number of what more there was as its last lines (\`event: audit-dropped\`).
- \`guests\` says what holds for single guests: each key there is that guest's instead of the one for all. A guest that the testbed does not
  have is an error of the testbed.
`;

interface JsonSchema {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly examples?: readonly unknown[];
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly items?: JsonSchema;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
}

/** docs/policies.md as it should be. @param policies the built-in ones, in the order of the page */
export function renderPoliciesPage(policies: readonly Plugin[]): string {
  const index = policies.map(({ name, description }) => `- [\`${name}\`](#${name}): ${description}`);
  return [HEAD, `${index.join('\n')}\n`, ...policies.map(renderPolicy), renderClasses()].join('\n');
}

function renderPolicy({ name, configSchema, rules = {} }: Plugin): string {
  const schema = plain(configSchema) as JsonSchema;
  const ruleRows = Object.entries(rules).map(([rule, demand]) => `| \`${rule}\` | ${cell(demand)} |`);
  return `## ${name}

${sentence(schema.description ?? '')} More: plugins/policy-${name}/README.md.

\`\`\`yaml
${yaml([{ use: name, config: schema.examples?.[0] ?? {} }])}\`\`\`

| rule | demands |
| --- | --- |
${ruleRows.join('\n')}

| key | default | what it is |
| --- | --- | --- |
${keys(schema, []).join('\n')}
`;
}

/** A row for each key, those of sections behind that of the section; of \`guests\` there is but one. */
function keys(schema: JsonSchema, path: readonly string[]): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
    const at = [...path, name];
    const row = `| \`${at.join('.')}\` | ${defaultOf(property)} | ${cell(property.description ?? '')}${cell(shape(property))} |`;
    return at[0] === 'guests' || isLong(property) ? [row] : [row, ...keys(property, at)];
  });
}

/** The same keys for each of many words: one row says it. */
const MANY = 16;

function isLong({ properties = {} }: JsonSchema): boolean {
  return Object.keys(properties).length > MANY;
}

function defaultOf(property: JsonSchema): string {
  const { default: value } = property;
  if (value === undefined) return '';
  if (Array.isArray(value))
    return value.length === 0 ? '`[]`' : value.map((word) => `\`${word}\``).join(', ');
  if (typeof value === 'object') return property.properties === undefined || isLong(property) ? '`{}`' : '';
  return `\`${JSON.stringify(value).replaceAll('"', '')}\``;
}

/** What may be there, where the description need not say it. */
function shape({ type, items, minimum, maximum, properties, ...schema }: JsonSchema): string {
  const words = schema.enum ?? items?.enum;
  if (words !== undefined && words.length <= MANY) return ` (${words.join(', ')})`;
  if (properties !== undefined && Object.keys(properties).length > MANY) {
    const [first] = Object.values(properties);
    return ` (of each: ${Object.keys(first?.properties ?? {}).join(', ')})`;
  }
  if (type !== 'integer' && type !== 'number') return '';
  return maximum === undefined ? ` (from ${minimum ?? '…'})` : ` (${minimum ?? '…'} to ${maximum})`;
}

function renderClasses(): string {
  const rows = HELPER_CLASS_NAMES.map((name) => {
    const { description, helpers } = HELPER_CLASSES[name];
    const offered = OFFLOADABLE_CLASSES.includes(name) ? 'yes' : '';
    return `| \`${name}\` | ${offered} | ${cell(description)} | ${helpers.map((helper) => `\`${helper}\``).join(', ')} |`;
  });
  return `## Classes of helpers

Every helper that a kernel lets an XDP program call (Linux 6.18) is in one class of policy \`helper-allow-list\`. Its list has those of four classes
unless the testbed says otherwise; none of them reads anything of the host.

| class | on the default list | what it has to do with | helpers |
| --- | --- | --- | --- |
${rows.join('\n')}
`;
}

function yaml(value: unknown): string {
  return stringify(value, { lineWidth: 0 });
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

function sentence(text: string): string {
  return `${text[0]?.toUpperCase() ?? ''}${text.slice(1)}.`;
}
