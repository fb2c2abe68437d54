import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { SeededRandom } from '../conformance/verifier/seeded-random.js';
import { FdbWatch, parseFdbMessage, type FdbChange } from './bridge-fdb.js';
import { probeNamespaces, testingNamespace } from './testing-namespace.js';

const probe = probeNamespaces();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

/** struct nlattr */
function attribute(type: number, payload: number[]): number[] {
  const length = 4 + payload.length;
  const padding = (4 - (length % 4)) % 4;
  return [length, 0, type & 0xff, type >> 8, ...payload, ...Array.from({ length: padding }, () => 0)];
}
/** struct nlmsghdr */
function message(type: number, body: number[]): number[] {
  return [16 + body.length, 0, 0, 0, type, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...body];
}
/** struct ndmsg of AF_BRIDGE: ifindex, state. */
const neighbour = (ifindex: number, state: number): number[] => [
  7,
  0,
  0,
  0,
  ifindex,
  0,
  0,
  0,
  state,
  0,
  0,
  0,
];
const MAC = attribute(2, [0x52, 0x54, 0, 0, 0, 0x02]);
const MASTER = attribute(9, [0xe9, 3, 0, 0]);
const parse = (...messages: number[][]) => parseFdbMessage(Uint8Array.from(messages.flat()));
const entry = { bridge: 1001, port: 3, address: '525400000002', vlan: 0, local: false, gone: false };

describe('parseFdbMessage', () => {
  it('reads entries in their order', () => {
    const body = neighbour(3, 0x40);
    expect(
      parse(
        message(28, [...body, ...MAC, ...MASTER]),
        message(29, [...body, ...MASTER, ...attribute(5, [100, 0]), ...MAC]),
        message(28, [...neighbour(3, 0x80), ...MAC, ...MASTER]),
      ),
    ).toEqual({
      changes: [entry, { ...entry, vlan: 100, gone: true }, { ...entry, local: true }],
      end: false,
    });
  });

  it('passes over what is of no bridge', () => {
    const body = neighbour(3, 0x40);
    const inet = [2, ...body.slice(1), ...MAC, ...MASTER];
    expect(parse(message(28, [...body, ...MAC]), message(28, inet), message(16, body))).toEqual({
      changes: [],
      end: false,
    });
  });

  it('stops where the kernel says so', () => {
    const last = message(28, [...neighbour(3, 0x40), ...MAC, ...MASTER]);
    expect(parse(message(3, [0, 0, 0, 0]), last)).toEqual({ changes: [], end: true });
    expect(parse(last, message(2, [0xff, 0xff, 0xff, 0xff]))).toEqual({ changes: [entry], end: true });
  });

  it('ends on any bytes, and makes up no address', () => {
    const random = new SeededRandom(7);
    const whole = message(28, [...neighbour(3, 0x40), ...MAC, ...MASTER]);
    for (let round = 0; round < 20_000; round++) {
      const bytes = Uint8Array.from([...whole, ...whole]);
      for (let change = random.below(7); change > 0; change--) {
        bytes[random.below(bytes.length)] = random.below(256);
      }
      const { changes } = parseFdbMessage(bytes.subarray(0, random.below(bytes.length + 1)));
      expect(changes.length).toBeLessThanOrEqual(2);
      for (const { address } of changes) expect(address).toMatch(/^[0-9a-f]{12}$/);
    }
  });
});

describe.skipIf(skipped !== '')(`FdbWatch${skipped}`, () => {
  it('tells what there is, and what becomes of it', () => {
    const namespace = testingNamespace();
    const fdb = (...words: string[]): void => {
      execFileSync('bridge', ['-n', namespace.name, 'fdb', ...words]);
    };
    namespace.ip('link', 'add', 'br0', 'index', '11', 'type', 'bridge');
    namespace.ip(...'link add name a index 12 type veth peer name b index 13'.split(' '));
    for (const end of ['a', 'b']) namespace.ip('link', 'set', 'dev', end, 'master', 'br0', 'up');
    fdb('add', '52:54:00:00:00:02', 'dev', 'a', 'master', 'static');
    const watch = FdbWatch.open(namespace);
    const news = (): FdbChange[] => {
      const all: FdbChange[] = [];
      for (let next = watch.next(); next !== 'none'; next = watch.next()) {
        if (next === 'lost') throw new Error('lost');
        all.push(...next.filter(({ address }) => address === entry.address));
      }
      return all;
    };
    try {
      const there = watch.dump(1000);
      expect(there).toContainEqual({ ...entry, bridge: 11, port: 12 });
      // The bridge's own addresses are the host's.
      expect(there.some(({ local, port }) => local && port === 12)).toBe(true);
      expect(news()).toEqual([]);
      fdb('replace', '52:54:00:00:00:02', 'dev', 'b', 'master', 'static');
      fdb('del', '52:54:00:00:00:02', 'dev', 'b', 'master');
      expect(news()).toEqual([
        { ...entry, bridge: 11, port: 13 },
        { ...entry, bridge: 11, port: 13, gone: true },
      ]);
      for (let index = 0; index < 2; index++) watch.close();
      expect(watch.next()).toBe('none');
    } finally {
      watch.close();
      namespace.close();
    }
  });
});
