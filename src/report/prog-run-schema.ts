import { Type, type Static } from '@sinclair/typebox';
import { XDP_ACTION_NAMES } from '../bpf/xdp.js';
import { closed, Count, Hex } from './schema-parts.js';

const CAPTURED = {
  file: Type.String({ description: 'path of the capture' }),
  number: Type.Integer({ minimum: 1, description: 'of the packet in its capture, from 1' }),
  length: Count('bytes that the capture has of it'),
  originalLength: Count('bytes on the wire'),
};

const Redirect = Type.Object(
  {
    ifindex: Type.Optional(Count('interface: of bpf_redirect, or in the map’s entry')),
    map: Type.Optional(Type.String({ description: 'name of the map, of bpf_redirect_map' })),
    key: Type.Optional(Count('in this map')),
    cpu: Type.Optional(Count('number of the CPU, of a CPUMAP')),
    socket: Type.Optional(Count('what an XSKMAP has under the key')),
    broadcast: Type.Optional(Type.Literal(true, { description: 'to every device of the map' })),
  },
  { ...closed, description: 'with XDP_REDIRECT: where to, as far as the program’s maps tell' },
);

const RunPacket = Type.Object(
  {
    ...CAPTURED,
    verdict: Type.Union(
      XDP_ACTION_NAMES.map((name) => Type.Literal(name)),
      { description: 'a number that is no verdict is XDP_ABORTED' },
    ),
    returned: Count('the lower 32 bits of R0'),
    packet: Hex('as the program left it'),
    changed: Type.Array(
      Type.Object(
        { start: Count('offset of the first byte'), end: Count('offset behind the last byte') },
        closed,
      ),
      {
        description: 'ranges of bytes that are not as captured; of another length, the longer one’s tail too',
      },
    ),
    metadata: Type.Optional(Hex('in front of the packet (bpf_xdp_adjust_meta); absent: none')),
    redirect: Type.Optional(Redirect),
    fault: Type.Optional(
      Type.Object(
        {
          insn: Count('slot of the insn'),
          reason: Type.String({ description: 'what it did that no verified program can' }),
        },
        { ...closed, description: 'why the run was aborted' },
      ),
    ),
  },
  closed,
);

const RefusedPacket = Type.Object(
  { ...CAPTURED, notRun: Type.String({ description: 'why it was not given to the program' }) },
  closed,
);

const MapDump = Type.Object(
  {
    name: Type.String({ description: 'of the map' }),
    type: Type.String({ description: 'BPF_MAP_TYPE_…' }),
    global: Type.Optional(
      Type.Literal(true, {
        description: 'global variables: `text` of the only entry is an object by variable',
      }),
    ),
    entries: Type.Array(
      Type.Object(
        {
          key: Hex('in the order of memory'),
          value: Hex('in the order of memory; of a per-CPU map, those of all CPUs at multiples of 8 bytes'),
          text: Type.String({ description: 'both as `--maps` takes them: `{ key: 17, value: 3 }`' }),
          note: Type.Optional(
            Type.String({ description: 'what `text` says by members only, where it had to give the bytes' }),
          ),
        },
        closed,
      ),
      { description: 'in key order, without those that are all zero bytes' },
    ),
    records: Type.Optional(
      Type.Array(Hex('of one record'), {
        description: 'of a ring buffer or an array of perf events: what was sent, oldest first',
      }),
    ),
    values: Type.Optional(
      Type.Array(
        Type.Object(
          {
            value: Hex('in the order of memory'),
            text: Type.String({ description: 'as values are written' }),
          },
          closed,
        ),
        { description: 'of a queue or stack: what it holds, in the order in which it comes out' },
      ),
    ),
  },
  closed,
);

/** What `prog run --format json` prints. */
export const ProgRunDocument = Type.Object(
  {
    schema: Type.Literal('xdpbed.prog-run/1'),
    packets: Type.Array(Type.Union([RunPacket, RefusedPacket]), {
      description: 'in the order of the captures and of the packets in them',
    }),
    maps: Type.Array(MapDump, { description: 'that the program uses, after the last packet' }),
    trace: Type.Array(Type.String(), { description: 'lines of bpf_trace_printk, the first ones' }),
    traceDropped: Type.Optional(Count('lines of it that came behind those that were kept; absent: none')),
    interrupted: Type.Optional(
      Type.Literal(true, { description: 'it was ended from outside: the packets that were through by then' }),
    ),
  },
  { ...closed, $id: 'urn:xdpbed:schemas:prog-run.schema.json', title: 'xdpbed prog run' },
);
export type ProgRunDocument = Static<typeof ProgRunDocument>;
