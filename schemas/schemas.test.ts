import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { schemaFiles } from './generate.js';

const files = await schemaFiles();

describe('checked-in schemas', () => {
  it.each(Object.entries(files))('%s is what the code generates (npm run build:schemas)', (name, text) => {
    expect(readFileSync(new URL(name, import.meta.url), 'utf8')).toBe(text);
  });
});
