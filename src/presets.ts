import type { PluginEntry } from './core/plugin/plugin-registry.js';

/**
 * The only place that names the plugins this package brings. What a list of them shows stands here; the module
 * is imported when somebody uses the plugin, so that a command loads what it runs and nothing else.
 */
export const BUILT_IN_PLUGINS: readonly PluginEntry[] = [
  {
    role: 'fabric',
    name: 'linux',
    description:
      'network namespaces, taps, bridges and hooks of the running kernel, and guests on their taps; needs root',
    load: async () => (await import('../plugins/fabric-linux/index.js')).default,
  },
  {
    role: 'transport',
    name: 'virtqueue',
    description: "the control virtqueue (virtio 1.3), in a guest's memory",
    load: async () => (await import('../plugins/transport-virtqueue/index.js')).default,
  },
  {
    role: 'transport',
    name: 'virtqueue-packed',
    description: "the control virtqueue in the packed format (VIRTIO_F_RING_PACKED), in a guest's memory",
    load: async () => (await import('../plugins/transport-virtqueue-packed/index.js')).default,
  },
  {
    role: 'transport',
    name: 'unix-socket',
    description: "a unix socket, for a guest's driver in another process",
    load: async () => (await import('../plugins/transport-unix-socket/index.js')).default,
  },
  {
    role: 'transport',
    name: 'virtio-serial',
    description: "a virtio-serial port of a real guest, or whatever else connects to the channel's socket",
    load: async () => (await import('../plugins/transport-virtio-serial/index.js')).default,
  },
  {
    role: 'device',
    name: 'guarded',
    description:
      'believes nothing that a guest sends: copied once, checked, own handles, ruled on, accounted for',
    load: async () => (await import('../plugins/device-guarded/index.js')).default,
  },
  {
    role: 'device',
    name: 'rfc-2019-naive',
    description:
      "RFC 2019's handler with its ten defects, and protocol 2 by the same hand, in a pretend process: for seeing attacks succeed, never for use",
    load: async () => (await import('../plugins/device-rfc-2019-naive/index.js')).default,
  },
  {
    role: 'verifier',
    name: 'structural',
    description:
      'judges a program by its form: encodings, jumps, calls, map references, helper numbers; tracks no values',
    module: new URL('../plugins/verifier-structural/index.js', import.meta.url).href,
    load: async () => (await import('../plugins/verifier-structural/index.js')).default,
  },
  {
    role: 'verifier',
    name: 'abstract',
    description: 'judges programs by abstract interpretation, and explains what it rejects',
    module: new URL('../plugins/verifier-abstract/index.js', import.meta.url).href,
    load: async () => (await import('../plugins/verifier-abstract/index.js')).default,
  },
  {
    role: 'verifier',
    name: 'kernel',
    description: 'asks the verifier of the kernel that this runs on, by BPF_PROG_LOAD; needs root',
    module: new URL('../plugins/verifier-kernel/index.js', import.meta.url).href,
    load: async () => (await import('../plugins/verifier-kernel/index.js')).default,
  },
  {
    role: 'executor',
    name: 'interpreter',
    description: 'The reference executor: interprets programs and checks every access.',
    load: async () => (await import('../plugins/executor-interpreter/index.js')).default,
  },
  {
    role: 'executor',
    name: 'wasm',
    description: 'compiles programs to WebAssembly; as fast as the JIT of the kernel',
    load: async () => (await import('../plugins/executor-wasm/index.js')).default,
  },
  {
    role: 'executor',
    name: 'differential',
    description: 'Runs each program in several executors, which must agree on every bit.',
    load: async () => (await import('../plugins/executor-differential/index.js')).default,
  },
  {
    role: 'executor',
    name: 'kernel',
    description: 'runs programs in the kernel that this runs on, by BPF_PROG_TEST_RUN; needs root',
    load: async () => (await import('../plugins/executor-kernel/index.js')).default,
  },
  {
    role: 'map-backend',
    name: 'memory',
    description: 'maps in the address space of the in-process engine, with the errno behaviour of Linux 6.18',
    load: async () => (await import('../plugins/map-backend-memory/index.js')).default,
  },
  {
    role: 'map-backend',
    name: 'kernel',
    description: 'maps of the kernel that this runs on, by bpf(2); needs root',
    load: async () => (await import('../plugins/map-backend-kernel/index.js')).default,
  },
  {
    role: 'policy',
    name: 'helper-allow-list',
    description: 'the helpers an offloaded program may call; by default none that reads anything of the host',
    load: async () => (await import('../plugins/policy-helper-allow-list/index.js')).default,
  },
  {
    role: 'policy',
    name: 'quota',
    description:
      'limits on the maps, map memory, entries, programs and insns that the host holds, per guest and in total',
    load: async () => (await import('../plugins/policy-quota/index.js')).default,
  },
  {
    role: 'policy',
    name: 'rate-limit',
    description:
      'limits on how fast guests may ask: commands, loads, verifier time and insns per second, per guest and in total',
    load: async () => (await import('../plugins/policy-rate-limit/index.js')).default,
  },
  {
    role: 'policy',
    name: 'migration',
    description: 'whether a guest may go to another host with what it has offloaded, or is blocked by it',
    load: async () => (await import('../plugins/policy-migration/index.js')).default,
  },
  {
    role: 'policy',
    name: 'map-types',
    description: 'the maps a guest may create: types, flags, sizes of keys and values, entries',
    load: async () => (await import('../plugins/policy-map-types/index.js')).default,
  },
  {
    role: 'policy',
    name: 'program-limits',
    description:
      'limits on what a program is able to do: verdicts, helpers, map types, packet writes, insns, stack',
    load: async () => (await import('../plugins/policy-program-limits/index.js')).default,
  },
  {
    role: 'fabric',
    name: 'model',
    description:
      'guest drivers, virtqueues, QEMU devices, taps, bridges and NICs in this process; needs nothing but Node',
    load: async () => (await import('../plugins/fabric-model/index.js')).default,
  },
  {
    role: 'workload',
    name: 'udp-flood',
    description: 'equal UDP or TCP frames at a constant rate, spread over flows and guests',
    load: async () => (await import('../plugins/workload-udp-flood/index.js')).default,
  },
  {
    role: 'workload',
    name: 'imix',
    description:
      'frames of several sizes and protocols in given proportions; by default the simple IMIX 7:4:1',
    load: async () => (await import('../plugins/workload-imix/index.js')).default,
  },
  {
    role: 'workload',
    name: 'pcap-replay',
    description: 'the frames of a pcap or pcapng file, at the times they were captured',
    load: async () => (await import('../plugins/workload-pcap-replay/index.js')).default,
  },
  {
    role: 'attack',
    name: 'rfc-2019',
    description:
      'attacks over the control commands of RFC 2019, its ten defects and what else a guest can try, and over those of protocol 2',
    load: async () => (await import('../plugins/attack-rfc-2019/index.js')).default,
  },
  {
    role: 'reporter',
    name: 'table',
    description: 'one table of the runs, the checks and a summary, for people',
    load: async () => (await import('../plugins/reporter-table/index.js')).default,
  },
  {
    role: 'reporter',
    name: 'json',
    description: 'the whole result as one JSON document (schemas/result.schema.json)',
    load: async () => (await import('../plugins/reporter-json/index.js')).default,
  },
  {
    role: 'reporter',
    name: 'ndjson',
    description: 'one JSON object per line: each event as it happens, then a summary',
    load: async () => (await import('../plugins/reporter-ndjson/index.js')).default,
  },
  {
    role: 'reporter',
    name: 'junit',
    description: 'JUnit XML for CI: a test case for each check and each run',
    load: async () => (await import('../plugins/reporter-junit/index.js')).default,
  },
  {
    role: 'reporter',
    name: 'csv',
    description: 'one row of counters for each run, for spreadsheets and data frames',
    load: async () => (await import('../plugins/reporter-csv/index.js')).default,
  },
];
