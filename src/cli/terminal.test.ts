import { describe, expect, it } from 'vitest';
import { processTerminal } from './terminal.js';

describe('a reader that goes away early', () => {
  it.each(['stdout', 'stderr'] as const)('on %s is no failure', (name) => {
    const before = { stdout: process.stdout.listeners('error'), stderr: process.stderr.listeners('error') };
    processTerminal();
    const added = (stream: 'stdout' | 'stderr') =>
      (process[stream].listeners('error') as ((error: Error) => void)[]).filter(
        (listener) => !before[stream].includes(listener),
      );
    const [listener] = added(name);
    for (const stream of ['stdout', 'stderr'] as const) {
      for (const each of added(stream)) process[stream].off('error', each);
    }
    const broken = (code: string) => () => listener!(Object.assign(new Error(code), { code }));
    expect(broken('EPIPE')).not.toThrow();
    expect(broken('EIO')).toThrow('EIO');
  });
});
