import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { runTestbedFile } from 'xdpbed/test';

const file = fileURLToPath(
  import.meta.resolve('xdpbed/package.json').replace(/package\.json$/, 'testbeds/rfc-2019.testbed.yaml'),
);

it('the host drops what the guest would have dropped, and the guest sees none of it', async () => {
  const outcome = await runTestbedFile(file, {
    only: { case: 'bridge', program: 'xdp1' },
    set: { 'workload.config.frames': 200 },
  });
  expect(outcome.problems).toEqual([]);
  const guest = outcome.run({ placement: 'guest' });
  const host = outcome.run({ placement: 'host' });
  expect(host.links.map(({ framesToGuest }) => framesToGuest)).toEqual([0]);
  expect(guest.links.map(({ framesToGuest }) => framesToGuest)).toEqual([200]);
});
