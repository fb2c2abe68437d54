import { describe } from 'vitest';
import { executorConformance } from '../../src/conformance/executor/index.js';
import { probeBpf } from '../../src/linux/bpf-probe.js';
import { KernelMapBackend } from '../map-backend-kernel/kernel-map-backend.js';
import { KernelExecutor } from './kernel-executor.js';

const probe = probeBpf();
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

describe.skipIf(skipped !== '')(`conformance${skipped}`, () => {
  executorConformance('kernel', () => new KernelExecutor({ cpu: 0, perfmon: true }), {
    makeMapBackend: () => new KernelMapBackend({ memoryMiB: 256, perfBufferPages: 16 }),
    limits: {
      lacks: {
        'redirect-target': 'a test run does not tell where a frame would go',
        faults: 'the kernel runs only what it has verified',
        'insn-limit': 'the kernel has limits of its own',
        work: 'the kernel does not count what programs do',
        clock: 'helpers tell the time of the machine',
        trace: "what programs print goes to the kernel's trace pipe",
        network: 'helpers see the devices and routes of the machine',
        'frame-origin': 'the device of a frame has to be there',
        'short-frames': 'the test run takes no frame without an Ethernet header',
        'perf-records': 'the kernel pads records, and does not tell how long they were',
        'helper-overrides': "helpers are the kernel's",
        'runtime-memory': 'programs, maps and frames are in the kernel',
      },
      refuses: {
        'bpf_snprintf clears its buffer when there is no such format': /Invalid format string/,
        'gotol takes its distance from imm': /unreachable insn/,
        'an atomic add with the same register as address and operand': /math between map_value pointer/,
        // The suite calls a computation from a program around it, which is one more frame.
        'each frame has a stack of its own, and R10 is back after the call': /combined stack size of 3 calls/,
        'eight frames, the main program included': /call stack of 9 frames is too deep/,
      },
      differs: {
        'bpf_snprintf clears what the text leaves of its buffer': 'the kernel leaves there what was there',
        'bpf_loop of no rounds': 'the verifier of 6.18 drops the callback, and then fails to find it',
        'bpf_loop of more than 8 388 608 rounds is -E2BIG':
          'a bpf_loop that is inlined gives the lower 32 bits of -E2BIG only',
        'bpf_get_prandom_u32 draws the sequence of the run’s seed': 'the kernel draws its own',
        'bpf_get_prandom_u32 returns the numbers that are given, then draws from the last':
          'the kernel draws its own',
        'bpf_fib_lookup on a host without network is -ENODEV': 'the machine has a network',
      },
    },
  });
});
