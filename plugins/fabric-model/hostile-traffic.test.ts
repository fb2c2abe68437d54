import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Type } from '@sinclair/typebox';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { StreamEvent } from '../../src/core/contract/event.js';
import { definePlugin, type Plugin } from '../../src/core/contract/plugin.js';
import type { RunResult } from '../../src/core/contract/result.js';
import { TRANSPORT, type ControlChannel, type Transport } from '../../src/core/contract/transport.js';
import { WORKLOAD, type Workload } from '../../src/core/contract/workload.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { buildFrame, formatMac } from '../../src/packet/index.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';
import { VirtqueueTransport } from '../transport-virtqueue/virtqueue-transport.js';
import { COPY_LIMIT } from './frame-accounting.js';

const PROGRAMS = {
  'tx.s': `.license GPL
.program tx
  r0 = 3
  exit
`,
  'trace.s': `.license GPL
.program trace
  r1 = 0x6d6f6f62
  *(u64 *)(r10 - 8) = r1
  r1 = r10
  r1 += -8
  r2 = 8
  call bpf_trace_printk
  r0 = 2
  exit
`,
};

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'xdpbed-hostile-'));
  for (const [name, text] of Object.entries(PROGRAMS)) await writeFile(join(folder, name), text);
});
afterAll(() => rm(folder, { recursive: true }));

const FRAMES = 16;

/** One burst, to this address or to the first guest. */
function burst(name: string, dst?: string): Plugin {
  const workload: Workload = {
    name,
    *frames({ targets, senderMac }) {
      const eth = { src: formatMac(senderMac), dst: dst ?? formatMac(targets[0]!.mac) };
      const ipv4 = { src: '198.18.0.1', dst: '192.0.2.1' };
      const bytes = buildFrame({ eth, ipv4, udp: { srcPort: 1024, dstPort: 9 } });
      for (let index = 0; index < FRAMES; index++) yield { bytes, at: index * 1_000_000 };
    },
  };
  return plugin('workload', name, (scope) => scope.bindValue(WORKLOAD, workload));
}

function plugin(role: Plugin['role'], name: string, register: Plugin['register']): Plugin {
  const configSchema = Type.Object({});
  return definePlugin({
    name,
    version: '1.0.0',
    role,
    api: '^2',
    description: 'test',
    configSchema,
    register,
  });
}

async function run(
  text: string,
  plugins: readonly Plugin[],
  onEvent?: (event: StreamEvent) => void,
): Promise<RunResult> {
  const registry = new PluginRegistry([...BUILT_IN_PLUGINS, ...plugins]);
  const resolved = await resolveTestbed(join(folder, 'hostile.testbed.yaml'), text, registry);
  const { runs } = await runTestbed(resolved, { version: '0', onEvent });
  const [result] = runs;
  const ended = result!.ends.reduce((sum, end) => sum + end.frames, 0);
  expect(ended).toBe(result!.framesSent + result!.framesCopied);
  return result!;
}

/** A broadcast from the wire to so many guests, whose programs all send it back. */
async function storm(guests: number): Promise<RunResult> {
  const each = Array.from({ length: guests }, (_, index) => index);
  const result = await run(
    `version: 1
name: storm
programs: { tx: { object: tx.s } }
host:
  case: bridge
  hook: tun_net_xmit
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { ${each.map((i) => `tap${i}: {}`).join(', ')} }
  bridges: { br0: { ports: [eth0, ${each.map((i) => `tap${i}`).join(', ')}] } }
guests:
${each.map((i) => `  g${i}: { nics: { eth0: { tap: tap${i}, mac: 52:54:00:00:01:${i.toString(16).padStart(2, '0')}, program: tx, placement: host } } }`).join('\n')}
workload: { use: broadcast }
`,
    [burst('broadcast', 'ff:ff:ff:ff:ff:ff')],
  );
  return result;
}

describe('a broadcast that every guest sends back', () => {
  it.each([3, 8])('to %i guests ends: flooded twice more it meets no programs', async (guests) => {
    const result = await storm(guests);
    expect(result.attachments.filter(({ attached }) => attached)).toHaveLength(guests);
    const met = result.hooks.reduce(
      (sum, { verdicts }) => sum + Object.values(verdicts).reduce((total, count) => total + count, 0),
      0,
    );
    // Each guest's program meets the sender's frames and what the others' made of them; what they make of that it does not.
    const others = guests - 1;
    expect(met).toBe(FRAMES * guests * (1 + others));
    const caught = result.ends.filter(({ fate }) => fate === 'hop-limit');
    expect(caught.reduce((sum, { frames }) => sum + frames, 0)).toBe(FRAMES * guests * others * others);
  });

  it('to 40 guests ends: what it becomes has a limit', async () => {
    const result = await storm(40);
    // Without the limit 40 guests would meet 40 × 40 frames of each, and be sent 40 × 39 × 39 more.
    expect(result.framesCopied).toBeGreaterThan(FRAMES * COPY_LIMIT);
    // One that may go on is copied to all other ports, 40.
    expect(result.framesCopied).toBeLessThanOrEqual(FRAMES * (COPY_LIMIT + 1) * 40);
  });
});

describe('a link that breaks', () => {
  it('loses the frames in it, and says so', async () => {
    let channel: ControlChannel | undefined;
    const virtqueues = new VirtqueueTransport();
    const transport: Transport = {
      name: 'watched',
      open: async (options) => (channel = await virtqueues.open(options)),
    };
    let traces = 0;
    const result = await run(
      `version: 1
name: broken
programs: { tx: { object: tx.s }, trace: { object: trace.s } }
plugins: { transport: { use: watched } }
host:
  case: bridge
  reader: { kind: read }
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: { rx-program: trace } }
  bridges: { br0: { ports: [eth0, tap0] } }
guests:
  g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: tx, placement: guest } } }
workload: { use: unicast }
`,
      [burst('unicast'), plugin('transport', 'watched', (scope) => scope.bindValue(TRANSPORT, transport))],
      (event) => {
        if (event.event === 'trace' && ++traces === 3) channel!.break('a rule was broken elsewhere');
      },
    );
    expect(traces).toBe(3);
    const broken = result.ends.filter(({ fate }) => fate === 'link-broken');
    expect(broken).toEqual([{ place: 'g0.eth0', fate: 'link-broken', frames: FRAMES - 3 }]);
  });
});
