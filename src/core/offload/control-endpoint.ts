import { EAGAIN, EBUSY } from '../../bpf/errno.js';
import { HELPER_NAMES } from '../../bpf/helper-ids.js';
import {
  CONTROL_HEADER_BYTES,
  controlCommandName,
  decodeControlCommand,
  encodeAck,
  featureName,
  hasFeature,
  VIRTIO_NET_CTRL_BPF,
  VIRTIO_NET_CTRL_EBPF,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_VQ_NOTF_COAL,
  VIRTIO_NET_OK,
} from '../../virtio/index.js';
import { messageOf } from '../diagnostic.js';
import type { DeviceEvents, HeldObjects, MoveReport } from '../contract/device.js';
import type { LoadedProgram } from '../contract/executor.js';
import type { HostUsage } from '../contract/policy.js';
import type { AuditRecord, RulingRecord } from '../contract/result.js';
import type { DeviceObject } from './device-object.js';
import { GuestBpf } from './guest-bpf.js';
import { describeHeld } from './held-objects.js';
import {
  DEFAULT_GUEST_BPF_LIMITS,
  OFFLOADABLE_MAP_TYPES,
  RFC_2019_MAP_TYPES,
  type GuestBpfLimits,
  type GuestBpfOptions,
} from './guest-bpf-options.js';
import { admitByChain, grantsOf, isAdmitting, type AdmittingPolicy } from './policy-chain.js';
import { ALL_COMMANDS, commandName } from './protocol/bpf-offload/wire.js';
import { bitSet, PROGRAM_FEATURE, type DeviceCapabilities } from './protocol/capabilities.js';
import { type BpfRequest, type ControlProtocol, type RequestLimits } from './protocol/control-protocol.js';
import { PreparedMove } from './migration/move.js';
import { HOOK_POINT } from './protocol/object-info.js';
import { protocolOf } from './protocol/protocol-of.js';
import { recordedText } from './recorded-text.js';
import { denied, internal, malformed, STALE, unsupported, type Outcome, type Refusal } from './refusal.js';
import { standardCommand } from './standard-commands.js';

export interface EndpointLimits extends RequestLimits, GuestBpfLimits {
  /** Commands that may wait while another is under way; a real control queue holds no more than its size. */
  readonly maxPendingCommands: number;
}

export const DEFAULT_MAX_PENDING_COMMANDS = 256;

/** Names under which commands are counted, well above what there is in any protocol; all others are one. */
const MOST_COMMAND_NAMES = 256;
const OTHER_COMMANDS = 'other commands';

export interface ControlEndpointOptions extends Omit<
  GuestBpfOptions,
  'limits' | 'onRuling' | 'onFailure' | 'capabilities' | 'answered'
> {
  readonly events: DeviceEvents;
  /** Negotiated feature bits: they decide which commands exist. */
  readonly features: bigint;
  /** The most that the guest may ask to use. */
  readonly queuePairs: number;
  /** Default: what the features say. */
  readonly protocol?: ControlProtocol | undefined;
  readonly limits?: Partial<EndpointLimits> | undefined;
}

/** The host that a guest goes to. */
export type MoveTarget = Pick<ControlEndpointOptions, 'party' | 'policies' | 'accounts'>;

/** A guest that is ready to go: see {@link PreparedMove}. */
export interface EndpointMove {
  copy(): boolean;
  commit(): void;
  finish(): Promise<MoveReport | Refusal>;
  abort(): Promise<void>;
}

/** What a device did, for results. */
export interface DeviceStatistics {
  /**
   * Control commands by name; one that could not be decoded counts under its class and command, or, when there are many
   * such, as `other commands`.
   */
  readonly commands: Readonly<Record<string, number>>;
  readonly acks: { readonly ok: number; readonly err: number };
  /** Why commands ended in VIRTIO_NET_ERR; the sum is `acks.err`. */
  readonly refusals: Readonly<Record<Refusal['kind'], number>>;
}

/**
 * The host's end of one guest nic's control queue: takes what the guest sends and answers it.
 *
 * Everything the guest sends is hostile. A command has been copied once before it comes here; it is decoded once, and
 * strictly, and carried out by the guest's BPF. Whatever is wrong with it ends in VIRTIO_NET_ERR in device-writable
 * memory, a counter and an audit record, and never in a throw.
 *
 * Commands are carried out in the order in which they come. One that needs no waiting is answered at once when nothing
 * is under way before it. A reset does not wait: what is under way is abandoned at its next step and gives back what
 * it had taken.
 *
 * The defects of RFC 2019's handler and what stands against them: control-endpoint.attack.test.ts.
 */
export class ControlEndpoint {
  #options: ControlEndpointOptions;
  readonly #protocol: ControlProtocol;
  /** Why the protocol's commands do not exist for this guest, if they do not. */
  readonly #unnegotiated: string | undefined;
  #limits: RequestLimits;
  readonly #maxPending: number;
  #bpf: GuestBpf;
  /** Policies that rule on commands before they are looked at. */
  #admitting: readonly AdmittingPolicy[];
  readonly #commands = new Map<string, number>();
  readonly #acks = { ok: 0, err: 0 };
  readonly #refusals: Record<Refusal['kind'], number> = {
    malformed: 0,
    denied: 0,
    rejected: 0,
    failed: 0,
    answer: 0,
    stale: 0,
    internal: 0,
  };
  /** Number of the last command that came. */
  #lastId = 0;
  /** Fires with the next reset; a command belongs to the epoch in which it arrived. */
  #epoch = new AbortController();
  #unplugged = false;
  /** What the next command has to wait for: the last one that is not done, or a reset. */
  #tail: Promise<unknown> | undefined;
  readonly #underWay = new Set<Promise<unknown>>();
  /** The reset that is under way, however often the guest has asked for it since. */
  #resetting: Promise<void> | undefined;
  /** Until the move that is under way is over. */
  #moving: Promise<void> | undefined;

  constructor(options: ControlEndpointOptions) {
    this.#options = options;
    this.#protocol = options.protocol ?? protocolOf(options.features);
    this.#unnegotiated = whyUnnegotiated(this.#protocol, options.features);
    this.#limits = this.#limitsOf(options);
    this.#maxPending = options.limits?.maxPendingCommands ?? DEFAULT_MAX_PENDING_COMMANDS;
    this.#admitting = options.policies.filter(isAdmitting);
    this.#bpf = this.#openBpf(options);
  }

  /** The program that runs in front of the guest, if any. */
  get attachedProgram(): LoadedProgram | undefined {
    return this.#bpf.attachedProgram;
  }

  /** What it is able to do, as config space says it. */
  get capabilities(): DeviceCapabilities {
    return this.#capabilitiesOf(this.#options);
  }

  /** See `NicDevice.configuration`. */
  get configuration(): Uint8Array | undefined {
    return this.#unnegotiated === undefined
      ? this.#protocol.encodeConfiguration?.(this.capabilities)
      : undefined;
  }

  #capabilitiesOf({ party, limits, policies, guest }: ControlEndpointOptions): DeviceCapabilities {
    const grants = grantsOf(policies, guest);
    const mapTypes = limits?.mapTypes ?? mapTypesOf(this.#protocol);
    return {
      ...this.#limits,
      maxInsns: Math.min(this.#limits.maxInsns, grants.insns ?? Infinity),
      maxObjects: limits?.maxObjects ?? DEFAULT_GUEST_BPF_LIMITS.maxObjects,
      cpus: party.mapBackend.cpus ?? party.cpus,
      granted: {
        maps: grants.maps ?? 0,
        programs: grants.programs ?? 0,
        mapMemory: BigInt(grants.mapMemory ?? 0),
      },
      commands: ALL_COMMANDS,
      mapTypes: bitSet(mapTypes.filter((type) => grants.mapTypes?.has(type) !== false)),
      hookPoints: bitSet(Object.values(HOOK_POINT)),
      programFeatures: bitSet(Object.values(PROGRAM_FEATURE)),
      helpers: bitSet(grants.helpers ?? HELPER_NAMES.keys()),
    };
  }

  /** Objects that the host holds for this guest, those included that only a program keeps alive. */
  get objectCount(): number {
    return this.#bpf.objectCount;
  }

  /** Handles and names of pins that the guest has. */
  get nameCount(): number {
    return this.#bpf.nameCount;
  }

  /** What the host holds for this guest, in the order in which it came. */
  get objects(): readonly DeviceObject[] {
    return this.#bpf.objects;
  }

  /** What those objects are charged for, added up anew and not read off the account. */
  get usage(): HostUsage {
    return this.#bpf.usage;
  }

  /** The same for results: what is in front of the guest, and maps. */
  get held(): HeldObjects {
    return describeHeld(this.#bpf.objects, this.#bpf.attachedProgram);
  }

  get statistics(): DeviceStatistics {
    return {
      commands: Object.fromEntries(this.#commands),
      acks: { ...this.#acks },
      refusals: { ...this.#refusals },
    };
  }

  /**
   * Carries out one command of the control queue; never throws or rejects.
   * @param readable the device-readable bytes, already copied out of the guest's reach
   * @param room device-writable bytes of the chain
   * @returns what goes into the device-writable part, the ack where the protocol has it; empty when there is no room for one
   */
  handle(readable: Uint8Array, room: number): Uint8Array | Promise<Uint8Array> {
    const epoch = this.#epoch.signal;
    const id = ++this.#lastId;
    const denial = this.#admit(id, readable.length);
    if (denial !== undefined) return this.#turnAway({ name: nameOf(readable), id }, denial, readable, room);
    // What a reset has abandoned counts until it has ended: a guest must not pile it up.
    if (this.#underWay.size >= this.#maxPending) {
      const reason = `${this.#underWay.size} commands are waiting, the limit`;
      const refusal: Refusal = { ok: false, kind: 'failed', reason, errno: EBUSY };
      return this.#turnAway({ name: nameOf(readable), id }, refusal, readable, room);
    }
    if (this.#tail === undefined) {
      const answer = this.#answer(id, readable, room, epoch);
      return answer instanceof Uint8Array ? answer : this.#wait(answer);
    }
    return this.#wait(this.#tail.then(() => this.#answer(id, readable, room, epoch)));
  }

  /**
   * Device reset: no program is attached, no object is left, old handles mean nothing. A command that is under way
   * has no effect any more; settles when nothing is attached. A program that its place does not let go of stays there,
   * with an audit record; reset again to try again.
   */
  reset(): Promise<void> {
    this.#epoch.abort(new Error(STALE.reason));
    this.#epoch = new AbortController();
    // Commands wait for a reset, so that there is nothing that the one that is under way does not take away.
    if (this.#resetting !== undefined) return this.#resetting;
    const done = this.#bpf.reset();
    this.#resetting = done;
    const over = (): void => void (this.#resetting = undefined);
    done.then(over, over);
    // Nor are commands let through in the midst of a move: what they made here would be left behind.
    this.#waitFor(this.#moving === undefined ? done : done.then(() => this.#moving));
    return done;
  }

  /** As reset, and every later command ends in an error ack. May be called more than once. */
  unplug(): Promise<void> {
    this.#unplugged = true;
    return this.reset();
  }

  /** Settles once no command is under way: what an abandoned command had taken has then been given back. */
  async idle(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay);
  }

  /**
   * Gets everything that the guest has here ready on another host, whose party, policies and accounts are given; commands wait
   * from now on, while the guest's programs go on. A refusal leaves all as it is.
   */
  async prepareMove(to: MoveTarget): Promise<EndpointMove | Refusal> {
    const options = { ...this.#options, ...to };
    const context = { id: ++this.#lastId, epoch: this.#epoch.signal };
    const before = this.#tail;
    const wait: { over?: () => void } = {};
    const moving = new Promise<void>((resolve) => {
      wait.over = () => {
        this.#moving = undefined;
        resolve();
      };
    });
    this.#moving = moving;
    // Commands that come are behind it, as behind any that takes its time.
    this.#waitFor(moving);
    await before;
    const bpf = this.#openBpf(options);
    let move: PreparedMove | Refusal;
    try {
      const here = { bpf: this.#bpf, capabilities: this.capabilities };
      const there = { bpf, capabilities: this.#capabilitiesOf(options) };
      move = await PreparedMove.prepare(here, there, context);
    } catch (error) {
      // Whatever is wrong with the other host, this one goes on answering.
      wait.over!();
      throw error;
    }
    if ('ok' in move) {
      wait.over!();
      return move;
    }
    return {
      copy: () => move.copy(),
      commit: () => move.commit(),
      finish: async () => {
        try {
          return await move.finish(() => {
            this.#bpf = bpf;
            this.#options = options;
            this.#limits = this.#limitsOf(options);
            this.#admitting = options.policies.filter(isAdmitting);
          });
        } finally {
          wait.over!();
        }
      },
      abort: async () => {
        try {
          await move.abort();
        } finally {
          wait.over!();
        }
      },
    };
  }

  /** What is decoded: a program that is longer than policies allow is not even looked at. */
  #limitsOf({ limits, policies, guest }: ControlEndpointOptions): RequestLimits {
    const whole = { ...this.#protocol.limits, ...limits };
    // RFC 2019's guests are told of no limits: theirs is a policy's to deny, with the reason.
    if (!this.#protocol.requests.has('get-capabilities')) return whole;
    return { ...whole, maxInsns: Math.min(whole.maxInsns, grantsOf(policies, guest).insns ?? Infinity) };
  }

  #openBpf(options: ControlEndpointOptions): GuestBpf {
    return new GuestBpf({
      ...options,
      limits: { mapTypes: mapTypesOf(this.#protocol), ...options.limits },
      capabilities: () => this.#capabilitiesOf(options),
      answered: () => ({ commands: this.#acks.ok + this.#acks.err, errors: this.#acks.err }),
      onRuling: this.#onRuling,
      onFailure: (name, error) => this.#audit({ name }, 'error-ack', `internal: ${messageOf(error)}`),
    });
  }

  /** The guest broke a rule of the transport. */
  transportBroken(reason: string): void {
    this.#audit({ name: 'transport' }, 'violation', reason);
  }

  #wait(run: Promise<Uint8Array>): Promise<Uint8Array> {
    this.#waitFor(run);
    return run;
  }

  #waitFor(run: Promise<unknown>): void {
    this.#tail = run;
    this.#underWay.add(run);
    void run.finally(() => {
      this.#underWay.delete(run);
      if (this.#tail === run) this.#tail = undefined;
    });
  }

  /** Why a command is not taken up, if a policy says so; before anything is spent on it. */
  #admit(id: number, bytes: number): Refusal | undefined {
    const { guest, nic, clock } = this.#options;
    if (this.#admitting.length === 0) return undefined;
    const command = { id, time: clock.now(), guest, nic, bytes };
    const answer = admitByChain(this.#admitting, command, this.#onRuling);
    return answer.ruling === 'allow' ? undefined : denied(answer, EAGAIN);
  }

  /** Refuses a command that was not decoded, and says why where the protocol has room for it. */
  #turnAway(command: Command, refusal: Refusal, readable: Uint8Array, room: number): Uint8Array {
    const response = this.#refuse(command, refusal, room);
    if (readable.length < CONTROL_HEADER_BYTES || readable[0] !== this.#protocol.controlClass)
      return response;
    try {
      const { errno, reason, toGuest: message = reason } = refusal;
      return this.#protocol.encodeRefusal({ kind: 'error', errno, message }, room, readable);
    } catch {
      return response;
    }
  }

  #answer(
    id: number,
    readable: Uint8Array,
    room: number,
    epoch: AbortSignal,
  ): Uint8Array | Promise<Uint8Array> {
    let command: Command = { name: 'unknown', id };
    try {
      command = { name: nameOf(readable), id };
      if (this.#unplugged || epoch.aborted) return this.#refuse(command, STALE, room);
      if (readable.length < CONTROL_HEADER_BYTES)
        return this.#refuse(command, malformed('class and command are missing'), room);
      if (readable[0] !== this.#protocol.controlClass) {
        const { features, queuePairs } = this.#options;
        const outcome = standardCommand(decodeControlCommand(readable)!, features, queuePairs);
        return this.#finish(command, outcome, room);
      }
      if (this.#unnegotiated !== undefined) {
        return this.#refuse(command, unsupported(`${command.name}: ${this.#unnegotiated}`), room);
      }
      const decoded = this.#protocol.decodeRequest(readable, room, this.#limits);
      if (!decoded.ok) {
        return this.#refuse(command, malformed(decoded.detail, decoded.errno), room);
      }
      const { request } = decoded;
      command = { name: this.#protocol.requestName(request), id };
      const outcome = this.#bpf.handle(request, { id, epoch });
      if (!(outcome instanceof Promise)) return this.#finish(command, outcome, room, request);
      return outcome.then(
        (settled) => this.#finish(command, settled, room, request),
        (error: unknown) => this.#refuse(command, internal(error), room, request),
      );
    } catch (error) {
      return this.#refuse(command, internal(error), room);
    }
  }

  /** Counts and records an outcome and makes the bytes of the answer. Must not throw. */
  #finish(command: Command, outcome: Outcome, room: number, request?: BpfRequest): Uint8Array {
    if (!outcome.ok) return this.#refuse(command, outcome, room, request);
    try {
      const response =
        request === undefined
          ? encodeAck(room, VIRTIO_NET_OK)
          : this.#protocol.encodeReply(request, outcome.reply, room);
      this.#count(command.name);
      this.#acks.ok++;
      return response;
    } catch (error) {
      // A map backend that hands out values of a wrong size, say.
      return this.#refuse(command, internal(error), room, request);
    }
  }

  /** As the protocol answers, whatever the command was: where the ack lies must not depend on how far a device got. */
  #refuse(command: Command, refusal: Refusal, room: number, request?: BpfRequest): Uint8Array {
    this.#count(command.name);
    this.#acks.err++;
    this.#refusals[refusal.kind]++;
    if (refusal.kind !== 'answer' && refusal.kind !== 'stale') {
      this.#audit(command, 'error-ack', `${refusal.kind}: ${refusal.reason}`, refusal.code);
    }
    const { errno, reason, toGuest: message = reason, count } = refusal;
    try {
      const reply = { kind: 'error', errno, message, count } as const;
      return request === undefined
        ? this.#protocol.encodeRefusal(reply, room)
        : this.#protocol.encodeReply(request, reply, room);
    } catch (error) {
      // An errno out of range: the answer with another is still an answer.
      return this.#protocol.encodeRefusal({ kind: 'error', errno: internal(error).errno }, room);
    }
  }

  readonly #onRuling = (record: RulingRecord): void => {
    try {
      this.#options.events.ruling(record);
    } catch {
      // As in #audit: the ruling stands whether or not somebody could take note of it.
    }
  };

  #count(name: string): void {
    // A guest chooses class and command: it must not have the host remember all 65 536 of them.
    const known = this.#commands.has(name) || this.#commands.size < MOST_COMMAND_NAMES;
    const counted = known ? name : OTHER_COMMANDS;
    this.#commands.set(counted, (this.#commands.get(counted) ?? 0) + 1);
  }

  #audit(
    { name, id }: Partial<Command> & Pick<Command, 'name'>,
    outcome: AuditRecord['outcome'],
    why: string,
    code?: string,
  ): void {
    const { guest, nic, events, clock } = this.#options;
    try {
      // Without spreading one object into another, which takes longer than all else that a refused command costs.
      const time = clock.now();
      const reason = recordedText(why);
      const record: AuditRecord =
        id === undefined
          ? { time, guest, nic, command: name, outcome, reason }
          : { request: id, time, guest, nic, command: name, outcome, reason };
      if (code !== undefined) record.code = code;
      events.audit(record);
    } catch {
      // Who listens is not the guest's concern: the command is answered whatever becomes of its record.
    }
  }
}

/** One command, as records tell of it. */
interface Command {
  readonly name: string;
  /** Its number on the nic, from 1. */
  readonly id: number;
}

/** What is created on the host for a guest, by what it asks with. */
function mapTypesOf(protocol: ControlProtocol): readonly number[] {
  return protocol.requests.has('load-program') ? OFFLOADABLE_MAP_TYPES : RFC_2019_MAP_TYPES;
}

function nameOf(readable: Uint8Array): string {
  if (readable.length < CONTROL_HEADER_BYTES) return 'truncated';
  const controlClass = readable[0]!;
  const command = readable[1]!;
  return controlClass === VIRTIO_NET_CTRL_BPF
    ? commandName(command)
    : controlCommandName(controlClass, command);
}

function whyUnnegotiated({ controlClass, feature }: ControlProtocol, features: bigint): string | undefined {
  // With notification coalescing negotiated, class 6 is VIRTIO_NET_CTRL_NOTF_COAL (virtio 1.2).
  const coalesces =
    hasFeature(features, VIRTIO_NET_F_NOTF_COAL) || hasFeature(features, VIRTIO_NET_F_VQ_NOTF_COAL);
  if (controlClass === VIRTIO_NET_CTRL_EBPF && coalesces) return 'class 6 is notification coalescing';
  return hasFeature(features, feature) ? undefined : `${featureName(feature)} is not negotiated`;
}
