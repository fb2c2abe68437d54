import { EBUSY } from '../../bpf/errno.js';
import {
  CONTROL_ACK_BYTES,
  controlCommandName,
  decodeControlCommand,
  encodeErrorResponse,
  featureName,
  hasFeature,
  joinResponse,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_VQ_NOTF_COAL,
  VIRTIO_NET_OK,
} from '../../virtio/index.js';
import { messageOf } from '../diagnostic.js';
import type { LoadedProgram } from '../contract/executor.js';
import type { AuditRecord, RulingRecord } from '../contract/result.js';
import { GuestBpf, type GuestBpfLimits, type GuestBpfOptions } from './guest-bpf.js';
import {
  DEFAULT_REQUEST_LIMITS,
  type BpfRequest,
  type ControlProtocol,
  type RequestLimits,
} from './protocol/control-protocol.js';
import { RFC_2019 } from './protocol/rfc-2019/rfc-2019.js';
import { internal, malformed, unsupported, type Outcome, type Refusal } from './refusal.js';
import { standardCommand } from './standard-commands.js';

export interface EndpointLimits extends RequestLimits, GuestBpfLimits {
  /** Commands that may wait while another is under way; a real control queue holds no more than its size. */
  readonly maxPendingCommands: number;
}

export const DEFAULT_MAX_PENDING_COMMANDS = 256;

/** Names under which commands are counted, well above what there is in any protocol; all others are one. */
const MOST_COMMAND_NAMES = 256;
const OTHER_COMMANDS = 'other commands';

/** Where a device reports what it decided. */
export interface DeviceEvents {
  ruling(record: RulingRecord): void;
  audit(record: AuditRecord): void;
}

export interface ControlEndpointOptions extends Omit<GuestBpfOptions, 'limits' | 'onRuling' | 'onFailure'> {
  readonly events: DeviceEvents;
  /** Negotiated feature bits: they decide which commands exist. */
  readonly features: bigint;
  /** The most that the guest may ask to use. */
  readonly queuePairs: number;
  /** Default: RFC 2019's. */
  readonly protocol?: ControlProtocol | undefined;
  readonly limits?: Partial<EndpointLimits> | undefined;
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

const STALE: Refusal = {
  ok: false,
  kind: 'stale',
  reason: 'the device was reset before the command was done',
  errno: EBUSY,
};

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
  readonly #options: ControlEndpointOptions;
  readonly #protocol: ControlProtocol;
  readonly #limits: RequestLimits;
  readonly #maxPending: number;
  readonly #bpf: GuestBpf;
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
  #lastId = 0;
  /** Fires with the next reset; a command belongs to the epoch in which it arrived. */
  #epoch = new AbortController();
  #unplugged = false;
  /** What the next command has to wait for: the last one that is not done, or a reset. */
  #tail: Promise<unknown> | undefined;
  readonly #underWay = new Set<Promise<unknown>>();

  constructor(options: ControlEndpointOptions) {
    this.#options = options;
    this.#protocol = options.protocol ?? RFC_2019;
    this.#limits = { ...DEFAULT_REQUEST_LIMITS, ...options.limits };
    this.#maxPending = options.limits?.maxPendingCommands ?? DEFAULT_MAX_PENDING_COMMANDS;
    this.#bpf = new GuestBpf({
      ...options,
      onRuling: (record) => {
        try {
          options.events.ruling(record);
        } catch {
          // As in #audit: the ruling stands whether or not somebody could take note of it.
        }
      },
      onFailure: (command, error) => this.#audit(command, 'error-ack', `internal: ${messageOf(error)}`),
    });
  }

  /** The program that runs in front of the guest, if any. */
  get attachedProgram(): LoadedProgram | undefined {
    return this.#bpf.attachedProgram;
  }

  /** Objects that the host holds for this guest, those included that only a program keeps alive. */
  get objectCount(): number {
    return this.#bpf.objectCount;
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
   * @returns what goes into the device-writable part, the ack last; empty when there is no room for an ack
   */
  handle(readable: Uint8Array, room: number): Uint8Array | Promise<Uint8Array> {
    const epoch = this.#epoch.signal;
    // What a reset has abandoned counts until it has ended: a guest must not pile it up.
    if (this.#underWay.size >= this.#maxPending) {
      const reason = `${this.#underWay.size} commands are waiting, the limit`;
      return this.#refuse(nameOf(readable), { ok: false, kind: 'failed', reason, errno: EBUSY }, room);
    }
    if (this.#tail === undefined) {
      const answer = this.#answer(readable, room, epoch);
      return answer instanceof Uint8Array ? answer : this.#wait(answer);
    }
    return this.#wait(this.#tail.then(() => this.#answer(readable, room, epoch)));
  }

  /**
   * Device reset: no program is attached, no object is left, old handles mean nothing. A command that is under way
   * has no effect any more; settles when nothing is attached. A program that its place does not let go of stays there,
   * with an audit record; reset again to try again.
   */
  reset(): Promise<void> {
    this.#epoch.abort(new Error(STALE.reason));
    this.#epoch = new AbortController();
    const done = this.#bpf.reset();
    this.#waitFor(done);
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

  /** The guest broke a rule of the transport. */
  transportBroken(reason: string): void {
    this.#audit('transport', 'violation', reason);
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

  #answer(readable: Uint8Array, room: number, epoch: AbortSignal): Uint8Array | Promise<Uint8Array> {
    let name = 'unknown';
    try {
      name = nameOf(readable);
      if (this.#unplugged || epoch.aborted) return this.#refuse(name, STALE, room);
      const control = decodeControlCommand(readable);
      if (control === undefined) return this.#refuse(name, malformed('class and command are missing'), room);
      if (control.class !== this.#protocol.controlClass) {
        const { features, queuePairs } = this.#options;
        return this.#finish(name, standardCommand(control, features, queuePairs), room);
      }
      const unnegotiated = this.#unnegotiated(name);
      if (unnegotiated !== undefined) return this.#refuse(name, unnegotiated, room);
      const decoded = this.#protocol.decodeRequest(readable, room, this.#limits);
      if (!decoded.ok) return this.#refuse(name, malformed(decoded.detail), room);
      const { request } = decoded;
      name = this.#protocol.requestName(request);
      const outcome = this.#bpf.handle(request, { id: ++this.#lastId, epoch });
      if (!(outcome instanceof Promise)) return this.#finish(name, outcome, room, request);
      return outcome.then(
        (settled) => this.#finish(name, settled, room, request),
        (error: unknown) => this.#refuse(name, internal(error), room, request),
      );
    } catch (error) {
      return this.#refuse(name, internal(error), room);
    }
  }

  /** Why the protocol's commands do not exist for this guest, if they do not. */
  #unnegotiated(name: string): Refusal | undefined {
    const { features } = this.#options;
    // With notification coalescing negotiated, class 6 is VIRTIO_NET_CTRL_NOTF_COAL (virtio 1.2).
    if (hasFeature(features, VIRTIO_NET_F_NOTF_COAL) || hasFeature(features, VIRTIO_NET_F_VQ_NOTF_COAL)) {
      return unsupported(`${name}: class 6 is notification coalescing`);
    }
    if (hasFeature(features, this.#protocol.feature)) return undefined;
    return unsupported(`${name}: ${featureName(this.#protocol.feature)} is not negotiated`);
  }

  /** Counts and records an outcome and makes the bytes of the answer. Must not throw. */
  #finish(name: string, outcome: Outcome, room: number, request?: BpfRequest): Uint8Array {
    if (!outcome.ok) return this.#refuse(name, outcome, room, request);
    try {
      const response =
        request === undefined ? okResponse(room) : this.#protocol.encodeReply(request, outcome.reply);
      this.#count(name);
      this.#acks.ok++;
      return response;
    } catch (error) {
      // A map backend that hands out values of a wrong size, say.
      return this.#refuse(name, internal(error), room, request);
    }
  }

  #refuse(name: string, refusal: Refusal, room: number, request?: BpfRequest): Uint8Array {
    this.#count(name);
    this.#acks.err++;
    this.#refusals[refusal.kind]++;
    if (refusal.kind !== 'answer' && refusal.kind !== 'stale') {
      this.#audit(name, 'error-ack', `${refusal.kind}: ${refusal.reason}`, refusal.code);
    }
    try {
      if (request !== undefined) {
        return this.#protocol.encodeReply(request, { kind: 'error', errno: refusal.errno });
      }
    } catch {
      // An errno out of range: the answer without one is still an answer.
    }
    return encodeErrorResponse(room);
  }

  #count(name: string): void {
    // A guest chooses class and command: it must not have the host remember all 65 536 of them.
    const known = this.#commands.has(name) || this.#commands.size < MOST_COMMAND_NAMES;
    const counted = known ? name : OTHER_COMMANDS;
    this.#commands.set(counted, (this.#commands.get(counted) ?? 0) + 1);
  }

  #audit(command: string, outcome: AuditRecord['outcome'], reason: string, code?: string): void {
    const { guest, nic, events } = this.#options;
    try {
      events.audit({ guest, nic, command, outcome, reason, ...(code === undefined ? {} : { code }) });
    } catch {
      // Who listens is not the guest's concern: the command is answered whatever becomes of its record.
    }
  }
}

function nameOf(readable: Uint8Array): string {
  const control = decodeControlCommand(readable);
  return control === undefined ? 'truncated' : controlCommandName(control.class, control.command);
}

function okResponse(room: number): Uint8Array {
  if (room < CONTROL_ACK_BYTES) return new Uint8Array();
  return joinResponse(new Uint8Array(room - CONTROL_ACK_BYTES), VIRTIO_NET_OK);
}
