import { AGENT_PORT, controlPort } from './agent-messages.js';
import type { GuestImage } from './guest-image.js';

export type Accelerator = 'kvm' | 'tcg';

/** What QEMU finds behind a number: each is a file descriptor that it has from its start. */
export interface QemuDescriptors {
  /** Sockets that are connected already. */
  readonly qmp: number;
  readonly console: number;
  readonly agent: number;
  /** The control channel of each nic. */
  readonly control: readonly number[];
  readonly kernel: number;
  readonly initramfs: number;
  /** Queues of each nic's tap, opened with IFF_TAP, IFF_VNET_HDR and, where there are several, IFF_MULTI_QUEUE. */
  readonly taps: readonly (readonly number[])[];
}

export interface QemuMachine {
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly accelerator: Accelerator;
  readonly nics: readonly { readonly mac: string; readonly queueSize: number }[];
}

/**
 * The emulation carries out `rep movsb` byte by byte, which kernels take for the fastest copy where a CPU says so (ERMS,
 * FSRM): without, a guest boots half a second sooner.
 */
const EMULATED_CPU = 'max,-erms,-fsrm';
/** Not all hosts let a guest have the MSR behind arch-capabilities, and a guest without secrets has no use for it. */
const HOST_CPU = 'host,arch-capabilities=off';

/**
 * The command line of a guest that has what it needs and nothing else: no default devices, no configuration of the
 * user's, no firmware of network cards, no folder of the host's. Everything it uses it has by file descriptor, so that it
 * can run as nobody, and in QEMU's sandbox, which allows no other process, no more privileges and no change of limits.
 */
export function qemuArguments(machine: QemuMachine, image: GuestImage, fds: QemuDescriptors): string[] {
  const { cpus, memoryMiB, accelerator, nics } = machine;
  const serialPorts = [AGENT_PORT, ...nics.map((_, nic) => controlPort(nic))];
  const sockets = [fds.agent, ...fds.control];
  return [
    ['-accel', accelerator === 'tcg' ? 'tcg,thread=multi' : 'kvm'],
    ['-cpu', accelerator === 'tcg' ? EMULATED_CPU : HOST_CPU],
    ['-M', 'q35'],
    ['-smp', String(cpus)],
    ['-m', String(memoryMiB)],
    ['-nodefaults', '-no-user-config', '-no-reboot'],
    ['-display', 'none'],
    ['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ['-chardev', `socket,id=qmp,fd=${fds.qmp}`, '-mon', 'chardev=qmp,mode=control'],
    ['-chardev', `socket,id=console,fd=${fds.console}`, '-serial', 'chardev:console'],
    ['-kernel', `/proc/self/fd/${fds.kernel}`, '-initrd', `/proc/self/fd/${fds.initramfs}`],
    ['-append', kernelCommandLine(image, nics.length)],
    ['-device', `virtio-serial-pci,max_ports=${serialPorts.length + 1}`],
    ...serialPorts.flatMap((name, port) => [
      ['-chardev', `socket,id=port${port},fd=${sockets[port]}`],
      ['-device', `virtserialport,chardev=port${port},name=${name}`],
    ]),
    ...nics.flatMap(({ mac, queueSize }, nic) => netDevice(nic, mac, queueSize, fds.taps[nic] ?? [])),
  ].flat();
}

/**
 * A virtio-net device without offloads of checksums and segments: a program sees every frame as it is on the wire, none
 * merged, and the driver need not turn them off first. rx_queue_size goes up to 1024; tx_queue_size of a tap is 256.
 */
function netDevice(nic: number, mac: string, queueSize: number, taps: readonly number[]): string[][] {
  const offloads = ['csum', 'gso', 'guest_csum', 'guest_tso4', 'guest_tso6', 'guest_ecn', 'guest_ufo'].concat(
    ['host_tso4', 'host_tso6', 'host_ecn', 'host_ufo'],
  );
  const device = [
    `virtio-net-pci,netdev=net${nic},mac=${mac},romfile=,mrg_rxbuf=on`,
    ...offloads.map((offload) => `${offload}=off`),
    `rx_queue_size=${queueSize}`,
    'tx_queue_size=256',
    // The device would keep frames with a VLAN tag to itself until the guest asks for that VLAN.
    'ctrl_vlan=off',
    // An interrupt for each queue, one for the control queue, one for the configuration.
    ...(taps.length > 1 ? ['mq=on', `vectors=${2 * taps.length + 2}`] : []),
  ];
  return [
    ['-netdev', `tap,id=net${nic},vhost=off,${taps.length > 1 ? 'fds' : 'fd'}=${taps.join(':')}`],
    ['-device', device.join(',')],
  ];
}

function kernelCommandLine(image: GuestImage, nics: number): string {
  return [
    'console=ttyS0',
    'quiet',
    // A guest that cannot go on ends: with -no-reboot, QEMU does.
    'panic=-1',
    // Of its own processes a guest need not be afraid.
    'mitigations=off',
    // A second of an emulated boot.
    'cryptomgr.notests',
    'noreplace-smp',
    // It counts ticks in a loop, and finds none when this machine is busy.
    'no_timer_check',
    'rootfstype=ramfs',
    ...image.commandLine,
    // A thread for what each port reads and writes, and some to spare.
    `UV_THREADPOOL_SIZE=${2 * (nics + 1) + 4}`,
    '--',
    ...image.initWords,
  ].join(' ');
}
