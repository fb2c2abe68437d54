import { describe, expect, it } from 'vitest';
import type { Rejection, Verification, VerifierMap } from 'xdpbed';
import { assemble, BPF_F_RDONLY_PROG, BPF_MAP_TYPE, BPF_PROG_TYPE_XDP, type Insn } from 'xdpbed/bpf';
import { verifierConformance } from 'xdpbed/conformance';
import { ProgLoadVerifier } from './index.js';

const probe = new ProgLoadVerifier().probe();
const missing = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const map: VerifierMap = {
  name: 'flows',
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
  keySize: 4,
  valueSize: 8,
  maxEntries: 2 ** 30,
  flags: 0,
};
const HANDLE = 1000;

function verify(insns: readonly Insn[], attributes = map, log = false): Promise<Verification> {
  return new ProgLoadVerifier().verify({
    program: { name: 't', type: BPF_PROG_TYPE_XDP, attachType: 'BPF_XDP', gplCompatible: true, insns },
    maps: new Map([[HANDLE, attributes]]),
    log,
  });
}

async function rejection(insns: readonly Insn[], attributes?: VerifierMap): Promise<Rejection> {
  const verification = await verify(insns, attributes);
  if (verification.accepted) throw new Error('accepted');
  return verification;
}

const lookup = (after: string) =>
  assemble(
    `r1 = 0
    *(u32 *)(r10 -4) = r1
    r2 = r10
    r2 += -4
    r1 = map[flows]
    call bpf_map_lookup_elem
    ${after}
    r0 = 2
    exit`,
    { maps: new Map([['flows', HANDLE]]) },
  );

describe.skipIf(missing !== '')(`verifier prog-load where there is a kernel to ask${missing}`, () => {
  // A call that is skipped has registered no tests: the reason stands above.
  if (missing === '') verifierConformance('prog-load', () => new ProgLoadVerifier(), { randomPrograms: 300 });

  it('tells what the kernel said, of which insn, and how far it came', async () => {
    expect(await rejection(lookup('r1 = *(u64 *)(r0 +0)'))).toEqual({
      accepted: false,
      verifier: 'prog-load',
      code: 'kernel-eacces',
      reason: "the kernel said: R0 invalid mem access 'map_value_or_null'",
      insn: 7,
      disassembly: 'r1 = *(u64 *)(r0 +0)',
      line: undefined,
      statistics: { processedInsns: 7, totalStates: 0, peakStates: 0 },
    });
  });

  it('takes insns that the kernel names over those that it walked to', async () => {
    expect(await rejection(assemble('r0 = 2\nexit\nr0 = 1\nexit'))).toMatchObject({
      code: 'kernel-einval',
      reason: 'the kernel said: unreachable insn 2',
      insn: 2,
    });
  });

  it('says so when the kernel gave no reason', async () => {
    expect(await rejection([])).toMatchObject({
      code: 'kernel-e2big',
      reason: 'the kernel said E2BIG and gave no reason',
    });
  });

  it('does not ask the kernel for what the program says of it', async () => {
    // lddw r1 of a kernel variable (BPF_PSEUDO_BTF_ID), of a map by index (BPF_PSEUDO_MAP_IDX).
    for (const src of [3, 5]) {
      const lddw = { opcode: 0x18, dst: 1, src, off: 0, imm: 1 };
      const insns = [lddw, { ...lddw, opcode: 0, dst: 0, src: 0, imm: 0 }, ...assemble('r0 = 2\nexit')];
      expect(await rejection(insns)).toMatchObject({ code: 'insn-unsupported', insn: 0 });
    }
  });

  it('says which map the kernel does not create', async () => {
    const { reason, code } = await rejection(lookup(''), { ...map, keySize: 0 });
    expect(code).toBe('map-invalid');
    expect(reason).toMatch(/^map flows .* cannot be created in the kernel: EINVAL$/);
  });

  it('knows what is in a frozen map', async () => {
    const type = BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY;
    // Without that flag the program could change what was known of the value.
    const constant = {
      ...map,
      type,
      maxEntries: 1,
      flags: BPF_F_RDONLY_PROG,
      frozenValue: new Uint8Array(8),
    };
    const insns = assemble(
      `r1 = map[flows][0] + 0
      r2 = *(u64 *)(r1 +0)
      if r2 == 0 goto out
      r0 = *(u64 *)(r2 +0)
    out:
      r0 = 2
      exit`,
      { maps: new Map([['flows', HANDLE]]) },
    );
    // The branch that would dereference a number is never taken.
    expect((await verify(insns, constant)).accepted).toBe(true);
    expect((await verify(insns, { ...constant, frozenValue: undefined })).accepted).toBe(false);
  });

  it('gives the log when asked', async () => {
    expect((await verify(assemble('r0 = 2\nexit'), map, true)).log).toMatch(/^0: .*\(b7\) r0 = 2/ms);
    expect((await verify(assemble('r0 = 2\nexit'))).log).toBeUndefined();
  });
});

// Only root can put its rights aside and take them back.
it.skipIf(missing !== '' || process.geteuid?.() !== 0)('is unsupported without the rights', () => {
  process.seteuid!(65_534);
  try {
    expect(new ProgLoadVerifier().probe()).toMatchObject({ status: 'unsupported' });
  } finally {
    process.seteuid!(0);
  }
});
