/**
 * The BPF library: insns, assembler and disassembler, ELF and BTF, program and map specs, and the runtime that
 * interpreters and compilers share. Pure: it reads no files and prints nothing.
 */
export * from './assembler.js';
export * from './assembly-object.js';
export * from './btf/btf.js';
export * from './btf/btf-encoder.js';
export * from './btf/btf-ext.js';
export * from './btf/btf-type.js';
export * from './btf/format-value.js';
export * from './btf/map-btf.js';
export * from './btf/parse-value.js';
export * from './disassembler.js';
export * from './elf/elf-file.js';
export * from './elf/object-closure.js';
export * from './elf/object-spec.js';
export * from './elf/section-type.js';
export * from './errno.js';
export * from './function-starts.js';
export * from './helper-calls.js';
export * from './helper-ids.js';
export * from './helper-prototypes.js';
export * from './insn.js';
export * from './insn-validity.js';
export * from './jumps.js';
export * from './link.js';
export * from './map-flags.js';
export * from './map-spec.js';
export * from './opcodes.js';
export * from './program-tag.js';
export * from './program.js';
export * from './rewrite/keeper.js';
export * from './rewrite/program-editor.js';
export * from './runtime/address-space.js';
export * from './runtime/bpf-map.js';
export * from './runtime/bpf-runtime.js';
export * from './runtime/helper-world.js';
export * from './runtime/helpers/helper-table.js';
export * from './runtime/map-layout.js';
export * from './runtime/run-state.js';
export * from './runtime/frame-ring.js';
export * from './runtime/insn-budget.js';
export * from './runtime/work-counters.js';
export * from './runtime/xdp-frame.js';
export * from './special-fields.js';
export * from './valid-encodings.js';
export * from './xdp.js';
