import { encodeInsns, isLddw, type Insn } from '../../../bpf/insn.js';
import { BPF_F_RDONLY_PROG, type MapAttributes } from '../../../bpf/map-spec.js';
import { BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE } from '../../../bpf/opcodes.js';
import { E2BIG, EBUSY, errnoName } from '../../../bpf/errno.js';
import { messageOf } from '../../diagnostic.js';
import type { CommandContext } from '../bpf-scope.js';
import type { BtfObject, DeviceObject, MapObject, ProgramObject } from '../device-object.js';
import type { GuestBpf } from '../guest-bpf.js';
import { holdsObjects } from '../guest-maps.js';
import type { BpfRequest } from '../protocol/control-protocol.js';
import { failed, STALE, type Refusal } from '../refusal.js';
import { turn } from '../turn.js';
import { copyInPortions, stepsOfCopy, type CopiedContent } from './copy-map.js';

/** A guest's objects on the host that it leaves, and what stands for them on the one that it goes to. */
export interface ReplayedObjects {
  /** By the object that it stands for. */
  readonly counterparts: ReadonlyMap<DeviceObject, DeviceObject>;
  /** Maps whose content may still change. */
  readonly changing: readonly (readonly [from: MapObject, to: MapObject])[];
  /** Bytes of keys and values that were copied. */
  readonly bytes: number;
}

/**
 * Has a device make for itself what another holds for the guest, by the same requests as a guest would make them: so all that
 * guards a host is asked, and its own verifier. What it holds then is named by handles that nobody knows yet.
 *
 * Returns the first refusal, or what the other host threw; what was made until then is the device's to give back.
 */
export async function replayObjects(
  from: GuestBpf,
  to: GuestBpf,
  context: CommandContext,
): Promise<ReplayedObjects | Refusal> {
  const replay = new Replay(to, context);
  try {
    return (await replay.run(from)) ?? replay;
  } catch (error) {
    return failed(EBUSY, `the other host failed: ${messageOf(error)}`);
  }
}

class Replay implements ReplayedObjects {
  readonly counterparts = new Map<DeviceObject, DeviceObject>();
  readonly changing: [MapObject, MapObject][] = [];
  bytes = 0;
  readonly #handles = new Map<DeviceObject, number>();
  /** Elements that are objects and were put into maps. */
  #put = 0;

  constructor(
    readonly to: GuestBpf,
    readonly context: CommandContext,
  ) {}

  async run(from: GuestBpf): Promise<Refusal | undefined> {
    const { objects } = from;
    const tooMuch = refuseLongCopy(objects);
    if (tooMuch !== undefined) return tooMuch;
    for (const make of [
      (object: DeviceObject) => (object.kind === 'btf' ? this.#btf(object) : undefined),
      (object: DeviceObject) => (object.kind === 'map' ? this.#map(object) : undefined),
      (object: DeviceObject) => (object.kind === 'program' ? this.#program(object) : undefined),
      (object: DeviceObject) => (object.kind === 'map' ? this.#elements(object) : undefined),
    ]) {
      for (const object of objects) {
        const refusal = await make(object);
        if (refusal !== undefined) return refusal;
      }
    }
    for (const object of objects) {
      if (object.kind !== 'link') continue;
      const added = this.to.addLink(object.hook);
      if ('ok' in added) return added;
      this.#is(object, added.handle);
    }
    for (const [name, object] of from.pins) {
      const refusal = await this.#do({ kind: 'pin', handle: this.#handles.get(object)!, name });
      if (typeof refusal === 'object') return refusal;
    }
    return undefined;
  }

  async #btf(object: BtfObject): Promise<Refusal | undefined> {
    return this.#make(object, { kind: 'load-btf', bytes: object.bytes });
  }

  async #map(object: MapObject): Promise<Refusal | undefined> {
    const { attributes, name, btf, inner } = object;
    const refusal = await this.#make(object, {
      ...createMap(attributes),
      name,
      inner: inner === undefined ? undefined : this.#handles.get(inner)!,
      ...(btf === undefined
        ? {}
        : {
            btf: {
              handle: this.#handles.get(btf.object)!,
              keyType: btf.keyType,
              valueType: btf.valueType,
            },
          }),
    });
    if (refusal !== undefined) return refusal;
    const copy = this.counterparts.get(object) as MapObject;
    // Also of a PROG_ARRAY that has no program any more.
    copy.frags = object.frags;
    if (holdsObjects(attributes)) return undefined;
    // Others have their turn between two maps.
    await turn();
    const copied = await this.#copy(object, copy);
    if ('ok' in copied) return copied;
    this.bytes += copied.bytes;
    // Of one that nobody can write any more a verifier may want to know what is in it.
    const changes = mayChange(object);
    if (changes) this.changing.push([object, copy]);
    const sealed = !changes
      ? await this.#do({ kind: 'freeze-map', handle: this.#handles.get(object)! })
      : undefined;
    return typeof sealed === 'object' ? sealed : undefined;
  }

  /** As far as it goes while the guest's programs run: what they change meanwhile is copied at the switch. */
  async #copy(object: MapObject, copy: MapObject): Promise<CopiedContent | Refusal> {
    const copying = copyInPortions(object.map, copy.map);
    for (;;) {
      const { done, value } = copying.next();
      if (done !== true) {
        await turn();
        // What is copied, or what it is copied to, may be gone.
        if (this.context.epoch.aborted) return STALE;
        continue;
      }
      if (typeof value !== 'number') return value;
      // There was room for what is in the original, and what is in the copy is no more in the original.
      if (value === -E2BIG) return { elements: 0, bytes: 0 };
      return failed(-value, `map ${object.id} cannot be filled: ${errnoName(value)}`);
    }
  }

  #program(object: ProgramObject): Promise<Refusal | undefined> {
    const { name, code, maps, debug, btf } = object;
    const insns = code.insns.map((insn, index) => {
      if (!namesMap(insn, code.insns[index - 1])) return insn;
      return { ...insn, imm: this.#handles.get(maps[insn.imm - 1]!)! };
    });
    return this.#make(object, {
      kind: 'load-program',
      name,
      insns: encodeInsns(insns),
      gplCompatible: code.gplCompatible,
      frags: code.frags === true,
      ...(debug === undefined || btf === undefined
        ? {}
        : { debug: { ...debug, btf: this.#handles.get(btf)! } }),
    });
  }

  async #elements(object: MapObject): Promise<Refusal | undefined> {
    for (const [key, element] of object.elements) {
      const value = new Uint8Array(4);
      new DataView(value.buffer).setUint32(0, this.#handles.get(element.object)!, true);
      const handle = this.#handles.get(object)!;
      const refusal = await this.#do({
        kind: 'update-elem',
        handle,
        key: Uint8Array.from(Buffer.from(key, 'hex')),
        value,
        flags: 0n,
      });
      if (typeof refusal === 'object') return refusal;
      if (++this.#put % ELEMENTS_PER_TURN === 0) await turn();
    }
    return undefined;
  }

  async #make(object: DeviceObject, request: BpfRequest): Promise<Refusal | undefined> {
    const made = await this.#do(request);
    if (typeof made !== 'number') return made;
    this.#is(object, made);
    return undefined;
  }

  #is(object: DeviceObject, handle: number): void {
    this.#handles.set(object, handle);
    this.counterparts.set(object, this.to.object(handle)!);
  }

  /** The handle that it ends in, nothing where it ends in none, or why it was refused. */
  async #do(request: BpfRequest): Promise<number | undefined | Refusal> {
    const outcome = await this.to.handle(request, this.context);
    if (!outcome.ok) return outcome;
    return outcome.reply.kind === 'handle' ? outcome.reply.handle : undefined;
  }
}

function createMap({ type, keySize, valueSize, maxEntries, flags }: MapAttributes) {
  return { kind: 'create-map', mapType: type, keySize, valueSize, maxEntries, mapFlags: flags } as const;
}

/** Whether imm is the number of a map: in the first slot of an `lddw` only. */
function namesMap(insn: Insn, before: Insn | undefined): boolean {
  if (before !== undefined && isLddw(before)) return false;
  return isLddw(insn) && (insn.src === BPF_PSEUDO_MAP_FD || insn.src === BPF_PSEUDO_MAP_VALUE);
}

/** Whether somebody can write it: a command, or a program. */
function mayChange({ frozen, attributes }: MapObject): boolean {
  return !frozen || (attributes.flags & BPF_F_RDONLY_PROG) === 0;
}

/** What the switch goes through is bounded, of all maps together: nobody else is served meanwhile. */
function refuseLongCopy(objects: readonly DeviceObject[]): Refusal | undefined {
  let steps = 0;
  for (const object of objects) {
    if (object.kind !== 'map' || holdsObjects(object.attributes) || !mayChange(object)) continue;
    steps += stepsOfCopy(object.map);
    if (steps > MAX_STEPS) {
      return failed(
        E2BIG,
        `maps up to map ${object.id} take ${steps} steps to copy, of which no more than ${MAX_STEPS} are moved: one for an entry and for each KiB of it, more of an LPM_TRIE`,
      );
    }
  }
  return undefined;
}

/** Steps of the copy in one stretch at the switch: 15 to 90 ms. */
const MAX_STEPS = 65_536;
/** Elements that are objects, of 1 to 4 µs each, after which others have their turn. */
const ELEMENTS_PER_TURN = 256;
