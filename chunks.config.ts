import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vite';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
/** Where tsc puts modules; its declarations are in `dist` already. */
const MODULES = here('./build');

const manifest = JSON.parse(readFileSync(here('./package.json'), 'utf8')) as {
  exports: Record<string, string | { default: string }>;
};
/** Main modules of processes and threads: whoever imports one has its work done, so that none is in a chunk with others. */
const MAIN = [
  'src/cli/main.js',
  'src/cli/held/holder.js',
  'src/cli/prog/test-thread.js',
  'src/core/verification/judge-main.js',
  'src/core/verification/judge-watch.js',
];
/** What is imported from outside, beside what modules import when they need it. */
const STARTS = [
  ...MAIN,
  ...Object.values(manifest.exports).flatMap((target) =>
    typeof target === 'string' ? [] : [target.default.replace('./dist/', '')],
  ),
];

const files = readdirSync(MODULES, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.js'))
  .filter(isOfSource);

/** tsc leaves what it made of a module that has been moved or removed since, which goes. */
function isOfSource(file: string): boolean {
  if (existsSync(here(`./${file.replace(/\.js$/, '.ts')}`))) return true;
  for (const made of [join(MODULES, file), here(`./dist/${file}`)]) {
    for (const each of [made, made.replace(/\.js$/, '.d.ts')]) rmSync(each, { force: true });
  }
  return false;
}

/** By what tsc writes: a statement a line. */
function importsOf(file: string, pattern: RegExp): string[] {
  const text = readFileSync(join(MODULES, file), 'utf8');
  const folder = dirname(join(MODULES, file));
  return [...text.matchAll(pattern)].map(([, path]) => relative(MODULES, resolve(folder, path!)));
}

/**
 * The chunk of each module. In one chunk are those that are needed by the same starts: what is imported when it is needed
 * brings nothing along that it does not need. Since what a module imports is needed by whatever needs the module, chunks import
 * each other in one direction, as modules do.
 */
function chunksOfModules(): Map<string, string> {
  const staticImports = new Map(
    files.map((file) => [file, importsOf(file, /^(?:import|export|\})[^'"\n]*'(\.[^']+)';$/gm)]),
  );
  const lateImports = files
    .filter((file) => /^(src|plugins)\//.test(file))
    .flatMap((file) => importsOf(file, /import\('(\.[^']+)'\)/g));
  const neededBy = new Map<string, string[]>();
  for (const start of new Set([...STARTS, ...lateImports])) {
    const needed = new Set([start]);
    // Grows while it is gone through.
    for (const file of needed) for (const each of staticImports.get(file) ?? []) needed.add(each);
    for (const file of needed) neededBy.set(file, [...(neededBy.get(file) ?? []), start]);
  }
  const names = new Map<string, string>();
  return new Map(
    [...neededBy].map(([file, starts]) => {
      const key = MAIN.includes(file) ? `main ${file}` : starts.join();
      // Called as the first of its modules is.
      if (!names.has(key)) names.set(key, file.replace(/\.js$/, '').replaceAll('/', '-'));
      return [join(MODULES, file), names.get(key)!];
    }),
  );
}

/** What a module takes for its own URL stays that of its file in `dist`, wherever its code lies. */
function ownUrls(): Plugin {
  return {
    name: 'own-urls',
    resolveImportMeta(property, { chunkId, moduleId }) {
      const own = relative(MODULES, moduleId);
      if (property !== 'url' || own === chunkId) return null;
      const path = relative(dirname(chunkId), own);
      return `new URL('${path.startsWith('.') ? path : `./${path}`}', import.meta.url).href`;
    },
  };
}

/** Says in each chunk of what modules it is. */
function contents({ moduleIds }: { readonly moduleIds: readonly string[] }): string {
  if (moduleIds.length < 2) return '';
  return moduleIds.map((module) => `// ${relative(MODULES, module)}\n`).join('');
}

/** Chunks of an earlier build are nobody's. */
function tidy(): Plugin {
  return {
    name: 'tidy',
    buildStart: () => rmSync(here('./dist/chunks'), { recursive: true, force: true }),
  };
}

const chunks = chunksOfModules();

/**
 * What tsc has made, in a third as many files: Node takes 0.3 ms and more to find, read and link a module. The code of a
 * module is in one chunk and nowhere else, and each module has its file in `dist`, which hands on what the chunk has of it:
 * whoever imports which file, of every class and token there is one.
 */
export default defineConfig({
  root: MODULES,
  logLevel: 'warn',
  plugins: [ownUrls(), tidy()],
  build: {
    ssr: true,
    outDir: here('./dist'),
    emptyOutDir: false,
    target: 'esnext',
    minify: false,
    rollupOptions: {
      input: Object.fromEntries(files.map((file) => [file.replace(/\.js$/, ''), join(MODULES, file)])),
      preserveEntrySignatures: 'strict',
      treeshake: false,
      onwarn: (warning, warn) => {
        // A decorator as tsc writes it asks for `this`, which is undefined in a module; and some modules are types alone.
        if (!['THIS_IS_UNDEFINED', 'EMPTY_BUNDLE'].includes(warning.code ?? '')) warn(warning);
      },
      output: {
        format: 'es',
        entryFileNames: '[name].js',
        chunkFileNames: 'chunks/[name].js',
        manualChunks: (module) => chunks.get(module),
        banner: contents,
        hoistTransitiveImports: false,
        minifyInternalExports: false,
      },
    },
  },
});
