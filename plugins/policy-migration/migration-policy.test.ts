import { describe, expect, it } from 'vitest';
import { policyConformance } from '../../src/conformance/policy/index.js';
import type { PolicyRequest } from '../../src/core/contract/policy.js';
import { NO_USAGE } from '../../src/core/offload/quota-accounts.js';
import { checkMigrationPolicy, MigrationPolicy, type MigrationPolicyConfig } from './migration-policy.js';

const policy = (config: Partial<MigrationPolicyConfig>): MigrationPolicy =>
  new MigrationPolicy({ mode: 'live', 'map-memory': 1000, guests: {}, ...config });

function leaving(guest: string, maps: number, programs: number, mapMemory = 0): PolicyRequest {
  const whole = { id: 1, time: 0, guest, nic: 'eth0', usage: NO_USAGE, totalUsage: NO_USAGE };
  const usageOfMove = { ...NO_USAGE, maps, programs, mapMemory };
  return { ...whole, operation: 'migrate-out', usageOfMove, attached: programs > 0 };
}

policyConformance('migration', () => policy({ mode: 'blocker' }));

describe('migration', () => {
  it('lets a guest go unless it is told to block', () => {
    expect(policy({}).rule(leaving('alice', 3, 1)).ruling).toBe('allow');
    expect(policy({ mode: 'blocker' }).rule(leaving('alice', 3, 1))).toMatchObject({
      ruling: 'deny',
      reason: 'the host holds 1 programs and 3 maps for guest alice: offloading blocks migration',
      breaches: [{ rule: 'mode', asked: 4, limit: 0, at: ['mode'] }],
    });
  });

  it('blocks by what the host holds, attached or not, and nobody who has nothing there', () => {
    const blocker = policy({ mode: 'blocker' });
    expect(blocker.rule(leaving('alice', 1, 0)).ruling).toBe('deny');
    expect(blocker.rule(leaving('alice', 0, 0)).ruling).toBe('allow');
  });

  it('has modes of single guests, which the testbed has to have', () => {
    const own = policy({ mode: 'blocker', guests: { alice: { mode: 'live' } } });
    expect(own.rule(leaving('alice', 1, 1)).ruling).toBe('allow');
    expect(own.rule(leaving('bob', 1, 1)).ruling).toBe('deny');
    expect(checkMigrationPolicy(own.config, { guests: ['bob'], countsWork: true })).toMatchObject([
      { path: ['guests', 'alice'], message: "there is no guest 'alice'" },
    ]);
  });

  it('keeps a guest whose maps take too long to copy', () => {
    const withMemory = (mapMemory: number): PolicyRequest => leaving('alice', 1, 1, mapMemory);
    expect(policy({}).rule(withMemory(1000)).ruling).toBe('allow');
    expect(policy({}).rule(withMemory(1001))).toMatchObject({
      reason: '1001 bytes of map memory of guest alice exceed the 1000 with which it may go',
      breaches: [{ rule: 'map-memory', limit: 1000, asked: 1001, at: ['map-memory'] }],
    });
    const own = policy({ guests: { alice: { 'map-memory': 2000 } } });
    expect(own.rule(withMemory(1001)).ruling).toBe('allow');
  });

  it('has nothing to say of those who come', () => {
    const coming = { ...leaving('alice', 1, 1), operation: 'migrate-in' } as PolicyRequest;
    expect(policy({ mode: 'blocker' }).rule(coming).ruling).toBe('allow');
  });
});
