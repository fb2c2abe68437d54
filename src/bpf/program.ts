import { printableLine } from '../core/printable.js';
import type { Insn } from './insn.js';
import type { LineInfo, FunctionInfo } from './btf/btf-ext.js';

/** The one type of program that objects may hold; programTypeName names the others in messages. */
export const BPF_PROG_TYPE_XDP = 6;
/** What an XDP program is rewritten to for a hook that sees skbs. */
export const BPF_PROG_TYPE_SCHED_CLS = 3;
/** Programs at a raw tracepoint, by which what the kernel does is counted. */
export const BPF_PROG_TYPE_RAW_TRACEPOINT = 17;
/** Of a ProgramSpec whose section name does not tell what the program is. */
export const BPF_PROG_TYPE_UNSPEC = 0;

/** `enum bpf_prog_type`, include/uapi/linux/bpf.h, by number. */
const PROG_TYPE_NAMES = [
  'unknown',
  'socket filter',
  'kprobe',
  'sched_cls',
  'sched_act',
  'tracepoint',
  'xdp',
  'perf event',
  'cgroup skb',
  'cgroup sock',
  'lwt in',
  'lwt out',
  'lwt xmit',
  'sock ops',
  'sk skb',
  'cgroup device',
  'sk msg',
  'raw tracepoint',
  'cgroup sock addr',
  'lwt seg6local',
  'lirc mode2',
  'sk reuseport',
  'flow dissector',
  'cgroup sysctl',
  'raw tracepoint writable',
  'cgroup sockopt',
  'tracing',
  'struct ops',
  'ext',
  'lsm',
  'sk lookup',
  'syscall',
  'netfilter',
];

/** `xdp`, `kprobe`, …; `program type 99` for a number this version does not know. */
export function programTypeName(type: number): string {
  return PROG_TYPE_NAMES[type] ?? `program type ${type}`;
}

/** Attach types an XDP program can be loaded for (`enum bpf_attach_type`). */
export const XDP_ATTACH_TYPE = { BPF_XDP_DEVMAP: 33, BPF_XDP_CPUMAP: 35, BPF_XDP: 37 } as const;
export type XdpAttachType = keyof typeof XDP_ATTACH_TYPE;

/** What an `lddw` or a call names until the program is linked: `insn` is its slot. */
export type ProgramReference =
  /** `lddw rX, map`: becomes BPF_PSEUDO_MAP_FD, or BPF_PSEUDO_MAP_VALUE with `offset` when `value` is set. */
  {
    readonly kind: 'map';
    readonly insn: number;
    readonly mapName: string;
    readonly value: boolean;
    readonly offset: number;
  };

/** Names and source lines that BTF gives a program. Slot numbers are those of the linked program. */
export interface ProgramDebugInfo {
  readonly functions: readonly FunctionInfo[];
  readonly lines: readonly LineInfo[];
  /** Calls of weak functions that nobody defines: insns that call helper MISSING_FUNCTION. */
  readonly missing?: readonly MissingFunction[] | undefined;
}

export interface MissingFunction {
  /** Slot of the call. */
  readonly insn: number;
  /** The symbol's name. */
  readonly name: string;
}

/**
 * A program as an object file holds it: inert, subprograms already appended and local calls resolved, map
 * references still by name.
 */
export interface ProgramSpec {
  /** The function's name. */
  readonly name: string;
  /** The ELF section, e.g. `xdp` or `xdp/devmap`. */
  readonly section: string;
  /** Kernel number; BPF_PROG_TYPE_UNSPEC when the section's name does not tell. */
  readonly type: number;
  /** Only for XDP programs; BPF_XDP otherwise. */
  readonly attachType: XdpAttachType;
  /** `xdp.frags`: the program says that it copes with frames in several buffers. */
  readonly frags: boolean;
  readonly license: string;
  readonly insns: readonly Insn[];
  readonly references: readonly ProgramReference[];
  readonly debug?: ProgramDebugInfo | undefined;
  /**
   * Why the program cannot be linked, e.g. because it needs the types of a kernel; the object's other programs
   * are not affected. `insns` are then as the compiler left them.
   */
  readonly unsupported?: string | undefined;
}

/**
 * A program ready to be verified and loaded: each `lddw` with source BPF_PSEUDO_MAP_FD or
 * BPF_PSEUDO_MAP_VALUE carries in imm the handle of a map (a guest fd, a device handle or a host fd,
 * according to who holds the program).
 */
export interface Program {
  readonly name: string;
  readonly type: number;
  /** Of an XDP program. */
  readonly attachType: XdpAttachType;
  readonly gplCompatible: boolean;
  /** Copes with frames in several buffers (BPF_F_XDP_HAS_FRAGS). */
  readonly frags?: boolean | undefined;
  readonly insns: readonly Insn[];
  readonly debug?: ProgramDebugInfo | undefined;
}

/** Licenses that may call GPL-only helpers (kernel `license_is_gpl_compatible`, include/linux/license.h). */
const GPL_COMPATIBLE = new Set([
  'GPL',
  'GPL v2',
  'GPL and additional rights',
  'Dual BSD/GPL',
  'Dual MIT/GPL',
  'Dual MPL/GPL',
]);

export function isGplCompatible(license: string): boolean {
  return GPL_COMPATIBLE.has(license);
}

/** The source line that made an insn; undefined without line information. Lines without a number are passed over. */
export function sourceLineAt(debug: ProgramDebugInfo | undefined, insn: number): LineInfo | undefined {
  return debug?.lines.findLast((line) => line.insn <= insn && line.line > 0);
}

/** `text  (file.c:12)`, the file without its folder, on one line and printable. */
export function formatSourceLine({ text, file, line }: LineInfo): string {
  return printableLine(`${text}  (${file.split('/').at(-1)}:${line})`);
}
