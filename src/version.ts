import { readFileSync } from 'node:fs';

/** Version of the package, from the nearest package.json above this module (src/ and dist/src/ differ in depth). */
export const VERSION = readVersion(new URL('.', import.meta.url));

function readVersion(folder: URL): string {
  for (let at = folder; ; at = new URL('..', at)) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL('package.json', at), 'utf8')) as {
        name?: string;
        version?: string;
      };
      if (name === 'xdpbed' && version !== undefined) return version;
    } catch {
      // No package.json in this folder; the next one up.
    }
    if (at.pathname === '/') return '0.0.0';
  }
}
