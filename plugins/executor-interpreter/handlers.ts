import { I32, I64, OP, type FunctionWriter } from '../../src/bpf/wasm-encoder.js';
import { INSN, MACHINE } from './machine-layout.js';
import type { HandlerWriter } from './handler-writer.js';

/** What an insn does with memory, for who judges it. */
export interface MemoryAccess {
  /** Bytes. */
  readonly size: number;
  readonly write: boolean;
  /** At a multiple of its size only. */
  readonly atomic: boolean;
}

/** What the run loop does for an op. */
export interface Handler {
  /** Writes the code; control leaves it at its end where the insn behind comes next. */
  readonly write: (to: HandlerWriter) => void;
  /** Control never comes to the end of the code. */
  readonly ends?: true;
  /** Slots that the insn takes; 1 if nothing is said. */
  readonly slots?: number;
  /** Of an insn that leaves the loop where the access is none of those at hand. */
  readonly access?: MemoryAccess;
}

/** What JavaScript does. */
const LEAVE: Handler = { write: (to) => to.leave(), ends: true };

type Write = (out: FunctionWriter) => void;

/** dst := dst `op` src. */
function binary64(op: number): Handler {
  return { write: (to) => to.change64(() => to.src64().out.op(op)) };
}

function binary32(op: number): Handler {
  return { write: (to) => to.change32(() => to.src32().out.op(op)) };
}

/** dst := what `then` makes of dst, or of src. */
function ofDst64(then: Write): Handler {
  return { write: (to) => to.change64(() => then(to.out)) };
}

function ofDst32(then: Write): Handler {
  return { write: (to) => to.change32(() => then(to.out)) };
}

function ofSrc64(then: Write): Handler {
  return { write: (to) => to.assign64(() => then(to.src64().out)) };
}

function ofSrc32(then: Write): Handler {
  return { write: (to) => to.assign32(() => then(to.src32().out)) };
}

/** What wasm's divisions trap on: a division by zero gives 0, and leaves dst as the remainder. */
function divide64(op: number, remainder: boolean): Handler {
  return {
    write: (to) => {
      const { out, locals } = to;
      const [a, b] = [locals.i64('dividend'), locals.i64('divisor')];
      to.dst64().out.set(a);
      to.src64().out.set(b);
      to.assign64(() => {
        const done = out.block(I64);
        if (remainder) out.get(a);
        else out.i64(0n);
        out.get(b).op(OP.i64_eqz).brIf(done).op(OP.drop);
        out.get(a).get(b).op(op).end();
      });
    },
  };
}

function divide32(op: number, remainder: boolean): Handler {
  return {
    write: (to) => {
      const { out, locals } = to;
      const [a, b] = [locals.i32('dividend'), locals.i32('divisor')];
      to.dst32().out.set(a);
      to.src32().out.set(b);
      to.assign32(() => {
        const done = out.block(I32);
        if (remainder) out.get(a);
        else out.i32(0);
        out.get(b).op(OP.i32_eqz).brIf(done).op(OP.drop);
        out.get(a).get(b).op(op).end();
      });
    },
  };
}

/** The same, and the most negative number by -1 is itself and leaves nothing: a × b, and a × (b + 1), for b = 0 and b = -1. */
function signedDivide64(op: number, remainder: boolean): Handler {
  return {
    write: (to) => {
      const { out, locals } = to;
      const [a, b] = [locals.i64('dividend'), locals.i64('divisor')];
      to.dst64().out.set(a);
      to.src64().out.set(b);
      to.assign64(() => {
        const done = out.block(I64);
        out.get(a).get(b);
        if (remainder) out.i64(1n).op(OP.i64_add);
        out.op(OP.i64_mul);
        out.get(b).i64(1n).op(OP.i64_add).i64(1n).op(OP.i64_le_u).brIf(done).op(OP.drop);
        out.get(a).get(b).op(op).end();
      });
    },
  };
}

function signedDivide32(op: number, remainder: boolean): Handler {
  return {
    write: (to) => {
      const { out, locals } = to;
      const [a, b] = [locals.i32('dividend'), locals.i32('divisor')];
      to.dst32().out.set(a);
      to.src32().out.set(b);
      to.assign32(() => {
        const done = out.block(I32);
        out.get(a).get(b);
        if (remainder) out.i32(1).op(OP.i32_add);
        out.op(OP.i32_mul);
        out.get(b).i32(1).op(OP.i32_add).i32(1).op(OP.i32_le_u).brIf(done).op(OP.drop);
        out.get(a).get(b).op(op).end();
      });
    },
  };
}

/** dst := dst with its bytes in the other order. */
const BSWAP16: Handler = {
  write: (to) =>
    to.assign32(() => {
      to.dst32().out.i32(0xff).op(OP.i32_and).i32(8).op(OP.i32_shl);
      to.dst32().out.i32(8).op(OP.i32_shr_u).i32(0xff).op(OP.i32_and).op(OP.i32_or);
    }),
};

const BSWAP32: Handler = {
  write: (to) =>
    to.assign32(() => {
      to.dst32().out.i32(8).op(OP.i32_rotl).i32(0x00ff00ff).op(OP.i32_and);
      to.dst32().out.i32(24).op(OP.i32_rotl).i32(0xff00ff00).op(OP.i32_and).op(OP.i32_or);
    }),
};

const BSWAP64: Handler = {
  write: (to) => {
    const { out, locals } = to;
    const value = locals.i64('value');
    const swapNeighbours = (bits: bigint, mask: bigint): void => {
      out.get(value).i64(mask).op(OP.i64_and).i64(bits).op(OP.i64_shl);
      out.get(value).i64(bits).op(OP.i64_shr_u).i64(mask).op(OP.i64_and).op(OP.i64_or);
    };
    to.dst64().out.set(value);
    swapNeighbours(8n, 0x00ff_00ff_00ff_00ffn);
    out.set(value);
    to.assign64(() => {
      swapNeighbours(16n, 0x0000_ffff_0000_ffffn);
      out.i64(32n).op(OP.i64_rotl);
    });
  },
};

/** Jumps where `condition` leaves something else than 0. */
function jumpIf(condition: (to: HandlerWriter) => FunctionWriter): Handler {
  return {
    write: (to) => {
      const { out } = to;
      condition(to);
      out.if();
      to.jump();
      out.end();
      to.keepResult();
    },
  };
}

function compare64(op: number): Handler {
  return jumpIf((to) => to.dst64().src64().out.op(op));
}

function compare32(op: number): Handler {
  return jumpIf((to) => to.dst32().src32().out.op(op));
}

/** Leaves base + operand in a local, an i64; whether that is an address is seen when it is compared with a range. */
function addressOf(base: 'dst64' | 'src64', to: HandlerWriter): number {
  const address = to.locals.i64('address');
  to[base]().operand64().out.op(OP.i64_add).set(address);
  return address;
}

/** dst := memory at src + operand. */
function load(size: number, op: number): Handler {
  return {
    write: (to) => {
      const address = addressOf('src64', to);
      to.check(address, size, false);
      to.assign64(() => to.out.get(address).op(OP.i32_wrap_i64).memory(op));
    },
    access: { size, write: false, atomic: false },
  };
}

/** Memory at dst + operand := src. */
function store(size: number, op: number): Handler {
  return {
    write: (to) => {
      const address = addressOf('dst64', to);
      to.check(address, size, true);
      to.out.get(address).op(OP.i32_wrap_i64);
      to.src64().out.memory(op);
    },
    access: { size, write: true, atomic: false },
  };
}

/** The same by R10, where the offset lies within the frame: proved when decoding, so unchecked. */
function loadFromStack(op: number): Handler {
  return {
    write: (to) => to.assign64(() => to.src32().field(INSN.operand).out.op(OP.i32_add).memory(op)),
  };
}

function storeToStack(op: number): Handler {
  return {
    write: (to) => {
      to.dst32().field(INSN.operand).out.op(OP.i32_add);
      to.src64().out.memory(op);
    },
  };
}

/** Where an atomic operation leaves what was in memory before. */
type Fetch = 'nowhere' | 'src' | 'R0';

/**
 * Memory at dst + operand := what `combine` leaves (RFC 9669 section 5.3); `old` is a local with what was there, zero-extended.
 * One thread runs a runtime's programs, so that a load and a store will do.
 */
function atomic(size: 4 | 8, fetch: Fetch, combine: (to: HandlerWriter, old: number) => void): Handler {
  return {
    write: (to) => {
      const { out, locals } = to;
      const address = addressOf('dst64', to);
      out
        .get(address)
        .i64(BigInt(size - 1))
        .op(OP.i64_and)
        .i64(0n)
        .op(OP.i64_ne);
      to.leaveIf();
      to.check(address, size, true);
      const at = locals.i32('at');
      const old = locals.i64('old');
      out.get(address).op(OP.i32_wrap_i64).tee(at);
      out.memory(size === 8 ? OP.i64_load : OP.i64_load32_u).set(old);
      out.get(at);
      combine(to, old);
      out.memory(size === 8 ? OP.i64_store : OP.i64_store32);
      if (fetch === 'nowhere') return;
      if (fetch === 'src') to.field(INSN.src);
      else out.get(locals.machine).memory(OP.i32_load, MACHINE.registers);
      out.get(old).memory(OP.i64_store);
    },
    access: { size, write: true, atomic: true },
  };
}

function atomicBinary(size: 4 | 8, op: number, fetch: Fetch = 'nowhere'): Handler {
  return atomic(size, fetch, (to, old) => {
    to.out.get(old);
    to.src64().out.op(op);
  });
}

function exchange(size: 4 | 8): Handler {
  return atomic(size, 'src', (to) => to.src64());
}

/** R0 takes the old value whether or not it matched. */
function compareExchange(size: 4 | 8): Handler {
  return atomic(size, 'R0', (to, old) => {
    const { out, locals } = to;
    to.src64().out.get(old).get(old);
    out.get(locals.machine).memory(OP.i32_load, MACHINE.registers);
    out.memory(size === 8 ? OP.i64_load : OP.i64_load32_u);
    out.op(OP.i64_eq).op(OP.select);
  });
}

/**
 * Ops by name: the RFC's mnemonic, then the width in bits. Immediates lie in constants behind R10, so that most have one form
 * for both source operands.
 */
export const HANDLERS = {
  /** Not an insn: the second slot of an `lddw`, or behind the last insn. */
  INVALID: LEAVE,
  /** Hands control to a debugger, or who counts coverage, before the insn. */
  PAUSE: LEAVE,
  EXIT: { write: (to) => to.exit(), ends: true },
  CALL_HELPER: LEAVE,
  CALL_LOCAL: LEAVE,
  TAIL_CALL: LEAVE,
  /** bpf_map_lookup_elem, and the same within the loop where the map is one that the machine knows. */
  CALL_LOOKUP: LEAVE,
  LOOKUP: { write: (to) => to.goTo('lookup'), ends: true },
  /** The same of bpf_map_update_elem. */
  CALL_UPDATE: LEAVE,
  UPDATE: { write: (to) => to.goTo('update'), ends: true },
  /** dst := a constant, and on past the second slot. Two slots, one insn. */
  LDDW: {
    write: (to) => {
      const { out, locals } = to;
      to.assign64(() => to.src64());
      out.get(locals.count).i64(BigInt(INSN.size)).op(OP.i64_sub).set(locals.count);
    },
    slots: 2,
  },
  JA: { write: (to) => to.jump(), ends: true },
  NOP: { write: () => undefined },

  ADD64: binary64(OP.i64_add),
  SUB64: binary64(OP.i64_sub),
  MUL64: binary64(OP.i64_mul),
  DIV64: divide64(OP.i64_div_u, false),
  SDIV64: signedDivide64(OP.i64_div_s, false),
  MOD64: divide64(OP.i64_rem_u, true),
  SMOD64: signedDivide64(OP.i64_rem_s, true),
  OR64: binary64(OP.i64_or),
  AND64: binary64(OP.i64_and),
  XOR64: binary64(OP.i64_xor),
  MOV64: ofSrc64(() => undefined),
  NEG64: ofDst64((out) => out.i64(-1n).op(OP.i64_mul)),
  LSH64: binary64(OP.i64_shl),
  RSH64: binary64(OP.i64_shr_u),
  ARSH64: binary64(OP.i64_shr_s),
  /** Sign extension of the lower bits of src. */
  MOVSX64_8: ofSrc64((out) => out.op(OP.i64_extend8_s)),
  MOVSX64_16: ofSrc64((out) => out.op(OP.i64_extend16_s)),
  MOVSX64_32: ofSrc64((out) => out.op(OP.i64_extend32_s)),
  BSWAP64,

  ADD32: binary32(OP.i32_add),
  SUB32: binary32(OP.i32_sub),
  MUL32: binary32(OP.i32_mul),
  DIV32: divide32(OP.i32_div_u, false),
  SDIV32: signedDivide32(OP.i32_div_s, false),
  MOD32: divide32(OP.i32_rem_u, true),
  SMOD32: signedDivide32(OP.i32_rem_s, true),
  OR32: binary32(OP.i32_or),
  AND32: binary32(OP.i32_and),
  XOR32: binary32(OP.i32_xor),
  MOV32: ofSrc32(() => undefined),
  NEG32: ofDst32((out) => out.i32(-1).op(OP.i32_mul)),
  LSH32: binary32(OP.i32_shl),
  RSH32: binary32(OP.i32_shr_u),
  ARSH32: binary32(OP.i32_shr_s),
  MOVSX32_8: ofSrc32((out) => out.op(OP.i32_extend8_s)),
  MOVSX32_16: ofSrc32((out) => out.op(OP.i32_extend16_s)),
  BSWAP32,
  BSWAP16,
  /** dst := its lower 16 bits (le16 on a little-endian machine). */
  TRUNCATE16: ofDst32((out) => out.i32(0xffff).op(OP.i32_and)),

  JEQ64: compare64(OP.i64_eq),
  JNE64: compare64(OP.i64_ne),
  JSET64: jumpIf((to) => to.dst64().src64().out.op(OP.i64_and).i64(0n).op(OP.i64_ne)),
  JGT64: compare64(OP.i64_gt_u),
  JGE64: compare64(OP.i64_ge_u),
  JLT64: compare64(OP.i64_lt_u),
  JLE64: compare64(OP.i64_le_u),
  JSGT64: compare64(OP.i64_gt_s),
  JSGE64: compare64(OP.i64_ge_s),
  JSLT64: compare64(OP.i64_lt_s),
  JSLE64: compare64(OP.i64_le_s),
  JEQ32: compare32(OP.i32_eq),
  JNE32: compare32(OP.i32_ne),
  JSET32: compare32(OP.i32_and),
  JGT32: compare32(OP.i32_gt_u),
  JGE32: compare32(OP.i32_ge_u),
  JLT32: compare32(OP.i32_lt_u),
  JLE32: compare32(OP.i32_le_u),
  JSGT32: compare32(OP.i32_gt_s),
  JSGE32: compare32(OP.i32_ge_s),
  JSLT32: compare32(OP.i32_lt_s),
  JSLE32: compare32(OP.i32_le_s),

  LDX8: load(1, OP.i64_load8_u),
  LDX16: load(2, OP.i64_load16_u),
  LDX32: load(4, OP.i64_load32_u),
  LDX64: load(8, OP.i64_load),
  LDXS8: load(1, OP.i64_load8_s),
  LDXS16: load(2, OP.i64_load16_s),
  LDXS32: load(4, OP.i64_load32_s),
  STX8: store(1, OP.i64_store8),
  STX16: store(2, OP.i64_store16),
  STX32: store(4, OP.i64_store32),
  STX64: store(8, OP.i64_store),
  LDX8_STACK: loadFromStack(OP.i64_load8_u),
  LDX16_STACK: loadFromStack(OP.i64_load16_u),
  LDX32_STACK: loadFromStack(OP.i64_load32_u),
  LDX64_STACK: loadFromStack(OP.i64_load),
  STX8_STACK: storeToStack(OP.i64_store8),
  STX16_STACK: storeToStack(OP.i64_store16),
  STX32_STACK: storeToStack(OP.i64_store32),
  STX64_STACK: storeToStack(OP.i64_store),

  ATOMIC_ADD32: atomicBinary(4, OP.i64_add),
  ATOMIC_OR32: atomicBinary(4, OP.i64_or),
  ATOMIC_AND32: atomicBinary(4, OP.i64_and),
  ATOMIC_XOR32: atomicBinary(4, OP.i64_xor),
  ATOMIC_ADD64: atomicBinary(8, OP.i64_add),
  ATOMIC_OR64: atomicBinary(8, OP.i64_or),
  ATOMIC_AND64: atomicBinary(8, OP.i64_and),
  ATOMIC_XOR64: atomicBinary(8, OP.i64_xor),
  FETCH_ADD32: atomicBinary(4, OP.i64_add, 'src'),
  FETCH_OR32: atomicBinary(4, OP.i64_or, 'src'),
  FETCH_AND32: atomicBinary(4, OP.i64_and, 'src'),
  FETCH_XOR32: atomicBinary(4, OP.i64_xor, 'src'),
  FETCH_ADD64: atomicBinary(8, OP.i64_add, 'src'),
  FETCH_OR64: atomicBinary(8, OP.i64_or, 'src'),
  FETCH_AND64: atomicBinary(8, OP.i64_and, 'src'),
  FETCH_XOR64: atomicBinary(8, OP.i64_xor, 'src'),
  XCHG32: exchange(4),
  XCHG64: exchange(8),
  CMPXCHG32: compareExchange(4),
  CMPXCHG64: compareExchange(8),
} as const satisfies Readonly<Record<string, Handler>>;

export type OpName = keyof typeof HANDLERS;
