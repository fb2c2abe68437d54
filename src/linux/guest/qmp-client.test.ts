import { duplexPair } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { QmpClient } from './qmp-client.js';

/** A client, and the words that QEMU is told; the test says what it answers. */
function qemu() {
  const [ours, theirs] = duplexPair();
  const told: unknown[] = [];
  const waiting: (() => void)[] = [];
  theirs.on('error', () => {});
  theirs.on('data', (bytes: Buffer) => {
    told.push(JSON.parse(bytes.toString()));
    for (const wake of waiting.splice(0)) wake();
  });
  const say = (text: string): void => void theirs.write(text);
  const heard = async (count: number): Promise<void> => {
    while (told.length < count) await new Promise<void>((resolve) => waiting.push(resolve));
  };
  return { client: new QmpClient(ours), told, say, heard };
}

describe('QMP', () => {
  it('waits for the greeting, then takes commands in order, with events in between', async () => {
    const { client, told, say, heard } = qemu();
    const events: unknown[] = [];
    client.onEvent((event) => void events.push(event));
    say('{"QMP": {"version": {}}}\r\n');
    await heard(1);
    expect(told).toEqual([{ execute: 'qmp_capabilities', arguments: {} }]);
    say('{"return": {}}\r\n');
    await client.ready;
    const status = client.execute('query-status');
    const bad = client.execute('bad', { x: 1 });
    const refused = expect(bad).rejects.toMatchObject({
      code: 'guest-failed',
      message: 'QEMU refused: no such command',
    });
    await heard(3);
    say('{"event": "RESUME", "timestamp": {}}\r\n{"return": {"status": "run');
    say('ning"}}\r\n{"error": {"class": "x", "desc": "no such command"}}\r\n');
    expect(await status).toEqual({ status: 'running' });
    await refused;
    expect(events).toEqual([{ event: 'RESUME', data: undefined }]);
  });

  it.each([
    ['no JSON', '{"QMP"\n', 'what came is no JSON'],
    ['no message', '7\n', 'what came is no message'],
    ['an answer too many', '{"return": 1}\n{"return": 2}\n', 'nobody waits for'],
    ['a line without end', 'x'.repeat(300 * 1024), 'a message without end'],
  ])('ends at %s', async (_what, text, reason) => {
    const { client, say } = qemu();
    client.ready.catch(() => {});
    const asked = client.execute('query-status').catch((error: Error) => error.message);
    say(text);
    await new Promise((resolve) => setImmediate(resolve));
    await expect(client.execute('query-status')).rejects.toThrow(reason);
    await asked;
  });

  it('rejects what waits when QEMU is gone', async () => {
    const { client } = qemu();
    const asked = expect(client.execute('quit')).rejects.toThrow('the conversation is over');
    client.close();
    await asked;
  });
});
