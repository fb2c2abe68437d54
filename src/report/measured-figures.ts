import type { ExchangeResult } from '../core/contract/result.js';

/** `guest0.eth0.udp-stream/1472/1`: an exchange by nic, kind, size and streams. */
export function exchangeName({ node, kind, size, streams }: ExchangeResult): string {
  return `${node}.${kind}/${size}/${streams}`;
}
