import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { XdpbedError } from '../../core/diagnostic.js';

/**
 * What the kernel unpacks into its root file system: the `newc` format of cpio
 * (Documentation/driver-api/early-userspace/buffer-format.rst). Each entry is a header of 110 bytes, all of it text,
 * then the name with its NUL, then the content, both padded to 4 bytes:
 * ```
 * '070701' · 13 fields of 8 hex digits: ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor
 * namesize check
 * ```
 * Everything belongs to root, times are 0: the same content gives the same bytes.
 */
export type CpioEntry =
  | { readonly kind: 'folder' }
  | { readonly kind: 'file'; readonly content: Uint8Array; readonly executable?: boolean }
  /** A file of the host's, copied as it is; symbolic links are followed. */
  | { readonly kind: 'copy'; readonly from: string; readonly executable?: boolean }
  | { readonly kind: 'link'; readonly to: string }
  | { readonly kind: 'device'; readonly major: number; readonly minor: number };

const S_IFDIR = 0o040000;
const S_IFCHR = 0o020000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const PIECE = 4 * 1024 * 1024;
/** `filesize` has 8 hex digits. */
const MAX_FILE = 0xffff_ffff;

/**
 * The archive, piece by piece. Entries by absolute path; the folders that they lie in are added.
 * Throws `file-unreadable` for a file that cannot be copied, or changed meanwhile.
 */
export function* cpioArchive(entries: ReadonlyMap<string, CpioEntry>): Generator<Uint8Array> {
  const all = new Map<string, CpioEntry>();
  for (const [path, entry] of entries) {
    const parts = path.split('/').filter((part) => part !== '');
    if (!path.startsWith('/') || parts.length === 0 || parts.includes('..')) {
      throw new XdpbedError('internal-error', `'${path}' is no path for an initramfs`);
    }
    for (let depth = 1; depth < parts.length; depth++) {
      const folder = parts.slice(0, depth).join('/');
      if (!all.has(folder)) all.set(folder, { kind: 'folder' });
    }
    all.set(parts.join('/'), entry);
  }
  let inode = 0;
  for (const [name, entry] of all) yield* oneEntry(++inode, name, entry);
  yield header(0, 'TRAILER!!!', { mode: 0, links: 1 });
}

function* oneEntry(inode: number, name: string, entry: CpioEntry): Generator<Uint8Array> {
  switch (entry.kind) {
    case 'folder':
      yield header(inode, name, { mode: S_IFDIR | 0o755, links: 2 });
      return;
    case 'device': {
      const { major, minor } = entry;
      yield header(inode, name, { mode: S_IFCHR | 0o600, links: 1, major, minor });
      return;
    }
    case 'link':
      yield* withContent(inode, name, S_IFLNK | 0o777, Buffer.from(entry.to));
      return;
    case 'file':
      yield* withContent(inode, name, S_IFREG | (entry.executable === true ? 0o755 : 0o644), entry.content);
      return;
    case 'copy':
      yield* copied(inode, name, S_IFREG | (entry.executable === true ? 0o755 : 0o644), entry.from);
      return;
  }
}

function* withContent(inode: number, name: string, mode: number, content: Uint8Array): Generator<Uint8Array> {
  yield header(inode, name, { mode, links: 1, size: content.length });
  yield content;
  yield padding(content.length);
}

function* copied(inode: number, name: string, mode: number, from: string): Generator<Uint8Array> {
  let fd: number;
  try {
    fd = openSync(from, 'r');
  } catch (cause) {
    throw new XdpbedError('file-unreadable', `${from} cannot be read for the guest's image`, { cause });
  }
  try {
    const { size } = fstatSync(fd);
    if (size > MAX_FILE)
      throw new XdpbedError('file-unreadable', `${from} is too large for the guest's image`);
    yield header(inode, name, { mode, links: 1, size });
    for (let at = 0; at < size;) {
      const piece = Buffer.allocUnsafe(Math.min(PIECE, size - at));
      const length = readSync(fd, piece, 0, piece.length, at);
      if (length === 0) throw new XdpbedError('file-unreadable', `${from} became shorter while it was read`);
      yield piece.subarray(0, length);
      at += length;
    }
    yield padding(size);
  } finally {
    closeSync(fd);
  }
}

function header(
  inode: number,
  name: string,
  fields: { mode: number; links: number; size?: number; major?: number; minor?: number },
): Uint8Array {
  const { mode, links, size = 0, major = 0, minor = 0 } = fields;
  const path = Buffer.from(`${name}\0`);
  const numbers = [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, path.length, 0];
  const text = `070701${numbers.map((number) => number.toString(16).padStart(8, '0')).join('')}`;
  return Buffer.concat([Buffer.from(text), path, padding(text.length + path.length)]);
}

function padding(length: number): Uint8Array {
  return new Uint8Array(-length & 3);
}
