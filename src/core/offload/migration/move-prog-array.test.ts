import { expect, it } from 'vitest';
import { InterpreterExecutor } from '../../../../plugins/executor-interpreter/interpreter-executor.js';
import { MemoryMapBackend } from '../../../../plugins/map-backend-memory/memory-map-backend.js';
import { StructuralVerifier } from '../../../../plugins/verifier-structural/structural-verifier.js';
import { assemble } from '../../../bpf/assembler.js';
import { EINVAL } from '../../../bpf/errno.js';
import { encodeInsns } from '../../../bpf/insn.js';
import { BPF_MAP_TYPE } from '../../../bpf/map-spec.js';
import { BpfRuntime } from '../../../bpf/runtime/bpf-runtime.js';
import { BpfOffloadGuest } from '../../../conformance/offload/bpf-offload-guest.js';
import { u32Key } from '../../../conformance/offload/offload-rig.js';
import type { Party } from '../../contract/party.js';
import { ProgramHook } from '../program-hook.js';
import { QuotaAccounts } from '../quota-accounts.js';

function party(name: string): Party {
  const runtime = new BpfRuntime({ memoryBytes: 4 * 1024 * 1024 });
  return {
    name,
    cpus: 1,
    mapBackend: new MemoryMapBackend(runtime),
    executor: new InterpreterExecutor(runtime),
    verifier: new StructuralVerifier(),
  };
}

const PASS = encodeInsns(assemble('r0 = 2\nexit'));

it.each([false, true])(
  'an emptied PROG_ARRAY takes the same kind of programs on the other host: for several buffers %s',
  async (frags) => {
    const place = new ProgramHook('guest0.eth0', 1);
    const g = new BpfOffloadGuest({ host: party('here'), guest: party('guest'), device: { place } });
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

    const to = { party: party('there'), policies: [], accounts: new QuotaAccounts() };
    const move = await g.device.prepareMove(to);
    if ('ok' in move) throw new Error(move.reason);
    move.commit();
    expect(await move.finish()).toMatchObject({ maps: 1, programs: 2 });

    expect(await put(other)).toBe(EINVAL);
    expect(await put(same)).toBeUndefined();
  },
);
