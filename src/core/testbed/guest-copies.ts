import { countValues, MAX_VALUES } from './count-values.js';
import type { YamlPath } from './yaml-source.js';

/** Guests that one section may stand for. */
export const MAX_GUESTS = 256;

/** A testbed's data with a section for each guest. */
export interface CopiedGuests {
  readonly data: unknown;
  /** Of all that was copied. */
  readonly values: number;
  /** Why guests cannot be copied; then `data` is not to be used. */
  readonly problems: readonly { readonly path: YamlPath; readonly message: string }[];
  /** Where what stands at a path of `data` is written in the testbed. */
  readonly origin: (path: YamlPath) => YamlPath;
}

type Section = Readonly<Record<string, unknown>>;

/** A guest section that stands for several. */
interface Group {
  readonly name: string;
  readonly count: number;
  readonly section: Section;
  /** Those that back its nics, as the testbed calls them. */
  readonly taps: ReadonlySet<string>;
}

/**
 * `guests.guest.count: 3` stands for `guest0`, `guest1` and `guest2`, each with taps of its own (`tap` becomes `tap0` to
 * `tap2`, among the ports of bridges, too), and with the next MAC and IPv4 address. An element of a map preset that
 * names such a guest or tap is there once for each; `{ index: guest }` in it is the guest's number from 0.
 *
 * The data need not be valid, nor is it when it was not before: what is wrong with it the schema says of what comes out.
 *
 * @param mostValues that copies may consist of
 */
export function copyGuests(data: unknown, mostValues: number): CopiedGuests {
  return new Copying(data, mostValues).run();
}

class Copying {
  readonly #problems: { path: YamlPath; message: string }[] = [];
  /** Where what was copied is written, by its own place. */
  readonly #origins = new Map<string, YamlPath>();
  readonly #groups = new Map<string, Group>();
  readonly #groupOfTap = new Map<string, Group>();
  #values = 0;

  constructor(
    readonly data: unknown,
    readonly mostValues: number,
  ) {}

  run(): CopiedGuests {
    let { data } = this;
    if (isSection(data) && isSection(data['guests'])) {
      this.#findGroups(data['guests']);
      if (this.#problems.length === 0) data = this.#copy(data);
    }
    return {
      data,
      values: this.#values,
      problems: this.#problems,
      origin: (path) => this.#origin(path),
    };
  }

  /** Whether so many copies of a value may be made; told once if not. */
  #take(count: number, value: unknown): boolean {
    const before = this.#values;
    this.#values += count * countValues(value);
    const most = this.mostValues;
    if (before <= most && this.#values > most) this.#problems.push({ path: ['guests'], message: TOO_MANY });
    return this.#values <= most;
  }

  #origin(path: YamlPath): YamlPath {
    for (let length = path.length; length > 0; length--) {
      const origin = this.#origins.get(JSON.stringify(path.slice(0, length).map(String)));
      if (origin !== undefined) return [...origin, ...path.slice(length)];
    }
    return path;
  }

  #findGroups(guests: Section): void {
    const users = tapUsers(guests);
    for (const [name, section] of Object.entries(guests)) {
      const count = isSection(section) ? section['count'] : undefined;
      if (!isSection(section) || !isCount(count)) continue;
      const nics = isSection(section['nics']) ? section['nics'] : {};
      const declared = this.#sectionOf('host', 'taps');
      const taps = Object.values(nics).flatMap((nic) => (isSection(nic) ? [nic['tap']] : []));
      const own = taps.filter((tap) => typeof tap === 'string' && Object.hasOwn(declared, tap)) as string[];
      const group = { name, count, section, taps: new Set(own) };
      if (!this.#take(count, section)) return;
      this.#groups.set(name, group);
      this.#claim(['guests', name], copiesOf(group, name), guests);
      for (const tap of group.taps) {
        this.#groupOfTap.set(tap, group);
        const [first, second] = users.get(tap)!;
        if (second === undefined) this.#claim(['host', 'taps', tap], copiesOf(group, tap), declared);
        else this.#problems.push({ path: second.path, message: `tap '${tap}' already backs ${first!.node}` });
      }
    }
  }

  /** The names of the copies, which nothing else may have. */
  #claim(path: YamlPath, names: readonly string[], section: Section): void {
    const taken = names.find((name) => Object.hasOwn(section, name) || this.#origins.has(key(path, name)));
    if (taken !== undefined) {
      const by = `one of the ${names.length} that '${String(path.at(-1))}' stands for`;
      this.#problems.push({ path, message: `'${taken}', ${by}, is there already` });
    }
    for (const name of names) this.#origins.set(key(path, name), path);
  }

  #sectionOf(...path: readonly string[]): Section {
    let section = this.data;
    for (const step of path)
      section = isSection(section) && Object.hasOwn(section, step) ? section[step] : {};
    return isSection(section) ? section : {};
  }

  #copy(data: Section): Section {
    const { host, guests, programs, measure } = data;
    return {
      ...data,
      ...(isSection(host) ? { host: this.#copyHost(host) } : {}),
      ...(isSection(guests) ? { guests: this.#copyEach(guests, (name) => this.#groupNamed(name)) } : {}),
      ...(isSection(programs)
        ? { programs: mapSection(programs, (each, name) => this.#copyPresets(each, name)) }
        : {}),
      ...(isSection(measure) && Array.isArray(measure['nics'])
        ? { measure: { ...measure, nics: this.#copyNodes(measure['nics']) } }
        : {}),
    };
  }

  #groupNamed(guest: string): Group | undefined {
    return this.#groups.get(guest);
  }

  #copyHost(host: Section): Section {
    const { taps, bridges } = host;
    return {
      ...host,
      ...(isSection(taps) ? { taps: this.#copyEach(taps, (name) => this.#groupOfTap.get(name)) } : {}),
      ...(isSection(bridges)
        ? { bridges: mapSection(bridges, (each, name) => this.#copyPorts(each, name)) }
        : {}),
    };
  }

  /** In the place of each section those that it stands for. */
  #copyEach(sections: Section, groupOf: (name: string) => Group | undefined): Section {
    return Object.fromEntries(
      Object.entries(sections).flatMap(([name, section]) => {
        const group = groupOf(name);
        const isTap = section !== group?.section;
        if (group === undefined || (isTap && !this.#take(group.count, section))) return [[name, section]];
        return copiesOf(group, name).map((copy, index) => [
          copy,
          isTap ? structuredClone(section) : copyGuest(group, index),
        ]);
      }),
    );
  }

  #copyPorts(bridge: unknown, name: string): unknown {
    const ports = isSection(bridge) ? bridge['ports'] : undefined;
    if (!Array.isArray(ports)) return bridge;
    return {
      ...(bridge as Section),
      ports: this.#copyItems(ports, ['host', 'bridges', name, 'ports'], (port) => {
        const group = typeof port === 'string' ? this.#groupOfTap.get(port) : undefined;
        return group === undefined || !this.#take(group.count, port)
          ? [port]
          : copiesOf(group, port as string);
      }),
    };
  }

  #copyNodes(nodes: readonly unknown[]): unknown[] {
    return this.#copyItems(nodes, ['measure', 'nics'], (node) => {
      const [guest, nic] = typeof node === 'string' ? node.split('.') : [];
      const group = guest === undefined || nic === undefined ? undefined : this.#groupNamed(guest);
      return group === undefined ? [node] : copiesOf(group, group.name).map((copy) => `${copy}.${nic}`);
    });
  }

  #copyPresets(program: unknown, name: string): unknown {
    const maps = isSection(program) ? program['maps'] : undefined;
    if (!isSection(maps)) return program;
    const copied = mapSection(maps, (elements, map) =>
      Array.isArray(elements)
        ? this.#copyItems(elements, ['programs', name, 'maps', map], (element) => this.#copyElement(element))
        : this.#copyVariables(elements, ['programs', name, 'maps', map]),
    );
    return { ...(program as Section), maps: copied };
  }

  /** Global variables are there once, for all guests. */
  #copyVariables(variables: unknown, path: YamlPath): unknown {
    return this.#refer(variables, ({ name, count }) => {
      const message = `'${name}' stands for ${count} guests, and a global variable has one value`;
      this.#problems.push({ path, message });
    });
  }

  #copyElement(element: unknown): unknown[] {
    const groups = new Set<Group>();
    this.#refer(element, (group) => groups.add(group));
    const [group, other] = groups;
    // One of two kinds of guests is none for each of either: what it names is then nothing that there is.
    if (group === undefined || other !== undefined) return [this.#refer(element)];
    if (!this.#take(group.count, element)) return [element];
    return Array.from({ length: group.count }, (_, index) => this.#refer(element, undefined, index));
  }

  /** A preset value with its references to guests and taps that are copied led to the copy of this number. */
  #refer(value: unknown, found?: (group: Group) => void, index?: number): unknown {
    if (Array.isArray(value)) return value.map((item) => this.#refer(item, found, index));
    if (!isSection(value)) return value;
    const [member, ...more] = Object.entries(value);
    if (member !== undefined && more.length === 0 && typeof member[1] === 'string') {
      const [kind, target] = member as [string, string];
      const [guest, nic] = target.split('.');
      const group = kind === 'ifindex' ? this.#groupOfTap.get(target) : this.#groupNamed(guest!);
      if (kind === 'index' && group === undefined && Object.hasOwn(this.#sectionOf('guests'), target))
        return 0;
      if (group !== undefined && REFERENCES.has(kind)) {
        found?.(group);
        if (index === undefined) return value;
        if (kind === 'ifindex') return { ifindex: `${target}${index}` };
        return kind === 'mac' ? { mac: `${guest}${index}.${nic}` } : index;
      }
    }
    return mapSection(value, (each) => this.#refer(each, found, index));
  }

  /** A list in which an item may stand for several. */
  #copyItems(
    items: readonly unknown[],
    path: YamlPath,
    copies: (item: unknown) => readonly unknown[],
  ): unknown[] {
    const copied: unknown[] = [];
    for (const [index, item] of items.entries()) {
      for (const copy of copies(item)) {
        if (copied.length !== index)
          this.#origins.set(key([...path, ''], String(copied.length)), [...path, index]);
        copied.push(copy);
      }
    }
    return copied;
  }
}

const TOO_MANY = `all guests in all runs exceed the limit of ${MAX_VALUES} values in all`;

/** What a map preset may name of a guest or tap that is there several times. */
const REFERENCES: ReadonlySet<string> = new Set(['ifindex', 'mac', 'index']);

/** The place of a copy, beside what it was copied from. */
function key(path: YamlPath, name: string): string {
  return JSON.stringify([...path.slice(0, -1), name].map(String));
}

function copiesOf({ count }: Group, name: string): string[] {
  return Array.from({ length: count }, (_, index) => `${name}${index}`);
}

function copyGuest({ section, taps }: Group, index: number): Section {
  const { count: _, ...guest } = structuredClone(section) as Record<string, unknown>;
  if (!isSection(guest['nics'])) return guest;
  const nics = mapSection(guest['nics'], (nic) => {
    if (!isSection(nic)) return nic;
    const { tap, mac, ipv4 } = nic;
    return {
      ...nic,
      ...(typeof tap === 'string' && taps.has(tap) ? { tap: `${tap}${index}` } : {}),
      ...(typeof mac === 'string' ? { mac: nextMac(mac, index) } : {}),
      ...(typeof ipv4 === 'string' ? { ipv4: nextIpv4(ipv4, index) } : {}),
    };
  });
  return { ...guest, nics };
}

/** What is no address stays as it is, for the schema to say so. */
function nextMac(mac: string, by: number): string {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac)) return mac;
  const next = (Number.parseInt(mac.replaceAll(':', ''), 16) + by) % 2 ** 48;
  return next.toString(16).padStart(12, '0').match(/../g)!.join(':');
}

function nextIpv4(ipv4: string, by: number): string {
  const bytes = ipv4.split('.').map(Number);
  if (bytes.length !== 4 || !bytes.every((byte) => Number.isInteger(byte) && byte >= 0 && byte < 256))
    return ipv4;
  const next = (bytes.reduce((sum, byte) => sum * 256 + byte, 0) + by) % 2 ** 32;
  return [24, 16, 8, 0].map((shift) => (next >>> shift) & 255).join('.');
}

/** Nics by the tap that backs them, in the order of the testbed. */
function tapUsers(guests: Section): Map<string, { node: string; path: YamlPath }[]> {
  const users = new Map<string, { node: string; path: YamlPath }[]>();
  for (const [guest, section] of Object.entries(guests)) {
    const nics = isSection(section) && isSection(section['nics']) ? section['nics'] : {};
    for (const [name, nic] of Object.entries(nics)) {
      const tap = isSection(nic) ? nic['tap'] : undefined;
      if (typeof tap !== 'string') continue;
      const known = users.get(tap) ?? [];
      users.set(tap, known);
      known.push({ node: `${guest}.${name}`, path: ['guests', guest, 'nics', name, 'tap'] });
    }
  }
  return users;
}

function isSection(value: unknown): value is Section {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(count: unknown): count is number {
  return Number.isInteger(count) && (count as number) >= 1 && (count as number) <= MAX_GUESTS;
}

function mapSection(section: Section, map: (value: unknown, name: string) => unknown): Section {
  return Object.fromEntries(Object.entries(section).map(([name, value]) => [name, map(value, name)]));
}
