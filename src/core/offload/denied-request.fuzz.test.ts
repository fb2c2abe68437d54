import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { InterpreterExecutor } from '../../../plugins/executor-interpreter/interpreter-executor.js';
import {
  MemoryMapBackend,
  SUPPORTED_MAP_TYPES,
} from '../../../plugins/map-backend-memory/memory-map-backend.js';
import { StructuralVerifier } from '../../../plugins/verifier-structural/structural-verifier.js';
import { assemble } from '../../bpf/assembler.js';
import { encodeInsns } from '../../bpf/insn.js';
import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import { OffloadRig } from '../../conformance/offload/offload-rig.js';
import { SeededRandom } from '../../conformance/verifier/index.js';
import type { LoadedProgram } from '../contract/executor.js';
import type { Party } from '../contract/party.js';
import type { ChainedPolicy, Policy, Ruling } from '../contract/policy.js';
import { chained } from './policy-chain.js';
import type { BpfRequest, LookupElem } from './protocol/control-protocol.js';
import { RFC_2019 } from './protocol/rfc-2019/rfc-2019.js';

const SEEDS = 4;
const REQUESTS = 1200;

/** A device, and all that its host holds on behalf of the guest, as one text. */
class ObservedHost {
  readonly #runtime = new BpfRuntime({ memoryBytes: 4 * 1024 * 1024 });
  readonly #open = new Set<LoadedProgram>();
  readonly rig: OffloadRig;

  constructor(policies: readonly ChainedPolicy[]) {
    const executor = new InterpreterExecutor(this.#runtime);
    const host: Party = {
      name: 'host',
      cpus: 1,
      mapBackend: new MemoryMapBackend(this.#runtime),
      verifier: new StructuralVerifier(),
      executor: {
        name: 'observed',
        load: async (program, environment) => {
          const loaded: Writable<LoadedProgram> = await executor.load(program, environment);
          this.#open.add(loaded);
          const close = loaded.close.bind(loaded);
          loaded.close = () => {
            this.#open.delete(loaded);
            close();
          };
          return loaded;
        },
      },
    };
    const limits = { maxObjects: 32, mapTypes: SUPPORTED_MAP_TYPES };
    this.rig = new OffloadRig({ host, guest: host, policies, device: { limits } });
  }

  /** Objects and accounts, every byte of every map and of its bookkeeping, programs, and what is in the place. */
  dump(): string {
    const { space } = this.#runtime;
    const bytes = createHash('sha256');
    const regions = space.regions.map(({ start, size, label }) => {
      bytes.update(space.read(start, size));
      return [start, size, label];
    });
    const { device, accounts, place } = this.rig;
    return JSON.stringify({
      objects: device.objectCount,
      usage: accounts.usageOf('guest0'),
      total: accounts.totalUsage(),
      regions,
      bytes: bytes.digest('hex'),
      programs: [...this.#open].map(({ id }) => id),
      attached: place.program?.id ?? null,
      done: place.history.length,
    });
  }
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

/** Requests of a guest that mostly makes sense, on the maps it was given. */
class Guest {
  readonly #maps: { handle: number; keySize: number; valueSize: number }[] = [];

  constructor(readonly random: SeededRandom) {}

  next(): BpfRequest {
    const { random } = this;
    const forged = { handle: random.u32() & 0x7fff_ffff, keySize: 4, valueSize: 8 };
    const anyOf = (maps: readonly (typeof forged)[]): typeof forged =>
      maps.length > 0 && random.chance(95) ? random.pick(maps) : forged;
    // A command on an element without a key is no command.
    const map = anyOf(this.#maps.filter(({ keySize }) => keySize > 0));
    const element: Omit<LookupElem, 'kind'> = {
      handle: map.handle,
      key: new Uint8Array(map.keySize).fill(0).map((_, index) => (index === 0 ? random.below(4) : 0)),
      valueSize: map.valueSize,
    };
    switch (random.below(9)) {
      case 0: {
        const mapType = random.pick(SUPPORTED_MAP_TYPES);
        return {
          kind: 'create-map',
          mapType,
          keySize: random.pick([0, 4, 4, 4, 8]),
          valueSize: random.pick([0, 4, 8, 8]),
          // Bytes of a ring, in whole pages.
          maxEntries: mapType === BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF ? 4096 : random.pick([1, 4, 16]),
          mapFlags: random.pick([0, 0, 0, 1]),
        };
      }
      case 1:
        return { kind: 'free-map', handle: anyOf(this.#maps).handle };
      case 2:
      case 3:
        return {
          kind: 'update-elem',
          handle: map.handle,
          key: element.key,
          value: random.bytes(map.valueSize),
          flags: BigInt(random.below(3)),
        };
      case 4:
        return { kind: 'lookup-elem', ...element };
      case 5:
        return { kind: 'delete-elem', ...element };
      case 6:
        return { kind: 'get-next', ...element };
      case 7: {
        const maps = new Map([['m', map.handle | 0]]);
        const text = random.pick(['r0 = 2\nexit', 'r1 = map[m]\nr0 = 1\nexit']);
        return { kind: 'set-offload', insns: encodeInsns(assemble(text, { maps })), gplCompatible: true };
      }
      default:
        return { kind: random.chance(20) ? 'unset-offload' : 'get-first', ...map };
    }
  }

  learn(request: BpfRequest, answer: Uint8Array): void {
    const reply = RFC_2019.decodeReply(request, RFC_2019.encodeRequest(request), answer);
    if (!reply.ok || reply.reply.kind === 'error') return;
    if (request.kind === 'create-map' && reply.reply.kind === 'handle') {
      this.#maps.push({ ...request, handle: reply.reply.handle });
    }
    if (request.kind === 'free-map' && this.random.chance(80)) {
      this.#maps.splice(
        this.#maps.findIndex(({ handle }) => handle === request.handle),
        1,
      );
    }
  }
}

describe('a denied request', () => {
  it(`changes nothing, whatever it was and whoever denied it: ${SEEDS} × ${REQUESTS} requests`, async () => {
    const denied = new Map<string, number>();
    for (let seed = 1; seed <= SEEDS; seed++) {
      const random = new SeededRandom(seed);
      const guest = new Guest(new SeededRandom(1000 + seed));
      let denials = 0;
      const atRandom = (operation: string, dryRun: boolean): Ruling => {
        if (!random.chance(15)) return { ruling: 'allow', reason: '' };
        if (!dryRun) {
          denials++;
          denied.set(operation, (denied.get(operation) ?? 0) + 1);
        }
        return { ruling: 'deny', reason: 'at random' };
      };
      const mayDeny = (name: string, place: Omit<ChainedPolicy, keyof Policy>): ChainedPolicy =>
        chained(
          {
            name,
            rule: ({ operation }) => atRandom(operation, place.dryRun === true),
            ...(name === 'b' ? {} : { admit: () => atRandom('command', place.dryRun === true) }),
          },
          place,
        );
      const endsChain = seed % 2 === 0;
      const guarded = new ObservedHost([
        mayDeny('a', { endsChain }),
        mayDeny('dry', { dryRun: true, endsChain }),
        mayDeny('b', { endsChain }),
      ]);
      // Gets only what the other one did not deny: what was denied must not show there either, in handles, say.
      const free = new ObservedHost([]);
      for (let count = 0; count < REQUESTS; count++) {
        const request = guest.next();
        const bytes = RFC_2019.encodeRequest(request);
        const room = RFC_2019.replyBytes(request);
        const before = guarded.dump();
        denials = 0;
        const answer = await guarded.rig.sendBytes(bytes, room);
        if (denials > 0) {
          expect(guarded.dump(), request.kind).toBe(before);
          continue;
        }
        expect(await free.rig.sendBytes(bytes, room), request.kind).toEqual(answer);
        expect(guarded.dump(), request.kind).toBe(free.dump());
        guest.learn(request, answer);
      }
      expect(guarded.rig.device.statistics.refusals.internal).toBe(0);
      const { acks } = free.rig.device.statistics;
      expect(acks.ok).toBeGreaterThan(REQUESTS / 8);
    }
    // Each kind of request was denied, and often.
    for (const operation of [
      'command',
      'map-create',
      'map-free',
      'map-lookup',
      'map-update',
      'map-delete',
      'map-next-key',
      'program-load',
      'program-attach',
    ]) {
      expect(denied.get(operation) ?? 0, operation).toBeGreaterThan(20);
    }
  });
});
