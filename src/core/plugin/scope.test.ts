import { describe, expect, it } from 'vitest';
import { inject, injectable, token } from '../contract/injection.js';
import { Scope } from './scope.js';

const NUMBER = token<number>('test.number');
const SERVICE = token<Service>('test.service');

@injectable()
class Service {
  constructor(@inject(NUMBER) readonly number: number) {}
}

describe('Scope', () => {
  it('injects by token, and gives one instance to the scope and its children', () => {
    const scope = new Scope('outer');
    scope.bindValue(NUMBER, 7);
    scope.bindClass(SERVICE, Service);
    const service = scope.resolve(SERVICE);
    expect(service.number).toBe(7);
    expect(scope.child('inner').resolve(SERVICE)).toBe(service);
  });

  it('keeps siblings apart', () => {
    const scope = new Scope('outer');
    const [a, b] = [scope.child('a'), scope.child('b')];
    a.bindValue(NUMBER, 1);
    b.bindValue(NUMBER, 2);
    a.bindClass(SERVICE, Service);
    b.bindClass(SERVICE, Service);
    expect([a.resolve(SERVICE).number, b.resolve(SERVICE).number]).toEqual([1, 2]);
  });

  it('refuses a second binding instead of replacing the first', () => {
    const scope = new Scope('outer');
    scope.bindValue(NUMBER, 1);
    expect(() => scope.bindValue(NUMBER, 2)).toThrow('outer: xdpbed.test.number is bound twice');
    expect(scope.resolve(NUMBER)).toBe(1);
  });

  it('names what is missing', () => {
    expect(() => new Scope('lonely').resolve(NUMBER)).toThrow(
      'lonely: nothing is bound to xdpbed.test.number',
    );
  });

  it('a token made by another copy of the package is the same', () => {
    const scope = new Scope('outer');
    scope.bindValue(NUMBER, 3);
    expect(scope.resolve(Symbol.for('xdpbed.test.number'))).toBe(3);
  });
});
