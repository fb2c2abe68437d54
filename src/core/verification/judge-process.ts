import { fork, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Rejection, Verification, VerifyRequest } from '../contract/verifier.js';
import { childEnvironment, compiledModule } from '../child-process-module.js';
import { XdpbedError } from '../diagnostic.js';
import { errorOfMessage } from '../failure-message.js';
import { PHASE_TIMEOUT_MS } from '../plugin/lifecycle.js';
import type { FromJudge, JudgeRecipe, ToJudge } from './judge-messages.js';
import { packProgram } from './program-message.js';

/** How much more than it was granted a verification may take until it is ended: it should end by itself. */
const GRACE = 1.05;
/** Milliseconds that a verification has to stop when nobody waits for it any more. */
const MS_TO_STOP = 200;
/** Milliseconds between looks at the time and memory that the process has taken. */
const MS_PER_LOOK = 10;
/**
 * How much longer than the CPU time that it was granted a verification may take by the wall clock: judges run only where
 * nobody else wants to, and a program is not to run out of time because of it.
 */
const WAITING = 10;
/** Signals by which V8 ends a process whose heap is full, by the way in which it comes to notice. */
const ENDED_BY_V8: ReadonlySet<unknown> = new Set(['SIGABRT', 'SIGTRAP', 'SIGILL']);

export interface JudgeLimits {
  /** Milliseconds of CPU time of one verification; by the wall clock it may take ten times as long. */
  readonly milliseconds: number;
  /** MiB that one verification may hold, beyond what the process held before its first. */
  readonly memoryMiB: number;
}

/** What came of one verification, and what it cost. */
export interface Judgement {
  readonly verification: Verification;
  /** MiB that were held at most, as far as was seen; 0 on systems without /proc. */
  readonly memoryMiB: number;
}

type Settle = { readonly answer: Verification } | { readonly error: Error };

/** A recipe that a process has, or is about to have, ready. */
interface Preparation {
  readonly id: number;
  /** The verifier's name. */
  readonly ready: Promise<string>;
  readonly resolve: (name: string) => void;
  readonly reject: (error: Error) => void;
  isReady: boolean;
  /** MiB of the process when it began. */
  readonly heldBefore: number;
}

/**
 * A process with verifiers in it, which judges one program at a time. Time and memory are bounded from outside:
 * whatever the verifier does, its verification ends in a rejection, and with it the process when it did not end by
 * itself. A process that has ended (`usable` is false) is not used again.
 *
 * A process and not a worker thread, because a thread whose heap is full takes the process down with it as soon as one
 * large allocation is what fills it, and no limit of a thread holds array buffers (docs/decisions/0014).
 */
export class JudgeProcess {
  readonly #child: ChildProcess;
  /** By recipe. */
  readonly #preparations = new Map<string, Preparation>();
  #lastId = 0;
  #settle: ((settle: Settle) => void) | undefined;
  /** Milliseconds of CPU time when the verification under way began, and its own as far as was seen. */
  #cpuBefore = 0;
  #cpuSeen = 0;
  /** MiB of the process before its first verification, and at most during the one under way. */
  #heldBefore = 0;
  #heldAtMost = 0;
  /** Why it is no more. */
  #ended: Error | undefined;
  #isStarted!: (cpuMilliseconds: number) => void;
  /**
   * Milliseconds of CPU time that it took until something was ready that it was asked for, or until it ended before that; 0 on
   * systems without /proc.
   */
  readonly started = new Promise<number>((resolve) => {
    this.#isStarted = resolve;
  });

  constructor(readonly limits: JudgeLimits) {
    const main = compiledModule(new URL('./judge-main.js', import.meta.url).href);
    this.#child = fork(fileURLToPath(main), [String(process.pid)], {
      // What a plugin prints there is not a part of anybody's output.
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      serialization: 'advanced',
      // Without helpers of V8's, collecting garbage included: a program costs no more than one core.
      execArgv: [
        `--max-old-space-size=${limits.memoryMiB}`,
        '--single-threaded-gc',
        '--v8-pool-size=0',
        '--expose-gc',
      ],
      env: childEnvironment(),
    });
    this.#child.on('message', (message: FromJudge) => this.#receive(message));
    this.#child.on('error', (error) => this.#end(error));
    this.#child.on('exit', (code, signal) => {
      this.#end(
        ENDED_BY_V8.has(signal)
          ? new Ended(
              'out-of-memory',
              `the verification filled the heap of ${limits.memoryMiB} MiB, the host's limit`,
            )
          : new Error(`${NAME} ended with ${signal ?? `exit code ${code}`}`),
      );
    });
    LIVING.add(this.#child);
    this.#child.once('exit', () => LIVING.delete(this.#child));
    this.#keepProcessAlive(false);
  }

  get usable(): boolean {
    return this.#ended === undefined;
  }

  /**
   * Milliseconds of CPU time that the last verification took, without the start of the process, however it ended, to 10 ms: of many the sum is as exact. 0 on
   * systems without /proc.
   */
  get cpuMilliseconds(): number {
    return this.#cpuSeen;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Whether it has this recipe ready, or is making it so. */
  knows(recipe: JudgeRecipe): boolean {
    return this.#preparations.has(JSON.stringify(recipe));
  }

  /** Has it make ready what the recipe says; whoever verifies waits for it, and is told what went wrong. */
  prepare(recipe: JudgeRecipe): void {
    const key = JSON.stringify(recipe);
    if (this.#preparations.has(key) || this.#ended !== undefined) return;
    const id = this.#preparations.size;
    let resolve!: (name: string) => void;
    let reject!: (error: Error) => void;
    const ready = new Promise<string>((...both) => ([resolve, reject] = both));
    const late = (): void =>
      this.#end(new XdpbedError('plugin-timeout', `${NAME} did not start within ${PHASE_TIMEOUT_MS} ms`));
    const timer = setTimeout(late, PHASE_TIMEOUT_MS).unref();
    // Until somebody verifies, a failure is nobody's.
    void ready.catch(() => undefined).then(() => clearTimeout(timer));
    const heldBefore = this.#usage()?.residentMiB ?? 0;
    this.#preparations.set(key, { id, ready, resolve, reject, isReady: false, heldBefore });
    const verifiers = recipe.verifiers.map(({ module, config }) => ({
      module: compiledModule(module),
      config,
    }));
    this.#post({ kind: 'recipe', recipeId: id, recipe: { ...recipe, verifiers } });
  }

  /**
   * Judges a program. What the limits end is a rejection, `out-of-time` or `out-of-memory`; rejects when the verifier
   * failed or when `request.signal` has fired, but only once the process is free again or gone. While it makes something ready
   * it is free: who is next waits for the same.
   */
  async verify(recipe: JudgeRecipe, request: VerifyRequest): Promise<Judgement> {
    this.#keepProcessAlive(true);
    this.#cpuSeen = 0;
    try {
      this.prepare(recipe);
      const name = await this.#readyUnless(recipe, request.signal);
      if (this.#heldBefore === 0) this.#heldBefore = this.#usage()?.residentMiB ?? 0;
      request.signal?.throwIfAborted();
      const started = performance.now();
      this.#heldAtMost = 0;
      const settled = await this.#judge(this.#preparations.get(JSON.stringify(recipe))!.id, request);
      request.signal?.throwIfAborted();
      const memoryMiB = this.#heldAtMost;
      if ('answer' in settled) return { verification: settled.answer, memoryMiB };
      const { error } = settled;
      if (!(error instanceof Ended)) throw error;
      return { verification: rejection(name, error, performance.now() - started, memoryMiB), memoryMiB };
    } finally {
      this.#keepProcessAlive(false);
    }
  }

  /** The verifier's name once all is ready that was asked for; rejects when the signal fires before. */
  async #readyUnless(recipe: JudgeRecipe, signal: AbortSignal | undefined): Promise<string> {
    if (this.#ended !== undefined) throw this.#ended;
    signal?.throwIfAborted();
    let giveUp = (): void => undefined;
    const givenUp = new Promise<never>((_, reject) => {
      giveUp = () => reject(signal!.reason as Error);
    });
    signal?.addEventListener('abort', giveUp, { once: true });
    try {
      // What is being made ready for others would count as this program's time and memory.
      const all = Promise.all([...this.#preparations.values()].map(({ ready }) => ready));
      await Promise.race([all, givenUp]);
      return await this.#preparations.get(JSON.stringify(recipe))!.ready;
    } finally {
      signal?.removeEventListener('abort', giveUp);
    }
  }

  /** Ends the process; what it is at ends in an error. */
  close(): void {
    this.#end(new XdpbedError('interrupted', `${NAME} was closed`));
  }

  async #judge(recipeId: number, request: VerifyRequest): Promise<Settle> {
    if (this.#ended !== undefined) return { error: this.#ended };
    const { milliseconds } = this.limits;
    const { program, maps, log, signal } = request;
    const id = ++this.#lastId;
    const settled = new Promise<Settle>((resolve) => {
      this.#settle = resolve;
    });
    const before = this.#usage();
    this.#cpuBefore = before?.cpuMilliseconds ?? 0;
    // Where CPU time cannot be seen, the wall clock has to do.
    const atMost = before === undefined ? milliseconds : milliseconds * WAITING;
    let timer = setTimeout(() => {
      const reason = `the verification did not end within ${atMost} ms, of which the host grants ${milliseconds} of CPU time`;
      this.#end(new Ended('out-of-time', reason));
    }, atMost * GRACE);
    const onAbort = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => this.#end(signal!.reason as Error), MS_TO_STOP);
      this.#post({ kind: 'cancel', id });
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    const looking = setInterval(() => this.#look(), MS_PER_LOOK);
    this.#post({
      kind: 'verify',
      id,
      recipeId,
      program: packProgram(program),
      maps,
      log: log === true,
      limits: this.limits,
    });
    try {
      return await settled;
    } finally {
      const usage = this.#usage();
      // Of a process that is gone there is what was seen last.
      if (usage !== undefined) this.#cpuSeen = usage.cpuMilliseconds - this.#cpuBefore;
      clearTimeout(timer);
      clearInterval(looking);
      signal?.removeEventListener('abort', onAbort);
      this.#settle = undefined;
    }
  }

  #look(): void {
    const { milliseconds, memoryMiB } = this.limits;
    const usage = this.#usage();
    if (usage === undefined) return;
    this.#cpuSeen = usage.cpuMilliseconds - this.#cpuBefore;
    this.#heldAtMost = Math.max(this.#heldAtMost, usage.residentMiB - this.#heldBefore);
    if (this.#heldAtMost > memoryMiB * GRACE) {
      const reason = `the verification held more than ${memoryMiB} MiB, the host's limit`;
      this.#end(new Ended('out-of-memory', reason));
    } else if (usage.cpuMilliseconds - this.#cpuBefore > milliseconds * GRACE) {
      const reason = `the verification took more than ${milliseconds} ms of CPU time, the host's limit`;
      this.#end(new Ended('out-of-time', reason));
    }
  }

  /** Of all threads of the process: proc(5), stat. Undefined where there is no such file. */
  #usage(): { readonly cpuMilliseconds: number; readonly residentMiB: number } | undefined {
    try {
      const stat = readFileSync(`/proc/${this.#child.pid}/stat`, 'latin1');
      // The second field is a name in brackets; utime, stime and rss are the 14th, 15th and 24th.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      const [utime, stime, pages] = [14, 15, 24].map((field) => Number(fields[field - 3]));
      return {
        cpuMilliseconds: (utime! + stime!) * MS_PER_TICK,
        residentMiB: (pages! * PAGE_BYTES) / 1024 / 1024,
      };
    } catch {
      return undefined;
    }
  }

  /** A judge that nobody waits for does not keep the process from ending; it ends itself when the channel goes. */
  #keepProcessAlive(alive: boolean): void {
    const { channel } = this.#child;
    if (alive) {
      this.#child.ref();
      channel?.ref();
    } else {
      this.#child.unref();
      channel?.unref();
    }
  }

  #post(message: ToJudge): void {
    // What goes wrong with the channel ends the process, which is told by its 'exit'.
    this.#child.send(message, () => undefined);
  }

  #receive(message: FromJudge | null | undefined): void {
    switch (message?.kind) {
      case 'ready':
        this.#noteReady(message.recipeId, message.name);
        return;
      case 'unusable':
        this.#end(errorOfMessage(message.failure));
        return;
      // One verification at a time: an answer with an older number is that of one that was given up.
      case 'verified':
        if (message.id === this.#lastId) this.#settle?.(settleOf(message.verification));
        return;
      case 'failed':
        if (message.id === this.#lastId) this.#settle?.({ error: errorOfMessage(message.failure) });
        return;
      default:
        // A plugin in there that speaks for itself.
        this.#end(new Error(`${NAME} sent what is no answer`));
    }
  }

  #noteReady(recipeId: number, name: string): void {
    const preparation = [...this.#preparations.values()].find(({ id }) => id === recipeId);
    if (preparation === undefined || preparation.isReady) return;
    preparation.isReady = true;
    this.#isStarted(this.#usage()?.cpuMilliseconds ?? 0);
    // What one more verifier takes is not the next program's.
    if (this.#heldBefore > 0) {
      const grown = (this.#usage()?.residentMiB ?? 0) - preparation.heldBefore;
      this.#heldBefore += Math.max(0, grown);
    }
    preparation.resolve(name);
  }

  /** The first reason counts. */
  #end(error: Error): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#isStarted(this.#usage()?.cpuMilliseconds ?? 0);
    const tell = (): void => {
      for (const { reject } of this.#preparations.values()) reject(error);
      this.#settle?.({ error });
    };
    const { exitCode, signalCode, pid } = this.#child;
    if (exitCode !== null || signalCode !== null || pid === undefined) {
      tell();
      return;
    }
    // Its memory and its core are free when it is gone, and not before.
    this.#child.once('exit', tell);
    this.#child.kill('SIGKILL');
  }
}

const NAME = "a verifier's process";

/** None is left behind by a process that does not wait for the end of what is under way. */
const LIVING = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of LIVING) child.kill('SIGKILL');
});

/** Of every Linux that Node runs on but a few arm64 ones, where the limits are then kept too early. */
const PAGE_BYTES = 4096;
/** USER_HZ of every Linux that Node runs on is 100. */
const MS_PER_TICK = 10;

class Ended extends Error {
  constructor(
    readonly code: 'out-of-time' | 'out-of-memory',
    message: string,
  ) {
    super(message);
  }
}

function rejection(verifier: string, ended: Ended, milliseconds: number, memoryMiB: number): Rejection {
  return {
    accepted: false,
    verifier,
    code: ended.code,
    reason: ended.message,
    // What it had done until then went with it.
    statistics: { processedInsns: 0, peakStates: 0, totalStates: 0, milliseconds, memoryMiB },
  };
}

/** What a verifier calls a verification need not be one. */
function settleOf(verification: unknown): Settle {
  const accepted = (verification as { accepted?: unknown } | null | undefined)?.accepted;
  return typeof accepted === 'boolean'
    ? { answer: verification as Verification }
    : { error: new Error('the verifier gave something that is no verification') };
}
