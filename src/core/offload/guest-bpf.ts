import { EBUSY, EEXIST, ENOENT, ENOLINK, ENOSPC, EPERM } from '../../bpf/errno.js';
import { messageOf, XdpbedError } from '../diagnostic.js';
import type { LoadedProgram } from '../contract/executor.js';
import type { HostUsage } from '../contract/policy.js';
import { addVerdicts, emptyVerdictCounts, type VerdictCounts } from '../contract/result.js';
import { BpfScope, type CommandContext, type RequestDetails } from './bpf-scope.js';
import { CountedPlace } from './counted-place.js';
import type { BtfObject, DeviceObject, LinkObject } from './device-object.js';
import { DEFAULT_GUEST_BPF_LIMITS, type GuestBpfOptions } from './guest-bpf-options.js';
import { GuestMaps } from './guest-maps.js';
import { loadGuestProgram } from './guest-programs.js';
import { ObjectTable, type Named } from './object-table.js';
import { ProgramPlace } from './program-place.js';
import type {
  BpfRequest,
  CreateLink,
  LoadBtf,
  LoadProgram,
  Pin,
  ReadBtf,
  SetOffload,
  UpdateLink,
} from './protocol/control-protocol.js';
import { HOOK_POINT, type ObjectInfo } from './protocol/object-info.js';
import {
  DONE,
  failed,
  malformed,
  unknownHandle,
  unsupported,
  type Outcome,
  type Refusal,
} from './refusal.js';

/**
 * One guest's BPF on the host: what it holds there, by handles of its own, and what is attached. Each request's fields
 * are checked against the object it names, its handles are translated, and the policies are asked, all before anything
 * is done.
 *
 * Loading and attaching are two steps: a program is judged, charged and loaded into the table; attaching puts one of
 * the table's programs into its place, where it stays until another replaces it in one step.
 *
 * Requests on maps are carried out at once; only what loads or attaches is waited for. The caller sees to it that
 * requests are not carried out side by side.
 */
export class GuestBpf {
  readonly #options: GuestBpfOptions;
  readonly #scope: BpfScope;
  readonly #objects: ObjectTable;
  readonly #maps: GuestMaps;
  #counted: CountedPlace;
  readonly #place: ProgramPlace;

  constructor(options: GuestBpfOptions) {
    this.#options = options;
    const limits = { ...DEFAULT_GUEST_BPF_LIMITS, ...options.limits };
    this.#objects = new ObjectTable({
      capacity: limits.maxObjects,
      onCloseFailure: (error) => options.onFailure('release', error),
    });
    this.#scope = new BpfScope(options, limits, this.#objects);
    this.#maps = new GuestMaps(this.#scope);
    this.#counted = new CountedPlace(options.place);
    this.#place = new ProgramPlace(this.#counted);
  }

  /** The program that runs in front of the guest, if any. */
  get attachedProgram(): LoadedProgram | undefined {
    return this.#place.loaded;
  }

  /** Objects that the host holds, those included that only a program keeps alive. */
  get objectCount(): number {
    return this.#objects.size;
  }

  /** Handles and names of pins that the guest has. */
  get nameCount(): number {
    return this.#objects.nameCount;
  }

  /** What those objects are charged for, added up anew. */
  get usage(): HostUsage {
    return this.#objects.usage;
  }

  /** In the order in which they came. */
  get objects(): readonly DeviceObject[] {
    return this.#objects.objects();
  }

  handle(request: BpfRequest, context: CommandContext): Outcome | Promise<Outcome> {
    const outcome = this.#carryOut(request, context);
    return outcome instanceof Promise
      ? outcome.then((settled) => this.#whenGone(settled))
      : this.#whenGone(outcome);
  }

  /** What comes of a command, once all has gone that it has left to itself. */
  #whenGone(outcome: Outcome): Outcome | Promise<Outcome> {
    return this.#objects.going?.then(() => outcome) ?? outcome;
  }

  #carryOut(request: BpfRequest, context: CommandContext): Outcome | Promise<Outcome> {
    switch (request.kind) {
      case 'set-offload':
        return this.#setOffload(request, context);
      case 'unset-offload':
        return this.#place.program === undefined ? DONE : this.#place.take().then(doneUnless);
      case 'create-map':
        return this.#maps.create(request, context);
      case 'free-map':
        return this.#maps.withMap(request.handle, 'map-free', context, () => {
          this.#objects.free(request.handle);
          return DONE;
        });
      case 'freeze-map':
        return this.#maps.freeze(request, context);
      case 'read-records':
        return this.#maps.readRecords(request, context);
      case 'load-btf':
        return this.#loadBtf(request, context);
      case 'read-btf':
        return this.#readBtf(request);
      case 'load-program':
        return this.#loadProgram(request, context);
      case 'create-link':
        return this.#createLink(request, context);
      case 'update-link':
        return this.#updateLink(request, context);
      case 'detach-link': {
        const link = this.#objects.find('link', request.link);
        return link === undefined
          ? unknownHandle(request.link, 'link')
          : this.#place.take(link).then(doneUnless);
      }
      case 'pin':
        return this.#pin(request, context);
      case 'unpin':
        return this.#objects.unpin(request.name) ? this.#whenLeft() : noSuch(`name '${request.name}'`);
      case 'open-pinned': {
        const object = this.#objects.pinned(request.name);
        return object === undefined ? noSuch(`name '${request.name}'`) : this.#open(object, context);
      }
      case 'next-pinned': {
        const name = this.#objects.pinAfter(request.after);
        return name === undefined ? noSuch('name after it') : { ok: true, reply: { kind: 'name', name } };
      }
      case 'open-by-id': {
        const object = this.#objects.byId(request.object, request.id);
        return object === undefined ? noSuch(`${request.object} ${request.id}`) : this.#open(object, context);
      }
      case 'next-id': {
        const id = this.#objects.idAfter(request.object, request.after);
        return id === undefined
          ? noSuch(`${request.object} after it`)
          : { ok: true, reply: { kind: 'id', id } };
      }
      case 'get-info':
        return this.#info(request.handle);
      case 'close':
        return this.#close(request.handle, context);
      case 'get-capabilities': {
        const capabilities = this.#options.capabilities?.();
        if (capabilities === undefined) return unsupported('this device does not tell what it is able to do');
        return { ok: true, reply: { kind: 'capabilities', capabilities } };
      }
      case 'get-report':
        return this.#report();
      default:
        return this.#maps.elements(request, context);
    }
  }

  /**
   * As after a device reset: nothing is attached, no object is left, old handles mean nothing. Only a program that its
   * place does not let go of stays, in its place and charged for: the next reset, or who detaches or replaces it, tries
   * again.
   */
  async reset(): Promise<void> {
    // The place first: a link whose last name goes takes away by itself what it attached, and nobody waits for that. What a
    // command that is under way still finds is of no use to it: its epoch is over.
    const refusal = await this.#place.take();
    this.#objects.freeAll();
    await this.#objects.going;
    this.#scope.forget();
    if (refusal !== undefined) this.#options.onFailure('reset', new Error(refusal.reason));
  }

  // What a move to another host needs, see migration/move.ts.

  /** A link by which nothing is attached yet; what is, is detached with its last name. */
  addLink(hook: number): Named<LinkObject> | Refusal {
    const added = this.#objects.add<LinkObject>('link', {
      charge: this.#options.accounts.charge(this.#options.guest, {}),
      make: (id) => ({ kind: 'link', id, name: '', hook }),
      unnamed: (link) => {
        void this.#place.take(link).then((refusal) => {
          if (refusal !== undefined) this.#options.onFailure('close', new Error(refusal.reason));
        });
        return undefined;
      },
    });
    return added ?? this.#scope.tableFull();
  }

  get pins(): readonly (readonly [name: string, object: DeviceObject])[] {
    return this.#objects.pins;
  }

  /** What a handle names. */
  object(handle: number): DeviceObject | undefined {
    return this.#objects.get(handle);
  }

  /** Settles when what is being done to the place is done; undefined: nothing is. */
  get underWay(): Promise<unknown> | undefined {
    return this.#place.underWay;
  }

  /** Settles when all has gone that nothing needs any more; undefined: it has. */
  get going(): Promise<void> | undefined {
    return this.#objects.going;
  }

  /** See {@link HookPlace.replacesAtOnce}. */
  get replacesAtOnce(): boolean {
    return this.#place.replacesAtOnce;
  }

  rule(id: number, request: RequestDetails): Refusal | undefined {
    return this.#scope.rule(id, request);
  }

  /** Has the counterpart of what is attached run in its place: at once, where the place is able to. */
  async switchTo(counterparts: ReadonlyMap<DeviceObject, DeviceObject>): Promise<void> {
    const { program } = this.#place;
    if (program === undefined) return;
    const counterpart = counterparts.get(program);
    if (counterpart?.kind === 'program') await this.#place.switchTo(counterpart.program);
  }

  /** Stands for another from now on, with its handles, ids and counters; that one holds nothing any more. */
  takeOver(from: GuestBpf, counterparts: ReadonlyMap<DeviceObject, DeviceObject>): void {
    const { program, link } = from.#place;
    const counterpart = program === undefined ? undefined : counterparts.get(program);
    const linkHere = link === undefined ? undefined : counterparts.get(link);
    this.#place.takeOver(
      from.#place,
      counterpart?.kind === 'program' ? this.#objects.holdObject(counterpart) : undefined,
      linkHere?.kind === 'link' ? linkHere : undefined,
    );
    this.#counted = from.#counted;
    this.#objects.takeNames(from.#objects, counterparts);
    from.#objects.freeAll();
    from.#scope.forget();
  }

  /** Loads, attaches in place of what is attached, then lets that go. */
  async #setOffload(request: SetOffload, context: CommandContext): Promise<Outcome> {
    const loaded = await loadGuestProgram(this.#scope, { ...request, name: '', frags: false }, context);
    if ('ok' in loaded) return loaded;
    const { handle, object } = loaded;
    const put = this.#place.put(this.#objects.holdObject(object), context.epoch);
    // RFC 2019 names no programs: it lives as long as it is attached.
    this.#objects.free(handle);
    return doneUnless(await put);
  }

  async #loadProgram(request: LoadProgram, context: CommandContext): Promise<Outcome> {
    const loaded = await loadGuestProgram(this.#scope, request, context);
    return 'ok' in loaded ? loaded : named(loaded.handle);
  }

  async #createLink({ program: handle, hook }: CreateLink, { epoch }: CommandContext): Promise<Outcome> {
    if (hook !== HOOK_POINT.RX) return malformed(`there is no hook point ${hook}`);
    const program = this.#objects.hold('program', handle);
    if (program === undefined) return unknownHandle(handle, 'program');
    const added = this.addLink(hook);
    if ('ok' in added) {
      program.release();
      return added;
    }
    const expected = (now: unknown): Refusal | undefined =>
      now === undefined
        ? undefined
        : failed(EBUSY, 'a program is attached already: update its link, or detach it');
    const refusal = await this.#place.put(program, epoch, { link: added.object, expected });
    if (refusal === undefined) return named(added.handle);
    this.#objects.free(added.handle);
    return refusal;
  }

  async #updateLink(request: UpdateLink, { epoch }: CommandContext): Promise<Outcome> {
    const link = this.#objects.find('link', request.link);
    if (link === undefined) return unknownHandle(request.link, 'link');
    const program = this.#objects.hold('program', request.program);
    if (program === undefined) return unknownHandle(request.program, 'program');
    const old = request.expected === undefined ? undefined : this.#objects.find('program', request.expected);
    if (request.expected !== undefined && old === undefined) {
      program.release();
      return unknownHandle(request.expected, 'program');
    }
    const expected = (now: unknown): Refusal | undefined => {
      // Errors as in net/core/dev.c bpf_xdp_link_update: a link that was detached stays so.
      if (now === undefined || this.#place.programOf(link) !== now)
        return failed(ENOLINK, 'the link is detached');
      return old === undefined || now === old
        ? undefined
        : failed(EPERM, 'another program than the expected one is attached');
    };
    return doneUnless(await this.#place.put(program, epoch, { link, expected }));
  }

  #loadBtf({ bytes }: LoadBtf, { id }: CommandContext): Outcome {
    if (!this.#objects.hasRoom) return this.#scope.tableFull();
    const denial = this.#scope.rule(id, { operation: 'btf-load', bytes: bytes.length });
    if (denial !== undefined) return denial;
    try {
      this.#scope.btfOf(bytes);
    } catch (error) {
      if (error instanceof XdpbedError) return malformed(messageOf(error));
      throw error;
    }
    const charge = this.#scope.charge({ btfMemory: bytes.length });
    if ('ok' in charge) return charge;
    const added = this.#objects.add<BtfObject>('btf', {
      charge,
      make: (id) => ({ kind: 'btf', id, name: '', bytes }),
    });
    if (added !== undefined) return named(added.handle);
    charge.release();
    return this.#scope.tableFull();
  }

  #readBtf({ handle, offset, length }: ReadBtf): Outcome {
    const btf = this.#objects.find('btf', handle);
    if (btf === undefined) return unknownHandle(handle, 'BTF');
    return { ok: true, reply: { kind: 'bytes', bytes: btf.bytes.slice(offset, offset + length) } };
  }

  #pin({ handle, name }: Pin, { id }: CommandContext): Outcome {
    const object = this.#objects.get(handle);
    if (object === undefined) return unknownHandle(handle, 'object');
    // As in bpffs, where there is no way to pin it.
    if (object.kind === 'btf') return malformed('BTF cannot be pinned');
    if (this.#objects.isPinned(name)) return { ...failed(EEXIST, `'${name}' is taken`), kind: 'answer' };
    const { maxPins } = this.#scope.limits;
    if (this.#objects.pinCount >= maxPins) return failed(ENOSPC, `${maxPins} names are taken, the limit`);
    const denial = this.#scope.rule(id, { operation: 'object-pin', object: object.kind, name });
    if (denial !== undefined) return denial;
    this.#objects.pin(name, object);
    return DONE;
  }

  #open(object: DeviceObject, { id }: CommandContext): Outcome {
    const denial = this.#scope.rule(id, { operation: 'object-open', object: object.kind });
    if (denial !== undefined) return denial;
    const handle = this.#objects.open(object);
    return handle === undefined ? this.#scope.tableFull() : named(handle);
  }

  #close(handle: number, context: CommandContext): Outcome | Promise<Outcome> {
    const object = this.#objects.get(handle);
    if (object === undefined) return unknownHandle(handle, 'object');
    if (object.kind !== 'map') {
      this.#objects.free(handle);
      return this.#whenLeft();
    }
    return this.#maps.withMap(handle, 'map-free', context, () => {
      this.#objects.free(handle);
      return DONE;
    });
  }

  /** Done, once a link that lost its last name has left its place. */
  #whenLeft(): Outcome | Promise<Outcome> {
    return this.#place.underWay?.then(() => DONE) ?? DONE;
  }

  #info(handle: number): Outcome | Promise<Outcome> {
    const object = this.#objects.get(handle);
    if (object === undefined) return unknownHandle(handle, 'object');
    const { id, name } = object;
    const answer = (info: ObjectInfo): Outcome => ({ ok: true, reply: { kind: 'info', info } });
    switch (object.kind) {
      case 'map':
        return answer({
          kind: 'map',
          id,
          name,
          type: object.attributes.type,
          keySize: object.attributes.keySize,
          valueSize: object.map.syscallValueSize,
          maxEntries: object.attributes.maxEntries,
          flags: object.attributes.flags,
          frozen: object.frozen,
          memoryBytes: object.memoryBytes,
          btf: object.btf?.object.id ?? 0,
          keyType: object.btf?.keyType ?? 0,
          valueType: object.btf?.valueType ?? 0,
        });
      case 'program':
        return answer({
          kind: 'program',
          id,
          name,
          tag: object.tag,
          insnCount: object.summary.insnCount,
          gplCompatible: object.summary.gplCompatible,
          loadTime: BigInt(Math.floor(object.loadTime / 1000)),
          verifiedInsns: object.verifiedInsns,
          btf: object.btf?.id ?? 0,
          maps: object.maps.map((map) => map.id).sort((a, b) => a - b),
        });
      case 'btf':
        return answer({ kind: 'btf', id, name, size: object.bytes.length });
      case 'link':
        return this.#verdictsOf(object).then((verdicts) =>
          answer({
            kind: 'link',
            id,
            name,
            program: this.#place.programOf(object)?.id ?? 0,
            hook: object.hook,
            verdicts,
          }),
        );
    }
  }

  async #verdictsOf(link: LinkObject): Promise<VerdictCounts> {
    const verdicts = emptyVerdictCounts();
    const counted = this.#place.programOf(link) === undefined ? undefined : await this.#place.counters();
    if (counted !== undefined) addVerdicts(verdicts, counted);
    return verdicts;
  }

  async #report(): Promise<Outcome> {
    const { guest, accounts, answered } = this.#options;
    const verdicts = (await this.#counted.counters()) ?? emptyVerdictCounts();
    const usage = accounts.usageOf(guest);
    const report = { ...(answered?.() ?? { commands: 0, errors: 0 }), verdicts, usage };
    return { ok: true, reply: { kind: 'report', report } };
  }
}

function named(handle: number): Outcome {
  return { ok: true, reply: { kind: 'handle', handle } };
}

function doneUnless(refusal: Refusal | undefined): Outcome {
  return refusal ?? DONE;
}

/** Ordinary: what is listed comes to an end. */
function noSuch(what: string): Refusal {
  return { ...failed(ENOENT, `there is no ${what}`), kind: 'answer' };
}
