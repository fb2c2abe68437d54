import { afterEach, describe, expect, it } from 'vitest';
import { readAssembly } from '../../bpf/assembly-object.js';
import { parseMapInput } from '../testbed/map-input.js';
import { ProgramSession, type PacketInput } from './program-session.js';
import { Workbench } from './workbench.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { probeBpf } from '../../linux/bpf-probe.js';

/** Leaves a trace of each run wherever there is state, and sends time, CPU and a random number. */
const STATEFUL = readAssembly(`.license GPL
.map counts percpu_array key=4 value=8 entries=1
.map seen lru_hash key=4 value=8 entries=4
.map sent ringbuf key=0 value=0 entries=4096
.program leave
  r6 = r1
  call bpf_ktime_get_ns
  *(u64 *)(r10 -24) = r0
  call bpf_get_smp_processor_id
  *(u64 *)(r10 -16) = r0
  call bpf_get_prandom_u32
  *(u64 *)(r10 -8) = r0
  *(u32 *)(r10 -28) = 0
  r2 = r10
  r2 += -28
  r1 = map[counts]
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  r1 = *(u64 *)(r0 +0)
  r1 += 1
  *(u64 *)(r0 +0) = r1
  r1 = map[seen]
  r2 = r10
  r2 += -8
  r3 = r10
  r3 += -24
  r4 = 0
  call bpf_map_update_elem
  r1 = map[sent]
  r2 = r10
  r2 += -24
  r3 = 24
  r4 = 0
  call bpf_ringbuf_output
out:
  r0 = 2
  exit
`);
const FRAME = new Uint8Array(60);
const noKernel = probeBpf().status === 'supported' ? '' : ' (skipped: no BPF here)';

const benches: Workbench[] = [];
afterEach(async () => {
  for (const bench of benches.splice(0)) await bench.close();
});

async function open(executor: string): Promise<ProgramSession> {
  const bench = await Workbench.open(new PluginRegistry(BUILT_IN_PLUGINS), {
    executor,
    verifiers: ['abstract'],
    runtime: { cpus: 3 },
  });
  benches.push(bench);
  const session = await ProgramSession.open(bench, STATEFUL, STATEFUL.programs[0]!);
  if ('code' in session) throw new Error(session.reason);
  return session;
}

/** Everything that a run shows: the records that it sent, and the maps. */
function look(session: ProgramSession, input?: PacketInput): unknown {
  const { verdict } = session.run(FRAME, input);
  return { verdict, sent: session.drain('sent').map(({ data }) => [...data]), maps: session.dumpMaps() };
}

describe.each(['interpreter', 'wasm', 'differential'])('a session in executor %s', (executor) => {
  it('is after a reset what it was after it was loaded, random numbers included', async () => {
    const session = await open(executor);
    const first = look(session);
    const second = look(session);
    expect(second).not.toEqual(first);
    look(session, { cpu: 2, random: 5, now: 9n });
    await session.reset();
    expect([look(session), look(session)]).toEqual([first, second]);
  });

  it('gives a program time, CPU and the random number that it was told', async () => {
    const session = await open(executor);
    session.run(FRAME, { cpu: 2, now: 0x1122334455667788n, random: 0xfffffffe });
    const [record] = session.drain('sent');
    const view = new DataView(record!.data.buffer, record!.data.byteOffset);
    expect([0, 8, 16].map((at) => view.getBigUint64(at, true))).toEqual([
      0x1122334455667788n,
      2n,
      0xfffffffen,
    ]);
  });

  it('gives a program a list of random numbers, of which the next packet sees nothing', async () => {
    const session = await open(executor);
    const drawn = (input?: PacketInput): bigint => {
      session.run(FRAME, input);
      const { data } = session.drain('sent')[0]!;
      return new DataView(data.buffer, data.byteOffset).getBigUint64(16, true);
    };
    const [first, second] = [drawn({ random: [] }), drawn()];
    await session.reset();
    expect(drawn()).toBe(first);
    // One of three is drawn.
    expect(drawn({ random: [7, 8, 9] })).toBe(7n);
    const after = drawn();
    expect([8n, second]).not.toContain(after);
    await session.reset();
    expect([drawn({ random: 7 }), drawn()]).toEqual([7n, after]);
    expect(() => session.run(FRAME, { random: Array<number>(65).fill(1) })).toThrow(
      'random: 65 numbers, 64 at most',
    );
  });

  it('takes elements, which a reset takes away again', async () => {
    const session = await open(executor);
    const entries = parseMapInput(STATEFUL, { counts: [{ key: 0, value: 40 }] }).get('counts')!;
    session.place('counts', entries);
    session.run(FRAME, { cpu: 1 });
    const count = (): number[] => [...(session.maps.get('counts')!.lookup(new Uint8Array(4)) as Uint8Array)];
    expect([0, 8, 16].map((at) => count()[at])).toEqual([40, 41, 40]);
    await session.reset();
    expect(count().every((byte) => byte === 0)).toBe(true);
  });
});

describe.skipIf(noKernel !== '')(`a session in executor kernel${noKernel}`, () => {
  it('loads again to be what it was', async () => {
    const session = await open('kernel');
    const counts = (): unknown => session.dumpMaps().find(({ name }) => name === 'counts');
    session.run(FRAME);
    const first = counts();
    session.run(FRAME);
    expect(counts()).not.toEqual(first);
    await session.reset();
    session.run(FRAME);
    expect(counts()).toEqual(first);
    for (const random of [1, [1, 2]])
      expect(() => session.run(FRAME, { random })).toThrow(/random numbers of its own/);
  });
});

it('says which CPUs there are', async () => {
  const session = await open('interpreter');
  expect(() => session.run(FRAME, { cpu: 3 })).toThrow('there is no CPU 3: there are 0 to 2');
});
