import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { assemble } from '../bpf/assembler.js';
import { EBUSY, EEXIST, EINVAL, ENODEV, ENOENT, EPERM } from '../bpf/errno.js';
import { BPF_PROG_TYPE_XDP, XDP_ATTACH_TYPE } from '../bpf/program.js';
import { probeBpf } from './bpf-probe.js';
import * as bpf from './bpf-syscall.js';
import { probeNamespaces, testingNamespace, type TestingNamespace } from './testing-namespace.js';

const [probe = { status: 'supported' as const }] = [probeBpf(), probeNamespaces()].filter(
  ({ status }) => status !== 'supported',
);
const skipped = probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;

const BPF_PROG_TYPE_SCHED_CLS = 3;
const BPF_PROG_TYPE_RAW_TRACEPOINT = 17;
const ENOLINK = 67;
const ESTALE = 116;

describe.skipIf(skipped !== '')(`links${skipped}`, () => {
  let namespace: TestingNamespace;
  let ifindex: number;
  const fds: number[] = [];

  beforeAll(() => {
    namespace = testingNamespace();
    namespace.ip('link', 'add', 'v0', 'type', 'veth', 'peer', 'name', 'v1');
    namespace.ip('link', 'set', 'v0', 'up');
    namespace.ip('link', 'set', 'v1', 'up');
    ifindex = indexOf('v0');
  });
  afterEach(() => {
    for (const fd of fds.splice(0)) bpf.closeFd(fd);
  });
  afterAll(() => namespace.close());

  const indexOf = (name: string): number =>
    (JSON.parse(namespace.ip('-json', 'link', 'show', name)) as [{ ifindex: number }])[0].ifindex;
  const keep = (fd: number): number => {
    expect(fd).toBeGreaterThanOrEqual(0);
    fds.push(fd);
    return fd;
  };
  const program = (type: number, expectedAttachType: number, text = 'r0 = 2\nexit'): number =>
    keep(
      bpf.progLoad({
        name: 'p',
        type,
        license: 'GPL',
        expectedAttachType,
        logLevel: 0,
        insns: assemble(text),
      }).fd,
    );
  const xdp = (text?: string): number => program(BPF_PROG_TYPE_XDP, XDP_ATTACH_TYPE.BPF_XDP, text);
  const create = (fd: number, target: bpf.LinkTarget): number =>
    namespace.run(() => bpf.linkCreate(fd, target));
  const idOf = (fd: number): number => {
    const info = bpf.progInfo(fd);
    if (typeof info === 'number') throw new Error(`progInfo: ${info}`);
    return info.id;
  };
  const attached = (): number | undefined =>
    (JSON.parse(namespace.ip('-json', 'link', 'show', 'v0')) as [{ xdp?: { prog: { id: number } } }])[0].xdp
      ?.prog.id;

  it.each([
    ['driver', bpf.XDP_FLAGS_DRV_MODE],
    ['generic', bpf.XDP_FLAGS_SKB_MODE],
  ])('attaches, replaces and detaches an XDP program in %s mode', (_, flags) => {
    const [first, second] = [xdp(), xdp('r0 = 1\nexit')];
    const link = keep(create(first, { hook: 'xdp', ifindex, flags }));
    expect(attached()).toBe(idOf(first));
    expect(bpf.linkInfo(link)).toMatchObject({
      type: bpf.BPF_LINK_TYPE.XDP,
      programId: idOf(first),
      ifindex,
    });
    expect(create(second, { hook: 'xdp', ifindex, flags })).toBe(-EBUSY);

    expect(bpf.linkUpdate(link, second, second)).toBe(-EPERM);
    expect(attached()).toBe(idOf(first));
    expect(bpf.linkUpdate(link, second, first)).toBe(0);
    expect(attached()).toBe(idOf(second));
    expect(bpf.linkUpdate(link, first)).toBe(0);
    expect(bpf.linkInfo(link)).toMatchObject({ programId: idOf(first) });

    expect(bpf.linkDetach(link)).toBe(0);
    expect(attached()).toBeUndefined();
    expect(bpf.linkInfo(link)).toMatchObject({ ifindex: 0 });
    expect(bpf.linkUpdate(link, second)).toBe(-ENOLINK);
  });

  it('detaches a program when its link is closed', () => {
    const fd = xdp();
    bpf.closeFd(create(fd, { hook: 'xdp', ifindex }));
    expect(attached()).toBeUndefined();
  });

  it('refuses a device of another namespace, and a program of another kind', () => {
    expect(create(xdp(), { hook: 'xdp', ifindex: 4_000_000 })).toBe(-EINVAL);
    const tcx = program(BPF_PROG_TYPE_SCHED_CLS, bpf.LINK_ATTACH_TYPE.BPF_TCX_INGRESS);
    expect(create(tcx, { hook: 'tcx-ingress', ifindex: 4_000_000 })).toBe(-ENODEV);
    const devmap = program(BPF_PROG_TYPE_XDP, XDP_ATTACH_TYPE.BPF_XDP_DEVMAP);
    expect(create(devmap, { hook: 'xdp', ifindex })).toBe(-EINVAL);
  });

  it.each(['tcx-ingress', 'tcx-egress'] as const)('puts programs in order at %s', (hook) => {
    const attachType =
      hook === 'tcx-ingress' ? bpf.LINK_ATTACH_TYPE.BPF_TCX_INGRESS : bpf.LINK_ATTACH_TYPE.BPF_TCX_EGRESS;
    const [a, b, c] = [0, 0, 0].map(() => program(BPF_PROG_TYPE_SCHED_CLS, attachType, 'r0 = -1\nexit'));
    const link = keep(create(a!, { hook, ifindex }));
    expect(bpf.linkInfo(link)).toMatchObject({ type: bpf.BPF_LINK_TYPE.TCX, ifindex, attachType });
    expect(create(a!, { hook, ifindex })).toBe(-EEXIST);
    // Each change adds 1 to a hook's revision, which starts at 1.
    expect(create(b!, { hook, ifindex, expectedRevision: 1n })).toBe(-ESTALE);
    const before = { hook, ifindex, flags: bpf.BPF_F_BEFORE, relativeTo: a! };
    keep(create(b!, { ...before, expectedRevision: 2n }));
    keep(create(c!, { ...before, flags: bpf.BPF_F_BEFORE | bpf.BPF_F_ID, relativeTo: idOf(a!) }));
    const query = (): bpf.TcxPrograms | number => namespace.run(() => bpf.tcxPrograms(hook, ifindex));
    expect(query()).toEqual({ programIds: [b, c, a].map((fd) => idOf(fd!)), revision: 4n });
    const other = program(BPF_PROG_TYPE_SCHED_CLS, attachType, 'r0 = 2\nexit');
    expect(bpf.linkUpdate(link, other, a)).toBe(0);
    expect(bpf.linkInfo(link)).toMatchObject({ programId: idOf(other) });
    expect(bpf.linkDetach(link)).toBe(0);
    expect(bpf.linkInfo(link)).toMatchObject({ ifindex: 0 });
  });

  it('opens raw tracepoints', () => {
    const fd = program(BPF_PROG_TYPE_RAW_TRACEPOINT, 0, 'r0 = 0\nexit');
    const link = keep(bpf.rawTracepointOpen('sys_enter', fd));
    expect(bpf.linkInfo(link)).toMatchObject({
      type: bpf.BPF_LINK_TYPE.RAW_TRACEPOINT,
      programId: idOf(fd),
    });
    expect(bpf.rawTracepointOpen('no_such_tracepoint', fd)).toBe(-ENOENT);
  });

  it('goes through the ids of programs, maps and links', () => {
    const fd = xdp();
    const link = keep(create(fd, { hook: 'xdp', ifindex }));
    const map = keep(
      bpf.mapCreate({ name: 'm', type: 2, keySize: 4, valueSize: 4, maxEntries: 1, flags: 0 }),
    );
    const linkId = (bpf.linkInfo(link) as bpf.LinkInfo).id;
    const mapId = (bpf.mapInfo(map) as bpf.MapInfo).id;
    for (const [kind, id] of [
      ['program', idOf(fd)],
      ['link', linkId],
      ['map', mapId],
    ] as const) {
      const ids = bpf.allIds(kind);
      expect(ids).toContain(id);
      expect(ids).toEqual([...(ids as number[])].sort((x, y) => x - y));
    }
    expect(bpf.progInfo(keep(bpf.fdById('program', idOf(fd))))).toEqual(bpf.progInfo(fd));
    expect(bpf.mapInfo(keep(bpf.fdById('map', mapId)))).toEqual(bpf.mapInfo(map));
    expect(bpf.linkInfo(keep(bpf.fdById('link', linkId)))).toEqual(bpf.linkInfo(link));
    expect(bpf.fdById('link', 0x7fff_ffff)).toBe(-ENOENT);
  });
});
