import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { MAX_OBJECT_BYTES, parseObjectFile, type ObjectFileOptions } from '../../bpf/object-file.js';
import { XdpbedError, messageOf } from '../diagnostic.js';

/** Throws `file-unreadable`. */
export async function readFileBytes(path: string): Promise<Uint8Array> {
  return named(() => readFile(path));
}

/**
 * The bytes of an object file: no more than one byte past {@link MAX_OBJECT_BYTES}, which `parseObjectFile` refuses,
 * also of what has no end (`/dev/zero`). Throws `file-unreadable`.
 */
export async function readObjectBytes(path: string): Promise<Uint8Array> {
  return named(async () => {
    const chunks: Uint8Array[] = [];
    // `end` is inclusive.
    for await (const chunk of createReadStream(path, { end: MAX_OBJECT_BYTES })) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  });
}

/** Throws `file-unreadable`, and what `parseObjectFile` throws. */
export async function readObjectFile(path: string, options: ObjectFileOptions = {}): Promise<ObjectSpec> {
  return parseObjectFile(await readObjectBytes(path), path, options);
}

async function named<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new XdpbedError('file-unreadable', missing ? 'there is no such file' : messageOf(cause), { cause });
  }
}
