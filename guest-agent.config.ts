import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/**
 * The agent of real guests in one file, `dist/guest-agent.cjs`. Under emulation each module that Node has to find, read
 * and link costs some 15 ms, and the agent is made of a hundred.
 */
export default defineConfig({
  logLevel: 'warn',
  build: {
    ssr: here('./src/guest-agent/main.ts'),
    outDir: here('./dist'),
    emptyOutDir: false,
    target: 'node20',
    minify: 'esbuild',
    rollupOptions: { output: { format: 'cjs', entryFileNames: 'guest-agent.cjs' } },
  },
  resolve: {
    // Schemas of plugins' configuration are for who reads testbeds: the agent has none to check, and no time to make them.
    alias: [{ find: /^@sinclair\/typebox$/, replacement: here('./src/guest-agent/no-schemas.ts') }],
  },
  ssr: { noExternal: true },
});
