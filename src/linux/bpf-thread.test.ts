import { readFileSync, readlinkSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { assemble } from '../bpf/assembler.js';
import { EINVAL } from '../bpf/errno.js';
import { BPF_MAP_TYPE } from '../bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP, XDP_ATTACH_TYPE } from '../bpf/program.js';
import { XDP_MD, XDP_MD_SIZE } from '../bpf/xdp.js';
import { probeBpf } from './bpf-probe.js';
import * as bpf from './bpf-syscall.js';
import { BpfThread } from './bpf-thread.js';
import { probeNamespaces, testingNamespace, type TestingNamespace } from './testing-namespace.js';

const [probe = { status: 'supported' as const }] = [probeBpf(), probeNamespaces()].filter(
  ({ status }) => status !== 'supported',
);
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const EINTR = 4;
const PASS = 'r0 = 2\nexit';

describe.skipIf(skipped !== '')(`a thread for bpf(2)${skipped}`, () => {
  let namespace: TestingNamespace;
  let ifindex: number;
  const fds: number[] = [];
  const threads: BpfThread[] = [];

  beforeAll(() => {
    namespace = testingNamespace();
    // Numbers that the test's own namespace does not have.
    namespace.ip('link', 'add', 'v0', 'index', '70001', 'type', 'veth', 'peer', 'name', 'v1');
    namespace.ip('link', 'set', 'v0', 'up', 'addrgenmode', 'none');
    namespace.ip('link', 'set', 'v1', 'up', 'addrgenmode', 'none');
    ifindex = 70_001;
  });
  afterEach(async () => {
    for (const thread of threads.splice(0)) await thread.close();
    for (const fd of fds.splice(0)) bpf.closeFd(fd);
  });
  afterAll(() => namespace.close());

  const keep = (fd: number): number => {
    expect(fd).toBeGreaterThanOrEqual(0);
    fds.push(fd);
    return fd;
  };
  const xdp = (text: string, maps?: ReadonlyMap<string, number>): number =>
    keep(
      bpf.progLoad({
        name: 'p',
        type: BPF_PROG_TYPE_XDP,
        license: 'GPL',
        expectedAttachType: XDP_ATTACH_TYPE.BPF_XDP,
        logLevel: 0,
        insns: assemble(text, { maps }),
      }).fd,
    );
  const open = async (options: Parameters<typeof BpfThread.open>[0] = {}): Promise<BpfThread> => {
    const thread = await BpfThread.open(options);
    threads.push(thread);
    return thread;
  };
  /** `struct xdp_md` of a frame of 64 bytes from v0. */
  const context = (): Uint8Array => {
    const bytes = new Uint8Array(XDP_MD_SIZE);
    const fields = new DataView(bytes.buffer);
    fields.setUint32(XDP_MD.data_end, 64, true);
    fields.setUint32(XDP_MD.ingress_ifindex, ifindex, true);
    return bytes;
  };
  const FRAME = new Uint8Array(64).fill(0xff);

  it('runs programs as the calling thread would, and the event loop goes on', async () => {
    const fd = xdp('r0 = 3\nexit');
    const thread = await open();
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const run = { data: new Uint8Array(64), repeat: 3_000_000 };
    const result = await thread.testRun(fd, run);
    clearInterval(timer);
    expect(result).toMatchObject({ retval: 3, data: run.data });
    expect(turns).toBeGreaterThan(3);
    expect(await thread.testRun(fd, { data: new Uint8Array(13) })).toBe(-EINVAL);
  });

  it('keeps calls in order, each with its own result', async () => {
    const [one, two] = [xdp('r0 = 1\nexit'), xdp('r0 = 2\nexit')];
    const thread = await open();
    const runs = [one, two, one, two].map((fd) => thread.testRun(fd, { data: new Uint8Array(64) }));
    const results = (await Promise.all(runs)) as bpf.ProgramTestResult[];
    expect(results.map(({ retval }) => retval)).toEqual([1, 2, 1, 2]);
  });

  it('lives in a namespace and on CPUs, and the main thread stays where it is', async () => {
    const fd = xdp(PASS);
    const before = readlinkSync('/proc/thread-self/ns/net');
    const here = await open();
    const there = await open({ namespace, cpus: [0] });
    expect(readlinkSync('/proc/thread-self/ns/net')).toBe(before);
    const where = (thread: BpfThread): string => readlinkSync(`/proc/self/task/${thread.id}/ns/net`);
    expect(where(here)).toBe(before);
    expect(where(there)).toBe(namespace.run(() => readlinkSync('/proc/thread-self/ns/net')));
    expect(where(there)).not.toBe(before);
    expect(readFileSync(`/proc/self/task/${there.id}/status`, 'utf8')).toMatch(/^Cpus_allowed_list:\t0$/m);
    // The device is only to be had there.
    expect(await here.testRun(fd, { data: FRAME, context: context() })).toBeLessThan(0);
    expect(await there.testRun(fd, { data: FRAME, context: context() })).toMatchObject({ retval: 2 });
  });

  it('sends live frames on', async () => {
    const count = keep(
      bpf.mapCreate({
        name: 'count',
        type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
        keySize: 4,
        valueSize: 8,
        maxEntries: 1,
        flags: 0,
      }),
    );
    const peer = xdp(
      'r1 = map[count][0]+0\nr2 = 1\nlock *(u64 *)(r1 +0) += r2\nr0 = 1\nexit',
      new Map([['count', count]]),
    );
    const v1 = (JSON.parse(namespace.ip('-json', 'link', 'show', 'v1')) as [{ ifindex: number }])[0].ifindex;
    keep(namespace.run(() => bpf.linkCreate(peer, { hook: 'xdp', ifindex: v1 })));
    // What a program sends out of v0 comes in at v1; for that v0 needs a program, too.
    const tx = xdp('r0 = 3\nexit');
    keep(namespace.run(() => bpf.linkCreate(tx, { hook: 'xdp', ifindex })));
    const thread = await open({ namespace });
    expect(await thread.liveFrames(tx, { data: FRAME, context: context(), repeat: 200, batchSize: 20 })).toBe(
      0,
    );
    expect(namespace.run(() => bpf.progLiveFrames(tx, { data: FRAME, context: context(), repeat: 56 }))).toBe(
      0,
    );
    const counted = (): number =>
      Number(Buffer.from(bpf.mapLookup(count, new Uint8Array(4), 8) as Uint8Array).readBigUInt64LE());
    await expect.poll(counted, { timeout: 2000 }).toBe(256);
    expect(await thread.liveFrames(tx, { data: FRAME, repeat: 1, batchSize: 257 })).toBeLessThan(0);
  });

  it('ends a long run with EINTR, by itself and when it is closed', async () => {
    const drop = xdp('r0 = 1\nexit');
    const thread = await open({ namespace });
    const endless = { data: FRAME, context: context(), repeat: 0xffff_ffff };
    const first = thread.liveFrames(drop, endless);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await thread.interrupt();
    expect(await first).toBe(-EINTR);
    await thread.interrupt();

    const second = thread.liveFrames(drop, endless);
    const third = thread.liveFrames(drop, endless);
    const rejected = expect(third).rejects.toMatchObject({ code: 'interrupted' });
    await thread.close();
    expect(await second).toBe(-EINTR);
    await rejected;
    await expect(thread.testRun(drop, { data: FRAME })).rejects.toMatchObject({ code: 'interrupted' });
  });
});
