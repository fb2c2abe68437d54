/**
 * Every reason the verifier rejects for: stable codes, what they mean, and what to do. docs/verifier/rejections.md
 * says the same at length with a minimal program each, and a test keeps the two in step.
 */
export const REJECTION_CODES = {
  // The program as a text
  'program-empty': 'the program has no insns',
  'program-too-long': 'the program has more insns than the limit',
  'program-type': 'the program is not an XDP program',
  'insn-invalid': 'an insn is not a valid encoding of the ISA',
  'insn-unsupported': 'an insn is valid for the kernel, but works on something that is not modelled',
  'division-by-zero': 'a division or modulo by the constant 0',
  'shift-too-far': 'a shift by a constant that is not smaller than the width',
  'jump-out-of-range': 'a jump or call leads outside the program or its function',
  'jump-into-lddw': 'a jump leads into the second half of an lddw',
  'unreachable-insn': 'no path leads to an insn',
  'falls-through': 'control can run past the end of a function',
  'map-unknown': 'an lddw names a map that was not given to the verifier',

  // Values
  'uninitialised-register': 'a register is read before anything was put into it',
  'uninitialised-stack': 'stack bytes are read before anything was put into them',
  'frame-pointer-write': 'R10 is written',
  'not-a-pointer': 'memory is accessed through something that is not a pointer to it',
  'pointer-arithmetic': 'arithmetic on a pointer that would make it something else',
  'pointer-offset-unbounded': 'a number added to a pointer may be too large or negative without limit',
  'pointer-comparison': 'two pointers are compared whose order would tell addresses',
  'pointer-leak': 'an address would become visible outside the program',
  'return-value': 'R0 is not a number when the program or a callback ends',

  // Memory
  'packet-bounds': 'packet bytes are accessed that were not compared with data_end',
  'stale-packet-pointer': 'a packet pointer is used after a helper may have moved the packet',
  'use-after-release': 'a pointer is used after what it points to was given back',
  'stack-bounds': 'the stack is accessed outside its 512 bytes',
  'stack-alignment': 'a stack access is not aligned to its size',
  'spill-size': 'a spilled pointer is read or overwritten in part',
  'map-value-bounds': 'a map value is accessed outside its size',
  'memory-bounds': 'memory that a helper gave is accessed outside its size',
  'null-dereference': 'a pointer that may be NULL is used before it was compared with 0',
  'read-only': 'memory is written that may only be read',
  'write-only': 'memory is read that may only be written',
  'context-access': 'the context is accessed in a way that xdp_md does not have',
  'context-write': 'the context is written',
  'context-modified': 'the context pointer is used with an offset added to it',
  'atomic-target': 'an atomic operation on memory that does not allow it',
  'atomic-alignment': 'an atomic operation that may not be aligned to its size',

  // Calls
  'helper-unknown': 'a helper that does not exist or that XDP programs may not call',
  'helper-gpl-only': 'a GPL-only helper in a program whose license is not compatible',
  'helper-privileged': 'a helper that reaches beyond the packet and the maps',
  'helper-unsupported': 'a helper that works on something that is not modelled',
  'helper-argument': 'an argument is not what the helper takes',
  'helper-size': 'the size passed to a helper may be wrong for the memory',
  'map-helper-mismatch': 'a map of that type cannot be passed to that helper',
  'packet-memory-argument': 'a helper is passed packet memory that it cannot take',
  'reference-leak': 'something acquired from a helper is not given back',
  'reference-release': 'something is given back that was not acquired, or with an offset',
  'call-depth': 'local calls nest deeper than 8 frames',
  'stack-depth': 'the stacks of nested functions together exceed 512 bytes',
  'callback-invalid': 'a callback is not a local function or returns something else than 0 or 1',

  // Ends
  'infinite-loop': 'a loop comes back to a state that it was in before',
  'too-many-insns': 'more insns had to be simulated than the limit',
  'too-many-branches': 'too many branches are waiting to be explored',
  'out-of-memory': 'the exploration needs more memory than the limit',
  'out-of-time': 'the exploration takes longer than the limit',
  'internal-error': 'the verifier itself failed; the program is rejected to be safe',
} as const;

export type RejectionCode = keyof typeof REJECTION_CODES;

/** What the place that finds a problem knows of it; explain.ts makes a Rejection of it. */
export interface Finding {
  readonly code: RejectionCode;
  /** One sentence, lower-case. */
  readonly reason: string;
  /** Slot of the offending insn; undefined when the program as a whole is at fault. */
  readonly insn?: number | undefined;
  /** The registers at fault, most important first. */
  readonly registers?: readonly number[] | undefined;
  readonly suggestion?: string | undefined;
}

/** Thrown where a problem is found and caught by the exploration; never leaves this plugin. */
export class RejectSignal extends Error {
  constructor(readonly finding: Finding) {
    super(finding.reason);
  }
}
