import type {
  Comparison,
  ExchangeResult,
  ResultDocument,
  RunResult,
} from '../../src/core/contract/result.js';
import { exchangeChange, referenceChange } from '../../src/core/measurement/exchange-figures.js';
import {
  cell,
  comparedWith,
  drawRows,
  groupBy,
  head,
  isBaseline,
  ratio,
  strong,
  type Row,
} from './comparison-rows.js';
import type { Line } from './text-layout.js';

/**
 * Streams and requests as netperf names them, a row for each, beside them the figures of others. Under the table what
 * holds for all of it, and why what was not measured was not.
 */
export function exchangeTables(result: ResultDocument, color: boolean): (string | Line[])[] {
  const exchanged = result.runs.flatMap((run) =>
    (run.exchanges ?? []).map((exchange) => ({ run, exchange })),
  );
  if (exchanged.length === 0) return [];
  return [drawRows(rows(result.comparison ?? {}, exchanged), color), notes(exchanged)];
}

interface Exchanged {
  readonly run: RunResult;
  readonly exchange: ExchangeResult;
}

function rows({ axis, baseline, reference }: Comparison, exchanged: readonly Exchanged[]): Row[] {
  const theirs = ({ run, exchange: { kind, size, streams } }: Exchanged): Readonly<Record<string, number>> =>
    // Theirs are of one at a time.
    (streams === 1 ? reference?.exchanges?.[run.id]?.[`${kind}/${size}`] : undefined) ?? {};
  const named = [...new Set(exchanged.flatMap((each) => Object.keys(theirs(each))))];
  const has = (value: (exchange: ExchangeResult) => unknown): boolean =>
    exchanged.some(({ exchange }) => value(exchange) !== undefined);
  const hasMessages = has(({ messagesSentPerSecond }) => messagesSentPerSecond);
  const hasLatency = has(({ latency }) => latency);
  const isExplained = has(({ explanation }) => explanation);
  const groups = groupBy(exchanged, ({ run, exchange: { node, kind, size, streams } }) =>
    comparedWith(run, axis, node, kind, size, streams),
  );
  const hasChanges = groups.some((group) => {
    const base = group.find(({ run }) => isBaseline(run, axis, baseline));
    return (
      base !== undefined &&
      group.some(
        ({ run, exchange }) =>
          run !== base.run && referenceChange(reference, run, base.run, exchange) !== undefined,
      )
    );
  });
  // Where changes are shown, a ratio would say the same once more.
  const hasRatio = baseline !== undefined && !hasChanges;

  const header = [
    ['run'],
    ['exchange'],
    ['measured'],
    ['lowest –', 'highest'],
    ...(hasRatio ? [[`÷ ${axis}`, baseline]] : []),
    ...(hasMessages ? [['messages/s', 'sent → got']] : []),
    ...(hasLatency ? [['µs p50 /', 'p99 / max']] : []),
    ...named.map((name) => [reference!.name, name]),
    ...(hasChanges ? [['change'], [reference!.name, 'change']] : []),
    ...(isExplained ? [['limited', 'by']] : []),
  ];
  const body = groups.flatMap((group) => {
    const base = group.find(({ run }) => isBaseline(run, axis, baseline));
    return group.map((each): Row => {
      const { run, exchange } = each;
      const ours = figures(exchange);
      const bases = base === undefined || base === each ? undefined : figures(base.exchange);
      const others = theirs(each);
      return [
        strong(label(each, exchanged, run.id)),
        cell(netperfName(exchange)),
        cell(ours && `${ours.text(ours.median)} ${ours.unit}`),
        cell(ours && `${ours.text(ours.min)} – ${ours.text(ours.max)}`),
        ...(hasRatio ? [cell(ours && bases && ratio(ours.median, bases.median))] : []),
        ...(hasMessages ? [cell(messages(exchange))] : []),
        ...(hasLatency ? [cell(latency(exchange))] : []),
        ...named.map((name) => cell(others[name]?.toString())),
        ...(hasChanges
          ? [
              cell(change(base === each ? undefined : base && exchangeChange(exchange, base.run))),
              cell(
                change(
                  base === each ? undefined : base && referenceChange(reference, run, base.run, exchange),
                ),
              ),
            ]
          : []),
        ...(isExplained ? [cell(exchange.explanation?.bottleneck)] : []),
      ];
    });
  });
  return [head(header), ...body];
}

function notes(exchanged: readonly Exchanged[]): Line[] {
  const said = new Set<string>();
  for (const { exchange } of exchanged) {
    const { samples, seconds, guest, unmeasured } = exchange;
    if (unmeasured === undefined) said.add(`median of ${samples.length} × ${seconds} s; guest: ${guest}`);
  }
  const missing = exchanged.flatMap(({ run, exchange }): Line[] => {
    const { unmeasured, unanswered = 0 } = exchange;
    const what = `  ${label({ run, exchange }, exchanged, run.id)} ${netperfName(exchange)}`;
    if (unmeasured !== undefined) return [{ text: `${what}: not measured: ${unmeasured}`, tone: 'bad' }];
    return unanswered === 0 ? [] : [{ text: `${what}: ${unanswered} requests unanswered` }];
  });
  return [...[...said].map((text): Line => ({ text: `  ${text}` })), ...missing];
}

interface Figures {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly unit: string;
  text(value: number): string;
}

function change(percent: number | undefined): string | undefined {
  return percent === undefined ? undefined : `${percent < 0 ? '−' : '+'}${Math.abs(percent).toFixed(2)} %`;
}

/** Streams in 10^6 bits per second, as netperf has them. */
function figures({ bitsPerSecond, transactionsPerSecond }: ExchangeResult): Figures | undefined {
  if (bitsPerSecond !== undefined) {
    const text = (value: number): string => (value / 1e6).toFixed(value < 1e9 ? 2 : 0);
    return { ...bitsPerSecond, unit: 'Mbit/s', text };
  }
  return transactionsPerSecond && { ...transactionsPerSecond, unit: 'trans/s', text: rounded };
}

/** `UDP_STREAM 1472`, and how many at the same time where it is not one. */
function netperfName({ kind, size, streams }: ExchangeResult): string {
  return `${kind.toUpperCase().replace('-', '_')} ${size}${streams === 1 ? '' : ` × ${streams}`}`;
}

function messages({
  messagesSentPerSecond: sent,
  messagesReceivedPerSecond: got,
}: ExchangeResult): string | undefined {
  if (sent === undefined) return undefined;
  return got === undefined ? rounded(sent) : `${rounded(sent)} → ${rounded(got)}`;
}

function latency({ latency: found }: ExchangeResult): string | undefined {
  return found && [found.p50, found.p99, found.max].map(rounded).join(' / ');
}

/** The run's id, and the nic where a run has several. */
function label({ run, exchange }: Exchanged, exchanged: readonly Exchanged[], id: string): string {
  const several = exchanged.some((other) => other.run === run && other.exchange.node !== exchange.node);
  return several ? `${id} ${exchange.node}` : id;
}

const rounded = (value: number): string => value.toFixed(0);
