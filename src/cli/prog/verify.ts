import { setImmediate } from 'node:timers/promises';
import { EXIT, type ExitCode } from '../../core/diagnostic.js';
import { linkProgram } from '../../bpf/link.js';
import { requiredMaps } from '../../bpf/elf/object-closure.js';
import type { Verification, Verifier, VerifierMap, VerifyRequest } from '../../core/contract/verifier.js';
import { VERIFIER } from '../../core/contract/verifier.js';
import { LifecycleManager } from '../../core/plugin/lifecycle.js';
import { Scope } from '../../core/plugin/scope.js';
import { PluginInstances } from '../../core/run/plugin-instances.js';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import type { MapSpec } from '../../bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP, type ProgramSpec } from '../../bpf/program.js';
import { printable } from '../../core/printable.js';
import type { CliContext } from '../cli-context.js';
import { interrupted } from '../../core/clock/interrupted.js';
import { ElapsedLine } from '../elapsed-line.js';
import { Progress } from '../progress.js';
import { openObject, openProgram, type ProgramOptions } from './prog-object.js';
import { renderEffort } from './effort-table.js';
import { VERIFICATION_SCHEMA_VERSION } from '../../report/verification-schema.js';
import { renderVerification } from '../../core/program-test/render-verification.js';
import { choose } from '../../core/program-test/workbench.js';

/**
 * `xdpbed prog verify`: what one or several verifiers say of a program, and where they differ. Interrupted, it prints what they
 * said of the programs before the one that was under way.
 */
export async function verifyProgram(
  context: CliContext,
  path: string,
  options: ProgramOptions & VerifyOptions,
): Promise<ExitCode> {
  const named = options.program !== undefined || options.section !== undefined;
  const object = await openObject(path, options);
  const programs = named
    ? [(await openProgram(path, options)).spec]
    : object.programs.filter((program) => program.type === BPF_PROG_TYPE_XDP);
  // Throws, and says what there is.
  if (programs.length === 0) await openProgram(path, options);
  const results: ProgramResult[] = [];
  const signal = context.interruption();
  let unfinished: string | undefined;
  const elapsed = new ElapsedLine(new Progress(context.terminal));
  const lifecycle = new LifecycleManager();
  const instances = new PluginInstances(new Scope('verify'), lifecycle);
  try {
    const verifiers: Verifier[] = [];
    for (const name of options.verifier.split(',')) {
      verifiers.push(await instances.instantiate(await choose(context.registry, 'verifier', name), VERIFIER));
    }
    for (const [index, spec] of programs.entries()) {
      if (spec.unsupported !== undefined) {
        results.push({ program: spec.name, spec, verifications: [], unsupported: spec.unsupported });
        continue;
      }
      elapsed.begin(`program ${index + 1} of ${programs.length}: ${spec.name}`);
      const verifications = await verifyBy(verifiers, object, spec, options, signal);
      if (verifications === undefined) {
        unfinished = spec.name;
        break;
      }
      results.push({ program: spec.name, spec, verifications });
    }
  } finally {
    elapsed.end();
    await lifecycle.stop();
  }
  if (options.format === 'json') context.terminal.out(`${toJson(results, unfinished)}\n`);
  else context.terminal.out(results.map((result) => renderText(result, options)).join('\n'));
  if (unfinished !== undefined) throw interrupted(`program ${unfinished} was verified`);
  const accepted = results.every(
    ({ verifications, unsupported }) =>
      unsupported === undefined && verifications.every((each) => each.accepted),
  );
  return accepted ? EXIT.OK : EXIT.CHECK_FAILED;
}

/** What each verifier said of one program. */
interface ProgramResult {
  readonly program: string;
  readonly spec: ProgramSpec;
  readonly verifications: readonly Verification[];
  /** Why it cannot be loaded at all: it uses something that only a running kernel resolves. */
  readonly unsupported?: string | undefined;
}

/** Undefined when it was interrupted before all of them had judged. */
async function verifyBy(
  verifiers: readonly Verifier[],
  object: ObjectSpec,
  spec: ProgramSpec,
  { log, complexity, byInsn }: VerifyOptions,
  signal: AbortSignal,
): Promise<Verification[] | undefined> {
  const maps = requiredMaps(object, spec);
  // Any numbers will do as handles: nothing is created.
  const handles = new Map(maps.map((map, index) => [map.name, index + 1]));
  const request: VerifyRequest = {
    program: linkProgram(spec, handles),
    maps: new Map(maps.map((map, index) => [index + 1, verifierMap(map)])),
    log: log === true,
    visits: complexity === true || byInsn === true,
    signal,
  };
  const verifications: Verification[] = [];
  for (const verifier of verifiers) {
    const started = performance.now();
    let verification: Verification;
    try {
      verification = await verifier.verify(request);
    } catch (error) {
      // Whatever it throws then.
      if (signal.aborted) return undefined;
      throw error;
    }
    const milliseconds = performance.now() - started;
    // A verifier need not have given way, as the kernel does not.
    await setImmediate();
    if (signal.aborted) return undefined;
    verifications.push({ ...verification, statistics: { milliseconds, ...verification.statistics } });
  }
  return verifications;
}

function renderText(
  { program, spec, verifications, unsupported }: ProgramResult,
  options: VerifyOptions,
): string {
  if (unsupported !== undefined) return `${printable(`${program}: cannot be loaded: ${unsupported}`)}\n`;
  const byInsn = options.byInsn === true;
  const complexity = options.complexity === true || byInsn;
  const texts = verifications.map((each) => renderVerification(program, each, { complexity }));
  if (complexity) texts.push(renderEffort(spec, verifications, byInsn));
  if (verifications.length > 1) texts.push(renderComparison(verifications));
  return texts.join('');
}

interface VerifyOptions {
  readonly verifier: string;
  readonly log?: boolean;
  readonly complexity?: boolean;
  readonly byInsn?: boolean;
  readonly format: string;
}

/** What the verifier is told of a map: the content of a frozen one is part of the program. */
function verifierMap(map: MapSpec): VerifierMap {
  const first = map.initial[0];
  const frozenValue =
    map.frozen === true && first !== undefined && 'value' in first ? first.value : undefined;
  return { ...map, frozenValue };
}

/** One line on whether the verifiers agree, and if not, who said what. */
function renderComparison(verifications: readonly Verification[]): string {
  const accepting = verifications.filter((each) => each.accepted).map((each) => each.verifier);
  const rejecting = verifications.filter((each) => !each.accepted);
  if (accepting.length === 0 || rejecting.length === 0) {
    const codes = new Set(rejecting.map((each) => (each.accepted ? '' : each.code)));
    const insns = new Set(rejecting.map((each) => (each.accepted ? undefined : each.insn)));
    const detail = codes.size > 1 || insns.size > 1 ? ', for different reasons' : '';
    return `all ${verifications.length} verifiers ${accepting.length > 0 ? 'accept' : 'reject'}${detail}\n`;
  }
  const reasons = rejecting.map((each) =>
    each.accepted ? '' : `${each.verifier} rejects (${each.code}, insn ${each.insn ?? '–'})`,
  );
  return `the verifiers differ: ${accepting.join(', ')} accept; ${reasons.join('; ')}\n`;
}

/** @param unfinished the program that was under way when it was interrupted */
function toJson(programs: readonly ProgramResult[], unfinished: string | undefined): string {
  const plain = (value: unknown): unknown => {
    if (typeof value === 'bigint') return value.toString();
    if (value instanceof Map)
      return Object.fromEntries([...value].map(([key, each]) => [String(key), plain(each)]));
    if (value instanceof Set) return [...value];
    return value;
  };
  return JSON.stringify(
    {
      schema: VERIFICATION_SCHEMA_VERSION,
      programs: programs.map(({ spec: _, ...rest }) => rest),
      ...(unfinished === undefined ? {} : { interrupted: unfinished }),
    },
    (_, value: unknown) => plain(value),
    2,
  );
}
