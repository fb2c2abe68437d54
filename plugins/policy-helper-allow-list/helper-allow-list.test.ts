import { describe, expect, it } from 'vitest';
import { helperId } from '../../src/bpf/helper-ids.js';
import { policyConformance } from '../../src/conformance/policy/index.js';
import type { PolicyRequest } from '../../src/core/contract/policy.js';
import type { ProgramProperties } from '../../src/core/contract/verifier.js';
import { NO_USAGE } from '../../src/core/offload/quota-accounts.js';
import {
  HELPER_CLASS_NAMES,
  helpersOfClass,
  OFFLOADABLE_CLASSES,
} from '../../src/core/offload/helper-classes.js';
import { OFFLOADABLE_HELPERS, WITHHELD_HELPERS } from '../../src/core/offload/offloadable-helpers.js';
import { HelperAllowList } from './helper-allow-list.js';

const DEFAULTS = {};

function load(...names: string[]): PolicyRequest {
  const helpers = names.map((name) => helperId(name)!);
  return {
    id: 1,
    time: 0,
    guest: 'g',
    nic: 'eth0',
    usage: NO_USAGE,
    totalUsage: NO_USAGE,
    operation: 'program-load',
    program: { insnCount: 2, helpers, mapTypes: [], gplCompatible: true },
  };
}

policyConformance('helper-allow-list', () => new HelperAllowList(DEFAULTS));

describe('helper-allow-list', () => {
  it('knows every name in its tables, and none in both', () => {
    for (const name of [...Object.keys(OFFLOADABLE_HELPERS), ...Object.keys(WITHHELD_HELPERS)]) {
      expect(helperId(name), name).toBeDefined();
    }
    expect(Object.keys(OFFLOADABLE_HELPERS).filter((name) => name in WITHHELD_HELPERS)).toEqual([]);
  });

  it('allows what works on the packet and the guest’s own maps', () => {
    const policy = new HelperAllowList(DEFAULTS);
    expect(policy.rule(load('bpf_map_lookup_elem', 'bpf_xdp_adjust_head')).ruling).toBe('allow');
    expect(policy.rule(load()).reason).toBe('calls no helper');
  });

  it('denies what reads the host, and says why', () => {
    expect(new HelperAllowList(DEFAULTS).rule(load('bpf_map_lookup_elem', 'bpf_fib_lookup'))).toEqual({
      ruling: 'deny',
      reason: "bpf_fib_lookup is not on the list (reads the host's routing and neighbour tables)",
      toGuest: "bpf_fib_lookup is not on the list (reads the host's routing and neighbour tables)",
      breaches: [{ rule: 'helpers', asked: ['bpf_fib_lookup'], at: ['allow'] }],
    });
  });

  it('denies the clock unless it is allowed', () => {
    expect(new HelperAllowList(DEFAULTS).rule(load('bpf_ktime_get_ns')).ruling).toBe('deny');
    const lenient = new HelperAllowList({ ...DEFAULTS, allow: ['bpf_ktime_get_ns'] });
    expect(lenient.rule(load('bpf_ktime_get_ns')).ruling).toBe('allow');
  });

  it('starts from nothing when asked, and lets deny win over allow', () => {
    const none = new HelperAllowList({ base: 'none', allow: ['bpf_redirect'], deny: [] });
    expect(none.rule(load('bpf_redirect')).ruling).toBe('allow');
    expect(none.rule(load('bpf_map_lookup_elem')).ruling).toBe('deny');
    const both = new HelperAllowList({ base: 'none', allow: ['bpf_redirect'], deny: ['bpf_redirect'] });
    expect(both.rule(load('bpf_redirect')).ruling).toBe('deny');
  });

  it('adds whole classes, and lets deny win over them', () => {
    const policy = new HelperAllowList({
      base: 'none',
      classes: ['time', 'packet'],
      deny: ['bpf_jiffies64'],
    });
    expect(policy.rule(load('bpf_ktime_get_ns', 'bpf_xdp_adjust_head')).ruling).toBe('allow');
    expect(policy.rule(load('bpf_jiffies64', 'bpf_map_lookup_elem', 'bpf_fib_lookup'))).toMatchObject({
      breaches: [{ asked: ['bpf_jiffies64', 'bpf_map_lookup_elem', 'bpf_fib_lookup'] }],
    });
  });

  it('says the class of a helper of which nothing else is said', () => {
    expect(new HelperAllowList().rule(load('bpf_get_current_comm'))).toMatchObject({
      reason:
        "bpf_get_current_comm is not on the list (class host-state: the host's CPUs, tasks, control groups and variables, and what is kept with them)",
      toGuest:
        "bpf_get_current_comm is not on the list (class host-state: the host's CPUs, tasks, control groups and variables, and what is kept with them)",
    });
  });

  it('by default allows no class that reads the host', () => {
    const policy = new HelperAllowList();
    for (const name of HELPER_CLASS_NAMES) {
      const allowed = helpersOfClass(name).filter((helper) => policy.allowed.has(helper));
      expect(allowed.length > 0, name).toBe(OFFLOADABLE_CLASSES.includes(name));
    }
  });

  it('goes by what is said of a single guest, and by the rest for all', () => {
    const policy = new HelperAllowList({
      deny: ['bpf_get_prandom_u32'],
      guests: { g: { allow: ['bpf_ktime_get_ns'] }, other: { base: 'none' } },
    });
    expect(policy.rule(load('bpf_ktime_get_ns', 'bpf_map_lookup_elem')).ruling).toBe('allow');
    expect(policy.rule(load('bpf_get_prandom_u32'))).toMatchObject({
      breaches: [{ rule: 'helpers', at: ['guests', 'g', 'allow'] }],
    });
    expect(policy.rule({ ...load('bpf_ktime_get_ns'), guest: 'h' })).toMatchObject({
      breaches: [{ at: ['allow'] }],
    });
    expect(policy.rule({ ...load('bpf_map_lookup_elem'), guest: 'other' }).ruling).toBe('deny');
  });

  it('rules on what the verifier found, too', () => {
    const properties: ProgramProperties = {
      helpers: [helperId('bpf_redirect')!],
      mapTypes: [],
      writesPacket: false,
      verdicts: [],
      worstCaseInsns: 1,
      stackBytes: 0,
    };
    const request = { ...load(), operation: 'program-attach', properties } as PolicyRequest;
    expect(new HelperAllowList(DEFAULTS).rule(request).ruling).toBe('deny');
  });

  it('refuses a name that no helper has, with the nearest one', () => {
    for (const name of ['bpf_map_lookup_elm', 'bpf_unspec', 'bpf_MAX_ID']) {
      expect(() => new HelperAllowList({ ...DEFAULTS, allow: [name] })).toThrow(
        `there is no helper '${name}'`,
      );
    }
    try {
      new HelperAllowList({ ...DEFAULTS, deny: ['bpf_map_lookup_elm'] });
    } catch (error) {
      expect(error).toMatchObject({ code: 'testbed-invalid', hint: "did you mean 'bpf_map_lookup_elem'?" });
    }
  });
});
