import { Type, type Static } from '@sinclair/typebox';
import type { ConfigProblem, PolicySurroundings } from '../../src/core/contract/plugin.js';
import type { Policy, PolicyRequest, Ruling } from '../../src/core/contract/policy.js';
import { guestOverrides, settingsFor, unknownGuests } from '../../src/core/offload/guest-overrides.js';

const MIB = 1024 * 1024;

const Limits = Type.Object({
  mode: Type.Unsafe<'live' | 'blocker'>({
    type: 'string',
    enum: ['live', 'blocker'],
    default: 'live',
    description:
      'whether a guest goes with what it has offloaded (`live`), or stays as long as the host holds anything for it (`blocker`)',
  }),
  'map-memory': Type.Integer({
    minimum: 0,
    default: 64 * MIB,
    description:
      'bytes of map memory with which a guest still goes: what has changed is copied while no frame is processed',
    examples: [16 * MIB],
  }),
});

export const MigrationPolicyConfig = Type.Object(
  {
    ...Limits.properties,
    guests: guestOverrides(Limits, 'what holds for single guests, by name'),
  },
  {
    additionalProperties: false,
    description: 'whether a guest that has offloaded may go to another host',
    examples: [{ mode: 'blocker', guests: { alice: { mode: 'live', 'map-memory': 16 * MIB } } }],
  },
);
export type MigrationPolicyConfig = Static<typeof MigrationPolicyConfig>;

/** As the page of policies names them. */
export const MIGRATION_RULES: Readonly<Record<string, string>> = {
  mode: 'a guest with maps or programs on the host stays (`blocker`)',
  'map-memory': 'its maps take no more than so many bytes of the host',
};

/** Problems of a config in a testbed. */
export function checkMigrationPolicy(
  { guests }: MigrationPolicyConfig,
  { guests: known }: PolicySurroundings,
): ConfigProblem[] {
  return unknownGuests(guests, known);
}

/**
 * RFC 2019 lists among what is left to do that offloading has to block migration. That is `blocker`: QEMU would then fail the
 * migration as it does for a device that is passed through. `live` lets the guest go; whether the other host takes it is for
 * that one's policies to say.
 */
export class MigrationPolicy implements Policy {
  readonly name = 'migration';

  constructor(readonly config: MigrationPolicyConfig) {}

  rule(request: PolicyRequest): Ruling {
    if (request.operation !== 'migrate-out') return { ruling: 'allow', reason: 'stays where it is' };
    const { guests, ...limits } = this.config;
    const { values, at } = settingsFor(request.guest, limits, [], guests);
    const { maps, programs, mapMemory } = request.usageOfMove;
    if (values.mode === 'blocker' && maps + programs > 0) {
      return {
        ruling: 'deny',
        reason: `the host holds ${programs} programs and ${maps} maps for guest ${request.guest}: offloading blocks migration`,
        breaches: [{ rule: 'mode', limit: 0, asked: maps + programs, at: at('mode') }],
      };
    }
    const limit = values['map-memory'];
    if (mapMemory <= limit) return { ruling: 'allow', reason: 'may go with what it has offloaded' };
    return {
      ruling: 'deny',
      reason: `${mapMemory} bytes of map memory of guest ${request.guest} exceed the ${limit} with which it may go`,
      breaches: [{ rule: 'map-memory', limit, asked: mapMemory, at: at('map-memory') }],
    };
  }
}
