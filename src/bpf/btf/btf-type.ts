/** Kinds by their number in BTF (`BTF_KIND_*`, include/uapi/linux/btf.h). */
export const BTF_KINDS = [
  'VOID',
  'INT',
  'PTR',
  'ARRAY',
  'STRUCT',
  'UNION',
  'ENUM',
  'FWD',
  'TYPEDEF',
  'VOLATILE',
  'CONST',
  'RESTRICT',
  'FUNC',
  'FUNC_PROTO',
  'VAR',
  'DATASEC',
  'FLOAT',
  'DECL_TAG',
  'TYPE_TAG',
  'ENUM64',
] as const;
export type BtfKind = (typeof BTF_KINDS)[number];

/** Linkage of functions and variables by its number (`BTF_FUNC_STATIC` …, `BTF_VAR_STATIC` …). */
export const BTF_LINKAGES = ['static', 'global', 'extern'] as const;

/** Encodings of an INT: the flags `BTF_INT_SIGNED`, `BTF_INT_CHAR`, `BTF_INT_BOOL`. */
export const BTF_INT_ENCODINGS = { unsigned: 0, signed: 1, char: 2, bool: 4 } as const;

export type BtfType =
  | { readonly kind: 'VOID'; readonly name: '' }
  | BtfInt
  | { readonly kind: 'PTR'; readonly name: ''; readonly type: number }
  | BtfArray
  | BtfComposite
  | BtfEnum
  | { readonly kind: 'FWD'; readonly name: string; readonly of: 'struct' | 'union' }
  | BtfModifier
  | BtfFunction
  | BtfFunctionPrototype
  | BtfVariable
  | BtfDataSection
  | { readonly kind: 'FLOAT'; readonly name: string; readonly size: number }
  | {
      readonly kind: 'DECL_TAG';
      readonly name: string;
      readonly type: number;
      /** Member or parameter that is tagged; -1: the whole. */
      readonly component: number;
    };

/** The members of the union that can be of kind K. */
export type BtfTypeOfKind<K extends BtfKind> = BtfType extends infer T
  ? T extends { readonly kind: infer J }
    ? K extends J
      ? T
      : never
    : never
  : never;

export interface BtfInt {
  readonly kind: 'INT';
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Bits that count, and the first of them; only old compilers use these for bit-fields. */
  readonly bits: number;
  readonly bitOffset: number;
  readonly encoding: 'unsigned' | 'signed' | 'char' | 'bool';
}

export interface BtfArray {
  readonly kind: 'ARRAY';
  readonly name: '';
  readonly type: number;
  readonly indexType: number;
  readonly length: number;
}

export interface BtfMember {
  /** Empty: an anonymous struct or union whose members belong to the one around it. */
  readonly name: string;
  readonly type: number;
  /** From the start of the struct. */
  readonly bitOffset: number;
  /** Width of a bit-field; 0: not one. */
  readonly bitSize: number;
}

export interface BtfComposite {
  readonly kind: 'STRUCT' | 'UNION';
  readonly name: string;
  readonly size: number;
  readonly members: readonly BtfMember[];
}

export interface BtfEnum {
  readonly kind: 'ENUM' | 'ENUM64';
  readonly name: string;
  readonly size: number;
  readonly signed: boolean;
  readonly values: readonly { readonly name: string; readonly value: bigint }[];
}

export interface BtfModifier {
  readonly kind: 'TYPEDEF' | 'VOLATILE' | 'CONST' | 'RESTRICT' | 'TYPE_TAG';
  readonly name: string;
  readonly type: number;
}

export interface BtfFunction {
  readonly kind: 'FUNC';
  readonly name: string;
  /** The FUNC_PROTO. */
  readonly type: number;
  readonly linkage: 'static' | 'global' | 'extern';
}

export interface BtfFunctionPrototype {
  readonly kind: 'FUNC_PROTO';
  readonly name: '';
  readonly returns: number;
  readonly parameters: readonly { readonly name: string; readonly type: number }[];
}

export interface BtfVariable {
  readonly kind: 'VAR';
  readonly name: string;
  readonly type: number;
  readonly linkage: 'static' | 'global' | 'extern';
}

export interface BtfSectionVariable {
  /** The VAR (or, for `.ksyms`, the FUNC). */
  readonly type: number;
  /** Bytes from the start of the section. */
  readonly offset: number;
  readonly size: number;
}

export interface BtfDataSection {
  readonly kind: 'DATASEC';
  /** The ELF section's name. */
  readonly name: string;
  readonly size: number;
  readonly variables: readonly BtfSectionVariable[];
}
