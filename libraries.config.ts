import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vite';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/**
 * Libraries of many small modules, and what is imported of each. Node takes 0.3 ms and more to find, read and link a
 * module, and of these there are 500, most of them in each process. Not those that have to be the same as a plugin's own, as
 * tsyringe has, which knows a class by what its own decorators have noted of it.
 */
const LIBRARIES: Readonly<Record<string, { readonly names: string; readonly license?: string }>> = {
  '@sinclair/typebox': { names: 'Type', license: 'license' },
  '@sinclair/typebox/value': { names: 'Value' },
  ajv: { names: 'Ajv', license: 'LICENSE' },
  'pure-rand': { names: 'xoroshiro128plus', license: 'LICENSE' },
  yaml: {
    names:
      'Composer, isAlias, isCollection, isMap, isPair, isScalar, isSeq, Lexer, LineCounter, parseDocument, Parser',
    license: 'LICENSE',
  },
};

const fileOf = (library: string): string => library.replace(/^@[^/]*\//, '').replace('/', '-');
const VIRTUAL = '\0library:';

/** Each library as one module of what is imported of it. */
function entries(): Plugin {
  return {
    name: 'library-entries',
    enforce: 'pre',
    resolveId: (id) => (id.startsWith('library:') ? `\0${id}` : undefined),
    load(id) {
      if (!id.startsWith(VIRTUAL)) return undefined;
      const library = id.slice(VIRTUAL.length);
      return `export { ${LIBRARIES[library]!.names} } from ${JSON.stringify(library)};`;
    },
  };
}

/** Has what tsc made in `dist` import those modules; and puts the libraries' licences beside them. */
function linked(): Plugin {
  return {
    name: 'linked-libraries',
    closeBundle() {
      for (const file of readdirSync(here('./dist'), { recursive: true, encoding: 'utf8' })) {
        if (!file.endsWith('.js') || file.startsWith('libraries/')) continue;
        const path = here(`./dist/${file}`);
        const text = readFileSync(path, 'utf8');
        const changed = text.replace(
          /(?<=^(?:import|export|\}) ?[^'"\n]*from )'([^'\n]+)'(?=;$)/gm,
          (word, name: string) => {
            if (!Object.hasOwn(LIBRARIES, name)) return word;
            const to = relative(dirname(path), here(`./dist/libraries/${fileOf(name)}.js`));
            return `'${to.startsWith('.') ? to : `./${to}`}'`;
          },
        );
        if (changed !== text) writeFileSync(path, changed);
      }
      const licenses = Object.entries(LIBRARIES).flatMap(([library, { license }]) => {
        if (license === undefined) return [];
        const text = readFileSync(here(`./node_modules/${library}/${license}`), 'utf8');
        return `${library}\n\n${text.trim()}\n`;
      });
      writeFileSync(here('./dist/libraries/LICENSES.txt'), licenses.join(`\n${'-'.repeat(80)}\n\n`));
    },
  };
}

export default defineConfig({
  logLevel: 'warn',
  plugins: [entries(), linked()],
  build: {
    ssr: true,
    outDir: here('./dist/libraries'),
    emptyOutDir: true,
    target: 'node20',
    minify: false,
    rollupOptions: {
      input: Object.fromEntries(Object.keys(LIBRARIES).map((name) => [fileOf(name), `library:${name}`])),
      output: { format: 'es', entryFileNames: '[name].js', chunkFileNames: '[name]-[hash].js' },
    },
  },
  ssr: { noExternal: true },
});
