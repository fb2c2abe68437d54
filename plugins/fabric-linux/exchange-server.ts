import type { ExchangePlan } from '../../src/core/contract/plan.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import { possibleCpus, type Ledger, type ServedCounts } from '../../src/linux/index.js';
import type { QemuNic } from './guest-nic.js';
import { ReaderNic, type LinuxGuestNic } from './guest-nic.js';
import type { ReaderAccount } from './tap-guest.js';
import { TapReader } from './tap-reader.js';

/** Who is at both ends of an exchange, by dotted IPv4 addresses in a network of two, and the client's MAC. */
export interface ExchangeAddresses {
  readonly address: string;
  readonly peer: string;
  readonly peerMac: string;
}

/** What receives and answers in a guest, of all streams of one exchange. */
export interface ExchangeServer {
  /** For reports. */
  readonly description: string;
  counts(): Promise<ServedCounts>;
  close(): Promise<void>;
}

/** Throws `host-unsupported`, or what the guest says, where the guest cannot serve it. */
export async function startServer(
  nic: LinuxGuestNic,
  exchange: ExchangePlan,
  addresses: ExchangeAddresses,
  ledger: Ledger,
): Promise<ExchangeServer> {
  if (nic instanceof ReaderNic) return readerServes(nic, exchange, ledger);
  const { driver, accelerator } = nic as QemuNic;
  await driver.serveExchange({ ...exchange, ...addresses });
  return {
    description: `Debian's kernel and stack in QEMU (${accelerator})`,
    counts: () => driver.exchangeCounts(),
    close: () => driver.endExchange(),
  };
}

/** A reader of the tap has no stack: it can count messages of UDP, and turn them round. */
async function readerServes(
  { player }: ReaderNic,
  { kind, size }: ExchangePlan,
  ledger: Ledger,
): Promise<ExchangeServer> {
  if (kind === 'tcp-stream' || kind === 'tcp-rr') {
    throw new XdpbedError('host-unsupported', 'a tap-reader has no stack to speak TCP', {
      hint: 'a guest of kind qemu has one',
    });
  }
  const cpu = possibleCpus() > 1 ? possibleCpus() - 1 : undefined;
  const reader = await TapReader.start(player.tap, kind === 'udp-rr' ? 'answer' : 'drop', cpu, ledger);
  if (reader === undefined) {
    throw new XdpbedError('host-unsupported', 'there is no compiler for a reader of the tap that answers', {
      hint: 'apt-get install gcc',
    });
  }
  const account: ReaderAccount = { counts: { read: 0, written: 0, failed: 0 }, fate: 'guest-stack' };
  player.addReader(account);
  return {
    description: `tap-reader in C, ${kind === 'udp-rr' ? 'which turns frames round' : 'which counts frames'}: no stack, no program`,
    counts: async () => {
      account.counts = await reader.counts();
      const messages = account.counts.read;
      return { at: performance.now(), messages, bytes: messages * size };
    },
    close: async () => {
      try {
        account.counts = await reader.counts();
      } finally {
        await reader.close();
        // It has made them block.
        player.tap.setNonBlocking();
      }
    },
  };
}
