/** Every code with what it means and what would help. Stable: policies, tests and people match on the codes. */
export const STRUCTURAL_CODES = {
  'empty-program': {
    meaning: 'the program has no insns',
    suggestion: 'a program is at least `r0 = 2; exit`',
  },
  'program-too-long': {
    meaning: 'the program has more insns than the configured limit',
    suggestion: 'split it into programs that tail-call one another, or raise max-insns',
  },
  'insn-invalid': {
    meaning: 'an encoding that RFC 9669 leaves unused, or that XDP programs cannot use',
    suggestion: 'compile with a clang whose -mcpu is v4 or older, and send the insns unchanged',
  },
  'jump-range': {
    meaning: 'a jump leads out of the program',
    suggestion: 'jump offsets count slots from the insn after the jump; an lddw takes two',
  },
  'jump-into-lddw': {
    meaning: 'a jump, or a call, leads into the second slot of an lddw',
    suggestion: 'jump offsets count slots from the insn after the jump; an lddw takes two',
  },
  'jump-across-functions': {
    meaning: 'a jump leads from one function into another',
    suggestion: 'only a call may lead into another function',
  },
  'falls-off': {
    meaning: 'execution can run past the end of a function',
    suggestion: 'end every path in exit or in a jump back into the function',
  },
  'unreachable-insn': {
    meaning: 'no path leads to an insn',
    suggestion: 'remove the dead code; clang does with -O2',
  },
  'back-edge': {
    meaning: 'a jump leads back, so the program may loop for ever',
    suggestion: 'unroll the loop, or use a verifier that proves that it ends, such as abstract',
  },
  'helper-unknown': {
    meaning: 'the number is not that of a helper',
    suggestion: 'helper numbers are those of enum bpf_func_id',
  },
  'helper-gpl-only': {
    meaning: 'the helper is for programs with a GPL-compatible license',
    suggestion: 'give the program such a license, e.g. char _license[] SEC("license") = "GPL"',
  },
  'kfunc-call': {
    meaning: 'the program calls a kernel function by its BTF id',
    suggestion: 'use helpers: a BTF id means something in one kernel only',
  },
  'map-unknown': {
    meaning: 'an lddw carries a handle that names no map',
    suggestion: 'create the map first and put its handle into the insn',
  },
  'map-value': {
    meaning: 'an lddw points into the value of a map that does not allow it, or past its end',
    suggestion: 'only an ARRAY of one element has a value that can be pointed to',
  },
  'reference-unsupported': {
    meaning: 'an lddw refers to something that exists only within one kernel or one system call',
    suggestion: 'refer to maps by handle',
  },
  'call-target': {
    meaning: 'a local call, or a pointer to a function, leads out of the program',
    suggestion: 'the target is counted in slots from the insn after the call',
  },
  'call-depth': {
    meaning: 'local calls nest deeper than 8 frames',
    suggestion: 'inline a function, or tail-call another program',
  },
  recursion: {
    meaning: 'a function calls itself, directly or not',
    suggestion: 'BPF has no recursion; use a loop',
  },
  'too-many-functions': {
    meaning: 'the program has more than 256 functions',
    suggestion: 'inline some of them',
  },
  'stack-bounds': {
    meaning: 'an access relative to r10 lies outside the 512 bytes of the stack frame',
    suggestion: 'the frame is at r10-512 up to r10-1; keep larger data in a map',
  },
  'division-by-zero': { meaning: 'a division by the constant 0', suggestion: 'divide by something else' },
  'shift-range': {
    meaning: 'a shift by a constant that is not below the width of the operation',
    suggestion: 'shift by 0 to 31 in 32-bit, by 0 to 63 in 64-bit arithmetic',
  },
} as const;

export type StructuralCode = keyof typeof STRUCTURAL_CODES;
