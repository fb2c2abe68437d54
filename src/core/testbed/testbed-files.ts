import { createHash } from 'node:crypto';
import { resolve as resolvePath } from 'node:path';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { parseObjectFile } from '../../bpf/object-file.js';
import type { Sha256 } from '../contract/run-spec.js';
import { XdpbedError } from '../diagnostic.js';
import { readFileBytes, readObjectBytes } from './object-file.js';

export interface FileRead {
  readonly bytes: Uint8Array;
  readonly hash: Sha256;
}

/** The files that a testbed names, by the names that it gives them; each is read and parsed once. */
export class TestbedFiles {
  /** Of all that was read, by their hash. */
  readonly bytes = new Map<Sha256, Uint8Array>();
  readonly #folder: string;
  readonly #files = new Map<string, Promise<FileRead | XdpbedError>>();
  readonly #specs = new Map<string, ObjectSpec | XdpbedError>();

  /** @param folder which relative names start from. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  read(name: string): Promise<FileRead | XdpbedError> {
    return this.#read(name, `file ${name}`, readFileBytes);
  }

  /** As `read`, of an object file no more than {@link parse} looks at. */
  readObject(name: string): Promise<FileRead | XdpbedError> {
    return this.#read(name, `object ${name}`, readObjectBytes);
  }

  #read(
    name: string,
    key: string,
    bytesOf: (path: string) => Promise<Uint8Array>,
  ): Promise<FileRead | XdpbedError> {
    let file = this.#files.get(key);
    if (file === undefined) {
      file = bytesOf(resolvePath(this.#folder, name)).then((bytes) => {
        const hash = createHash('sha256').update(bytes).digest('hex');
        this.bytes.set(hash, bytes);
        return { bytes, hash };
      }, asXdpbedError);
      this.#files.set(key, file);
    }
    return file;
  }

  /** What an object file holds. */
  parse(name: string, bytes: Uint8Array): ObjectSpec | XdpbedError {
    let object = this.#specs.get(name);
    if (object === undefined) {
      try {
        object = parseObjectFile(bytes, resolvePath(this.#folder, name));
      } catch (error) {
        object = asXdpbedError(error);
      }
      this.#specs.set(name, object);
    }
    return object;
  }

  /** What a file holds that was parsed before; undefined where that failed. */
  objectOf(name: string): ObjectSpec | undefined {
    const object = this.#specs.get(name);
    return object instanceof XdpbedError ? undefined : object;
  }
}

function asXdpbedError(error: unknown): XdpbedError {
  if (error instanceof XdpbedError) return error;
  throw error;
}
