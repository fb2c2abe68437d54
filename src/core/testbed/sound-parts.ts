import type { SchemaValidator, Violation } from './schema-validator.js';
import { TestbedSchema, type Testbed } from './testbed-schema.js';
import type { YamlPath } from './yaml-source.js';

/**
 * A testbed, and which parts of it have the shape that the language gives them. A mistake in one section must not
 * hide those in others, so whatever checks a section asks first whether it can be read: what it finds there is
 * then no consequence of a mistake that has been told already.
 *
 * A word that is none of those allowed, or a number out of range, leaves the shape as it is. A value of the wrong
 * type is taken out, so that its default stands there; what then is missing, or was a map or a list, is unsound.
 */
export class SoundParts {
  readonly violations: readonly Violation[];
  readonly #unsound: readonly YamlPath[];

  /** @param data gets the defaults of the schema, and loses values of the wrong type. */
  constructor(
    validator: SchemaValidator,
    readonly data: unknown,
  ) {
    this.violations = validator.validate(TestbedSchema, data);
    const unsound = this.violations
      .filter(({ breaks }) => breaks === 'content')
      .map(({ subject }) => subject);
    const mistyped = this.violations.filter(({ breaks }) => breaks === 'value' || breaks === 'content');
    if (mistyped.length > 0) {
      for (const { subject } of mistyped) remove(data, subject);
      const left = validator.validate(TestbedSchema, data).filter(({ breaks }) => breaks !== undefined);
      unsound.push(...left.map(({ subject }) => subject));
    } else {
      unsound.push(
        ...this.violations.filter(({ breaks }) => breaks !== undefined).map(({ subject }) => subject),
      );
    }
    this.#unsound = unsound;
  }

  /** The testbed. Only what `has` can be read as its type says. */
  get testbed(): Testbed {
    return this.data as Testbed;
  }

  /** Everything at and below the path has its shape. */
  has(...path: YamlPath): boolean {
    return !this.#unsound.some((subject) => {
      const shared = Math.min(subject.length, path.length);
      return startsWith(subject, path.slice(0, shared));
    });
  }

  /** The map or list at the path is there; what it holds may be unsound. */
  hasKeysOf(...path: YamlPath): boolean {
    return !this.#unsound.some((subject) => subject.length <= path.length && startsWith(path, subject));
  }

  /**
   * The testbed without the guests' nics that cannot be read, to which nothing refers but presets, and without what is to
   * be measured if that cannot be read.
   */
  withSoundNics(): Testbed {
    const { measure, ...testbed } = this.testbed;
    const named = (path: YamlPath, section: object): string[] =>
      this.hasKeysOf(...path) ? Object.keys(section) : [];
    const guests = named(['guests'], testbed.guests).map((guest) => {
      const at = ['guests', guest, 'nics'];
      const nics: Testbed['guests'][string]['nics'] = testbed.guests[guest]?.nics ?? {};
      const sound = named(at, nics).filter((nic) => this.has(...at, nic));
      return [
        guest,
        { ...testbed.guests[guest], nics: Object.fromEntries(sound.map((nic) => [nic, nics[nic]])) },
      ];
    });
    return {
      ...testbed,
      ...(measure !== undefined && this.has('measure') ? { measure } : {}),
      guests: Object.fromEntries(guests) as Testbed['guests'],
    };
  }
}

function startsWith(path: YamlPath, prefix: YamlPath): boolean {
  return prefix.every((step, index) => String(step) === String(path[index]));
}

/** Takes a value out of the map that holds it. Items of a list stay: those after them would get other numbers. */
function remove(data: unknown, path: YamlPath): void {
  let holder = data;
  for (const step of path.slice(0, -1)) holder = (holder as Record<string, unknown> | undefined)?.[step];
  if (typeof holder === 'object' && holder !== null && !Array.isArray(holder)) {
    delete (holder as Record<string, unknown>)[path.at(-1)!];
  }
}
