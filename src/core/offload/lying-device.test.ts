import { describe, expect, it } from 'vitest';
import { E2BIG, ENOENT } from '../../bpf/errno.js';
import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import { mapSpec } from '../../conformance/offload/offload-rig.js';
import { BpfOffloadDriver } from './bpf-offload-driver.js';
import { DeviceClient } from './device-client.js';
import { failure, success, type GuestResult } from './guest-map.js';
import { GuestTool, guestView } from './guest-tool.js';
import { BPF_OFFLOAD } from './protocol/bpf-offload/bpf-offload.js';
import type { BpfReply, BpfRequest } from './protocol/control-protocol.js';
import type { MapInfo } from './protocol/object-info.js';

/** Bytes that a request and its answer make the guest keep room for. */
const MOST_ROOM = 128 * 1024;

interface Lies {
  /** Maps that there are. */
  readonly maps: number;
  readonly map: Partial<MapInfo>;
  readonly btfSize: number;
  readonly btf: Uint8Array;
  readonly cpus: number;
}

/** A device that says what it likes, and as much of it as it is asked for. */
class LyingDevice extends DeviceClient {
  readonly requests: BpfRequest[] = [];
  readonly #lies: Lies;

  constructor(lies: Partial<Lies>) {
    super({ send: () => Promise.reject(new Error('no channel')) }, BPF_OFFLOAD);
    this.#lies = { maps: 1, map: {}, btfSize: 0, btf: new Uint8Array(), cpus: 1, ...lies };
  }

  override async request(request: BpfRequest): Promise<GuestResult<BpfReply>> {
    this.requests.push(request);
    expect(BPF_OFFLOAD.replyBytes(request)).toBeLessThan(MOST_ROOM);
    const answer = this.#answer(request);
    return answer === undefined ? failure(ENOENT, 'ENOENT') : success(answer);
  }

  #answer(request: BpfRequest): BpfReply | undefined {
    const { maps, map, btfSize, btf, cpus } = this.#lies;
    switch (request.kind) {
      case 'next-id':
        return request.after < maps ? { kind: 'id', id: request.after + 1 } : undefined;
      case 'open-by-id':
        return { kind: 'handle', handle: request.object === 'btf' ? 9000 : 8000 };
      case 'get-info':
        if (request.handle === 9000) {
          return { kind: 'info', info: { kind: 'btf', id: 1, name: '', size: btfSize } };
        }
        return { kind: 'info', info: { ...PLAIN_MAP, ...map } };
      case 'get-first':
        return { kind: 'key', key: new Uint8Array(request.keySize) };
      case 'get-next':
        return { kind: 'key', key: new Uint8Array(request.key.length) };
      case 'lookup-elem':
        return { kind: 'value', value: new Uint8Array(request.valueSize) };
      case 'read-btf':
        return { kind: 'bytes', bytes: btf.slice(request.offset, request.offset + request.length) };
      case 'get-capabilities':
        return { kind: 'capabilities', capabilities: { ...CAPABILITIES, cpus } };
      case 'create-map':
        return { kind: 'handle', handle: 8000 };
      case 'close':
        return { kind: 'done' };
      default:
        return undefined;
    }
  }

  /** Requests of a kind. */
  count(kind: BpfRequest['kind']): number {
    return this.requests.filter((request) => request.kind === kind).length;
  }
}

const PLAIN_MAP: MapInfo = {
  kind: 'map',
  id: 1,
  name: 'm',
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
  keySize: 4,
  valueSize: 4,
  maxEntries: 1,
  flags: 0,
  frozen: false,
  memoryBytes: 1,
  btf: 0,
  keyType: 0,
  valueType: 0,
};
const ALL = 0xffff_ffff;
const CAPABILITIES = {
  ...BPF_OFFLOAD.limits,
  maxValueBytes: ALL,
  maxBatch: ALL,
  maxObjects: ALL,
  granted: { maps: ALL, programs: ALL, mapMemory: BigInt(ALL) },
  commands: ~0n & 0xffff_ffff_ffff_ffffn,
  mapTypes: 0xffff_ffff_ffff_ffffn,
  hookPoints: 1n,
  programFeatures: 0n,
  helpers: 0n,
};

/** `char key` and a struct of as many members as are asked for, all of them at its first byte. */
function wideStruct(members: number): Uint8Array {
  const words = [1, 0x0100_0000, 1, 8, 1, 0x0400_0000 | members, 4];
  for (let member = 0; member < members; member++) words.push(1, 1, 0);
  const strings = Uint8Array.of(0, 0x61, 0);
  const bytes = new Uint8Array(24 + 4 * words.length + strings.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 0xeb9f, true);
  view.setUint8(2, 1);
  [24, 0, 4 * words.length, 4 * words.length, strings.length].forEach((word, index) =>
    view.setUint32(4 + 4 * index, word, true),
  );
  words.forEach((word, index) => view.setUint32(24 + 4 * index, word, true));
  bytes.set(strings, 24 + 4 * words.length);
  return bytes;
}

describe('a guest’s tools, told anything by a device', () => {
  it('read no BTF that is longer than a device takes, and show bytes', async () => {
    for (const btfSize of [BPF_OFFLOAD.limits.maxBtfBytes + 1, ALL]) {
      const device = new LyingDevice({ map: { btf: 1, valueType: 1 }, btfSize });
      expect(await new GuestTool(device).dump(1)).toEqual({ ok: true, value: [{ key: 0, value: 0 }] });
      expect(device.count('read-btf')).toBe(0);
    }
  });

  it('ask for no keys and values that are longer than commands carry', async () => {
    const { maxKeyBytes, maxValueBytes } = BPF_OFFLOAD.limits;
    for (const map of [{ keySize: maxKeyBytes + 1 }, { valueSize: maxValueBytes + 1 }, { valueSize: ALL }]) {
      const device = new LyingDevice({ map });
      expect(await new GuestTool(device).dump(1)).toMatchObject({ ok: false, errno: E2BIG });
      expect(device.count('get-first')).toBe(0);
    }
  });

  it('keep so much of a dump and no more, whatever there is', async () => {
    const device = new LyingDevice({ maps: 4096, map: { valueSize: 65536, maxEntries: ALL } });
    const { text, json } = await guestView(new GuestTool(device), 'eth0', 'dump');
    // 4 MiB, and what the element that fills it takes.
    expect(JSON.stringify(json).length).toBeLessThan(6 * 1024 * 1024);
    expect(text.length).toBeLessThan(6 * 1024 * 1024);
    expect(text).toContain('left out, there is too much');
    expect(device.count('lookup-elem')).toBeLessThan(30);
  });

  it('go on for so many elements and no more, of all maps together', async () => {
    const device = new LyingDevice({ maps: 100, map: { maxEntries: ALL } });
    await guestView(new GuestTool(device), 'eth0', 'dump');
    expect(device.count('lookup-elem')).toBe(4096);
  });

  it('read so much BTF and no more, of all maps together', async () => {
    const btf = wideStruct(5000);
    const device = new LyingDevice({
      maps: 200,
      map: { btf: 1, valueType: 2, maxEntries: 1 },
      btfSize: btf.length,
      btf,
    });
    await guestView(new GuestTool(device), 'eth0', 'dump');
    expect(device.count('read-btf')).toBeLessThanOrEqual((4 * 1024 * 1024) / btf.length);
    expect(device.count('read-btf')).toBeGreaterThan(50);
  });
});

describe('a guest’s driver', () => {
  it('keeps no room for the values of as many CPUs as a device says', async () => {
    const spec = mapSpec('counters', { type: BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY });
    const driver = (cpus: number): BpfOffloadDriver =>
      new BpfOffloadDriver(new LyingDevice({ cpus }), { unchecked: false });
    expect(await driver(8192).createMap(spec)).toMatchObject({ ok: true });
    for (const cpus of [8193, ALL]) {
      expect(await driver(cpus).createMap(spec)).toMatchObject({ ok: false, errno: E2BIG });
    }
  });
});
