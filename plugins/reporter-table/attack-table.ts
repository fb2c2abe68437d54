import { attackSucceeded, type AttackResult, type ResultDocument } from '../../src/core/contract/result.js';
import { printable } from '../../src/core/printable.js';
import { drawTable, fitTable, type Line } from './text-layout.js';

/**
 * Attacks by devices: a row for each attack, a column for each device that it was tried on, and in it whether it failed or
 * what did not hold. No table where nobody attacked.
 */
export function attackTables({ runs }: ResultDocument, color: boolean): string[] {
  const results = runs.flatMap((run) => run.attacks ?? []);
  if (results.length === 0) return [];
  const devices = [...new Set(results.map(({ device }) => device))];
  const attacks = [...new Set(results.map(({ attack }) => attack))];
  const rows: Line[][][] = [
    [
      [{ text: 'attack', tone: 'strong' }],
      ...devices.map((device): Line[] => [{ text: device, tone: 'strong' }]),
    ],
    ...attacks.map((attack): Line[][] => [
      [{ text: attack }],
      ...devices.map((device) =>
        results.filter((each) => each.attack === attack && each.device === device).flatMap(cell),
      ),
    ]),
  ];
  const sound = rows.map((row) =>
    row.map((lines) => lines.map((line) => ({ ...line, text: printable(line.text) }))),
  );
  const natural = sound[0]!.map((_, column) =>
    Math.max(...sound.flatMap((row) => row[column]!.map(({ text }) => text.length))),
  );
  return [drawTable(sound, fitTable(natural), color)];
}

/** What became of one attack. */
function cell(result: AttackResult): Line[] {
  if (result.held) return [{ text: 'fails', tone: 'good' }];
  if (!attackSucceeded(result)) {
    const [first] = result.broken;
    return [{ text: `misses its aim, but: ${first!.invariant}: ${first!.what}`, tone: 'bad' }];
  }
  const main = result.broken.find(({ invariant }) => result.aims.includes(invariant))!;
  return [{ text: `succeeds: ${main.what}`, tone: 'bad' }];
}
