import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { BPF_CMD } from './bpf-attr.js';
import type { FieldType, StructLayout } from './struct-layout.js';
import { BPF_COMMAND, STRUCTS } from './wire.js';

/*
 * The specification and the code say the same: structures and numbers, and each normative sentence has a test that
 * names it. `UPDATE_DOCS=1` writes listings of structures and links to tests anew.
 */
const ROOT = fileURLToPath(new URL('../../../../../', import.meta.url));
const PAGE = 'docs/spec/bpf-offload.md';
const text = readFileSync(ROOT + PAGE, 'utf8');

/** `- The device MUST … {#dev-…} (links)`, one line each. */
const SENTENCE = /^- (.+?) \{#((?:dev|drv)-[a-z0-9-]+)\}(?: \((.*)\))?$/gm;
const LISTING = /<!-- struct (\w+) -->\n+```c\n([\s\S]*?)```\n/g;
const NAMED = /normative\(\s*(\[[^\]]*\]|'[^']*')/g;

const sentences = [...text.matchAll(SENTENCE)].map(([, sentence, id, links]) => ({
  sentence: sentence!,
  id: id!,
  links: links ?? '',
}));

/** Files by the sentences that tests in them name. */
function testsBySentence(): ReadonlyMap<string, ReadonlySet<string>> {
  const found = new Map<string, Set<string>>();
  const files = readdirSync(`${ROOT}src`, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.ts'))
    .map((file) => `src/${file.replaceAll('\\', '/')}`);
  for (const file of files) {
    for (const [, ids] of readFileSync(ROOT + file, 'utf8').matchAll(NAMED)) {
      for (const [, id] of ids!.matchAll(/'([^']+)'/g)) {
        found.set(id!, (found.get(id!) ?? new Set<string>()).add(file));
      }
    }
  }
  return found;
}

function linksTo(files: ReadonlySet<string>): string {
  return [...files]
    .sort()
    .map((file) => `[${posix.basename(file)}](${posix.relative(dirname(PAGE), file)})`)
    .join(', ');
}

/** In C, each field with its offset. */
function listing({
  name,
  fields,
  size,
}: Pick<StructLayout<Record<string, FieldType>>, 'name' | 'fields' | 'size'>): string {
  const lines = fields.map(({ name: field, type, offset }) => {
    const array = /^u8\[(\d+)\]$/.exec(type);
    const declared = array === null ? `${type} ${field};` : `u8 ${field}[${array[1]}];`;
    return `        ${declared.padEnd(32)}/* ${String(offset).padStart(3)} */`;
  });
  return [`struct ${name} {`, ...lines, `}; /* ${size} bytes */`, ''].join('\n');
}

const tests = testsBySentence();

if (process.env['UPDATE_DOCS'] === '1') {
  const layouts = new Map<string, (typeof STRUCTS)[number]>(STRUCTS.map((layout) => [layout.name, layout]));
  const updated = text
    .replace(LISTING, (whole, name: string) => {
      const layout = layouts.get(name);
      return layout === undefined ? whole : `<!-- struct ${name} -->\n\n\`\`\`c\n${listing(layout)}\`\`\`\n`;
    })
    .replace(SENTENCE, (_whole, sentence: string, id: string) => {
      const files = tests.get(id);
      return `- ${sentence} {#${id}}${files === undefined ? '' : ` (${linksTo(files)})`}`;
    });
  writeFileSync(ROOT + PAGE, updated);
}

describe('the specification of BPF offload', () => {
  it('lists every structure as it is on the wire', () => {
    const listed = new Map([...text.matchAll(LISTING)].map(([, name, body]) => [name, body]));
    for (const layout of STRUCTS) expect(listed.get(layout.name), layout.name).toBe(listing(layout));
    expect(listed.size).toBe(STRUCTS.length);
  });

  it('has every command, and every bpf(2) command that SYSCALL carries, with its number', () => {
    for (const [name, number] of Object.entries(BPF_COMMAND)) {
      expect(text).toMatch(new RegExp(`^\\| ${number} +\\| ${name} +\\|`, 'm'));
    }
    for (const [name, number] of Object.entries(BPF_CMD)) {
      expect(text).toMatch(new RegExp(`^\\| ${number} +\\| BPF_${name} +\\|`, 'm'));
    }
  });

  it('gives every sentence an id of its own, and a word of RFC 2119', () => {
    expect(new Set(sentences.map(({ id }) => id)).size).toBe(sentences.length);
    for (const { id, sentence } of sentences) expect(sentence, id).toMatch(/\b(MUST|SHOULD|MAY)\b/);
    // A line with such a word is a sentence with an id, but for the one that says what the words mean.
    const lines = text.split('\n').filter((line) => /\b(MUST|SHOULD|MAY)\b/.test(line));
    expect(lines.filter((line) => !line.includes('{#') && !line.includes('RFC 2119'))).toEqual([]);
  });

  it('has a test for every sentence, and links to it', () => {
    expect(sentences.filter(({ id }) => !tests.has(id)).map(({ id }) => id)).toEqual([]);
    for (const { id, links } of sentences) expect(links, id).toBe(linksTo(tests.get(id)!));
  });

  it('has a sentence for every test that names one', () => {
    const known = new Set(sentences.map(({ id }) => id));
    expect([...tests.keys()].filter((id) => !known.has(id))).toEqual([]);
  });
});
