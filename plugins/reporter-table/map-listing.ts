import type { ElementWords } from '../../src/core/contract/reporter.js';
import type { MapResult, RunResult } from '../../src/core/contract/result.js';
import { formatMapItem } from '../../src/report/map-entry.js';
import { isCutShort, type Words } from './run-cells.js';
import { MAX_WIDTH, type Line } from './text-layout.js';

/** Elements of one map, and maps. */
const MAX_LISTED = 20;
/** Characters of an element; of longer ones there is the beginning, as a comment. */
const MAX_TEXT = 1_000;
const BEGINNING = 60;
/** A word that is cut between lines would not be the same again. */
const LONG_WORD = new RegExp(`[^ ]{${MAX_WIDTH - 20},}`);

/**
 * Maps of which the table has not all, as YAML that presets and cases take: those whose elements there are words for. Lines that
 * are broken go on further in, which YAML reads as if they were not.
 */
export function mapListing(runs: readonly RunResult[], words: Words): Line[] {
  const lines: Line[] = [];
  let listed = 0;
  let place = '';
  for (const run of runs) {
    for (const map of run.maps) {
      if (!isCutShort(run, map, words)) continue;
      if (listed++ === MAX_LISTED) return [...lines, { text: '… more maps: --format json' }];
      const shown = map.entries.slice(0, MAX_LISTED);
      const left = map.entries.length - shown.length;
      const own = `${run.id} ${map.guest}.${map.nic}`;
      if (own !== place)
        lines.push({ text: `${own}, as presets and cases take it:`, tone: 'strong' }, { text: '  maps:' });
      place = own;
      lines.push(
        { text: `    ${map.name}: # ${map.type}` },
        ...shown.map((entry) => ({ text: `      ${item(map, entry, words(run, map, entry))}` })),
        ...(left === 0 ? [] : [{ text: `      # … ${left} more` }]),
      );
    }
  }
  return lines;
}

function item(map: MapResult, entry: MapResult['entries'][number], words: ElementWords): string {
  const written = formatMapItem(map, entry, words);
  // Lines are broken at blanks, of which several in a row would become one.
  const text = written.replace(/ {2,}/g, (blanks) => '\\x20'.repeat(blanks.length));
  const isWhole = text.length <= MAX_TEXT && !LONG_WORD.test(text);
  return isWhole ? text : `# ${text.slice(0, BEGINNING)}… (${text.length} characters)`;
}
