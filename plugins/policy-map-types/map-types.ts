import { Type, type Static } from '@sinclair/typebox';
import { MAP_FLAGS, mapFlagNames, type MapFlagName } from '../../src/bpf/map-flags.js';
import { BPF_MAP_TYPE, mapTypeName, type MapAttributes, type MapTypeName } from '../../src/bpf/map-spec.js';
import type { ConfigProblem, PolicySurroundings } from '../../src/core/contract/plugin.js';
import type { Breach, Grants, Policy, PolicyRequest, Ruling } from '../../src/core/contract/policy.js';
import { guestOverrides, settingsFor, unknownGuests } from '../../src/core/offload/guest-overrides.js';

/**
 * The types that are allowed unless the testbed says otherwise: what is in such a map is the guest's own. Not among them are maps of
 * the host's interfaces, CPUs, sockets and control groups, those whose records go to somebody else, and those that nobody has
 * looked at.
 */
export const DEFAULT_MAP_TYPES: readonly MapTypeName[] = [
  'BPF_MAP_TYPE_HASH',
  'BPF_MAP_TYPE_ARRAY',
  'BPF_MAP_TYPE_PROG_ARRAY',
  'BPF_MAP_TYPE_PERCPU_HASH',
  'BPF_MAP_TYPE_PERCPU_ARRAY',
  'BPF_MAP_TYPE_LRU_HASH',
  'BPF_MAP_TYPE_LRU_PERCPU_HASH',
  'BPF_MAP_TYPE_LPM_TRIE',
  'BPF_MAP_TYPE_ARRAY_OF_MAPS',
  'BPF_MAP_TYPE_HASH_OF_MAPS',
  'BPF_MAP_TYPE_QUEUE',
  'BPF_MAP_TYPE_STACK',
  'BPF_MAP_TYPE_RINGBUF',
];

/** How memory is taken and who may write; nothing that names something of the host, or weakens a hash. */
export const DEFAULT_MAP_FLAGS: readonly MapFlagName[] = [
  'BPF_F_NO_PREALLOC',
  'BPF_F_NO_COMMON_LRU',
  'BPF_F_RDONLY',
  'BPF_F_WRONLY',
  'BPF_F_RDONLY_PROG',
  'BPF_F_WRONLY_PROG',
];

const most = (description: string, example: number) =>
  Type.Optional(Type.Integer({ minimum: 0, maximum: 0xffff_ffff, description, examples: [example] }));

const Sizes = {
  'key-size': most('most bytes of a key', 64),
  'value-size': most('most bytes of a value, of one CPU where there is one for each', 1024),
  entries: most('most entries; of a ring buffer, bytes', 65_536),
};
type SizeName = keyof typeof Sizes;
const SIZE_NAMES = Object.keys(Sizes) as SizeName[];

const SizesOfType = Type.Object(Sizes, {
  additionalProperties: false,
  description: 'limits for maps of this type, instead of those for any',
});
type SizesOfType = Static<typeof SizesOfType>;

const MAP_TYPE_NAMES = Object.keys(BPF_MAP_TYPE) as MapTypeName[];

const Limits = Type.Object(
  {
    types: Type.Array(Type.Unsafe<MapTypeName>({ type: 'string', enum: MAP_TYPE_NAMES }), {
      default: DEFAULT_MAP_TYPES,
      uniqueItems: true,
      description: 'types of maps that a guest may create',
    }),
    flags: Type.Array(Type.Unsafe<MapFlagName>({ type: 'string', enum: Object.keys(MAP_FLAGS) }), {
      default: DEFAULT_MAP_FLAGS,
      uniqueItems: true,
      description: 'flags with which it may create them',
    }),
    ...Sizes,
    'per-type': Type.Object(
      Object.fromEntries(MAP_TYPE_NAMES.map((name) => [name, Type.Optional(SizesOfType)])),
      {
        additionalProperties: false,
        default: {},
        description: 'limits for maps of single types, by the name of the type',
      },
    ),
  },
  { additionalProperties: false },
);
type Limits = Omit<Static<typeof Limits>, 'per-type'> & {
  readonly 'per-type': { readonly [Type in MapTypeName]?: SizesOfType };
};

export const MapTypesConfig = Type.Object(
  {
    ...Limits.properties,
    guests: guestOverrides(Limits, 'limits of single guests, by name, each instead of the same key'),
  },
  {
    additionalProperties: false,
    description: 'which maps a guest may create on the host; a size that is left out has no limit',
    examples: [
      {
        types: ['BPF_MAP_TYPE_ARRAY', 'BPF_MAP_TYPE_HASH'],
        flags: ['BPF_F_RDONLY_PROG'],
        'value-size': 1024,
        'per-type': { BPF_MAP_TYPE_HASH: { 'key-size': 64, entries: 65_536 } },
        guests: { alice: { types: ['BPF_MAP_TYPE_LRU_HASH'], 'value-size': 4096 } },
      },
    ],
  },
);
export type MapTypesConfig = Limits & { readonly guests: Readonly<Record<string, Partial<Limits>>> };

/** `Plugin.rules` */
export const MAP_TYPES_RULES: Readonly<Record<string, string>> = {
  types: 'a map is of one of these types',
  flags: 'it is created with no other flags',
  'key-size': 'its keys have no more than so many bytes',
  'value-size': 'its values have no more than so many bytes',
  entries: 'it has no more than so many entries',
};

/** `Plugin.checkTestbed` */
export function checkMapTypes(
  { guests }: { readonly guests: Readonly<Record<string, unknown>> },
  testbed: PolicySurroundings,
): ConfigProblem[] {
  return unknownGuests(guests as MapTypesConfig['guests'], testbed.guests);
}

/** What of a map each size is. */
const SIZE_OF: Readonly<Record<SizeName, { of: (map: MapAttributes) => number; what: string }>> = {
  'key-size': { of: (map) => map.keySize, what: 'bytes of key' },
  'value-size': { of: (map) => map.valueSize, what: 'bytes of value' },
  entries: { of: (map) => map.maxEntries, what: 'entries' },
};

/**
 * Denies maps of a type, with a flag or of a size that the guest is not allowed. What all maps of a guest may take together is for
 * policy `quota` to say, and which types there are for the device.
 */
export class MapTypes implements Policy {
  readonly name = 'map-types';
  readonly #limits: Limits;
  readonly #guests: MapTypesConfig['guests'];

  constructor({ guests, ...limits }: MapTypesConfig) {
    this.#limits = limits;
    this.#guests = guests;
  }

  grants(guest: string): Grants {
    const { values } = settingsFor(guest, this.#limits, [], this.#guests);
    return { mapTypes: new Set(values.types.map((name) => BPF_MAP_TYPE[name])) };
  }

  rule(request: PolicyRequest): Ruling {
    if (request.operation !== 'map-create') return { ruling: 'allow', reason: 'creates no map' };
    const { map, guest } = request;
    const own = settingsFor(guest, this.#limits, [], this.#guests);
    const { values } = own;
    const type = mapTypeName(map.type);
    const problems: { text: string; breach: Breach }[] = [];
    if (!(values.types as readonly string[]).includes(type)) {
      const breach = { rule: 'types', limit: values.types, asked: [type], at: own.at('types') };
      problems.push({ text: `maps of type ${type} are not allowed`, breach });
    }
    const flags = mapFlagNames(map.flags).filter(
      (flag) => !(values.flags as readonly string[]).includes(flag),
    );
    if (flags.length > 0) {
      const breach = { rule: 'flags', limit: values.flags, asked: flags, at: own.at('flags') };
      problems.push({ text: `${flags.join(', ')} ${flags.length === 1 ? 'is' : 'are'} not allowed`, breach });
    }
    const ofType = Object.hasOwn(values['per-type'], type)
      ? values['per-type'][type as MapTypeName]
      : undefined;
    for (const name of SIZE_NAMES) {
      const limit = ofType?.[name] ?? values[name];
      const asked = SIZE_OF[name].of(map);
      // Written so that a size that is no number is over every limit.
      if (limit === undefined || asked <= limit) continue;
      const at = ofType?.[name] === undefined ? own.at(name) : [...own.at('per-type'), type, name];
      problems.push({
        text: `${asked} ${SIZE_OF[name].what} exceed the limit of ${limit}`,
        breach: { rule: name, limit, asked, at },
      });
    }
    if (problems.length === 0) return { ruling: 'allow', reason: 'such a map is allowed' };
    const reason = problems.map(({ text }) => text).join('; ');
    return {
      ruling: 'deny',
      reason,
      toGuest: reason,
      breaches: problems.map(({ breach }) => breach),
    };
  }
}
