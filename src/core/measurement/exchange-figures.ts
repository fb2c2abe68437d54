import type { Comparison, ExchangeResult, RunResult } from '../contract/result.js';

/** The median, of streams bits per second, of requests transactions per second; undefined where none was measured. */
export function exchangeFigure(exchange: ExchangeResult): number | undefined {
  return (exchange.bitsPerSecond ?? exchange.transactionsPerSecond)?.median;
}

/** Per cent that an exchange is faster than the same one of another run; undefined where either was not measured. */
export function exchangeChange(exchange: ExchangeResult, base: RunResult): number | undefined {
  const { node, kind, size, streams } = exchange;
  const same = base.exchanges?.find(
    (other) => other.node === node && other.kind === kind && other.size === size && other.streams === streams,
  );
  const [after, before] = [exchangeFigure(exchange), same && exchangeFigure(same)];
  return after === undefined || before === undefined || before === 0 ? undefined : (after / before - 1) * 100;
}

/** The same of the figures of others, the first that both runs have by one name. */
export function referenceChange(
  reference: Comparison['reference'],
  run: Pick<RunResult, 'id'>,
  base: Pick<RunResult, 'id'>,
  { kind, size, streams }: ExchangeResult,
): number | undefined {
  if (streams !== 1) return undefined;
  const [after, before] = [run, base].map(({ id }) => reference?.exchanges?.[id]?.[`${kind}/${size}`] ?? {});
  const name = Object.keys(after!).find((each) => before![each] !== undefined);
  return name === undefined ? undefined : (after![name]! / before![name]! - 1) * 100;
}
