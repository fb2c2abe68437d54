import 'reflect-metadata';
import {
  container as root,
  instanceCachingFactory,
  type DependencyContainer,
  type InjectionToken,
} from 'tsyringe';
import { XdpbedError } from '../diagnostic.js';
import type { Token } from '../contract/injection.js';
import type { PluginScope } from '../contract/plugin.js';

/**
 * One dependency injection container and its children: a scope for the testbed, one for each party in it, one
 * for each plugin instance. tsyringe replaces an earlier binding without a word; a Scope refuses.
 */
export class Scope implements PluginScope {
  readonly #container: DependencyContainer;
  readonly #bound = new Set<symbol>();

  constructor(
    readonly label: string,
    parent?: Scope,
  ) {
    this.#container = (parent === undefined ? root : parent.#container).createChildContainer();
  }

  child(label: string): Scope {
    return new Scope(label, this);
  }

  bindValue<T>(token: Token<T>, value: T): void {
    this.#claim(token);
    // A function or class given as a value must come back as it is, which tsyringe's useValue does.
    this.#container.register(token, { useValue: value });
  }

  bindClass<T>(token: Token<T>, constructor: new (...args: never[]) => T): void {
    this.#claim(token);
    const container = this.#container;
    this.#container.register(token, {
      // Resolved in this scope, whoever asks, and once: a child scope shares its parent's instance.
      useFactory: instanceCachingFactory(() => container.resolve<T>(constructor as InjectionToken<T>)),
    });
  }

  bindFactory<T>(token: Token<T>, make: (resolve: <U>(token: Token<U>) => U) => T): void {
    this.#claim(token);
    this.#container.register(token, {
      useFactory: instanceCachingFactory(() => make((wanted) => this.resolve(wanted))),
    });
  }

  /** Throws `plugin-invalid` when nothing is bound to the token in this scope or above. */
  resolve<T>(token: Token<T>): T {
    if (!this.#container.isRegistered(token, true)) {
      throw new XdpbedError(
        'plugin-invalid',
        `${this.label}: nothing is bound to ${String(token.description)}`,
      );
    }
    return this.#container.resolve<T>(token);
  }

  #claim(token: Token<unknown>): void {
    if (this.#bound.has(token)) {
      throw new XdpbedError('plugin-conflict', `${this.label}: ${String(token.description)} is bound twice`);
    }
    this.#bound.add(token);
  }
}
