import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['{src,plugins,bench,schemas,docs,testbeds,third-party}/**/*.test.ts'],
    exclude: ['third-party/packages/**', 'node_modules/**'],
    // tsyringe reads decorator metadata through this polyfill; it must load before any plugin.
    setupFiles: ['reflect-metadata'],
    testTimeout: 60_000,
    pool: 'forks',
    maxWorkers: 2,
    coverage: {
      provider: 'v8',
      // What every testbed passes through: a line here that no test runs is one that nobody has looked at.
      include: ['src/core/**/*.ts', 'src/virtio/**/*.ts', 'plugins/fabric-model/**/*.ts'],
      exclude: ['**/*.test.ts'],
      reporter: ['text-summary', 'html'],
      // A little under what the whole suite reaches (93.4, 86.2, 94.8 and 94.9 %): raise them, do not lower them.
      thresholds: { statements: 92, branches: 85, functions: 93, lines: 93 },
    },
  },
});
