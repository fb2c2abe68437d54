import { describe, expect, it } from 'vitest';
import { readFileSync } from 'node:fs';
import { parseObjectFile } from '../../bpf/object-file.js';
import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import { OffloadRig } from '../../conformance/offload/offload-rig.js';
import { guestView } from './guest-tool.js';
import { ProgramHook } from './program-hook.js';
import { BPF_OFFLOAD } from './protocol/bpf-offload/bpf-offload.js';
import type { ControlProtocol } from './protocol/control-protocol.js';
import { RFC_2019 } from './protocol/rfc-2019/rfc-2019.js';
import { testingParty } from './testing-party.js';

const FLOW_COUNT = new URL('../../../testbeds/programs/flow_count.o', import.meta.url);

async function offloaded(protocol: ControlProtocol) {
  const place = new ProgramHook('guest0.eth0', 1);
  const rig = new OffloadRig({
    host: testingParty('host'),
    guest: testingParty('guest'),
    protocol,
    device: { place },
  });
  const object = parseObjectFile(readFileSync(FLOW_COUNT), 'flow_count.o');
  expect(await rig.netdev.install(object, object.programs[0]!, 'offload')).toMatchObject({ ok: true });
  return { rig, place, tool: rig.netdev.tool };
}

/** UDP from 10.0.0.1:5 to 10.0.0.2:7, in as many bytes as flow_count looks at. */
function frame(): Uint8Array {
  const bytes = new Uint8Array(60);
  bytes.set([0x08, 0x00], 12);
  bytes.set([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 5, 0, 7, 0, 26], 14);
  return bytes;
}

describe('what a guest’s user sees of what is offloaded', () => {
  it('is the program by which interface, as ip link shows it', async () => {
    const { tool, place, rig } = await offloaded(BPF_OFFLOAD);
    for (let sent = 0; sent < 3; sent++) place.runOn(frame(), 0);
    const { command, text, json } = await guestView(tool, 'eth0', 'link');
    expect(command).toBe('ip -d link show dev eth0');
    expect(text.split('\n')[0]).toBe('eth0: <UP> xdpoffload');
    expect(text).toMatch(/^ {4}prog\/xdpoffload id 1 name flow_count tag [0-9a-f]{16} link 1$/m);
    expect(text).toContain('pass 3');
    expect(json).toMatchObject([{ ifname: 'eth0', xdp: { mode: 3, prog: { id: 1, name: 'flow_count' } } }]);
    await rig.netdev.detach();
    expect((await guestView(tool, 'eth0', 'link')).json).toEqual([{ ifname: 'eth0' }]);
  });

  it('is programs and maps, as bpftool lists them', async () => {
    const { tool } = await offloaded(BPF_OFFLOAD);
    expect((await guestView(tool, 'eth0', 'prog')).json).toMatchObject([
      { id: 1, type: 'xdp', name: 'flow_count', dev: { ifname: 'eth0' }, map_ids: [1], gpl_compatible: true },
    ]);
    expect((await guestView(tool, 'eth0', 'map')).json).toMatchObject([
      { id: 1, type: 'hash', name: 'flows', bytes_key: 16, bytes_value: 8, max_entries: 4096 },
    ]);
  });

  it('is what is in the maps, by the names that BTF gives', async () => {
    const { tool, place } = await offloaded(BPF_OFFLOAD);
    place.runOn(frame(), 0);
    const dumped = await tool.dump(1);
    const key = { saddr: '10.0.0.1', daddr: '10.0.0.2', sport: 5, dport: 7, protocol: 17 };
    expect(dumped).toEqual({ ok: true, value: [{ key, value: 1 }] });
  });

  it('says of a map without keys that it has none, and asks the device for none', async () => {
    const { tool, rig } = await offloaded(BPF_OFFLOAD);
    const ring = { keySize: 0, valueSize: 0, maxEntries: 4096, mapFlags: 0 };
    await rig.send({ kind: 'create-map', mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF, ...ring });
    const { text } = await guestView(tool, 'eth0', 'dump');
    expect(text.split('\n')).toEqual([
      'map 1 flows: 0 elements',
      'map 2 : a BPF_MAP_TYPE_RINGBUF has no keys',
    ]);
    expect(rig.audit).toEqual([]);
  });

  it('leaves no handle behind, whatever it shows', async () => {
    const { tool, rig } = await offloaded(BPF_OFFLOAD);
    const before = rig.device.objectCount;
    for (const view of ['link', 'prog', 'map', 'dump'] as const) await guestView(tool, 'eth0', view);
    expect(rig.device.objectCount).toBe(before);
    await rig.netdev.close();
    expect(rig.accounts.guests).toEqual([]);
  });

  it('is nothing where the device tells nothing, which it says', async () => {
    const { tool } = await offloadedEmpty();
    const { text } = await guestView(tool, 'eth0', 'prog');
    expect(text).toBe('protocol rfc-2019 has no request next-id');
  });
});

async function offloadedEmpty() {
  const rig = new OffloadRig({
    host: testingParty('host'),
    guest: testingParty('guest'),
    protocol: RFC_2019,
  });
  return { tool: rig.netdev.tool };
}
