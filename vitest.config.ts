import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['{src,plugins,schemas,docs,testbeds,third-party}/**/*.test.ts'],
    exclude: ['third-party/packages/**', 'node_modules/**'],
    // tsyringe reads decorator metadata through this polyfill; it must load before any plugin.
    setupFiles: ['reflect-metadata'],
    testTimeout: 60_000,
    pool: 'forks',
    maxWorkers: 2,
  },
});
