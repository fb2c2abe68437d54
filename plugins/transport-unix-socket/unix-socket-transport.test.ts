import { execFile, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { transportConformance } from '../../src/conformance/transport/index.js';
import type { ControlHandler } from '../../src/core/contract/transport.js';
import { ControlSocketChannel } from '../../src/core/offload/control-socket-channel.js';
import { ControlSocketClient } from '../../src/core/offload/control-socket-client.js';
import { peerCredentials, peerCredentialsUnsupported } from '../../src/linux/peer-credentials.js';
import { encodeSerialMessage, MAX_SERIAL_BYTES, SERIAL_KIND } from '../../src/virtio/index.js';
import { UnixSocketTransport, type UnixSocketConfig } from './unix-socket-transport.js';

const { HELLO, COMMAND, RESET, BROKEN } = SERIAL_KIND;
const DEFAULTS: UnixSocketConfig = { users: [], 'stall-seconds': 10 };
const FLIP: ControlHandler = (request) => request.toReversed();
const credentials = peerCredentialsUnsupported() === undefined;
const root = process.getuid?.() === 0;

transportConformance('unix-socket', () => new UnixSocketTransport(DEFAULTS));

const channels: ControlSocketChannel[] = [];
const clients: { close(): void }[] = [];
const sockets: Socket[] = [];
const folders: string[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const channel of channels.splice(0)) await channel.close();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

async function open(handler: ControlHandler = FLIP, config: Partial<UnixSocketConfig> = {}) {
  const transport = new UnixSocketTransport({ ...DEFAULTS, ...config });
  const channel = await transport.open({ label: 'guest0.eth0', features: 0n });
  channels.push(channel);
  const broken: string[] = [];
  const gone = vi.fn();
  channel.onBroken((reason) => void broken.push(reason));
  await channel.server.serve(handler, gone);
  return { channel, broken, gone };
}

async function client(path: string, onReset?: () => void, patienceMs?: number): Promise<ControlSocketClient> {
  const made = await ControlSocketClient.connect(path, { label: 'driver', onReset, patienceMs });
  clients.push(made);
  return made;
}

function folder(mode = 0o700): string {
  const made = mkdtempSync(join(tmpdir(), 'xdpbed-test-'));
  chmodSync(made, mode);
  folders.push(made);
  return made;
}

/** A driver that writes what it likes; `closed` when the device has hung up. */
async function raw(path: string): Promise<{ socket: Socket; closed: Promise<void>; received: () => Buffer }> {
  const socket = connect(path);
  sockets.push(socket);
  let bytes = Buffer.alloc(0);
  socket.on('data', (more) => (bytes = Buffer.concat([bytes, more])));
  socket.on('error', () => {});
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  await new Promise((resolve) => socket.once('connect', resolve));
  return { socket, closed, received: () => bytes };
}

/** One that has greeted, as soon as it has been told the epoch. */
async function greeted(path: string) {
  const driver = await raw(path);
  driver.socket.write(encodeSerialMessage(HELLO, 0));
  while (driver.received().length < 16) await new Promise((resolve) => setImmediate(resolve));
  driver.socket.write(encodeSerialMessage(HELLO, driver.received().readUint32LE(4)));
  return driver;
}

const until = async (done: () => boolean): Promise<void> => {
  while (!done()) await new Promise((resolve) => setImmediate(resolve));
};

describe('who may connect', () => {
  it('is its own user: a folder of mode 0700, a socket of mode 0600, both gone with the channel', async () => {
    const { channel } = await open();
    expect(statSync(dirname(channel.address)).mode & 0o777).toBe(0o700);
    expect(statSync(channel.address).mode & 0o777).toBe(0o600);
    await channel.close();
    expect(existsSync(dirname(channel.address))).toBe(false);
  });

  it.skipIf(!credentials)('is known by the kernel’s word (skipped without koffi)', async () => {
    const accepted = new Promise<Socket>((resolve) => {
      const path = join(folder(), 's');
      const server = createServer((socket) => {
        server.close();
        resolve(socket);
      });
      server.listen(path, () => sockets.push(connect(path)));
    });
    const socket = await accepted;
    sockets.push(socket);
    expect(peerCredentials(socket)).toEqual({
      pid: process.pid,
      uid: process.getuid!(),
      gid: process.getgid!(),
    });
    socket.destroy();
    expect(peerCredentials(socket)).toBeUndefined();
  });

  /** Has a process of another user connect: the kind of what the device wrote first, and its text. */
  const asNobody = (path: string): Promise<string> => {
    const hello = Buffer.from(encodeSerialMessage(HELLO, 0)).toString('hex');
    const script = `
      const socket = require('node:net').connect(${JSON.stringify(path)});
      socket.write(Buffer.from('${hello}', 'hex'));
      socket.on('data', (bytes) => { console.log(bytes[3], bytes.subarray(16).toString()); process.exit(); });
      socket.on('error', (error) => { console.log(error.code); process.exit(); });`;
    const nobody = 65534;
    return new Promise((resolve, reject) => {
      execFile(process.execPath, ['-e', script], { uid: nobody, gid: nobody, cwd: '/' }, (error, out) =>
        error === null ? resolve(out.trim()) : reject(new Error(error.message)),
      );
    });
  };

  it('is no other user, and others that try and do not go keep it from nothing', async () => {
    let stranger = true;
    const channel = await ControlSocketChannel.open(
      { label: 'guest0.eth0' },
      { admit: () => (stranger ? 'you are not let in' : undefined) },
    );
    channels.push(channel);
    await channel.server.serve(FLIP);
    const strangers: Socket[] = [];
    for (let count = 0; count < 24; count++) {
      const socket = connect({ path: channel.address, allowHalfOpen: true });
      sockets.push(socket);
      strangers.push(socket);
      socket.on('error', () => {});
      // It takes what it is told, and the end, and stays: the device has to hang up.
      socket.resume();
      await new Promise((resolve) => socket.once('connect', resolve));
    }
    stranger = false;
    const driver = await client(channel.address, undefined, 0);
    expect(await driver.send([Uint8Array.of(1, 2)], 2)).toEqual(Uint8Array.of(2, 1));
    // Whoever was hung up on cannot write any more.
    for (const socket of strangers) socket.write('x');
    await until(() => strangers.filter(({ destroyed }) => destroyed).length >= 16);
  });

  it.skipIf(!root || !credentials)(
    'is another user only when it is among `users` (skipped but as root, with koffi)',
    async () => {
      const shared = folder(0o755);
      const { channel } = await open(FLIP, { folder: shared });
      // The socket's mode keeps it out; with that changed, the device does.
      expect(await asNobody(channel.address)).toBe('EACCES');
      chmodSync(channel.address, 0o666);
      expect(await asNobody(channel.address)).toBe(`${BROKEN} a driver of user 65534 is not let in`);
      await channel.close();
      const { channel: opened } = await open(FLIP, { folder: shared, users: [65534] });
      // It is the socket of that user: others do not even get into the queue of connections.
      expect(statSync(opened.address)).toMatchObject({ uid: 65534, mode: 0o140600 });
      expect(await asNobody(opened.address)).toBe(`${RESET}`);
      await opened.close();
      const { channel: forTwo } = await open(FLIP, { folder: shared, users: [65534, 65533] });
      expect(statSync(forTwo.address)).toMatchObject({ uid: 0, mode: 0o140666 });
      expect(await asNobody(forTwo.address)).toBe(`${RESET}`);
    },
  );

  it('cannot be another user in a folder that only its own user may enter', async () => {
    await expect(open(FLIP, { users: [65534] })).rejects.toMatchObject({ code: 'host-unsupported' });
  });
});

describe('a socket in a folder that is named', () => {
  it('is called after the nic, has its mode from the beginning, and is gone afterwards', async () => {
    const place = folder();
    const { channel } = await open(FLIP, { folder: place });
    expect(channel.address).toBe(join(place, 'guest0.eth0.sock'));
    expect(readdirSync(place)).toEqual(['guest0.eth0.sock']);
    expect(statSync(channel.address).mode & 0o777).toBe(0o600);
    const driver = await client(channel.address);
    expect(await driver.send([Uint8Array.of(1, 2)], 2)).toEqual(Uint8Array.of(2, 1));
    await channel.close();
    expect(readdirSync(place)).toEqual([]);
  });

  it('replaces one that a process left which is gone, and neither one in use nor a file', async () => {
    const place = folder();
    const path = join(place, 'guest0.eth0.sock');
    // SIGKILL: nobody removes it.
    const left = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`;
    spawnSync(process.execPath, ['-e', left]);
    expect(statSync(path).isSocket()).toBe(true);
    const { channel } = await open(FLIP, { folder: place });
    await expect(open(FLIP, { folder: place })).rejects.toThrow('is there already, and in use');
    expect(await (await client(channel.address)).send([Uint8Array.of(7)], 1)).toEqual(Uint8Array.of(7));
    await channel.close();
    writeFileSync(path, 'mine');
    await expect(open(FLIP, { folder: place })).rejects.toThrow('is there already, and in use');
    expect(readdirSync(place)).toEqual(['guest0.eth0.sock']);
  });

  it('says so where there can be none', async () => {
    for (const place of [join(folder(), 'none'), `/tmp/${'x'.repeat(100)}`]) {
      await expect(open(FLIP, { folder: place })).rejects.toMatchObject({ code: 'host-unsupported' });
    }
  });
});

describe('a driver of a unix socket', () => {
  it('is the only one: a second is told why and hung up on, and waits for its turn when it is patient', async () => {
    const { channel } = await open();
    const first = await client(channel.address);
    await first.send([Uint8Array.of(1)], 1);
    const impatient = await client(channel.address, undefined, 0);
    await expect(impatient.send([Uint8Array.of(2)], 1)).rejects.toThrow('there is a driver already');
    const patient = await client(channel.address);
    const later = patient.send([Uint8Array.of(3)], 1);
    expect(await first.send([Uint8Array.of(4)], 1)).toEqual(Uint8Array.of(4));
    first.close();
    expect(await later).toEqual(Uint8Array.of(3));
  });

  it('has the device reset when it is gone, before a command of the next is carried out, and once', async () => {
    const order: string[] = [];
    const { channel, gone } = await open((request) => {
      order.push(`command ${request[0]}`);
      return request;
    });
    gone.mockImplementation(() => order.push('reset'));
    const first = await client(channel.address);
    await first.send([Uint8Array.of(1)], 1);
    first.close();
    const second = await client(channel.address);
    await second.send([Uint8Array.of(2)], 1);
    expect(order).toEqual(['command 1', 'reset', 'command 2']);
    // One that has sent nothing left nothing.
    second.close();
    await until(() => order.length === 4);
    (await greeted(channel.address)).socket.destroy();
    const third = await client(channel.address);
    await third.send([Uint8Array.of(3)], 1);
    expect(order.slice(3)).toEqual(['reset', 'command 3']);
  });

  it('has the device reset when it begins anew over the same connection', async () => {
    const { channel, gone } = await open();
    const driver = await greeted(channel.address);
    driver.socket.write(encodeSerialMessage(COMMAND, 1, [Uint8Array.of(1)], 1));
    await until(() => channel.statistics.commands === 1);
    driver.socket.write(encodeSerialMessage(HELLO, 0));
    await until(() => gone.mock.calls.length === 1);
  });

  it('connects anew by itself, says that the device was reset, and sends nothing twice', async () => {
    const seen: number[] = [];
    let answer = true;
    const { channel } = await open((request) => {
      seen.push(request[0]!);
      return answer ? request : new Promise<Uint8Array>(() => {});
    });
    const resets = vi.fn();
    const driver = await client(channel.address, resets);
    await driver.send([Uint8Array.of(1)], 1);
    answer = false;
    const lost = driver.send([Uint8Array.of(2)], 1);
    const rejected = expect(lost).rejects.toThrow('driver: ');
    await until(() => seen.length === 2);
    // The device's process goes, and comes back under the same path.
    const { address } = channel;
    await channel.close();
    await rejected;
    expect(resets).not.toHaveBeenCalled();
    const place = dirname(address);
    const again = driver.send([Uint8Array.of(3)], 1);
    mkdirSync(place, { mode: 0o700 });
    folders.push(place);
    const back = await ControlSocketChannel.open({ label: 'guest0.eth0' }, { path: address });
    channels.push(back);
    await back.server.serve((request) => request);
    expect(await again).toEqual(Uint8Array.of(3));
    expect(resets).toHaveBeenCalledOnce();
    expect(seen).toEqual([1, 2]);
  });

  it('hears of a device reset over the same connection', async () => {
    const { channel } = await open();
    const resets = vi.fn();
    const driver = await client(channel.address, resets);
    await driver.send([Uint8Array.of(1)], 1);
    channel.reset();
    await until(() => resets.mock.calls.length === 1);
    expect(await driver.send([Uint8Array.of(2)], 1)).toEqual(Uint8Array.of(2));
  });

  it('gives up on a device that does not come, and when it is closed', async () => {
    await expect(ControlSocketClient.connect('/nowhere/s', { patienceMs: 30 })).rejects.toMatchObject({
      code: 'host-unsupported',
    });
    const { channel } = await open();
    const driver = await client(channel.address);
    driver.close();
    await expect(driver.send([Uint8Array.of(1)], 1)).rejects.toThrow('the channel is closed');
  });

  it('has many commands on their way, which are carried out in their order', async () => {
    let most = 0;
    const { channel } = await open(async (request) => {
      await new Promise((resolve) => setImmediate(resolve));
      return request;
    });
    const driver = await client(channel.address);
    const sent = Array.from({ length: 500 }, (_, index) => index & 0xff);
    let waiting = 0;
    const answers = await Promise.all(
      sent.map(async (byte) => {
        most = Math.max(most, ++waiting);
        const answer = await driver.send([Uint8Array.of(byte)], 1);
        waiting--;
        return answer[0];
      }),
    );
    expect(answers).toEqual(sent);
    expect(most).toBe(500);
  });
});

describe('a hostile driver of a unix socket', () => {
  const SOON: Partial<UnixSocketConfig> = { 'stall-seconds': 0.1 };

  it.each<[string, (driver: Awaited<ReturnType<typeof raw>>) => void]>([
    ['says nothing', () => {}],
    [
      'never finishes its greeting',
      ({ socket }) => void socket.write(encodeSerialMessage(HELLO, 0).subarray(0, 9)),
    ],
    [
      'says what is no greeting, for ever',
      ({ socket }) => {
        const more = setInterval(() => (socket.destroyed ? clearInterval(more) : socket.write('x')), 10);
      },
    ],
    ...[encodeSerialMessage(HELLO, 77), encodeSerialMessage(HELLO, 0, [Uint8Array.of(1)])].map(
      (greeting, index): [string, (driver: Awaited<ReturnType<typeof raw>>) => void] => [
        `greets ${['for another epoch', 'with bytes behind it'][index]!}, for ever`,
        ({ socket }) => {
          const more = setInterval(
            () => (socket.destroyed ? clearInterval(more) : socket.write(greeting)),
            10,
          );
        },
      ],
    ),
  ])('is hung up on when it %s, and another is served', async (_what, act) => {
    const { channel } = await open(FLIP, SOON);
    const driver = await raw(channel.address);
    act(driver);
    await driver.closed;
    expect(await (await client(channel.address)).send([Uint8Array.of(1)], 1)).toEqual(Uint8Array.of(1));
  });

  it('is hung up on when it never finishes a command, however slowly it goes on', async () => {
    const { channel } = await open(FLIP, SOON);
    const driver = await greeted(channel.address);
    const whole = encodeSerialMessage(COMMAND, 1, [new Uint8Array(1000)], 1);
    let at = 0;
    const more = setInterval(() => driver.socket.write(whole.subarray(at, ++at)), 5);
    await driver.closed;
    clearInterval(more);
    expect(channel.statistics.commands).toBe(0);
    expect(at).toBeLessThan(whole.length);
  });

  it('is hung up on when it never takes its answers, which cost one of them', async () => {
    const { channel } = await open((_request, room) => new Uint8Array(room), SOON);
    const driver = await greeted(channel.address);
    driver.socket.pause();
    for (let number = 1; number <= 64; number++) {
      driver.socket.write(encodeSerialMessage(COMMAND, number, [], MAX_SERIAL_BYTES));
    }
    const next = await client(channel.address);
    expect(await next.send([Uint8Array.of(1)], 1)).toEqual(Uint8Array.of(0));
    // 64 answers of 1 MiB, of which no socket's buffer holds many.
    expect(channel.statistics.commands).toBeLessThan(8);
  });

  it('is left alone while it is idle, and while a command of it takes its time', async () => {
    let finish: (bytes: Uint8Array) => void = () => {};
    const { channel } = await open(() => new Promise((resolve) => (finish = resolve)), SOON);
    const driver = await client(channel.address);
    const slow = driver.send([Uint8Array.of(1)], 1);
    await new Promise((resolve) => setTimeout(resolve, 250));
    finish(Uint8Array.of(5));
    expect(await slow).toEqual(Uint8Array.of(5));
    await new Promise((resolve) => setTimeout(resolve, 250));
    const again = driver.send([Uint8Array.of(1)], 1);
    await until(() => channel.statistics.commands === 2);
    finish(Uint8Array.of(6));
    expect(await again).toEqual(Uint8Array.of(6));
  });

  it('breaks the channel with a command that is too long, which nobody waits for', async () => {
    const { channel, broken } = await open(FLIP, SOON);
    const driver = await greeted(channel.address);
    const header = Buffer.from(encodeSerialMessage(COMMAND, 1, [], 1));
    header.writeUint32LE(MAX_SERIAL_BYTES + 1, 8);
    driver.socket.write(header);
    await until(() => broken.length === 1);
    expect(broken[0]).toContain(`${MAX_SERIAL_BYTES + 1} bytes`);
    expect(channel.statistics).toMatchObject({ commands: 0, violations: 1 });
  });
});
