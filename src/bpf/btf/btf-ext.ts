/** A source line, from `.BTF.ext` (`struct bpf_line_info`, include/uapi/linux/btf.h). */
export interface LineInfo {
  /** First slot that this line made. */
  readonly insn: number;
  readonly file: string;
  /** The source text, trimmed. */
  readonly text: string;
  /** Counted from 1. */
  readonly line: number;
  readonly column: number;
}

/** Where a function starts and what it is called (`struct bpf_func_info`). */
export interface FunctionInfo {
  readonly insn: number;
  readonly name: string;
  /** A static function is verified with its caller's facts, a global one by its signature. */
  readonly linkage: 'static' | 'global' | 'extern';
  /** BTF type id of the FUNC. */
  readonly typeId: number;
}
