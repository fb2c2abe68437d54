import { Type, type TObject, type TPartial, type TSchema } from '@sinclair/typebox';
import type { ConfigProblem } from '../contract/plugin.js';
import { nearest } from '../nearest.js';

/**
 * What policies say of single guests, the same in all of them: `guests` is a section of the config that has, by the name
 * of a guest, keys of the section that holds for every guest. A key that is there is that guest's instead.
 *
 * ```yaml
 *   per-guest: { maps: 8, programs: 2 }
 *   guests:
 *     alice: { maps: 64 }             # and 2 programs
 * ```
 */
export type GuestOverrides<T> = Readonly<Record<string, Partial<T>>>;

/** The schema of `guests`. @param section that of what holds for every guest; its defaults are no guest's own. */
export function guestOverrides<T extends TObject>(section: T, description: string) {
  const properties = Object.fromEntries(
    Object.entries(section.properties).map(([key, schema]) => [key, Type.Optional(withoutDefaults(schema))]),
  );
  const own = Type.Object(properties, {
    additionalProperties: false,
    description: 'what is this guest’s instead, by the same keys',
  });
  return Type.Record(Type.String(), own as unknown as TPartial<T>, { default: {}, description });
}

/** The settings of one guest. */
export interface GuestSettings<T> {
  readonly values: T;
  /** Keys of the config at which a setting is, or would be (`Breach.at`). */
  readonly at: (key: string & keyof T) => readonly string[];
}

/**
 * @param section keys of the config at which `common` is, what holds for every guest
 * @param guests the section `guests` of the config
 */
export function settingsFor<T extends object>(
  guest: string,
  common: T,
  section: readonly string[],
  guests: GuestOverrides<T>,
): GuestSettings<T> {
  const own: Partial<T> = Object.hasOwn(guests, guest) ? guests[guest]! : {};
  return {
    values: { ...common, ...own },
    at: (key) => (Object.hasOwn(own, key) ? ['guests', guest, key] : [...section, key]),
  };
}

/** A problem for each guest in `guests` that the testbed does not have (`Plugin.checkTestbed`). */
export function unknownGuests(guests: GuestOverrides<unknown>, known: readonly string[]): ConfigProblem[] {
  return Object.keys(guests).flatMap((name) => {
    if (known.includes(name)) return [];
    const near = nearest(name, known);
    return [
      {
        path: ['guests', name],
        message: `there is no guest '${name}'`,
        hint: near === undefined ? `the testbed has ${list(known)}` : `did you mean '${near}'?`,
      },
    ];
  });
}

const MAX_NAMES = 12;

function list(names: readonly string[]): string {
  return names.length <= MAX_NAMES ? names.join(', ') : `${names.slice(0, MAX_NAMES).join(', ')}, …`;
}

/** At every depth. What had a default is then required, unless it is a key of the override itself. */
function withoutDefaults(schema: TSchema): TSchema {
  // The symbols by which TypeBox knows what a schema is are its own keys, and are kept.
  const copy: TSchema = { ...schema };
  delete copy.default;
  const properties = copy.properties as Record<string, TSchema> | undefined;
  if (properties !== undefined) {
    copy.properties = Object.fromEntries(
      Object.entries(properties).map(([key, value]) => [key, withoutDefaults(value)]),
    );
  }
  return copy;
}
