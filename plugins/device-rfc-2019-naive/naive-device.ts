import { EACCES, EOPNOTSUPP } from '../../src/bpf/errno.js';
import { decodeInsns } from '../../src/bpf/insn.js';
import type { MapAttributes } from '../../src/bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';
import type {
  Device,
  DeviceInspection,
  NicDevice,
  NicDeviceOptions,
} from '../../src/core/contract/device.js';
import type { LoadedProgram } from '../../src/core/contract/executor.js';
import type { Attachment } from '../../src/core/contract/hook-place.js';
import type { UnguardedChain } from '../../src/core/contract/transport.js';
import { BPF_OFFLOAD } from '../../src/core/offload/protocol/bpf-offload/bpf-offload.js';
import { translateHandles } from '../../src/core/offload/program-handles.js';
import { standardCommand } from '../../src/core/offload/standard-commands.js';
import {
  CONTROL_HEADER_BYTES,
  decodeControlCommand,
  encodeErrorResponse,
  hasFeature,
  VIRTIO_NET_CTRL_EBPF,
  VIRTIO_NET_CTRL_EBPF_MAP,
  VIRTIO_NET_CTRL_EBPF_PROG,
  VIRTIO_NET_OK,
} from '../../src/virtio/index.js';
import { firstQueueOnly } from './first-queue-only.js';
import { NaiveNames, NaiveProtocol2 } from './naive-protocol-2.js';
import { PretendProcess, type MapDescription } from './pretend-process.js';

/** `struct virtio_net_ctrl_ebpf_map` and `_prog` without what follows, in bytes. */
const MAP_HEADER_BYTES = 40;
const PROG_HEADER_BYTES = 8;
/** What the handler's buffer for insns holds. */
const MAX_INSNS = 4096;
const INSN_BYTES = 8;
/** `qemu-system-x86_64: virtio-net: invalid ebpf control message` and a line feed. */
const LOG_LINE_BYTES = 63;

/** Offsets in the map header. */
const CMD = 4;
const MAP_TYPE = 8;
const KEY_SIZE = 12;
const VALUE_SIZE = 16;
const MAX_ENTRIES = 20;
const MAP_FLAGS = 24;
const MAP_FD = 28;
const FLAGS = 32;

/**
 * RFC 2019's handler, defects and all, inside a pretend process ({@link PretendProcess}). Deliberately weak: it is what
 * attacks are tried on to see that they bite.
 */
export class NaiveDevice implements Device {
  readonly name = 'rfc-2019-naive';
  readonly unguarded = true;
  readonly service = 'queue';
  readonly #process = new PretendProcess();
  readonly #names = new NaiveNames();

  open(options: NicDeviceOptions): NicDevice {
    return new NaiveNicDevice(options, this.#process, this.#names);
  }
}

class NaiveNicDevice implements NicDevice {
  readonly #owner: string;
  /** Guests that have not negotiated it are served as well: nobody asks. */
  readonly #protocol2: NaiveProtocol2;
  #attached: { readonly program: NaiveProgram; readonly attachment: Attachment } | undefined;
  #unplugged = false;
  #mapsMade = 0;
  #logBytes = 0;
  readonly #underWay = new Set<Promise<unknown>>();

  constructor(
    readonly options: NicDeviceOptions,
    readonly process: PretendProcess,
    names: NaiveNames,
  ) {
    this.#owner = `${options.guest}.${options.nic}`;
    process.open({ kind: 'file', name: '/dev/net/tun', owner: `${this.#owner}’s tap` });
    this.#protocol2 = new NaiveProtocol2(options, process, names, this.#owner);
  }

  handle(request: Uint8Array, room: number, chain?: UnguardedChain): Uint8Array | Promise<Uint8Array> {
    const answer = this.process.alone(() => {
      // Its answers have their ack elsewhere, and its handler writes no log.
      if (request[0] === BPF_OFFLOAD.controlClass && !this.#unplugged)
        return this.#protocol2.handle(request, room);
      const done = this.#handle(request, room, chain);
      return done instanceof Promise ? done.then((bytes) => this.#logged(bytes)) : this.#logged(done);
    });
    if (answer instanceof Promise) {
      this.#underWay.add(answer);
      void answer.finally(() => this.#underWay.delete(answer));
    }
    return answer;
  }

  /** Defect 8: QEMU's reset knew of neither maps nor program. That of protocol 2 knows of some. */
  async reset(): Promise<void> {
    if (hasFeature(this.options.features, BPF_OFFLOAD.feature)) await this.#protocol2.reset();
  }

  /** The guest's process ends, and the host's kernel takes back what it had. */
  async unplug(): Promise<void> {
    this.#unplugged = true;
    await this.idle();
    await this.#detach();
    await this.#protocol2.unplug();
    this.process.closeAllOf(this.#owner);
  }

  async idle(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay);
  }

  transportBroken(reason: string): void {
    const { guest, nic, events, clock } = this.options;
    events.audit({ time: clock.now(), guest, nic, command: 'transport', outcome: 'violation', reason });
  }

  inspect(): DeviceInspection {
    const { held } = this.#protocol2;
    return {
      held: { ...held, programs: held.programs + (this.#attached === undefined ? 0 : 1) },
      peakCommandBytes: this.process.heap.peak,
      belongings: this.process.belongings(this.#owner),
      logBytes: this.#logBytes,
      strayAccesses: [...this.process.heap.strayAccesses, ...this.#protocol2.strayUses],
    };
  }

  /** error_report() for every command that fails: a line of the log each time. */
  #logged(answer: Uint8Array): Uint8Array {
    if (answer.at(-1) !== VIRTIO_NET_OK) this.#logBytes += LOG_LINE_BYTES;
    return answer;
  }

  #handle(
    request: Uint8Array,
    room: number,
    chain: UnguardedChain | undefined,
  ): Uint8Array | Promise<Uint8Array> {
    const control = decodeControlCommand(request);
    if (this.#unplugged || chain === undefined || control === undefined) return encodeErrorResponse(room);
    if (control.class !== VIRTIO_NET_CTRL_EBPF) {
      const { features, queuePairs } = this.options;
      return acknowledge(standardCommand(control, features, queuePairs).ok, room);
    }
    switch (control.command) {
      case VIRTIO_NET_CTRL_EBPF_MAP:
        return this.#handleMap(chain, room);
      case VIRTIO_NET_CTRL_EBPF_PROG:
        return this.#handleProg(chain, room);
      default:
        return encodeErrorResponse(room);
    }
  }

  /** VIRTIO_NET_CTRL_EBPF_MAP. */
  #handleMap(chain: UnguardedChain, room: number): Uint8Array {
    const { heap } = this.process;
    const first = chain.read(CONTROL_HEADER_BYTES, 4);
    if (first.length < 4) return encodeErrorResponse(room);
    // Defect 3: read to allocate, and again below. Defect 7: as it lies there. Defect 4: the sum is one of 32 bits.
    const size = (MAP_HEADER_BYTES + u32(first)) >>> 0;
    const ctrl = heap.allocate(size);
    try {
      const copied = chain.read(CONTROL_HEADER_BYTES, size);
      if (copied.length < size) return encodeErrorResponse(room);
      heap.store(ctrl, 0, copied, 'copying the command');
      const ok = this.#mapCommand(ctrl);
      if (ok !== true) return encodeErrorResponse(room);
      // Defect 2: the result goes back over the command. How long that is, is taken from what was read the second time.
      const length = MAP_HEADER_BYTES + heap.u32(ctrl, 0, 'buf_len');
      const back = Math.min(length, chain.readableBytes - CONTROL_HEADER_BYTES);
      const result = heap.load(ctrl, 0, back, 'writing the result back');
      chain.overwrite(CONTROL_HEADER_BYTES, result);
      // This project's driver looks for it in the device-writable part, where the RFC's had only the ack.
      const answer = new Uint8Array(room);
      if (room > 1) answer.set(result.subarray(0, room - 1));
      if (room > 0) answer[room - 1] = VIRTIO_NET_OK;
      return answer;
    } finally {
      heap.free(ctrl);
    }
  }

  /** @returns whether the command ends in VIRTIO_NET_OK */
  #mapCommand(ctrl: number): boolean {
    const { process } = this;
    const { heap } = process;
    const field = (offset: number): number => heap.u32(ctrl, offset, 'a header field');
    const keySize = field(KEY_SIZE);
    // Defect 1: a file descriptor of the process, from the guest.
    const fd = field(MAP_FD);
    // Defect 5: where key and value lie is what the guest says; what bpf(2) copies is what the map has.
    const key = MAP_HEADER_BYTES;
    const value = MAP_HEADER_BYTES + keySize;
    const cmd = field(CMD);
    switch (cmd) {
      case 1: {
        const created = this.#createMap({
          type: field(MAP_TYPE),
          keySize,
          valueSize: field(VALUE_SIZE),
          maxEntries: field(MAX_ENTRIES),
          flags: field(MAP_FLAGS),
        });
        if (created < 0) return false;
        heap.store(ctrl, MAP_FD, bytesOfU32(created), 'filling in map_fd');
        return true;
      }
      case 2:
        return process.close(fd, this.#owner) === 0;
    }
    const found = process.map(fd);
    if (typeof found === 'number') return false;
    const { map, attributes } = found;
    const loadKey = (): Uint8Array => heap.load(ctrl, key, attributes.keySize, 'bpf(2) copying the key');
    switch (cmd) {
      case 3: {
        const flags = heap.load(ctrl, FLAGS, 8, 'flags');
        const bytes = heap.load(ctrl, value, map.syscallValueSize, 'bpf(2) copying the value');
        return map.update(loadKey(), bytes, new DataView(flags.buffer).getBigUint64(0, true)) === 0;
      }
      case 4: {
        const result = map.lookup(loadKey());
        if (typeof result === 'number') return false;
        heap.store(ctrl, value, result, 'bpf(2) copying the value back');
        return true;
      }
      case 5:
        map.delete(loadKey());
        // Defect 6: falls through to what is not implemented.
        return false;
      case 6:
      case 7: {
        const result = map.nextKey(cmd === 6 ? null : loadKey());
        if (typeof result === 'number') return false;
        heap.store(ctrl, value, result, 'bpf(2) copying the next key back');
        return true;
      }
      default:
        return false;
    }
  }

  /** BPF_MAP_CREATE. Defect 9: nobody counts. */
  #createMap(attributes: MapAttributes): number {
    const { mapBackend } = this.options.party;
    const name = `map ${++this.#mapsMade}`;
    const map = mapBackend.create(attributes, { name: `${this.#owner}/${name}` });
    if (typeof map === 'number') return map;
    const memoryBytes = mapBackend.memoryCost(attributes);
    return this.process.open({
      kind: 'map',
      name,
      owner: this.#owner,
      map,
      attributes,
      memoryBytes,
      references: 1,
    });
  }

  /** VIRTIO_NET_CTRL_EBPF_PROG. */
  async #handleProg(chain: UnguardedChain, room: number): Promise<Uint8Array> {
    const header = chain.read(CONTROL_HEADER_BYTES, PROG_HEADER_BYTES);
    if (header.length < PROG_HEADER_BYTES) return encodeErrorResponse(room);
    const view = new DataView(header.buffer);
    const length = view.getUint32(0, true);
    const cmd = view.getUint16(4, true);
    const gplCompatible = view.getUint16(6, true) !== 0;
    try {
      if (cmd === 2) {
        await this.#detach();
        return acknowledge(true, room);
      }
      if (cmd !== 1 || length > MAX_INSNS * INSN_BYTES) return encodeErrorResponse(room);
      const insns = chain.read(CONTROL_HEADER_BYTES + PROG_HEADER_BYTES, length);
      if (insns.length < length) return encodeErrorResponse(room);
      return acknowledge((await this.#setOffload(insns, gplCompatible)) === 0, room);
    } catch {
      // bpf(2) or the tap's ioctl failed: all that the guest is told is one byte.
      return encodeErrorResponse(room);
    }
  }

  /** BPF_PROG_LOAD and TUNSETOFFLOADEDXDP: 0 or -errno. */
  async #setOffload(bytes: Uint8Array, gplCompatible: boolean): Promise<number> {
    const { party, world, place } = this.options;
    const maps = new Map<number, MapDescription>();
    // What is left over when the length is no multiple of an insn's is dropped.
    const whole = bytes.subarray(0, bytes.length - (bytes.length % INSN_BYTES));
    const translated = translateHandles(decodeInsns(whole), (fd) => {
      const found = this.process.map(fd);
      // The host's parties have memories of their own: a program on another's map there can be none here.
      if (typeof found === 'number' || found.owner !== this.#owner) return undefined;
      maps.set(fd, found);
      return fd;
    });
    if (!translated.ok) return -EACCES;
    const program: Program = {
      name: this.#owner,
      type: BPF_PROG_TYPE_XDP,
      attachType: 'BPF_XDP',
      gplCompatible,
      insns: translated.insns,
    };
    for (const map of maps.values()) map.references++;
    const released = new NaiveProgram([...maps.values()], this.process);
    try {
      // Defect 9, too: while the host's verifier is at it, nobody else of the process is served.
      const verification = await party.verifier.verify({
        program,
        maps: new Map([...maps].map(([fd, { attributes, name }]) => [fd, { ...attributes, name }])),
      });
      if (!verification.accepted) return -EACCES;
      released.program = await party.executor.load(program, {
        maps: new Map([...maps].map(([fd, { map }]) => [fd, map])),
        world,
        contained: verification.contained,
        facts: verification.facts,
        properties: verification.properties,
        countWork: party.countWork,
      });
      // Defect 10.
      const inPlace = firstQueueOnly(released.program);
      const before = this.#attached;
      if (before === undefined) {
        this.#attached = { program: released, attachment: await place.attach(inPlace) };
      } else {
        await before.attachment.replace(inPlace);
        this.#attached = { program: released, attachment: before.attachment };
        before.program.close();
      }
      return 0;
    } catch {
      return -EOPNOTSUPP;
    } finally {
      if (this.#attached?.program !== released) released.close();
    }
  }

  async #detach(): Promise<void> {
    const attached = this.#attached;
    if (attached === undefined) return;
    await attached.attachment.detach();
    this.#attached = undefined;
    attached.program.close();
  }
}

/** A program and the maps that it keeps alive. */
class NaiveProgram {
  program: LoadedProgram | undefined;

  constructor(
    readonly maps: readonly MapDescription[],
    readonly process: PretendProcess,
  ) {}

  close(): void {
    this.program?.close();
    for (const map of this.maps) this.process.release(map);
  }
}

function acknowledge(ok: boolean, room: number): Uint8Array {
  const answer = encodeErrorResponse(room);
  if (ok && room > 0) answer[room - 1] = VIRTIO_NET_OK;
  return answer;
}

function u32(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
}

function bytesOfU32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
