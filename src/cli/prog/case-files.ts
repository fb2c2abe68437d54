import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { XdpbedError } from '../../core/diagnostic.js';

/** Files looked at for one pattern: a pattern is of a project, not of a disk. */
const MAX_FILES = 100_000;

/**
 * Cases files by what the command line says: files, folders (all `*.cases.yaml` below), and patterns that the shell left
 * alone (`*`, `?`, `**`). In the order of the arguments, those of one argument by name, each once. Throws `usage` for an
 * argument that there is nothing for.
 */
export async function findCaseFiles(args: readonly string[]): Promise<string[]> {
  const found = new Set<string>();
  for (const arg of args) {
    const files = await filesOf(arg);
    if (files.length === 0) throw new XdpbedError('usage', `${arg}: there are no such cases files`);
    for (const file of files) found.add(file);
  }
  return [...found];
}

async function filesOf(arg: string): Promise<string[]> {
  if (/[*?]/.test(arg)) {
    const fixed = arg.slice(0, arg.search(/[*?]/));
    const folder = fixed.includes('/') ? fixed.slice(0, fixed.lastIndexOf('/') + 1) : '';
    const pattern = toPattern(arg);
    return (await filesBelow(folder)).filter((file) => pattern.test(file));
  }
  const isFolder = await stat(arg).then(
    (stats) => stats.isDirectory(),
    // That it cannot be read is told when it is.
    () => false,
  );
  return isFolder
    ? (await filesBelow(`${arg.replace(/\/+$/, '')}/`)).filter((file) => /\.cases\.ya?ml$/.test(file))
    : [arg];
}

/** All files below a folder, by name; '' is the working directory. */
export async function filesBelow(folder: string): Promise<string[]> {
  const files: string[] = [];
  const folders = [folder];
  for (const current of folders) {
    const entries = await readdir(current === '' ? '.' : current, { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      if (entry.isDirectory() && entry.name !== 'node_modules' && !entry.name.startsWith('.'))
        folders.push(`${current}${entry.name}/`);
      else if (entry.isFile()) files.push(join(current, entry.name));
    }
    if (files.length > MAX_FILES)
      throw new XdpbedError('usage', `more than ${MAX_FILES} files below ${folder || '.'}`);
  }
  return files.sort();
}

/** `**` goes through folders, `*` and `?` do not. */
function toPattern(glob: string): RegExp {
  const normal = join(glob);
  const source = normal.replace(/\*\*\/|\*\*|\*|\?|[^\w/]/g, (part) => {
    if (part === '**/') return '(?:.*/)?';
    if (part === '**') return '.*';
    if (part === '*') return '[^/]*';
    return part === '?' ? '[^/]' : `\\${part}`;
  });
  return new RegExp(`^${source}$`);
}
