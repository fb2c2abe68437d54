/**
 * What may be given to `JSON.stringify` for a document of the type: lists that nobody changes, and undefined where something may
 * be absent.
 */
export type Printed<T> = T extends readonly (infer Item)[]
  ? readonly Printed<Item>[]
  : T extends object
    ? { readonly [K in keyof T]: Printed<T[K]> | (object extends Pick<T, K> ? undefined : never) }
    : T;
