import type { BtfTypeRef } from '../../bpf/btf/btf-type-ref.js';
import { isComposite } from '../../bpf/btf/btf.js';
import type { MapSpec } from '../../bpf/map-spec.js';
import { XDP_ACTION_NAMES, type XdpActionName } from '../../bpf/xdp.js';
import { XdpbedError } from '../diagnostic.js';
import { nearest } from '../nearest.js';
import { valueForm } from '../../bpf/btf/value-types.js';
import { formatElement } from '../program-test/map-dump.js';
import { findMap } from '../testbed/map-input.js';
import { isGlobalData } from '../testbed/map-values.js';
import { parseElement } from '../testbed/map-values.js';
import type { Step, Subject } from './subject.js';

/** What is to hold after each packet of every sequence. */
export interface Property {
  /** As it was written. */
  readonly text: string;
  /** The verdicts that it leaves, for a property of verdicts. */
  readonly verdicts?: readonly XdpActionName[] | undefined;
  /** Why it does not hold after this step; undefined when it does. */
  violation(step: Step, subject: Subject): string | undefined;
}

type Comparison = '==' | '!=' | '<=' | '>=' | '<' | '>';
const COMPARISONS: Readonly<Record<Comparison, (a: bigint, b: bigint) => boolean>> = {
  '==': (a, b) => a === b,
  '!=': (a, b) => a !== b,
  '<=': (a, b) => a <= b,
  '>=': (a, b) => a >= b,
  '<': (a, b) => a < b,
  '>': (a, b) => a > b,
};

const FORMS = "'no-abort', 'verdict=XDP_PASS,XDP_DROP', 'verdict!=XDP_TX' or 'map NAME[KEY] <= 10'";

/**
 * A property as `--expect` takes it:
 *
 * ```
 * no-abort                          no XDP_ABORTED, and no number that is no verdict
 * verdict=XDP_PASS,XDP_DROP         one of these; `!=` none of these
 * map NAME[KEY] OP NUMBER           OP is == != <= >= < >; holds for a key that is not there
 * map NAME[*] OP NUMBER             of every element
 * map NAME[KEY].MEMBER OP NUMBER    members and [INDEX] by BTF
 * map .bss.VARIABLE OP NUMBER       a global variable
 * ```
 * The value of a per-CPU map is the sum over the CPUs. Throws `usage` for what it does not understand, and `map-invalid`
 * for a map or a key that there is not.
 */
export function parseProperty(text: string, maps: readonly MapSpec[]): Property {
  const trimmed = text.trim();
  if (trimmed === 'no-abort') return noAbort(trimmed);
  const verdict = /^verdict\s*(!?=)=?\s*(.+)$/.exec(trimmed);
  if (verdict !== null) return verdictProperty(trimmed, verdict[1]!, verdict[2]!);
  const map = /^map\s+(.+?)\s*(==|!=|<=|>=|<|>)\s*(-?(?:0x[0-9a-fA-F]+|\d+))$/.exec(trimmed);
  if (map !== null) return mapProperty(trimmed, map[1]!, map[2] as Comparison, number(map[3]!), maps);
  throw new XdpbedError('usage', `--expect '${text}' is none of ${FORMS}`);
}

function number(text: string): bigint {
  return text.startsWith('-') ? -BigInt(text.slice(1)) : BigInt(text);
}

function noAbort(text: string): Property {
  return {
    text,
    verdicts: XDP_ACTION_NAMES.filter((name) => name !== 'XDP_ABORTED'),
    violation: ({ outcome: { verdict, returned, fault } }) => {
      if (fault !== undefined) return `aborted at insn ${fault.insn}: ${fault.reason}`;
      if (verdict !== 'XDP_ABORTED') return undefined;
      return returned === 0 ? 'verdict is XDP_ABORTED' : `returned ${returned}, which is no verdict`;
    },
  };
}

function verdictProperty(text: string, operator: string, names: string): Property {
  const named = names.split(',').map((name): XdpActionName => {
    const found = XDP_ACTION_NAMES.find((each) => each === name.trim());
    if (found !== undefined) return found;
    const near = nearest(name.trim(), XDP_ACTION_NAMES);
    throw new XdpbedError('usage', `--expect: '${name.trim()}' is no verdict`, {
      hint: near === undefined ? `verdicts: ${XDP_ACTION_NAMES.join(', ')}` : `did you mean '${near}'?`,
    });
  });
  const verdicts = XDP_ACTION_NAMES.filter((name) => named.includes(name) === (operator === '='));
  return {
    text,
    verdicts,
    violation: ({ outcome: { verdict } }) =>
      verdicts.includes(verdict) ? undefined : `verdict is ${verdict}`,
  };
}

/** A place in a value from which a number can be read. */
interface NumberPlace {
  readonly type: BtfTypeRef | undefined;
  readonly offset: number;
  readonly size: number;
}

function mapProperty(
  text: string,
  target: string,
  operator: Comparison,
  bound: bigint,
  maps: readonly MapSpec[],
): Property {
  const { map, key, path } = splitTarget(target, maps);
  const place = placeIn(map, path);
  const keyBytes =
    key === undefined || key === '*'
      ? undefined
      : parseElement(map.keyType, map.keySize, scalarOf(key), { what: `key of ${map.name}` });
  const holds = COMPARISONS[operator];
  return {
    text,
    violation: (_, subject) => {
      const live = subject.session.maps.get(map.name);
      if (live === undefined) return undefined;
      const check = (element: Uint8Array, name: string): string | undefined => {
        const value = live.lookup(element);
        if (typeof value === 'number') return undefined;
        const is = numberAt(map, value, place);
        return holds(is, bound) ? undefined : `${map.name}${name}${path} is ${is}, not ${operator} ${bound}`;
      };
      if (key === undefined) return check(new Uint8Array(map.keySize), '');
      if (keyBytes !== undefined) return check(keyBytes, `[${key}]`);
      for (let next = live.nextKey(null); typeof next !== 'number'; next = live.nextKey(next)) {
        const broken = check(next, `[${formatElement(map.keyType, map.keySize, next)}]`);
        if (broken !== undefined) return broken;
      }
      return undefined;
    },
  };
}

/** `NAME[KEY]PATH`, or `NAME.VARIABLE` of global variables. The name is the longest map's that fits. */
function splitTarget(
  target: string,
  maps: readonly MapSpec[],
): { map: MapSpec; key: string | undefined; path: string } {
  const named = maps
    .filter(({ name }) => target.startsWith(name) && /^[.[]/.test(target.slice(name.length)))
    .sort((a, b) => b.name.length - a.name.length)[0];
  const map = named ?? findMap(maps, /^\.?[^.[]*/.exec(target)![0]);
  const rest = target.slice(map.name.length);
  if (isGlobalData(map)) return { map, key: undefined, path: rest };
  const bracket = /^\[([^\]]*)\](.*)$/.exec(rest);
  if (bracket === null) {
    throw new XdpbedError('usage', `--expect: 'map ${target}' names no key`, {
      hint: `map ${map.name}[KEY], or map ${map.name}[*] for every element`,
    });
  }
  return { map, key: bracket[1]!.trim(), path: bracket[2]! };
}

/** As YAML would take it, as far as keys are scalars: a number or text. */
function scalarOf(text: string): unknown {
  return /^-?\d+$/.test(text) ? Number(text) : text.replace(/^(['"])(.*)\1$/, '$2');
}

/** Where `path` leads in a map's value. Throws `map-invalid` naming what there is not. */
function placeIn(map: MapSpec, path: string): NumberPlace {
  const { valueType, valueSize } = map;
  let place: NumberPlace = { type: valueType, offset: 0, size: valueSize };
  let so = map.name;
  let rest = path;
  while (rest !== '') {
    const step = /^(?:\.([A-Za-z_]\w*)|\[(\d+)\])/.exec(rest);
    if (step === null) throw new XdpbedError('usage', `--expect: '${rest}' is no .MEMBER or [INDEX]`);
    place = step[1] === undefined ? element(place, so, Number(step[2])) : member(place, so, step[1]);
    so += step[0];
    rest = rest.slice(step[0].length);
  }
  const kind = place.type === undefined ? undefined : bare(place.type).kind;
  const isNumber =
    kind === undefined ? [1, 2, 4, 8].includes(place.size) : /^(INT|ENUM|ENUM64|PTR)$/.test(kind);
  if (!isNumber) throw new XdpbedError('map-invalid', `--expect: ${so} is no number; name a member of it`);
  return place;
}

function bare({ btf, id }: BtfTypeRef) {
  return btf.type(btf.resolve(id));
}

function member({ type, offset }: NumberPlace, so: string, name: string): NumberPlace {
  const whole = type === undefined ? undefined : bare(type);
  const none = (names: readonly string[]): never => {
    const near = nearest(name, names);
    throw new XdpbedError('map-invalid', `--expect: ${so} has no member '${name}'`, {
      hint:
        near === undefined
          ? names.length > 0
            ? `members: ${names.join(', ')}`
            : undefined
          : `did you mean '${near}'?`,
    });
  };
  if (type === undefined || whole === undefined) return none([]);
  const { btf } = type;
  if (whole.kind === 'DATASEC') {
    const named = whole.variables.map(({ type: id, ...rest }) => ({ variable: btf.type(id), ...rest }));
    const found = named.find(({ variable }) => variable.name === name);
    if (found?.variable.kind !== 'VAR') return none(named.map(({ variable }) => variable.name));
    return { type: { btf, id: found.variable.type }, offset: offset + found.offset, size: found.size };
  }
  if (!isComposite(whole)) return none([]);
  const found = whole.members.find((each) => each.name === name);
  if (found === undefined) return none(whole.members.map((each) => each.name));
  if (found.bitSize !== 0 || found.bitOffset % 8 !== 0)
    throw new XdpbedError('map-invalid', `--expect: ${so}.${name} is a bit field, which is not supported`);
  return {
    type: { btf, id: found.type },
    offset: offset + found.bitOffset / 8,
    size: btf.sizeOf(found.type) ?? 0,
  };
}

function element({ type, offset }: NumberPlace, so: string, index: number): NumberPlace {
  const whole = type === undefined ? undefined : bare(type);
  if (type === undefined || whole?.kind !== 'ARRAY' || index >= whole.length)
    throw new XdpbedError('map-invalid', `--expect: ${so} has no element ${index}`);
  const size = type.btf.sizeOf(whole.type) ?? 0;
  return { type: { btf: type.btf, id: whole.type }, offset: offset + index * size, size };
}

/** Of a per-CPU map, the sum over the CPUs. */
function numberAt({ valueSize }: MapSpec, value: Uint8Array, { type, offset, size }: NumberPlace): bigint {
  const stride = Math.ceil(valueSize / 8) * 8;
  let sum = 0n;
  for (let at = 0; at + valueSize <= value.length; at += stride) {
    const bytes = value.slice(at + offset, at + offset + size);
    if (type !== undefined && isNetworkOrder(type)) bytes.reverse();
    let own = 0n;
    for (let i = bytes.length - 1; i >= 0; i--) own = (own << 8n) | BigInt(bytes[i]!);
    sum += type !== undefined && isSigned(type) ? BigInt.asIntN(8 * size, own) : own;
  }
  return sum;
}

function isSigned(type: BtfTypeRef): boolean {
  const whole = bare(type);
  return whole.kind === 'INT' ? whole.encoding === 'signed' : 'signed' in whole && whole.signed;
}

/** As its type's name says; an IPv4 address is a number of four bytes. */
function isNetworkOrder({ btf, id }: BtfTypeRef): boolean {
  const form = valueForm(btf, id);
  return form === 'be16' || form === 'be64' || form === 'ipv4';
}
