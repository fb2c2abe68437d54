import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { encodeInsns } from '../../src/bpf/insn.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { XDP_DROP, XDP_PASS } from '../../src/bpf/xdp.js';
import { deviceConformance } from '../../src/conformance/device/index.js';
import { RecordingPlace, RIG_FEATURES, u32Key } from '../../src/conformance/offload/offload-rig.js';
import { VirtualClock } from '../../src/core/clock/virtual-clock.js';
import type { ControlClient } from '../../src/core/contract/transport.js';
import type { BpfReply, BpfRequest } from '../../src/core/offload/protocol/control-protocol.js';
import { RFC_2019 } from '../../src/core/offload/protocol/rfc-2019/rfc-2019.js';
import { QuotaAccounts } from '../../src/core/offload/quota-accounts.js';
import { ControlLink, VIRTIO_NET_OK } from '../../src/virtio/index.js';
import { NaiveDevice } from './naive-device.js';
import { RESIDUE } from './pretend-heap.js';
import { testingParty } from '../../src/core/offload/testing-party.js';

deviceConformance('rfc-2019-naive', () => new NaiveDevice(), { party: testingParty, guarded: false });

/** A guest nic whose commands go through a control queue in its memory. */
function plug(device: NaiveDevice, guest: string) {
  const place = new RecordingPlace();
  const accounts = new QuotaAccounts();
  const nic = device.open({
    guest,
    nic: 'eth0',
    party: testingParty(guest),
    policies: [],
    accounts,
    place,
    clock: new VirtualClock(),
    world: { trace: () => {} },
    events: { ruling: () => {}, audit: () => {} },
    features: RIG_FEATURES,
    queuePairs: 1,
  });
  const link = new ControlLink({ label: guest, features: RIG_FEATURES, now: () => 0 });
  link.serveUnguarded((request, room, chain) => nic.handle(request, room, chain));
  const control: ControlClient = { send: (parts, room) => link.send(parts, room) };
  const send = async (request: BpfRequest): Promise<BpfReply> => {
    const bytes = RFC_2019.encodeRequest(request);
    const written = await control.send([bytes], RFC_2019.replyBytes(request));
    const decoded = RFC_2019.decodeReply(request, bytes, written);
    if (!decoded.ok) throw new RangeError(decoded.detail);
    return decoded.reply;
  };
  const createMap = async (maxEntries = 4): Promise<number> => {
    const reply = await send({
      kind: 'create-map',
      mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
      keySize: 4,
      valueSize: 8,
      maxEntries,
      mapFlags: 0,
    });
    if (reply.kind !== 'handle') throw new RangeError(reply.kind);
    return reply.handle;
  };
  return { nic, place, accounts, link, control, send, createMap };
}

const KEY = u32Key(1);
const VALUE = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);

/** A map command with these header fields, u32 each, and what follows. */
function mapCommand(fields: readonly number[], buf = new Uint8Array()): Uint8Array {
  const bytes = new Uint8Array(42 + buf.length);
  bytes.set([6, 2]);
  fields.forEach((field, index) => new DataView(bytes.buffer).setUint32(2 + 4 * index, field, true));
  bytes.set(buf, 42);
  return bytes;
}

describe('the defects of RFC 2019’s handler are there', () => {
  it('1: another guest’s map is written to, and a file of the process closed, by number', async () => {
    const device = new NaiveDevice();
    const victim = plug(device, 'victim');
    const attacker = plug(device, 'attacker');
    const handle = await victim.createMap();
    await victim.send({ kind: 'update-elem', handle, key: KEY, value: VALUE, flags: 0n });
    const before = attacker.nic.inspect().belongings;
    expect(before.get('the log file of the host')).toBe('open');
    expect(
      await attacker.send({ kind: 'update-elem', handle, key: KEY, value: new Uint8Array(8), flags: 0n }),
    ).toEqual({ kind: 'done' });
    expect(await victim.send({ kind: 'lookup-elem', handle, key: KEY, valueSize: 8 })).toEqual({
      kind: 'value',
      value: new Uint8Array(8),
    });
    expect(await attacker.send({ kind: 'free-map', handle: 5 })).toEqual({ kind: 'done' });
    const after = attacker.nic.inspect().belongings;
    expect(after.get('the log file of the host')).toBe('closed');
    expect(after.get('map 1 of victim.eth0')).not.toBe(before.get('map 1 of victim.eth0'));
    // The number is given out again, and is then the attacker's.
    expect(await attacker.createMap()).toBe(5);
  });

  it('2: the result lies over the command', async () => {
    const { link, createMap } = plug(new NaiveDevice(), 'guest0');
    const command = mapCommand([0, 1, 1, 4, 8, 4]);
    const handle = await createMap();
    const answer = await link.send([command], 41);
    expect(answer.at(-1)).toBe(VIRTIO_NET_OK);
    const buffers = link.memory.read(link.layout.buffers, 4096)!;
    const at = Buffer.from(buffers).indexOf(Buffer.from(command.subarray(0, 28)));
    expect(new DataView(buffers.buffer).getUint32(at + 2 + 28, true)).toBe(handle + 1);
  });

  it('3: a length that grows between two reads takes the handler beyond its buffer', async () => {
    const { nic, link, createMap } = plug(new NaiveDevice(), 'guest0');
    const handle = await createMap();
    const spare = new Uint8Array(4000);
    const command = mapCommand([12, 6, 0, 4, 8, 0, 0, handle], spare);
    let reads = 0;
    link.memory.afterRead = (address, length) => {
      // The first is the transport's copy, the second that of buf_len.
      if (length !== 4 || ++reads !== 1) return;
      link.memory.write(address, Uint8Array.of(0xa0, 0x0f, 0, 0));
    };
    await link.send([command], 42);
    expect(reads).toBeGreaterThan(0);
    // An empty map has no first key; a lookup of one that is there does the same and answers.
    link.memory.afterRead = undefined;
    expect(nic.inspect().strayAccesses).toEqual([]);
    const update = mapCommand([12, 3, 0, 4, 8, 0, 0, handle], new Uint8Array(12));
    await link.send([update], 1);
    reads = 0;
    link.memory.afterRead = (address, length) => {
      if (length !== 4 || ++reads !== 1) return;
      link.memory.write(address, Uint8Array.of(0xa0, 0x0f, 0, 0));
    };
    const answer = await link.send([command], 4041);
    expect(nic.inspect().strayAccesses).toEqual([
      'writing the result back reads 3988 bytes beyond a block of 52, at 52',
    ]);
    expect(Buffer.from(answer).includes(Buffer.from(RESIDUE))).toBe(true);
  });

  it('4: a sum that wraps leaves a buffer that is shorter than a header, and a long one is simply allocated', async () => {
    const { nic, link } = plug(new NaiveDevice(), 'guest0');
    await link.send([mapCommand([0xffff_ffe8, 1, 1, 4, 8, 4])], 41);
    expect(nic.inspect().strayAccesses[0]).toContain('beyond a block of 16');
    await link.send([mapCommand([0x4000_0000, 4])], 1);
    expect(nic.inspect().peakCommandBytes).toBe(0x4000_0000 + 40);
  });

  it('5: key_size beyond the buffer', async () => {
    const { nic, link, createMap } = plug(new NaiveDevice(), 'guest0');
    const handle = await createMap();
    await link.send([mapCommand([12, 3, 0, 4096, 8, 0, 0, handle], new Uint8Array(12))], 1);
    expect(nic.inspect().strayAccesses).toEqual([
      'bpf(2) copying the value reads 8 bytes beyond a block of 52, at 4136',
    ]);
  });

  it('6: a delete that has deleted says that it has not', async () => {
    const { send, createMap } = plug(new NaiveDevice(), 'guest0');
    const handle = await createMap();
    await send({ kind: 'update-elem', handle, key: KEY, value: VALUE, flags: 0n });
    expect(await send({ kind: 'delete-elem', handle, key: KEY, valueSize: 8 })).toMatchObject({
      kind: 'error',
    });
    expect(await send({ kind: 'get-first', handle, keySize: 4, valueSize: 8 })).toMatchObject({
      kind: 'error',
    });
  });

  it('7: a length in the other byte order is a huge one', async () => {
    const { nic, link } = plug(new NaiveDevice(), 'guest0');
    const big = mapCommand([0x0c00_0000, 0x0400_0000], new Uint8Array(12));
    await link.send([big], 53);
    expect(nic.inspect().peakCommandBytes).toBe(0x0c00_0000 + 40);
  });

  it('8 and 9: maps and program outlive a reset, and nobody is charged for them', async () => {
    const { nic, place, accounts, send, createMap } = plug(new NaiveDevice(), 'guest0');
    for (let n = 0; n < 100; n++) await createMap();
    const insns = encodeInsns(assemble('r0 = 2\nexit'));
    await send({ kind: 'set-offload', insns, gplCompatible: true });
    await nic.reset();
    expect(place.program).toBeDefined();
    expect(nic.inspect().held).toMatchObject({ maps: 100, programs: 1 });
    expect(accounts.guests).toEqual([]);
  });

  it('10: frames of another queue than the first do not meet the program', async () => {
    const { place, send } = plug(new NaiveDevice(), 'guest0');
    const insns = encodeInsns(assemble('r0 = 1\nexit'));
    await send({ kind: 'set-offload', insns, gplCompatible: true });
    const program = place.program!;
    const frames = program.openFrames(2);
    const frame = new Uint8Array(60);
    frames.load(0, frame, { rxQueueIndex: 0 });
    frames.load(1, frame, { rxQueueIndex: 1 });
    expect([0, 1].map((slot) => program.run(frames, slot).verdict)).toEqual([XDP_DROP, XDP_PASS]);
    program.runBatch(frames, 0, 2);
    expect([0, 1].map((slot) => frames.verdict(slot))).toEqual([XDP_DROP, XDP_PASS]);
    frames.close();
  });

  it('a program uses a map for as long as it is in place, whatever the guest frees', async () => {
    const { nic, send, createMap } = plug(new NaiveDevice(), 'guest0');
    const handle = await createMap();
    const insns = encodeInsns(assemble('r1 = map[m]\nr0 = 2\nexit', { maps: new Map([['m', handle]]) }));
    expect(await send({ kind: 'set-offload', insns, gplCompatible: true })).toEqual({ kind: 'done' });
    expect(await send({ kind: 'free-map', handle })).toEqual({ kind: 'done' });
    expect(nic.inspect().held).toMatchObject({ maps: 1, programs: 1 });
    expect(await send({ kind: 'unset-offload' })).toEqual({ kind: 'done' });
    expect(nic.inspect().held).toMatchObject({ maps: 0, programs: 0 });
  });
});
