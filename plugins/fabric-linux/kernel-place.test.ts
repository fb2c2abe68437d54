import { readdirSync } from 'node:fs';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import type { Program } from '../../src/bpf/program.js';
import { KernelLoadedProgram, loadingThread, probeBpf } from '../../src/linux/index.js';
import { KernelPlace } from './kernel-place.js';
import type { Landing } from './landing.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const PASS: Program = {
  name: 'pass',
  type: 6,
  attachType: 'BPF_XDP',
  gplCompatible: true,
  insns: assemble('r0 = 2\nexit'),
};

/** Notes what comes there. */
class NotedLanding implements Landing {
  readonly log: string[] = [];
  put(): void {
    this.log.push('put');
  }
  replace(): void {
    this.log.push('replace');
  }
  take(): void {
    this.log.push('take');
  }
}

const openFds = (): number => readdirSync('/proc/self/fd').length;

describe.skipIf(skipped !== '')(`a place of the kernel, while the kernel verifies${skipped}`, () => {
  const loaded: KernelLoadedProgram[] = [];
  let before: number;
  const program = (): KernelLoadedProgram => {
    const each = KernelLoadedProgram.load(PASS, { maps: new Map(), world: undefined as never });
    loaded.push(each);
    return each;
  };
  const place = (): { place: KernelPlace; landing: NotedLanding } => {
    const landing = new NotedLanding();
    const variant = ({ program: own, mapFds }: KernelLoadedProgram) => ({ program: own, maps: mapFds });
    return {
      landing,
      place: new KernelPlace('host.tap0', [
        { variant, landing },
        { variant, landing },
      ]),
    };
  };

  beforeAll(async () => {
    await loadingThread();
    before = openFds();
  });
  afterEach(() => {
    for (const each of loaded.splice(0)) each.close();
    expect(openFds()).toBe(before);
  });

  it('is closed: nothing comes there', async () => {
    const { place: closed, landing } = place();
    const attaching = closed.attach(program());
    closed.close();
    await expect(attaching).rejects.toThrow('host.tap0: the place is closed');
    expect(landing.log).toEqual([]);
  });

  it('is asked for by two: one has it', async () => {
    const { place: wanted, landing } = place();
    const both = await Promise.allSettled([wanted.attach(program()), wanted.attach(program())]);
    expect(both.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    expect(landing.log).toEqual(['put', 'put']);
    wanted.close();
    expect(landing.log.slice(2)).toEqual(['take', 'take']);
  });

  it('loses the program that is to be replaced: no other takes its place', async () => {
    const { place: left, landing } = place();
    const attachment = await left.attach(program());
    const replacing = attachment.replace(program());
    await attachment.detach();
    await expect(replacing).rejects.toThrow();
    expect(landing.log).toEqual(['put', 'put', 'take', 'take']);
    left.close();
  });
});
