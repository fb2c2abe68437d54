import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { MAX_OBJECT_BYTES, parseObjectFile } from '../../bpf/object-file.js';
import { readObjectBytes, readObjectFile } from './object-file.js';

const folder = mkdtempSync(join(tmpdir(), 'xdpbed-object-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** A file of zeros that takes no room on the disk. */
function sparse(name: string, size: number): string {
  const path = join(folder, name);
  writeFileSync(path, '');
  truncateSync(path, size);
  return path;
}

const TOO_LONG = {
  code: 'object-invalid',
  message: 'the object file has more than 16777216 bytes (16 MiB)',
};

describe('an object file', () => {
  it.each(['long.o', 'long.s'])('that is too long is refused, with the limit: %s', async (name) => {
    await expect(readObjectFile(sparse(name, MAX_OBJECT_BYTES + 1))).rejects.toMatchObject(TOO_LONG);
    expect(() => parseObjectFile(new Uint8Array(MAX_OBJECT_BYTES + 1), name)).toThrow(TOO_LONG.message);
  });

  it('of that length is looked at', async () => {
    await expect(readObjectFile(sparse('whole.o', MAX_OBJECT_BYTES))).rejects.toThrow(
      'this is not an ELF file',
    );
  });

  it('is read no further, also where it has no end', async () => {
    expect(await readObjectBytes(sparse('longer.o', 2 ** 30))).toHaveLength(MAX_OBJECT_BYTES + 1);
    expect(await readObjectBytes('/dev/zero')).toHaveLength(MAX_OBJECT_BYTES + 1);
  });

  it('is read whole, and told when it is not there', async () => {
    const path = join(folder, 'short.s');
    writeFileSync(path, 'r0 = 2\nexit\n');
    expect((await readObjectFile(path)).programs).toHaveLength(1);
    await expect(readObjectFile(join(folder, 'none.o'))).rejects.toMatchObject({
      code: 'file-unreadable',
      message: 'there is no such file',
    });
  });
});
