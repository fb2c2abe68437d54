import { describe, expect, it } from 'vitest';
import type { XdpbedError } from '../diagnostic.js';
import { LifecycleManager } from './lifecycle.js';

describe('LifecycleManager', () => {
  it('stops in reverse order of start', async () => {
    const order: string[] = [];
    const instance = (name: string) => ({
      start: () => void order.push(`+${name}`),
      stop: () => void order.push(`-${name}`),
    });
    const lifecycle = new LifecycleManager();
    for (const name of ['a', 'b', 'c']) await lifecycle.start(name, instance(name));
    await lifecycle.stop();
    expect(order).toEqual(['+a', '+b', '+c', '-c', '-b', '-a']);
  });

  it('stops all of them when some throw, and tells of each by name', async () => {
    const stopped: string[] = [];
    const lifecycle = new LifecycleManager();
    await lifecycle.start('one', { stop: () => void stopped.push('one') });
    await lifecycle.start('two', { stop: () => Promise.reject(new Error('broken')) });
    await lifecycle.start('three', {
      stop: () => {
        stopped.push('three');
        throw new Error('also broken');
      },
    });
    const error = await lifecycle.stop().then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(stopped).toEqual(['three', 'one']);
    expect(error).toBeInstanceOf(AggregateError);
    const messages = (error as AggregateError).errors.map((each: XdpbedError) => each.message);
    expect(messages).toEqual([
      'plugin three failed in stop: also broken',
      'plugin two failed in stop: broken',
    ]);
  });

  it('stops an instance whose start failed half-way', async () => {
    let stopped = false;
    const lifecycle = new LifecycleManager();
    await expect(
      lifecycle.start('half', {
        start: () => Promise.reject(new Error('no luck')),
        stop: () => void (stopped = true),
      }),
    ).rejects.toMatchObject({ code: 'plugin-failed', message: 'plugin half failed in start: no luck' });
    await lifecycle.stop();
    expect(stopped).toBe(true);
  });

  it('gives up a start that takes too long, and tells the plugin so', async () => {
    let told = false;
    const lifecycle = new LifecycleManager(20);
    const start = lifecycle.start('slow', {
      start: (signal) =>
        new Promise<void>(() => {
          signal.addEventListener('abort', () => (told = true));
        }),
    });
    await expect(start).rejects.toMatchObject({
      code: 'plugin-timeout',
      message: 'plugin slow did not start within 20 ms',
    });
    expect(told).toBe(true);
  });

  it('gives up a stop that takes too long and stops the others', async () => {
    let stopped = false;
    const lifecycle = new LifecycleManager(20);
    await lifecycle.start('first', { stop: () => void (stopped = true) });
    await lifecycle.start('stuck', { stop: () => new Promise<void>(() => undefined) });
    await expect(lifecycle.stop()).rejects.toThrow('plugin stuck did not stop within 20 ms');
    expect(stopped).toBe(true);
  });

  it('does not start what says it cannot work here', async () => {
    let started = false;
    const lifecycle = new LifecycleManager();
    await expect(
      lifecycle.start('needy', {
        probe: () => ({ status: 'unsupported', reason: 'no root' }),
        start: () => void (started = true),
      }),
    ).rejects.toMatchObject({ code: 'host-unsupported', exitCode: 3 });
    expect(started).toBe(false);
  });

  it('an interruption ends a start under way, and stop still works', async () => {
    const interruption = new AbortController();
    let stopped = false;
    const lifecycle = new LifecycleManager(10_000, interruption.signal);
    const start = lifecycle.start('waiting', {
      start: () => new Promise<void>(() => undefined),
      stop: () => void (stopped = true),
    });
    setTimeout(() => interruption.abort(), 5);
    await expect(start).rejects.toMatchObject({ code: 'interrupted', exitCode: 130 });
    await lifecycle.stop();
    expect(stopped).toBe(true);
    await expect(lifecycle.start('late', {})).rejects.toMatchObject({ code: 'interrupted' });
  });
});
