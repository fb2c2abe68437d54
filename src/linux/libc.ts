import { createRequire } from 'node:module';
import { XdpbedError, messageOf } from '../core/diagnostic.js';

/**
 * The C library of this process, through koffi. The one place that loads koffi, but for the threads of BpfThread.
 */
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
  /** setns(2) of the calling thread only: 0 or `-errno`. `type` is CLONE_NEW… or 0 for whatever `fd` is. */
  setns(fd: number, type: number): number;
  /** unshare(2) of the calling thread only: 0 or `-errno`. `type` is CLONE_NEW…. */
  unshare(type: number): number;
  /** mount(2) without data: 0 or `-errno`. `flags` are MS_…. */
  mount(source: string, target: string, type: string, flags: number): number;
  /** umount2(2): 0 or `-errno`. `flags` are MNT_…. */
  umount(target: string, flags: number): number;
  /** flock(2): 0 or `-errno`. Blocks as long as another process has it, unless LOCK_NB is among the `flags`. */
  flock(fd: number, flags: number): number;
  /** dup2(2): `as` becomes a second descriptor of the file, and is not closed by exec. `as` or `-errno`. */
  dup2(fd: number, as: number): number;
  /** ioctl(2) with a struct that may be written to: what the kernel returned, or `-errno`. */
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  /** socket(2): a file descriptor, close-on-exec, or `-errno`. */
  socket(domain: number, type: number, protocol: number): number;
  /** getsockopt(2) of an option that fills `value`: 0 or `-errno`. */
  getsockopt(fd: number, level: number, option: number, value: Uint8Array): number;
  /** bind(2) to a `struct sockaddr_…`: 0 or `-errno`. */
  bind(fd: number, address: Uint8Array): number;
  /** sendto(2): bytes sent, or `-errno`. Without an address: as send(2). */
  sendto(fd: number, bytes: Uint8Array, flags: number, address?: Uint8Array): number;
  /** read(2): bytes read, 0 at the end, or `-errno`. Blocks unless the descriptor was opened otherwise. */
  read(fd: number, into: Uint8Array): number;
  /** write(2): bytes written, or `-errno`. */
  write(fd: number, bytes: Uint8Array): number;
  /** fcntl(2) with a number for its argument: what the kernel returned, or `-errno`. */
  fcntl(fd: number, command: number, argument: number): number;
  /** sched_setaffinity(2) of a thread (0: the calling one) to these CPUs: 0 or `-errno`. */
  schedSetaffinity(thread: number, cpus: readonly number[]): number;
  /** sched_getaffinity(2): the CPUs that a thread (0: the calling one) may run on, ascending, or `-errno`. */
  schedGetaffinity(thread: number): number[] | number;
  /** A second file descriptor of the same file, close-on-exec, or `-errno` (fcntl(2), F_DUPFD_CLOEXEC). */
  duplicate(fd: number): number;
  /** prctl(2): what the kernel returned, or `-errno`. Arguments are numbers: none that is an address. */
  prctl(option: number, ...values: readonly number[]): number;
  /** tgkill(2) of a thread of this process: 0 or `-errno`. */
  tgkill(thread: number, signal: number): number;
  /** pidfd_open(2): a file descriptor, close-on-exec, that stands for the process whatever becomes of its number, or `-errno`. */
  pidfdOpen(process: number): number;
  /** pidfd_send_signal(2): 0 or `-errno`, -ESRCH once the process is gone. */
  pidfdSendSignal(fd: number, signal: number): number;
  /** perf_event_open(2): a file descriptor, or `-errno`. */
  perfEventOpen(attr: Uint8Array, process: number, cpu: number, group: number, flags: number): number;
  /** finit_module(2) of an open `.ko`, without parameters: 0 or `-errno`. */
  finitModule(fd: number): number;
  /** reboot(2), LINUX_REBOOT_CMD_POWER_OFF: of the machine that this runs on. Does not return, or `-errno`. */
  powerOff(): number;
  /** mmap(2), MAP_SHARED from offset `at`: the mapped memory itself, or `-errno`. {@link Libc.munmap} ends it. */
  mmap(fd: number, at: number, length: number, protection: number): MappedMemory | number;
  /** munmap(2): 0 or `-errno`. Whoever reads the memory afterwards ends the process. */
  munmap(memory: MappedMemory): number;
}

/** What {@link Libc.mmap} gives. `bytes` must not be used, nor be handed to anybody, once it is unmapped. */
export interface MappedMemory {
  readonly bytes: Uint8Array;
  readonly address: bigint;
}

/** Numbers in the kernel's system call table, by Node's name of the architecture. */
const SYSCALLS: Readonly<
  Record<string, Readonly<Record<'bpf' | 'tgkill' | 'perf_event_open' | 'finit_module', number>>>
> = {
  x64: { bpf: 321, tgkill: 234, perf_event_open: 298, finit_module: 313 },
  arm64: { bpf: 280, tgkill: 131, perf_event_open: 241, finit_module: 273 },
};

/** These have the same number on all architectures, as all calls since Linux 5.1. */
const PIDFD_SEND_SIGNAL = 424;
const PIDFD_OPEN = 434;

/** Number of bpf(2) here; undefined on an architecture that is not known. */
export const BPF_SYSCALL = SYSCALLS[process.arch]?.bpf;

const SOCK_CLOEXEC = 0x80000;
const F_DUPFD_CLOEXEC = 1030;
const MAP_SHARED = 1;
const LINUX_REBOOT_CMD_POWER_OFF = 0x4321_fedc;
/** Bytes of a `cpu_set_t`: 1024 CPUs. */
const CPU_SET_SIZE = 128;

/** What is used of koffi, which is an optional dependency and therefore not imported by name. */
interface Koffi {
  load(path: null): { func(definition: string): (...args: unknown[]) => number };
  address(value: Uint8Array): bigint;
  view(address: bigint, length: number): ArrayBuffer;
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
  const numbers = SYSCALLS[process.arch];
  if (numbers === undefined) {
    return new XdpbedError('host-unsupported', `the number of bpf(2) on ${process.arch} is not known`);
  }
  try {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    const library = koffi.load(null);
    // What is variadic in C (syscall, ioctl, prctl) takes its arguments in the same registers on both architectures.
    const syscall = library.func('long syscall(long number, long command, void *attr, long size)');
    const tgkill = library.func('long syscall(long number, long process, long thread, long signal)');
    const pidfdOpen = library.func('long syscall(long number, long process, long flags)');
    const pidfdSendSignal = library.func(
      'long syscall(long number, long fd, long signal, void *info, long flags)',
    );
    const perfEventOpen = library.func(
      'long syscall(long number, void *attr, long process, long cpu, long group, long flags)',
    );
    const capget = library.func('int capget(void *header, void *data)');
    const capset = library.func('int capset(void *header, void *data)');
    const setns = library.func('int setns(int fd, int type)');
    const unshare = library.func('int unshare(int type)');
    const mount = library.func(
      'int mount(const char *source, const char *target, const char *type, unsigned long flags, void *data)',
    );
    const umount2 = library.func('int umount2(const char *target, int flags)');
    const flock = library.func('int flock(int fd, int flags)');
    const dup2 = library.func('int dup2(int fd, int as)');
    const ioctl = library.func('int ioctl(int fd, unsigned long request, void *argument)');
    const fcntl = library.func('int fcntl(int fd, int command, long argument)');
    const socket = library.func('int socket(int domain, int type, int protocol)');
    const getsockopt = library.func(
      'int getsockopt(int fd, int level, int option, void *value, void *length)',
    );
    const bind = library.func('int bind(int fd, void *address, uint32_t length)');
    const sendto = library.func(
      'long sendto(int fd, void *bytes, size_t length, int flags, void *address, uint32_t addressLength)',
    );
    const read = library.func('long read(int fd, void *into, size_t length)');
    const write = library.func('long write(int fd, void *bytes, size_t length)');
    const affinity = library.func('int sched_setaffinity(int thread, size_t size, void *mask)');
    const getAffinity = library.func('int sched_getaffinity(int thread, size_t size, void *mask)');
    const prctl = library.func('int prctl(int option, long a, long b, long c, long d)');
    const mmap = library.func(
      'int64_t mmap(void *address, size_t length, int protection, int flags, int fd, int64_t at)',
    ) as (...args: unknown[]) => number | bigint;
    const munmap = library.func('int munmap(int64_t address, size_t length)');
    const finitModule = library.func(
      'long syscall(long number, long fd, const char *parameters, long flags)',
    );
    const reboot = library.func('int reboot(int command)');
    // errno means something only after a failure: a call that succeeds leaves an older one there.
    const orErrno = (result: number): number => (result < 0 ? -koffi.errno() : result);
    return {
      bpf: (command, attr) => orErrno(syscall(numbers.bpf, command, attr, attr.length)),
      address: (bytes) => koffi.address(bytes),
      capget: (header, data) => orErrno(capget(header, data)),
      capset: (header, data) => orErrno(capset(header, data)),
      setns: (fd, type) => orErrno(setns(fd, type)),
      unshare: (type) => orErrno(unshare(type)),
      mount: (source, target, type, flags) => orErrno(mount(source, target, type, flags, null)),
      umount: (target, flags) => orErrno(umount2(target, flags)),
      flock: (fd, flags) => orErrno(flock(fd, flags)),
      dup2: (fd, as) => orErrno(dup2(fd, as)),
      ioctl: (fd, request, argument) => orErrno(ioctl(fd, request, argument)),
      fcntl: (fd, command, argument) => orErrno(fcntl(fd, command, argument)),
      socket: (domain, type, protocol) => orErrno(socket(domain, type | SOCK_CLOEXEC, protocol)),
      getsockopt: (fd, level, option, value) => {
        const length = new Uint8Array(4);
        new DataView(length.buffer).setUint32(0, value.length, true);
        return orErrno(getsockopt(fd, level, option, value, length));
      },
      bind: (fd, address) => orErrno(bind(fd, address, address.length)),
      sendto: (fd, bytes, flags, address) =>
        orErrno(sendto(fd, bytes, bytes.length, flags, address ?? null, address?.length ?? 0)),
      read: (fd, into) => orErrno(read(fd, into, into.length)),
      write: (fd, bytes) => orErrno(write(fd, bytes, bytes.length)),
      schedSetaffinity: (thread, cpus) => {
        const mask = new Uint8Array(CPU_SET_SIZE);
        for (const cpu of cpus) mask[cpu >> 3]! |= 1 << (cpu & 7);
        return orErrno(affinity(thread, mask.length, mask));
      },
      schedGetaffinity: (thread) => {
        const mask = new Uint8Array(CPU_SET_SIZE);
        const result = orErrno(getAffinity(thread, mask.length, mask));
        if (result < 0) return result;
        const cpus: number[] = [];
        for (let cpu = 0; cpu < mask.length * 8; cpu++) {
          if ((mask[cpu >> 3]! & (1 << (cpu & 7))) !== 0) cpus.push(cpu);
        }
        return cpus;
      },
      duplicate: (fd) => orErrno(fcntl(fd, F_DUPFD_CLOEXEC, 0)),
      prctl: (option, a = 0, b = 0, c = 0, d = 0) => orErrno(prctl(option, a, b, c, d)),
      tgkill: (thread, signal) => orErrno(tgkill(numbers.tgkill, process.pid, thread, signal)),
      pidfdOpen: (process) => orErrno(pidfdOpen(PIDFD_OPEN, process, 0)),
      pidfdSendSignal: (fd, signal) => orErrno(pidfdSendSignal(PIDFD_SEND_SIGNAL, fd, signal, null, 0)),
      perfEventOpen: (attr, thread, cpu, group, flags) =>
        orErrno(perfEventOpen(numbers.perf_event_open, attr, thread, cpu, group, flags)),
      finitModule: (fd) => orErrno(finitModule(numbers.finit_module, fd, '', 0)),
      powerOff: () => orErrno(reboot(LINUX_REBOOT_CMD_POWER_OFF)),
      mmap: (fd, at, length, protection) => {
        const address = BigInt(mmap(null, length, protection, MAP_SHARED, fd, at));
        if (address === -1n) return -koffi.errno();
        return { bytes: new Uint8Array(koffi.view(address, length)), address };
      },
      munmap: ({ address, bytes }) => orErrno(munmap(address, bytes.length)),
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
