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
  'map-value-address': 'an lddw points into the value of a map that has no single one, or past its end',

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
  'pointer-types-differ': 'an insn reads the context or a socket on one path, and something else on another',
  'atomic-target': 'an atomic operation on memory that does not allow it',
  'atomic-alignment': 'an atomic operation that may not be aligned to its size',

  // Calls
  'helper-unknown': 'a helper that does not exist or that XDP programs may not call',
  'helper-gpl-only': 'a GPL-only helper in a program whose license is not compatible',
  'helper-privileged': 'a helper that reaches beyond the packet and the maps',
  'helper-unsupported': 'a helper that works on something that is not modelled',
  'helper-argument': 'an argument is not what the helper takes',
  'helper-size': 'the size passed to a helper may be wrong for the memory',
  'helper-alignment': 'a number that a helper writes to memory may not be aligned to its size',
  'map-helper-mismatch': 'a map of that type cannot be passed to that helper',
  'packet-memory-argument': 'a helper is passed packet memory that it cannot take',
  'reference-leak': 'something acquired from a helper is not given back',
  'reference-release': 'something is given back that was not acquired, or with an offset',
  'lock-argument': 'bpf_spin_lock or bpf_spin_unlock is given something else than the lock that it is for',
  'lock-held': 'something is done that may not be done while a lock is held, or the program ends with it',
  'special-field': "a lock, a timer or the like in a map's value is accessed as if it were data",
  'call-depth': 'local calls nest deeper than 8 frames',
  'stack-depth': 'the stacks of nested functions together exceed 512 bytes',
  'callback-invalid':
    'a callback is not a local function, is never run, or returns something else than 0 or 1',

  // Ends
  'infinite-loop': 'a loop comes back to a state that it was in before',
  'too-many-insns': 'more insns had to be simulated than the limit',
  'too-many-branches': 'too many branches are waiting to be explored',
  'out-of-memory': 'the exploration needs more memory than the limit',
  'out-of-time': 'the exploration takes longer than the limit',
  'internal-error': 'the verifier itself failed; the program is rejected to be safe',
} as const;

export type RejectionCode = keyof typeof REJECTION_CODES;

/** What helps, for each code; the place that finds a problem often knows something more to the point. */
export const REJECTION_HELP: Readonly<Record<RejectionCode, string>> = {
  'program-empty': 'give the program at least `r0 = 2` and `exit`',
  'program-too-long': 'split the program with tail calls',
  'program-type': 'put the program in a section that starts with `xdp`',
  'insn-invalid':
    'compile for a BPF target that RFC 9669 describes; hand-made insns must leave unused fields zero',
  'insn-unsupported':
    'use helpers and maps instead; or verify with the kernel verifier on a host that has what is named',
  'division-by-zero':
    'divide by a register if the divisor is only known at run time: a divisor of 0 gives 0 then',
  'shift-too-far': 'shift by less than the width of the register',
  'jump-out-of-range': 'jump within the function, and call only functions of the program',
  'jump-into-lddw': 'jump to the first slot of the lddw, or behind its second',
  'unreachable-insn': 'remove the insn, or the jump that skips it',
  'falls-through': 'end every function with exit, or with a jump backwards',
  'map-unknown': 'create the map before the program is submitted, and use the handle that was returned',
  'map-value-address':
    'only an ARRAY of one element has a value that can be pointed to, at offsets below its size; look others up',
  'uninitialised-register':
    'give the register a value on every path; a call wipes R1 to R5, so keep what is needed later in R6 to R9',
  'uninitialised-stack':
    'store to the bytes first; clear a struct as a whole, with its padding, before its fields are set',
  'frame-pointer-write': 'copy R10 to another register and change that one',
  'not-a-pointer': 'access memory through pointers from the context, the stack, a lookup or a helper',
  'pointer-arithmetic':
    'move pointers by adding a bounded number on 64 bits; do other arithmetic on the number first',
  'pointer-offset-unbounded':
    'make the number unsigned and bounded before it is added: mask it or compare it',
  'pointer-comparison': 'compare pointers only with 0, with data_end, or with pointers into the same memory',
  'pointer-leak': 'store or return data or offsets instead of addresses; spill pointers to the stack only',
  'return-value': 'return a number from the program, and no pointer to a stack that is gone',
  'packet-bounds':
    'compare the end of the access with data_end before it, on 64 bits, and leave if it is beyond',
  'stale-packet-pointer':
    'load data and data_end from the context again after the helper, and compare them again',
  'use-after-release': 'use it before it is submitted, discarded or released',
  'stack-bounds': 'use offsets from -512 to -1; keep large buffers in a per-CPU array map',
  'stack-alignment': 'use stack offsets that are a multiple of the size of the access',
  'spill-size': 'spill and fill pointers with 8-byte stores and loads, and overwrite them as a whole',
  'map-value-bounds':
    'bound the index so that the whole access lies in the value: mask it or compare it as unsigned',
  'memory-bounds': 'stay within the size that was asked for',
  'null-dereference': 'compare the pointer with 0 right after the call, and leave if it is 0',
  'read-only': 'write to a map that programs may write, or to a copy on the stack',
  'write-only': 'read from a map that programs may read',
  'context-access': 'read the fields of xdp_md as `__u32` at offsets 0, 4, 8, 12 and 16',
  'context-write':
    'move the ends of the packet with bpf_xdp_adjust_head, _tail and _meta; everything else is fixed',
  'context-modified': 'use the context pointer as it was passed in R1',
  'pointer-types-differ': 'load on each path with an insn of its own, before the paths meet',
  'atomic-target':
    'use plain loads and stores on the packet; atomics are for map values, records and the stack',
  'atomic-alignment': 'place what is changed atomically at a multiple of its size',
  'helper-unknown': 'see which helpers XDP programs may call in bpf-helpers(7)',
  'helper-gpl-only':
    'give the program a license section with "GPL" or "Dual MIT/GPL", if that is its license',
  'helper-privileged':
    'do without it, or allow it with allowPrivilegedHelpers for programs from someone trusted',
  'helper-unsupported': 'do without it, or verify with the kernel verifier',
  'helper-argument': 'pass what the message names',
  'helper-size':
    'bound the size before the call: at least 1 if 0 is not taken, at most the size of the memory, never negative',
  'helper-alignment': 'pass the address of a variable of that size, at a multiple of it',
  'map-helper-mismatch': 'use the helper that goes with the type of the map',
  'packet-memory-argument': 'copy the bytes to the stack first and pass that',
  'reference-leak': 'give it back on every path after the check for NULL',
  'reference-release': 'pass the pointer exactly as it was returned, once',
  'lock-argument':
    'pass the address of the struct bpf_spin_lock in a value that was looked up, and unlock what was locked',
  'lock-held': 'call bpf_spin_unlock on every path before the end, and before any helper is called',
  'special-field': 'access the members around it one by one',
  'call-depth': 'flatten the calls, or inline functions; recursion is not possible',
  'stack-depth':
    'move large buffers to a per-CPU array map, or inline functions so that they share the stack',
  'callback-invalid': 'pass a function of the program that returns 0 (go on) or 1 (stop)',
  'infinite-loop': 'let something that the loop condition tests change in every round, towards a bound',
  'too-many-insns':
    'bound loops by a constant that the verifier can see, or use bpf_loop; see the hotspots of the complexity report',
  'too-many-branches': 'bound the loop lower, or move its body to a callback of bpf_loop',
  'out-of-memory': 'simplify the hotspots of the complexity report, or raise maxMemoryMiB',
  'out-of-time': 'simplify the hotspots of the complexity report, or raise maxMilliseconds',
  'internal-error': 'report it: this is a bug of the verifier, not of the program',
};
