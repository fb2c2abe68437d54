import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import { errnoName } from '../../bpf/errno.js';
import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import type { Program } from '../../bpf/program.js';
import { AbstractVerifier } from '../../../plugins/verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../../../plugins/verifier-abstract/config.js';
import { probeBpf } from '../bpf-probe.js';
import { closeFd } from '../bpf-syscall.js';
import { libc } from '../libc.js';
import { KernelCase } from '../testing-kernel-case.js';
import { VERDICT_COUNTERS_MAP } from './verdict-counters.js';
import { xdpToTcx } from './xdp-to-tcx.js';

const LOOPBACK = 1;

/** Puts this process, which runs only this file, into a network namespace of its own, with the loopback up. */
async function enterNetwork(): Promise<string | undefined> {
  const probe = probeBpf();
  if (probe.status !== 'supported') return probe.reason;
  const { default: koffi } = await import('koffi');
  const unshare = koffi.load('libc.so.6').func('int unshare(int flags)') as (flags: number) => number;
  if (unshare(CLONE_NEWNET) !== 0) return 'this process may not make network namespaces';
  try {
    // Frames of more than a packet, and no longer than what the program can look at.
    execFileSync('ip', ['link', 'set', 'lo', 'mtu', '9000', 'gso_max_size', '20000', 'up']);
    return undefined;
  } catch {
    return 'the loopback cannot be set up with ip';
  }
}
const CLONE_NEWNET = 0x40000000;

const reason = await enterNetwork();
const skipped = reason === undefined ? '' : ` (skipped: ${reason})`;

const COUNTERS = { handle: 1, name: 'counters', attributes: VERDICT_COUNTERS_MAP, initial: [] };
const counter = (handle: number, name: string) => ({
  handle,
  name,
  attributes: { type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, keySize: 4, valueSize: 8, maxEntries: 1, flags: 0 },
  initial: [],
});
const LONG = counter(2, 'long');
const PIECES = counter(3, 'pieces');

/** BPF_LINK_CREATE on egress of the loopback: `+0 prog_fd · +4 target_ifindex · +8 attach_type`, u32 each. */
function attach(programFd: number): number {
  const attr = new Uint8Array(64);
  attr.set(new Uint8Array(Uint32Array.of(programFd, LOOPBACK, BPF_TCX_EGRESS).buffer));
  const fd = libc().bpf(BPF_LINK_CREATE, attr);
  if (fd < 0) throw new Error(`BPF_LINK_CREATE: ${errnoName(fd)}`);
  return fd;
}
const BPF_LINK_CREATE = 28;
const BPF_TCX_EGRESS = 47;

const named = (text: string): Program => ({
  name: 'in_pieces',
  type: 6,
  attachType: 'BPF_XDP',
  gplCompatible: true,
  insns: assemble(text),
});

/** Counts frames of which 5000 bytes can be reached, and drops those of which some cannot. */
const REACHES_ALL = named(`
    r6 = r1
    call bpf_xdp_get_buff_len
    r7 = r0
    r2 = *(u32 *)(r6 +0)
    r3 = *(u32 *)(r6 +4)
    r0 = 1
    if r7 > 0xffff goto out
    r4 = r2
    r4 += r7
    r0 = 1
    if r4 != r3 goto out
    r4 = r2
    r4 += 5000
    r0 = 2
    if r4 > r3 goto out
    r5 = *(u8 *)(r2 +4999)
    r1 = map[fd:${LONG.handle}][0]+0
    r2 = 1
    lock *(u64 *)(r1 +0) += r2
  out:
    exit`);

/** Counts frames in pieces, and lets the next program have them: SCHED_CLS, in front of the other. */
const IN_PIECES = {
  ...named(`
    r2 = *(u32 *)(r1 +76)
    r3 = *(u32 *)(r1 +80)
    r4 = *(u32 *)(r1 +0)
    r3 -= r2
    if r3 >= r4 goto out
    r1 = map[fd:${PIECES.handle}][0]+0
    r2 = 1
    lock *(u64 *)(r1 +0) += r2
  out:
    w0 = -1
    exit`),
  type: 3,
};

describe.skipIf(skipped !== '')(`tcx and frames in pieces${skipped}`, () => {
  it('sees the whole of frames that are to be segmented, and leaves them what they are', async () => {
    const maps = new Map([[LONG.handle, { ...LONG.attributes, name: LONG.name }]]);
    const verification = await new AbstractVerifier(DEFAULT_CONFIG).verify({ program: REACHES_ALL, maps });
    if (!verification.accepted) throw new Error(verification.reason);
    const converted = xdpToTcx(REACHES_ALL, {
      facts: verification.facts!,
      tx: { ifindex: LOOPBACK, into: 'ingress' },
      counters: COUNTERS.handle,
    });
    if (!converted.ok) throw new Error(converted.reason);

    const kernel = new KernelCase([COUNTERS, LONG, PIECES]);
    const links: number[] = [];
    try {
      links.push(attach(kernel.load(IN_PIECES)), attach(kernel.load(converted.program)));
      const sent = Buffer.alloc(4 << 20, 'all of it');
      expect((await transfer(sent)).equals(sent)).toBe(true);
    } finally {
      for (const fd of links) closeFd(fd);
    }
    const [whole, inPieces] = [kernel.sum(LONG.handle, 0), kernel.sum(PIECES.handle, 0)];
    const passed = kernel.sum(COUNTERS.handle, 2);
    const others = [0, 1, 3, 4, 5].map((verdict) => kernel.sum(COUNTERS.handle, verdict));
    kernel.close();
    expect(inPieces).toBeGreaterThan(10);
    expect(whole).toBeGreaterThan(10);
    expect(passed).toBeGreaterThanOrEqual(whole);
    expect(others).toEqual([0, 0, 0, 0, 0]);
  });
});

/** By TCP over the loopback. */
async function transfer(bytes: Buffer): Promise<Buffer> {
  const received: Buffer[] = [];
  const server = createServer((socket) => socket.on('data', (chunk: Buffer) => received.push(chunk)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  client.end(bytes);
  await once(client, 'close');
  server.close();
  await once(server, 'close');
  return Buffer.concat(received);
}
