import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, mkdir, mkdtemp, open, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { XdpbedError } from '../../src/core/diagnostic.js';
import { confinement, processStart, type Ledger, type TapDevice } from '../../src/linux/index.js';
import { TAP_READER_SOURCE } from './tap-reader-source.js';

const run = promisify(execFile);
/** Tried in this order. */
const COMPILERS = ['cc', 'clang', 'gcc'];
/** The child's first file descriptor behind its three standard ones. */
const FIRST_FD = 3;
/** Of the program: whoever has it open may run it. Its folder is the user's own. */
const EXECUTABLE = 0o755;
/** Milliseconds that the reader gets to answer. */
const ANSWER_MS = 5000;

/**
 * What the reader does with each frame: nothing, write it back, or, of UDP over IPv4, write it back as an answer. That is
 * to who sent it, by addresses of both layers and by ports; others it then drops.
 */
export type TapReaderWork = 'drop' | 'bounce' | 'answer';

export interface TapReaderCounts {
  readonly read: number;
  readonly written: number;
  readonly failed: number;
}

/**
 * A process that reads a tap in the stead of a guest, as fast as can be. It takes what comes from outside, and has the tap's
 * files, its three standard ones and nothing else of the machine: no user, no capabilities, no network.
 */
export class TapReader {
  readonly #child: ChildProcess;
  readonly #id: string;
  readonly #waiting: {
    readonly resolve: (counts: TapReaderCounts) => void;
    readonly reject: (error: Error) => void;
  }[] = [];
  readonly #ended: Promise<void>;

  private constructor(child: ChildProcess, ledger: Ledger) {
    this.#child = child;
    this.#id = `${child.pid} ${processStart(child.pid!)}`;
    ledger.add('process', this.#id);
    createInterface({ input: child.stdout! }).on('line', (line) => {
      const [read = 0, written = 0, failed = 0] = line.split(' ').map(Number);
      this.#waiting.shift()?.resolve({ read, written, failed });
    });
    child.stdin!.on('error', () => undefined);
    this.#ended = new Promise((resolve) => {
      child.on('exit', () => {
        const error = new XdpbedError('plugin-failed', 'the reader of the tap has ended');
        for (const { reject } of this.#waiting.splice(0)) reject(error);
        ledger.strike('process', this.#id);
        resolve();
      });
    });
  }

  /** Undefined where there is no compiler: then there is no such reader. */
  static async start(
    tap: TapDevice,
    work: TapReaderWork,
    cpu: number | undefined,
    ledger: Ledger,
  ): Promise<TapReader | undefined> {
    const program = await buildTapReader();
    if (program === undefined) return undefined;
    const fds = tap.fds.map((_, index) => String(FIRST_FD + index));
    // By its open file: who is nobody by then cannot look for it in a user's folder.
    const file = await open(program, 'r');
    try {
      const path = `/proc/self/fd/${FIRST_FD + fds.length}`;
      const [command, ...words] = [...confinement(), path, work, String(cpu ?? -1), ...fds];
      const child = spawn(command!, words, {
        stdio: ['pipe', 'pipe', 'ignore', ...tap.fds, file.fd],
        env: {},
        cwd: '/',
      });
      await new Promise<void>((resolve, reject) => {
        child.once('spawn', resolve);
        child.once('error', reject);
      });
      return new TapReader(child, ledger);
    } finally {
      await file.close();
    }
  }

  counts(): Promise<TapReaderCounts> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
      return Promise.reject(new XdpbedError('plugin-failed', 'the reader of the tap has ended'));
    }
    return new Promise((resolve, reject) => {
      const late = setTimeout(
        () =>
          reject(new XdpbedError('plugin-failed', `the reader of the tap did not answer in ${ANSWER_MS} ms`)),
        ANSWER_MS,
      );
      const waiting = {
        resolve: (counts: TapReaderCounts) => {
          clearTimeout(late);
          resolve(counts);
        },
        reject: (error: Error) => {
          clearTimeout(late);
          reject(error);
        },
      };
      this.#waiting.push(waiting);
      this.#child.stdin!.write('\n');
    });
  }

  async close(): Promise<void> {
    this.#child.stdin?.end();
    this.#child.kill('SIGKILL');
    await this.#ended;
  }
}

let built: Promise<string | undefined> | undefined;

/** Path of the reader, compiled when it is first needed and kept in the user's cache. */
export function buildTapReader(): Promise<string | undefined> {
  built ??= build();
  return built;
}

async function build(): Promise<string | undefined> {
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'xdpbed');
  const hash = createHash('sha256').update(TAP_READER_SOURCE).digest('hex').slice(0, 16);
  const program = join(cache, `tap-reader-${hash}`);
  if (
    await chmod(program, EXECUTABLE).then(
      () => true,
      () => false,
    )
  )
    return program;
  await mkdir(cache, { recursive: true, mode: 0o700 });
  const folder = await mkdtemp(join(cache, 'build-'));
  try {
    await writeFile(join(folder, 'tap-reader.c'), TAP_READER_SOURCE);
    for (const compiler of COMPILERS) {
      const made = await run(compiler, ['-O2', '-pthread', '-o', 'tap-reader', 'tap-reader.c'], {
        cwd: folder,
      }).then(
        () => true,
        () => false,
      );
      if (!made) continue;
      await chmod(join(folder, 'tap-reader'), EXECUTABLE);
      // Two that build it at the same time make the same.
      await rename(join(folder, 'tap-reader'), program);
      return program;
    }
    return undefined;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
