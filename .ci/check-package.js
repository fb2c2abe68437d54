// Packs what would be published and looks at it as whoever installs it: the list of files, the entry points
// (publint) and their types (are-the-types-wrong). Run by `npm run check:package` after a build.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';

/** What a tarball has no use for, with the reason that is printed. */
const UNWANTED = [
  [/\.tsbuildinfo$/, 'a record of the compiler'],
  [/\.map$/, 'a source map without its source'],
  [/\.test\.|(^|\/)(fixtures|golden|__snapshots__)\//, 'a test or its data'],
  [/^(src|plugins|bench|schemas)\/.*\.ts$/, 'a source that dist/ holds compiled'],
  [/^dist\/(bench|schemas)\//, 'a tool of the repository'],
  [/^docs\/api\//, 'a generated page'],
  [/(^|\/)(\.env|\.npmrc|id_rsa|.*\.pem)$/, 'a secret, maybe'],
];
/** Bytes of the tarball; a tenth more than it has is no surprise, twice as much is. */
const MAX_TARBALL = 2.3 * 1024 * 1024;

const root = new URL('..', import.meta.url).pathname;
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const folder = mkdtempSync(join(tmpdir(), 'xdpbed-pack-'));
const problems = [];
try {
  const output = execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const parsed = JSON.parse(output);
  const [{ filename, files, size }] = Array.isArray(parsed) ? parsed : Object.values(parsed);
  const paths = new Set(files.map((file) => file.path));
  const tarball = join(folder, filename);

  for (const path of paths) {
    const unwanted = UNWANTED.find(([pattern]) => pattern.test(path));
    if (unwanted !== undefined) problems.push(`${path}: ${unwanted[1]}`);
  }
  if (size > MAX_TARBALL) problems.push(`${size} bytes exceed ${MAX_TARBALL}`);
  const targets = [
    ...Object.values(manifest.bin),
    ...Object.values(manifest.exports).flatMap((target) =>
      typeof target === 'string' ? [target] : Object.values(target),
    ),
  ].filter((target) => !target.includes('*'));
  for (const target of targets) {
    if (!paths.has(target.replace('./', '')))
      problems.push(`${target}: named in package.json, not in the tarball`);
  }
  for (const needed of [
    'README.md',
    'LICENSE',
    'CHANGELOG.md',
    'SECURITY.md',
    'schemas/testbed.schema.json',
  ]) {
    if (!paths.has(needed)) problems.push(`${needed}: not in the tarball`);
  }

  const { messages } = await publint({
    strict: true,
    pack: { tarball: Uint8Array.from(readFileSync(tarball)).buffer },
  });
  for (const message of messages) {
    const text = formatMessage(message, manifest);
    // An example is a package of its own, to be copied out of this one.
    if (!text.includes('docs/examples/')) problems.push(`publint: ${text}`);
  }

  // Only ES modules are shipped, so what CommonJS would find is no question.
  const attw = spawnSync('attw', [tarball, '--profile', 'esm-only', '--no-emoji', '--format', 'ascii'], {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, PATH: `${join(root, 'node_modules/.bin')}:${process.env.PATH}` },
  });
  if (attw.status !== 0)
    problems.push(`are-the-types-wrong:\n${attw.error ?? attw.stdout}${attw.stderr ?? ''}`);

  console.log(`${filename}: ${paths.size} files, ${size} bytes`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
for (const problem of problems) console.error(problem);
process.exitCode = problems.length === 0 ? 0 : 1;
