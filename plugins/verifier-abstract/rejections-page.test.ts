import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { format, resolveConfig } from 'prettier';
import { REJECTIONS_PAGE, renderRejectionsPage } from './rejections-page.js';

it('docs/verifier/rejections.md says what the table and the twins say', async () => {
  const file = fileURLToPath(new URL(`../../${REJECTIONS_PAGE}`, import.meta.url));
  const page = await format(renderRejectionsPage(), { ...(await resolveConfig(file)), filepath: file });
  if (process.env['UPDATE_DOCS'] === '1') writeFileSync(file, page);
  expect(readFileSync(file, 'utf8')).toBe(page);
});
