import { createHash } from 'node:crypto';
import type { Objects, Sha256 } from '../contract/run-spec.js';
import { XdpbedError } from '../diagnostic.js';

/** The files of one run, all of them read and checked. */
export class RunObjects implements Objects {
  readonly #bytes: ReadonlyMap<string, Uint8Array>;

  constructor(bytes: ReadonlyMap<string, Uint8Array>) {
    this.#bytes = bytes;
  }

  get(name: string): Uint8Array {
    const bytes = this.#bytes.get(name);
    if (bytes === undefined) throw new XdpbedError('file-unreadable', `the run has no file '${name}'`);
    return bytes;
  }
}

/** Throws `file-unreadable` when a file is not the one that the spec names by its hash. */
export async function loadObjects(
  objects: Readonly<Record<string, Sha256>>,
  source: (hash: Sha256) => Uint8Array | Promise<Uint8Array>,
): Promise<RunObjects> {
  const bytes = new Map<string, Uint8Array>();
  for (const [name, hash] of Object.entries(objects)) {
    const content = await source(hash);
    const actual = createHash('sha256').update(content).digest('hex');
    if (actual !== hash) {
      throw new XdpbedError(
        'file-unreadable',
        `file '${name}' has the hash ${actual}, the run wants ${hash}`,
      );
    }
    bytes.set(name, content);
  }
  return new RunObjects(bytes);
}
