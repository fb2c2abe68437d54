import type { ExchangeResult } from '../core/contract/result.js';

/** `guest0.eth0.udp-stream/1472/1`: an exchange by nic, kind, size and streams. */
export function exchangeName({ node, kind, size, streams }: ExchangeResult): string {
  return `${node}.${kind}/${size}/${streams}`;
}

/** The median, of streams bits per second, of requests transactions per second; undefined where none was measured. */
export function exchangeFigure(exchange: ExchangeResult): number | undefined {
  return (exchange.bitsPerSecond ?? exchange.transactionsPerSecond)?.median;
}
