import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../../src/core/diagnostic.js';
import { probeBpf } from '../../src/linux/index.js';
import { crashCampaign } from './crash-campaign.js';

const USAGE = `crash:linux [options]: kills run, up, exec and down of fabric linux at random moments; needs root

  --kills N   how many (200)
  --seed N    draws victims' moments (1)
  --verbose   a line for each
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      kills: { type: 'string', default: '200' },
      seed: { type: 'string', default: '1' },
      verbose: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  for (const name of ['kills', 'seed'] as const) {
    if (!/^\d{1,9}$/.test(values[name])) throw new RangeError(`--${name} ${values[name]} is not a number`);
  }
  const probe = probeBpf();
  if (probe.status === 'unsupported') throw new Error(probe.reason);
  const kills = await crashCampaign({
    kills: Number(values.kills),
    seed: BigInt(values.seed),
    // This file is in dist/bench/crash.
    programs: fileURLToPath(new URL('../../../testbeds/programs', import.meta.url)),
    onKill: ({ index, victim, moment, tooLate, pruned, problems }) => {
      if (values.verbose || problems.length > 0) {
        const what = problems.length === 0 ? `${pruned} pruned` : problems.join('; ');
        console.error(`${index}: ${victim} ${moment}${tooLate ? ' (it had ended)' : ''}: ${what}`);
      }
    },
  });
  const count = (of: (kill: (typeof kills)[number]) => boolean): number => kills.filter(of).length;
  const bad = count(({ problems }) => problems.length > 0);
  console.log(
    `${kills.length} kills, ${count(({ pruned }) => pruned > 0)} with something to prune, ` +
      `${count(({ tooLate }) => tooLate)} when the command had ended; ${bad} left something behind`,
  );
  return bad === 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(messageOf(error));
  process.exitCode = 2;
}
