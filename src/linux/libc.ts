import { createRequire } from 'node:module';
import { XdpbedError, messageOf } from '../core/diagnostic.js';

/** The C library of this process, through koffi. The one place that loads koffi. */
export interface Libc {
  /** bpf(2): what the kernel returned (0, or a new file descriptor), or `-errno`. `attr` may be written to. */
  bpf(command: number, attr: Uint8Array): number;
  /**
   * Where the bytes lie in this process. Valid as long as the caller holds on to `bytes`: the kernel sees only a
   * number, so that nothing else keeps them alive.
   */
  address(bytes: Uint8Array): bigint;
  /** capget(2) of the calling thread; 0 or `-errno`. */
  capget(header: Uint8Array, data: Uint8Array): number;
  /** capset(2): of the calling thread only, which is what the callers of this module want. */
  capset(header: Uint8Array, data: Uint8Array): number;
}

/** Number of bpf(2) in the kernel's system call table, by Node's name of the architecture. */
const BPF_SYSCALL: Readonly<Record<string, number>> = { x64: 321, arm64: 280 };

/** What is used of koffi, which is an optional dependency and therefore not imported by name. */
interface Koffi {
  load(path: null): { func(definition: string): (...args: unknown[]) => number };
  address(value: Uint8Array): bigint;
  errno(): number;
}

let loaded: Libc | XdpbedError | undefined;

/**
 * Loads koffi at the first call. Throws `host-unsupported` where it cannot work: another system than Linux on
 * x86-64 or aarch64, or koffi was not installed.
 */
export function libc(): Libc {
  loaded ??= load();
  if (loaded instanceof XdpbedError) throw loaded;
  return loaded;
}

function load(): Libc | XdpbedError {
  if (process.platform !== 'linux') {
    return new XdpbedError('host-unsupported', `bpf(2) needs linux, this is ${process.platform}`);
  }
  const number = BPF_SYSCALL[process.arch];
  if (number === undefined) {
    return new XdpbedError('host-unsupported', `the number of bpf(2) on ${process.arch} is not known`);
  }
  try {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    const library = koffi.load(null);
    const syscall = library.func('long syscall(long number, long command, void *attr, long size)');
    const capget = library.func('int capget(void *header, void *data)');
    const capset = library.func('int capset(void *header, void *data)');
    // errno means something only after a failure: a call that succeeds leaves an older one there.
    const orErrno = (result: number): number => (result < 0 ? -koffi.errno() : result);
    return {
      bpf: (command, attr) => orErrno(syscall(number, command, attr, attr.length)),
      address: (bytes) => koffi.address(bytes),
      capget: (header, data) => orErrno(capget(header, data)),
      capset: (header, data) => orErrno(capset(header, data)),
    };
  } catch (cause) {
    const absent = (cause as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND';
    return new XdpbedError(
      'host-unsupported',
      absent
        ? 'koffi, through which bpf(2) is called, is not installed'
        : `koffi cannot be used: ${messageOf(cause)}`,
      { hint: 'npm install koffi', cause },
    );
  }
}
