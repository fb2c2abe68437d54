import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { messageOf } from '../../src/core/diagnostic.js';
import { TRANSPORTS } from '../control/transports.js';
import { fuzzControl, GENERATORS } from './control-fuzz.js';

const USAGE = `fuzz:control [options]: a hostile guest over a transport; what must hold, holds

  --commands N      how many commands over each transport (100000)
  --seed N          seed of the first (1)
  --transport A,B   ${TRANSPORTS.map(({ name }) => name).join(', ')} (all of them)
  --protocol NAME   ${Object.keys(GENERATORS).join(', ')} (rfc-2019)
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      commands: { type: 'string', default: '100000' },
      seed: { type: 'string', default: '1' },
      transport: { type: 'string', default: TRANSPORTS.map(({ name }) => name).join() },
      protocol: { type: 'string', default: 'rfc-2019' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const number = (name: 'commands' | 'seed'): number => {
    const value = Number(values[name]);
    if (!Number.isSafeInteger(value) || value < 0)
      throw new RangeError(`--${name} ${values[name]} is not a number`);
    return value;
  };
  const generator = Object.hasOwn(GENERATORS, values.protocol) ? GENERATORS[values.protocol] : undefined;
  if (generator === undefined)
    throw new RangeError(`--protocol ${values.protocol} is none of those there are`);
  const transports = values.transport.split(',').map((name) => {
    const found = TRANSPORTS.find((each) => each.name === name);
    if (found === undefined) throw new RangeError(`--transport ${name} is none of those there are`);
    return found;
  });
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  let failed = false;
  for (const transport of transports) {
    const start = performance.now();
    const report = await fuzzControl(transport, generator, {
      commands: number('commands'),
      seed: number('seed'),
      collectGarbage,
      onProgress: (commands) => {
        if (process.stderr.isTTY) process.stderr.write(`\r${transport.name}: ${commands} commands`);
      },
    });
    if (process.stderr.isTTY) process.stderr.write('\r');
    const seconds = (performance.now() - start) / 1000;
    const { acks, refusals, memory, problems } = report;
    const mebibytes = memory.map((bytes) => (bytes / 2 ** 20).toFixed(2));
    console.log(
      `${transport.name}: ${report.commands} commands in ${seconds.toFixed(0)} s, ${acks.ok} ok, ${acks.err} err, ` +
        `${report.deviceResets} resets, at most ${report.mostObjects} objects`,
    );
    console.log(
      `  refused: ${Object.entries(refusals)
        .map(([kind, times]) => `${times} ${kind}`)
        .join(', ')}`,
    );
    console.log(`  memory after each slice, MiB: ${mebibytes.join(' ')}`);
    for (const problem of problems) console.error(`  ${problem}`);
    failed ||= problems.length > 0;
  }
  return failed ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(messageOf(error));
  process.exitCode = 2;
}
