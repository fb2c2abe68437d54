import { randomBytes } from 'node:crypto';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

/** Where things are kept that can be made again: $XDG_CACHE_HOME/xdpbed or ~/.cache/xdpbed. */
export function cacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const base = environment['XDG_CACHE_HOME'];
  // The base directory specification: a relative path is to be ignored.
  return join(base?.startsWith('/') === true ? base : join(homedir(), '.cache'), 'xdpbed');
}

/**
 * The path, which `make` fills if nothing is there: beside it first, then renamed, so that nobody ever sees half of it
 * and it does not matter who is first.
 */
export async function cached(path: string, make: (temporary: string) => Promise<void>): Promise<string> {
  if (await exists(path)) return path;
  const temporary = `${path}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`;
  await mkdir(dirname(path), { recursive: true });
  try {
    await make(temporary);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    // A folder is not renamed onto one that another process has put there meanwhile, which is as good.
    if (await exists(path)) return path;
    throw error;
  }
  return path;
}

export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
