import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cpioArchive, type CpioEntry } from './cpio-archive.js';

interface Read {
  readonly name: string;
  readonly mode: number;
  readonly links: number;
  readonly device: [number, number];
  readonly content: string;
}

/** What the kernel reads (init/initramfs.c): headers at multiples of 4, until the trailer. */
function read(archive: Buffer): Read[] {
  const entries: Read[] = [];
  for (let at = 0; at < archive.length;) {
    expect(at % 4).toBe(0);
    expect(archive.toString('latin1', at, at + 6)).toBe('070701');
    const field = (index: number): number =>
      parseInt(archive.toString('latin1', at + 6 + 8 * index, at + 14 + 8 * index), 16);
    const nameEnd = at + 110 + field(11);
    expect(archive[nameEnd - 1]).toBe(0);
    const start = (nameEnd + 3) & ~3;
    const end = start + field(6);
    entries.push({
      name: archive.toString('utf8', at + 110, nameEnd - 1),
      mode: field(1),
      links: field(4),
      device: [field(9), field(10)],
      content: archive.toString('latin1', start, end),
    });
    at = (end + 3) & ~3;
  }
  return entries;
}

function pack(entries: Record<string, CpioEntry>): Read[] {
  return read(Buffer.concat([...cpioArchive(new Map(Object.entries(entries)))]));
}

describe('an archive for the kernel', () => {
  it('holds files, folders, links and devices, each folder before what is in it', () => {
    const entries = pack({
      '/a/b/file': { kind: 'file', content: Buffer.from('12345') },
      '/a/run': { kind: 'file', content: Buffer.from(''), executable: true },
      '/dev/console': { kind: 'device', major: 5, minor: 1 },
      '/lib': { kind: 'link', to: 'usr/lib' },
    });
    expect(entries).toEqual([
      { name: 'a', mode: 0o040755, links: 2, device: [0, 0], content: '' },
      { name: 'a/b', mode: 0o040755, links: 2, device: [0, 0], content: '' },
      { name: 'a/b/file', mode: 0o100644, links: 1, device: [0, 0], content: '12345' },
      { name: 'a/run', mode: 0o100755, links: 1, device: [0, 0], content: '' },
      { name: 'dev', mode: 0o040755, links: 2, device: [0, 0], content: '' },
      { name: 'dev/console', mode: 0o020600, links: 1, device: [5, 1], content: '' },
      { name: 'lib', mode: 0o120777, links: 1, device: [0, 0], content: 'usr/lib' },
      { name: 'TRAILER!!!', mode: 0, links: 1, device: [0, 0], content: '' },
    ]);
  });

  it('copies files of the host, of any length', () => {
    const folder = mkdtempSync(join(tmpdir(), 'xdpbed-cpio-'));
    try {
      for (const length of [0, 1, 2, 3, 4, 4 * 1024 * 1024 + 5]) {
        const from = join(folder, 'file');
        const content = Buffer.alloc(length, 'abc');
        writeFileSync(from, content);
        const entries = pack({
          '/x': { kind: 'copy', from },
          '/y': { kind: 'file', content: Buffer.from('end') },
        });
        expect(entries.map(({ name }) => name)).toEqual(['x', 'y', 'TRAILER!!!']);
        expect(entries[0]!.content === content.toString('latin1')).toBe(true);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
    expect(() => pack({ '/x': { kind: 'copy', from: '/nowhere' } })).toThrow('/nowhere cannot be read');
  });

  it('takes no path that leads out', () => {
    expect(() => pack({ 'x/y': { kind: 'folder' } })).toThrow("'x/y' is no path");
    expect(() => pack({ '/x/../../y': { kind: 'folder' } })).toThrow('is no path');
  });
});
