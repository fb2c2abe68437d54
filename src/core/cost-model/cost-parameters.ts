/** What a parameter of the cost model is given in. All times become integer picoseconds. */
export type CostUnit = 'ns' | 'ps/byte' | 'Gbit/s' | 'bytes' | 'frames' | 'µs';

interface CostParameter {
  readonly unit: CostUnit;
  /** What it stands for, and whose time it is. */
  readonly meaning: string;
}

/**
 * The parameters of the cost model, in the order of a frame's way. A time is booked on the CPU that does the work;
 * latencies are nobody's work. What programs cost is apart (`HELPER_COSTS`, `insn`).
 */
export const COST_PARAMETERS = {
  'line-rate': { unit: 'Gbit/s', meaning: 'of the wire that frames come in by' },
  framing: {
    unit: 'bytes',
    meaning: 'of the wire beside each frame: FCS 4, preamble and start 8, gap between frames 12 (IEEE 802.3)',
  },
  'nic-ring': {
    unit: 'frames',
    meaning: 'receive descriptors of each queue of the NIC; what finds none is lost',
  },
  'nic-interrupt': { unit: 'ns', meaning: 'from a frame’s arrival at an idle NIC to its NAPI poll; latency' },
  'nic-poll': { unit: 'ns', meaning: 'a NAPI poll of the NIC, whatever it finds' },
  'nic-rx': {
    unit: 'ns',
    meaning: 'a frame in the NIC’s driver: descriptor, buffer, first touch of its bytes',
  },
  'nic-tx': { unit: 'ns', meaning: 'sending a frame by the NIC, for whoever sends it' },
  'nic-tx-clean': { unit: 'ns', meaning: 'the same frame’s completion, for the CPU that polls the NIC' },
  insn: { unit: 'ns', meaning: 'an insn of a program as the kernel’s JIT compiles it' },
  'helper-byte': { unit: 'ps/byte', meaning: 'a byte that a helper goes through' },
  'xdp-run': {
    unit: 'ns',
    meaning: 'a run of an XDP program beside its insns and helpers: context, call, verdict',
  },
  'xdp-redirect': { unit: 'ns', meaning: 'a redirected frame on its way to the target’s bulk queue' },
  'redirect-bulk': {
    unit: 'frames',
    meaning: 'of a bulk queue (DEV_MAP_BULK_SIZE); it is flushed when full and at the end of a poll',
  },
  'redirect-flush': {
    unit: 'ns',
    meaning: 'a flush of a bulk queue into a tap, its look at who waits there included',
  },
  'tun-xdp-xmit': { unit: 'ns', meaning: 'a redirected frame into the tap’s ptr_ring' },
  'skb-receive': { unit: 'ns', meaning: 'an skb for a frame, GRO and the way up to the bridge' },
  'bridge-forward': { unit: 'ns', meaning: 'a frame through a bridge' },
  'tun-net-xmit': {
    unit: 'ns',
    meaning: 'an skb into the tap’s ptr_ring, its look at who waits there included',
  },
  'host-stack': { unit: 'ns', meaning: 'a frame that ends in the host’s own stack' },
  'vhost-wakeup': {
    unit: 'ns',
    meaning: 'waking the tap’s reader, for whoever does (try_to_wake_up of a task on an idle CPU)',
  },
  'vhost-latency': { unit: 'ns', meaning: 'from waking the reader to its first insn, at the least; latency' },
  'vhost-jitter': { unit: 'ns', meaning: 'what may come on top of that, evenly spread; latency' },
  'vhost-enter': { unit: 'ns', meaning: 'what the reader does when it was woken, before its first frame' },
  'vhost-sleep': {
    unit: 'ns',
    meaning: 'what the reader does when nothing is left: notifications on, a last look, schedule()',
  },
  'vhost-poll-timeout': {
    unit: 'µs',
    meaning: 'how long a polling reader looks on before it sleeps (busyloop_timeout)',
  },
  'tun-recv': { unit: 'ns', meaning: 'taking a frame out of the tap’s ptr_ring (tun_recvmsg)' },
  'tun-recv-call': {
    unit: 'ns',
    meaning:
      'a call of recvmsg for a batch of frames, where the reader takes batches so; part of vhost-sleep, too',
  },
  'vhost-rx': { unit: 'ns', meaning: 'a frame into the guest’s receive buffers, beside its bytes' },
  'vhost-tx': { unit: 'ns', meaning: 'a frame out of the guest’s transmit queue, beside its bytes' },
  'copy-byte': { unit: 'ps/byte', meaning: 'copying a byte between host and guest' },
  'tun-send': { unit: 'ns', meaning: 'a frame of the guest’s into the tap’s Rx path (tun_sendmsg)' },
  'tun-inject': { unit: 'ns', meaning: 'a frame that an offloaded program sent back into the tap’s Rx path' },
  'tap-receive': {
    unit: 'ns',
    meaning: 'an skb for a frame that came in by the tap, and the way up to the bridge',
  },
  'guest-interrupt': { unit: 'ns', meaning: 'interrupting the guest, for the reader (eventfd, irqfd)' },
  'guest-latency': { unit: 'ns', meaning: 'from interrupting the guest to its NAPI poll; latency' },
  'guest-irq': { unit: 'ns', meaning: 'the guest’s interrupt handler and the way to its NAPI poll' },
  'guest-poll': { unit: 'ns', meaning: 'the end of a guest’s NAPI poll: receive buffers, interrupts on' },
  'guest-rx': { unit: 'ns', meaning: 'a frame in the guest’s driver' },
  'guest-tx': { unit: 'ns', meaning: 'a frame into the guest’s transmit queue' },
  'guest-stack': {
    unit: 'ns',
    meaning: 'a frame through the guest’s stack to its socket, and through the peer’s',
  },
  kick: { unit: 'ns', meaning: 'a kick of the guest’s: leaving it, ioeventfd, coming back' },
  'idle-residency': {
    unit: 'ns',
    meaning: 'after so long with nothing to do a CPU of the host or the peer is in a deeper idle state',
  },
  'idle-exit': { unit: 'ns', meaning: 'coming back from there; latency' },
  'gro-merge': {
    unit: 'ns',
    meaning: 'a frame that GRO adds to the one before, instead of an skb of its own',
  },
  syscall: { unit: 'ns', meaning: 'a system call of a process with a socket, in and out' },
  'socket-send': {
    unit: 'ns',
    meaning: 'what a process sends, from its socket to the driver: an skb, UDP, IP, the queueing discipline',
  },
  'socket-receive': { unit: 'ns', meaning: 'what a process receives, out of its socket’s queue' },
  tcp: { unit: 'ns', meaning: 'what TCP does for an skb more than UDP, on either way' },
  'process-wakeup': {
    unit: 'ns',
    meaning: 'waking a process that waits for its socket, for whoever does (try_to_wake_up)',
  },
  'process-latency': {
    unit: 'ns',
    meaning: 'from waking it on another CPU than the waker’s to its first insn; latency',
  },
  'process-switch': { unit: 'ns', meaning: 'to a process that was woken, for its CPU' },
  'context-switch': { unit: 'ns', meaning: 'from one task to another on a shared CPU' },
  slice: { unit: 'µs', meaning: 'how long a task keeps a CPU that others wait for' },
} as const satisfies Readonly<Record<string, CostParameter>>;
export type CostParameterName = keyof typeof COST_PARAMETERS;

export const COST_PARAMETER_NAMES = Object.keys(COST_PARAMETERS) as readonly CostParameterName[];
