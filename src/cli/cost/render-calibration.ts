import type { CalibratedCell, FittedParameter } from '../../core/run/fit-calibration.js';
import { printable } from '../../core/printable.js';
import type { CalibrationReport } from './reports.js';
import { columns, mpps, short, signedPercent } from './columns.js';

/** A fit for people: how well each run is met, what the runs say of each parameter, and what they do not. */
export function renderCalibration(report: CalibrationReport): string {
  const fitted = report.cells.filter(({ heldOut }) => !heldOut);
  const held = report.cells.filter(({ heldOut }) => heldOut);
  const { guests } = report;
  return [
    `${printable(report.calibration)} against ${printable(report.reference)}, Mpps, compared by the id of the run\n`,
    guests.reference.length === 0
      ? ''
      : `guests there: ${printable(guests.reference.join('; '))}; here: ${printable(guests.model.join('; '))}\n`,
    '\n',
    cellTable(report, fitted),
    held.length === 0 ? '' : `\npredicted, not fitted to:\n${cellTable(report, held)}`,
    '\n',
    ...summary(report, fitted, held),
    '\n',
    parameterTable(report.parameters),
    ...warnings(report),
    ...(report.written ? [`\nwritten to ${printable(report.calibration)}\n`] : []),
  ].join('');
}

function cellTable(report: CalibrationReport, cells: readonly CalibratedCell[]): string {
  const alone = cells.some(({ leaveOneOut }) => leaveOneOut !== undefined);
  const hooks = report.cells.some(({ referenceHook }) => referenceHook !== undefined);
  return columns(
    [
      [
        'run',
        'reference',
        'model',
        'error',
        ...(alone ? ['from others', 'error'] : []),
        ...(hooks ? ['hook there', 'hook here'] : []),
      ],
      ...cells.map(({ run, reference, rate, error, leaveOneOut, referenceHook, hook }) => [
        printable(run),
        mpps(reference),
        mpps(rate),
        signedPercent(error),
        ...(alone
          ? leaveOneOut === undefined
            ? ['–', '–']
            : [mpps(leaveOneOut.rate), signedPercent(leaveOneOut.error)]
          : []),
        ...(hooks ? [printable(referenceHook ?? '–'), printable(hook ?? '–')] : []),
      ]),
    ],
    alone ? [6, 7] : [4, 5],
  );
}

function summary(
  { limits, order, withoutReference }: CalibrationReport,
  fitted: readonly CalibratedCell[],
  held: readonly CalibratedCell[],
): string[] {
  const alone = fitted.filter(({ leaveOneOut }) => leaveOneOut !== undefined);
  const right = order.pairs - order.wrong.length;
  return [
    `largest error ${worst(fitted, ({ error }) => error, limits.within)}\n`,
    alone.length === 0
      ? ''
      : `largest error from the others ${worst(alone, ({ leaveOneOut }) => leaveOneOut!.error, limits.leaveOneOut)}\n`,
    held.length === 0 ? '' : `largest error of what was not fitted to ${worst(held, ({ error }) => error)}\n`,
    `order: ${right} of ${order.pairs} pairs as in the reference\n`,
    ...order.wrong.map(([a, b]) => `  not ${printable(a)} and ${printable(b)}\n`),
    ...(withoutReference.length === 0
      ? []
      : [`no reference for ${withoutReference.map(printable).join(', ')}\n`]),
  ];
}

/** The worst of these, and whether that may be. */
function worst(
  cells: readonly CalibratedCell[],
  errorOf: (cell: CalibratedCell) => number,
  limit?: number,
): string {
  const cell = cells.reduce((a, b) => (Math.abs(errorOf(b)) > Math.abs(errorOf(a)) ? b : a));
  const error = errorOf(cell);
  const verdict =
    limit === undefined
      ? ''
      : `: ${Math.abs(error) <= limit ? 'within' : 'not within'} ${short(limit * 100)} %`;
  return `${signedPercent(error)} (${printable(cell.run)})${verdict}`;
}

function parameterTable(parameters: readonly FittedParameter[]): string {
  return columns(
    [
      ['parameter', 'unit', 'before', 'prior', 'fitted', 'told by the runs', ''],
      ...parameters.map(
        ({ name, unit, before, prior, spread, value, deviation, told, identified, atBound }) => [
          name,
          unit,
          short(before),
          `${short(prior)} ± ${short(spread)}`,
          `${short(value)} ± ${Number(deviation.toPrecision(2))}`,
          `${Math.round(told * 100)} %`,
          [...(identified ? [] : ['not identified']), ...(atBound ? ['at its least value'] : [])].join(', '),
        ],
      ),
    ],
    [1, 6],
  );
}

function warnings({ parameters, correlations, tolerance }: CalibrationReport): string[] {
  const unknown = parameters.filter(({ identified }) => !identified).map(({ name }) => name);
  return [
    `\n± is one standard deviation, if a run can be met to ${short(tolerance * 100)} %\n`,
    ...(unknown.length === 0
      ? []
      : [`the runs say next to nothing of ${unknown.join(', ')}: what is there is the prior\n`]),
    ...correlations.map(
      ({ parameters: [a, b], r }) =>
        `the runs hardly tell ${a} from ${b} (correlation ${r.toFixed(2).replace('-', '−')}): ` +
        (r < 0 ? 'more of one does what more of the other does\n' : 'more of one undoes more of the other\n'),
    ),
  ];
}
