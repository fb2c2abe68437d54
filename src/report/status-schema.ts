import { Type, type Static, type TProperties } from '@sinclair/typebox';
import { HOOK_POINTS } from '../core/contract/plan.js';
import { HOOK_SITES, OffloadResult, VerdictCounts } from '../core/contract/result.js';
import { closed, Words } from './schema-parts.js';

const Pid = Type.Integer({ minimum: 1, description: 'process that holds the run' });
const Since = Type.String({ description: 'when it began, ISO 8601, UTC' });

const Namespace = Type.Object(
  {
    role: Words(
      ['wire', 'host'],
      '`wire`: where traffic comes from; `host`: where the host’s interfaces are',
    ),
    name: Type.String({ description: 'of the network namespace, as `ip netns` takes it' }),
    interfaces: Type.Array(
      Type.Object(
        {
          name: Type.String({ description: 'of the interface, in the testbed and in the namespace' }),
          ifindex: Type.Integer({ minimum: 1, description: 'its number in the namespace' }),
          kind: Words(['nic', 'tap', 'bridge'], 'what it is to the host'),
        },
        closed,
      ),
      { description: 'that are in it' },
    ),
  },
  closed,
);

const ProgramInPlace = Type.Object(
  {
    site: Words(HOOK_SITES, 'which kind of hook it is for'),
    node: Type.String({ description: 'the interface, e.g. `guest0.eth0` or `host.tap0`' }),
    program: Type.String({ description: 'name in the testbed' }),
    attached: Type.Boolean({ description: 'it runs there' }),
    reason: Type.Optional(Type.String({ description: 'why it is not attached' })),
    verdicts: VerdictCounts,
  },
  closed,
);

const STATE = {
  name: Type.String({ description: 'of the run, unique on the machine: what `exec` and `down` take' }),
  testbed: Type.String({ description: 'name of the testbed' }),
  run: Type.String({ description: 'id of the run in the testbed' }),
  case: Words(['redirect', 'bridge'], 'how frames get from the NIC to the tap'),
  hook: Words(HOOK_POINTS, 'where offloaded programs run, docs/linux/hooks.md'),
  pid: Pid,
  since: Since,
  log: Type.String({ description: 'path of the file into which that process writes what goes wrong' }),
  namespaces: Type.Array(Namespace, { description: 'of the run' }),
  programs: Type.Array(ProgramInPlace, { description: 'of host and guests' }),
  offloads: Type.Array(OffloadResult, { description: 'what the host holds at each tap for its guest' }),
} satisfies TProperties;

const HeldState = Type.Object(STATE, {
  ...closed,
  description: 'of a run that `up` brought up, as it is now',
});

/** What `up --format json` prints. */
export const UpDocument = Type.Object(
  { schema: Type.Literal('xdpbed.up/1'), ...STATE },
  { ...closed, $id: 'urn:xdpbed:schemas:up.schema.json', title: 'xdpbed up' },
);
export type UpDocument = Static<typeof UpDocument>;

const Resource = Type.Object(
  {
    kind: Words(['netns', 'process', 'folder'], 'what it is'),
    id: Type.String({
      description:
        'name of the namespace; `<pid> <start>` of the process, the latter in clock ticks since boot; absolute path of the folder',
    }),
    inode: Type.Optional(
      Type.String({ description: 'of a namespace that is made: tells another of its name apart' }),
    ),
  },
  closed,
);

const Nullable = <T extends TProperties[string]>(schema: T, description: string) =>
  Type.Union([schema, Type.Null()], { description });

/** What `status --format json` prints. */
export const StatusDocument = Type.Object(
  {
    schema: Type.Literal('xdpbed.status/1'),
    runs: Type.Array(
      Type.Object(
        {
          name: STATE.name,
          standing: Words(
            ['up', 'running', 'stale'],
            '`up`: held until `down`; `running`: its traffic is under way; `stale`: its process is gone, `prune` removes it',
          ),
          testbed: Nullable(Type.String(), 'name of the testbed; null: not yet known'),
          run: Nullable(Type.String(), 'id of the run in the testbed; null: not yet known'),
          pid: Pid,
          since: Since,
          holds: Type.Array(Resource, { description: 'what it has made on the machine, as its ledger says' }),
          state: Nullable(HeldState, 'null: it is not held, or does not say'),
        },
        closed,
      ),
      { description: 'that have a ledger on this machine' },
    ),
  },
  { ...closed, $id: 'urn:xdpbed:schemas:status.schema.json', title: 'xdpbed status' },
);
export type StatusDocument = Static<typeof StatusDocument>;
