/** What `--coverage-format` takes; by itself, so that declaring the option costs nothing. */
export const COVERAGE_FORMATS = ['text', 'lcov'] as const;
export type CoverageFormat = (typeof COVERAGE_FORMATS)[number];
