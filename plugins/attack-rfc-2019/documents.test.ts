import { existsSync, readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ATTACKS } from './attacks.js';
import { attackDocuments } from './documents.js';

const root = new URL('../../', import.meta.url);

describe('what is written of the attacks', () => {
  it.each(Object.entries(attackDocuments()))('%s is what the table says', async (path, text) => {
    await expect(text).toMatchFileSnapshot(new URL(path, root).pathname);
  });

  it('there is no testbed of an attack that is not in the table', () => {
    const written = new Set(Object.keys(attackDocuments()));
    const files = readdirSync(new URL('testbeds/attacks/', root)).filter((name) => name.endsWith('.yaml'));
    expect(files.filter((name) => !written.has(`testbeds/attacks/${name}`))).toEqual([]);
  });

  it('files and tests that it names are there, and each of the ten defects is attacked', () => {
    const named = ATTACKS.flatMap(({ stoppedBy, tests }) => [...stoppedBy, ...tests]);
    expect(named.filter((path) => !existsSync(new URL(path, root)))).toEqual([]);
    const defects = new Set(ATTACKS.map(({ defect }) => defect));
    for (let defect = 1; defect <= 10; defect++) expect(defects, `defect ${defect}`).toContain(defect);
    expect(new Set(ATTACKS.map(({ name }) => name)).size).toBe(ATTACKS.length);
  });
});
