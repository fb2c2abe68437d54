/** A parsed `.BTF` section. */
export interface Btf {
  readonly typeCount: number;
}
