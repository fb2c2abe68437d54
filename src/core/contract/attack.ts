import type { Picoseconds } from './clock.js';
import type { ControlClient, ControlRing } from './transport.js';
import { token } from './injection.js';

/**
 * What must hold whatever a guest sends, in words. The host's judge looks at all of it after every attack; where only the
 * guest can see it (what it was told, what it could read), the attack says so (`HostileGuest.saw`).
 */
export const INVARIANTS = {
  'belongings-intact': 'nothing of the host’s or of another guest’s was closed, read or changed',
  'neighbour-untouched': 'what another guest has on the host is as it left it',
  'neighbour-served':
    'another guest is answered rightly, and does not wait for what the attacker has asked for',
  'neighbour-latency': 'another guest’s p99 is less than twice that of when it is alone',
  'no-stray-access': 'the device reads and writes nothing beyond what it has allocated for the command',
  'command-untouched': 'the device writes nothing into device-readable memory',
  'no-leak': 'the guest gets no bytes that are not its own',
  refused: 'what a guest may not ask for is refused',
  'truly-answered': 'what is done is acknowledged, and what is not acknowledged is not done',
  'one-answer': 'each command that is made available is answered once, or the link is down',
  'memory-bounded': 'what the host holds for the guest, maps and commands under way, stays within bounds',
  'log-bounded': 'what is written down of the guest’s faults stays within bounds',
  'accounts-exact': 'what the host holds for the guest is what the guest is charged for',
  'reset-frees': 'after a device reset nothing of the guest’s is held and nothing is in place',
  'every-queue': 'a program meets the frames of every queue',
  'link-state': 'the link is down when the guest broke a rule of it, and else up',
} as const;
export type Invariant = keyof typeof INVARIANTS;

/** Role `attack`: what a hostile guest does with its nic, by raw commands and a raw ring. */
export interface Attack {
  readonly name: string;
  /** Which of the plugin's attacks it is: `double-fetch`. */
  readonly attack: string;
  /**
   * What it goes for: against a device that has the fault which it exploits, one of these does not hold. Against one
   * that a host would use, all of INVARIANTS hold.
   */
  readonly aims: readonly Invariant[];
  /** Carries it out. What the device refuses is no failure; what this throws ends the run. */
  run(guest: HostileGuest): Promise<void>;
}

/** A guest's nic as the attacker has it, and its neighbour, that it may watch suffer. */
export interface HostileGuest {
  /** `mallory.eth0` */
  readonly node: string;
  readonly queuePairs: number;
  /** Commands as bytes, one after the other, as a driver sends them. */
  readonly control: ControlClient;
  /** The control queue in the guest's memory; undefined where it is not in this process. */
  readonly ring: ControlRing | undefined;
  /** Drawn from the run's seed. */
  readonly random: () => number;
  readonly neighbour: Neighbour;
  /** Device reset: the guest writes 0 to the device's status. Settles when the device says that it is done. */
  reset(): Promise<void>;
  /** Has the guest's kernel send an object's program to the device without looking at it. Undefined when it was taken. */
  offload(object: { readonly file: string; readonly function: string }): Promise<string | undefined>;
  /** A turn of the event loop: whoever has something to do, does it. */
  turn(): Promise<void>;
  /** Says that the guest saw something that breaks an invariant. */
  saw(invariant: Invariant, what: string): void;
  /** Says for the result what was done, in a few words. */
  did(what: string): void;
}

/** Another guest, which is honest: it has a map on the device and reads it. */
export interface Neighbour {
  /**
   * Reads an element and looks whether it is what it put there; settles when it is answered.
   *
   * @param before what must not be over before the answer comes: who waits for it has waited too long.
   */
  ask(before?: Promise<unknown>): Promise<void>;
  /**
   * Asks in virtual time, in which each command takes its time on the device's thread, and keeps what is waited for.
   * Throws `host-unsupported` where the run's time is not virtual.
   *
   * @param alone whether this is what the neighbour is used to, or what the attacker makes of it
   * @param onTurn called whenever a command was carried out
   */
  askInTime(alone: boolean, duration: Picoseconds, onTurn?: () => void): Promise<void>;
}

export const ATTACK = token<Attack>('attack');
