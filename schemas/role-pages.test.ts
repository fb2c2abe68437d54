import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { ROLES } from '../src/core/contract/plugin.js';
import { rolePage, withContract } from './role-pages.js';

it.each(ROLES)('the page of role %s has its contract as the source has it', (role) => {
  const file = fileURLToPath(new URL(`../${rolePage(role)}`, import.meta.url));
  const page = withContract(role, readFileSync(file, 'utf8'));
  if (process.env['UPDATE_DOCS'] === '1') writeFileSync(file, page);
  expect(readFileSync(file, 'utf8')).toBe(page);
  const contract = page.split('<!--')[1]!;
  expect(contract).toContain(`Role \`${role}\`: `);
  expect(contract).not.toContain("from '");
});
