import { execFileSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { ProbeResult } from '../core/contract/plugin.js';
import { messageOf } from '../core/diagnostic.js';
import { libc } from './libc.js';
import type { NetworkNamespace } from './network-namespace.js';

const CLONE_NEWNET = 0x4000_0000;

/** A network namespace of a test's own, made and removed with iproute2. */
export class TestingNamespace implements NetworkNamespace {
  readonly #own: number;
  readonly #there: number;

  constructor(readonly name: string) {
    ip('netns', 'add', name);
    this.#own = openSync('/proc/thread-self/ns/net', 'r');
    this.#there = openSync(`/run/netns/${name}`, 'r');
  }

  /** `ip -n NAME …`: what it wrote. */
  ip(...words: string[]): string {
    return ip('-n', this.name, ...words);
  }

  run<T>(work: () => T): T {
    enter(this.#there);
    try {
      return work();
    } finally {
      enter(this.#own);
    }
  }

  close(): void {
    closeSync(this.#there);
    closeSync(this.#own);
    ip('netns', 'delete', this.name);
  }
}

/** What it says of a failure is in what is thrown, and not in the tests' output. */
function ip(...words: string[]): string {
  return execFileSync('ip', words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function enter(fd: number): void {
  const result = libc().setns(fd, CLONE_NEWNET);
  if (result < 0) throw new Error(`setns: ${result}`);
}

let names = 0;

/** One that nobody else has. */
export function testingNamespace(): TestingNamespace {
  return new TestingNamespace(`xdpbed-test-${process.pid}-${++names}`);
}

/** Can tests have a namespace of their own? */
export function probeNamespaces(): ProbeResult {
  try {
    testingNamespace().close();
    return { status: 'supported' };
  } catch (error) {
    const reason = messageOf(error)
      .trim()
      .replaceAll(/\s*\n\s*/g, ': ');
    return { status: 'unsupported', reason: `no network namespace can be made: ${reason}` };
  }
}
