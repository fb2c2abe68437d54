import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import type { Duplex, Readable } from 'node:stream';
import { messageOf, XdpbedError } from '../../core/diagnostic.js';
import { AgentClient, type GuestGreeting } from './agent-client.js';
import { confinement, findInPath, guestGroup } from './confinement.js';
import { GuestConsole } from './guest-console.js';
import type { GuestImage } from './guest-image.js';
import { QmpClient } from './qmp-client.js';
import { qemuArguments, type Accelerator } from './qemu-arguments.js';
import { RemoteNicDriver } from './remote-nic-driver.js';

const QEMU = 'qemu-system-x86_64';
/** Milliseconds from the start of QEMU to the agent's hello, unless it is said otherwise. */
const READY_WITHIN = 60_000;
/** Milliseconds that QEMU has to end by itself, when it is told to. */
const QUIT_WITHIN = 1000;
/** Lines of the console in a message. */
const CONSOLE_LINES = 12;

export interface GuestNic {
  /** `52:54:00:00:00:01` */
  readonly mac: string;
  /** One open file of the tap for each queue; they stay the caller's, who may close them once the guest has started. */
  readonly tapFds: readonly number[];
  /** Entries of a receive queue, a power of two from 256 to 1024. */
  readonly queueSize: number;
  /** Path of the socket of the nic's control channel (`ControlChannel.address`), which listens. */
  readonly control: string;
}

export interface StartGuestOptions {
  /** Used in messages, and in the list of processes. */
  readonly name: string;
  readonly cpus: number;
  /** At least 384, for kernel and initramfs; 512 is enough. */
  readonly memoryMiB: number;
  readonly nics: readonly GuestNic[];
  readonly image: GuestImage;
  readonly accelerator: Accelerator;
  /** File for what the guest writes to its console, at most 8 MiB. */
  readonly consoleLog?: string | undefined;
  /** Milliseconds until the agent has to be there; default 60 000: a machine that is very busy takes ten times as long. */
  readonly readyWithin?: number | undefined;
  /** Told of what would be left behind if this process were killed, as soon as it is there. */
  readonly onResource?: ((kind: 'process', id: number) => void) | undefined;
  /** Ends the guest while it starts. */
  readonly signal?: AbortSignal | undefined;
}

/** How to work with one of the guest's nics. */
export interface OpenNicOptions {
  /** Which one, in the order of `nics`. */
  readonly index: number;
  /** Name in the plan, which it gets in the guest. */
  readonly name: string;
  readonly ifindex: number;
  /** Queue pairs to use; default: what the driver takes. */
  readonly queues?: number | undefined;
  readonly hostile?: boolean | undefined;
  /** As GuestNicPlan.driverHelpers. */
  readonly driverHelpers?: readonly string[] | undefined;
  /** Negotiated feature bits of the control channel: what the device understands. */
  readonly features?: bigint | undefined;
}

/** A guest that runs, its agent at work. */
export interface RunningGuest {
  readonly name: string;
  readonly pid: number;
  readonly accelerator: Accelerator;
  readonly greeting: GuestGreeting;
  /** Milliseconds from the start of QEMU to the agent's hello. */
  readonly bootMs: number;
  readonly qmp: QmpClient;
  /** Brings a nic up and gives the driver that the core works with. */
  openNic(options: OpenNicOptions): Promise<RemoteNicDriver>;
  /** Called once when the guest dies, or breaks a rule; at once when it has. */
  onFailed(handler: (error: XdpbedError) => void): void;
  consoleTail(lines?: number): string[];
  /** Ends it: nothing of it is left when this settles. May be called at any time and more than once. */
  close(): Promise<void>;
}

/**
 * Starts a guest and waits until its agent is there. What it was given (taps, channels) is the caller's; the process is
 * gone when this throws: `host-unsupported` without QEMU, `guest-failed` with the end of the console when it did not
 * come up in time, `interrupted` when the signal fired.
 */
export async function startGuest(options: StartGuestOptions): Promise<RunningGuest> {
  const { name, nics, image, signal } = options;
  checkOptions(options);
  const qemu = findInPath(QEMU);
  if (qemu === undefined) {
    throw new XdpbedError('host-unsupported', `there is no ${QEMU} here`, {
      hint: 'apt-get install qemu-system-x86',
    });
  }
  const console = new GuestConsole(options.consoleLog);
  const channels: Socket[] = [];
  const files: number[] = [];
  let child: ChildProcess;
  const started = performance.now();
  try {
    for (const { control } of nics) channels.push(await connectTo(control, name));
    files.push(openSync(image.kernel, 'r'), openSync(image.initramfs, 'r'));
    const [words, stdio] = commandLine(qemu, options, channels, files);
    child = spawn(words[0]!, words.slice(1), {
      stdio,
      // Of the environment of whoever runs this, a guest's process needs nothing.
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
      cwd: '/',
    });
  } catch (error) {
    console.close();
    throw error;
  } finally {
    for (const fd of files) closeSync(fd);
    // QEMU has its own copy; as long as this one is open, the channel would not end with QEMU.
    for (const channel of channels) channel.destroy();
  }
  const guest = new QemuGuest(options, child, console, started);
  if (child.pid !== undefined) options.onResource?.('process', child.pid);
  const interrupt = (): void => guest.interrupt();
  signal?.addEventListener('abort', interrupt, { once: true });
  if (signal?.aborted === true) interrupt();
  try {
    await guest.ready(options.readyWithin ?? READY_WITHIN);
    return guest;
  } catch (error) {
    await guest.close();
    throw error;
  } finally {
    signal?.removeEventListener('abort', interrupt);
  }

  function checkOptions({ cpus, memoryMiB }: StartGuestOptions): void {
    const problem =
      !Number.isInteger(cpus) || cpus < 1 || cpus > 255
        ? `${cpus} CPUs`
        : !Number.isInteger(memoryMiB) || memoryMiB < 384
          ? `${memoryMiB} MiB of memory, it needs 384`
          : nics.length > 15
            ? `${nics.length} nics, 15 is the limit`
            : nics.map(nicProblem).find((each) => each !== undefined);
    if (problem !== undefined) throw new XdpbedError('host-unsupported', `guest ${name}: ${problem}`);
  }
  function nicProblem({ mac, tapFds, queueSize }: GuestNic): string | undefined {
    if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac)) return `'${mac}' is no MAC address`;
    if (tapFds.length === 0) return 'a nic without a tap';
    return [256, 512, 1024].includes(queueSize)
      ? undefined
      : `a queue of ${queueSize} entries: 256, 512 or 1024`;
  }
}

/** The words to start, and what stands behind each file descriptor. */
function commandLine(
  qemu: string,
  options: StartGuestOptions,
  channels: readonly Socket[],
  [kernel, initramfs]: readonly number[],
): [string[], ('ignore' | 'pipe' | number | Socket)[]] {
  const { image, nics, accelerator } = options;
  const stdio: ('ignore' | 'pipe' | number | Socket)[] = ['ignore', 'ignore', 'pipe'];
  const next = (what: 'pipe' | number | Socket): number => stdio.push(what) - 1;
  // 'pipe' is a pair of sockets, of which this process keeps one end.
  const fds = {
    qmp: next('pipe'),
    console: next('pipe'),
    agent: next('pipe'),
    control: channels.map(next),
    kernel: next(kernel!),
    initramfs: next(initramfs!),
    taps: nics.map(({ tapFds }) => tapFds.map(next)),
  };
  return [[...confinement(guestGroup(accelerator)), qemu, ...qemuArguments(options, image, fds)], stdio];
}

async function connectTo(path: string, guest: string): Promise<Socket> {
  // Paused from the start: it must not take anything out of the socket that is meant for the guest.
  const socket = connect(path).pause();
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', (cause) =>
      reject(
        new XdpbedError('guest-failed', `guest ${guest}: its control channel ${path}: ${cause.message}`, {
          cause,
        }),
      ),
    );
  });
  return socket;
}

class QemuGuest implements RunningGuest {
  readonly name: string;
  readonly accelerator: Accelerator;
  readonly qmp: QmpClient;
  greeting!: GuestGreeting;
  bootMs = 0;
  readonly #options: StartGuestOptions;
  readonly #child: ChildProcess;
  readonly #console: GuestConsole;
  readonly #agent: AgentClient;
  readonly #started: number;
  readonly #handlers: ((error: XdpbedError) => void)[] = [];
  /** Settles when the process is gone and its output has been read. */
  readonly #gone: Promise<void>;
  #failed: XdpbedError | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: StartGuestOptions, child: ChildProcess, console: GuestConsole, started: number) {
    const { name, accelerator } = options;
    this.#options = options;
    this.name = name;
    this.accelerator = accelerator;
    this.#child = child;
    this.#console = console;
    this.#started = started;
    const [, , complaints, qmp, serial, agent] = child.stdio as unknown as [
      null,
      null,
      Readable,
      Duplex,
      Duplex,
      Duplex,
    ];
    console.listen(complaints);
    console.listen(serial);
    this.qmp = new QmpClient(qmp);
    // That QEMU does not answer is told by whoever asks it, and by the agent.
    this.qmp.ready.catch(() => {});
    this.#agent = new AgentClient(
      agent,
      `guest ${name}`,
      (message) => this.#explain(message),
      (error) => this.#fail(error),
    );
    this.#gone = new Promise((resolve) => {
      child.once('error', (error) => {
        this.#agent.fail(`QEMU could not be started: ${messageOf(error)}`);
        resolve();
      });
      child.once('close', (code, signal) => {
        this.#agent.fail(`QEMU ended with ${signal ?? `exit code ${code}`}`);
        resolve();
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  async ready(within: number): Promise<void> {
    const timer = setTimeout(() => {
      this.#agent.fail(`its agent was not there within ${within} ms (accelerator ${this.accelerator})`);
    }, within);
    try {
      this.greeting = await this.#agent.hello;
      this.bootMs = performance.now() - this.#started;
      await this.qmp.ready;
    } finally {
      clearTimeout(timer);
    }
  }

  interrupt(): void {
    this.#failed ??= new XdpbedError('interrupted', `guest ${this.name}: interrupted while it started`);
    this.#agent.fail('interrupted while it started');
  }

  async openNic({
    index,
    name,
    ifindex,
    queues,
    hostile = false,
    driverHelpers,
    features = 0n,
  }: OpenNicOptions): Promise<RemoteNicDriver> {
    const nic = this.#options.nics[index];
    if (nic === undefined) throw new XdpbedError('internal-error', `guest ${this.name} has no nic ${index}`);
    const { mac } = nic;
    return RemoteNicDriver.open(this.#agent, {
      guest: this.name,
      name,
      index,
      mac,
      ifindex,
      queues,
      hostile,
      driverHelpers,
      features: features.toString(),
    });
  }

  onFailed(handler: (error: XdpbedError) => void): void {
    if (this.#failed !== undefined) handler(this.#failed);
    else this.#handlers.push(handler);
  }

  consoleTail(lines?: number): string[] {
    return this.#console.tail(lines);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const child = this.#child;
    this.#handlers.length = 0;
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      this.qmp.execute('quit').catch(() => {});
      const timer = setTimeout(() => child.kill('SIGKILL'), QUIT_WITHIN);
      await this.#gone;
      clearTimeout(timer);
    }
    await this.#gone;
    this.#agent.fail('it was closed');
    this.qmp.close();
    this.#console.close();
  }

  #fail(error: XdpbedError): void {
    this.#failed ??= error;
    for (const handler of this.#handlers.splice(0)) handler(this.#failed);
  }

  #explain(message: string): string {
    const tail = this.#console.lastWords(CONSOLE_LINES);
    return tail.length === 0 ? message : `${message}; its console ends with:\n  ${tail.join('\n  ')}`;
  }
}
