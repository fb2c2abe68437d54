import { expect, it } from 'vitest';
import { InterpreterExecutor } from '../../../plugins/executor-interpreter/interpreter-executor.js';
import { MemoryMapBackend } from '../../../plugins/map-backend-memory/memory-map-backend.js';
import { AbstractVerifier } from '../../../plugins/verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../../../plugins/verifier-abstract/config.js';
import { btfSection, btfType } from '../../../plugins/attack-rfc-2019/btf-section.js';
import { assemble } from '../../bpf/assembler.js';
import { encodeInsns } from '../../bpf/insn.js';
import { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import { OffloadRig } from '../../conformance/offload/offload-rig.js';
import { BPF_OFFLOAD } from './protocol/bpf-offload/bpf-offload.js';
import { MAX_REASON, recordedText } from './recorded-text.js';

function makeRig(): OffloadRig {
  const runtime = new BpfRuntime({ memoryBytes: 8 << 20 });
  const host = {
    name: 'host',
    cpus: 1,
    mapBackend: new MemoryMapBackend(runtime),
    executor: new InterpreterExecutor(runtime),
    verifier: new AbstractVerifier(DEFAULT_CONFIG),
  };
  return new OffloadRig({ host, guest: host, protocol: BPF_OFFLOAD });
}

/** A map whose value begins with a bpf_spin_lock called `lock`, and the reason why a program that writes to it is rejected. */
async function reasonNaming(lock: string): Promise<string> {
  const rig = makeRig();
  const names = Buffer.from(`\0int\0s\0bpf_spin_lock\0val\0${lock}\0`);
  const at = (name: string): number => names.indexOf(Buffer.from(`\0${name}\0`)) + 1;
  const types = [
    ...btfType(1, 4, { name: at('int'), more: [32] }),
    ...btfType(4, 4, { name: at('bpf_spin_lock'), vlen: 1, more: [at('val'), 1, 0] }),
    ...btfType(4, 8, { name: at('s'), vlen: 2, more: [at(lock), 2, 0, at('val'), 1, 32] }),
  ];
  const btf = await rig.send({
    kind: 'load-btf',
    bytes: btfSection({ types, strings: names.toString('latin1') }),
  });
  const map = await rig.send({
    kind: 'create-map',
    mapType: 2,
    keySize: 4,
    valueSize: 8,
    maxEntries: 1,
    mapFlags: 0,
    name: 'm',
    btf: { handle: handleOf(btf), keyType: 0, valueType: 3 },
  });
  const insns = encodeInsns(
    assemble(
      `r1 = 0 ll
       r3 = 0
       *(u32 *)(r10 -4) = r3
       r2 = r10
       r2 += -4
       call bpf_map_lookup_elem
       if r0 == 0 goto out
       r3 = 1
       *(u32 *)(r0 +0) = r3
       out: r0 = 2
       exit`,
    ),
  );
  // BPF_PSEUDO_MAP_FD in src_reg, the handle in imm (RFC 9669, section 5.4).
  insns[1]! |= 1 << 4;
  new DataView(insns.buffer, insns.byteOffset).setUint32(4, handleOf(map), true);
  await rig.send({ kind: 'load-program', name: 'p', insns, gplCompatible: true, frags: false });
  return rig.audit.at(-1)!.reason;
}

function handleOf(reply: object): number {
  if (!('handle' in reply)) throw new Error(JSON.stringify(reply));
  return reply.handle as number;
}

it('an audit record has names of a guest’s on one line and printable', async () => {
  const reason = await reasonNaming('l\u001b[2J\u202e\n');
  expect(reason).toContain('rejected: ');
  expect(reason).toContain('l\\u001b[2J\\u202e\\u000a');
  expect(reason).toMatch(/^[\x20-\x7e]*$/);
});

it('an audit record has a bounded reason, whatever it repeats', () => {
  const rig = makeRig();
  rig.device.transportBroken('l'.repeat(15_000));
  expect(rig.audit.at(-1)!.reason).toHaveLength(MAX_REASON);
  expect(recordedText('\u202e'.repeat(MAX_REASON))).toHaveLength(MAX_REASON);
});
