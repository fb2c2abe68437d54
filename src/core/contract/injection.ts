// tsyringe refuses to load before this polyfill is there.
import 'reflect-metadata';

/**
 * What a plugin needs of the container: the decorators. Interfaces have no runtime type, so every constructor
 * parameter carries an explicit `@inject(TOKEN)`; the container itself belongs to core/plugin.
 */
export { inject, injectable } from 'tsyringe';

/**
 * A token that is the same in every copy of this package, so that a plugin that was installed with its own
 * copy still binds to the roles of the one that runs it.
 */
export type Token<T> = symbol & { readonly __type?: T };

export function token<T>(name: string): Token<T> {
  return Symbol.for(`xdpbed.${name}`);
}
