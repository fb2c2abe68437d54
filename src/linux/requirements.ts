import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { assemble } from '../bpf/assembler.js';
import { BPF_MAP_TYPE } from '../bpf/map-spec.js';
import { errnoName } from '../bpf/errno.js';
import { BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_XDP, type Program } from '../bpf/program.js';
import type { ProbeResult } from '../core/contract/plugin.js';
import { messageOf } from '../core/diagnostic.js';
import { probeBpf } from './bpf-probe.js';
import {
  closeFd,
  linkCreate,
  mapCreate,
  progLiveFrames,
  XDP_FLAGS_DRV_MODE,
  type LinkTarget,
} from './bpf-syscall.js';
import { hasCapability, NEEDED_CAPABILITIES } from './capabilities.js';
import { runIp } from './iproute2.js';
import { loadKernelProgram } from './kernel-program.js';
import { Ledger } from './ledger.js';
import { OwnedNamespace } from './owned-namespace.js';
import { TapDevice } from './tap-device.js';

/** Something of the machine that a part of xdpbed stands on. */
export interface Requirement {
  readonly name: string;
  /** What does not work without it. */
  readonly neededFor: string;
  /** Whether fabric `linux` works without it, in part at least. */
  readonly optional: boolean;
  readonly result: ProbeResult;
  /** What to do where it is missing. */
  readonly remedy?: string | undefined;
}

/**
 * Looks at the machine by trying: in network namespaces and with programs that are gone when this returns. Nothing that
 * was there before is touched.
 */
export async function examineMachine(): Promise<Requirement[]> {
  const capabilities = NEEDED_CAPABILITIES.map(({ name, number, neededFor }): Requirement => ({
    name,
    neededFor,
    optional: false,
    result: hasCapability(number) ? { status: 'supported' } : unsupported('this process does not have it'),
    remedy: 'run as root: sudo xdpbed …',
  }));
  const bpf: Requirement = {
    name: 'bpf(2)',
    neededFor: 'programs and maps of the kernel',
    optional: false,
    result: probeBpf(),
    remedy: 'run as root; npm install koffi',
  };
  const tools: Requirement[] = [
    tool('ip', ['-V'], 'namespaces and interfaces', false, 'apt-get install iproute2'),
    tool('bridge', ['-V'], 'case bridge', false, 'apt-get install iproute2'),
  ];
  const interfaces = [...capabilities, bpf, ...tools].every(({ result }) => result.status === 'supported')
    ? await examineInterfaces()
    : INTERFACES.map(({ probe: _, ...what }): Requirement => ({
        ...what,
        result: unsupported('not tried: see above'),
      }));
  return [
    ...capabilities,
    bpf,
    ...tools,
    ...interfaces,
    {
      name: 'C compiler',
      neededFor: 'the fastest reader of a tap; else this process reads it',
      optional: true,
      result: anyTool(['cc', 'clang', 'gcc']),
      remedy: 'apt-get install gcc',
    },
    tool('qemu-system-x86_64', ['--version'], 'guests of kind qemu', true, 'apt-get install qemu-system-x86'),
    ...['setpriv', 'unshare'].map((name) =>
      tool(
        name,
        ['--version'],
        'QEMU and readers of taps without privileges; else they have those of root',
        true,
        'apt-get install util-linux',
      ),
    ),
    {
      name: '/dev/kvm',
      neededFor: 'fast guests of kind qemu; else QEMU emulates them',
      optional: true,
      result: existsSync('/dev/kvm')
        ? { status: 'inconclusive', reason: 'it is there; whether guests run on it shows when one does' }
        : unsupported('there is none'),
    },
  ];
}

/** Kernel release and architecture. */
export function describeMachine(): string {
  return `${readFileSync('/proc/sys/kernel/osrelease', 'latin1').trim()} ${process.arch}`;
}

/** Two namespaces with a pair of interfaces between them. */
interface Surroundings {
  readonly here: OwnedNamespace;
  readonly there: OwnedNamespace;
}

const NIC = 2;
const TAP = 3;

const INTERFACES: readonly (Omit<Requirement, 'result'> & {
  readonly probe: (around: Surroundings) => Promise<ProbeResult> | ProbeResult;
})[] = [
  {
    name: 'network namespaces',
    neededFor: 'everything: nothing is done in the machine’s own',
    optional: false,
    remedy: 'run as root (CAP_SYS_ADMIN, CAP_NET_ADMIN)',
    probe: () => ({ status: 'supported' }),
  },
  {
    name: 'native XDP on veth',
    neededFor: 'NICs of the host',
    optional: false,
    remedy: 'a kernel with CONFIG_VETH and CONFIG_BPF_SYSCALL',
    probe: ({ here }) =>
      tryLink(here, { hook: 'xdp', ifindex: NIC, flags: XDP_FLAGS_DRV_MODE }, BPF_PROG_TYPE_XDP),
  },
  {
    name: 'taps, and native XDP on them',
    neededFor: 'guests',
    optional: false,
    remedy: 'a kernel with CONFIG_TUN',
    probe: ({ here }) => {
      const tap = TapDevice.open({ name: 'tap0', ifindex: TAP, queues: 1, vnetHeader: false }, here);
      try {
        return tryLink(here, { hook: 'xdp', ifindex: TAP, flags: XDP_FLAGS_DRV_MODE }, BPF_PROG_TYPE_XDP);
      } finally {
        tap.close();
      }
    },
  },
  {
    name: 'bridges',
    neededFor: 'case bridge',
    optional: true,
    remedy: 'a kernel with CONFIG_BRIDGE',
    probe: async ({ here }) => {
      await runIp(['link add name br0 type bridge', 'link delete br0'], { namespace: here.name });
      return { status: 'supported' };
    },
  },
  {
    name: 'programs on entries of device maps and CPU maps',
    neededFor: 'hooks devmap and cpumap',
    optional: true,
    remedy: 'Linux 5.9 or later',
    probe: () => {
      const fd = mapCreate({
        name: 'probe',
        type: BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP,
        keySize: 4,
        valueSize: 8,
        maxEntries: 1,
        flags: 0,
      });
      if (fd < 0) return unsupported(errnoName(fd));
      closeFd(fd);
      return { status: 'supported' };
    },
  },
  {
    name: 'tcx',
    neededFor: 'hooks tcx-egress and bridge-early',
    optional: true,
    remedy: 'Linux 6.6 or later',
    probe: ({ here }) => tryLink(here, { hook: 'tcx-egress', ifindex: NIC }, BPF_PROG_TYPE_SCHED_CLS),
  },
  {
    name: 'live frames of BPF_PROG_TEST_RUN',
    neededFor: 'measuring rates',
    optional: true,
    remedy: 'Linux 5.18 or later',
    probe: () =>
      withProgram(BPF_PROG_TYPE_XDP, (fd) => {
        const status = progLiveFrames(fd, { data: new Uint8Array(60), repeat: 1 });
        return status < 0 ? unsupported(errnoName(status)) : { status: 'supported' };
      }),
  },
];

async function examineInterfaces(): Promise<Requirement[]> {
  let ledger: Ledger | undefined;
  let around: Surroundings | undefined;
  let failure = '';
  try {
    ledger = Ledger.create();
    const { run } = ledger;
    const names = ['here', 'there'].map((name) => `xdpbed-${run}-${name}`);
    const [here, there] = OwnedNamespace.create(names, ledger);
    around = { here: here!, there: there! };
    await runIp([`link add name eth0 index ${NIC} type veth peer name eth0 netns ${there!.name}`], {
      namespace: here!.name,
    });
  } catch (error) {
    failure = messageOf(error);
  }
  try {
    const found: Requirement[] = [];
    for (const { probe, ...what } of INTERFACES) {
      const result =
        around === undefined || failure !== ''
          ? unsupported(failure)
          : await Promise.resolve()
              .then(() => probe(around))
              .catch((error: unknown) => unsupported(messageOf(error)));
      found.push({ ...what, result });
    }
    return found;
  } finally {
    around?.here.close();
    around?.there.close();
    ledger?.close();
  }
}

function tryLink(namespace: OwnedNamespace, target: LinkTarget, type: number): ProbeResult {
  return withProgram(type, (fd) => {
    const link = namespace.run(() => linkCreate(fd, target));
    if (link < 0) return unsupported(errnoName(link));
    closeFd(link);
    return { status: 'supported' };
  });
}

/** With a program that drops whatever it sees, which is nothing. */
function withProgram(type: number, work: (fd: number) => ProbeResult): ProbeResult {
  const program: Program = {
    name: 'probe',
    type,
    attachType: 'BPF_XDP',
    gplCompatible: true,
    insns: assemble('r0 = 1\nexit'),
  };
  const verdict = loadKernelProgram(program, new Map());
  if (!verdict.accepted) return unsupported(`a trivial program is refused: ${errnoName(verdict.errno)}`);
  try {
    return work(verdict.programFd);
  } finally {
    closeFd(verdict.programFd);
  }
}

function tool(
  name: string,
  version: string[],
  neededFor: string,
  optional: boolean,
  remedy: string,
): Requirement {
  const { error } = spawnSync(name, version, { stdio: 'ignore' });
  const result: ProbeResult =
    error === undefined ? { status: 'supported' } : unsupported('it is not installed');
  return { name: `${name}(8)`, neededFor, optional, result, remedy };
}

function anyTool(names: readonly string[]): ProbeResult {
  const found = names.some((name) => spawnSync(name, ['--version'], { stdio: 'ignore' }).error === undefined);
  return found ? { status: 'supported' } : unsupported(`none of ${names.join(', ')} is installed`);
}

function unsupported(reason: string): ProbeResult {
  return { status: 'unsupported', reason };
}
