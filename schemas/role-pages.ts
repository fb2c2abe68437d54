import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Role } from '../src/core/contract/plugin.js';

/** Where a role's page is, from the root of the repository. */
export function rolePage(role: Role): string {
  return `docs/roles/${role}.md`;
}

/** What else of the source a role is about, beside the contract of its name. */
const MORE: Readonly<Partial<Record<Role, readonly string[]>>> = {
  executor: ['src/core/contract/program-run.ts'],
  fabric: ['src/core/contract/hook-place.ts', 'src/core/contract/guest-driver.ts'],
  'map-backend': ['src/bpf/runtime/bpf-map.ts'],
};

const BEGIN = '<!-- made from the source, UPDATE_DOCS=1 npx vitest run schemas/role-pages.test.ts -->';
const END = '<!-- end of what is made -->';

/**
 * A page with the contract of its role put in between the two comments: the source as it is, without imports. Throws
 * RangeError for a page without them.
 */
export function withContract(role: Role, page: string): string {
  const [head, rest] = split(page, BEGIN, role);
  const [, tail] = split(rest, END, role);
  const files = [`src/core/contract/${role}.ts`, ...(MORE[role] ?? [])];
  const contracts = files.map((file) => `\`${declarations(file)}\`\n\n\`\`\`ts\n${declared(file)}\n\`\`\``);
  return `${head}${BEGIN}\n\n${contracts.join('\n\n')}\n\n${END}${tail}`;
}

function split(text: string, mark: string, role: Role): [string, string] {
  const at = text.indexOf(mark);
  if (at < 0) throw new RangeError(`${rolePage(role)} has no line ${mark}`);
  return [text.slice(0, at), text.slice(at + mark.length)];
}

/** Where the package has it. */
function declarations(file: string): string {
  return `node_modules/xdpbed/dist/${file.replace(/\.ts$/, '.d.ts')}`;
}

function declared(file: string): string {
  const source = readFileSync(fileURLToPath(new URL(`../${file}`, import.meta.url)), 'utf8');
  return source.replace(/^(?:import|export type) [^;]*? from '[^']*';\n/gm, '').trim();
}
