import { Ajv, type ErrorObject, type Options, type ValidateFunction } from 'ajv';
import type { TSchema } from '@sinclair/typebox';
import { XdpbedError, messageOf } from '../diagnostic.js';
import { nearest } from '../nearest.js';
import type { YamlPath } from './yaml-source.js';

/** A schema violation before it has a place in a file. `onKey`: the key itself is wrong, not its value. */
export interface Violation {
  readonly path: YamlPath;
  readonly onKey: boolean;
  readonly message: string;
  readonly hint?: string | undefined;
  /** What is wrong, or missing. */
  readonly subject: YamlPath;
  /**
   * What a reader of the data would stumble over at `subject`: a plain value of another type, a map or list that
   * is none or was not looked into, or nothing at all.
   */
  readonly breaks?: 'value' | 'content' | 'presence';
}

const OPTIONS: Options = {
  allErrors: true,
  useDefaults: true,
  verbose: true,
  strict: false,
  ownProperties: true,
  // Each schema sees a handful of documents: compiling it costs more than running it.
  code: { optimize: false },
};

/** Violations that are worded of one document. */
const MAX_VIOLATIONS = 1000;

/**
 * Validates data against a schema, fills in its defaults, and words each violation so that a person knows what
 * to type instead.
 */
export class SchemaValidator {
  /** Schemas of this package. Their form is held by tests, so it costs no command the schema of schemas. */
  readonly #own = new Ajv({ ...OPTIONS, meta: false, validateSchema: false });
  #foreign: Ajv | undefined;
  readonly #compiled = new Map<TSchema, ValidateFunction>();

  /**
   * All violations; `data` gets the defaults of the schema. Throws `plugin-invalid` for a schema that is none.
   *
   * @param origin of the schema: that of a plugin from elsewhere is looked at before it is used.
   */
  validate(schema: TSchema, data: unknown, origin: 'own' | 'foreign' = 'own'): Violation[] {
    let check = this.#compiled.get(schema);
    if (check === undefined) {
      const ajv = origin === 'own' ? this.#own : (this.#foreign ??= new Ajv(OPTIONS));
      try {
        check = ajv.compile(schema);
      } catch (cause) {
        throw new XdpbedError('plugin-invalid', `the config schema is none: ${messageOf(cause)}`, { cause });
      }
      this.#compiled.set(schema, check);
    }
    if (check(data)) return [];
    const errors = check.errors ?? [];
    // Of a value of the wrong type nothing else needs to be said.
    const mistyped = new Set(
      errors.filter(({ keyword }) => keyword === 'type').map(({ instancePath }) => instancePath),
    );
    return (
      errors
        .filter(({ keyword, instancePath }) => keyword === 'type' || !mistyped.has(instancePath))
        // Which of the names it was, and why, is an error of its own.
        .filter(({ keyword }) => keyword !== 'propertyNames')
        .slice(0, MAX_VIOLATIONS)
        .map((error) => {
          const violation = describe(error);
          return { subject: violation.path, ...violation };
        })
    );
  }
}

function describe(error: ErrorObject): Omit<Violation, 'subject'> & { subject?: YamlPath } {
  const path = error.instancePath.split('/').slice(1).map(unescapePointer);
  const parent = error.parentSchema as
    | {
        properties?: Record<string, unknown>;
        patternProperties?: object;
        expects?: string;
        description?: string;
      }
    | undefined;
  const params = error.params as Record<string, unknown>;
  switch (error.keyword) {
    case 'additionalProperties': {
      const key = String(params.additionalProperty);
      if (parent?.patternProperties !== undefined) {
        return {
          path: [...path, key],
          // What stands behind a name that is none was not validated.
          breaks: 'content',
          onKey: true,
          message: `'${shorten(key)}' cannot be used as a name here`,
          hint: parent.expects ?? 'names are made of a-z, 0-9, - and _',
        };
      }
      const known = Object.keys(parent?.properties ?? {});
      const near = nearest(key, known);
      return {
        path: [...path, key],
        onKey: true,
        message: `unknown key '${shorten(key)}'`,
        hint:
          near !== undefined
            ? `did you mean '${near}'?`
            : known.length > 0
              ? `known keys: ${known.join(', ')}`
              : 'no keys are known here',
      };
    }
    case 'required': {
      const key = String(params.missingProperty);
      const property = parent?.properties?.[key] as { description?: string } | undefined;
      return {
        path,
        subject: [...path, key],
        breaks: 'presence',
        onKey: true,
        message: `'${key}' is missing${within(path)}`,
        hint: property?.description,
      };
    }
    case 'type':
      return {
        path,
        breaks: params.type === 'object' || params.type === 'array' ? 'content' : 'value',
        onKey: false,
        message: `expected ${article(String(params.type))}, found ${show(error.data)}`,
        hint: parent?.description,
      };
    case 'enum': {
      const name = error.propertyName;
      const words = (params.allowedValues as unknown[]).map(String);
      const near = typeof error.data === 'string' ? nearest(error.data, words) : undefined;
      return {
        path: name === undefined ? path : [...path, name],
        onKey: name !== undefined,
        message: `${show(error.data)} is not one of ${listWords(words)}`,
        hint: near === undefined ? undefined : `did you mean '${near}'?`,
      };
    }
    case 'const':
      return {
        path,
        onKey: false,
        message: `expected ${show(params.allowedValue)}, found ${show(error.data)}`,
      };
    case 'pattern':
      return {
        path,
        onKey: false,
        message: `${show(error.data)} is not ${parent?.expects ?? 'of the expected form'}`,
      };
    case 'minimum':
    case 'maximum':
    case 'exclusiveMinimum':
    case 'exclusiveMaximum':
      return {
        path,
        onKey: false,
        message: `${show(error.data)} is out of range: it must be ${String(params.comparison)} ${String(params.limit)}`,
      };
    case 'uniqueItems':
      return {
        path,
        onKey: false,
        message: `items ${String(params.j)} and ${String(params.i)} are the same`,
      };
    case 'minItems':
    case 'minProperties':
    case 'minLength':
      return {
        path,
        onKey: true,
        message: `at least ${String(params.limit)} needed${within(path)}`,
        hint: parent?.description,
      };
    default:
      return { path, onKey: false, message: error.message ?? error.keyword };
  }
}

const MAX_LISTED_WORDS = 12;

function within(path: YamlPath): string {
  return path.length === 0 ? '' : ` in ${path.join('.')}`;
}

/** @param types one, or several with commas between them. */
function article(types: string): string {
  return types
    .split(',')
    .map((type) => (/^[aeiou]/.test(type) ? `an ${type}` : `a ${type}`))
    .join(' or ');
}

/** The offending text, short. */
function show(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (typeof value === 'string') return `'${shorten(value)}'`;
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a map';
  // JSON has no word for .inf and .nan.
  return typeof value === 'number' ? String(value) : JSON.stringify(value);
}

function shorten(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

/** As many words as a line holds. */
function listWords(words: readonly string[]): string {
  return words.length <= MAX_LISTED_WORDS
    ? words.join(', ')
    : `${words.slice(0, MAX_LISTED_WORDS).join(', ')}, …`;
}

function unescapePointer(token: string): string {
  return token.replaceAll('~1', '/').replaceAll('~0', '~');
}
