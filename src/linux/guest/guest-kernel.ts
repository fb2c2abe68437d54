import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { messageOf, XdpbedError } from '../../core/diagnostic.js';
import { decompress, uncompressedKernel } from './boot-image.js';
import { cached, cacheFolder, exists } from './cache-folder.js';
import { runTool } from './run-tool.js';

/** Names a kernel package to use instead of the distribution's own. */
export const KERNEL_PACKAGE_VARIABLE = 'XDPBED_GUEST_KERNEL_PACKAGE';
/** The package that depends on the kernel of the distribution. */
const KERNEL_META_PACKAGE = 'linux-image-amd64';
/** What a guest needs besides what is built in: PCI devices of virtio, its network device, and its serial ports. */
const MODULES = ['virtio_pci', 'virtio_net', 'virtio_console'];
const MINUTES = 60_000;
/**
 * Names how kernels are taken apart: what was made in another way is not taken for what would be made now. Raise the
 * number when that changes.
 */
const BUILDER = createHash('sha256')
  .update(JSON.stringify([1, MODULES]))
  .digest('hex')
  .slice(0, 8);

/** A kernel as guests boot it, out of a package that is not installed. */
export interface GuestKernel {
  /** `linux-image-6.1.0-9-amd64 6.1.27-1` */
  readonly package: string;
  /** Path of the kernel itself: `vmlinux`, or `vmlinuz` where that cannot be unpacked. */
  readonly kernel: string;
  /** Paths of modules in the order in which they have to be loaded. */
  readonly modules: readonly string[];
}

/** The file `kernel.json` beside the kernel; written by this module alone. */
interface Record {
  readonly package: string;
  readonly kernel: string;
  readonly modules: readonly string[];
}

export interface GuestKernelOptions {
  /** Path of a `.deb`; default: $XDPBED_GUEST_KERNEL_PACKAGE, then what is in the cache, then what apt-get downloads. */
  readonly packageFile?: string | undefined;
  /** Default: {@link cacheFolder}. */
  readonly cache?: string | undefined;
  /** False: what is in the cache, or nothing. Default true. */
  readonly download?: boolean | undefined;
  readonly onProgress?: ((what: string) => void) | undefined;
}

/**
 * The kernel for guests, made of a package the first time. Throws `host-unsupported` when there is no package, or it
 * cannot be taken apart; `file-unreadable` when the one that was named is not there.
 */
export async function guestKernel(options: GuestKernelOptions = {}): Promise<GuestKernel> {
  const folder = join(options.cache ?? cacheFolder(), 'guest');
  const file = options.packageFile ?? process.env[KERNEL_PACKAGE_VARIABLE];
  if (file !== undefined && file !== '') return fromPackage(resolve(file), folder, options);
  const newest = await newestKernel(folder);
  if (newest !== undefined) return readKernel(newest);
  if (options.download === false) {
    throw new XdpbedError('host-unsupported', 'there is no kernel for guests in the cache', {
      hint: `set ${KERNEL_PACKAGE_VARIABLE} to the .deb of a linux-image package`,
    });
  }
  options.onProgress?.(`downloading the kernel that ${KERNEL_META_PACKAGE} depends on, for guests`);
  const download = await mkdtemp(join(tmpdir(), 'xdpbed-kernel-'));
  try {
    return await fromPackage(await downloadPackage(download), folder, options);
  } finally {
    await rm(download, { recursive: true, force: true });
  }
}

async function fromPackage(file: string, folder: string, options: GuestKernelOptions): Promise<GuestKernel> {
  if (!(await exists(file))) {
    throw new XdpbedError('file-unreadable', `the kernel package ${file} is not there`, {
      hint: `${KERNEL_PACKAGE_VARIABLE} names the .deb of a linux-image package`,
    });
  }
  const fields = await runTool('dpkg-deb', ['-f', file, 'Package', 'Version', 'Architecture']);
  const field = (name: string): string =>
    new RegExp(`^${name}: (.+)$`, 'm').exec(fields.toString())?.[1] ?? '';
  if (field('Architecture') !== 'amd64' || !field('Package').startsWith('linux-image-')) {
    throw new XdpbedError('host-unsupported', `${file} is no kernel package for amd64`);
  }
  const name = `${field('Package')}_${field('Version')}`.replaceAll(/[^A-Za-z0-9._+~-]/g, '-');
  const path = await cached(join(folder, `kernel-${name}-${BUILDER}`), async (temporary) => {
    options.onProgress?.(`taking ${basename(file)} apart for guests`);
    await takeApart(file, `${field('Package')} ${field('Version')}`, temporary);
  });
  return readKernel(path);
}

async function readKernel(folder: string): Promise<GuestKernel> {
  const record = JSON.parse(await readFile(join(folder, 'kernel.json'), 'utf8')) as Record;
  return {
    package: record.package,
    kernel: join(folder, record.kernel),
    modules: record.modules.map((module) => join(folder, module)),
  };
}

/** The one that was made last, of what this builder made. */
async function newestKernel(folder: string): Promise<string | undefined> {
  const names = await readdir(folder).catch(() => []);
  const found = await Promise.all(
    names
      .filter((name) => name.startsWith('kernel-') && name.endsWith(`-${BUILDER}`))
      .map(async (name) => ({ path: join(folder, name), made: (await stat(join(folder, name))).mtimeMs })),
  );
  return found.sort((one, other) => other.made - one.made)[0]?.path;
}

async function downloadPackage(folder: string): Promise<string> {
  const hint = `install apt, or set ${KERNEL_PACKAGE_VARIABLE} to the .deb of a linux-image package`;
  try {
    const depends = await runTool('apt-cache', ['depends', '--important', KERNEL_META_PACKAGE]);
    const name = /^\s*Depends: (linux-image-\S+)$/m.exec(depends.toString())?.[1];
    if (name === undefined) throw new Error(`apt knows of nothing that ${KERNEL_META_PACKAGE} depends on`);
    await runTool('apt-get', ['download', '-qq', name], { folder, timeout: 10 * MINUTES });
    const file = (await readdir(folder)).find((each) => each.endsWith('.deb'));
    if (file === undefined) throw new Error(`apt-get download ${name} brought no package`);
    return join(folder, file);
  } catch (cause) {
    throw new XdpbedError('host-unsupported', `there is no kernel for guests: ${messageOf(cause)}`, {
      hint,
      cause,
    });
  }
}

/** Kernel and modules of a package, into a folder that is not there yet. */
async function takeApart(file: string, name: string, folder: string): Promise<void> {
  const whole = await mkdtemp(join(tmpdir(), 'xdpbed-kernel-'));
  try {
    await runTool('dpkg-deb', ['-x', file, whole], { timeout: 5 * MINUTES });
    const files = await readdir(whole, { recursive: true });
    const image = files.find((path) => /^boot\/vmlinuz-/.test(path));
    if (image === undefined) throw new XdpbedError('host-unsupported', `${name} has no kernel in boot/`);
    await mkdir(join(folder, 'modules'), { recursive: true });
    const bytes = await readFile(join(whole, image));
    const uncompressed = await uncompressedKernel(bytes);
    const kernel = uncompressed === undefined ? 'vmlinuz' : 'vmlinux';
    await writeFile(join(folder, kernel), uncompressed ?? bytes);
    const modules: string[] = [];
    for (const module of await modulesInOrder(whole, files, name)) {
      const path = join('modules', `${module.name}.ko`);
      await writeFile(join(folder, path), module.bytes);
      modules.push(path);
    }
    const record: Record = { package: name, kernel, modules };
    await writeFile(join(folder, 'kernel.json'), `${JSON.stringify(record, null, 2)}\n`);
  } finally {
    await rm(whole, { recursive: true, force: true });
  }
}

interface Module {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** The modules that are wanted, each after those that it depends on. What is built in needs none. */
async function modulesInOrder(whole: string, files: readonly string[], name: string): Promise<Module[]> {
  const paths = new Map<string, string>();
  const builtIn = new Set<string>();
  for (const path of files) {
    const match = /\/([^/]+)\.ko(\.\w+)?$/.exec(path);
    if (match !== null) paths.set(moduleName(match[1]!), join(whole, path));
    if (!path.endsWith('/modules.builtin')) continue;
    for (const line of (await readFile(join(whole, path), 'utf8')).split('\n')) {
      builtIn.add(moduleName(basename(line.trim(), '.ko')));
    }
  }
  const loaded = new Map<string, Module>();
  const add = async (wanted: string): Promise<void> => {
    if (loaded.has(wanted) || builtIn.has(wanted)) return;
    const path = paths.get(wanted);
    if (path === undefined) throw new XdpbedError('host-unsupported', `${name} has no module ${wanted}`);
    const bytes = await decompress(await readFile(path));
    for (const needed of moduleDependencies(bytes)) await add(needed);
    loaded.set(wanted, { name: wanted, bytes });
  };
  for (const wanted of MODULES) await add(wanted);
  return [...loaded.values()];
}

/** In file names dashes and underscores are the same. */
function moduleName(name: string): string {
  return name.replaceAll('-', '_');
}

/** `depends=` of a module's section `.modinfo`, which is made of strings that end in NUL (kernel `modpost`). */
export function moduleDependencies(module: Uint8Array): string[] {
  const bytes = Buffer.from(module.buffer, module.byteOffset, module.byteLength);
  for (let at = bytes.indexOf('\0depends='); at >= 0; at = bytes.indexOf('\0depends=', at + 1)) {
    const end = bytes.indexOf(0, at + 1);
    const names = bytes.toString('latin1', at + '\0depends='.length, end);
    if (/^[\w,-]*$/.test(names)) return names === '' ? [] : names.split(',').map(moduleName);
  }
  return [];
}
