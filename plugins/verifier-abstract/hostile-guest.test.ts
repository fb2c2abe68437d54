import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { encodeInsns } from '../../src/bpf/insn.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { NO_USAGE } from '../../src/core/offload/quota-accounts.js';
import { OffloadRig } from '../../src/conformance/offload/offload-rig.js';
import { AbstractVerifier } from './abstract-verifier.js';
import { DEFAULT_CONFIG } from './config.js';
import { TWINS } from './twins/index.js';
import { TWIN_MAPS } from './twins/twin.js';
import { testingParty, type TestingParty } from '../../src/core/offload/testing-party.js';

/** Map types that a device creates for its guest (RFC 2019, guest driver rules). */
const OFFERED = new Set<number>([BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE.BPF_MAP_TYPE_HASH]);

function party(name: string): TestingParty {
  return testingParty(name, { verifier: new AbstractVerifier(DEFAULT_CONFIG) });
}

/**
 * Twins whose maps a guest can have on its device, with the handles TWIN_MAPS gives them: no types go with a map, nor content
 * that never changes, which formats are.
 */
const submittable = TWINS.filter(({ rejected, gpl }) => {
  const maps = TWIN_MAPS.filter(({ name }) => rejected.includes(`map[${name}]`));
  if (rejected.includes('bpf_snprintf')) return false;
  return gpl !== false && maps.every(({ type, btf }) => OFFERED.has(type) && btf === undefined);
});

describe('a hostile guest submits unsafe programs', () => {
  it('most twins can be submitted over the control virtqueue', () => {
    expect(submittable.length).toBeGreaterThan(TWINS.length / 2);
  });

  it.each(submittable.map((twin) => [twin.name, twin] as const))(
    '%s: error ack, the reason in the audit, nothing loaded',
    async (_, twin) => {
      const host = party('host');
      const rig = new OffloadRig({ host, guest: party('guest') });
      const handles = new Map<string, number>();
      for (const map of TWIN_MAPS) {
        if (!twin.rejected.includes(`map[${map.name}]`)) continue;
        const created = await rig.send({
          kind: 'create-map',
          mapType: map.type,
          keySize: map.keySize,
          valueSize: map.valueSize,
          maxEntries: map.maxEntries,
          mapFlags: map.flags,
        });
        if (created.kind !== 'handle') throw new Error(`map ${map.name}: ${created.kind}`);
        handles.set(map.name, created.handle);
      }
      const insns = assemble(twin.rejected, { maps: handles });
      const before = { accounts: rig.accounts.totalUsage(), bytes: host.runtime.space.bytesInUse };

      const result = await rig.send({ kind: 'set-offload', insns: encodeInsns(insns), gplCompatible: true });

      expect(result.kind).toBe('error');
      expect(rig.place.program).toBeUndefined();
      expect(rig.audit).toHaveLength(1);
      expect(rig.audit[0]!.outcome).toBe('error-ack');
      // References to what the guest does not own are refused while handles are translated, before the verifier.
      const unknownReference = twin.code === 'map-unknown' || twin.code === 'insn-unsupported';
      expect(rig.audit[0]!.code).toBe(unknownReference ? undefined : twin.code);
      expect(rig.audit[0]!.reason).not.toBe('');
      expect({ accounts: rig.accounts.totalUsage(), bytes: host.runtime.space.bytesInUse }).toEqual(before);

      await rig.device.unplug();
      await rig.device.idle();
      expect(rig.accounts.totalUsage()).toEqual(NO_USAGE);
    },
  );
});
