import { EXIT, type ExitCode, XdpbedError } from '../../core/diagnostic.js';
import type { AccessEvent, Location } from '../../core/contract/program-debugging.js';
import { ProgramSession } from '../../core/program-test/program-session.js';
import { formatInsn } from '../../bpf/disassembler.js';
import { formatSourceLine, sourceLineAt } from '../../bpf/program.js';
import { xdpActionName } from '../../bpf/xdp.js';
import { EventLoopTurns } from '../../core/clock/event-loop-turns.js';
import { printableLine } from '../../core/printable.js';
import type { CliContext } from '../cli-context.js';
import { unlessInterrupted } from '../../core/clock/interrupted.js';
import { readFrames } from '../../core/program-test/capture-input.js';
import { AddressNames } from './address-names.js';
import { readMapFile } from './map-file.js';
import { openProgram, type ProgramOptions } from './prog-object.js';
import { renderVerification } from '../../core/program-test/render-verification.js';
import { Workbench } from '../../core/program-test/workbench.js';

interface TraceOptions extends ProgramOptions {
  readonly pcap: string;
  readonly packet: string;
  readonly executor: string;
  readonly verifier: string;
  readonly maps?: string;
  readonly limit: string;
}

/** `xdpbed prog trace`: a program insn by insn on one packet: source lines, changed registers, memory accesses. */
export async function traceProgram(
  context: CliContext,
  path: string,
  options: TraceOptions,
): Promise<ExitCode> {
  const { object, spec } = await openProgram(path, options);
  const packets = await readFrames(options.pcap);
  const packet = packets[Number(options.packet) - 1];
  if (packet === undefined) {
    throw new XdpbedError(
      'usage',
      `--packet ${options.packet}: ${options.pcap} holds packets 1 to ${packets.length}`,
    );
  }
  const initial = options.maps === undefined ? undefined : await readMapFile(options.maps, object);
  const signal = context.interruption();
  const bench = await Workbench.open(context.registry, {
    executor: options.executor,
    verifiers: options.verifier.split(','),
  });
  try {
    const opening = ProgramSession.open(bench, object, spec, initial);
    const session = await unlessInterrupted(signal, `program ${spec.name} was verified`, opening);
    if ('code' in session) {
      context.terminal.err(renderVerification(session.programName, session, { complexity: false }));
      return EXIT.CHECK_FAILED;
    }
    const turns = new EventLoopTurns(signal, 'the trace');
    const faulted = await traceRun(session, packet.data, packet.timestampNs, Number(options.limit), {
      turns,
      print: (line) => context.terminal.out(`${printableLine(line)}\n`),
    });
    session.close();
    return faulted ? EXIT.CHECK_FAILED : EXIT.OK;
  } finally {
    await bench.close();
  }
}

/** Prints each insn with what it changed; whether the run ended in a fault. */
async function traceRun(
  session: ProgramSession,
  packet: Uint8Array,
  now: bigint,
  limit: number,
  { turns, print }: { turns: EventLoopTurns; print: (line: string) => void },
): Promise<boolean> {
  const accesses: AccessEvent[] = [];
  const stepper = session.loaded.loaded.debug?.({ onAccess: (_, access) => void accesses.push(access) });
  if (stepper === undefined) {
    throw new XdpbedError('usage', 'this executor cannot step', {
      hint: 'use --executor interpreter',
    });
  }
  const names = new AddressNames(session);
  // In the order of their handles.
  const mapNames = [...session.maps.keys()];
  const { space } = session.bench.runtime;
  session.frames.load(0, packet, { ingressIfindex: 1 });
  session.clock.now = now;
  let state = stepper.start(session.frames, 0);
  let line = '';
  for (let count = 0; state.state === 'paused'; count++) {
    if (count >= limit) {
      print(`… stopped after ${limit} insns; --limit raises it`);
      return false;
    }
    const turn = turns.next();
    if (turn !== undefined) await turn;
    const at: Location = state;
    const from = sourceLineAt(at.program.debug, at.insn);
    const source = from === undefined ? undefined : formatSourceLine(from);
    if (source !== undefined && source !== line) print(`${''.padStart(6)}; ${source}`);
    line = source ?? line;
    const before = stepper.registers();
    accesses.length = 0;
    state = stepper.step();
    const text = formatInsn(at.program.insns, at.insn, {
      functions: at.program.debug?.functions,
      mapName: (handle) => mapNames[handle - 1],
    });
    const nameOf = (address: number): string | undefined => names.nameOf(address, at.depth);
    const effects = state.state === 'paused' ? changes(before, stepper.registers(), nameOf) : [];
    for (const { kind, write, address, size } of accesses) {
      const what = kind === 'helper' ? (write ? 'helper writes' : 'helper reads') : kind;
      const name = nameOf(address);
      // As it is once the insn is through: of a store, what was stored.
      const value = name === undefined ? '' : ` = ${valueText(space.u8.subarray(address, address + size))}`;
      effects.push(`${what} ${size} B at ${name ?? `0x${address.toString(16)}`}${value}`);
    }
    print(
      `${String(at.insn).padStart(5)}: ${'  '.repeat(at.depth)}${text.padEnd(42 - 2 * at.depth)} ${effects.join('; ')}`.trimEnd(),
    );
  }
  if (state.state === 'faulted') {
    print(`aborted at insn ${state.fault.insn}: ${state.fault.reason}`);
    return true;
  }
  print(`returned ${BigInt.asUintN(32, state.r0)} (${xdpActionName(Number(BigInt.asUintN(32, state.r0)))})`);
  return false;
}

/** Registers with another value than before; one that is an address with what lies there. */
function changes(
  before: readonly bigint[],
  after: readonly bigint[],
  nameOf: (address: number) => string | undefined,
): string[] {
  return after.flatMap((value, register) => {
    if (value === before[register]) return [];
    const name = value <= 0xffff_ffffn ? nameOf(Number(value)) : undefined;
    const text =
      name?.startsWith('map ') === true
        ? name
        : `0x${value.toString(16)}${name === undefined ? '' : ` (${name})`}`;
    return [`r${register} = ${text}`];
  });
}

/** Bytes that a helper may be given more of are cut off in a line. */
const MOST_BYTES = 16;

/** A number where it is as long as one, else the bytes in the order of memory. */
function valueText(bytes: Uint8Array): string {
  if ([1, 2, 4, 8].includes(bytes.length)) {
    const number = bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
    return `0x${number.toString(16)}`;
  }
  const shown = Buffer.from(bytes.subarray(0, MOST_BYTES))
    .toString('hex')
    .replace(/..(?=.)/g, '$& ');
  return `${shown}${bytes.length > MOST_BYTES ? ' …' : ''}`;
}
