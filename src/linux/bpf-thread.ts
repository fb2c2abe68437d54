import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import { XdpbedError, messageOf } from '../core/diagnostic.js';
import { BPF_CMD } from './bpf-layout.js';
import { BPF_SYSCALL, libc } from './libc.js';
import type { NetworkNamespace } from './network-namespace.js';
import { progLoading, type ProgramLoad, type ProgramLoadResult } from './program-calls.js';
import {
  prepareLiveFrames,
  prepareTestRun,
  type LiveFramesRun,
  type PreparedTestRun,
  type ProgramTestResult,
  type ProgramTestRun,
} from './test-run-calls.js';

export interface BpfThreadOptions {
  /** Where the thread lives: what devices an `ingress_ifindex` may name. Default: where the calling thread is. */
  readonly namespace?: NetworkNamespace | undefined;
  /** CPUs that the thread may run on; default: those of the calling thread. */
  readonly cpus?: readonly number[] | undefined;
}

/**
 * A thread of its own for bpf(2) calls that take long, so that the event loop goes on meanwhile. One call at a time:
 * others wait their turn. Opened on the main thread only.
 *
 * It is a thread rather than an asynchronous call through koffi, for three reasons: the threads that those run in are
 * in whatever network namespace the process had when they came to be; what went wrong (errno) is lost on the way; and
 * there are four of them, for all of Node's file access.
 */
export class BpfThread {
  readonly #worker: Worker;
  readonly #waiting: Call[] = [];
  #running: Call | undefined;
  #failure: Error | undefined;
  #closing: Promise<void> | undefined;

  /** Throws `host-unsupported` without koffi, or where the thread cannot be put on those CPUs. */
  static async open(options: BpfThreadOptions = {}): Promise<BpfThread> {
    const c = libc();
    // A new thread is in the namespaces of the one that makes it, and the operating system's is made at once.
    const worker =
      options.namespace === undefined ? startWorker() : options.namespace.run(() => startWorker());
    const id = await new Promise<number>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', (cause) =>
        reject(new XdpbedError('host-unsupported', `a thread for bpf(2): ${messageOf(cause)}`, { cause })),
      );
    });
    const thread = new BpfThread(worker, id);
    if (options.cpus !== undefined && c.schedSetaffinity(id, options.cpus) < 0) {
      await thread.close();
      throw new XdpbedError('host-unsupported', `no thread can run on CPUs ${options.cpus.join(', ')}`);
    }
    return thread;
  }

  private constructor(
    worker: Worker,
    /** The kernel's id of the thread. */
    readonly id: number,
  ) {
    this.#worker = worker;
    worker.on('message', (status: number) => this.#done(status));
    worker.on('error', (cause) => this.#fail(cause));
    worker.on('exit', () => this.#fail(new Error('the thread has ended')));
    worker.unref();
    listenForInterrupts(1);
  }

  /** As `progTestRun`, but EINTR is left to the caller. */
  testRun(programFd: number, run: ProgramTestRun): Promise<ProgramTestResult | number> {
    return this.#call(prepareTestRun(programFd, run));
  }

  /** As `progLiveFrames`: 0, or `-errno`; `-EINTR` after {@link interrupt}. */
  liveFrames(programFd: number, run: LiveFramesRun): Promise<number> {
    return this.#call(prepareLiveFrames(programFd, run));
  }

  /** As `progLoad`. */
  async load(program: ProgramLoad): Promise<ProgramLoadResult> {
    const loading = progLoading(program);
    let step = loading.next();
    while (step.done !== true) {
      const attr = step.value;
      const status = await this.#call({ attr, result: (returned) => returned }, BPF_CMD.BPF_PROG_LOAD);
      step = loading.next(status);
    }
    return step.value;
  }

  /**
   * Ends the call under way with `-EINTR`, unless it is over before; resolves when it is. Calls that wait are left to
   * run.
   */
  async interrupt(): Promise<void> {
    const call = this.#running;
    if (call === undefined) return;
    // A signal that comes before the thread is in the kernel interrupts nothing: hence again and again.
    const timer = setInterval(() => libc().tgkill(this.id, SIGURG), INTERRUPT_MS);
    libc().tgkill(this.id, SIGURG);
    try {
      await call.over;
    } finally {
      clearInterval(timer);
    }
  }

  /** Interrupts what runs, and ends the thread. Calls that wait are rejected. The second and later calls wait, too. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    for (const call of this.#waiting.splice(0)) call.reject(closed());
    await this.interrupt();
    await this.#worker.terminate();
    listenForInterrupts(-1);
  }

  #call<Result>(
    { attr, result }: PreparedTestRun<Result>,
    command: number = BPF_CMD.BPF_PROG_TEST_RUN,
  ): Promise<Result | number> {
    if (this.#closing !== undefined) return Promise.reject(closed());
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    let settle!: (status: number) => void;
    let reject!: (error: Error) => void;
    const status = new Promise<number>((resolve, fail) => {
      settle = resolve;
      reject = fail;
    });
    const over = status.then(
      () => undefined,
      () => undefined,
    );
    // `attr` is kept by the call, and with it all memory that the kernel was told about, until the call is over.
    this.#waiting.push({ command, attr: attr.bytes, kept: attr, settle, reject, over });
    this.#next();
    return status.then(result);
  }

  #next(): void {
    if (this.#running !== undefined) return;
    const call = this.#waiting.shift();
    if (call === undefined) {
      this.#worker.unref();
      return;
    }
    this.#running = call;
    this.#worker.ref();
    this.#worker.postMessage([call.command, libc().address(call.attr), call.attr.length]);
  }

  #done(status: number): void {
    const call = this.#running;
    this.#running = undefined;
    call?.settle(status);
    this.#next();
  }

  #fail(cause: Error): void {
    this.#failure ??= new XdpbedError('host-unsupported', `a thread for bpf(2): ${messageOf(cause)}`, {
      cause,
    });
    const calls = [...(this.#running === undefined ? [] : [this.#running]), ...this.#waiting.splice(0)];
    this.#running = undefined;
    for (const call of calls) call.reject(this.#failure);
  }
}

interface Call {
  readonly command: number;
  readonly attr: Uint8Array;
  readonly kept: unknown;
  readonly settle: (status: number) => void;
  readonly reject: (error: Error) => void;
  /** Resolves in any case. */
  readonly over: Promise<void>;
}

function closed(): Error {
  return new XdpbedError('interrupted', 'the thread for bpf(2) was closed');
}

/** Has a meaning to nobody here and is ignored unless somebody listens: then it interrupts system calls. */
const SIGURG = 23;
const INTERRUPT_MS = 2;

let threads = 0;
const onSignal = (): void => undefined;

/** A signal that nobody listens to interrupts nothing. */
function listenForInterrupts(change: 1 | -1): void {
  threads += change;
  if (change === 1 && threads === 1) process.on('SIGURG', onSignal);
  if (threads === 0) process.off('SIGURG', onSignal);
}

/**
 * What runs in the thread: it gets a command, and the address and size of a `union bpf_attr` in the memory that all threads share, and
 * answers with what the kernel returned, or `-errno`.
 */
const WORKER = `
const { parentPort, workerData } = require('node:worker_threads');
const koffi = require(workerData.koffi);
const library = koffi.load(null);
const syscall = library.func('long syscall(long number, long command, void *attr, long size)');
const gettid = library.func('int gettid()');
parentPort.on('message', ([command, attr, size]) => {
  const result = syscall(workerData.number, command, attr, size);
  parentPort.postMessage(result < 0 ? -koffi.errno() : result);
});
parentPort.postMessage(gettid());
`;

function startWorker(): Worker {
  return new Worker(WORKER, {
    eval: true,
    name: 'bpf',
    workerData: {
      koffi: createRequire(import.meta.url).resolve('koffi'),
      number: BPF_SYSCALL,
    },
  });
}
