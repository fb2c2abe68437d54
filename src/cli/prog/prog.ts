import { Option, type Command } from 'commander';
import type { CliContext } from '../cli-context.js';
import { COVERAGE_FORMATS } from './coverage-formats.js';

/** As test-report.ts has them, which is not imported before it is used. */
const TEST_FORMATS = ['text', 'junit', 'tap', 'json'];

/**
 * `xdpbed prog …`: the engine alone, on one object; no root, no kernel, no clang. Only the command lines are
 * declared here; what a verb does is imported when it runs.
 */
export function addProgVerbs(program: Command, context: CliContext): void {
  const prog = program.command('prog').description('inspect, verify, run and test XDP programs without root');
  prog
    .command('info')
    .description('show the programs and maps of an object')
    .argument('<object>', 'ELF object')
    .addOption(typeOption())
    .addOption(mapOption())
    .addOption(formatOption())
    .action(context.verb(async () => (await import('./info.js')).showInfo));
  addProgramOptions(prog.command('disasm'))
    .description('disassemble a program, or all of an object’s')
    .option('--no-source', 'without source lines')
    .option('--opcodes', 'with the opcode byte of each insn')
    .action(context.verb(async () => (await import('./disasm.js')).disassembleProgram));
  addProgramOptions(prog.command('verify'))
    .description('judge a program, or all of an object’s, without loading it, and explain a rejection')
    .option('--verifier <names>', 'verifiers, comma-separated: abstract, structural, kernel', 'abstract')
    .option('--log', 'print the state before each insn, in the kernel’s notation')
    .option(
      '--complexity',
      'show where states multiply, and how often each verifier looked at which source line',
    )
    .option('--by-insn', 'the same insn by insn')
    .addOption(formatOption())
    .action(context.verb(async () => (await import('./verify.js')).verifyProgram));
  addProgramOptions(prog.command('run'))
    .description('run a program on the packets of a capture: verdicts, changed bytes, map content')
    .addOption(
      new Option(
        '--pcap <file>',
        'capture to read, pcap or pcapng; several (the option repeated) one after the other, on the same maps',
      )
        .argParser((path: string, before: string[] = []) => [...before, path])
        .makeOptionMandatory(),
    )
    .option(
      '--pcap-out <file>',
      'write what XDP_PASS, XDP_TX and XDP_REDIRECT let through of all captures, as pcap',
    )
    .option('--maps <file>', 'YAML with map content to start from, by map name')
    .option('--executor <name>', 'interpreter, wasm, differential or kernel (root)', 'interpreter')
    .option('--map-backend <name>', 'memory or kernel; by default the one that goes with the executor')
    .option('--verifier <names>', 'verifiers that must accept, comma-separated', 'abstract')
    .option('--ifindex <number>', 'ifindex that frames come in by', '1')
    .option('--quiet', 'no line for each packet')
    .addOption(formatOption())
    .action(context.verb(async () => (await import('./run.js')).runProgram));
  addProgramOptions(prog.command('trace'))
    .description('step through a program on one packet: registers, memory accesses, source lines')
    .requiredOption('--pcap <file>', 'capture that holds the packet')
    .option('--packet <number>', 'which packet, counted from 1', '1')
    .option('--maps <file>', 'YAML with map content to start from, by map name')
    .option('--executor <name>', 'an executor that can step', 'interpreter')
    .option('--verifier <names>', 'verifiers that must accept, comma-separated', 'abstract')
    .option('--limit <number>', 'give up after so many insns', '10000')
    .action(context.verb(async () => (await import('./trace.js')).traceProgram));
  prog
    .command('test')
    .description('unit-test programs: given packets and maps, expect verdicts, packets, maps and events')
    .argument(
      '<files...>',
      'YAML files of cases, folders with *.cases.yaml, or patterns; a file that is no YAML in front of them is the object',
    )
    .option('--object <file>', 'object in place of the one that cases name')
    .addOption(typeOption())
    .addOption(mapOption())
    .option('--executor <name>', 'interpreter, wasm, differential or kernel (root)', 'interpreter')
    .option('--map-backend <name>', 'memory or kernel; by default the one that goes with the executor')
    .option('--verifier <names>', 'verifiers that must accept, comma-separated', 'abstract')
    .option('--filter <text>', 'only cases with this text in their names')
    .option('--bail', 'stop after the first case that fails')
    .option('--jobs <number>', 'files tested at a time; default: as many as there are CPUs')
    .option('--update', 'write the captures and snapshots that cases expect as they are now')
    .option('--watch', 'test again whenever a file changes')
    .option('--build <command>', 'with --watch: run this before, and when a source changes')
    .addOption(
      new Option('--format <format>', 'how results are printed').choices(TEST_FORMATS).default('text'),
    )
    .option(
      '--coverage',
      'show the C lines and branches that the cases take and do not take; counted in the interpreter',
    )
    .addOption(
      new Option(
        '--coverage-format <format>',
        'an annotated listing (the default), or a tracefile of lcov, into lcov.info if --coverage-out does not say',
      ).choices(COVERAGE_FORMATS),
    )
    .option('--coverage-out <file>', 'write the coverage there; *.info and *.lcov are for lcov')
    .action(context.verb(async () => (await import('./test.js')).testProgram));
  addSearchOptions(
    addMapOptions(
      addProgramName(prog.command('diff').argument('<old>', 'ELF object').argument('<new>', 'ELF object')),
    ),
  )
    .description(
      'whether two builds of a program do the same; else the smallest packets that tell them apart',
    )
    .addOption(
      new Option('--cases <file>', 'cases to begin with, and to vary (may be repeated)').argParser(
        (path: string, before: string[] = []) => [...before, path],
      ),
    )
    .option('--out <file>', 'write these packets as pcap')
    .addOption(formatOption())
    .action(context.verb(async () => (await import('./diff.js')).diffPrograms));
  addSearchOptions(addMapOptions(addProgramOptions(prog.command('fuzz'))))
    .description('look for packets after which a property of a program does not hold')
    .addOption(
      new Option(
        '--expect <property>',
        "what has to hold after each packet: no-abort (the default), verdict=XDP_PASS,XDP_DROP or 'map NAME[KEY] <= 10' (may be repeated)",
      ).argParser((text: string, before: string[] = []) => [...before, text]),
    )
    .option('--out <file>', 'write the packets that were found as pcap')
    .addOption(formatOption())
    .action(context.verb(async () => (await import('./fuzz.js')).fuzzProgram));
  addProgramOptions(prog.command('bench'))
    .description('time a program on the packets of a capture, executors side by side')
    .requiredOption('--pcap <file>', 'capture whose packets are run over and over')
    .option('--maps <file>', 'YAML with map content to start from, by map name')
    .option('--executor <names>', 'executors, comma-separated', 'interpreter,wasm')
    .option('--verifier <names>', 'verifiers that must accept, comma-separated', 'abstract')
    .option('--rounds <number>', 'interleaved rounds; the median counts', '7')
    .option('--batch <number>', 'packets of one call', '64')
    .action(context.verb(async () => (await import('./bench.js')).benchProgram));
}

/** Options of every verb that takes one program of an object. */
function addProgramOptions(command: Command): Command {
  return addProgramName(command.argument('<object>', 'ELF object, e.g. testbeds/programs/xdp1.o'));
}

/** Content of maps, and who judges. */
function addMapOptions(command: Command): Command {
  return command
    .option('--maps <file>', 'YAML with map content to start from, by map name')
    .option('--verifier <names>', 'verifiers that must accept, comma-separated', 'abstract');
}

/** Options of every verb that looks for packets. */
function addSearchOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--pcap <file>', 'capture to begin with, and to vary (may be repeated)').argParser(
        (path: string, before: string[] = []) => [...before, path],
      ),
    )
    .option('--packets <number>', 'packets to generate', '20000')
    .option('--seconds <number>', 'generate no more after so long')
    .option('--seed <number>', 'draw everything random from this seed', '1')
    .option('--ifindex <number>', 'ifindex that frames come in by', '1');
}

function addProgramName(command: Command): Command {
  return command
    .option('--program <name>', 'function name of the program; may be left out when there is one XDP program')
    .option('--section <name>', 'section of the program, e.g. xdp/devmap')
    .addOption(typeOption())
    .addOption(mapOption());
}

function formatOption(): Option {
  return new Option('--format <format>', 'how it is printed').choices(['text', 'json']).default('text');
}

function mapOption(): Option {
  return new Option(
    '--map <NAME.max_entries=N>',
    'entries of a map, where they are to be another number than the object’s (may be repeated)',
  ).argParser((text: string, before: string[] = []) => [...before, text]);
}

function typeOption(): Option {
  return new Option(
    '--type <type>',
    'what programs are whose section does not say it, e.g. section prog',
  ).choices(['xdp']);
}
