import type { RenderOptions } from '../../src/core/contract/reporter.js';
import {
  isGuestHook,
  sumControl,
  sumRulings,
  type MapResult,
  type RunResult,
} from '../../src/core/contract/result.js';
import { formatMapContent, formatMapEntry } from '../../src/report/map-entry.js';
import { cut, quantity, type Line } from './text-layout.js';

/** Lists longer than this are cut: `--format json` has all of it. */
const MAX_HOOKS = 8;
const MAX_PLACES = 12;
const MAX_ENTRIES = 8;
const MAX_MAPS = 8;
const MAX_VALUE = 40;

export const NOTHING: readonly Line[] = [{ text: '–' }];

export interface Column {
  readonly head: readonly string[];
  /** What the table has of a run here. `single`: the testbed has one guest nic, which goes without saying. */
  readonly cell: (run: RunResult, single: boolean, words: Words) => readonly Line[];
}

/** How elements of maps are written. */
export type Words = NonNullable<RenderOptions['words']>;

/** The columns behind the run's name. */
export const COLUMNS: readonly Column[] = [
  { head: ['frames', 'sent'], cell: frames },
  { head: ['verdicts of the', 'guest’s program'], cell: verdicts },
  { head: ['where frames', 'ended'], cell: ends },
  { head: ['maps as the', 'guest reads them'], cell: maps },
  { head: ['control', 'commands'], cell: control },
  { head: ['rulings'], cell: rulings },
];

/** The guest nics that a run has something of. */
export function guestNics(run: RunResult): Set<string> {
  return new Set([
    ...run.attachments.map((attachment) => attachment.node),
    ...run.hooks.filter(isGuestHook).map((hook) => hook.node),
    ...[...run.maps, ...run.control, ...run.links].map(({ guest, nic }) => `${guest}.${nic}`),
  ]);
}

/** `a/b` as the lines `a/` and `b`: a run's id has one for each axis. */
export function slashed(text: string): Line[] {
  return text.split(/(?<=\/)/).map((part) => ({ text: part, tone: 'strong' }));
}

function frames(run: RunResult): Line[] {
  const lines: Line[] = [{ text: String(run.framesSent) }];
  if (run.framesCopied > 0) lines.push({ text: `+${run.framesCopied} copied` });
  return lines;
}

function verdicts(run: RunResult, single: boolean): readonly Line[] {
  const node = (name: string): Line[] => (single ? [] : [{ text: `${name}:` }]);
  const counted = run.hooks.filter(isGuestHook).map((hook): Line[] => {
    const counts = Object.entries(hook.verdicts).filter(([, count]) => count > 0);
    return [
      ...node(hook.node),
      { text: `${hook.program} @ ${hook.site}` },
      ...(counts.length === 0 ? [{ text: '  no frames' }] : []),
      ...counts.map(([verdict, count]): Line => ({
        text: `  ${verdict} ${count}`,
        tone: verdict === 'XDP_ABORTED' ? 'bad' : undefined,
      })),
    ];
  });
  const missing = run.attachments
    .filter((attachment) => !attachment.attached)
    .map((attachment): Line[] => [
      ...node(attachment.node),
      { text: attachment.program },
      { text: '  not attached', tone: 'bad' },
    ]);
  const blocks = [...counted, ...missing];
  if (blocks.length === 0) return NOTHING;
  return cut(blocks, MAX_HOOKS, (rest) => [{ text: `… ${rest.length} more` }]).flat();
}

function ends(run: RunResult): readonly Line[] {
  const places = new Map<string, { lines: Line[]; frames: number }>();
  for (const { place, fate, frames } of run.ends) {
    if (frames === 0) continue;
    const at = places.get(place) ?? { lines: [{ text: place }], frames: 0 };
    at.lines.push({ text: `  ${fate} ${frames}` });
    at.frames += frames;
    places.set(place, at);
  }
  if (places.size === 0) return NOTHING;
  // What is cut off keeps its number of frames, so that the column still adds up.
  return cut([...places.values()], MAX_PLACES, (rest) => {
    const frames = rest.reduce((sum, place) => sum + place.frames, 0);
    return { lines: [{ text: `… ${rest.length} more places ${frames}` }], frames };
  }).flatMap((place) => place.lines);
}

function maps(run: RunResult, single: boolean, words: Words): readonly Line[] {
  if (run.maps.length === 0) return NOTHING;
  const lines = run.maps.map((map): Line => {
    const shown = firstOf(map.entries).map((entry) =>
      shorten(formatMapEntry(map, entry, words(run, map, entry))),
    );
    const left = map.entries.length - shown.length;
    const content = formatMapContent(map, left === 0 ? shown : [...shown, `… ${left} more`]);
    return { text: `${single ? '' : `${map.guest}.${map.nic} `}${map.name}: ${content}` };
  });
  return cut(lines, MAX_MAPS, (rest) => ({ text: `… ${quantity(rest.length, 'more map')}` }));
}

/** The elements that the table has: the others are not even looked at, for there may be a million. */
function firstOf(entries: MapResult['entries']): MapResult['entries'] {
  return entries.length > MAX_ENTRIES + 1 ? entries.slice(0, MAX_ENTRIES) : entries;
}

/** Whether there are words for elements of a map, and the table has not all of them. */
export function isCutShort(run: RunResult, map: MapResult, words: Words): boolean {
  const first = firstOf(map.entries);
  const said = first.map((entry) => words(run, map, entry));
  if (!said.some(({ key, value }) => (key ?? value) !== undefined)) return false;
  return (
    first.length < map.entries.length ||
    first.some((entry, index) => formatMapEntry(map, entry, said[index]).length > MAX_VALUE)
  );
}

/** Commands of all guests together, by name without their class: `CREATE_MAP 1`. */
function control(run: RunResult): readonly Line[] {
  const { commands, ok, err } = sumControl(run.control);
  if (commands + ok + err === 0) return NOTHING;
  const byName = new Map<string, number>();
  for (const { commands: counts } of run.control) {
    for (const [name, count] of Object.entries(counts)) {
      const short = name.slice(name.lastIndexOf('/') + 1);
      byName.set(short, (byName.get(short) ?? 0) + count);
    }
  }
  return [
    { text: quantity(commands, 'command') },
    { text: `${ok} ok` },
    ...(err > 0 ? [{ text: `${err} err`, tone: 'bad' } as const] : []),
    ...[...byName].map(([name, count]): Line => ({ text: `  ${name} ${count}` })),
  ];
}

function rulings(run: RunResult): readonly Line[] {
  const { allow, deny, wouldDeny } = sumRulings(run);
  if (allow + deny + wouldDeny === 0) return NOTHING;
  return [
    { text: `${allow} allow` },
    { text: `${deny} deny`, tone: deny > 0 ? 'bad' : undefined },
    ...(wouldDeny > 0 ? [{ text: `${wouldDeny} would deny` }] : []),
  ];
}

function shorten(text: string): string {
  return text.length > MAX_VALUE ? `${text.slice(0, MAX_VALUE - 1)}…` : text;
}
