/** As much of JSON Schema as the published documents use. */
interface JsonSchema {
  readonly description?: string;
  readonly const?: unknown;
  readonly anyOf?: readonly JsonSchema[];
  readonly items?: JsonSchema;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly patternProperties?: Readonly<Record<string, JsonSchema>>;
  readonly additionalProperties?: JsonSchema | boolean;
}

/** A member that documents of a schema may have. */
export interface SchemaMember {
  /** Without list indexes and names that a user chooses: `runs.host.nics.mac`. */
  readonly path: string;
  readonly described: boolean;
  /** One of the documents has it. */
  readonly seen: boolean;
  /** The object that it belongs to has no members but those described. */
  readonly closed: boolean;
}

/** Every member that a schema describes, held against documents of it. Of alternatives, all members count. */
export function schemaMembers(schema: object, documents: readonly unknown[]): SchemaMember[] {
  const members = new Map<string, SchemaMember>();
  const walk = (node: JsonSchema, values: readonly unknown[], at: readonly string[]): void => {
    const objects = values.filter(
      (value): value is Record<string, unknown> =>
        typeof value === 'object' && value !== null && !Array.isArray(value),
    );
    for (const branch of node.anyOf ?? []) walk(branch, values, at);
    if (node.items !== undefined) walk(node.items, values.filter(Array.isArray).flat(), at);
    for (const [name, property] of Object.entries(node.properties ?? {})) {
      const path = [...at, name];
      const own = objects.flatMap((object) => (Object.hasOwn(object, name) ? [object[name]] : []));
      const before = members.get(path.join('.'));
      members.set(path.join('.'), {
        path: path.join('.'),
        described:
          (property.description ?? '') !== '' || property.const !== undefined || before?.described === true,
        seen: own.length > 0 || before?.seen === true,
        closed: node.additionalProperties === false && before?.closed !== false,
      });
      walk(property, own, path);
    }
    const { additionalProperties: others } = node;
    const named = [
      ...Object.values(node.patternProperties ?? {}),
      ...(typeof others === 'object' ? [others] : []),
    ];
    for (const each of named) walk(each, objects.flatMap(Object.values), at);
  };
  walk(schema, documents, []);
  return [...members.values()];
}
