import type { Insn } from '../../src/bpf/insn.js';
import type { VerifierStatistics } from '../../src/core/contract/verifier.js';

/** One insn on the way to the failure, as the kernel walked it. */
export interface LogStep {
  readonly insn: number;
  /** Depth of local calls; 0: the main program. */
  readonly frame: number;
  /** Registers and stack slots that the insn read or changed, in the log's notation: `R2` → `pkt(r=0)`. */
  readonly changes: ReadonlyMap<string, string>;
}

/** What is in a verifier log of the kernel. */
export interface KernelLog {
  /** The path that failed, oldest first; its beginning is missing when the log was cut. */
  readonly path: readonly LogStep[];
  /** Registers and stack slots of each frame at the last insn, before it: `R1` → `ctx()`. */
  readonly frames: readonly ReadonlyMap<string, string>[];
  /** What the kernel said after the last insn, line by line. */
  readonly messages: readonly string[];
  readonly statistics: VerifierStatistics;
  /** Bytes of stack of each function, in the order of functions. */
  readonly stackDepth: readonly number[];
}

const INSN = /^(\d+): \([0-9a-f]{2}\) (.*)$/;
/** Behind an insn: `; R1=ctx()`, or after a jump that was followed `0: R0=0 R1=ctx()`. */
const STATE_BEHIND_INSN = /(?: {2,}|\t| ); (.*)$|\s(\d+: (?:frame\d+: )?R\d.*)$/;
const STATE = /^(?:from \d+ to )?\d+(?: \(speculative execution\))?: (frame\d+: )?((?:R\d+|fp-).*)$/;
const BRANCH = /^from (\d+) to (\d+)/;
/** Below `caller:`, `callee:`, `returning from callee:` and `to caller at 3:`. */
const FRAME_STATE = /^ (?:frame(\d+): )?((?:R\d+|fp-).*)$/;
const COUNTS =
  /^processed (\d+) insns \(limit \d+\) max_states_per_insn \d+ total_states (\d+) peak_states (\d+)/;

/** Lines that say nothing about the path: of precision tracking, of pruning, source lines, both states of a loop. */
const NOISE =
  /^(?:;|\s*$|mark_precise|last_idx|regs=|parent |propagating|frame \d+: propagating|func#|Live regs|Stack slots|update_|\s+\d+: [.0-9]{4,}|\d+: safe|(?:cur|old) state:|caller:|callee:|returning from callee|to caller at|verification time|stack depth|Func#|Validating |Global function|(?:frame\d+: )?last_)/;

/**
 * Reads a log of BPF_PROG_LOAD, of level 1 or 2. Level 1 holds the path that failed and nothing else. In level 2 the
 * paths follow one another, each beginning with the branch that it turns off at (`from 4 to 7: …`): what was walked
 * between there and the branch is dropped, and what is left is the path that failed. Formats of kernels 5.10 to
 * 6.18; nothing is a problem, what is not understood is a message.
 */
export function readKernelLog(text: string): KernelLog {
  const reader = new LogReader();
  // Some messages lack their newline.
  const whole = text.replaceAll(/(?<!\n)(verification time \d+ usec|processed \d+ insns \(limit )/g, '\n$1');
  for (const line of whole.split('\n')) reader.line(line.trimEnd());
  return reader.result();
}

/**
 * How often each insn was simulated, by slot, from a whole log of level 2. Together with the paths that were pruned, of
 * which the log says `safe`, that is what the kernel counts as processed.
 */
export function countVisits(text: string, insns: readonly Insn[]): number[] {
  const visits = new Array<number>(insns.length).fill(0);
  for (const [, slot, opcode] of text.matchAll(/^(\d+): \(([0-9a-f]{2})\) /gm)) {
    // Others were put in front of it (src/linux/live-functions.ts).
    if (insns[Number(slot)]?.opcode === parseInt(opcode!, 16)) visits[Number(slot)]!++;
  }
  return visits;
}

class LogReader {
  readonly #path: LogStep[] = [];
  readonly #messages: string[] = [];
  /** Before the insn that comes next; the last one's own changes are in #pending. */
  #frames: Map<string, string>[] = [new Map<string, string>()];
  #frame = 0;
  #pending: Map<string, string> | undefined;
  #lastOpcodeText = '';
  #statistics: VerifierStatistics = { processedInsns: 0, peakStates: 0, totalStates: 0 };
  #milliseconds: number | undefined;
  #stackDepth: number[] = [];

  line(line: string): void {
    const insn = INSN.exec(line);
    if (insn !== null) return this.#insn(Number(insn[1]), insn[2]!);
    const state = STATE.exec(line);
    if (state !== null) return this.#state(line, state[1], state[2]!);
    const frameState = FRAME_STATE.exec(line);
    if (frameState !== null) {
      const frame = Number(frameState[1] ?? 0);
      this.#settle();
      this.#frames[frame] = registersOf(frameState[2]!);
      return;
    }
    const counts = COUNTS.exec(line);
    if (counts !== null) {
      this.#statistics = {
        processedInsns: Number(counts[1]),
        totalStates: Number(counts[2]),
        peakStates: Number(counts[3]),
      };
      return;
    }
    const time = /^verification time (\d+) usec/.exec(line);
    if (time !== null) this.#milliseconds = Number(time[1]) / 1000;
    const depth = /^stack depth ([\d+]+)/.exec(line);
    if (depth !== null) this.#stackDepth = depth[1]!.split('+').map(Number);
    if (!NOISE.test(line)) this.#messages.push(line);
  }

  result(): KernelLog {
    return {
      path: this.#path,
      frames: this.#frames,
      messages: this.#messages,
      statistics:
        this.#milliseconds === undefined
          ? this.#statistics
          : { ...this.#statistics, milliseconds: this.#milliseconds },
      stackDepth: this.#stackDepth,
    };
  }

  #insn(insn: number, rest: string): void {
    this.#settle();
    this.#follow(this.#lastOpcodeText);
    this.#messages.length = 0;
    const behind = STATE_BEHIND_INSN.exec(rest);
    this.#lastOpcodeText = behind === null ? rest : rest.slice(0, behind.index);
    const text = (behind?.[1] ?? behind?.[2] ?? '').replace(/^\d+: /, '').replace(/^frame\d+: /, '');
    const changes = registersOf(text);
    this.#path.push({ insn, frame: this.#frame, changes });
    this.#pending = changes;
  }

  /** The last insn's changes come true only once another insn follows: the failing one changes nothing. */
  #settle(): void {
    if (this.#pending === undefined) return;
    const registers = (this.#frames[this.#frame] ??= new Map<string, string>());
    if (/^call /.test(this.#lastOpcodeText)) {
      for (let register = 0; register <= 5; register++) registers.delete(`R${register}`);
    }
    for (const [name, value] of this.#pending) registers.set(name, value);
    this.#pending = undefined;
  }

  /** Into a function and out of it. */
  #follow(text: string): void {
    if (/^call pc[+-]/.test(text)) this.#frame++;
    else if (text === 'exit' && this.#frame > 0) {
      this.#frames.length = this.#frame;
      this.#frame--;
    }
    this.#lastOpcodeText = '';
  }

  #state(line: string, frame: string | undefined, registers: string): void {
    this.#settle();
    this.#lastOpcodeText = '';
    const branch = BRANCH.exec(line);
    if (branch !== null) {
      const from = this.#path.findLastIndex(({ insn }) => insn === Number(branch[1]));
      if (from >= 0) this.#path.length = from + 1;
    }
    this.#frame = frame === undefined ? 0 : Number(/\d+/.exec(frame)![0]);
    this.#frames.length = Math.min(this.#frames.length, this.#frame + 1);
    this.#frames[this.#frame] = registersOf(registers);
  }
}

/** `R1=ctx() R2_w=scalar(umax=5,var_off=(0x0; 0x7)) fp-8=mmmm????` by name, marks of liveness left out. */
function registersOf(text: string): Map<string, string> {
  const registers = new Map<string, string>();
  let depth = 0;
  let start = 0;
  const take = (end: number): void => {
    const item = /^(R\d+|fp-\d+)(?:_[rwD]+)?=(.+)$/.exec(text.slice(start, end));
    if (item !== null) registers.set(item[1]!, item[2]!.replace(/^P(?=[\d-])/, ''));
    start = end + 1;
  };
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '(') depth++;
    else if (character === ')') depth--;
    else if (character === ' ' && depth === 0) take(at);
  }
  take(text.length);
  return registers;
}
