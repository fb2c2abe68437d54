import { describe, expect, it } from 'vitest';
import { InterpreterExecutor } from '../../../plugins/executor-interpreter/interpreter-executor.js';
import { MemoryMapBackend } from '../../../plugins/map-backend-memory/memory-map-backend.js';
import { StructuralVerifier } from '../../../plugins/verifier-structural/structural-verifier.js';
import { assemble } from '../../bpf/assembler.js';
import { encodeInsns } from '../../bpf/insn.js';
import { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import { OffloadRig } from '../../conformance/offload/offload-rig.js';
import type { LoadedProgram } from '../contract/executor.js';
import type { Party } from '../contract/party.js';
import type { BpfRequest } from './protocol/control-protocol.js';
import { VIRTIO_NET_OK } from '../../virtio/index.js';
import { randomStream } from '../run/random.js';

const ROUNDS = 200;
const STEPS = 60;

const ARRAY = { mapType: 2, keySize: 4, valueSize: 8, maxEntries: 4, mapFlags: 0 };

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Verifier, executor and place that take a random time and fail at random, until they are told to behave. */
function erratic(random: () => number) {
  let behaves = false;
  const waiting: (() => void)[] = [];
  const whenever = async (failureRate: number): Promise<void> => {
    if (behaves) return;
    if (random() < 0.4) await new Promise<void>((resolve) => waiting.push(resolve));
    if (!behaves && random() < failureRate) throw new Error('out of order');
  };
  const runtime = new BpfRuntime({ memoryBytes: 4 * 1024 * 1024 });
  const verifier = new StructuralVerifier();
  const executor = new InterpreterExecutor(runtime);
  const open = new Set<LoadedProgram>();
  const faults: string[] = [];
  const host: Party = {
    name: 'host',
    cpus: 1,
    mapBackend: new MemoryMapBackend(runtime),
    verifier: {
      name: 'whenever',
      verify: async (request) => {
        await whenever(0.05);
        return verifier.verify(request);
      },
    },
    executor: {
      name: 'whenever',
      load: async (program, environment) => {
        await whenever(0.05);
        const loaded: LoadedProgram = await executor.load(program, environment);
        open.add(loaded);
        const close = loaded.close.bind(loaded);
        loaded.close = () => {
          if (rig.place.program === loaded) faults.push('closed in its place');
          if (!open.delete(loaded)) faults.push('closed twice');
          close();
        };
        return loaded;
      },
    },
  };
  const rig = new OffloadRig({
    host,
    guest: host,
    device: { limits: { maxObjects: 8, maxPendingCommands: 16 } },
  });
  /** Commands that were done, in the order in which they were answered. */
  const done: number[] = [];
  let commands = 0;
  const handle = rig.device.handle.bind(rig.device);
  rig.device.handle = (readable, room) => {
    const number = commands++;
    const note = (response: Uint8Array): Uint8Array => {
      if (response.at(-1) === VIRTIO_NET_OK) done.push(number);
      return response;
    };
    const answer = handle(readable, room);
    return answer instanceof Uint8Array ? note(answer) : answer.then(note);
  };
  const { place } = rig;
  place.onAttach = () => whenever(0.2);
  place.onReplace = () => whenever(0.2);
  place.onDetach = () => whenever(0.3);
  return {
    rig,
    runtime,
    faults,
    open,
    done,
    /** Lets one go that waits. */
    release: (): void => waiting.splice(Math.floor(random() * waiting.length), 1)[0]?.(),
    behave: (): void => {
      behaves = true;
      for (const go of waiting.splice(0)) go();
    },
  };
}

describe('commands and resets in any order, with plugins that take their time and fail', () => {
  it('leave nothing, close nothing in its place, answer everything in order', async () => {
    let attached = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const numbers = randomStream(BigInt(round), 'interleaving');
      const random = (): number => numbers() / 2 ** 32;
      const { rig, runtime, faults, open, done, release, behave } = erratic(random);
      const before = runtime.space.bytesInUse;
      const handles: number[] = [0x1000];
      const sent: Promise<void>[] = [];
      const anyHandle = (): number => handles[Math.floor(random() * handles.length)]!;
      const send = async (request: BpfRequest): Promise<void> => {
        const reply = await rig.send(request);
        if (reply.kind === 'handle') handles.push(reply.handle);
        if (request.kind === 'set-offload' && reply.kind === 'done') attached++;
      };
      for (let step = 0; step < STEPS; step++) {
        const what = random();
        if (what < 0.2) {
          sent.push(send({ kind: 'create-map', ...ARRAY }));
        } else if (what < 0.45) {
          const maps = new Map([['m', anyHandle()]]);
          const insns = encodeInsns(assemble('r1 = map[m]\nr0 = 2\nexit', { maps }));
          sent.push(send({ kind: 'set-offload', insns, gplCompatible: true }));
        } else if (what < 0.55) {
          sent.push(send({ kind: 'unset-offload' }));
        } else if (what < 0.65) {
          sent.push(send({ kind: 'free-map', handle: anyHandle() }));
        } else if (what < 0.68) {
          void rig.device.reset();
        } else if (what < 0.93) {
          release();
        } else {
          await turn();
        }
        expect(rig.device.objectCount).toBeLessThanOrEqual(8);
      }
      behave();
      await Promise.all(sent);
      await rig.device.idle();
      // What is in the place is what the device thinks is there.
      expect(rig.device.attachedProgram).toBe(rig.place.program);
      expect(rig.accounts.usageOf('guest0').programs).toBe(open.size);
      await rig.device.unplug();
      await rig.device.idle();
      expect(faults).toEqual([]);
      expect(done).toEqual(done.toSorted((a, b) => a - b));
      expect(rig.place.program).toBeUndefined();
      expect(open.size).toBe(0);
      expect(rig.device.objectCount).toBe(0);
      expect(rig.accounts.guests).toEqual([]);
      expect(runtime.space.bytesInUse).toBe(before);
    }
    expect(attached).toBeGreaterThan(ROUNDS);
  });
});
