import { assemble } from '../../bpf/assembler.js';
import { encodeInsns } from '../../bpf/insn.js';
import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import { BPF_OFFLOAD } from '../../core/offload/protocol/bpf-offload/bpf-offload.js';
import { encodeSyscall } from '../../core/offload/protocol/bpf-offload/syscall.js';
import { BPF_COMMAND } from '../../core/offload/protocol/bpf-offload/wire.js';
import type { BpfReply, BpfRequest, ControlProtocol } from '../../core/offload/protocol/control-protocol.js';
import { OBJECT_KINDS, type ObjectKind } from '../../core/offload/protocol/object-info.js';
import { VIRTIO_NET_CTRL_BPF } from '../../virtio/control.js';
import { randomProgram } from '../verifier/random-programs.js';
import type { SeededRandom } from '../verifier/seeded-random.js';
import type { RequestGenerator } from './request-generator.js';

const T = BPF_MAP_TYPE;
/** `m` is one of the guest's maps, or what was one. */
const PROGRAMS = [
  'r0 = 2\nexit',
  'r1 = map[m]\nr0 = 2\nexit',
  'r2 = map[m]\nr3 = 0\ncall bpf_tail_call\nr0 = 1\nexit',
  'r3 = 8\n*(u64 *)(r10 -8) = r3\nr1 = map[m]\nr2 = r10\nr2 += -8\ncall bpf_map_lookup_elem\nr0 = 2\nexit',
];
const MAP_TYPES = [
  T.BPF_MAP_TYPE_HASH,
  T.BPF_MAP_TYPE_ARRAY,
  T.BPF_MAP_TYPE_PROG_ARRAY,
  T.BPF_MAP_TYPE_PERCPU_ARRAY,
  T.BPF_MAP_TYPE_LRU_HASH,
  T.BPF_MAP_TYPE_LPM_TRIE,
  T.BPF_MAP_TYPE_ARRAY_OF_MAPS,
  T.BPF_MAP_TYPE_HASH_OF_MAPS,
  T.BPF_MAP_TYPE_QUEUE,
  T.BPF_MAP_TYPE_RINGBUF,
];
const MOST_HANDLES = 60;

interface Known {
  readonly handle: number;
  readonly kind: ObjectKind;
  readonly keySize: number;
  readonly valueSize: number;
}

/** What a guest might ask over class VIRTIO_NET_CTRL_BPF: maps of maps, tail calls, pins, links, and the same as bpf(2) calls. */
export class BpfOffloadRequests implements RequestGenerator {
  readonly protocol: ControlProtocol;
  /** Class, command, and a structure of usual size. */
  readonly headerBytes = 40;
  /** What the guest believes to have; some of it is gone, and using it must fail. */
  readonly #known: Known[] = [];

  constructor(readonly random: SeededRandom) {
    this.protocol = { ...BPF_OFFLOAD, encodeRequest: (request) => this.#encode(request) };
  }

  next(): BpfRequest {
    const { random } = this;
    const map = this.#pick('map');
    const { handle, keySize, valueSize } = map;
    const program = this.#pick('program').handle;
    const link = this.#pick('link').handle;
    const any = this.#pick(random.pick(OBJECT_KINDS)).handle;
    const key = this.#bytes(keySize);
    const name = `p${random.below(6)}`;
    const count = 1 + random.below(4);
    switch (random.below(28)) {
      case 0:
      case 1:
      case 2:
        return this.#createMap(handle);
      case 3:
      case 4: {
        // Elements that are objects are named by their handles.
        const value = random.chance(40)
          ? this.#handleBytes(random.chance(50) ? program : handle)
          : this.#bytes(valueSize);
        return { kind: 'update-elem', handle, key, value, flags: BigInt(random.below(3)) };
      }
      case 5:
        return { kind: 'lookup-elem', handle, key, valueSize };
      case 6:
        return { kind: 'lookup-and-delete-elem', handle, key, valueSize };
      case 7:
        return { kind: 'delete-elem', handle, key, valueSize };
      case 8:
        return { kind: 'get-first', handle, keySize, valueSize };
      case 9:
        return { kind: 'get-next', handle, key, valueSize };
      case 10: {
        const cursor = random.chance(50) ? undefined : this.#bytes(Math.max(4, keySize));
        return { kind: 'lookup-batch', handle, keySize, valueSize, count, cursor, remove: random.chance(30) };
      }
      case 11: {
        const keys = this.#bytes(count * keySize);
        const values = this.#bytes(count * valueSize);
        return { kind: 'update-batch', handle, keySize, valueSize, count, keys, values, flags: 0n };
      }
      case 12:
        return { kind: 'delete-batch', handle, keySize, count, keys: this.#bytes(count * keySize) };
      case 13:
        return random.chance(30)
          ? { kind: 'freeze-map', handle }
          : { kind: 'read-records', handle, bytes: 256 };
      case 14:
        return { kind: 'load-btf', bytes: random.bytes(random.below(80)) };
      case 15:
        return {
          kind: 'read-btf',
          handle: this.#pick('btf').handle,
          offset: random.below(90),
          length: random.below(90),
        };
      case 16:
      case 17:
      case 18:
        return {
          kind: 'load-program',
          name: 'fuzz',
          insns: encodeInsns(
            random.chance(20)
              ? randomProgram(random)
              : assemble(random.pick(PROGRAMS), { maps: new Map([['m', handle | 0]]) }),
          ),
          gplCompatible: random.chance(50),
          frags: random.chance(20),
        };
      case 19:
        return { kind: 'create-link', program, hook: random.chance(90) ? 0 : random.below(5) };
      case 20: {
        const expected = random.chance(30) ? { expected: this.#pick('program').handle } : {};
        return { kind: 'update-link', link, program, ...expected };
      }
      case 21:
        return { kind: 'detach-link', link };
      case 22:
        return random.chance(60) ? { kind: 'pin', handle: any, name } : { kind: 'unpin', name };
      case 23:
        return random.chance(60)
          ? { kind: 'open-pinned', name }
          : { kind: 'next-pinned', after: random.chance(50) ? '' : name };
      case 24: {
        const object = random.pick(OBJECT_KINDS);
        const id = random.below(40);
        return random.chance(50)
          ? { kind: 'open-by-id', object, id }
          : { kind: 'next-id', object, after: id };
      }
      case 25:
        return random.chance(80)
          ? { kind: 'get-info', handle: any }
          : { kind: random.chance(50) ? 'get-capabilities' : 'get-report' };
      default:
        return { kind: 'close', handle: any };
    }
  }

  learn(request: BpfRequest, reply: BpfReply): void {
    if (reply.kind === 'handle') {
      const { handle } = reply;
      const known = { handle, keySize: 4, valueSize: 8 };
      if (request.kind === 'create-map') {
        const { keySize, valueSize } = request;
        this.#known.push({ handle, kind: 'map', keySize, valueSize });
      } else if (request.kind === 'load-program') this.#known.push({ ...known, kind: 'program' });
      else if (request.kind === 'create-link') this.#known.push({ ...known, kind: 'link' });
      else if (request.kind === 'load-btf') this.#known.push({ ...known, kind: 'btf' });
      else if (request.kind === 'open-by-id') this.#known.push({ ...known, kind: request.object });
      else this.#known.push({ ...known, kind: this.random.pick(OBJECT_KINDS) });
    }
    // What was closed is kept now and then: using it must fail.
    if (request.kind === 'close' && reply.kind === 'done' && this.random.chance(80)) {
      const at = this.#known.findIndex(({ handle }) => handle === request.handle);
      if (at >= 0) this.#known.splice(at, 1);
    }
    if (this.#known.length > MOST_HANDLES) this.#known.shift();
  }

  forget(): void {
    this.#known.splice(this.random.below(3));
  }

  /** As a command of its own, or as a bpf(2) call where there is one for it. */
  #encode(request: BpfRequest): Uint8Array {
    const call = this.random.chance(30) ? encodeSyscall(request) : undefined;
    if (call === undefined) return BPF_OFFLOAD.encodeRequest(request);
    const bytes = new Uint8Array(2 + call.length);
    bytes[0] = VIRTIO_NET_CTRL_BPF;
    bytes[1] = BPF_COMMAND.SYSCALL;
    bytes.set(call, 2);
    return bytes;
  }

  #createMap(template: number): BpfRequest {
    const { random } = this;
    const mapType = random.chance(95) ? random.pick(MAP_TYPES) : random.below(40);
    const isOfMaps = mapType === T.BPF_MAP_TYPE_ARRAY_OF_MAPS || mapType === T.BPF_MAP_TYPE_HASH_OF_MAPS;
    const isRing = mapType === T.BPF_MAP_TYPE_RINGBUF;
    const holds = isOfMaps || mapType === T.BPF_MAP_TYPE_PROG_ARRAY;
    const keySize =
      mapType === T.BPF_MAP_TYPE_QUEUE || isRing ? 0 : mapType === T.BPF_MAP_TYPE_LPM_TRIE ? 8 : 4;
    return {
      kind: 'create-map',
      mapType,
      keySize: random.chance(95) ? keySize : random.below(600),
      valueSize: random.chance(95) ? (isRing ? 0 : holds ? 4 : 8) : random.below(2000),
      maxEntries: isRing ? 4096 : random.chance(95) ? 1 + random.below(8) : random.u32(),
      mapFlags: mapType === T.BPF_MAP_TYPE_LPM_TRIE ? 1 : random.chance(95) ? 0 : random.below(4096),
      name: '',
      ...(isOfMaps ? { inner: template } : {}),
    };
  }

  #pick(kind: ObjectKind): Known {
    const { random } = this;
    const those = this.#known.filter((each) => each.kind === kind);
    if (those.length > 0 && random.chance(92)) return random.pick(those);
    const handle = random.chance(50) ? random.below(20) : random.u32();
    return { handle, kind, keySize: 4, valueSize: 8 };
  }

  #bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    const { random } = this;
    if (length > 0)
      bytes.set(
        (random.chance(70) ? Uint8Array.of(random.below(6)) : random.bytes(length)).subarray(0, length),
      );
    return bytes;
  }

  #handleBytes(handle: number): Uint8Array {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, handle, true);
    return bytes;
  }
}
