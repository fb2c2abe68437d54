import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, watch, writeFileSync } from 'node:fs';
import { constants, setPriority, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { compiledModule } from '../../src/core/child-process-module.js';
import { randomStream } from '../../src/core/run/random.js';
import { endRun, prune, readLedgers } from '../../src/linux/index.js';
import { leftBehind, ledgerFiles, machineState, processesWith, type MachineState } from './machine.js';

/**
 * What is killed: a command under way, or the process that holds a run (`held`) after `up`. In every second run that is
 * taken down a command of `exec` is at work.
 */
export const VICTIMS = ['run', 'measure', 'up', 'held', 'exec', 'down'] as const;
export type Victim = (typeof VICTIMS)[number];
type Command = Exclude<Victim, 'held'>;
/** What `exec` runs: it does not end, and leaves another behind that does not, either. */
const ENDLESS = ['sh', '-c', '(setsid sleep 600 &); exec sleep 600'];

export interface Kill {
  readonly index: number;
  readonly victim: Victim;
  /** When it came, for a person: milliseconds after the ledger was there, or after the start. */
  readonly moment: string;
  /** Whether the command had ended by then. */
  readonly tooLate: boolean;
  /** Whether there was anything to prune. */
  readonly pruned: number;
  /** What was there afterwards that must not be. */
  readonly problems: readonly string[];
}

export interface CampaignOptions {
  readonly kills: number;
  readonly seed: bigint;
  /** Folder of `testbeds/programs`. */
  readonly programs: string;
  readonly onKill?: ((kill: Kill) => void) | undefined;
}

/** Milliseconds in which what a killed process had must be gone: its children, and what the kernel takes down later. */
const GONE_MS = 5000;
/**
 * The same where nothing but objects of BPF is there. They have no mark, and a map of somebody else's of which a program alone
 * knows looks like nobody's; but that goes some time, and what is left behind does not.
 */
const OBJECTS_GONE_MS = 60_000;
/** Milliseconds between looks at whether the ledger is there. */
const LOOK_MS = 1;
/** Milliseconds that a command gets to end. */
const COMMAND_MS = 120_000;

/**
 * Kills processes of xdpbed with SIGKILL at moments drawn from a seed, removes what they have left, and looks whether the
 * machine is as it was. Which moment of the command's work that is depends on the machine; the draws do not.
 */
export async function crashCampaign(options: CampaignOptions): Promise<Kill[]> {
  const campaign = new Campaign(options);
  try {
    return await campaign.run();
  } finally {
    await campaign.close();
  }
}

class Campaign {
  readonly #options: CampaignOptions;
  readonly #folder = mkdtempSync(join(tmpdir(), 'xdpbed-crash-'));
  readonly #state = join(this.#folder, 'state');
  /** In the environment of every process of the campaign, whoever started it. */
  readonly #token = `xdpbed-crash-${randomBytes(8).toString('hex')}`;
  readonly #main = fileURLToPath(compiledModule(new URL('../../src/cli/main.js', import.meta.url).href));
  readonly #before: MachineState = machineState();
  /** Names of all runs that ever had a ledger. */
  readonly #runs = new Set<string>();
  readonly #random: () => number;
  /** Milliseconds that a command takes from its start to its ledger, and from there to its end. */
  readonly #durations = new Map<Command, { readonly toLedger: number; readonly toEnd: number }>();

  constructor(options: CampaignOptions) {
    this.#options = options;
    this.#random = randomStream(options.seed, 'crash');
    mkdirSync(this.#state, { mode: 0o700 });
    for (const measured of [false, true])
      writeFileSync(this.#testbed(measured), text(options.programs, measured));
  }

  async run(): Promise<Kill[]> {
    const watcher = watch(this.#state, (_, name) => {
      const run = /^(xb[0-9a-f]{8})\.ledger$/.exec(name ?? '')?.[1];
      if (run !== undefined) this.#runs.add(run);
    });
    try {
      for (const victim of ['run', 'measure', 'up', 'exec', 'down'] as const) {
        this.#durations.set(victim, await this.#timed(victim));
      }
      const kills: Kill[] = [];
      for (let index = 0; index < this.#options.kills; index++) {
        const kill = await this.#kill(index, VICTIMS[index % VICTIMS.length]!);
        kills.push(kill);
        this.#options.onKill?.(kill);
      }
      return kills;
    } finally {
      watcher.close();
    }
  }

  async close(): Promise<void> {
    for (const ledger of readLedgers(this.#state)) await endRun(ledger, GONE_MS, this.#state);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** One that is not killed, to know how long it takes. */
  async #timed(victim: Command): Promise<{ toLedger: number; toEnd: number }> {
    const isOfRun = victim === 'exec' || victim === 'down';
    if (isOfRun) await this.#finish(this.#start('up'));
    const start = performance.now();
    const child = victim === 'exec' ? this.#exec(['true']) : this.#start(victim);
    let ledger = start;
    if (!isOfRun) {
      await this.#ledgerOf(child);
      ledger = performance.now();
    }
    const exit = await this.#finish(child);
    if (exit !== 0) throw new Error(`${victim} ends with ${exit} when nobody kills it`);
    const end = performance.now();
    if (victim === 'up' || victim === 'exec') await this.#finish(this.#start('down'));
    return { toLedger: ledger - start, toEnd: end - ledger };
  }

  async #kill(index: number, victim: Victim): Promise<Kill> {
    const [whereFrom, at, both] = [this.#draw(), this.#draw(), this.#draw()];
    let tooLate = false;
    let moment: string;
    if (victim === 'held') {
      await this.#finish(this.#start('up'));
      moment = `${Math.round(at * 50)} ms after it was up`;
      await sleep(at * 50);
      this.#killHolders();
    } else {
      const isOfRun = victim === 'exec' || victim === 'down';
      if (isOfRun) await this.#finish(this.#start('up'));
      if (victim === 'down' && whereFrom < 0.5) await this.#occupy();
      const child = victim === 'exec' ? this.#exec(ENDLESS) : this.#start(victim);
      const { toLedger, toEnd } = this.#durations.get(victim)!;
      // Before there is a ledger Node starts and the testbed is read: few moments of these are worth a kill.
      const fromLedger = !isOfRun && whereFrom < 0.85;
      if (fromLedger) await this.#ledgerOf(child);
      const ms = at * (fromLedger ? toEnd : toLedger + toEnd);
      moment = `${Math.round(ms)} ms after ${fromLedger ? 'the ledger' : 'the start'}`;
      await Promise.race([sleep(ms), ended(child)]);
      tooLate = isOver(child);
      child.kill('SIGKILL');
      if ((isOfRun || victim === 'up') && both < 0.5) {
        this.#killHolders();
        moment += ', its holder too';
      }
      await ended(child);
    }
    const { pruned, failures } = await this.#cleanUp();
    const problems = [...failures, ...(await this.#problems())];
    return { index, victim, moment, tooLate, pruned, problems };
  }

  /** What a person does: `prune`, and `down` of what is up. */
  async #cleanUp(): Promise<{ pruned: number; failures: string[] }> {
    const ended = await prune(this.#state);
    const pruned = ended.length;
    // The rest is on its way up or down, or up.
    for (const ledger of readLedgers(this.#state)) {
      const held = ledger.note.held === true;
      if (held || !(await this.#goesByItself(ledger.run)))
        ended.push(await endRun(ledger, COMMAND_MS, this.#state));
    }
    ended.push(...(await prune(this.#state)));
    const failures = ended.flatMap(({ left }) =>
      left.map(({ resource: { kind, id }, reason }) => `${kind} ${id} stays: ${reason}`),
    );
    return { pruned, failures };
  }

  /** A run whose `up` was killed before it heard of it ends without being told to. */
  async #goesByItself(run: string): Promise<boolean> {
    for (const until = performance.now() + GONE_MS; performance.now() < until;) {
      const ledger = readLedgers(this.#state).find((each) => each.run === run);
      if (ledger === undefined || !ledger.alive) return true;
      if (ledger.note.held === true) return false;
      await sleep(20);
    }
    return false;
  }

  /**
   * Empty as soon as nothing is left, or what is still there after a while. What is somebody else's comes and goes meanwhile,
   * and looks like nobody's when it goes between the list of objects and that of who has them: it is not there each time.
   */
  async #problems(): Promise<string[]> {
    let lasting: string[] | undefined;
    for (const start = performance.now(); ;) {
      const now = [
        ...leftBehind(this.#before, this.#runs),
        ...processesWith(this.#token).map((pid) => `process ${pid}`),
        ...ledgerFiles(this.#state).map((name) => `file ${name}`),
      ];
      lasting = lasting?.filter((problem) => now.includes(problem)) ?? now;
      const isObjects = lasting.every((problem) => /^(program|map|link) /.test(problem));
      if (lasting.length === 0 || performance.now() - start > (isObjects ? OBJECTS_GONE_MS : GONE_MS))
        return lasting;
      await sleep(20);
    }
  }

  /** From 0 up to 1. */
  #draw(): number {
    return this.#random() / 2 ** 32;
  }

  #killHolders(): void {
    for (const { alive, pid } of readLedgers(this.#state)) {
      if (!alive) continue;
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended meanwhile.
      }
    }
  }

  /** `exec` in the run that is up; of its command the first output is read, the rest is not. */
  #exec(command: readonly string[], output: 'ignore' | 'pipe' = 'ignore'): ChildProcess {
    const run = readLedgers(this.#state)[0]?.run ?? 'none';
    return this.#spawn(['exec', run, 'wire', '--', ...command], output);
  }

  /** Has a command at work in the run that is up. */
  async #occupy(): Promise<void> {
    const child = this.#exec(['sh', '-c', `echo in; ${ENDLESS[2]}`], 'pipe');
    await Promise.race([ended(child), once(child.stdout!, 'data')]);
    if (isOver(child)) throw new Error(`exec ends with ${child.exitCode} when nobody kills it`);
    child.stdout!.destroy();
    child.unref();
  }

  #start(victim: 'run' | 'measure' | 'up' | 'down' | 'held'): ChildProcess {
    const words = {
      run: ['run', this.#testbed(false), '--format', 'json'],
      measure: ['run', this.#testbed(true), '--format', 'json'],
      up: ['up', this.#testbed(false)],
      held: ['up', this.#testbed(false)],
      down: ['down', '--all'],
    }[victim];
    return this.#spawn(words);
  }

  #spawn(words: readonly string[], output: 'ignore' | 'pipe' = 'ignore'): ChildProcess {
    const child = spawn(process.execPath, [this.#main, ...words], {
      stdio: ['ignore', output, 'ignore'],
      env: { ...process.env, XDPBED_STATE: this.#state, XDPBED_CRASH: this.#token },
    });
    if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_BELOW_NORMAL);
    return child;
  }

  async #finish(child: ChildProcess): Promise<number | null> {
    await Promise.race([ended(child), sleep(COMMAND_MS, undefined, { ref: false })]);
    if (!isOver(child)) {
      child.kill('SIGKILL');
      throw new Error(`${child.spawnargs.slice(2).join(' ')} does not end within ${COMMAND_MS} ms`);
    }
    return child.exitCode;
  }

  async #ledgerOf(child: ChildProcess): Promise<void> {
    while (!isOver(child) && !ledgerFiles(this.#state).some((name) => name.endsWith('.ledger')))
      await sleep(LOOK_MS);
  }

  #testbed(measured: boolean): string {
    return join(this.#folder, measured ? 'measured.testbed.yaml' : 'small.testbed.yaml');
  }
}

function isOver({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

async function ended(child: ChildProcess): Promise<void> {
  if (isOver(child)) return;
  await new Promise((resolve) => child.once('exit', resolve));
}

function text(programs: string, measured: boolean): string {
  return `version: 1
name: crash
plugins: { fabric: { use: linux } }
programs:
  xdp1: { object: ${join(programs, 'xdp1.o')} }
  to-tap:
    object: ${join(programs, 'xdp_redirect.o')}
    maps:
      fdb: [{ key: { mac: g0.eth0 }, value: 0 }]
      tx_port: [{ key: 0, value: { ifindex: tap0 } }]
host:
  case: redirect
  nics: { eth0: { mac: 52:54:00:00:00:01, program: to-tap } }
  taps: { tap0: {} }
guests:
  g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: xdp1, placement: ${measured ? 'guest' : 'host'} } } }
workload: { use: udp-flood, config: { frames: 100 } }
${measured ? 'measure: { seconds: 0.1, samples: 3, warm-up: 0.05 }' : ''}
`;
}
