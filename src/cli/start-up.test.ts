import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = new URL('../../', import.meta.url);
const { version } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as { version: string };
/** Where there is no run. */
const state = join(tmpdir(), `xdpbed-no-runs-${process.pid}`);

/** Writes the URL of each ES module to file descriptor 3, from the thread that Node runs module hooks in. */
const HOOKS = `
  import { writeSync } from 'node:fs';
  export async function load(url, context, next) {
    if (url.startsWith('file:')) writeSync(3, url + '\\n');
    return next(url, context);
  }`;
const asModule = (text: string): string => `data:text/javascript,${encodeURIComponent(text)}`;
const REGISTER = asModule(
  `import { register } from 'node:module'; register(${JSON.stringify(asModule(HOOKS))});`,
);

/** Modules that the built command imports: the package for a library's, the path for one of ours. */
function modulesOf(...args: string[]): Set<string> {
  const command = ['--import', REGISTER, new URL('dist/src/cli/main.js', root).pathname, ...args];
  const { status, output, stderr } = spawnSync(process.execPath, command, {
    cwd: root,
    env: { ...process.env, XDPBED_STATE: state },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  });
  // 3: `doctor` of a machine that has not got what it takes.
  expect(args[0] === 'doctor' && status === 3 ? 0 : status, stderr).toBe(0);
  const urls = output[3]!.trimEnd().split('\n');
  return new Set(
    urls.flatMap((url) => {
      const [, library] = /\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url) ?? [];
      return library === undefined ? modulesIn(new URL(url)) : [library];
    }),
  );
}

/** The modules whose code a file of `dist` holds: its own, or those that a chunk says. */
function modulesIn(file: URL): string[] {
  const said = readFileSync(file, 'utf8').matchAll(/^\/\/ ((?:src|plugins)\/\S+\.js)$/gm);
  const chunk = [...said].map(([, module]) => module!);
  return chunk.length > 0 ? chunk : [file.href.slice(file.href.indexOf('/dist/') + '/dist/'.length)];
}

const libraries = (modules: Set<string>): string[] =>
  [...modules].filter((module) => !module.endsWith('.js') && module !== 'commander').sort();
const plugins = (modules: Set<string>): string[] =>
  [...modules].filter((module) => module.startsWith('plugins/'));

describe('a command imports what it runs (of the built package: npm run build)', () => {
  it.each([['--help'], ['--version'], ['prog', '--help'], ['run', '--help'], ['plugins', 'list']])(
    '%s %s: no plugin, no core beyond its words, and no library but the parser of command lines',
    (...args) => {
      const modules = modulesOf(...args.filter((each) => each !== undefined));
      expect(modules).toContain('src/cli/command-line.js');
      expect(modules).toContain('commander');
      // For «did you mean …?»; one small file.
      expect(libraries(modules)).toEqual(['fastest-levenshtein']);
      expect(plugins(modules)).toEqual([]);
      expect([...modules].filter((module) => /^src\/(bpf|virtio|packet|linux)\//.test(module))).toEqual([]);
    },
  );

  it('validate: the manifests of the plugins that are named, not the fabric and the verifier behind them', () => {
    const modules = modulesOf('validate', 'testbeds/rfc-2019.testbed.yaml');
    expect(modules).toContain('plugins/fabric-model/index.js');
    expect(modules).toContain('plugins/verifier-abstract/index.js');
    expect(plugins(modules)).not.toContain('plugins/fabric-model/model-fabric.js');
    expect(plugins(modules)).not.toContain('plugins/verifier-abstract/simulation.js');
    expect(plugins(modules)).not.toContain('plugins/verifier-kernel/index.js');
    expect(libraries(modules)).not.toContain('koffi');
    expect([...modules].filter((module) => module.startsWith('src/linux/'))).toEqual([]);
  });

  it.each(['down', 'status', 'prune'])('%s: what reads ledgers, not what a fabric is made of', (verb) => {
    const modules = modulesOf(verb, ...(verb === 'down' ? ['--all'] : []));
    expect(modules).toContain('src/linux/ledger.js');
    expect([...modules].filter((module) => /^src\/(core\/offload|virtio|packet)\//.test(module))).toEqual([]);
    expect(modules).not.toContain('src/linux/index.js');
    expect(plugins(modules)).toEqual([]);
    expect(libraries(modules)).toEqual(['fastest-levenshtein']);
  });

  it('can be executed as it was built: npx sets the bit only where it makes its link', () => {
    const command = new URL('dist/src/cli/main.js', root).pathname;
    const { status, stdout, error } = spawnSync(command, ['--version'], { encoding: 'utf8' });
    expect(error).toBeUndefined();
    expect({ status, stdout: stdout.trim() }).toEqual({ status: 0, stdout: version });
  });

  it('doctor: libraries of many modules as one each', () => {
    const modules = modulesOf('doctor');
    expect(modules).toContain('libraries/typebox-value.js');
    expect(libraries(modules)).not.toContain('@sinclair/typebox');
  });

  it('validate: libraries of many modules as one each', () => {
    const modules = modulesOf('validate', 'testbeds/rfc-2019.testbed.yaml');
    for (const library of ['typebox', 'ajv', 'yaml']) expect(modules).toContain(`libraries/${library}.js`);
    expect(libraries(modules)).not.toContain('@sinclair/typebox');
    expect(libraries(modules)).not.toContain('ajv');
    expect(libraries(modules)).not.toContain('yaml');
  });
});

describe('the built package', () => {
  const dist = new URL('dist/', root);

  it('holds the code of each module once, whoever imports it', async () => {
    const files = readdirSync(dist, { recursive: true, encoding: 'utf8' }).filter((file) =>
      /^(src|plugins|chunks)\/.*\.js$/.test(file),
    );
    const declaring = (what: RegExp): string[] =>
      files.filter((file) => what.test(readFileSync(new URL(file, dist), 'utf8')));
    // A class that `instanceof` is asked of, one that tsyringe knows, a map that plugins share.
    for (const what of [/^(export )?class XdpbedError /m, /^(export )?class PluginInstances /m]) {
      expect(declaring(what)).toHaveLength(1);
    }
    const chunks = files.map((file) => modulesIn(new URL(file, dist))).filter(({ length }) => length > 1);
    const modules = chunks.flat();
    expect(chunks.length).toBeGreaterThan(20);
    expect(modules.length).toBeGreaterThan(2 * chunks.length);
    expect(new Set(modules).size).toBe(modules.length);
  });

  it('has every module by its path, and what entry points export is what that exports', async () => {
    const load = (file: string): Promise<Record<string, unknown>> =>
      import(new URL(file, dist).href) as Promise<Record<string, unknown>>;
    const [all, diagnostic, injection, linux, ledger] = await Promise.all(
      ['index', 'core/diagnostic', 'core/contract/injection', 'linux/index', 'linux/ledger'].map((name) =>
        load(`src/${name}.js`),
      ),
    );
    expect(all!.XdpbedError).toBe(diagnostic!.XdpbedError);
    expect(all!.injectable).toBe(injection!.injectable);
    expect(linux!.Ledger).toBe(ledger!.Ledger);
  });
});
