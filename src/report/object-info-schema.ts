import { Type, type Static } from '@sinclair/typebox';
import { Count } from './schema-parts.js';

const ProgramInfo = Type.Object(
  {
    name: Type.String({ description: 'of the function' }),
    section: Type.String({ description: 'of the object file' }),
    type: Type.String({ description: 'as libbpf derives it from the section, e.g. `xdp`' }),
    attachType: Type.String({ description: 'e.g. `xdp`, `devmap`, `cpumap`' }),
    frags: Type.Boolean({ description: 'takes frames of several buffers (`xdp.frags`)' }),
    insns: Count('8-byte slots'),
    functions: Type.Array(Type.String(), { description: 'its own and its subprograms, by BTF' }),
    sourceLines: Count('of BTF line info'),
    maps: Type.Array(Type.String(), { description: 'that it names' }),
    helpers: Type.Array(Type.String(), { description: 'that it calls, `bpf_…`' }),
    unsupported: Type.Optional(Type.String({ description: 'why it cannot be loaded' })),
  },
  { additionalProperties: false },
);

const MapInfo = Type.Object(
  {
    name: Type.String(),
    type: Type.String({ description: 'BPF_MAP_TYPE_…' }),
    keySize: Count('bytes'),
    valueSize: Count('bytes'),
    maxEntries: Count('elements; of a ring buffer, bytes'),
    flags: Count('BPF_F_… bits'),
    key: Type.Optional(Type.String({ description: 'its type in C, where BTF has it' })),
    value: Type.Optional(Type.String({ description: 'its type in C, where BTF has it' })),
    initialEntries: Count('elements that the object places'),
    inner: Type.Optional(Type.String({ description: 'type of the maps that it holds' })),
  },
  { additionalProperties: false },
);

/** What `prog info --format json` prints. */
export const ObjectInfo = Type.Object(
  {
    schema: Type.Literal('xdpbed.object-info/1'),
    license: Type.String({ description: 'empty: the object has none' }),
    btfTypes: Count('0: no BTF'),
    programs: Type.Array(ProgramInfo),
    maps: Type.Array(MapInfo),
    notes: Type.Array(Type.String(), { description: 'what was passed over in the object' }),
  },
  {
    additionalProperties: false,
    $id: 'urn:xdpbed:schemas:object-info.schema.json',
    title: 'xdpbed prog info',
  },
);
export type ObjectInfo = Static<typeof ObjectInfo>;
