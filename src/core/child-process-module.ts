import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const SOURCES = new URL('../../', import.meta.url).href;

/**
 * A module that another process can load, by its URL. It runs without the loader that a test runner has put into this
 * one, so from the sources (and only from there) a module leads to the same one as `npm run build` has made it.
 */
export function compiledModule(url: string): string {
  const isSource = url.startsWith(`${SOURCES}src/`) || url.startsWith(`${SOURCES}plugins/`);
  if (!import.meta.url.endsWith('.ts') || !isSource) return url;
  const built = url.replace(SOURCES, `${SOURCES}dist/`).replace(/\.ts$/, '.js');
  if (existsSync(fileURLToPath(built))) return built;
  throw new Error(`${fileURLToPath(built)} is not there: npm run build`);
}

/** What is meant for this process (an inspector, a loader of the sources) is not meant for one of its children. */
export function childEnvironment(): NodeJS.ProcessEnv {
  const { NODE_OPTIONS: _, ...rest } = process.env;
  return rest;
}
