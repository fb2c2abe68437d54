/**
 * The codes of this verifier, each with what would help. They are those of verifier `abstract` (a test keeps them
 * so), that their opinions can be compared, and the few in {@link KERNEL_ONLY_CODES} for what only a kernel says.
 */
export const SUGGESTIONS = {
  'program-empty': 'a program is at least `r0 = 2; exit`',
  'program-too-long': 'split it into programs that tail-call one another',
  'insn-invalid': 'compile with a clang whose -mcpu is v4 or older, and send the insns unchanged',
  'insn-unsupported': 'refer to maps by handle; what is named by BTF exists in one kernel only',
  'division-by-zero': 'divide by something else',
  'shift-too-far': 'shift by 0 to 31 in 32-bit, by 0 to 63 in 64-bit arithmetic',
  'jump-out-of-range':
    'jump offsets count slots from the insn after the jump, and stay within their function',
  'jump-into-lddw': 'jump offsets count slots from the insn after the jump; an lddw takes two',
  'unreachable-insn': 'remove the dead code; clang does with -O2',
  'falls-through': 'end every path in exit or in a jump',
  'map-unknown': 'create the map first and put its handle into the insn',
  'uninitialised-register': 'give the register a value on every path; R1 to R5 are lost in a call',
  'uninitialised-stack': 'write all bytes of the stack that are read, padding of structs included',
  'frame-pointer-write': 'copy r10 to another register and change that',
  'not-a-pointer':
    'a number cannot be dereferenced: was a pointer lost in arithmetic, or its copy on the stack overwritten?',
  'pointer-arithmetic': 'only add numbers to pointers and subtract them, in 64 bits',
  'pointer-offset-unbounded': 'mask the number, or compare it with a constant, before it is added',
  'pointer-comparison': 'compare pointers into the packet with data_end only, and others with NULL',
  'pointer-leak': 'do not return or store addresses where others can read them',
  'return-value': 'return a number that is allowed there',
  'packet-bounds': 'compare the end of what is accessed with data_end on the way to the access',
  'stale-packet-pointer': 'read data and data_end from ctx again after the helper that may move the packet',
  'stack-bounds': 'the frame is at r10-512 up to r10-1; keep larger data in a map',
  'stack-alignment': 'access the stack at multiples of the size of the access',
  'spill-size': 'spill and fill pointers as 8 aligned bytes',
  'map-value-bounds':
    'keep the offset below the size of the value: mask it, or compare it, before it is added',
  'memory-bounds': 'stay within the size that was asked of the helper',
  'null-dereference': 'compare the result with NULL, and use it only where it is not',
  'read-only': 'keep what changes in memory that the program may write',
  'write-only': 'keep what is read in memory that the program may read',
  'context-access': 'read whole fields of struct xdp_md at their offsets',
  'context-write': 'the fields of struct xdp_md change through helpers only, e.g. bpf_xdp_adjust_head',
  'context-modified': 'keep the ctx pointer as it is and use the offset of the access',
  'atomic-target': 'use atomics on map values and on the stack',
  'atomic-alignment': 'align the access to its size',
  'helper-unknown': 'use a helper that this kernel has and that XDP programs may call',
  'helper-gpl-only': 'give the program a GPL-compatible license, e.g. char _license[] SEC("license") = "GPL"',
  'helper-argument': 'pass what the prototype of the helper says',
  'helper-size': 'bound the size with a comparison or a mask, and keep it within the memory passed with it',
  'map-helper-mismatch': 'use the helper with a map of a type that it works on',
  'packet-memory-argument': 'copy the packet bytes to the stack and pass those',
  'reference-leak': 'release what was acquired on every path, e.g. by bpf_ringbuf_submit',
  'reference-release': 'release exactly what was acquired, once',
  'call-depth': 'inline a function, or tail-call another program; BPF has no recursion',
  'stack-depth': 'move data of the functions that call one another into a map',
  'callback-invalid': 'pass a static function that returns 0 or 1',
  'infinite-loop': 'let something change in each round that ends the loop',
  'too-many-insns': 'make loops shorter, or split the program by tail calls',
  'too-many-branches': 'have fewer branches inside of loops, or split the program by tail calls',
  'map-invalid': 'give the map attributes that the kernel takes for its type',
  'kernel-other': undefined,
} as const satisfies Record<string, string | undefined>;

export type KernelCode = keyof typeof SUGGESTIONS;

/** `map-invalid`: the kernel does not create the map. `kernel-other`: a message that is not in the table below. */
export const KERNEL_ONLY_CODES: readonly KernelCode[] = ['map-invalid', 'kernel-other'];

/** The kernel's messages by what they mean. First match counts: the particular stands before the general. */
const MESSAGES: readonly (readonly [RegExp, KernelCode])[] = [
  [/^invalid access to packet|offset is outside of the packet/, 'packet-bounds'],
  [/^invalid access to map (value|key)/, 'map-value-bounds'],
  [/^invalid access to mem/, 'memory-bounds'],
  [/use unsigned or 'var &= const'|use 'var &= const' or|invalid zero-sized (read|write)/, 'helper-size'],
  [/unbounded memory access|(min|max) value is (negative|outside)/, 'memory-bounds'],
  // Within bounds but never written: with the offset as a sum. Out of bounds: with `off=`.
  [/^invalid (indirect )?(read|access).* (from|to) stack .*off -?\d+\+/, 'uninitialised-stack'],
  [/^invalid (indirect )?access to stack|^invalid .*stack .*off=|stack limit|beyond stack/, 'stack-bounds'],
  [/variable-offset.* stack|^invalid unbounded.* stack|variable stack access/, 'stack-bounds'],
  [/misaligned stack/, 'stack-alignment'],
  [/^misaligned/, 'atomic-alignment'],
  [/corrupt spilled pointer|invalid size of register (spill|fill)/, 'spill-size'],
  [/modified ctx ptr|variable ctx access|ctx access var_off/, 'context-modified'],
  [/invalid bpf_context access/, 'context-access'],
  [/^R\d+ !read_ok/, 'uninitialised-register'],
  [/^frame pointer is read only/, 'frame-pointer-write'],
  [/null-check it first|invalid mem access '\w*_or_null|type=\w*_or_null/, 'null-dereference'],
  [/possibly NULL pointer|NULL pointer passed/i, 'null-dereference'],
  [/pointer comparison/, 'pointer-comparison'],
  [/leaks addr|partial copy of pointer|leak pointer/, 'pointer-leak'],
  [/^combined stack size|stack depth .* exceeds/, 'stack-depth'],
  [/call stack of \d+ frames|recursive call|call stack.*too deep/, 'call-depth'],
  [/^infinite loop detected|^back-edge from insn/, 'infinite-loop'],
  [/^unreachable insn/, 'unreachable-insn'],
  [/^jump into the middle of ldimm64/, 'jump-into-lddw'],
  [/^jump (out of range|.*subprog)|^invalid call offset|^invalid destination/, 'jump-out-of-range'],
  [/not an exit or jmp|^fell through/, 'falls-through'],
  [/^invalid func |cannot use helper|^calling kernel function .* not allowed/, 'helper-unknown'],
  [/^kernel (function|btf)|kfunc/, 'helper-unknown'],
  [/GPL-restricted|non-GPL/, 'helper-gpl-only'],
  [/^cannot pass map_type|prog array map|doesn't match map/, 'map-helper-mismatch'],
  [/helper access to the packet is not allowed/, 'packet-memory-argument'],
  [/^write into map forbidden|cannot write/, 'read-only'],
  [/^read from map forbidden/, 'write-only'],
  [/^BPF_ATOMIC (stores|loads) (into|from) R\d+/, 'atomic-target'],
  [/Unreleased reference|lead to reference leak/, 'reference-leak'],
  [
    /reference has not been acquired|^release |must be referenced|when passed to release/,
    'reference-release',
  ],
  [/BPF program is too large/, 'too-many-insns'],
  [/jumps is too complex/, 'too-many-branches'],
  [/^At (program|subprogram) exit the register R0|^R0 .*return value/, 'return-value'],
  [/^At (async )?callback return|callback function|^missing btf func_info/i, 'callback-invalid'],
  [/^math between|makes .* pointer be out of bounds|^value .* makes/, 'pointer-offset-unbounded'],
  [/pointer arithmetic|bitwise operator|pointer [-+*/]?= pointer|prohibited|tried to/, 'pointer-arithmetic'],
  [/invalid mem access '(scalar|inv)'/, 'not-a-pointer'],
  [/invalid mem access/, 'read-only'],
  [/^R\d+ type=|is not a known constant|must be (a known|pointer|scalar)|^R\d+ must/, 'helper-argument'],
  [/^arg#\d|^R\d+ (is )?expected|invalid args? /i, 'helper-argument'],
  [/^div by zero/, 'division-by-zero'],
  [/^invalid shift/, 'shift-too-far'],
  [/^unknown opcode|^unknown insn|reserved fields|^R\d+ is invalid|^unrecognized/, 'insn-invalid'],
  [/^(invalid|unknown) .*(insn|opcode|bpf_ld_imm|BPF_ALU)|^BPF_\w+ uses/i, 'insn-invalid'],
];

/** The code of a message; `kernel-other` for one that is not known. */
export function codeOf(message: string): KernelCode {
  return MESSAGES.find(([pattern]) => pattern.test(message))?.[1] ?? 'kernel-other';
}
