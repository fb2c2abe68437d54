import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { afterEach, describe, expect, it } from 'vitest';
import { InterpreterExecutor } from '../executor-interpreter/interpreter-executor.js';
import { MemoryMapBackend } from '../map-backend-memory/memory-map-backend.js';
import { UnixSocketTransport } from './unix-socket-transport.js';
import { AbstractVerifier } from '../verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../verifier-abstract/config.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import { OffloadRig } from '../../src/conformance/offload/offload-rig.js';
import type { ControlSocketChannel } from '../../src/core/offload/control-socket-channel.js';
import { NO_USAGE } from '../../src/core/offload/quota-accounts.js';

const driver = new URL('../../docs/examples/guest-driver/driver.js', import.meta.url).pathname;

const children: ChildProcess[] = [];
const channels: ControlSocketChannel[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const channel of channels.splice(0)) await channel.close();
});

/** A device of this process on a socket, and its guest's driver in another. */
async function start() {
  const runtime = new BpfRuntime({ memoryBytes: 8 << 20 });
  const party = {
    name: 'host',
    cpus: 1,
    mapBackend: new MemoryMapBackend(runtime),
    executor: new InterpreterExecutor(runtime),
    verifier: new AbstractVerifier(DEFAULT_CONFIG),
  };
  const rig = new OffloadRig({ host: party, guest: party });
  const config = { users: [], 'stall-seconds': 10 };
  const channel = await new UnixSocketTransport(config).open({ label: 'guest0.eth0', features: 0n });
  channels.push(channel);
  await channel.server.serve(
    (request, room) => rig.device.handle(request, room),
    () => void rig.device.reset(),
  );
  const run = () => {
    const child = spawn(process.execPath, [driver, channel.address], { stdio: ['pipe', 'pipe', 'inherit'] });
    children.push(child);
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    return { child, line: async () => (await lines.next()).value as string };
  };
  return { rig, frames: new FrameRing(runtime.space, 1), run };
}

/** Of the built package, as a driver elsewhere uses it. */
describe('a guest’s driver in another process', () => {
  it('offloads a program over the socket and reads its map; the device forgets both when it is killed', async () => {
    const { rig, frames, run } = await start();
    const first = run();
    expect(await first.line()).toBe('offloaded');
    frames.load(0, new Uint8Array(60));
    for (let i = 0; i < 3; i++) rig.place.program!.run(frames, 0);
    first.child.stdin.write('how many\n');
    expect(await first.line()).toBe('3 frames dropped');
    expect(rig.accounts.usageOf('guest0')).toMatchObject({ maps: 1, programs: 1 });

    first.child.kill('SIGKILL');
    // The next one waits until the device has noticed that the first is gone, and begins anew.
    const second = run();
    expect(await second.line()).toBe('offloaded');
    second.child.stdin.write('how many\n');
    expect(await second.line()).toBe('0 frames dropped');
    expect(rig.accounts.usageOf('guest0')).toMatchObject({ maps: 1, programs: 1 });

    second.child.stdin.end();
    await new Promise((resolve) => second.child.once('close', resolve));
    while (rig.device.objectCount > 0) await new Promise((resolve) => setImmediate(resolve));
    expect(rig.accounts.totalUsage()).toEqual(NO_USAGE);
    expect(rig.place.program).toBeUndefined();
  });
});
