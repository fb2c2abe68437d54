import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { AbstractVerifier } from '../../../plugins/verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../../../plugins/verifier-abstract/config.js';
import { assemble } from '../../bpf/assembler.js';
import { Btf } from '../../bpf/btf/btf.js';
import { ElfFile } from '../../bpf/elf/elf-file.js';
import { EACCES, EBADF, EBUSY, EINVAL, ENOLINK, EPERM } from '../../bpf/errno.js';
import { encodeInsns } from '../../bpf/insn.js';
import { concatenate } from '../../virtio/concatenate.js';
import { BpfOffloadGuest } from '../../conformance/offload/bpf-offload-guest.js';
import { hex, normative } from '../../conformance/offload/normative.js';
import { u32Key, type OffloadRigOptions } from '../../conformance/offload/offload-rig.js';
import type { Policy } from '../contract/policy.js';
import { ProgramHook } from './program-hook.js';
import type { BpfRequest } from './protocol/control-protocol.js';
import { NO_USAGE } from './quota-accounts.js';
import { testingParty, type TestingParty } from './testing-party.js';

function party(name: string): TestingParty {
  return testingParty(name, { mebibytes: 16, verifier: new AbstractVerifier(DEFAULT_CONFIG) });
}

function guest(options: Partial<OffloadRigOptions> = {}): BpfOffloadGuest {
  return new BpfOffloadGuest({ host: party('host'), guest: party('guest'), ...options });
}

/** A device whose offloaded programs can be run. */
function running(): { g: BpfOffloadGuest; place: ProgramHook; run: () => string } {
  const place = new ProgramHook('guest0.eth0', 2);
  const g = guest({ device: { place } });
  return { g, place, run: () => place.runOn(new Uint8Array(64)).action };
}

const insns = (text: string, maps: Record<string, number> = {}): Uint8Array =>
  encodeInsns(assemble(text, { maps: new Map(Object.entries(maps)) }));
const ABORTED = insns('r0 = 0\nexit');
const DROP = insns('r0 = 1\nexit');
const PASS = insns('r0 = 2\nexit');
const TX = insns('r0 = 3\nexit');
const load = (bytes: Uint8Array): BpfRequest => ({
  kind: 'load-program',
  name: '',
  insns: bytes,
  gplCompatible: true,
  frags: false,
});
const PROG_ARRAY = { mapType: 3, valueSize: 4 };
const put = (handle: number, index: number, object: number): BpfRequest => ({
  kind: 'update-elem',
  handle,
  key: u32Key(index),
  value: u32Key(object),
  flags: 0n,
});
const TAIL_CALL = 'r2 = map[j]\nr3 = 0\ncall bpf_tail_call\nr0 = 1\nexit';

describe('PROG_LOAD', () => {
  normative('dev-prog-load', 'holds a program, and attaches it nowhere', async () => {
    const g = guest();
    await g.program(PASS);
    expect(g.place.history).toEqual([]);
    expect(g.accounts.usageOf('guest0')).toMatchObject({ programs: 1, insns: 2 });
  });

  normative('dev-prog-verify', 'holds none that the verifier rejects, and tells why', async () => {
    const g = guest();
    for (const text of [
      'exit',
      'r0 = *(u64 *)(r1 +4096)\nexit',
      'r1 = 5\ncall bpf_map_lookup_elem\nexit',
      'r0 = 2',
    ]) {
      const reply = await g.send(load(insns(text)));
      expect(reply, text).toMatchObject({ kind: 'error', errno: EACCES });
      expect(reply.kind === 'error' && reply.message).toContain('abstract');
    }
    expect(g.device.objectCount).toBe(0);
    expect(g.accounts.usageOf('guest0')).toEqual(NO_USAGE);
  });

  it('is not taken apart when it is longer than policies grant', async () => {
    const asked: string[] = [];
    const grants: Policy = {
      name: 'guard',
      grants: () => ({ insns: 4 }),
      // Says nothing of lengths: what is refused is refused before it is asked.
      rule: ({ operation }) => {
        asked.push(operation);
        return { ruling: 'allow', reason: 'fine' };
      },
    };
    const g = guest({ policies: [grants] });
    // What its insns name is found out when they are decoded, and is refused then (EBADF).
    const naming = (more: string): BpfRequest => load(insns(`r1 = map[m]\n${more}r0 = 2\nexit`, { m: 4095 }));
    expect(await g.errno(naming(''))).toBe(EBADF);
    expect(await g.errno(naming('r0 = 2\n'))).toBe(EINVAL);
    expect(g.audit.at(-1)!.reason).toContain('insn_count 5');
    expect(await g.errno(load(insns('r0 = 2\n'.repeat(4) + 'exit')))).toBe(EINVAL);
    expect(asked).toEqual([]);
    expect(await g.errno(load(insns('r0 = 2\n'.repeat(3) + 'exit')))).toBeUndefined();
    expect(asked).toEqual(['program-load', 'program-attach']);
  });

  normative(
    ['dev-prog-handles', 'dev-prog-host-names'],
    'takes handles of maps in insns, and nothing that names what is the host’s',
    async () => {
      const g = guest();
      const map = await g.map();
      const btf = await g.program(PASS);
      for (const handle of [0, 3, 4095, map + 4096, btf]) {
        expect(await g.errno(load(insns('r1 = map[m]\nr0 = 2\nexit', { m: handle })))).toBe(EBADF);
      }
      // lddw with BPF_PSEUDO_MAP_IDX (5), BPF_PSEUDO_BTF_ID (3); call of a kfunc (src 2).
      for (const bytes of [
        '18 51 00 00 00 00 00 00 | 00 00 00 00 00 00 00 00 | b7 00 00 00 02 00 00 00 | 95 00 00 00 00 00 00 00',
        '18 31 00 00 01 00 00 00 | 00 00 00 00 00 00 00 00 | b7 00 00 00 02 00 00 00 | 95 00 00 00 00 00 00 00',
        '85 20 00 00 01 00 00 00 | b7 00 00 00 02 00 00 00 | 95 00 00 00 00 00 00 00',
      ]) {
        expect(await g.errno(load(hex(bytes))), bytes).toBe(EBADF);
      }
      expect(await g.errno(load(insns('r1 = map[m]\nr0 = 2\nexit', { m: map })))).toBeUndefined();
    },
  );

  normative(
    'dev-prog-keeps-maps',
    'keeps the maps of a program, which it reads and writes whoever names them',
    async () => {
      const { g, run } = running();
      const map = await g.map({ maxEntries: 1, name: 'hits' });
      const count = insns(
        `*(u32 *)(r10 -4) = 0
       r2 = r10
       r2 += -4
       r1 = map[hits]
       call bpf_map_lookup_elem
       if r0 == 0 goto pc+2
       r1 = 1
       lock *(u64 *)(r0 +0) += r1
       r0 = 2
       exit`,
        { hits: map },
      );
      const program = await g.program(count);
      await g.link(program);
      await g.close(map);
      await g.close(program);
      for (let frame = 0; frame < 3; frame++) expect(run()).toBe('XDP_PASS');
      const again = await g.handle({ kind: 'open-by-id', object: 'map', id: 1 });
      const { value } = await g.expect('value', {
        kind: 'lookup-elem',
        handle: again,
        key: u32Key(0),
        valueSize: 8,
      });
      expect([...value]).toEqual([3, 0, 0, 0, 0, 0, 0, 0]);
      expect(g.accounts.usageOf('guest0').maps).toBe(1);
    },
  );

  normative(
    ['dev-prog-debug', 'dev-prog-debug-keeps'],
    'takes functions and lines that its BTF has, and keeps that',
    async () => {
      const file = readFileSync(new URL('../../../testbeds/programs/xdp2.o', import.meta.url));
      const elf = new ElfFile(file);
      const section = Uint8Array.from(elf.bytesOf(elf.section('.BTF')!));
      const types = new Btf(section);
      let fn = 1;
      while (types.type(fn).kind !== 'FUNC') fn++;
      const g = guest();
      const btf = await g.handle({ kind: 'load-btf', bytes: section });
      const functions = (...words: number[]) => new Uint8Array(Uint32Array.from(words).buffer);
      const of = (func: Uint8Array, lines: Uint8Array, handle = btf): BpfRequest => ({
        kind: 'load-program',
        name: 'main',
        insns: PASS,
        gplCompatible: true,
        frags: false,
        debug: { btf: handle, functions: func, lines },
      });
      const none = new Uint8Array();
      expect(await g.errno(of(none, none, 4095))).toBe(EBADF);
      // Of a type that is no function, behind the last insn, twice the same insn; a line with a string behind the table.
      for (const request of [
        of(functions(0, 1), none),
        of(functions(2, fn), none),
        of(functions(0, fn, 0, fn), none),
        of(none, functions(0, 0xffff_ffff, 0, 0)),
        of(none, functions(1, 0, 0, 0, 1, 0, 0, 0)),
      ]) {
        expect(await g.errno(request)).toBe(EINVAL);
      }
      const program = await g.handle(of(functions(0, fn), functions(0, 1, 1, (7 << 10) | 3)));
      expect((await g.info('program', program)).btf).toBe(1);
      await g.close(btf);
      expect(g.accounts.usageOf('guest0').btfMemory).toBe(section.length);
      await g.close(program);
      expect(g.accounts.usageOf('guest0')).toEqual(NO_USAGE);
    },
  );

  normative(
    'dev-prog-frags',
    'keeps programs for frames in several buffers and others apart in a PROG_ARRAY',
    async () => {
      const g = guest();
      const jumps = await g.map(PROG_ARRAY);
      await g.expect('done', put(jumps, 0, await g.program(PASS, { frags: true })));
      expect(await g.errno(put(jumps, 1, await g.program(PASS)))).toBe(EINVAL);
      expect(await g.errno(load(insns(TAIL_CALL, { j: jumps })))).toBe(EINVAL);
      expect(await g.program(insns(TAIL_CALL, { j: jumps }), { frags: true })).toBeGreaterThan(0);
      // Also where the first program is one that uses the array.
      const used = await g.map(PROG_ARRAY);
      await g.program(insns(TAIL_CALL, { j: used }));
      expect(await g.errno(put(used, 0, await g.program(PASS, { frags: true })))).toBe(EINVAL);
    },
  );

  normative(
    'dev-prog-tail-call',
    'lets programs go on in others, as the PROG_ARRAY has them at that moment',
    async () => {
      const { g, run } = running();
      const jumps = await g.map(PROG_ARRAY);
      const caller = await g.program(insns(TAIL_CALL, { j: jumps }));
      await g.link(caller);
      expect(run()).toBe('XDP_DROP');
      const target = await g.program(TX);
      await g.expect('done', put(jumps, 0, target));
      await g.close(target);
      expect(run()).toBe('XDP_TX');
      await g.expect('done', put(jumps, 0, await g.program(PASS)));
      expect(run()).toBe('XDP_PASS');
      await g.expect('done', { kind: 'delete-elem', handle: jumps, key: u32Key(0), valueSize: 4 });
      expect(run()).toBe('XDP_DROP');
    },
  );

  it('asks the policies about a program that is put into a PROG_ARRAY, and puts none that they deny', async () => {
    const place = new ProgramHook('guest0.eth0', 2);
    const asked: unknown[] = [];
    const policy: Policy = {
      name: 'one insn less',
      rule: (request) => {
        if (request.operation !== 'map-update') return { ruling: 'allow', reason: '' };
        asked.push(request.programs);
        const denied = request.programs?.some(({ properties }) => (properties?.worstCaseInsns ?? 0) > 2);
        return denied === true
          ? { ruling: 'deny', reason: 'too long', errno: EPERM }
          : { ruling: 'allow', reason: '' };
      },
    };
    const g = guest({ device: { place }, policies: [policy] });
    const jumps = await g.map(PROG_ARRAY);
    await g.link(await g.program(insns(TAIL_CALL, { j: jumps })));
    const run = () => place.runOn(new Uint8Array(64)).action;
    const long = await g.program(insns('r0 = 3\nr0 = 3\nexit'));
    expect(await g.errno(put(jumps, 0, long))).toBe(EPERM);
    expect(run()).toBe('XDP_DROP');
    await g.expect('done', put(jumps, 0, await g.program(TX)));
    expect(run()).toBe('XDP_TX');
    // None that it has: what is there is denied for that, and not by a policy that knew nothing of it.
    expect(await g.errno(put(jumps, 0, 12345))).toBe(EBADF);
    const ofThree = { summary: { insnCount: 3 }, properties: { worstCaseInsns: 3 } };
    const ofTwo = { summary: { insnCount: 2 }, properties: { worstCaseInsns: 2 } };
    expect(asked).toMatchObject([[ofThree], [ofTwo], []]);
    // Nor are there any in a batch that they were not asked about.
    const short = await g.program(TX);
    const batch = (...programs: number[]) => ({
      kind: 'update-batch' as const,
      handle: jumps,
      keySize: 4,
      valueSize: 4,
      count: programs.length,
      keys: concatenate(programs.map((_, index) => u32Key(index))),
      values: concatenate(programs.map(u32Key)),
      flags: 0n,
    });
    expect(await g.errno(batch(short, long, long))).toBe(EPERM);
    expect(asked.at(-1)).toMatchObject([ofTwo, ofThree]);
    await g.expect('count', batch(short, short));
    expect(asked.at(-1)).toMatchObject([ofTwo]);
    const hash = await g.map({ mapType: 1, keySize: 4, valueSize: 4 });
    await g.expect('done', put(hash, 0, long));
    expect(asked.at(-1)).toBeUndefined();
  });

  normative(
    'dev-prog-array-attached',
    'finds a PROG_ARRAY empty whose last name went, although it goes on using it',
    async () => {
      const { g, run } = running();
      const jumps = await g.map(PROG_ARRAY);
      await g.link(await g.program(insns(TAIL_CALL, { j: jumps })));
      await g.expect('done', put(jumps, 0, await g.program(TX)));
      expect(run()).toBe('XDP_TX');
      await g.close(jumps);
      expect(run()).toBe('XDP_DROP');
      const again = await g.handle({ kind: 'open-by-id', object: 'map', id: 1 });
      await g.expect('done', put(again, 0, await g.program(PASS)));
      expect(run()).toBe('XDP_PASS');
    },
  );
});

describe('a link', () => {
  normative(
    ['dev-link-create', 'dev-link-busy'],
    'attaches a program where none is, and keeps it',
    async () => {
      const { g, place, run } = running();
      const program = await g.program(TX);
      await g.link(program);
      await g.close(program);
      expect(run()).toBe('XDP_TX');
      const other = await g.program(DROP);
      expect(await g.errno({ kind: 'create-link', program: other, hook: 0 })).toBe(EBUSY);
      expect(run()).toBe('XDP_TX');
      await g.close(other);
      // Of what failed nothing is left.
      expect(g.device.objectCount).toBe(2);
      expect(place.isEmpty).toBe(false);
    },
  );

  normative('dev-link-hook', 'is at a hook point that there is', async () => {
    const g = guest();
    const program = await g.program(PASS);
    for (const hook of [1, 37, 0xffff_ffff])
      expect(await g.errno({ kind: 'create-link', program, hook })).toBe(EINVAL);
    expect(g.place.history).toEqual([]);
  });

  normative(
    'dev-link-update',
    'is updated in one step: nothing is detached, and what was there goes',
    async () => {
      const g = guest();
      const first = await g.program(DROP);
      const link = await g.link(first);
      await g.close(first);
      const next = await g.program(TX);
      await g.expect('done', { kind: 'update-link', link, program: next });
      expect(g.place.history).toEqual(['attach', 'replace']);
      expect(g.accounts.usageOf('guest0').programs).toBe(1);
      expect((await g.info('link', link)).program).toBe(2);
    },
  );

  normative('dev-link-update-fails', 'keeps its program when an update fails', async () => {
    const g = guest();
    const link = await g.link(await g.program(DROP));
    const next = await g.program(TX);
    g.place.onReplace = async () => {
      throw new RangeError('no');
    };
    expect(await g.errno({ kind: 'update-link', link, program: next })).toBe(EBUSY);
    expect((await g.info('link', link)).program).toBe(1);
    await g.close(next);
    expect(g.accounts.usageOf('guest0').programs).toBe(1);
  });

  normative('dev-link-expected', 'is updated only if the program is there that is expected', async () => {
    const { g, run } = running();
    const [a, b] = [await g.program(DROP), await g.program(TX)];
    const link = await g.link(a);
    expect(await g.errno({ kind: 'update-link', link, program: b, expected: b })).toBe(EPERM);
    expect(run()).toBe('XDP_DROP');
    await g.expect('done', { kind: 'update-link', link, program: b, expected: a });
    expect(run()).toBe('XDP_TX');
    // Another handle of the same program is the same program.
    const again = await g.handle({ kind: 'open-by-id', object: 'program', id: 2 });
    await g.expect('done', { kind: 'update-link', link, program: a, expected: again });
  });

  normative(
    ['dev-link-detach', 'dev-link-detached'],
    'that is detached stays so, and another may take its place',
    async () => {
      const { g, place } = running();
      const program = await g.program(DROP);
      const link = await g.link(program);
      await g.expect('done', { kind: 'detach-link', link });
      expect(place.isEmpty).toBe(true);
      expect((await g.info('link', link)).program).toBe(0);
      await g.expect('done', { kind: 'detach-link', link });
      expect(await g.errno({ kind: 'update-link', link, program })).toBe(ENOLINK);
      expect(place.isEmpty).toBe(true);
      const other = await g.link(program);
      expect(await g.errno({ kind: 'update-link', link, program })).toBe(ENOLINK);
      await g.expect('done', { kind: 'detach-link', link });
      await g.close(link);
      expect((await g.info('link', other)).program).toBe(1);
      expect(place.isEmpty).toBe(false);
    },
  );

  normative(
    ['dev-link-close', 'dev-link-pin'],
    'leaves its place with its last name, and before that is answered',
    async () => {
      const g = guest();
      const program = await g.program(DROP);
      const link = await g.link(program);
      let detached = false;
      g.place.onDetach = async () => {
        await new Promise((resolve) => setTimeout(resolve, 10));
        detached = true;
      };
      await g.expect('done', { kind: 'pin', handle: link, name: 'l' });
      await g.close(link);
      expect(g.place.program).toBeDefined();
      await g.expect('done', { kind: 'unpin', name: 'l' });
      expect(detached).toBe(true);
      expect(g.place.program).toBeUndefined();
      detached = false;
      const other = await g.link(program);
      await g.close(other);
      expect(detached).toBe(true);
      await g.close(program);
      expect(g.accounts.usageOf('guest0')).toEqual(NO_USAGE);
    },
  );

  normative(
    ['dev-link-verdicts', 'dev-report-verdicts'],
    'tells what its programs returned; REPORT what those of all links did',
    async () => {
      const { g, run } = running();
      const link = await g.link(await g.program(DROP));
      for (let frame = 0; frame < 3; frame++) run();
      await g.expect('done', { kind: 'update-link', link, program: await g.program(ABORTED) });
      run();
      const counts = { XDP_ABORTED: 1, XDP_DROP: 3, XDP_PASS: 0, XDP_TX: 0, XDP_REDIRECT: 0 };
      expect((await g.info('link', link)).verdicts).toEqual(counts);
      await g.close(link);
      await g.link(await g.program(TX));
      run();
      const { report } = await g.expect('report', { kind: 'get-report' });
      expect(report.verdicts).toEqual({ ...counts, XDP_TX: 1 });
    },
  );
});
