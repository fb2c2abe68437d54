import { isScalar, parseDocument } from 'yaml';
import { XdpbedError } from '../diagnostic.js';

/** Digits that a fitted value is worth: more would say that more is known of it. */
const DIGITS = 4;

export function roundFitted(value: number): number {
  return Number(value.toPrecision(DIGITS));
}

/**
 * The text of a calibration file with other values for some parameters. Nothing else of it changes: comments, order and
 * layout are whoever's who wrote it.
 *
 * @throws XdpbedError `testbed-invalid` for a value that does not stand in the file itself
 */
export function withValues(file: string, text: string, values: ReadonlyMap<string, number>): string {
  const document = parseDocument(text);
  const places = [...values].map(([name, value]) => {
    const node = document.getIn(['parameters', name, 'value'], true);
    if (!isScalar(node) || node.range === null || node.range === undefined) {
      throw new XdpbedError(
        'testbed-invalid',
        `${file}: the value of ${name} does not stand at parameters.${name}.value`,
      );
    }
    // [start, end of the value, end with what follows it]
    const [start, end] = node.range;
    return { start, end, value };
  });
  // From the end on, so that what is left to do stays where it is.
  return places
    .sort((a, b) => b.start - a.start)
    .reduce(
      (changed, { start, end, value }) => changed.slice(0, start) + String(value) + changed.slice(end),
      text,
    );
}
