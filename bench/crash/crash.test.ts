import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { crashCampaign, VICTIMS } from './crash-campaign.js';
import { probeBpf } from '../../src/linux/index.js';
import { probeNamespaces } from '../../src/linux/testing-namespace.js';

const probe = [probeBpf(), probeNamespaces()].find(({ status }) => status !== 'supported');
const skipped = probe === undefined || probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

describe.skipIf(skipped !== '')(`fabric linux, killed at random moments${skipped}`, () => {
  // `npm run crash:linux -- --kills 200` is the whole of it.
  it('leaves nothing behind that prune does not remove', async () => {
    const programs = fileURLToPath(new URL('../../testbeds/programs', import.meta.url));
    const kills = await crashCampaign({ kills: 9, seed: 9n, programs });
    expect(kills.filter(({ problems }) => problems.length > 0)).toEqual([]);
    expect(new Set(kills.map(({ victim }) => victim))).toEqual(new Set(VICTIMS));
    // Were nothing ever to be pruned, nothing would have been tried.
    expect(kills.some(({ pruned }) => pruned > 0)).toBe(true);
  }, 300_000);
});
