import {
  E2BIG,
  EACCES,
  EBADF,
  EBUSY,
  EEXIST,
  EINVAL,
  ENOENT,
  ENOSPC,
  EOPNOTSUPP,
  EPERM,
  errnoName,
} from '../../bpf/errno.js';
import { decodeInsns } from '../../bpf/insn.js';
import { BPF_MAP_TYPE, mapTypeName, type MapAttributes } from '../../bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../bpf/program.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import type { HelperHost } from '../../bpf/runtime/helper-host.js';
import {
  CONTROL_ACK_BYTES,
  decodeControlCommand,
  decodeEbpfCommand,
  decodeVqPairsSet,
  DEFAULT_EBPF_LIMITS,
  encodeEbpfResponse,
  encodeErrorResponse,
  hasFeature,
  joinResponse,
  VIRTIO_NET_CTRL_EBPF,
  VIRTIO_NET_CTRL_MAC,
  VIRTIO_NET_CTRL_MAC_ADDR_SET,
  VIRTIO_NET_CTRL_MQ,
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_VQ_NOTF_COAL,
  VIRTIO_NET_OK,
  type EbpfCommand,
  type EbpfLimits,
  type EbpfResult,
} from '../../virtio/index.js';
import { messageOf } from '../diagnostic.js';
import type { LoadedProgram } from '../contract/executor.js';
import type { Party } from '../contract/fabric.js';
import type { Policy, PolicyRequest } from '../contract/policy.js';
import type { AuditRecord, RulingRecord } from '../contract/result.js';
import type { Rejection } from '../contract/verifier.js';
import { commandName, ebpfCommandName } from './control-command-name.js';
import type { HostLedger } from './host-ledger.js';
import { ObjectTable, type MapObject, type MapReference, type ProgramObject } from './object-table.js';
import { ruleByChain } from './policy-chain.js';
import { translateHandles } from './program-handles.js';
import { summarizeProgram } from './program-summary.js';

/** Where an offloaded program is put: one hook for each queue pair of the tap. */
export interface OffloadHook {
  /** Replaces what is attached, in one step: no frame may meet neither program. */
  attach(program: LoadedProgram): void;
  detach(): void;
}

/** Where a device reports what it decided. */
export interface DeviceEvents {
  ruling(record: RulingRecord): void;
  audit(record: AuditRecord): void;
}

export interface DeviceLimits extends EbpfLimits {
  /** Maps and programs of one device, at most 4096. */
  readonly maxObjects: number;
  /** Commands that may wait while another is under way; a real control queue holds no more than its size. */
  readonly maxPendingCommands: number;
  /** BPF_MAP_TYPE_* that the device creates. */
  readonly mapTypes: readonly number[];
}

export const DEFAULT_DEVICE_LIMITS: DeviceLimits = {
  ...DEFAULT_EBPF_LIMITS,
  maxObjects: 4096,
  maxPendingCommands: 256,
  // RFC 2019, guest driver rules.
  mapTypes: [BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY],
};

export interface QemuDeviceOptions {
  readonly guest: string;
  readonly nic: string;
  /** The host's BPF on behalf of this guest. Two guests never share a party. */
  readonly party: Party;
  readonly policies: readonly Policy[];
  readonly ledger: HostLedger;
  /**
   * Where an offloaded program is attached: always to all of them. One for each queue pair, or one that serves
   * several; never less than all queues.
   */
  readonly hooks: readonly OffloadHook[];
  /** The most that the guest may ask to use; default: as many as there are hooks. */
  readonly queuePairs?: number | undefined;
  readonly events: DeviceEvents;
  /** What helpers of offloaded programs see of the world. */
  readonly host: HelperHost;
  /** Negotiated feature bits; they decide which standard commands exist. */
  readonly features?: bigint | undefined;
  /** 6 bytes. */
  readonly mac?: Uint8Array | undefined;
  readonly limits?: Partial<DeviceLimits> | undefined;
}

/** What a device did, for results. */
export interface DeviceStatistics {
  /** Control commands by name; one that could not be decoded counts under its class and command. */
  readonly commands: Readonly<Record<string, number>>;
  readonly acks: { readonly ok: number; readonly err: number };
  /** Why commands ended in VIRTIO_NET_ERR; the sum is `acks.err`. */
  readonly refusals: Readonly<Record<Refusal['kind'], number>>;
}

/**
 * Why a command ends in an error ack.
 *
 * - `malformed`: the bytes, or a field against another or against the object it names
 * - `denied`: by a policy · `rejected`: by the verifier
 * - `failed`: what was asked for could not be done (no memory, executor cannot run it)
 * - `answer`: no fault of anyone's, an errno that a map operation ordinarily ends in (ENOENT, EEXIST)
 * - `stale`: the device was reset or unplugged before the command was done
 * - `internal`: a plugin or the device itself threw
 */
interface Refusal {
  readonly ok: false;
  readonly kind: 'malformed' | 'denied' | 'rejected' | 'failed' | 'answer' | 'stale' | 'internal';
  readonly reason: string;
  readonly errno: number;
  /** The verifier's, for `rejected`. */
  readonly code?: string | undefined;
}

type Outcome = { readonly ok: true; readonly result: EbpfResult } | Refusal;

const DONE: Outcome = { ok: true, result: { kind: 'done' } };
const STALE: Refusal = {
  ok: false,
  kind: 'stale',
  reason: 'the device was reset before the command was done',
  errno: EBUSY,
};
/** What an operation on a map may end in without anything being wrong. */
const ORDINARY_ERRNOS: ReadonlySet<number> = new Set([ENOENT, EEXIST, E2BIG]);

/**
 * The host's side of one guest nic: carries out what the guest sends on the control virtqueue.
 *
 * Everything the guest sends is hostile. A command has been copied once before it comes here; it is decoded
 * strictly, each of its fields is checked against the others and against the object that it names, its handles
 * are translated through a table of the guest's own objects, and the policies are asked, all before anything is
 * done. Whatever is wrong with it ends in VIRTIO_NET_ERR in device-writable memory, a counter and an audit
 * record, and never in a throw.
 *
 * Commands are carried out one after the other, although verifying is asynchronous. A reset does not wait: what
 * is under way is abandoned at its next step and gives back what it had taken.
 *
 * The defects of RFC 2019's handler and what stands against them: qemu-device.attack.test.ts.
 */
export class QemuDevice {
  readonly #options: QemuDeviceOptions;
  readonly #limits: DeviceLimits;
  readonly #objects: ObjectTable;
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
  readonly #initialMac: Uint8Array;
  #mac: Uint8Array;
  #activeQueuePairs = 1;
  #attached: ProgramObject | undefined;
  /** Goes up with every reset; a command belongs to the epoch in which it arrived. */
  #epoch = 0;
  #unplugged = false;
  #mapsMade = 0;
  /** The last command that was accepted; the next one starts when it is done. */
  #tail: Promise<unknown> = Promise.resolve();
  readonly #underWay = new Set<Promise<unknown>>();

  constructor(options: QemuDeviceOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_DEVICE_LIMITS, ...options.limits };
    this.#initialMac = Uint8Array.from(options.mac ?? new Uint8Array(6));
    this.#mac = this.#initialMac;
    this.#objects = new ObjectTable({
      capacity: this.#limits.maxObjects,
      onCloseFailure: (error) => this.#audit('release', 'error-ack', `internal: ${messageOf(error)}`),
    });
  }

  /** Queue pairs that the guest has asked to use; programs are attached to all pairs, in use or not. */
  get activeQueuePairs(): number {
    return this.#activeQueuePairs;
  }

  /** 6 bytes: the nic's own until the guest sets another. */
  get mac(): Uint8Array {
    return Uint8Array.from(this.#mac);
  }

  /** The program that runs on the tap's queues, if any. */
  get attachedProgram(): LoadedProgram | undefined {
    return this.#attached?.program;
  }

  /** Objects that the host holds for this device, those included that only a program keeps alive. */
  get objectCount(): number {
    return this.#objects.size;
  }

  get statistics(): DeviceStatistics {
    return {
      commands: Object.fromEntries(this.#commands),
      acks: { ...this.#acks },
      refusals: { ...this.#refusals },
    };
  }

  /**
   * Carries out one command of the control virtqueue.
   * @param readable the device-readable bytes, already copied out of the guest's reach
   * @param writableLength device-writable bytes of the chain
   * @returns what goes into the device-writable part, the ack last; empty when there is no room for an ack
   */
  handleControl(readable: Uint8Array, writableLength: number): Promise<Uint8Array> {
    const epoch = this.#epoch;
    if (this.#underWay.size >= this.#limits.maxPendingCommands) {
      const reason = `${this.#underWay.size} commands are waiting, the limit`;
      return Promise.resolve(
        this.#finish(nameOf(readable), { ok: false, kind: 'failed', reason, errno: EBUSY }, writableLength),
      );
    }
    const run = this.#tail.then(() => this.#answer(readable, writableLength, epoch));
    this.#tail = run;
    this.#underWay.add(run);
    void run.finally(() => this.#underWay.delete(run));
    return run;
  }

  /**
   * Device reset: no program is attached, no object is left, old handles mean nothing, standard settings are
   * back at their start. Takes effect at once; a command that is under way has none any more.
   */
  reset(): void {
    this.#epoch++;
    this.#tail = Promise.resolve();
    this.#activeQueuePairs = 1;
    this.#mac = this.#initialMac;
    this.#attached = undefined;
    for (const hook of this.#options.hooks) {
      try {
        hook.detach();
      } catch (error) {
        this.#audit('reset', 'error-ack', `internal: a hook failed to detach: ${messageOf(error)}`);
      }
    }
    this.#objects.freeAll();
  }

  /** As reset, and every later command ends in an error ack. May be called more than once. */
  unplug(): void {
    this.#unplugged = true;
    this.reset();
  }

  /** Settles once no command is under way: what an abandoned command had taken has then been given back. */
  async idle(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay);
  }

  /** For `DeviceHandlers.broken`: the guest broke a rule of the transport. */
  transportBroken(reason: string): void {
    this.#audit('transport', 'violation', reason);
  }

  async #answer(readable: Uint8Array, writableLength: number, epoch: number): Promise<Uint8Array> {
    let name = 'unknown';
    try {
      name = nameOf(readable);
      if (this.#isStale(epoch)) return this.#finish(name, STALE, writableLength);
      const control = decodeControlCommand(readable);
      if (control === undefined) {
        return this.#finish(name, malformed('class and command are missing'), writableLength);
      }
      if (control.class !== VIRTIO_NET_CTRL_EBPF) {
        const outcome = this.#standardCommand(control.class, control.command, control.payload);
        return this.#finish(name, outcome, writableLength);
      }
      // With notification coalescing negotiated, class 6 is VIRTIO_NET_CTRL_NOTF_COAL (virtio 1.2).
      if (this.#hasFeature(VIRTIO_NET_F_NOTF_COAL) || this.#hasFeature(VIRTIO_NET_F_VQ_NOTF_COAL)) {
        return this.#finish(name, unsupported(`${name}: class 6 is notification coalescing`), writableLength);
      }
      const decoded = decodeEbpfCommand(readable, { ...this.#limits, writableBytes: writableLength });
      if (!decoded.ok) return this.#finish(name, malformed(decoded.detail), writableLength);
      name = ebpfCommandName(decoded.command);
      const outcome = await this.#carryOut(decoded.command, epoch);
      return this.#finish(name, outcome, writableLength, decoded.command);
    } catch (error) {
      return this.#finish(name, internal(error), writableLength);
    }
  }

  /** Counts and records an outcome and makes the bytes of the answer. Must not throw. */
  #finish(name: string, outcome: Outcome, writableLength: number, command?: EbpfCommand): Uint8Array {
    this.#commands.set(name, (this.#commands.get(name) ?? 0) + 1);
    if (outcome.ok) {
      try {
        const response =
          command === undefined ? okResponse(writableLength) : encodeEbpfResponse(command, outcome.result);
        this.#acks.ok++;
        return response;
      } catch (error) {
        // A map backend that hands out values of a wrong size, say.
        return this.#refuse(name, internal(error), writableLength, command);
      }
    }
    return this.#refuse(name, outcome, writableLength, command);
  }

  #refuse(
    name: string,
    refusal: Refusal,
    writableLength: number,
    command: EbpfCommand | undefined,
  ): Uint8Array {
    this.#acks.err++;
    this.#refusals[refusal.kind]++;
    if (refusal.kind !== 'answer' && refusal.kind !== 'stale') {
      this.#audit(name, 'error-ack', `${refusal.kind}: ${refusal.reason}`, refusal.code);
    }
    try {
      if (command !== undefined) return encodeEbpfResponse(command, { kind: 'error', errno: refusal.errno });
    } catch {
      // An errno out of range: the answer without one is still an answer.
    }
    return encodeErrorResponse(writableLength);
  }

  #audit(command: string, outcome: AuditRecord['outcome'], reason: string, code?: string): void {
    const { guest, nic, events } = this.#options;
    try {
      events.audit({ guest, nic, command, outcome, reason, ...(code === undefined ? {} : { code }) });
    } catch {
      // Who listens is not the guest's concern: the command is answered whatever becomes of its record.
    }
  }

  #standardCommand(controlClass: number, command: number, payload: Uint8Array): Outcome {
    if (controlClass === VIRTIO_NET_CTRL_MQ && command === VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) {
      if (!this.#hasFeature(VIRTIO_NET_F_MQ)) return unsupported('VIRTIO_NET_F_MQ is not negotiated');
      const limit = this.#options.queuePairs ?? this.#options.hooks.length;
      const pairs = decodeVqPairsSet(payload, limit);
      if (pairs === undefined) return malformed(`the payload is no u16 from 1 to ${limit}`);
      this.#activeQueuePairs = pairs;
      return DONE;
    }
    if (controlClass === VIRTIO_NET_CTRL_MAC && command === VIRTIO_NET_CTRL_MAC_ADDR_SET) {
      if (!this.#hasFeature(VIRTIO_NET_F_CTRL_MAC_ADDR)) {
        return unsupported('VIRTIO_NET_F_CTRL_MAC_ADDR is not negotiated');
      }
      if (payload.length !== 6) return malformed(`a MAC address of ${payload.length} bytes, not 6`);
      if ((payload[0]! & 1) === 1) return malformed('a multicast address cannot be a MAC address of a nic');
      this.#mac = Uint8Array.from(payload);
      return DONE;
    }
    return unsupported(`${commandName(controlClass, command)} is not a command of this device`);
  }

  async #carryOut(command: EbpfCommand, epoch: number): Promise<Outcome> {
    switch (command.kind) {
      case 'set-offload':
        return this.#setOffload(command, epoch);
      case 'unset-offload':
        return this.#unsetOffload();
      case 'create-map':
        return this.#createMap({
          type: command.mapType,
          keySize: command.keySize,
          valueSize: command.valueSize,
          maxEntries: command.maxEntries,
          flags: command.mapFlags,
        });
      case 'free-map':
        return this.#withMap(command.handle, 'map-free', () => {
          this.#objects.free(command.handle);
          return DONE;
        });
      case 'update-elem':
        return this.#withElement(command, 'map-update', command.value.length, (map) =>
          done(map.update(command.key, command.value, command.flags)),
        );
      case 'lookup-elem':
        return this.#withElement(command, 'map-lookup', command.valueSize, (map) => {
          const value = map.lookup(command.key);
          return typeof value === 'number' ? mapErrno(value) : { ok: true, result: { kind: 'value', value } };
        });
      case 'delete-elem':
        return this.#withElement(command, 'map-delete', command.valueSize, (map) =>
          done(map.delete(command.key)),
        );
      case 'get-first':
        return this.#withElement(command, 'map-next-key', command.valueSize, (map) => nextKey(map, null));
      case 'get-next':
        return this.#withElement(command, 'map-next-key', command.valueSize, (map) =>
          nextKey(map, command.key),
        );
    }
  }

  #createMap(attributes: MapAttributes): Outcome {
    const { guest, nic, ledger, party } = this.#options;
    if (!this.#limits.mapTypes.includes(attributes.type)) {
      const offered = this.#limits.mapTypes.map(mapTypeName).join(', ');
      return unsupported(`${mapTypeName(attributes.type)} is not among the types of this device: ${offered}`);
    }
    if (!this.#objects.hasRoom) {
      return failed(ENOSPC, `the device's table is full: ${this.#limits.maxObjects} objects`);
    }
    const memoryBytes = party.mapBackend.memoryCost(attributes);
    const denial = this.#rule({ operation: 'map-create', map: attributes, memoryBytes });
    if (denial !== undefined) return denial;

    const charge = ledger.charge(guest, {
      maps: 1,
      mapMemory: memoryBytes,
      entries: attributes.maxEntries,
    });
    let map: BpfMap | undefined;
    let object: MapObject | undefined;
    try {
      const created = party.mapBackend.create(attributes, { name: `${guest}.${nic}/map${++this.#mapsMade}` });
      if (typeof created === 'number') {
        return failed(-created, `the map cannot be created: ${errnoName(created)}`);
      }
      map = created;
      object = this.#objects.addMap(map, attributes, charge);
    } finally {
      if (object === undefined) {
        charge.release();
        map?.close();
      }
    }
    return object === undefined
      ? failed(ENOSPC, "the device's table is full")
      : { ok: true, result: { kind: 'handle', handle: object.handle } };
  }

  /** Finds the map, asks the policies, does it. */
  #withMap(
    handle: number,
    operation: 'map-lookup' | 'map-update' | 'map-delete' | 'map-next-key' | 'map-free',
    act: (map: BpfMap) => Outcome,
    check?: (object: MapObject) => Refusal | undefined,
  ): Outcome {
    const object = this.#objects.map(handle);
    if (object === undefined) {
      return malformed(`handle 0x${handle.toString(16)} names no map of this device`, EBADF);
    }
    const refusal = check?.(object) ?? this.#rule({ operation, map: object.attributes });
    return refusal ?? act(object.map);
  }

  /** As withMap, and what the command says of key and value is what the map has. */
  #withElement(
    command: { readonly handle: number } & (
      { readonly key: Uint8Array } | { readonly keySize: number; readonly key?: undefined }
    ),
    operation: 'map-lookup' | 'map-update' | 'map-delete' | 'map-next-key',
    valueSize: number,
    act: (map: BpfMap) => Outcome,
  ): Outcome {
    const keySize = command.key === undefined ? command.keySize : command.key.length;
    return this.#withMap(command.handle, operation, act, ({ map, attributes }) => {
      if (keySize !== attributes.keySize) {
        return malformed(`key_size ${keySize}, the map has keys of ${attributes.keySize} bytes`);
      }
      if (valueSize !== map.syscallValueSize) {
        return malformed(`value_size ${valueSize}, the map has values of ${map.syscallValueSize} bytes`);
      }
      return undefined;
    });
  }

  /**
   * Translates, rules, verifies, rules, loads, attaches; then the program that was attached before goes. A
   * failure on the way leaves that one where it is.
   */
  async #setOffload(command: Extract<EbpfCommand, { kind: 'set-offload' }>, epoch: number): Promise<Outcome> {
    const { guest, nic, ledger, party, host } = this.#options;
    const references: MapReference[] = [];
    const maps = new Map<number, MapObject>();
    const numbers = new Map<number, number>();
    let charge: ReturnType<HostLedger['charge']> | undefined;
    let loaded: LoadedProgram | undefined;
    try {
      const translated = translateHandles(decodeInsns(command.insns), (handle) => {
        const known = numbers.get(handle);
        if (known !== undefined) return known;
        // Held until the program is gone: neither FREE_MAP nor a reset may take a map from under it.
        const reference = this.#objects.hold(handle);
        if (reference === undefined) return undefined;
        references.push(reference);
        const number = numbers.size + 1;
        numbers.set(handle, number);
        maps.set(number, reference.object);
        return number;
      });
      if (!translated.ok) return malformed(`insn ${translated.insn}: ${translated.reason}`, EBADF);
      if (!this.#objects.hasRoom) {
        return failed(ENOSPC, `the device's table is full: ${this.#limits.maxObjects} objects`);
      }

      const program: Program = {
        name: `${guest}.${nic}`,
        type: BPF_PROG_TYPE_XDP,
        attachType: 'BPF_XDP',
        gplCompatible: command.gplCompatible,
        insns: translated.insns,
      };
      const mapTypes = [...maps.values()].map((object) => object.attributes.type);
      const summary = summarizeProgram(program.insns, program.gplCompatible, mapTypes);
      const loadDenial = this.#rule({ operation: 'program-load', program: summary });
      if (loadDenial !== undefined) return loadDenial;
      // Charged before the verifier is awaited: other guests' requests are ruled on meanwhile.
      charge = ledger.charge(guest, { programs: 1, insns: program.insns.length });

      const verification = await party.verifier.verify({
        program,
        maps: new Map(
          [...maps].map(([number, { attributes, handle }]) => [
            number,
            { ...attributes, name: `map 0x${handle.toString(16)}` },
          ]),
        ),
      });
      if (this.#isStale(epoch)) return STALE;
      if (!verification.accepted) return rejected(verification);

      const attachDenial = this.#rule(
        { operation: 'program-attach', program: summary, properties: verification.properties },
        charge,
      );
      if (attachDenial !== undefined) return attachDenial;

      try {
        loaded = await party.executor.load(program, {
          runtime: party.runtime,
          maps: new Map([...maps].map(([number, object]) => [number, object.map])),
          host,
          programId: party.runtime.allocateProgramId(),
          facts: verification.facts,
        });
      } catch (error) {
        return failed(EOPNOTSUPP, `the program cannot be loaded: ${messageOf(error)}`);
      }
      if (this.#isStale(epoch)) return STALE;

      const problem = this.#attachToAllQueues(loaded);
      if (problem !== undefined) return failed(EBUSY, problem);
      const object = this.#objects.addProgram(loaded, program.insns.length, charge, references);
      if (object === undefined) {
        // Cannot be: room was there before, and commands do not run side by side.
        this.#restoreHooks(this.#options.hooks.length);
        return failed(ENOSPC, "the device's table is full");
      }
      // The table owns both from here on.
      loaded = undefined;
      charge = undefined;
      const previous = this.#attached;
      this.#attached = object;
      if (previous !== undefined) this.#objects.free(previous.handle);
      return DONE;
    } finally {
      loaded?.close();
      charge?.release();
      for (const reference of references) reference.release();
    }
  }

  /** Why it did not work; every queue then runs what it ran before. */
  #attachToAllQueues(program: LoadedProgram): string | undefined {
    for (const [queue, hook] of this.#options.hooks.entries()) {
      try {
        hook.attach(program);
      } catch (error) {
        this.#restoreHooks(queue + 1);
        return `queue pair ${queue}: ${messageOf(error)}`;
      }
    }
    return undefined;
  }

  /** Puts what is attached, or nothing, back on the first `count` queue pairs. */
  #restoreHooks(count: number): void {
    for (const hook of this.#options.hooks.slice(0, count)) {
      try {
        if (this.#attached === undefined) hook.detach();
        else hook.attach(this.#attached.program);
      } catch (error) {
        this.#audit('EBPF_PROG/SET_OFFLOAD', 'error-ack', `internal: ${messageOf(error)}`);
      }
    }
  }

  #unsetOffload(): Outcome {
    const { hooks } = this.#options;
    for (const [queue, hook] of hooks.entries()) {
      try {
        hook.detach();
      } catch (error) {
        // A program that may still be called must not be closed.
        this.#restoreHooks(queue + 1);
        return failed(EBUSY, `queue pair ${queue}: ${messageOf(error)}`);
      }
    }
    const previous = this.#attached;
    this.#attached = undefined;
    if (previous !== undefined) this.#objects.free(previous.handle);
    return DONE;
  }

  #rule(request: RequestDetails, except?: ReturnType<HostLedger['charge']>): Refusal | undefined {
    const { guest, ledger, policies, events } = this.#options;
    const usage = ledger.usageOf(guest, except);
    const totalUsage = ledger.totalUsage(except);
    const answer = ruleByChain(policies, { guest, usage, totalUsage, ...request }, (record) => {
      try {
        events.ruling(record);
      } catch {
        // As in #audit: the ruling stands whether or not somebody could take note of it.
      }
    });
    if (answer.ruling === 'allow') return undefined;
    const errno = request.operation === 'map-create' ? EPERM : EACCES;
    return { ok: false, kind: 'denied', reason: `by ${answer.policy}: ${answer.reason}`, errno };
  }

  #isStale(epoch: number): boolean {
    return this.#unplugged || epoch !== this.#epoch;
  }

  #hasFeature(bit: number): boolean {
    return hasFeature(this.#options.features ?? 0n, bit);
  }
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
/** A request without what is the same in all of them. */
type RequestDetails = DistributiveOmit<PolicyRequest, 'guest' | 'usage' | 'totalUsage'>;

function nameOf(readable: Uint8Array): string {
  const control = decodeControlCommand(readable);
  return control === undefined ? 'truncated' : commandName(control.class, control.command);
}

function okResponse(writableLength: number): Uint8Array {
  if (writableLength < CONTROL_ACK_BYTES) return new Uint8Array();
  return joinResponse(new Uint8Array(writableLength - CONTROL_ACK_BYTES), VIRTIO_NET_OK);
}

function nextKey(map: BpfMap, key: Uint8Array | null): Outcome {
  const next = map.nextKey(key);
  return typeof next === 'number' ? mapErrno(next) : { ok: true, result: { kind: 'key', key: next } };
}

function done(status: number): Outcome {
  return status === 0 ? DONE : mapErrno(status);
}

function mapErrno(status: number): Refusal {
  const errno = -status;
  const kind = ORDINARY_ERRNOS.has(errno) ? 'answer' : 'failed';
  return { ok: false, kind, reason: errnoName(errno), errno };
}

function malformed(reason: string, errno = EINVAL): Refusal {
  return { ok: false, kind: 'malformed', reason, errno };
}

function unsupported(reason: string): Refusal {
  return { ok: false, kind: 'malformed', reason, errno: EOPNOTSUPP };
}

function failed(errno: number, reason: string): Refusal {
  return { ok: false, kind: 'failed', reason, errno };
}

function rejected(rejection: Rejection): Refusal {
  const at = rejection.insn === undefined ? '' : ` (insn ${rejection.insn})`;
  return {
    ok: false,
    kind: 'rejected',
    reason: `by ${rejection.verifier}: ${rejection.reason}${at}`,
    errno: EACCES,
    code: rejection.code,
  };
}

function internal(error: unknown): Refusal {
  return { ok: false, kind: 'internal', reason: messageOf(error), errno: EINVAL };
}
