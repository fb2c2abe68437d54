import type { Effect } from '../../core/run/cost-sensitivity.js';
import { printable } from '../../core/printable.js';
import { columns, mpps, short, signedPercent } from './columns.js';
import type { SensitivityReport } from './reports.js';

/** Characters of a bar on each side. */
const BAR = 16;
const MARKS = { low: '░', high: '█' } as const;

/** A tornado for each run: the bars of what moves its rate most, the longest first. */
export function renderSensitivity({ calibration, by, runs }: SensitivityReport, top: number): string {
  const percent = short(by * 100);
  const legend =
    `what a cost of ${printable(calibration)} that is ${percent} % less (${MARKS.low}) or more (${MARKS.high}) ` +
    'does to the rate\n';
  const tables = runs.map(({ run, framesPerSecond, effects }) => {
    const shown = effects.slice(0, top).filter((effect) => longest(effect) > 0);
    const scale = shown.length === 0 ? 1 : longest(shown[0]!);
    const rest = effects.filter((effect) => longest(effect) > 0).length - shown.length;
    const none = effects.length - shown.length - rest;
    return [
      `\n${printable(run)}: ${mpps(framesPerSecond)} Mpps\n`,
      shown.length === 0
        ? ''
        : columns(
            shown.map(({ what, unit, low, high }) => [
              `  ${printable(what)}`,
              `${valueOf(low.value)} – ${valueOf(high.value)}${unit === undefined ? '' : ` ${unit}`}`,
              signedPercent(low.change),
              signedPercent(high.change),
              bars({ low: low.change, high: high.change }, scale),
            ]),
            [4],
          ),
      rest > 0 ? `  and ${rest} that move it less\n` : '',
      none > 0 ? `  ${none} do not move it\n` : '',
    ].join('');
  });
  return [legend, ...tables].join('');
}

const longest = ({ low, high }: Effect): number => Math.max(Math.abs(low.change), Math.abs(high.change));

const valueOf = (value: number | string): string =>
  typeof value === 'number' ? short(value) : printable(value);

/** To the left what makes it slower, to the right what makes it faster. */
function bars(changes: Readonly<Record<'low' | 'high', number>>, scale: number): string {
  const side = (sign: 1 | -1): string => {
    const [mark, most] = (['low', 'high'] as const)
      .map((move) => [MARKS[move], changes[move] * sign] as const)
      .reduce((a, b) => (b[1] > a[1] ? b : a));
    return mark.repeat(Math.round((Math.max(most, 0) / scale) * BAR));
  };
  return `${side(-1).padStart(BAR)}│${side(1)}`;
}
