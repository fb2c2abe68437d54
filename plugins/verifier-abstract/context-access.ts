import type { Insn } from '../../src/bpf/insn.js';
import { XDP_MD, XDP_MD_SIZE } from '../../src/bpf/xdp.js';
import { signExtend } from './scalar/scalar-arithmetic.js';
import { Scalar } from './scalar/scalar.js';
import type { Simulation } from './simulation.js';
import { PACKET, PACKET_END, PACKET_META, scalarValue, type Value } from './value.js';

export function loadFromContext(
  sim: Simulation,
  insn: Insn,
  base: Value,
  size: number,
  signed: boolean,
): void {
  if (base.off !== 0) {
    sim.reject(
      'context-modified',
      `R${insn.src} is the context pointer plus ${base.off}, which may not be dereferenced`,
      {
        registers: [insn.src],
        suggestion: 'access the fields of xdp_md at constant offsets from R1 itself',
      },
    );
  }
  const { off } = insn;
  const field = Object.entries(XDP_MD).find(([, offset]) => offset === off)?.[0];
  if (off < 0 || off >= XDP_MD_SIZE || field === undefined || size !== 4) {
    sim.reject(
      'context-access',
      field === undefined
        ? `offset ${off} is no field of xdp_md, which has ${XDP_MD_SIZE} bytes in fields of 4`
        : `${field} of xdp_md is read as ${size} bytes, but is a __u32`,
      {
        registers: [insn.src],
        suggestion:
          'read data, data_end, data_meta, ingress_ifindex, rx_queue_index as __u32 at offsets 0, 4, 8, 12, 16',
      },
    );
  }
  if (off === XDP_MD.egress_ifindex && sim.program.attachType !== 'BPF_XDP_DEVMAP') {
    sim.reject('context-access', 'egress_ifindex is only there for programs in a device map', {
      registers: [insn.src],
      suggestion: 'put the program in section xdp/devmap',
    });
  }
  const pointers: Readonly<Record<number, Value>> = {
    [XDP_MD.data]: PACKET,
    [XDP_MD.data_end]: PACKET_END,
    [XDP_MD.data_meta]: PACKET_META,
  };
  const loaded = pointers[off];
  if (loaded !== undefined && signed) {
    sim.reject('context-access', `${field} of xdp_md is a pointer and cannot be sign-extended`, {
      registers: [insn.src],
    });
  }
  sim.facts.access(sim.pc, 'context', false, 4, off, off);
  const number = Scalar.ofBytes(4);
  sim.set(insn.dst, loaded ?? scalarValue(signed ? signExtend(number, 32) : number));
}
