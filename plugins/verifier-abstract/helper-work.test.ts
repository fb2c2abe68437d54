import { describe, expect, it } from 'vitest';
import { readAssembly } from '../../src/bpf/assembly-object.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import type { Executor } from '../../src/core/contract/executor.js';
import type { Party } from '../../src/core/contract/party.js';
import { loadObjectProgram } from '../../src/core/offload/load-program.js';
import { InterpreterExecutor } from '../executor-interpreter/interpreter-executor.js';
import { WasmExecutor } from '../executor-wasm/wasm-executor.js';
import { MemoryMapBackend } from '../map-backend-memory/memory-map-backend.js';
import { AbstractVerifier } from './abstract-verifier.js';
import { DEFAULT_CONFIG } from './config.js';

/** Programs whose helpers do work that executors charge for; each is far shorter than what its run is charged. */
const PROGRAMS: Readonly<Record<string, string>> = {
  'a value of 8000 bytes is copied': `
    .map big hash key=4 value=8000 entries=2
    .map from array key=4 value=8000 entries=1
      *(u32 *)(r10 -4) = 0
      r1 = map[from]
      r2 = r10
      r2 += -4
      call bpf_map_lookup_elem
      if r0 == 0 goto out
      r3 = r0
      r1 = map[big]
      r2 = r10
      r2 += -4
      r4 = 0
      call bpf_map_update_elem
    out:
      r0 = 2
      exit`,
  'a per-CPU element is made': `
    .map big percpu_hash key=4 value=2000 entries=2
    .map from array key=4 value=2000 entries=1
      *(u32 *)(r10 -4) = 0
      r1 = map[from]
      r2 = r10
      r2 += -4
      call bpf_map_lookup_elem
      if r0 == 0 goto out
      r3 = r0
      r1 = map[big]
      r2 = r10
      r2 += -4
      r4 = 0
      call bpf_map_update_elem
    out:
      r0 = 2
      exit`,
  'a text is made of which most is cut, and a buffer cleared that gets none': `
    .map format array key=4 value=8 entries=1 flags=0x80 frozen data=2539393939396400
    .map out array key=4 value=8000 entries=1
      *(u64 *)(r10 -8) = 7
      r1 = map[out][0]+0
      r2 = 8000
      r3 = map[format][0]+0
      r4 = r10
      r4 += -8
      r5 = 8
      call bpf_snprintf
      r1 = map[out][0]+0
      r2 = 8000
      r3 = map[format][0]+0
      r4 = 0
      r5 = 0
      call bpf_snprintf
      r0 = 2
      exit`,
  'more bytes are asked of a packet than it has': `
    .map out array key=4 value=8000 entries=1
      r2 = 0
      r3 = map[out][0]+0
      r4 = 8000
      call bpf_xdp_load_bytes
      r0 = 2
      exit`,
  'a checksum over a map value': `
    .map from array key=4 value=4096 entries=1
      *(u32 *)(r10 -4) = 0
      r1 = map[from]
      r2 = r10
      r2 += -4
      call bpf_map_lookup_elem
      if r0 == 0 goto out
      r3 = r0
      r1 = 0
      r2 = 0
      r4 = 4096
      r5 = 0
      call bpf_csum_diff
    out:
      r0 = 2
      exit`,
  'a record is put out': `
    .map from array key=4 value=4096 entries=1
    .map ring ringbuf key=0 value=0 entries=16384
      *(u32 *)(r10 -4) = 0
      r1 = map[from]
      r2 = r10
      r2 += -4
      call bpf_map_lookup_elem
      if r0 == 0 goto out
      r2 = r0
      r1 = map[ring]
      r3 = 4096
      r4 = 0
      call bpf_ringbuf_output
    out:
      r0 = 2
      exit`,
  'text is made of strings': `
    .map text array key=4 value=1024 entries=1 flags=0x80 frozen data=${'61'.repeat(900)}${'00'.repeat(124)}
    .map format array key=4 value=16 entries=1 flags=0x80 frozen data=${Buffer.from('%s %s %s'.padEnd(16, '\0'), 'latin1').toString('hex')}
      r1 = map[text][0]+0
      *(u64 *)(r10 -24) = r1
      *(u64 *)(r10 -16) = r1
      *(u64 *)(r10 -8) = r1
      r1 = r10
      r1 += -88
      r2 = 64
      r3 = map[format][0]+0
      r4 = r10
      r4 += -24
      r5 = 24
      call bpf_snprintf
      r0 = 2
      exit`,
  'a packet goes with a record': `
    .map events perf_event_array key=4 value=4 entries=8
      *(u64 *)(r10 -8) = 0
      r2 = map[events]
      r3 = 0x400ffffffff ll
      r4 = r10
      r4 += -8
      r5 = 8
      call bpf_perf_event_output
      r0 = 2
      exit`,
  'a hash of many elements is walked': `
    .map many hash key=512 value=8 entries=4096
      r1 = map[many]
      r2 = subprog[each]
      r3 = 0
      r4 = 0
      call bpf_for_each_map_elem
      r0 = 2
      exit
    each:
      r0 = 0
      exit`,
  'a hash of no elements is walked': `
    .map none hash key=4 value=8 entries=65536
      r1 = map[none]
      r2 = subprog[each]
      r3 = 0
      r4 = 0
      call bpf_for_each_map_elem
      r0 = 2
      exit
    each:
      r0 = 0
      exit`,
  'key and value are a little longer than what is free': `
    .map big hash key=257 value=257 entries=4
    .map from array key=4 value=520 entries=1
      r1 = map[big]
      r2 = map[from][0]+0
      r3 = map[from][0]+260
      r4 = 0
      call bpf_map_update_elem
      r0 = 2
      exit`,
  'ways are gone to the bottom of a deep trie': `
    .map many lpm_trie key=40 value=8 entries=289 flags=1
    .map deepest array key=4 value=40 entries=1 flags=0x80 frozen data=20010000${'00'.repeat(36)}
    .map from array key=4 value=8 entries=1
      r1 = map[many]
      r2 = map[deepest][0]+0
      call bpf_map_lookup_elem
      r1 = map[many]
      r2 = map[deepest][0]+0
      r3 = map[from][0]+0
      r4 = 0
      call bpf_map_update_elem
      r1 = map[many]
      r2 = map[deepest][0]+0
      call bpf_map_delete_elem
      r0 = 2
      exit`,
  'a way is gone down a trie of few entries': `
    .map many lpm_trie key=8 value=8 entries=8 flags=1
    .map deepest array key=4 value=8 entries=1 flags=0x80 frozen data=2000000000000000
      r1 = map[many]
      r2 = map[deepest][0]+0
      call bpf_map_lookup_elem
      r0 = 2
      exit`,
  'an array is walked': `
    .map many array key=4 value=8 entries=3000
      r1 = map[many]
      r2 = subprog[each]
      r3 = 0
      r4 = 0
      call bpf_for_each_map_elem
      r0 = 2
      exit
    each:
      r0 = 0
      exit`,
};

const EXECUTORS: Readonly<Record<string, (runtime: BpfRuntime) => Executor>> = {
  interpreter: (runtime) => new InterpreterExecutor(runtime),
  wasm: (runtime) => new WasmExecutor(runtime, { checked: false }),
};

async function run(text: string, executor: string, limitOf: (worstCase: number, insns: number) => number) {
  const runtime = new BpfRuntime({ cpus: 8 });
  const party: Party = {
    name: 'p',
    cpus: 8,
    mapBackend: new MemoryMapBackend(runtime),
    executor: EXECUTORS[executor]!(runtime),
    verifier: new AbstractVerifier({ ...DEFAULT_CONFIG, allowPointerLeaks: true }),
  };
  const object = readAssembly(text);
  const spec = object.programs[0]!;
  const options = { world: { trace: () => {} } };
  const probe = await loadObjectProgram(party, object, spec, options);
  if (!probe.accepted) throw new Error(probe.reason);
  const { worstCaseInsns } = probe.verification.properties!;
  probe.close();
  const insnLimit = limitOf(worstCaseInsns, spec.insns.length);
  const loaded = await loadObjectProgram(party, object, spec, { ...options, insnLimit });
  if (!loaded.accepted) throw new Error(loaded.reason);
  const many = loaded.maps.get('many');
  if (many !== undefined) {
    for (let i = 0; i < many.attributes.maxEntries; i++) {
      const key = new Uint8Array(many.attributes.keySize);
      new DataView(key.buffer).setUint32(0, i, true);
      many.update(key, new Uint8Array(8), 0n);
    }
  }
  const frames = loaded.loaded.openFrames(1);
  frames.load(0, new Uint8Array(1500));
  const outcome = loaded.loaded.run(frames, 0);
  frames.close();
  loaded.close();
  return outcome;
}

describe.each(Object.keys(EXECUTORS))('the worst case of insns, in executor %s', (executor) => {
  it.each(Object.entries(PROGRAMS))('is enough when %s', async (_, text) => {
    expect(await run(text, executor, (worstCase) => worstCase)).toEqual({ verdict: 2 });
  });

  it.each(Object.entries(PROGRAMS))('is charged for more than insns when %s', async (_, text) => {
    const outcome = await run(text, executor, (_worst, insns) => insns);
    expect(outcome.fault?.reason).toContain('is used up');
  });
});

describe('what is known of a program beside its worst case', () => {
  const properties = async (text: string) => {
    const runtime = new BpfRuntime();
    const party: Party = {
      name: 'p',
      cpus: 1,
      mapBackend: new MemoryMapBackend(runtime),
      executor: new InterpreterExecutor(runtime),
      verifier: new AbstractVerifier(DEFAULT_CONFIG),
    };
    const object = readAssembly(text);
    const loaded = await loadObjectProgram(party, object, object.programs[0]!, {
      world: { trace: () => {} },
    });
    if (!loaded.accepted) throw new Error(loaded.reason);
    loaded.close();
    return loaded.verification.properties!;
  };

  it('a walk without a bound has none in a loop of one round either', async () => {
    const { worstCaseInsns } = await properties(`
      .map inner hash key=4 value=8 entries=4
      .map outer array_of_maps key=4 value=4 entries=1 inner=inner
        r1 = 1
        r2 = subprog[once]
        r3 = 0
        r4 = 0
        call bpf_loop
        r0 = 2
        exit
      once:
        *(u32 *)(r10 -4) = 0
        r1 = map[outer]
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem
        if r0 == 0 goto out
        r1 = r0
        r2 = subprog[each]
        r3 = 0
        r4 = 0
        call bpf_for_each_map_elem
      out:
        r0 = 0
        exit
      each:
        r0 = 0
        exit`);
    expect(worstCaseInsns).toBe(Infinity);
  });

  it('a map whose value is named directly is among its map types', async () => {
    const { mapTypes } = await properties(`
      .map m array key=4 value=8 entries=1
        r1 = map[m][0]+0
        *(u64 *)(r1 +0) = 5
        r0 = 2
        exit`);
    expect(mapTypes).toEqual([BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY]);
  });
});
