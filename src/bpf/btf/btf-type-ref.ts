import type { Btf } from './btf.js';

/** A type of one BTF section. */
export interface BtfTypeRef {
  readonly btf: Btf;
  /** Type id; 0 is void. */
  readonly id: number;
}
