import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { EBADF, EINVAL } from '../bpf/errno.js';
import { libc } from './libc.js';
import { probeNamespaces, testingNamespace } from './testing-namespace.js';

const fds: number[] = [];
const keep = (fd: number): number => {
  expect(fd).toBeGreaterThanOrEqual(0);
  fds.push(fd);
  return fd;
};
afterEach(() => {
  for (const fd of fds.splice(0)) closeSync(fd);
});

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function withFolder(work: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'xdpbed-libc-'));
  try {
    work(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe.skipIf(process.platform !== 'linux')('system calls (skipped but on linux)', () => {
  it('reads and writes', () => {
    withFolder((folder) => {
      const fd = keep(openSync(join(folder, 'file'), 'w+'));
      expect(libc().write(fd, bytes('hello'))).toBe(5);
      const again = keep(openSync(join(folder, 'file'), 'r'));
      const into = new Uint8Array(9);
      expect(libc().read(again, into)).toBe(5);
      expect(into.subarray(0, 5)).toEqual(bytes('hello'));
      expect(libc().read(again, into)).toBe(0);
      expect(libc().write(again, into)).toBe(-EBADF);
    });
  });

  it('maps a file into memory', () => {
    withFolder((folder) => {
      const path = join(folder, 'file');
      writeFileSync(path, new Uint8Array(8192).fill(7));
      const fd = keep(openSync(path, 'r+'));
      const mapped = libc().mmap(fd, 4096, 4096, PROT_READ | PROT_WRITE);
      if (typeof mapped === 'number') throw new Error(`mmap: ${mapped}`);
      expect(mapped.bytes.every((byte) => byte === 7)).toBe(true);
      mapped.bytes[0] = 9;
      expect(libc().munmap(mapped)).toBe(0);
      expect(readFileSync(path)[4096]).toBe(9);
      expect(libc().mmap(fd, 1, 4096, PROT_READ)).toBe(-EINVAL);
      expect(libc().mmap(-1, 0, 4096, PROT_READ)).toBe(-EBADF);
    });
  });

  it('puts a thread on CPUs', () => {
    const allowed = (): string =>
      /^Cpus_allowed_list:\t(.*)$/m.exec(readFileSync('/proc/thread-self/status', 'utf8'))![1]!;
    const before = allowed();
    const cpus = before.split(',').flatMap((range) => {
      const [first = 0, last = first] = range.split('-').map(Number);
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    });
    try {
      expect(libc().schedSetaffinity(0, [cpus.at(-1)!])).toBe(0);
      expect(allowed()).toBe(String(cpus.at(-1)));
    } finally {
      expect(libc().schedSetaffinity(0, cpus)).toBe(0);
    }
    expect(allowed()).toBe(before);
    expect(libc().schedGetaffinity(0)).toEqual(cpus);
    expect(libc().schedGetaffinity(0x7fff_ffff)).toBe(-ESRCH);
    expect(libc().schedSetaffinity(0, [])).toBe(-EINVAL);
  });

  it('asks prctl', () => {
    expect(libc().prctl(PR_SET_PDEATHSIG, 0)).toBe(0);
    expect(libc().prctl(PR_GET_DUMPABLE)).toBe(1);
    expect(libc().prctl(99_999)).toBe(-EINVAL);
  });

  it('duplicates file descriptors', () => {
    const fd = keep(openSync('/dev/null', 'r'));
    const other = keep(libc().duplicate(fd));
    expect(other).not.toBe(fd);
    expect(readFileSync(`/proc/self/fdinfo/${other}`, 'utf8')).toMatch(/^flags:\t02/m);
    expect(libc().duplicate(-1)).toBe(-EBADF);
  });

  it('answers what is no namespace with -errno', () => {
    const fd = keep(openSync('/dev/null', 'r'));
    expect(libc().setns(fd, 0)).toBe(-EINVAL);
    expect(libc().setns(-1, 0)).toBe(-EBADF);
  });
});

const ESRCH = 3;
const PROT_READ = 1;
const PROT_WRITE = 2;
const PR_SET_PDEATHSIG = 1;
const PR_GET_DUMPABLE = 3;

const probe = probeNamespaces();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0x800;
const SIOCGIFINDEX = 0x8933;
const ETH_P_ALL = 3;
const ENXIO = 6;

/** `struct sockaddr_ll`: family u16, protocol u16 in network order, ifindex i32, 12 bytes that do not matter here. */
function packetAddress(ifindex: number): Uint8Array {
  const address = new Uint8Array(20);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_PACKET, true);
  view.setUint16(2, ETH_P_ALL);
  view.setInt32(4, ifindex, true);
  return address;
}

describe.skipIf(skipped !== '')(`packet sockets in a namespace${skipped}`, () => {
  it('send and receive frames', () => {
    const namespace = testingNamespace();
    try {
      namespace.ip('link', 'add', 'v0', 'type', 'veth', 'peer', 'name', 'v1');
      for (const name of ['v0', 'v1']) namespace.ip('link', 'set', name, 'up', 'addrgenmode', 'none');
      const open = (name: string): { fd: number; ifindex: number } => {
        const protocol = ((ETH_P_ALL & 0xff) << 8) | (ETH_P_ALL >> 8);
        const fd = keep(libc().socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, protocol));
        // struct ifreq: name char[16], ifindex i32
        const request = new Uint8Array(40);
        request.set(bytes(name));
        expect(libc().ioctl(fd, SIOCGIFINDEX, request)).toBe(0);
        const ifindex = new DataView(request.buffer).getInt32(16, true);
        expect(libc().bind(fd, packetAddress(ifindex))).toBe(0);
        return { fd, ifindex };
      };
      const [v0, v1] = namespace.run(() => [open('v0'), open('v1')]);
      const frame = new Uint8Array(60).fill(0xff);
      frame[59] = 42;
      expect(libc().sendto(v0.fd, frame, 0)).toBe(60);
      const into = new Uint8Array(100);
      expect(libc().read(v1.fd, into)).toBe(60);
      expect(into.subarray(0, 60)).toEqual(frame);
      // The address says where from, whatever the socket is bound to.
      expect(libc().sendto(v0.fd, frame, 0, packetAddress(v1.ifindex))).toBe(60);
      expect(libc().read(v0.fd, into)).toBe(60);
      expect(libc().sendto(v0.fd, frame, 0, packetAddress(4_000_000))).toBe(-ENXIO);
    } finally {
      namespace.close();
    }
  });
});
