import { describe, expect, it } from 'vitest';
import { runForTest } from './testing-terminal.js';
import type { ResultDocument } from '../core/contract/result.js';

const FILE = new URL('../../testbeds/noisy-neighbour.testbed.yaml', import.meta.url).pathname;
const [QUIET, NOISY] = ['quiet', 'noisy'].map((guest) => `guests.${guest}.nics.eth0.requests`);

describe('testbed noisy-neighbour', () => {
  it('lets no guest feel that another sends slow programs', async () => {
    const set = [
      'host.verification.milliseconds=1500',
      `${QUIET}.warm-up=0`,
      `${QUIET}.seconds=3`,
      `${QUIET}.per-second=200`,
      `${NOISY}.seconds=2`,
    ];
    const { out } = await runForTest([
      'run',
      FILE,
      '--only',
      'neighbour=noisy',
      ...set.flatMap((each) => ['--set', each]),
      '--format',
      'json',
    ]);
    const [run] = (JSON.parse(out) as ResultDocument).runs;
    const asked = (node: string) => run!.requests!.find((each) => each.node === node)!;
    expect(asked('noisy.eth0').sent).toBeGreaterThan(0);
    expect(asked('noisy.eth0').refused).toBe(asked('noisy.eth0').sent);
    expect(run!.verification!.outOfTime).toBe(asked('noisy.eth0').sent);
    // The quiet guest's own program, and those.
    expect(run!.verification!.programs).toBe(asked('noisy.eth0').sent + 1);
    expect(run!.audit.every((record) => record.guest === 'noisy' && record.code === 'out-of-time')).toBe(
      true,
    );
    expect(asked('quiet.eth0')).toMatchObject({ sent: 600, refused: 0 });
    // Judged on the event loop, all that was due in one and a half seconds would have waited.
    expect(asked('quiet.eth0').latency!.p50).toBeLessThan(500_000);
  });
});
