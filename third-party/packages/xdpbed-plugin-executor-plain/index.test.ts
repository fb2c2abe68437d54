import { expect, it } from 'vitest';
import { executorConformance } from 'xdpbed/conformance';
import { MemoryMapBackend } from 'xdpbed/map-backend-memory';
import { udp } from 'xdpbed/packet';
import { loadProgram } from 'xdpbed/test';
import plugin, { PlainExecutor } from './index.js';

executorConformance('plain', (runtime) => new PlainExecutor(runtime), {
  makeMapBackend: (runtime) => new MemoryMapBackend(runtime),
  limits: {
    lacks: {
      faults: 'it relies on the verifier',
      'insn-limit': 'it relies on the verifier',
      work: 'it does not count',
      'helper-overrides': 'it has no helpers',
    },
    unsupported: {
      'no calls, of helpers or functions': /has no calls/,
      'no 32-bit arithmetic': /has no arithmetic of 32 bits/,
      'no division, negation, sign extension and byte order': /has no such arithmetic/,
      'no comparison of 32 bits, no long jump': /has no (?:such jumps|such insns)/,
      'no atomic and no sign-extending access': /has no accesses but plain ones/,
      'no maps': /has no maps/,
    },
  },
});

it('runs a program that it can run, as any other executor', async () => {
  const assembly = `
    r2 = *(u32 *)(r1 +0)
    r3 = *(u32 *)(r1 +4)
    r4 = r2
    r4 += 14
    if r4 > r3 goto pass
    r5 = *(u16 *)(r2 +12)
    if r5 == 0xdd86 goto drop
    pass: r0 = 2
    exit
    drop: r0 = 1
    exit`;
  await using program = await loadProgram({ assembly }, { executor: 'plain', plugins: [plugin] });
  expect(program.run(udp({ src: '2001:db8::1' })).verdict).toBe('XDP_DROP');
  expect(program.run(udp()).verdict).toBe('XDP_PASS');
});
