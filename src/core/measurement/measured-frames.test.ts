import { describe, expect, it } from 'vitest';
import { checkChecksums, dissect, findLayer, parseMac } from '../../packet/index.js';
import { firstFrames, framesFor, framesForEach, uniformFrame } from './measured-frames.js';

const nic = { mac: '52:54:00:00:01:00', ipv4: '192.0.2.10' };
const to = (mac: string): Uint8Array => Uint8Array.from([...parseMac(mac), ...new Array<number>(54).fill(0)]);

describe('uniformFrame', () => {
  it('is for the nic, as long as asked, and tells its flow by the source port', () => {
    const frames = [0, 7].map((flow) => uniformFrame(nic, { size: 100 }, flow));
    expect(frames.map(({ length }) => length)).toEqual([100, 100]);
    const layers = frames.map((frame) => dissect(frame));
    expect(layers.map((packet) => findLayer(packet, 'udp')!.header.srcPort)).toEqual([10_000, 10_007]);
    expect(findLayer(layers[0]!, 'ipv4')!.header.dst).toBe(nic.ipv4);
    expect(frames[0]!.subarray(0, 6)).toEqual(parseMac(nic.mac));
    // No UDP checksum, so that the port may be changed.
    expect(Object.values(checkChecksums(frames[1]!, layers[1]!))).not.toContain('bad');
  });
});

describe('the workload’s frames', () => {
  it('are its first ones, of a workload without end too', () => {
    function* endless() {
      for (let at = 0; ; at++) yield { bytes: to(nic.mac), at };
    }
    expect(firstFrames(endless())).toHaveLength(16_384);
    expect(firstFrames([])).toEqual([]);
  });

  it('are for a nic that they are addressed to, or a group', () => {
    const own = to(nic.mac);
    const group = to('ff:ff:ff:ff:ff:ff');
    expect(framesFor('g.e', nic, [to('52:54:00:00:02:00'), own, group])).toEqual([own, group]);
    expect(() => framesFor('g.e', nic, [to('52:54:00:00:02:00')])).toThrow(
      'no frame of the workload is for g.e',
    );
  });

  it('are each for one of several nics, in their order, and none for a group', () => {
    const other = { mac: '52:54:00:00:03:00', ipv4: '192.0.2.11' };
    const [a, b, stranger, group] = [nic.mac, other.mac, '52:54:00:00:02:00', 'ff:ff:ff:ff:ff:ff'].map(to);
    const nics = [
      { node: 'g.a', nic },
      { node: 'g.b', nic: other },
    ];
    const frames = [b!, group!, a!, stranger!, b!, Uint8Array.of(1)];
    const { ofNics, inOrder } = framesForEach(nics, frames);
    expect(ofNics).toEqual([[a], [b, b]]);
    expect(inOrder).toEqual([
      [1, b],
      [0, a],
      [1, b],
    ]);
    expect(() => framesForEach(nics, [a!, group!])).toThrow('no frame of the workload is for g.b');
  });
});
