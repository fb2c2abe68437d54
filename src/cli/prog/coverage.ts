import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { ProgramSpec } from '../../bpf/program.js';
import { CoverageCollector } from '../../core/coverage/coverage-collector.js';
import { formatCoverage } from '../../core/coverage/coverage-listing.js';
import { formatLcov } from '../../core/coverage/lcov.js';
import { sourceCoverage } from '../../core/coverage/source-coverage.js';
import { XdpbedError, messageOf } from '../../core/diagnostic.js';
import type { CoverageFormat } from './coverage-formats.js';
import type { Terminal } from '../terminal.js';

/** The one executor that counts; the others are held equal to it. */
export const COVERAGE_EXECUTOR = 'interpreter';

/** Where `lcov` goes without `--coverage-out`: what lcov, c8 and vitest call it, and editors look for. */
const LCOV_FILE = 'lcov.info';

export interface CoverageOptions {
  readonly coverage?: boolean | undefined;
  readonly coverageFormat?: CoverageFormat | undefined;
  readonly coverageOut?: string | undefined;
  readonly executor: string;
}

/** `--coverage` of one command: what was run of each object that it tests. */
export class CoverageReport {
  readonly #objects = new Map<string, CoverageCollector>();

  private constructor(
    readonly format: CoverageFormat,
    readonly out: string | undefined,
  ) {}

  /** The report that the options ask for, if they ask for one. Throws `usage` for the kernel, which does not count. */
  static wanted(
    terminal: Terminal,
    { coverage, coverageFormat, coverageOut, executor }: CoverageOptions,
  ): CoverageReport | undefined {
    if (coverage !== true && coverageFormat === undefined && coverageOut === undefined) return undefined;
    const format = coverageFormat ?? defaultFormat(coverageOut);
    if (executor === 'kernel') {
      throw new XdpbedError('usage', '--coverage: the kernel does not count which insns run', {
        hint: 'leave --executor away',
      });
    }
    if (executor !== COVERAGE_EXECUTOR)
      terminal.err(
        `coverage is counted in the ${COVERAGE_EXECUTOR}: the cases run there, not in ${executor}\n`,
      );
    return new CoverageReport(format, coverageOut ?? (format === 'lcov' ? LCOV_FILE : undefined));
  }

  /** Takes the counts of an object's programs; the same ones each time it is named. */
  collectorFor(path: string, programs: readonly ProgramSpec[]): CoverageCollector {
    const collector = this.#objects.get(path) ?? new CoverageCollector(programs);
    this.#objects.set(path, collector);
    return collector;
  }

  /**
   * Writes the file, or prints.
   *
   * @param print for the listing where there is no file
   */
  async write(terminal: Terminal, print: (text: string) => void): Promise<void> {
    const parts = [...this.#objects].map(([path, collector]) => this.#render(terminal, path, collector));
    const text = parts.join(this.format === 'text' ? '\n' : '');
    if (this.out === undefined) {
      print(`\n${text}`);
      return;
    }
    try {
      await writeFile(this.out, text);
    } catch (cause) {
      throw new XdpbedError('file-unwritable', `cannot write ${this.out}: ${messageOf(cause)}`, { cause });
    }
    const isEmpty = this.format === 'lcov' && text === '';
    terminal.err(`coverage: ${this.out}${isEmpty ? ', which is empty: genhtml refuses it' : ''}\n`);
  }

  #render(terminal: Terminal, path: string, collector: CoverageCollector): string {
    const { coverage } = collector;
    if (this.format === 'text') return formatCoverage(coverage);
    for (const { program } of coverage) {
      if ((program.debug?.lines.length ?? 0) > 0) continue;
      terminal.err(
        `${path}: program ${program.name} has no line info and is not in ${this.out}; compile with -g, or see --coverage-format text\n`,
      );
    }
    return formatLcov(sourceCoverage(coverage), (file) => {
      const source = sourcePath(file, dirname(path));
      if (source !== undefined) return source;
      // Counts do not need it, but genhtml shows it.
      terminal.err(
        `${path}: there is no source ${file}: genhtml ends there, unless with --ignore-errors source\n`,
      );
      return file;
    });
  }
}

function defaultFormat(out: string | undefined): CoverageFormat {
  return out !== undefined && /\.(info|lcov)$/.test(out) ? 'lcov' : 'text';
}

/**
 * A source file's absolute path: compilers write its name as they were called with it, which may be from this folder or from
 * the object's. Undefined where there is no such file.
 */
function sourcePath(file: string, objectFolder: string): string | undefined {
  return [resolve(file), resolve(objectFolder, file)].find((path) => existsSync(path));
}
