import { XdpbedError } from '../../src/core/diagnostic.js';
import { inject, injectable } from '../../src/core/contract/injection.js';
import { BPF_RUNTIME } from '../../src/core/contract/map-backend.js';
import type { ExecutionEnvironment, Executor } from '../../src/core/contract/executor.js';
import { isLddw } from '../../src/bpf/insn.js';
import { BPF_CALL_HELPER, BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, OP_CALL } from '../../src/bpf/opcodes.js';
import type { Program } from '../../src/bpf/program.js';
import type { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { createHelpers, TAIL_CALL } from '../../src/bpf/runtime/helpers/helper-table.js';
import { WorkCounters } from '../../src/bpf/runtime/work-counters.js';
import { decodeProgram } from './decode-program.js';
import type { DecodedProgram } from './decoded-program.js';
import { createMachine } from './interpret.js';
import { InterpretedProgram } from './interpreted-program.js';
import { invokeCallback } from './leave-loop.js';
import type { Machine } from './machine.js';

const MAX_SPACE = 2 ** 31;

/**
 * The reference executor: an interpreter that checks every access. What it does is by definition what a program
 * means (RFC 9669, and the kernel where the RFC leaves a choice); other executors are compared with it.
 */
@injectable()
export class InterpreterExecutor implements Executor {
  readonly name = 'interpreter';
  readonly #runtime: BpfRuntime;
  /** For as long as programs are loaded. */
  #machine: Machine | undefined;
  /** Of all programs that are counted, from the first on. */
  #work: WorkCounters | undefined;

  constructor(@inject(BPF_RUNTIME) runtime: BpfRuntime) {
    this.#runtime = runtime;
  }

  async load(program: Program, environment: ExecutionEnvironment): Promise<InterpretedProgram> {
    return this.loadNow(program, environment);
  }

  /** As `load`, for callers that cannot wait. */
  loadNow(program: Program, environment: ExecutionEnvironment): InterpretedProgram {
    const runtime = this.#runtime;
    const programId = environment.programId ?? runtime.allocateProgramId();
    // The run loop takes addresses for positive int32.
    if (runtime.space.byteLength > MAX_SPACE) {
      throw new XdpbedError(
        'executor-unsupported',
        `an address space of ${runtime.space.byteLength} bytes exceeds the interpreter's limit of ${MAX_SPACE}`,
      );
    }
    const machine = this.#machine ?? createMachine(runtime);
    let decoded: DecodedProgram;
    let work: WorkCounters | undefined;
    try {
      if (environment.countWork === true) work = this.#work ??= new WorkCounters(runtime.space);
      const helpers = createHelpers(runtime, environment.world, {
        check: (address, size, write) => {
          machine.onAccess?.(address, size, write);
          return machine.accessFault(address, size, write);
        },
        invoke: (slot) => invokeCallback(machine, slot),
        charge: (insns) => machine.charge(insns),
        work,
        overrides: environment.helperOverrides,
      });
      if (leavesFramesBehind(program)) machine.deepenStack();
      decoded = decodeProgram(runtime.space, program, environment, helpers);
    } catch (error) {
      // One whose last program was closed by a helper may still be running it, and goes when that ends.
      if (machine !== this.#machine) machine.close();
      throw error;
    }
    this.#machine = machine;
    if (work !== undefined) {
      machine.work = work;
      work.declareHelpers(program.insns);
    }
    machine.add(programId, decoded);
    return new InterpretedProgram(decoded, machine, programId, work, () => {
      if (machine.programs.get(programId) !== decoded) return;
      machine.programs.delete(programId);
      // A helper may close the program that calls it, whose code is still needed.
      machine.whenIdle(() => {
        machine.remove(decoded);
        if (machine.programs.size > 0) return;
        this.#machine = undefined;
        machine.close();
      });
    });
  }
}

/** Whether a tail call may be made out of a function that others wait for. */
function leavesFramesBehind({ insns }: Program): boolean {
  const calls = insns.filter(({ opcode }) => opcode === OP_CALL);
  const functions = insns.some((insn) => isLddw(insn) && insn.src === BPF_PSEUDO_FUNC);
  return (
    calls.some(({ src, imm }) => src === BPF_CALL_HELPER && imm === TAIL_CALL) &&
    (functions || calls.some(({ src }) => src === BPF_PSEUDO_CALL))
  );
}
