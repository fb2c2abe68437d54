import { ExchangeEnd } from '../linux/exchange/exchange-end.js';
import type { NicSettings, ServedExchange } from '../linux/guest/agent-messages.js';
import type { ExchangeService } from './guest-agent.js';
import { addressNic } from './guest-interfaces.js';

/** Serves as soon as it resolves. */
export async function serveExchange(nic: NicSettings, exchange: ServedExchange): Promise<ExchangeService> {
  const { kind, size, streams, address: local, peer } = exchange;
  const removeAddress = addressNic(nic, exchange);
  const opening = Array.from({ length: streams }, (_, stream) =>
    ExchangeEnd.open({ role: 'server', kind, size, stream, local, peer }),
  );
  const settled = await Promise.allSettled(opening);
  const ends = settled.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  const close = async (): Promise<void> => {
    await Promise.all(ends.map((end) => end.close()));
    removeAddress();
  };
  const failed = settled.find((each) => each.status === 'rejected');
  if (failed !== undefined) {
    await close();
    throw failed.reason;
  }
  return {
    counts: () => {
      const counts = ends.map((end) => end.counts());
      const sum = (what: 'messages' | 'bytes'): number => counts.reduce((all, each) => all + each[what], 0);
      return { at: performance.now(), messages: sum('messages'), bytes: sum('bytes') };
    },
    close,
  };
}
