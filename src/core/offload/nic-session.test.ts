import { describe, expect, it } from 'vitest';
import { featureSet, VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ } from '../../virtio/features.js';
import { RecordingPlace } from '../../conformance/offload/offload-rig.js';
import { MachineClock } from '../clock/machine-clock.js';
import type { DeviceMove, MoveRefusal, MoveReport } from '../contract/device.js';
import type { LoadedProgram } from '../contract/executor.js';
import type { Attachment } from '../contract/hook-place.js';
import type { Party } from '../contract/party.js';
import type { Policy } from '../contract/policy.js';
import { CommandTurns } from './command-turns.js';
import { NicSession, type NicSessionOptions } from './nic-session.js';
import { QuotaAccounts } from './quota-accounts.js';

const REPORT: MoveReport = { maps: 0, programs: 0, bytesBefore: 0, bytesAtSwitch: 0 };
const POLICY: Policy = { name: 'any', rule: () => ({ ruling: 'allow', reason: '' }) };

const host = (used: number): Party =>
  ({ name: 'host', mapBackend: { memory: () => ({ total: 4096, used }) } }) as unknown as Party;
const program = (counts: boolean): LoadedProgram => (counts ? { work: {} } : {}) as unknown as LoadedProgram;

/** A nic on a host that holds 100 bytes for it, and has `policies`; its program is in its place, with `counts`. */
async function onHost(
  { policies, counts }: { policies: readonly Policy[]; counts: boolean },
  report: MoveReport | MoveRefusal = REPORT,
) {
  let attachment: Attachment | undefined;
  const there = program(!counts);
  const move: DeviceMove = {
    copy: () => true,
    commit: () => void attachment!.replace(there),
    finish: async () => report,
    abort: async () => undefined,
  };
  const options = {
    guest: 'alice',
    plan: { name: 'eth0', tap: 'tap0', mac: '52:54:00:00:00:01', queues: 1, features: FEATURES },
    places: {
      control: { serve: async () => async () => undefined },
      offload: new RecordingPlace(),
      driver: { kind: 'remote' },
      onBroken: () => undefined,
    },
    device: {
      name: 'moving',
      open: async ({ place }: { place: RecordingPlace }) => {
        attachment = await place.attach(program(counts));
        return { prepareMove: async () => move };
      },
    },
    hostParty: host(100),
    commandTurns: new CommandTurns('turns', 0),
    policies,
    accounts: new QuotaAccounts(),
    clock: new MachineClock(),
    events: { ruling: () => undefined, audit: () => undefined },
  };
  return NicSession.open(options as unknown as NicSessionOptions);
}

const FEATURES = featureSet(VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ);

/** What is told of the host that the nic is on. */
async function told(session: NicSession) {
  const { capabilities } = await session.offloadState();
  return { memory: session.hostMemoryUsed, names: capabilities.names };
}

async function prepared(session: NicSession, policies: readonly Policy[]): Promise<DeviceMove> {
  const move = await session.prepareMove({ party: host(7), policies, accounts: new QuotaAccounts() });
  if ('ok' in move) throw new Error(move.reason);
  return move;
}

describe('what is told of a nic', () => {
  it('is of the host that it is on: from when it has arrived, of the other', async () => {
    const session = await onHost({ policies: [POLICY], counts: true });
    const here = { memory: 100, names: ['XDP_OFFLOAD', 'POLICED', 'INSNS_COUNTED'] };
    expect(await told(session)).toEqual(here);
    const move = await prepared(session, []);
    expect(await told(session)).toEqual(here);
    expect(move.copy()).toBe(true);
    move.commit();
    expect(await move.finish()).toEqual(REPORT);
    expect(await told(session)).toEqual({ memory: 7, names: ['XDP_OFFLOAD'] });
  });

  it('is of a host with policies, where the one that it left had none', async () => {
    const session = await onHost({ policies: [], counts: false });
    expect(await told(session)).toEqual({ memory: 100, names: ['XDP_OFFLOAD'] });
    const move = await prepared(session, [POLICY]);
    move.commit();
    await move.finish();
    expect(await told(session)).toEqual({ memory: 7, names: ['XDP_OFFLOAD', 'POLICED', 'INSNS_COUNTED'] });
  });

  it('is of the host that it has stayed on', async () => {
    const session = await onHost({ policies: [POLICY], counts: true }, { ok: false, reason: 'no' });
    await (await prepared(session, [])).abort();
    expect(await told(session)).toMatchObject({
      memory: 100,
      names: ['XDP_OFFLOAD', 'POLICED', 'INSNS_COUNTED'],
    });
    expect(await (await prepared(session, [])).finish()).toEqual({ ok: false, reason: 'no' });
    expect(await told(session)).toMatchObject({
      memory: 100,
      names: ['XDP_OFFLOAD', 'POLICED', 'INSNS_COUNTED'],
    });
  });
});
