/**
 * The one error class of xdpbed and the table of its codes.
 *
 * Expected outcomes (a verifier's reject, a policy's deny, an error ack) are values and never thrown;
 * what is thrown is an XdpbedError, and its code decides the exit code of the command line.
 */

/** Exit codes of the command line. */
export const EXIT = {
  OK: 0,
  CHECK_FAILED: 1,
  BAD_INPUT: 2,
  UNSUPPORTED: 3,
  LEFTOVERS: 4,
  RUN_FAILED: 5,
  INTERRUPTED: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Every code with the exit code it leads to and what it means in one line. Stable: scripts match on it. */
export const DIAGNOSTIC_CODES = {
  usage: { exit: EXIT.BAD_INPUT, title: 'the command line is wrong' },
  'file-unreadable': { exit: EXIT.BAD_INPUT, title: 'a file that was named cannot be read' },
  'file-unwritable': { exit: EXIT.BAD_INPUT, title: 'a file that was named cannot be written' },
  'testbed-invalid': { exit: EXIT.BAD_INPUT, title: 'the testbed file has one or more problems' },
  'object-invalid': { exit: EXIT.BAD_INPUT, title: 'an ELF object is malformed or truncated' },
  'object-unsupported': {
    exit: EXIT.BAD_INPUT,
    title: 'an ELF object uses something xdpbed cannot read yet',
  },
  'btf-invalid': { exit: EXIT.BAD_INPUT, title: 'a BTF section is malformed or truncated' },
  'asm-invalid': { exit: EXIT.BAD_INPUT, title: 'assembler text is malformed' },
  'insn-invalid': { exit: EXIT.BAD_INPUT, title: 'a program holds an encoding that RFC 9669 leaves unused' },
  'pcap-invalid': { exit: EXIT.BAD_INPUT, title: 'a capture file is malformed or truncated' },
  'packet-invalid': { exit: EXIT.BAD_INPUT, title: 'a packet cannot be built from the given fields' },
  'map-invalid': { exit: EXIT.BAD_INPUT, title: 'a map cannot be created with the given attributes' },
  'program-rejected': { exit: EXIT.CHECK_FAILED, title: 'the verifier rejected a program that has to run' },
  'program-fault': {
    exit: EXIT.CHECK_FAILED,
    title: 'a program did something that a verified program cannot do',
  },
  'executor-disagreement': { exit: EXIT.CHECK_FAILED, title: 'two executors gave different results' },
  'executor-unsupported': { exit: EXIT.UNSUPPORTED, title: 'an executor cannot run this program' },
  'out-of-memory': { exit: EXIT.BAD_INPUT, title: 'the address space of the BPF runtime is full' },
  'virtio-violation': {
    exit: EXIT.CHECK_FAILED,
    title: 'the driver broke a rule of the virtio specification',
  },
  'plugin-not-found': { exit: EXIT.BAD_INPUT, title: 'a plugin that was named cannot be found' },
  'plugin-invalid': {
    exit: EXIT.BAD_INPUT,
    title: 'a module is not a plugin, or not one of this API version',
  },
  'plugin-conflict': { exit: EXIT.BAD_INPUT, title: 'two plugins bind the same single-valued role' },
  'plugin-failed': { exit: EXIT.CHECK_FAILED, title: 'a plugin threw in start, run or stop' },
  'plugin-timeout': { exit: EXIT.CHECK_FAILED, title: 'a plugin did not start or stop in time' },
  'check-failed': { exit: EXIT.CHECK_FAILED, title: 'a check of the testbed failed' },
  'host-unsupported': { exit: EXIT.UNSUPPORTED, title: 'this machine lacks what the run needs' },
  'guest-failed': { exit: EXIT.RUN_FAILED, title: 'a real guest did not start, died, or stopped answering' },
  leftovers: { exit: EXIT.LEFTOVERS, title: 'clean-up left something behind' },
  interrupted: { exit: EXIT.INTERRUPTED, title: 'the run was interrupted' },
  'internal-error': { exit: EXIT.CHECK_FAILED, title: 'a defect of xdpbed itself' },
} as const satisfies Record<string, { exit: ExitCode; title: string }>;

export type DiagnosticCode = keyof typeof DIAGNOSTIC_CODES;

/** Where a problem is: a place in a text file, an insn of a program, or a byte offset of a binary file. */
export type DiagnosticLocation =
  | { readonly file: string; readonly line: number; readonly col: number }
  | { readonly insn: number }
  | { readonly file?: string; readonly offset: number };

export interface DiagnosticDetails {
  readonly at?: DiagnosticLocation | undefined;
  readonly hint?: string | undefined;
  readonly cause?: unknown;
}

/**
 * A failure with a stable code. The message is lower-case and names the thing and the limit,
 * e.g. `4097 insns exceed the quota of 4096`.
 */
export class XdpbedError extends Error {
  override readonly name = 'XdpbedError';
  readonly code: DiagnosticCode;
  readonly at: DiagnosticLocation | undefined;
  readonly hint: string | undefined;

  constructor(code: DiagnosticCode, message: string, details: DiagnosticDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.at = details.at;
    this.hint = details.hint;
  }

  get exitCode(): ExitCode {
    return DIAGNOSTIC_CODES[this.code].exit;
  }
}

/** `file:line:col`, `insn 12` or `file+0x40`: the form every message uses. */
export function formatLocation(at: DiagnosticLocation): string {
  if ('line' in at) return `${at.file}:${at.line}:${at.col}`;
  if ('insn' in at) return `insn ${at.insn}`;
  return `${at.file ?? 'offset '}${at.file === undefined ? '' : '+'}0x${at.offset.toString(16)}`;
}

/** The message of whatever was thrown, for places that must not throw in turn. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
