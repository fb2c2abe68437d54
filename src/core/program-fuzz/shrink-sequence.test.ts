import { describe, expect, it } from 'vitest';
import { buildFrame, dissect } from '../../packet/index.js';
import type { SentPacket } from './sent-packet.js';
import { shrinkSequence } from './shrink-sequence.js';

const sent = (...packets: readonly Uint8Array[]): SentPacket[] =>
  packets.map((data, index) => ({ data, input: { now: BigInt(index) * 77n } }));
const noise = (length: number, from = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, at) => (at * 37 + from) & 0xff);

describe('shrinkSequence', () => {
  it('leaves the packets, the length and the bytes that it takes', async () => {
    const packets = sent(noise(200), noise(90, 9), noise(400, 5), noise(60));
    // One packet whose byte 20 is 100 or more, and behind it one of 30 bytes or more that ends in no zero.
    const shows = async (each: readonly SentPacket[]): Promise<boolean> => {
      const first = each.findIndex(({ data }) => data.length > 20 && data[20]! >= 100);
      return first >= 0 && each.slice(first + 1).some(({ data }) => data.length >= 30 && data.at(-1) !== 0);
    };
    expect(await shows(packets)).toBe(true);
    const smallest = await shrinkSequence(packets, shows);
    const first = new Uint8Array(21);
    first[20] = 100;
    const second = new Uint8Array(30);
    second[29] = 1;
    expect(smallest.map(({ data }) => data)).toEqual([first, second]);
  });

  it('changes what has to be equal in several packets in all of them', async () => {
    const packets = sent(noise(64, 3), noise(64, 3), noise(64, 3));
    const shows = async (each: readonly SentPacket[]): Promise<boolean> =>
      each.length === 3 && each.every(({ data }) => data.length >= 18 && data[17] === each[0]!.data[17]);
    const smallest = await shrinkSequence(packets, shows);
    expect(smallest.map(({ data }) => data)).toEqual([
      new Uint8Array(18),
      new Uint8Array(18),
      new Uint8Array(18),
    ]);
  });

  it('makes headers that can be read, where nothing depends on them', async () => {
    const packet = buildFrame({
      eth: { src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02' },
      ipv4: { src: '10.0.0.1', dst: '10.0.0.2', ttl: 3 },
      udp: { srcPort: 4000, dstPort: 53 },
      payload: noise(20),
    });
    const port53 = ({ data }: SentPacket): boolean =>
      data.length >= 42 &&
      data[12] === 8 &&
      data[13] === 0 &&
      data[23] === 17 &&
      data[36] === 0 &&
      data[37] === 53;
    const [smallest] = await shrinkSequence(sent(packet), async ([first]) => port53(first!));
    expect(smallest!.data.length).toBe(42);
    const { layers, missing, malformed } = dissect(smallest!.data);
    expect([missing, malformed]).toEqual([undefined, undefined]);
    expect(layers.map(({ kind }) => kind)).toEqual(['ethernet', 'ipv4', 'udp']);
    expect(smallest!.input.now).toBe(1_000_000n);
  });

  it('ends with what it has when it is told to', async () => {
    const abort = new AbortController();
    const packets = sent(noise(400), noise(400));
    let trials = 0;
    const smallest = await shrinkSequence(
      packets,
      async () => {
        if (++trials === 3) abort.abort();
        return true;
      },
      abort.signal,
    );
    expect(trials).toBe(3);
    expect(smallest.length).toBe(1);
  });
});
