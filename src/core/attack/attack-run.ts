import { INVARIANTS, type Attack, type HostileGuest, type Invariant } from '../contract/attack.js';
import type { SteeredClock } from '../contract/clock.js';
import type { DeviceInspection, HostAccounts } from '../contract/device.js';
import type { AttackResult } from '../contract/result.js';
import type { CommandTurns } from '../offload/command-turns.js';
import type { NicSession } from '../offload/nic-session.js';
import { XdpbedError } from '../diagnostic.js';
import { NeighbourProbe } from './neighbour-probe.js';

/** Bytes that the host may hold for one guest: maps, and commands that are under way. */
export const MEMORY_BOUND = 16 * 1024 * 1024;
/** Maps and programs that it may hold for one guest. */
export const OBJECT_BOUND = 256;
/** Handles and pins that it may have: what a device has room for, 4096 and 1024, and some. */
export const NAME_BOUND = 6144;
/** Bytes of a log that one guest may have a device write. */
export const LOG_BOUND = 256 * 1024;
/** How many times its p99 alone a neighbour's may be; less than. */
export const LATENCY_BOUND = 2;

/** What is said of one invariant at most. */
const MAX_SAID = 200;

export interface AttackRunOptions {
  readonly attack: Attack;
  readonly attacker: NicSession;
  readonly neighbour: NicSession;
  readonly accounts: HostAccounts;
  readonly turns: CommandTurns;
  /** Undefined where the run's time is the machine's. */
  readonly clock: SteeredClock | undefined;
  readonly random: () => number;
  /** The bytes of a file of the run. */
  readonly object: (file: string) => Uint8Array;
  /** Records that are kept of a guest: audit and rulings. */
  readonly recordsOf: (guest: string) => number;
  /** Of these, as many as may be kept. */
  readonly recordLimit: number;
}

/**
 * One attack and the host's judge. The judge looks before and after, at the host's side: what the device has, what is charged,
 * how the neighbour fares. What only the guest can see, the attack reports. What the device says to guests is no evidence.
 */
export class AttackRun {
  readonly #options: AttackRunOptions;
  readonly #neighbour: NeighbourProbe;
  readonly #broken = new Map<Invariant, string>();
  #before: DeviceInspection | undefined;
  /** Bytes of the host's party on behalf of the attacker. */
  #memoryBefore: number | undefined;
  #done = '';

  constructor(options: AttackRunOptions) {
    this.#options = options;
    const { neighbour, turns, clock } = options;
    const { node, protocol, localDriver } = neighbour;
    this.#neighbour = new NeighbourProbe({
      node,
      protocol,
      control: localDriver.control,
      turns,
      clock,
      turn,
    });
  }

  /** Before there is traffic. */
  async run(): Promise<void> {
    const { attack, attacker } = this.#options;
    if (attacker.localDriver.reset === undefined) {
      throw new XdpbedError('host-unsupported', `${attacker.node}: this fabric's devices cannot be reset`, {
        hint: 'attacks need fabric model',
      });
    }
    await this.#neighbour.begin();
    this.#before = attacker.inspect();
    this.#memoryBefore = attacker.hostMemoryUsed;
    await attack.run(this.#guest());
    await this.#neighbour.ask();
    this.#look();
  }

  /** When the traffic is over. The attacker's device is reset. */
  async judge(): Promise<AttackResult> {
    const { attack, attacker } = this.#options;
    if (attack.aims.includes('every-queue')) {
      const verdicts = await attacker.offloadCounters();
      const passed = verdicts?.XDP_PASS ?? 0;
      const dropped = verdicts?.XDP_DROP ?? 0;
      if (passed > 0) this.#break('every-queue', `${passed} frames passed by a program that drops all`);
      if (dropped === 0) this.#break('every-queue', 'no frame met the program');
    }
    await this.#neighbour.ask();
    await this.#reset();
    for (const what of this.#neighbour.untouched) this.#break('neighbour-untouched', what);
    for (const what of this.#neighbour.served) this.#break('neighbour-served', what);
    this.#judgeLatency();
    const broken = (Object.keys(INVARIANTS) as Invariant[]).filter((invariant) =>
      this.#broken.has(invariant),
    );
    return {
      node: attacker.node,
      attack: attack.attack,
      device: attacker.deviceName,
      held: broken.length === 0,
      aims: [...attack.aims],
      broken: broken.map((invariant) => ({ invariant, what: this.#broken.get(invariant)! })),
      detail: this.#done,
    };
  }

  /** Device reset, and a look whether anything is left. */
  async #reset(): Promise<void> {
    const { attacker } = this.#options;
    await attacker.reset();
    const { held } = attacker.inspect();
    if (held.maps + held.programs > 0 || attacker.isOffloaded) {
      const inPlace = attacker.isOffloaded ? ', and a program is in its place' : '';
      this.#break('reset-frees', `after a reset the host holds ${things(held)}${inPlace}`);
    }
    // What is not in any table any more may still be there.
    const left = (attacker.hostMemoryUsed ?? 0) - (this.#memoryBefore ?? 0);
    if (left > 0)
      this.#break('reset-frees', `after a reset ${left} bytes of the host's memory are still taken`);
  }

  #judgeLatency(): void {
    const { latency } = this.#neighbour;
    if (latency === undefined) return;
    const { alone, disturbed } = latency;
    const what = `p99 of the neighbour ${us(alone)} alone, ${us(disturbed)} beside the attacker`;
    this.#done += `${this.#done === '' ? '' : '; '}${what}`;
    if (disturbed >= LATENCY_BOUND * alone) this.#break('neighbour-latency', what);
  }

  #look(): void {
    const { attacker, accounts, recordsOf, recordLimit } = this.#options;
    const before = this.#before!;
    const after = attacker.inspect();
    for (const [name, state] of before.belongings) {
      const now = after.belongings.get(name) ?? 'gone';
      if (now !== state) this.#break('belongings-intact', `${name}: ${state}, then ${now}`);
    }
    const strays = after.strayAccesses.slice(before.strayAccesses.length);
    for (const stray of strays) this.#break('no-stray-access', stray);
    const { btfMemory = 0, names = 0 } = after.held;
    const bytes = after.held.mapMemory + btfMemory + Math.max(0, after.peakCommandBytes);
    if (bytes > MEMORY_BOUND) this.#break('memory-bounded', `${bytes} bytes, the bound is ${MEMORY_BOUND}`);
    const objects = after.held.maps + after.held.programs;
    if (objects > OBJECT_BOUND) {
      this.#break('memory-bounded', `${objects} maps and programs, the bound is ${OBJECT_BOUND}`);
    }
    if (names > NAME_BOUND) {
      this.#break('memory-bounded', `${names} handles and pins, the bound is ${NAME_BOUND}`);
    }
    const logged = after.logBytes - before.logBytes;
    if (logged > LOG_BOUND) this.#break('log-bounded', `${logged} bytes of log, the bound is ${LOG_BOUND}`);
    const records = recordsOf(attacker.guest);
    if (records > recordLimit) this.#break('log-bounded', `${records} records, the bound is ${recordLimit}`);
    const charged = accounts.usageOf(attacker.guest);
    const { maps, programs } = charged;
    if (
      maps !== after.held.maps ||
      programs !== after.held.programs ||
      charged.mapMemory !== after.held.mapMemory ||
      charged.btfMemory !== btfMemory
    ) {
      this.#break(
        'accounts-exact',
        `${things(after.held)} are held, ${things({ maps, programs })} charged for`,
      );
    }
  }

  #guest(): HostileGuest {
    const { attacker, random, object } = this.#options;
    const { control, ring } = attacker.localDriver;
    return {
      node: attacker.node,
      queuePairs: attacker.queuePairs,
      control,
      ring,
      random,
      neighbour: this.#neighbour,
      reset: () => this.#reset(),
      offload: ({ file, function: name }) => attacker.offload(file, name, object(file)),
      turn,
      saw: (invariant, what) => this.#break(invariant, what),
      did: (what) => (this.#done = what),
    };
  }

  #break(invariant: Invariant, what: string): void {
    const said = this.#broken.get(invariant);
    if (said === undefined) this.#broken.set(invariant, what);
    else if (said !== what && said.length < MAX_SAID) this.#broken.set(invariant, `${said}; ${what}`);
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function things({ maps, programs }: Pick<DeviceInspection['held'], 'maps' | 'programs'>): string {
  const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? '' : 's'}`;
  return `${count(maps, 'map')} and ${count(programs, 'program')}`;
}

function us(ns: number): string {
  return `${(ns / 1000).toFixed(1)} µs`;
}
