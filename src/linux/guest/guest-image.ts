import { createHash } from 'node:crypto';
import { createWriteStream, readdirSync, readFileSync, realpathSync, statSync, utimesSync } from 'node:fs';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, sep } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { XdpbedError } from '../../core/diagnostic.js';
import { cached, cacheFolder } from './cache-folder.js';
import { cpioArchive, type CpioEntry } from './cpio-archive.js';
import { guestKernel, type GuestKernelOptions } from './guest-kernel.js';

/** Where the agent and what it needs lie in the guest. */
const HOME = '/xdpbed';
/** Where the guest's agent looks for the modules that it has to load, in order of their names. */
export const GUEST_MODULES = `${HOME}/modules`;
/** Milliseconds after which an initramfs or a kernel that was not used is taken for one of another version. */
const UNUSED_FOR = 24 * 3600 * 1000;

/** Names how archives are written, as the rest of their name does what is in them. Raise it when that changes. */
const ARCHIVE = 1;

/** What a guest is booted from. */
export interface GuestImage {
  /** Path of the kernel. */
  readonly kernel: string;
  /** Of its package, for reports. */
  readonly kernelPackage: string;
  /** Path of the initramfs. */
  readonly initramfs: string;
  /** Words for the kernel's command line: what it starts, and how. */
  readonly commandLine: readonly string[];
  /** What follows `--` on it: the first process's words. */
  readonly initWords: readonly string[];
}

export interface GuestImageOptions extends GuestKernelOptions {
  /** The agent, in one file; default: that of this package. */
  readonly agent?: string | undefined;
}

/**
 * Kernel and initramfs of guests, out of the cache or made now: 6 s for a kernel, 0.5 s for an initramfs. The initramfs holds
 * the Node that this runs on with its libraries, koffi, the agent, and kernel modules; Node is the first process, there
 * is no shell and nothing else. Guests get copies of these files and see nothing of the host's.
 *
 * Throws `host-unsupported` where one of the parts is not to be had.
 */
export async function guestImage(options: GuestImageOptions = {}): Promise<GuestImage> {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new XdpbedError(
      'host-unsupported',
      `guests need linux on x86-64, this is ${process.platform} ${process.arch}`,
    );
  }
  const kernel = await guestKernel(options);
  const { node, libraries } = nodeFiles();
  const agent = options.agent ?? builtAgent();

  const entries = new Map<string, CpioEntry>();
  for (const folder of ['/dev', '/proc', '/sys', '/tmp']) entries.set(folder, { kind: 'folder' });
  // What the kernel opens for the first process before that can mount anything.
  entries.set('/dev/console', { kind: 'device', major: 5, minor: 1 });
  entries.set('/dev/null', { kind: 'device', major: 1, minor: 3 });
  for (const path of [node, ...libraries]) entries.set(path, { kind: 'copy', from: path, executable: true });
  entries.set(`${HOME}/agent.cjs`, { kind: 'copy', from: agent });
  for (const [to, from] of koffiFiles()) entries.set(`${HOME}/node_modules/${to}`, { kind: 'copy', from });
  kernel.modules.forEach((from, index) => {
    entries.set(`${GUEST_MODULES}/${String(index).padStart(2, '0')}.ko`, { kind: 'copy', from });
  });

  const folder = join(options.cache ?? cacheFolder(), 'guest');
  const name = `initramfs-${identity(entries)}.cpio`;
  await mkdir(folder, { recursive: true });
  const initramfs = await cached(join(folder, name), async (temporary) => {
    options.onProgress?.('making an initramfs for guests');
    await pipeline(Readable.from(cpioArchive(entries)), createWriteStream(temporary, { mode: 0o644 }));
    await removeUnused(folder);
  });
  // Who cleans up goes by when they were last used, and who looks for a kernel takes the last one.
  const now = new Date();
  for (const path of [initramfs, dirname(kernel.kernel)]) utimesSync(path, now, now);

  const libraryFolders = [...new Set(libraries.map((path) => dirname(path)))];
  return {
    kernel: kernel.kernel,
    kernelPackage: kernel.package,
    initramfs,
    // What is no parameter of the kernel's gets into the environment of its first process.
    commandLine: [`rdinit=${node}`, `LD_LIBRARY_PATH=${libraryFolders.join(':')}`],
    initWords: [`${HOME}/agent.cjs`],
  };
}

/** The agent that `npm run build` bundles. */
function builtAgent(): string {
  const relative = import.meta.url.endsWith('.ts')
    ? '../../../dist/guest-agent.cjs'
    : '../../../guest-agent.cjs';
  const path = fileURLToPath(new URL(relative, import.meta.url));
  if (statSync(path, { throwIfNoEntry: false }) !== undefined) return path;
  throw new XdpbedError('host-unsupported', `the guest agent ${path} is not there`, {
    hint: 'npm run build',
  });
}

/** The Node that this runs on, and the shared objects that its process has, by the paths where they are looked for. */
function nodeFiles(): { node: string; libraries: string[] } {
  const { report } = process as { report?: { excludeNetwork?: boolean; getReport(): object } };
  if (report === undefined)
    throw new XdpbedError('host-unsupported', 'this Node cannot say which libraries it has');
  const before = report.excludeNetwork;
  // Or it would look the names of all connections up.
  report.excludeNetwork = true;
  const { sharedObjects } = report.getReport() as { sharedObjects: string[] };
  if (before !== undefined) report.excludeNetwork = before;
  const libraries = sharedObjects.filter((path) => path.startsWith('/') && /\.so(\.[\d.]+)?$/.test(path));
  const node = process.execPath;
  for (const path of [node, ...libraries]) {
    // They stand on the kernel's command line.
    if (!/^[\w/.+@-]+$/.test(path))
      throw new XdpbedError('host-unsupported', `guests cannot have a path as ${path}`);
  }
  return { node, libraries };
}

/** Files of koffi and of its package for this machine, by their path in `node_modules`. */
function koffiFiles(): [string, string][] {
  const require = createRequire(import.meta.url);
  const files: [string, string][] = [];
  for (const name of ['koffi', `@koromix/koffi-linux-${process.arch}`]) {
    const folder = packageFolder(name, require.resolve.paths(name) ?? []);
    for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      if (!/\.(c?js|json|node)$/.test(path) || path.split(sep).includes('doc')) continue;
      if (statSync(join(folder, path)).isFile()) files.push([join(name, path), join(folder, path)]);
    }
  }
  return files;
}

function packageFolder(name: string, paths: readonly string[]): string {
  for (const path of paths) {
    const folder = join(path, name);
    if (statSync(join(folder, 'package.json'), { throwIfNoEntry: false }) !== undefined)
      return realpathSync(folder);
  }
  throw new XdpbedError('host-unsupported', `${name}, which guests need, is not installed`, {
    hint: 'npm install koffi',
  });
}

/**
 * What the archive would be made of, without making it: the contents of small files, and of large ones what a change
 * shows in.
 */
function identity(entries: ReadonlyMap<string, CpioEntry>): string {
  const hash = createHash('sha256');
  hash.update(`archive ${ARCHIVE}`);
  for (const [path, entry] of entries) {
    hash.update(`\0${path}\0${JSON.stringify(entry)}\0`);
    if (entry.kind !== 'copy') continue;
    const { size, mtimeMs } = statSync(entry.from);
    if (size < 4 * 1024 * 1024) hash.update(readFileSync(entry.from));
    else hash.update(`${realpathSync(entry.from)} ${size} ${mtimeMs}`);
  }
  return hash.digest('hex').slice(0, 16);
}

/** Each is as large as Node: those of versions that nobody uses any more go when a new one comes. */
async function removeUnused(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!/^(initramfs|kernel)-/.test(name)) continue;
    const path = join(folder, name);
    const used = await stat(path).catch(() => undefined);
    if (used !== undefined && Date.now() - used.mtimeMs > UNUSED_FOR) {
      await rm(path, { recursive: true, force: true });
    }
  }
}
