import { execFileSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = new URL('..', import.meta.url).pathname;

/** Of vitest's JSON report. */
export interface TestReport {
  readonly numTotalTests: number;
  readonly numPassedTests: number;
  readonly testResults: readonly {
    /** Path of the file. */
    readonly name: string;
    readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[];
  }[];
}

/**
 * A folder in which xdpbed is installed as from a registry: what `npm pack` would publish, unpacked into
 * `node_modules`, with its dependencies linked from this repository, so that no network is needed. Packages of
 * `third-party/packages` are copied in beside it. They see the tarball's exports and nothing else of ours.
 */
export class InstalledPackage {
  readonly folder = mkdtempSync(join(tmpdir(), 'xdpbed-installed-'));

  /** @param plugins names of folders in `third-party/packages`. */
  constructor(readonly plugins: readonly string[]) {
    const modules = join(this.folder, 'node_modules');
    mkdirSync(join(modules, 'xdpbed'), { recursive: true });
    const packed = this.#run(
      'npm',
      ['pack', '--json', '--ignore-scripts', '--pack-destination', this.folder],
      root,
    );
    const parsed = JSON.parse(packed) as { filename: string }[] | Record<string, { filename: string }>;
    const { filename } = Object.values(parsed)[0]!;
    this.#run('tar', [
      '-xzf',
      join(this.folder, filename),
      '--strip-components=1',
      '-C',
      join(modules, 'xdpbed'),
    ]);
    for (const name of readdirSync(join(root, 'node_modules'))) {
      if (name !== 'xdpbed' && !name.startsWith('.'))
        symlinkSync(join(root, 'node_modules', name), join(modules, name));
    }
    for (const name of plugins) {
      const place = join(this.folder, 'packages', name);
      cpSync(join(root, 'third-party/packages', name), place, { recursive: true });
      symlinkSync(place, join(modules, name));
    }
    writeFileSync(join(this.folder, 'package.json'), '{ "type": "module", "private": true }');
  }

  /**
   * Writes the examples of a page into a package of their own: every block whose fence names a file, as one that begins with `ts index.ts` does.
   * Throws a RangeError for a page without any.
   *
   * @param page path from the root of the repository
   */
  addExamplesOf(page: string): void {
    const place = join(this.folder, 'packages', page.replace(/\.md$/, '').replaceAll('/', '-'));
    const blocks = [...readFileSync(join(root, page), 'utf8').matchAll(/^```ts (\S+)\n([^]*?)^```$/gm)];
    if (blocks.length === 0) throw new RangeError(`${page} has no example with the name of a file`);
    mkdirSync(place);
    for (const [, name, text] of blocks) writeFileSync(join(place, name!), text!);
  }

  /** Type-checks and compiles the plugins and their tests in place, as their authors would. Throws what tsc says. */
  compile(): void {
    const options = {
      target: 'ES2022',
      module: 'NodeNext',
      strict: true,
      experimentalDecorators: true,
      lib: ['ES2023', 'DOM'],
      types: ['node'],
      skipLibCheck: true,
    };
    writeFileSync(
      join(this.folder, 'tsconfig.json'),
      JSON.stringify({ compilerOptions: options, include: ['packages'] }),
    );
    this.#run(join(root, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.json']);
  }

  /** Runs the plugins' own tests, conformance suites among them. Returns the report; throws if one fails. */
  test(): TestReport {
    const report = join(this.folder, 'report.json');
    this.#run(process.execPath, [
      join(root, 'node_modules/vitest/vitest.mjs'),
      'run',
      // What was compiled; the sources beside it are the same tests again.
      '.test.js',
      '--root',
      this.folder,
      '--dir',
      'packages',
      '--maxWorkers=1',
      // For people, when one fails; and for us.
      '--reporter=dot',
      '--reporter=json',
      `--outputFile.json=${report}`,
    ]);
    return JSON.parse(readFileSync(report, 'utf8')) as TestReport;
  }

  /** What the installed command prints. Throws if it fails. */
  xdpbed(...args: string[]): string {
    return this.#run(process.execPath, [
      join(this.folder, 'node_modules/xdpbed/dist/src/cli/main.js'),
      ...args,
    ]);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  #run(command: string, args: readonly string[], cwd = this.folder): string {
    try {
      return execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    } catch (error) {
      const { stdout, stderr } = error as { stdout?: string; stderr?: string };
      throw new Error(`${command} ${args.join(' ')}\n${stdout ?? ''}${stderr ?? ''}`, { cause: error });
    }
  }
}
