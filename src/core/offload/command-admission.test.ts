import { Value } from '@sinclair/typebox/value';
import { describe, expect, it } from 'vitest';
import { RateLimit, RateLimitConfig } from '../../../plugins/policy-rate-limit/rate-limit.js';
import { assemble } from '../../bpf/assembler.js';
import { EAGAIN } from '../../bpf/errno.js';
import { encodeInsns } from '../../bpf/insn.js';
import { OffloadRig, RIG_FEATURES, u32Key } from '../../conformance/offload/offload-rig.js';
import { featureSet, VIRTIO_NET_ERR, VIRTIO_NET_F_MQ } from '../../virtio/index.js';
import type { Policy } from '../contract/policy.js';
import { chained } from './policy-chain.js';
import { RFC_2019 } from './protocol/rfc-2019/rfc-2019.js';
import { testingParty } from './testing-party.js';

const SECOND = 1e12;

function rateLimit(perGuest: object): RateLimit {
  const config = { 'per-guest': perGuest };
  return new RateLimit(Value.Parse(RateLimitConfig, Value.Default(RateLimitConfig, config)));
}

const rate = (perSecond: number, burst: number) => ({ 'per-second': perSecond, burst });
const PASS = {
  kind: 'set-offload',
  insns: encodeInsns(assemble('r0 = 2\nexit')),
  gplCompatible: true,
} as const;

/** Commands of every sort, with the room for their answer: sensible, of the specification, malformed, empty. */
const COMMANDS: readonly (readonly [string, Uint8Array, number])[] = [
  ['a map command', RFC_2019.encodeRequest({ kind: 'free-map', handle: 1 }), 1],
  ['a program', RFC_2019.encodeRequest(PASS), 1],
  ['MQ_VQ_PAIRS_SET', Uint8Array.of(4, 0, 1, 0), 1],
  ['an unknown class', Uint8Array.of(200, 7, 1, 2, 3), 1],
  ['a malformed map command', Uint8Array.of(6, 2, 1, 2, 3), 60],
  ['half a header', Uint8Array.of(6), 1],
  ['nothing', new Uint8Array(), 1],
  ['nothing, without room for an ack', new Uint8Array(), 0],
  ['64 KiB of nothing in particular', new Uint8Array(65_536).fill(6), 1],
];

describe('admission of commands', () => {
  it('is asked of each command once, whatever it is, in the order in which they come', async () => {
    const asked: unknown[] = [];
    const policy: Policy = {
      name: 'watching',
      rule: () => ({ ruling: 'allow', reason: '' }),
      admit: (command) => {
        asked.push(command);
        return { ruling: 'allow', reason: 'welcome' };
      },
    };
    const host = testingParty('host');
    const rig = new OffloadRig({
      host,
      guest: host,
      policies: [policy],
      device: { features: RIG_FEATURES | featureSet(VIRTIO_NET_F_MQ), queuePairs: 2 },
    });
    for (const [, bytes, room] of COMMANDS) await rig.sendBytes(bytes, room);
    expect(asked).toEqual(
      COMMANDS.map(([, { length }], index) => ({
        id: index + 1,
        time: 0,
        guest: 'guest0',
        nic: 'eth0',
        bytes: length,
      })),
    );
    // The audit has the same numbers, and the ruling is one record.
    expect(rig.audit.map(({ request }) => request)).toEqual([1, 4, 5, 6, 7, 8, 9]);
    expect(rig.records.rulings).toContainEqual(
      expect.objectContaining({ operation: 'command', request: 1, count: COMMANDS.length }),
    );
  });

  it.each(COMMANDS)(
    'of %s denied: an error ack, an audit record, and nothing else is done',
    async (_, bytes, room) => {
      const host = testingParty('host');
      const touched: string[] = [];
      const watched: Policy = {
        name: 'not asked',
        rule: ({ operation }) => {
          touched.push(operation);
          return { ruling: 'allow', reason: '' };
        },
      };
      const protocol = {
        ...RFC_2019,
        decodeRequest: (...args: Parameters<typeof RFC_2019.decodeRequest>) => {
          touched.push('decoded');
          return RFC_2019.decodeRequest(...args);
        },
      };
      const policies = [rateLimit({ commands: rate(1, 0) }), watched];
      const rig = new OffloadRig({ host, guest: host, policies, device: { protocol } });
      const before = host.runtime.space.bytesInUse;
      // At once: it does not wait behind what is under way.
      const answer = rig.device.handle(bytes, room);
      expect(answer).toBeInstanceOf(Uint8Array);
      expect((answer as Uint8Array).length).toBe(room);
      if (room > 0) expect((answer as Uint8Array).at(-1)).toBe(VIRTIO_NET_ERR);
      expect(touched).toEqual([]);
      expect(host.runtime.space.bytesInUse).toBe(before);
      expect(rig.device.objectCount).toBe(0);
      expect(rig.device.statistics).toMatchObject({ acks: { ok: 0, err: 1 }, refusals: { denied: 1 } });
      const reason = 'denied: by rate-limit: commands of guest guest0 exceed 1 per second after a burst of 0';
      expect(rig.audit).toMatchObject([{ request: 1, reason }]);
    },
  );

  it('says EAGAIN where the answer has room for it, and the guest then gets through', async () => {
    const host = testingParty('host');
    const rig = new OffloadRig({ host, guest: host, policies: [rateLimit({ commands: rate(1, 1) })] });
    const handle = await rig.createArray();
    const lookup = { kind: 'lookup-elem', handle, key: u32Key(0), valueSize: 8 } as const;
    expect(await rig.send(lookup)).toEqual({ kind: 'error', errno: EAGAIN });
    expect(await rig.send(PASS)).toEqual({ kind: 'error' });
    rig.clock.runUntil(SECOND);
    expect(await rig.send(lookup)).toMatchObject({ kind: 'value' });
  });

  it('goes on in a dry run, and is recorded', async () => {
    const host = testingParty('host');
    const policies = [chained(rateLimit({ commands: rate(1, 1) }), { dryRun: true })];
    const rig = new OffloadRig({ host, guest: host, policies });
    for (let times = 0; times < 3; times++) await rig.createArray();
    expect(rig.device.objectCount).toBe(3);
    expect(rig.records.rulings.filter(({ operation }) => operation === 'command')).toMatchObject([
      { ruling: 'allow', dryRun: true, count: 1 },
      { ruling: 'deny', dryRun: true, count: 2, breaches: [{ rule: 'per-guest.commands' }] },
    ]);
  });

  it('answers a flood of malformed commands, of which few are looked at, with few records', async () => {
    const host = testingParty('host');
    const rig = new OffloadRig({ host, guest: host, policies: [rateLimit({ commands: rate(100, 10) })] });
    const flood = 20_000;
    for (let count = 0; count < flood; count++) {
      rig.clock.runUntil((count * SECOND) / flood);
      const [, bytes, room] = COMMANDS[count % COMMANDS.length]!;
      expect(await rig.sendBytes(bytes, room)).toHaveLength(room);
    }
    const { acks, refusals } = rig.device.statistics;
    expect(acks.ok + acks.err).toBe(flood);
    expect(refusals.denied).toBeGreaterThanOrEqual(flood - 111);
    const { audit, dropped } = rig.records;
    const rulings = rig.records.rulings.filter(({ operation }) => operation === 'command');
    const counted = rulings.reduce((sum, { count }) => sum + count, 0);
    expect(counted).toBe(flood);
    expect(rulings.length).toBeLessThan(300);
    expect(audit.length + dropped.audit).toBe(acks.err);
    expect(audit.length).toBeLessThanOrEqual(1024);
  });

  it('takes a policy that throws, or that says no errno, for EAGAIN', async () => {
    for (const admit of [
      () => {
        throw new Error('boom');
      },
      () => ({ ruling: 'deny', reason: 'no', errno: 4096 }) as const,
    ]) {
      const host = testingParty('host');
      const policies = [{ name: 'odd', rule: () => ({ ruling: 'allow', reason: '' }) as const, admit }];
      const rig = new OffloadRig({ host, guest: host, policies });
      const reply = await rig.send({ kind: 'get-first', handle: 1, keySize: 4, valueSize: 8 });
      expect(reply).toEqual({ kind: 'error', errno: EAGAIN });
    }
  });
});
