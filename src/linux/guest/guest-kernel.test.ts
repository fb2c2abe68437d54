import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { uncompressedKernel } from './boot-image.js';
import { cached, cacheFolder, exists } from './cache-folder.js';
import { guestKernel, moduleDependencies } from './guest-kernel.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-cache-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** An ELF file of one note, `Xen` 18: the PVH entry. */
function kernel(noteType: number): Buffer {
  const bytes = Buffer.alloc(160, 0);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1]);
  bytes.writeBigUInt64LE(64n, 32); // e_phoff
  bytes.writeUInt16LE(56, 54); // e_phentsize
  bytes.writeUInt16LE(1, 56); // e_phnum
  bytes.writeUInt32LE(4, 64); // PT_NOTE
  bytes.writeBigUInt64LE(120n, 64 + 8);
  bytes.writeBigUInt64LE(20n, 64 + 32);
  bytes.writeUInt32LE(4, 120);
  bytes.writeUInt32LE(4, 124);
  bytes.writeUInt32LE(noteType, 128);
  bytes.write('Xen\0', 132);
  return bytes;
}

/** A bzImage as Documentation/arch/x86/boot.rst has it: one sector of setup, then code, then the payload. */
function bzImage(payload: Buffer): Buffer {
  const setup = Buffer.alloc(1024);
  setup[0x1f1] = 1;
  setup.write('HdrS', 0x202);
  setup.writeUInt16LE(0x20f, 0x206);
  setup.writeUInt32LE(100, 0x248);
  setup.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([setup, Buffer.alloc(100, 0x90), payload, Buffer.alloc(50)]);
}

describe('the kernel in a bzImage', () => {
  it('is unpacked where it has a PVH entry', async () => {
    const plain = kernel(18);
    expect(Buffer.from((await uncompressedKernel(bzImage(gzipSync(plain))))!)).toEqual(plain);
    expect(await uncompressedKernel(bzImage(gzipSync(kernel(17))))).toBeUndefined();
  });

  it('is left as it is where it cannot be unpacked', async () => {
    expect(await uncompressedKernel(Buffer.alloc(4096))).toBeUndefined();
    expect(await uncompressedKernel(bzImage(Buffer.from([0x1f, 0x8b, 8, 1, 2, 3])))).toBeUndefined();
    const cut = bzImage(gzipSync(kernel(18))).subarray(0, 1100);
    expect(await uncompressedKernel(cut)).toBeUndefined();
  });
});

describe('modules', () => {
  it('say what they depend on', () => {
    const module = (info: string): Uint8Array =>
      Buffer.from(`ELF…\0license=GPL\0${info}\0retpoline=Y\0`, 'latin1');
    expect(moduleDependencies(module('depends=virtio_ring,virtio-pci-legacy-dev'))).toEqual([
      'virtio_ring',
      'virtio_pci_legacy_dev',
    ]);
    expect(moduleDependencies(module('depends='))).toEqual([]);
    expect(moduleDependencies(module('other=x'))).toEqual([]);
  });
});

describe('the cache', () => {
  it('is where the base directory specification says', () => {
    expect(cacheFolder({ XDG_CACHE_HOME: '/c' })).toBe('/c/xdpbed');
    expect(cacheFolder({ XDG_CACHE_HOME: 'relative' })).toMatch(/^\/.*\/\.cache\/xdpbed$/);
  });

  it('makes things once, and leaves nothing of what failed', async () => {
    const path = join(folder, 'deep', 'thing');
    let made = 0;
    const fail = cached(path, async () => Promise.reject(new Error('no')));
    await expect(fail).rejects.toThrow('no');
    const make = async (temporary: string): Promise<void> => {
      made++;
      const { writeFile } = await import('node:fs/promises');
      expect(await exists(path)).toBe(false);
      await writeFile(temporary, 'x');
    };
    expect(await cached(path, make)).toBe(path);
    expect(await cached(path, make)).toBe(path);
    expect(made).toBe(1);
    const { readdirSync } = await import('node:fs');
    expect(readdirSync(join(folder, 'deep'))).toEqual(['thing']);
  });

  it('says what would help where there is no kernel', async () => {
    const variable = process.env['XDPBED_GUEST_KERNEL_PACKAGE'];
    delete process.env['XDPBED_GUEST_KERNEL_PACKAGE'];
    try {
      await expect(guestKernel({ cache: folder, download: false })).rejects.toMatchObject({
        code: 'host-unsupported',
        hint: expect.stringContaining('XDPBED_GUEST_KERNEL_PACKAGE') as string,
      });
      await expect(guestKernel({ cache: folder, packageFile: join(folder, 'no.deb') })).rejects.toMatchObject(
        {
          code: 'file-unreadable',
        },
      );
    } finally {
      if (variable !== undefined) process.env['XDPBED_GUEST_KERNEL_PACKAGE'] = variable;
    }
  });
});
