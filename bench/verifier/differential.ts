import 'reflect-metadata';
import { parseArgs } from 'node:util';
import { messageOf } from '../../src/core/diagnostic.js';
import { Campaign, type CampaignOptions } from './campaign.js';
import { campaignReport } from './campaign-report.js';
import { ContainmentCampaign } from './containment-campaign.js';
import { MODES, openJudges, type Mode } from './judges.js';

const USAGE = `fuzz:verifier [options]: random programs, some of them made unsafe, to verifier \`abstract\`

What it accepts is run in the checked interpreter and must not fault, nor contradict what the verifier said of it.
The report is Markdown on stdout; docs/verifier/differential.md holds one.

  --programs N     how many programs (2000)
  --seed N         seed of the first; the others follow (1)
  --unsafe N       percent of programs that are mutated (50)
  --frames N       frames that each accepted program is run on (8)
  --statements N   statements of a main program at most (40)
  --plain          only programs of any insns, without those about what programs hold and those made to prune
  --modes A,B      guest: no address may become visible; root: it may (guest,root)
  --kernel         ask the verifier of this kernel as well; needs root
  --shrink N       how many programs of each kind of disagreement are shrunk and printed (0)
  --only CODE      shrink only disagreements of this code
  --containment    instead: step through runs, and hold registers, stack and packet against the states explored
  --stop-after N   misses to stop after (10)

Exit code 1: something that was accepted faulted or contradicted the verifier, or the kernel rejects it for safety.
`;

async function main(): Promise<number> {
  const parsed = readOptions();
  if (parsed === undefined) {
    process.stdout.write(USAGE);
    return 0;
  }
  const { options, stopAfter } = parsed;
  if (parsed.containment) return searchOutside(options, stopAfter);
  const judges = {
    guest: await openJudges('guest', options.kernel),
    root: await openJudges('root', options.kernel),
  };
  const campaign = new Campaign(options, judges);
  for (let done = 0; done < options.programs && campaign.misses.length < stopAfter;) {
    const known = campaign.misses.length;
    const { safetyMisses } = campaign;
    await campaign.try(options.seed + done);
    if (campaign.safetyMisses > safetyMisses) console.error(`seed ${options.seed + done}: class safety`);
    for (const { seed, title } of campaign.misses.slice(known)) console.error(`seed ${seed}: ${title}`);
    showProgress(++done, options.programs);
  }
  console.log(campaignReport(campaign));
  for (const mode of options.modes) {
    const worst = campaign.tallies[mode].worstRatios.map(
      ({ seed, ratio }) => `${seed} (${ratio.toFixed(1)})`,
    );
    if (worst.length > 0) {
      console.error(`${mode}: most insns compared with the kernel: seeds ${worst.join(', ')}`);
    }
  }
  for (const { seed, mode, title, text } of [...campaign.misses, ...campaign.disagreements]) {
    console.log(`\n--- seed ${seed}, mode ${mode}: ${title}\n${text}`);
  }
  return campaign.misses.length + campaign.safetyMisses > 0 ? 1 : 0;
}

async function searchOutside(options: CampaignOptions, stopAfter: number): Promise<number> {
  const campaign = new ContainmentCampaign(options.generator);
  for (let done = 0; done < options.programs && campaign.misses.length < stopAfter;) {
    await campaign.try(options.seed + done);
    showProgress(++done, options.programs);
  }
  console.log(campaign.report());
  for (const { seed, text } of campaign.misses) console.log(`\n--- seed ${seed}: ${text}`);
  return campaign.misses.length > 0 ? 1 : 0;
}

interface ParsedOptions {
  readonly options: CampaignOptions;
  readonly stopAfter: number;
  readonly containment: boolean;
}

function readOptions(): ParsedOptions | undefined {
  const { values } = parseArgs({
    options: {
      programs: { type: 'string', default: '2000' },
      seed: { type: 'string', default: '1' },
      unsafe: { type: 'string', default: '50' },
      frames: { type: 'string', default: '8' },
      statements: { type: 'string', default: '40' },
      plain: { type: 'boolean', default: false },
      modes: { type: 'string', default: MODES.join(',') },
      kernel: { type: 'boolean', default: false },
      shrink: { type: 'string', default: '0' },
      only: { type: 'string' },
      containment: { type: 'boolean', default: false },
      'stop-after': { type: 'string', default: '10' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  type Name = 'programs' | 'seed' | 'unsafe' | 'frames' | 'statements' | 'shrink' | 'stop-after';
  const number = (name: Name): number => {
    const value = Number(values[name]);
    if (!Number.isSafeInteger(value) || value < 0)
      throw new RangeError(`--${name} ${values[name]} is not a number`);
    return value;
  };
  const options: CampaignOptions = {
    programs: number('programs'),
    seed: number('seed'),
    generator: {
      unsafePercent: number('unsafe'),
      frames: number('frames'),
      statements: number('statements'),
    },
    plain: values.plain,
    modes: values.modes.split(',').map(modeOf),
    kernel: values.kernel,
    shrink: number('shrink'),
    only: values.only,
  };
  return { options, stopAfter: number('stop-after'), containment: values.containment };
}

function modeOf(name: string): Mode {
  const mode = MODES.find((known) => known === name);
  if (mode === undefined) throw new RangeError(`--modes ${name} is none of ${MODES.join(', ')}`);
  return mode;
}

function showProgress(done: number, count: number): void {
  const step = process.stderr.isTTY ? 100 : 1000;
  if (done % step !== 0) return;
  process.stderr.write(process.stderr.isTTY ? `\r${done} of ${count}` : `${done} of ${count}\n`);
  if (process.stderr.isTTY && done === count) process.stderr.write('\n');
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(messageOf(error));
  process.exitCode = 2;
}
