import 'reflect-metadata';
import { readFile } from 'node:fs/promises';
import { WasmExecutor } from '../../plugins/executor-wasm/wasm-executor.js';
import { MemoryMapBackend } from '../../plugins/map-backend-memory/memory-map-backend.js';
import { UdpFlood } from '../../plugins/workload-udp-flood/udp-flood.js';
import { readObject } from '../../src/bpf/elf/object-spec.js';
import { linkProgram } from '../../src/bpf/link.js';
import type { BpfMap } from '../../src/bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { VirtualClock } from '../../src/core/clock/virtual-clock.js';
import { SENDER_MAC } from '../../src/core/contract/workload.js';
import { ProgramHook } from '../../src/core/offload/program-hook.js';
import { resolveRedirect } from '../../src/core/offload/redirect-target.js';
import { buildFrame, flowHash, formatMac, macNumber } from '../../src/packet/index.js';
import { NetLink, VIRTIO_F_EVENT_IDX, VIRTIO_NET_F_MRG_RXBUF } from '../../src/virtio/index.js';

/** One part of a frame's way through the model, alone: one hop of it. */
export interface Piece {
  readonly name: string;
  /** Takes `frames` frames through it. */
  run(frames: number): void;
}

/** Frames handled in one go, as by NAPI. */
const BATCH = 64;
const SIZES = [60, 1514] as const;
const FEATURES = (1n << BigInt(VIRTIO_NET_F_MRG_RXBUF)) | (1n << BigInt(VIRTIO_F_EVENT_IDX));
const FDB_VALUE = new Uint8Array(4);
const TAP_IFINDEX = 7;

const frameOf = (size: number): Uint8Array =>
  buildFrame({
    eth: { src: '52:54:00:ff:00:01', dst: '52:54:00:00:01:00' },
    ipv4: { src: '198.18.0.1', dst: '192.0.2.10' },
    udp: { srcPort: 1024, dstPort: 9 },
    size,
  });

/** The parts that `npm run bench:model` measures one by one. */
export async function pieces(): Promise<Piece[]> {
  const made: Piece[] = [workload(), ...SIZES.flatMap((size) => [toGuest(size), fromGuest(size)]), keys()];
  for (const size of SIZES) {
    made.push(await hook('xdp1', size), await hook('xdp2', size), await hook('xdp_redirect', size));
  }
  return made;
}

function workload(): Piece {
  const target = {
    guest: 'g',
    nic: 'eth0',
    mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
    ipv4: Uint8Array.of(192, 0, 2, 1),
  };
  const context = {
    random: () => 0,
    targets: [target],
    senderMac: SENDER_MAC as Uint8Array,
    file: () => new Uint8Array(),
  };
  return {
    name: 'udp-flood, 60 B',
    run: (frames) => {
      const flood = new UdpFlood({ frames, size: 60, flows: 16, rate: 1_000_000, protocol: 'udp', ip: 4 });
      let bytes = 0;
      for (const frame of flood.frames(context)) bytes += frame.bytes.length;
      if (bytes !== 60 * frames) throw new Error('a frame got lost');
    },
  };
}

/** The reader puts frames into the guest's buffers, the driver takes them out and offers new ones. */
function toGuest(size: number): Piece {
  const link = new NetLink<object>({ label: 'bench', queuePairs: 1, queueSize: 256, features: FEATURES });
  const bytes = frameOf(size);
  link.driver.refill(0);
  link.driver.kick(0);
  return {
    name: `link to the guest, ${size} B`,
    run: (frames) => {
      for (let left = frames; left > 0; left -= BATCH) {
        for (let i = 0; i < BATCH; i++)
          if (!link.device.deliver(0, bytes, link)) throw new Error('not delivered');
        link.device.notify(0);
        if (link.driver.receive(0, BATCH).length !== BATCH) throw new Error('not received');
        link.driver.refill(0);
        link.driver.kick(0);
      }
    },
  };
}

function fromGuest(size: number): Piece {
  const link = new NetLink<object>({ label: 'bench', queuePairs: 1, queueSize: 256, features: FEATURES });
  const bytes = frameOf(size);
  return {
    name: `link from the guest, ${size} B`,
    run: (frames) => {
      for (let left = frames; left > 0; left -= BATCH) {
        for (let i = 0; i < BATCH; i++) if (!link.driver.send(0, bytes, link)) throw new Error('not sent');
        link.driver.kick(0);
        if (link.device.poll(0, BATCH).length !== BATCH) throw new Error('not polled');
        link.device.poll(0, BATCH);
      }
    },
  };
}

/** What is asked of a frame's bytes alone: the queue of its flow, and where its address leads. */
function keys(): Piece {
  const bytes = frameOf(60);
  const fdb = new Map([[macNumber(bytes), 1]]);
  return {
    name: 'flow hash and MAC look-up, 60 B',
    run: (frames) => {
      for (let i = 0; i < frames; i++) {
        if (flowHash(bytes) === 0 || fdb.get(macNumber(bytes)) === undefined)
          throw new Error(`${formatMac(bytes)} is not found`);
      }
    },
  };
}

/** A hook with one of the testbed's programs: what comes in, what the program makes of it, and where it then goes. */
async function hook(object: string, size: number): Promise<Piece> {
  const runtime = new BpfRuntime({ seed: 1n });
  const backend = new MemoryMapBackend(runtime);
  const spec = readObject(await readFile(`testbeds/programs/${object}.o`), object);
  const handles = new Map(spec.maps.map((map, index) => [map.name, index + 1]));
  const maps = new Map<number, BpfMap>();
  const bytes = frameOf(size);
  for (const map of spec.maps) {
    const created = backend.create(map, { name: map.name });
    if (typeof created === 'number') throw new Error(`map ${map.name}: ${created}`);
    maps.set(handles.get(map.name)!, created);
    if (map.name === 'fdb') created.update(bytes.slice(0, created.attributes.keySize), FDB_VALUE, 0n);
    if (map.name === 'tx_port') created.update(new Uint8Array(4), Uint8Array.of(TAP_IFINDEX, 0, 0, 0), 0n);
  }
  const clock = new VirtualClock();
  const world = { trace: (): void => undefined, now: () => BigInt(Math.floor(clock.now() / 1000)) };
  const program = await new WasmExecutor(runtime, { checked: false }).load(
    linkProgram(spec.programs[0]!, handles),
    {
      maps,
      world,
    },
  );
  const place = new ProgramHook('bench', 1);
  await place.attach(program);
  return {
    name: `hook ${object}, wasm, ${size} B`,
    run: (frames) => {
      for (let i = 0; i < frames; i++) {
        clock.runUntil(1000 * i + clock.now());
        const { action, redirect } = place.runOn(bytes);
        if (action === 'XDP_REDIRECT') resolveRedirect(redirect, 1);
        if (action === 'XDP_ABORTED') throw new Error(`${object} aborted: ${program.lastFault?.reason}`);
      }
    },
  };
}
