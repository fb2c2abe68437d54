import { expect, it } from 'vitest';
import { assemble } from '../../../bpf/assembler.js';
import { EINVAL } from '../../../bpf/errno.js';
import { encodeInsns } from '../../../bpf/insn.js';
import { BPF_MAP_TYPE } from '../../../bpf/map-spec.js';
import { BpfOffloadGuest } from '../../../conformance/offload/bpf-offload-guest.js';
import { u32Key } from '../../../conformance/offload/offload-rig.js';
import { ProgramHook } from '../program-hook.js';
import { QuotaAccounts } from '../quota-accounts.js';
import { testingParty } from '../testing-party.js';

const PASS = encodeInsns(assemble('r0 = 2\nexit'));

it.each([false, true])(
  'an emptied PROG_ARRAY takes the same kind of programs on the other host: for several buffers %s',
  async (frags) => {
    const place = new ProgramHook('guest0.eth0', 1);
    const g = new BpfOffloadGuest({
      host: testingParty('here'),
      guest: testingParty('guest'),
      device: { place },
    });
    const array = await g.map({
      mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY,
      valueSize: 4,
      maxEntries: 2,
    });
    const same = await g.program(PASS, { frags });
    const other = await g.program(PASS, { frags: !frags });
    const put = (program: number): Promise<number | undefined> =>
      g.errno({ kind: 'update-elem', handle: array, key: u32Key(0), value: u32Key(program), flags: 0n });
    const empty = { kind: 'delete-elem', handle: array, key: u32Key(0), valueSize: 4 } as const;
    expect(await put(same)).toBeUndefined();
    await g.expect('done', empty);
    expect(await put(other)).toBe(EINVAL);

    const to = { party: testingParty('there'), policies: [], accounts: new QuotaAccounts() };
    const move = await g.device.prepareMove(to);
    if ('ok' in move) throw new Error(move.reason);
    move.commit();
    expect(await move.finish()).toMatchObject({ maps: 1, programs: 2 });

    expect(await put(other)).toBe(EINVAL);
    expect(await put(same)).toBeUndefined();
  },
);
