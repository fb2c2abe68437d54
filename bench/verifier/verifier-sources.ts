import { readdirSync } from 'node:fs';
import { join } from 'node:path';

const PLUGIN = 'plugins/verifier-abstract';

/** What explains and reports: a mistake there misleads people, but lets no program through. */
const NOT_SOUNDNESS: ReadonlySet<string> = new Set([
  'complexity-report.ts',
  'config.ts',
  'explain.ts',
  'index.ts',
  'rejection-codes.ts',
  'rejections-page.ts',
  'state-log.ts',
  'state-recorder.ts',
  'value-format.ts',
]);

/** The files of verifier `abstract` on which verdicts depend, as paths from the repository's root. */
export function soundnessFiles(folder = PLUGIN): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.isDirectory()) return entry.name === 'scalar' ? soundnessFiles(join(folder, entry.name)) : [];
    const isCode = entry.name.endsWith('.ts') && !entry.name.endsWith('.test.ts');
    return isCode && !NOT_SOUNDNESS.has(entry.name) ? [join(folder, entry.name)] : [];
  });
}
