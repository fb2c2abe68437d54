import { readFile } from 'node:fs/promises';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { parseObjectFile, type ObjectFileOptions } from '../../bpf/object-file.js';
import { XdpbedError, messageOf } from '../diagnostic.js';

/** Throws `file-unreadable`. */
export async function readFileBytes(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new XdpbedError('file-unreadable', missing ? 'there is no such file' : messageOf(cause), { cause });
  }
}

/** Throws `file-unreadable`, and what `parseObjectFile` throws. */
export async function readObjectFile(path: string, options: ObjectFileOptions = {}): Promise<ObjectSpec> {
  return parseObjectFile(await readFileBytes(path), path, options);
}
