import type { Command } from 'commander';
import { ROLES } from '../core/contract/plugin.js';
import type { CliContext } from './cli-context.js';
import { addProgVerbs } from './prog/prog.js';

/**
 * Every command line there is. A verb is only declared here, with its arguments and options; what it does, and
 * all that this needs, is imported when it runs, so that `--help` and a small verb start at once.
 */
export function addVerbs(program: Command, context: CliContext): void {
  addTestbedOptions(program.command('run'))
    .description('run a testbed and check it')
    .option(
      '--format <reporter>',
      'render the result with this reporter: table, json, ndjson, … (default: the testbed’s)',
    )
    .option('--bail', 'start no run after one that failed')
    .option(
      '--audit <file>',
      'write each ruling of a policy and each command that was refused into this file, as NDJSON',
    )
    .action(context.verb(async () => (await import('./run.js')).run));
  addTestbedOptions(program.command('validate'))
    .description('check a testbed file and everything it names; starts nothing')
    .option(...TRUST)
    .action(context.verb(async () => (await import('./validate.js')).validate));
  addTestbedOptions(program.command('plan'))
    .description('print the runs that a testbed expands to, every default filled in')
    .option(...TRUST)
    .action(context.verb(async () => (await import('./plan.js')).plan));
  addCostVerbs(program, context);
  addPluginsVerbs(program, context);
  addHeldVerbs(program, context);
  program
    .command('doctor')
    .description('whether fabric linux can work on this machine, and what would help')
    .option('--format <format>', 'table or json', 'table')
    .action(context.verb(async () => (await import('./doctor.js')).doctor));
  program
    .command('prune')
    .description('remove what runs have left on this machine whose process is gone')
    .action(context.verb(async () => (await import('./prune.js')).prune));
  addProgVerbs(program, context);
  program
    .command('conformance')
    .description('run one program by the plugin protocol of bpf_conformance')
    .argument('[memory]', 'hex bytes that R1 points to, their length in R2')
    .option('--executor <name>', 'interpreter or wasm', 'interpreter')
    .option('--elf', 'accepted and refused: programs come as raw insns')
    .action(context.verb(async () => (await import('./conformance.js')).conformance));
}

const TRUST = [
  '--trust',
  'run the modules of plugins that are not built in, to check their config; `run` always does',
] as const;

/** What things cost in virtual time. */
function addCostVerbs(program: Command, context: CliContext): void {
  addResolveOptions(program.command('calibrate'))
    .description('fit the free parameters of a testbed’s calibration to rates that somebody measured')
    .option('--write', 'put the values that were found into the calibration file')
    .option('--from <fabric>', 'fit to the rates of the same runs on this fabric: linux')
    .option(
      '--reference <result>',
      'fit to the rates of a result (`run --format json`) instead of the testbed’s comparison',
    )
    .option(
      '--hold-out <run>',
      'predict this run, do not fit to it; * stands for anything (may be repeated)',
      collect,
    )
    .option('--within <percent>', 'how far off a run may be; further is exit code 1', '5')
    .option('--loo-within <percent>', 'the same of a run that the others predict', '20')
    .option('--cell-spread <percent>', 'one standard deviation of how well a rate can be met', '2.5')
    .option('--no-leave-one-out', 'do not predict each run from the others')
    .option('--format <format>', 'table or json', 'table')
    .action(context.verb(async () => (await import('./cost/calibrate.js')).calibrate));
  addResolveOptions(program.command('sensitivity'))
    .description('move each cost up and down, and show which moves the rates most')
    .option('--by <percent>', 'how far each is moved', '10')
    .option('--top <number>', 'how many are shown of each run', '10')
    .option('--cost <name>', 'only this one, or helper.NAME (may be repeated)', collect)
    .option(
      '--vary <path=low,high>',
      'move a value of the testbed, too, e.g. measure.size=60,128 (may be repeated)',
      collect,
    )
    .option('--format <format>', 'table or json', 'table')
    .action(context.verb(async () => (await import('./cost/sensitivity.js')).sensitivity));
}

/** Runs that are there until they are told to go. */
function addHeldVerbs(program: Command, context: CliContext): void {
  addTestbedOptions(program.command('up'))
    .description('bring one run of a testbed up, without traffic, and leave it there until `down`')
    .option('--format <format>', 'table or json', 'table')
    .action(context.verb(async () => (await import('./held/up.js')).up));
  program
    .command('status')
    .description('what runs are there on this machine, and what their programs have seen')
    .argument('[run]', 'name of one, as `up` printed it')
    .option('--format <format>', 'table or json', 'table')
    .action(context.verb(async () => (await import('./held/status.js')).status));
  program
    .command('exec')
    .description('run a command in a network namespace of a run; exits as the command does')
    .argument('<run>', 'name of the run')
    .argument('<words...>', 'wire (where traffic comes from) or host (the default), `--`, command')
    .passThroughOptions()
    .action(context.verb(async () => (await import('./held/exec.js')).exec));
  program
    .command('down')
    .description('take down what `up` has brought up, and wait until it is gone')
    .argument('[run]', 'name of the run; may be left out when there is one')
    .option('--all', 'all that `up` has brought up')
    .option('--timeout <seconds>', 'how long its process may take, until it is killed', '10')
    .action(context.verb(async () => (await import('./held/down.js')).down));
}

function addPluginsVerbs(program: Command, context: CliContext): void {
  const plugins = program.command('plugins').description('the built-in plugins, and those a name leads to');
  plugins
    .command('list')
    .description('list the built-in plugins, a line each')
    .option('--role <role>', `only this role: ${ROLES.join(', ')}`)
    .option('--format <format>', 'table or json', 'table')
    .action(context.verb(async () => (await import('./plugins.js')).listPlugins));
  plugins
    .command('show')
    .description('show a plugin’s manifest and the JSON Schema of its config')
    .argument('<role>', ROLES.join(', '))
    .argument('<use>', 'what a testbed would write behind `use:`')
    .action(context.verb(async () => (await import('./plugins.js')).showPlugin));
}

const collect = (value: string, previous: string[] = []): string[] => [...previous, value];

/** Options of every verb that reads a testbed, whatever its fabric. */
function addTestbedOptions(command: Command): Command {
  return addResolveOptions(command).option(
    '--fabric <name>',
    'run it on this fabric: model or linux (default: the testbed’s)',
  );
}

function addResolveOptions(command: Command): Command {
  return command
    .argument('<testbed>', 'testbed file, e.g. testbeds/rfc-2019.testbed.yaml')
    .option(
      '--set <path=value>',
      'set a value of the testbed, e.g. workload.config.frames=100; * stands for every name (may be repeated)',
      collect,
    )
    .option(
      '--only <axis=variant>',
      'only these variants of a matrix axis, comma-separated (may be repeated)',
      collect,
    )
    .option('--seed <number>', 'draw everything random from this seed');
}
