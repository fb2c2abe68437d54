import { readlinkSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { progTestRun } from '../../src/linux/bpf-syscall.js';
import { OWN_NAMESPACE } from '../../src/linux/namespace-files.js';
import { probeNamespaces } from '../../src/linux/testing-namespace.js';
import { XDP_DROP, XDP_TX } from '../../src/bpf/xdp.js';
import { engineCases } from './engine-case.js';
import { KernelBody, kernelBodyProblem } from './kernel-body.js';

const unsupported = kernelBodyProblem() !== undefined || probeNamespaces().status !== 'supported';

describe.skipIf(unsupported)('the kernel', () => {
  it('finds the routes of a case, in a namespace that goes again', () => {
    const test = engineCases().find(({ name }) => name === 'bpf_fib_lookup')!;
    const { network, commands } = test.routes!;
    const before = readlinkSync(OWN_NAMESPACE);
    const body = KernelBody.load(test)!;
    // The last command makes the route.
    const without = KernelBody.load({ ...test, routes: { network, commands: commands.slice(0, -1) } })!;
    const verdict = ({ copies, routes }: KernelBody): unknown =>
      routes!.run(() => progTestRun(copies.get('×1')!.full.fd, { data: test.frame(0) }));
    try {
      expect(verdict(body)).toMatchObject({ retval: XDP_TX });
      expect(verdict(without)).toMatchObject({ retval: XDP_DROP });
      expect(readlinkSync(OWN_NAMESPACE)).toBe(before);
    } finally {
      body.close();
      without.close();
    }
  });
});
