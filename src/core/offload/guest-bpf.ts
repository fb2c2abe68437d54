import {
  E2BIG,
  EACCES,
  EBADF,
  EBUSY,
  EEXIST,
  ENOENT,
  ENOSPC,
  EOPNOTSUPP,
  EPERM,
  errnoName,
} from '../../bpf/errno.js';
import { BPF_FUNC } from '../../bpf/helper-ids.js';
import { decodeInsns } from '../../bpf/insn.js';
import { BPF_F_ZERO_SEED, BPF_MAP_TYPE, mapTypeName, type MapAttributes } from '../../bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../bpf/program.js';
import { programTag } from '../../bpf/program-tag.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import type { HelperWorld } from '../../bpf/runtime/helper-world.js';
import { DEFAULT_INSN_LIMIT } from '../../bpf/runtime/insn-budget.js';
import { messageOf } from '../diagnostic.js';
import type { Clock } from '../contract/clock.js';
import type { LoadedProgram, ProgramWork } from '../contract/executor.js';
import type { Attachment, HookPlace } from '../contract/hook-place.js';
import type { Party } from '../contract/party.js';
import type { PolicyRequest } from '../contract/policy.js';
import type { RulingRecord } from '../contract/result.js';
import type { ProgramProperties } from '../contract/verifier.js';
import { describeHeld, type HeldObjects } from './held-objects.js';
import { explainMapRefusal } from './map-refusal.js';
import { ObjectTable, type MapObject, type MapReference, type ProgramObject } from './object-table.js';
import { ruleByChain, type ChainedPolicy } from './policy-chain.js';
import { translateHandles } from './program-handles.js';
import { summarizeProgram } from './program-summary.js';
import type { BpfRequest, CreateMap, SetOffload } from './protocol/control-protocol.js';
import type { Charge, QuotaAccounts } from './quota-accounts.js';
import { DONE, failed, malformed, rejected, unsupported, type Outcome, type Refusal } from './refusal.js';

export interface GuestBpfLimits {
  /** Maps and programs, at most 4096. */
  readonly maxObjects: number;
  /** BPF_MAP_TYPE_* that are created. */
  readonly mapTypes: readonly number[];
}

export const DEFAULT_GUEST_BPF_LIMITS: GuestBpfLimits = {
  maxObjects: 4096,
  // RFC 2019, guest driver rules.
  mapTypes: [BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY],
};

export interface GuestBpfOptions {
  readonly guest: string;
  readonly nic: string;
  /** The host on behalf of this guest. Two guests never share a party. */
  readonly party: Party;
  readonly policies: readonly ChainedPolicy[];
  readonly accounts: QuotaAccounts;
  /** Where what is offloaded runs: in front of the guest, on all queues of the nic. */
  readonly place: HookPlace;
  readonly clock: Clock;
  /** What helpers of offloaded programs see of the world. */
  readonly world: HelperWorld;
  readonly limits?: Partial<GuestBpfLimits> | undefined;
  readonly onRuling: (record: RulingRecord) => void;
  /** Told of what failed where nobody waits for an answer: a map that cannot be closed, a place that does not let go. */
  readonly onFailure: (command: string, error: unknown) => void;
}

/** One command, as far as carrying it out depends on it. */
export interface CommandContext {
  /** Its number on the nic, from 1. */
  readonly id: number;
  /** Fires when the device is reset or unplugged: the command must then not have any effect. */
  readonly epoch: AbortSignal;
}

const STALE: Refusal = {
  ok: false,
  kind: 'stale',
  reason: 'the device was reset before the command was done',
  errno: EBUSY,
};
/** What an operation on a map may end in without anything being wrong. */
const ORDINARY_ERRNOS: ReadonlySet<number> = new Set([ENOENT, EEXIST, E2BIG]);

type MapOperation = 'map-lookup' | 'map-update' | 'map-delete' | 'map-next-key' | 'map-free';

/**
 * One guest's BPF on the host: the maps and programs that it holds there, by handles of its own, and what is attached.
 * Each request's fields are checked against the object it names, its handles are translated, and the policies are
 * asked, all before anything is done.
 *
 * Loading and attaching are two steps: a program is judged, charged and loaded into the table; attaching puts one of
 * the table's programs into its place, where it stays until another replaces it in one step. What was attached before
 * stays until its successor is in place, whatever fails on the way.
 *
 * Requests on maps are carried out at once; only what loads or attaches is waited for. The caller sees to it that
 * requests are not carried out side by side.
 */
export class GuestBpf {
  readonly #options: GuestBpfOptions;
  readonly #limits: GuestBpfLimits;
  readonly #objects: ObjectTable;
  #work: ProgramWork | undefined;
  #attached: { readonly object: ProgramObject; readonly attachment: Attachment } | undefined;
  #mapsMade = 0;
  /** What is done to the place is done one after the other, resets included. */
  #place: Promise<unknown> | undefined;

  constructor(options: GuestBpfOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_GUEST_BPF_LIMITS, ...options.limits };
    this.#objects = new ObjectTable({
      capacity: this.#limits.maxObjects,
      onCloseFailure: (error) => options.onFailure('release', error),
    });
  }

  /** The program that runs in front of the guest, if any. */
  get attachedProgram(): LoadedProgram | undefined {
    return this.#attached?.object.program;
  }

  /** Objects that the host holds, those included that only a program keeps alive. */
  get objectCount(): number {
    return this.#objects.size;
  }

  /** What the host holds for the guest now. */
  get held(): HeldObjects {
    return describeHeld(this.#attached?.object, this.#objects.maps());
  }

  /** What the programs that were ever loaded have done, where that is counted. */
  get work(): ProgramWork | undefined {
    return this.#work;
  }

  handle(request: BpfRequest, context: CommandContext): Outcome | Promise<Outcome> {
    switch (request.kind) {
      case 'set-offload':
        return this.#setOffload(request, context);
      case 'unset-offload':
        return this.#unsetOffload();
      case 'create-map':
        return this.#createMap(request, context);
      case 'free-map':
        return this.#withMap(request.handle, 'map-free', context, () => {
          this.#objects.free(request.handle);
          return DONE;
        });
      case 'update-elem':
        return this.#withElement(request, 'map-update', request.value.length, context, (map) =>
          done(map.update(request.key, request.value, request.flags)),
        );
      case 'lookup-elem':
        return this.#withElement(request, 'map-lookup', request.valueSize, context, (map) => {
          const value = map.lookup(request.key);
          return typeof value === 'number' ? mapErrno(value) : { ok: true, reply: { kind: 'value', value } };
        });
      case 'delete-elem':
        return this.#withElement(request, 'map-delete', request.valueSize, context, (map) =>
          done(map.delete(request.key)),
        );
      case 'get-first':
        return this.#withElement(request, 'map-next-key', request.valueSize, context, (map) =>
          nextKey(map, null),
        );
      case 'get-next':
        return this.#withElement(request, 'map-next-key', request.valueSize, context, (map) =>
          nextKey(map, request.key),
        );
    }
  }

  /**
   * As after a device reset: nothing is attached, no object is left, old handles mean nothing. Only a program that its
   * place does not let go of stays, in its place and charged for: the next reset, or who detaches or replaces it, tries
   * again.
   */
  reset(): Promise<void> {
    return this.#alone(async () => {
      try {
        await this.#attached?.attachment.detach();
        this.#attached = undefined;
      } catch (error) {
        this.#options.onFailure('reset', error);
      }
      // A program that may still be called must not be closed.
      this.#objects.freeAll(this.#attached?.object);
    });
  }

  #createMap(request: CreateMap, { id }: CommandContext): Outcome {
    const { guest, nic, accounts, party } = this.#options;
    const attributes: MapAttributes = {
      type: request.mapType,
      keySize: request.keySize,
      valueSize: request.valueSize,
      maxEntries: request.maxEntries,
      flags: request.mapFlags,
    };
    if (!this.#limits.mapTypes.includes(attributes.type)) {
      const offered = this.#limits.mapTypes.map(mapTypeName).join(', ');
      return unsupported(`${mapTypeName(attributes.type)} is not among the types of this device: ${offered}`);
    }
    if ((attributes.flags & BPF_F_ZERO_SEED) !== 0) {
      return unsupported(
        'BPF_F_ZERO_SEED: keys can be chosen that all collide, and each look-up then holds the host',
      );
    }
    if (!this.#objects.hasRoom) return this.#tableFull();
    const memoryBytes = party.mapBackend.memoryCost(attributes);
    const denial = this.#rule(id, { operation: 'map-create', map: attributes, memoryBytes });
    if (denial !== undefined) return denial;

    const charge = accounts.charge(guest, {
      maps: 1,
      mapMemory: memoryBytes,
      entries: attributes.maxEntries,
    });
    let map: BpfMap | undefined;
    let object: MapObject | undefined;
    try {
      const created = party.mapBackend.create(attributes, { name: `${guest}.${nic}/map${++this.#mapsMade}` });
      if (typeof created === 'number') {
        const reason = explainMapRefusal(party.mapBackend, attributes, created);
        return failed(-created, `the map cannot be created: ${reason}`);
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
      ? this.#tableFull()
      : { ok: true, reply: { kind: 'handle', handle: object.handle } };
  }

  /** Finds the map, asks the policies, does it. */
  #withMap(
    handle: number,
    operation: MapOperation,
    { id }: CommandContext,
    act: (map: BpfMap) => Outcome,
    check?: (object: MapObject) => Refusal | undefined,
  ): Outcome {
    const object = this.#objects.map(handle);
    if (object === undefined) {
      return malformed(`handle 0x${handle.toString(16)} names no map of this device`, EBADF);
    }
    const refusal = check?.(object) ?? this.#rule(id, { operation, map: object.attributes });
    return refusal ?? act(object.map);
  }

  /** As withMap, and what the request says of key and value is what the map has. */
  #withElement(
    request: { readonly handle: number } & (
      { readonly key: Uint8Array } | { readonly keySize: number; readonly key?: undefined }
    ),
    operation: MapOperation,
    valueSize: number,
    context: CommandContext,
    act: (map: BpfMap) => Outcome,
  ): Outcome {
    const keySize = request.key === undefined ? request.keySize : request.key.length;
    return this.#withMap(request.handle, operation, context, act, ({ map, attributes }) => {
      if (keySize !== attributes.keySize) {
        return malformed(`key_size ${keySize}, the map has keys of ${attributes.keySize} bytes`);
      }
      if (valueSize !== map.syscallValueSize) {
        return malformed(`value_size ${valueSize}, the map has values of ${map.syscallValueSize} bytes`);
      }
      return undefined;
    });
  }

  /** Loads, attaches in place of what is attached, then lets that go. */
  async #setOffload(request: SetOffload, context: CommandContext): Promise<Outcome> {
    const loaded = await this.#load(request, context);
    if (loaded.kind !== 'program') return loaded;
    const refusal = await this.#attach(loaded, context);
    if (refusal === undefined) return DONE;
    // Attached though the device was reset meanwhile: the reset, which is waiting for its turn, detaches and frees it.
    if (this.#attached?.object !== loaded) this.#objects.free(loaded.handle);
    return refusal;
  }

  /** Translates, rules, verifies, rules, loads; then the program is in the table. */
  async #load(command: SetOffload, { id, epoch }: CommandContext): Promise<ProgramObject | Refusal> {
    const { guest, nic, accounts, party, world, clock } = this.#options;
    const references: MapReference[] = [];
    const maps = new Map<number, MapObject>();
    const numbers = new Map<number, number>();
    let charge: Charge | undefined;
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
      if (!this.#objects.hasRoom) return this.#tableFull();

      const program: Program = {
        name: `${guest}.${nic}`,
        type: BPF_PROG_TYPE_XDP,
        attachType: 'BPF_XDP',
        gplCompatible: command.gplCompatible,
        insns: translated.insns,
      };
      const mapTypes = [...maps.values()].map((object) => object.attributes.type);
      const summary = summarizeProgram(program.insns, program.gplCompatible, mapTypes);
      const loadDenial = this.#rule(id, { operation: 'program-load', program: summary });
      if (loadDenial !== undefined) return loadDenial;
      // Charged before the verifier is awaited: other guests' requests are ruled on meanwhile.
      charge = accounts.charge(guest, { programs: 1, insns: program.insns.length });

      const verification = await party.verifier.verify({
        program,
        maps: new Map(
          [...maps].map(([number, { attributes, handle }]) => [
            number,
            { ...attributes, name: `map 0x${handle.toString(16)}` },
          ]),
        ),
        signal: epoch,
      });
      if (epoch.aborted) return STALE;
      if (!verification.accepted) return rejected(verification);

      const attachDenial = this.#rule(
        id,
        { operation: 'program-attach', program: summary, properties: verification.properties },
        charge,
      );
      if (attachDenial !== undefined) return attachDenial;

      try {
        loaded = await party.executor.load(program, {
          maps: new Map([...maps].map(([number, object]) => [number, object.map])),
          world,
          facts: verification.facts,
          properties: verification.properties,
          insnLimit: insnLimitFor(verification.properties),
          countWork: party.countWork,
        });
      } catch (error) {
        return failed(EOPNOTSUPP, `the program cannot be loaded: ${messageOf(error)}`);
      }
      this.#work = loaded.work ?? this.#work;
      if (epoch.aborted) return STALE;
      const object = this.#objects.addProgram(
        {
          program: loaded,
          summary,
          properties: verification.properties,
          charge,
          tag: programTag(program.insns),
          loadTime: clock.now(),
        },
        references,
      );
      if (object === undefined) return this.#tableFull();
      // The table owns both from here on.
      loaded = undefined;
      charge = undefined;
      return object;
    } catch (error) {
      // Verifying was given up, which is what was wanted.
      if (epoch.aborted) return STALE;
      throw error;
    } finally {
      loaded?.close();
      charge?.release();
      for (const reference of references) reference.release();
    }
  }

  /** Why it was not attached, or not for long; what was attached before is then still there unless a reset takes it away. */
  #attach(object: ProgramObject, { epoch }: CommandContext): Promise<Refusal | undefined> {
    return this.#alone(async () => {
      // A reset that came meanwhile has let go of the program, too.
      if (epoch.aborted) return STALE;
      const previous = this.#attached;
      let attachment: Attachment;
      try {
        if (previous === undefined) {
          attachment = await this.#options.place.attach(object.program);
        } else {
          attachment = previous.attachment;
          await attachment.replace(object.program);
        }
      } catch (error) {
        return failed(EBUSY, messageOf(error));
      }
      this.#attached = { object, attachment };
      if (previous !== undefined) this.#objects.free(previous.object.handle);
      // A reset that came meanwhile is waiting for this, and takes it away again.
      return epoch.aborted ? STALE : undefined;
    });
  }

  #unsetOffload(): Outcome | Promise<Outcome> {
    if (this.#attached === undefined) return DONE;
    return this.#alone(async () => {
      const previous = this.#attached;
      if (previous === undefined) return DONE;
      try {
        await previous.attachment.detach();
      } catch (error) {
        // A program that may still be called must not be closed.
        return failed(EBUSY, messageOf(error));
      }
      if (this.#attached === previous) {
        this.#attached = undefined;
        this.#objects.free(previous.object.handle);
      }
      return DONE;
    });
  }

  /** Runs `work` when nothing else is being done to the place: at once if that is so. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#place === undefined ? work() : this.#place.then(work);
    const settled = run.then(
      () => undefined,
      () => undefined,
    );
    this.#place = settled;
    void settled.then(() => {
      if (this.#place === settled) this.#place = undefined;
    });
    return run;
  }

  #rule(id: number, request: RequestDetails, except?: Charge): Refusal | undefined {
    const { guest, nic, accounts, policies, clock, onRuling } = this.#options;
    if (policies.length === 0) return undefined;
    const usage = accounts.usageOf(guest, except);
    const totalUsage = accounts.totalUsage(except);
    const whole = { id, time: clock.now(), guest, nic, usage, totalUsage, ...request };
    const answer = ruleByChain(policies, whole, onRuling);
    if (answer.ruling === 'allow') return undefined;
    const errno = answer.errno ?? (request.operation === 'map-create' ? EPERM : EACCES);
    return { ok: false, kind: 'denied', reason: `by ${answer.policy}: ${answer.reason}`, errno };
  }

  #tableFull(): Refusal {
    return failed(ENOSPC, `the device's table is full: ${this.#limits.maxObjects} objects`);
  }
}

/**
 * What the verifier found a run to take at most: one that takes more shows that it was mistaken, or that keys of a map
 * were chosen to collide, and ends. The host's limit holds where it is smaller, where no bound is known, and for programs
 * whose tail calls lead to others.
 */
function insnLimitFor(properties: ProgramProperties | undefined): number {
  if (properties === undefined || properties.helpers.includes(BPF_FUNC.tail_call)) return DEFAULT_INSN_LIMIT;
  const { worstCaseInsns } = properties;
  return worstCaseInsns < DEFAULT_INSN_LIMIT ? Math.max(worstCaseInsns, 1) : DEFAULT_INSN_LIMIT;
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
/** A request without what is the same in all of them. */
type RequestDetails = DistributiveOmit<
  PolicyRequest,
  'id' | 'time' | 'guest' | 'nic' | 'usage' | 'totalUsage'
>;

function nextKey(map: BpfMap, key: Uint8Array | null): Outcome {
  const next = map.nextKey(key);
  return typeof next === 'number' ? mapErrno(next) : { ok: true, reply: { kind: 'key', key: next } };
}

function done(status: number): Outcome {
  return status === 0 ? DONE : mapErrno(status);
}

function mapErrno(status: number): Refusal {
  const errno = -status;
  const kind = ORDINARY_ERRNOS.has(errno) ? 'answer' : 'failed';
  return { ok: false, kind, reason: errnoName(errno), errno };
}
