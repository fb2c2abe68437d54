import { EBADF, EOPNOTSUPP } from '../../bpf/errno.js';
import { BPF_FUNC } from '../../bpf/helper-ids.js';
import { decodeInsns } from '../../bpf/insn.js';
import { BPF_F_RDONLY_PROG, BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP, type Program, type ProgramDebugInfo } from '../../bpf/program.js';
import { programTag } from '../../bpf/program-tag.js';
import { DEFAULT_INSN_LIMIT } from '../../bpf/runtime/insn-budget.js';
import { messageOf, XdpbedError } from '../diagnostic.js';
import type { LoadedProgram } from '../contract/executor.js';
import type { ProgramProperties, VerifierMap } from '../contract/verifier.js';
import type { BpfScope, CommandContext } from './bpf-scope.js';
import type { BtfObject, MapObject, ObjectReference, ProgramObject } from './device-object.js';
import { mixesFrags } from './guest-maps.js';
import type { Named } from './object-table.js';
import { translateHandles } from './program-handles.js';
import { summarizeProgram } from './program-summary.js';
import type { ProgramDebug } from './protocol/control-protocol.js';
import type { Charge } from './quota-accounts.js';
import { hostFailed, malformed, rejected, STALE, unknownHandle, type Refusal } from './refusal.js';
import { turn } from './turn.js';

/** A program as a request brings it. */
export interface ProgramBytes {
  /** Empty: the nic's name. */
  readonly name: string;
  readonly insns: Uint8Array;
  readonly gplCompatible: boolean;
  readonly frags: boolean;
  readonly debug?: ProgramDebug | undefined;
}

/** Insns from which on others have their turn between two steps of loading: up to here they take a few milliseconds together. */
const LONG_PROGRAM = 1024;
const FUNC_INFO_BYTES = 8;
const LINE_INFO_BYTES = 16;
/** Bytes of the host's memory that a line or a function takes beside its texts, measured: 80. */
const RECORD_BYTES = 96;

/**
 * Translates, rules, verifies, rules, loads; then the program is in the table, attached nowhere. What is ruled on is charged
 * for, or made, before anybody else has a turn.
 */
export async function loadGuestProgram(
  scope: BpfScope,
  bytes: ProgramBytes,
  { id, epoch }: CommandContext,
): Promise<Named<ProgramObject> | Refusal> {
  const { options, objects } = scope;
  const { party, world } = options;
  const references: ObjectReference[] = [];
  const maps = new Map<number, MapObject>();
  const numbers = new Map<number, number>();
  let charge: Charge | undefined;
  let loaded: LoadedProgram | undefined;
  try {
    const translated = translateHandles(decodeInsns(bytes.insns), (handle) => {
      const known = numbers.get(handle);
      if (known !== undefined) return known;
      // Held until the program is gone: neither CLOSE nor a reset may take a map from under it.
      const reference = objects.hold('map', handle);
      if (reference === undefined) return undefined;
      references.push(reference);
      const number = numbers.size + 1;
      numbers.set(handle, number);
      maps.set(number, reference.object);
      return number;
    });
    if (!translated.ok) return malformed(`insn ${translated.insn}: ${translated.reason}`, EBADF);
    const isLong = translated.insns.length > LONG_PROGRAM;
    if (isLong) await turn();
    if (epoch.aborted) return STALE;
    if (!objects.hasRoom) return scope.tableFull();

    let btf: BtfObject | undefined;
    if (bytes.debug !== undefined) {
      const held = objects.hold('btf', bytes.debug.btf);
      if (held === undefined) return unknownHandle(bytes.debug.btf, 'BTF');
      references.push(held);
      btf = held.object;
    }

    const undescribed: Program = {
      name: bytes.name === '' ? scope.label : bytes.name,
      type: BPF_PROG_TYPE_XDP,
      attachType: 'BPF_XDP',
      gplCompatible: bytes.gplCompatible,
      ...(bytes.frags ? { frags: true } : {}),
      insns: translated.insns,
    };
    for (const map of maps.values()) {
      const mixed = mixesFrags(map, bytes.frags);
      if (mixed !== undefined) return mixed;
    }
    const mapTypes = [...maps.values()].map((object) => object.attributes.type);
    const summary = summarizeProgram(undescribed.insns, undescribed.gplCompatible, mapTypes);
    const loadDenial = scope.rule(id, { operation: 'program-load', program: summary });
    if (loadDenial !== undefined) return loadDenial;
    // Only now: it takes longer than all that came before.
    const described =
      bytes.debug === undefined || btf === undefined
        ? undefined
        : debugInfo(scope, btf, bytes.debug, translated.insns.length);
    if (described !== undefined && 'ok' in described) return described;
    const program: Program =
      described === undefined ? undescribed : { ...undescribed, debug: described.debug };
    // Charged before the verifier is awaited: other guests' requests are ruled on meanwhile.
    const charged = scope.charge({ programs: 1, insns: program.insns.length }, described?.heldBytes);
    if ('ok' in charged) return charged;
    charge = charged;

    const verification = await party.verifier.verify({
      program,
      maps: new Map([...maps].map(([number, object]) => [number, verifierMap(object)])),
      signal: epoch,
    });
    if (epoch.aborted) return STALE;
    if (!verification.accepted) return rejected(verification);

    // What is able to attach is asked here, once for each program: attaching it later changes nothing of what it can do.
    const { properties, statistics } = verification;
    const attachDenial = scope.rule(
      id,
      { operation: 'program-attach', program: summary, properties },
      charge,
    );
    if (attachDenial !== undefined) return attachDenial;

    if (isLong) await turn();
    if (epoch.aborted) return STALE;
    try {
      loaded = await party.executor.load(program, {
        maps: new Map([...maps].map(([number, object]) => [number, object.map])),
        world,
        contained: verification.contained,
        facts: verification.facts,
        properties,
        insnLimit: insnLimitFor(properties),
        countWork: party.countWork,
      });
    } catch (error) {
      return hostFailed(EOPNOTSUPP, 'the program cannot be loaded', error);
    }
    if (isLong) await turn();
    if (epoch.aborted) return STALE;
    const whole = { program: loaded, charge };
    const added = objects.add<ProgramObject>('program', {
      charge,
      uses: [...references],
      make: (id) => ({
        kind: 'program',
        id,
        name: bytes.name,
        ...whole,
        summary,
        properties,
        tag: programTag(program.insns),
        loadTime: options.clock.now(),
        verifiedInsns: statistics.processedInsns,
        maps: [...maps.values()],
        btf,
        code: program,
        debug:
          bytes.debug === undefined
            ? undefined
            : { functions: bytes.debug.functions, lines: bytes.debug.lines },
        frags: bytes.frags,
      }),
      close: ({ program: gone }) => gone.close(),
    });
    if (added === undefined) return scope.tableFull();
    for (const map of maps.values()) map.frags ??= bytes.frags;
    // The table owns all of it from here on.
    loaded = undefined;
    charge = undefined;
    references.length = 0;
    return added;
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

/** What a verifier may rely on: a frozen map that programs cannot write either has the value that it has now for ever. */
function verifierMap({ attributes, id, name, frozen, map }: MapObject): VerifierMap {
  const isConstant =
    frozen &&
    attributes.type === BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY &&
    attributes.maxEntries === 1 &&
    (attributes.flags & BPF_F_RDONLY_PROG) !== 0;
  const frozenValue = isConstant ? map.lookup(new Uint8Array(attributes.keySize)) : undefined;
  return {
    ...attributes,
    name: name === '' ? `map ${id}` : name,
    ...(frozenValue instanceof Uint8Array ? { frozenValue } : {}),
  };
}

/** Functions and lines by the guest's own BTF: for messages, and for what programs call back. With the bytes that they keep of the host's memory. */
function debugInfo(
  scope: BpfScope,
  object: BtfObject,
  { functions, lines }: ProgramDebug,
  insnCount: number,
): { readonly debug: ProgramDebugInfo; readonly heldBytes: number } | Refusal {
  // Texts may be parts of one that is as long as the BTF, or copies, of two bytes a character.
  let heldBytes = object.bytes.length + functions.length + lines.length;
  // Trimmed once: who compares many lines of the same text compares one.
  const kept = new Map<number, { readonly whole: string; readonly trimmed: string }>();
  try {
    const btf = scope.btfOf(object.bytes);
    const textAt = (offset: number, what: string) => {
      let text = kept.get(offset);
      if (text === undefined) {
        const whole = btf.strings.cut(offset, what);
        kept.set(offset, (text = { whole, trimmed: whole.trim() }));
        heldBytes += 2 * whole.length;
      }
      return text;
    };
    const functionView = new DataView(functions.buffer, functions.byteOffset, functions.length);
    const lineView = new DataView(lines.buffer, lines.byteOffset, lines.length);
    const info = {
      functions: [] as ProgramDebugInfo['functions'][number][],
      lines: [] as ProgramDebugInfo['lines'][number][],
    };
    let before = -1;
    for (let at = 0; at < functions.length; at += FUNC_INFO_BYTES) {
      const insn = functionView.getUint32(at, true);
      const typeId = functionView.getUint32(at + 4, true);
      const type = btf.type(typeId);
      if (insn <= before || insn >= insnCount) return malformed(`func_info of insn ${insn} after ${before}`);
      if (type.kind !== 'FUNC') return malformed(`func_info names type ${typeId}, which is no FUNC`);
      info.functions.push({ insn, typeId, name: type.name, linkage: type.linkage });
      heldBytes += RECORD_BYTES + 2 * type.name.length;
      before = insn;
    }
    before = -1;
    for (let at = 0; at < lines.length; at += LINE_INFO_BYTES) {
      const insn = lineView.getUint32(at, true);
      if (insn <= before || insn >= insnCount) return malformed(`line_info of insn ${insn} after ${before}`);
      const lineAndColumn = lineView.getUint32(at + 12, true);
      info.lines.push({
        insn,
        file: textAt(lineView.getUint32(at + 4, true), 'the file of a line').whole,
        text: textAt(lineView.getUint32(at + 8, true), 'the text of a line').trimmed,
        line: lineAndColumn >>> 10,
        column: lineAndColumn & 0x3ff,
      });
      heldBytes += RECORD_BYTES;
      before = insn;
    }
    return { debug: info, heldBytes };
  } catch (error) {
    if (error instanceof XdpbedError) return malformed(`BTF of the program: ${messageOf(error)}`);
    throw error;
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
