/**
 * What the run loop and JavaScript share of a machine, in an object that no program may access.
 *
 * ```
 *   +0    i64 packet start, packet end     what may be read and written of the frame under way
 *   +16   i64 read start, read end         the object that was read last, or that a lookup found
 *   +32   i64 write start, write end       the same for writing
 *   +48   i64 executed                     insns of the run so far and what helpers charged, in units of EXECUTED_UNIT
 *   +56   i64 slice end                    what `executed` may be behind a jump back within the loop
 *   +64   i64 charged                      how much of `executed` helpers charged
 *   +72   i64 finished                     insns of runs that the loop has finished by itself, same unit
 *   +80   u32 registers                    the block of the program under way
 *   +84   u32 depth                        frames below the current one
 *   +88   u32 base depth                   of the frame whose EXIT ends the loop
 *   +92   u32 tail calls                   of the run
 *   +96   u32 stop                         why the loop returned: `Stop`
 *   +100  u32 resume                       code address to go on at, behind a slice
 *   +104  u32 run state, work counters     addresses; 0 where no work is counted
 *   +112  u32 code, registers, frame pointer, stack bytes, i64 slice end: what each run of a batch begins with
 *   +136  u32 touched                      JavaScript changed what the next run of a batch does not begin with
 *   +144  maps                             MAP_CACHE_ENTRIES entries of MAP_CACHE_ENTRY bytes
 * ```
 *
 * A range that holds nothing begins at NOWHERE and ends at 0. Ends and starts are compared as signed numbers, which
 * addresses of an address space below 2^31 and NOWHERE are alike.
 */
export const MACHINE = {
  packetStart: 0,
  packetEnd: 8,
  readStart: 16,
  readEnd: 24,
  writeStart: 32,
  writeEnd: 40,
  executed: 48,
  sliceEnd: 56,
  charged: 64,
  finished: 72,
  registers: 80,
  depth: 84,
  baseDepth: 88,
  tailCalls: 92,
  stop: 96,
  resume: 100,
  runState: 104,
  work: 108,
  firstCode: 112,
  firstRegisters: 116,
  firstFramePointer: 120,
  firstStackBytes: 124,
  firstSliceEnd: 128,
  touched: 136,
  maps: 144,
} as const;

/** No address, and above all of them. */
export const NOWHERE = 0x7fff_ffff;

/**
 * Bytes of a decoded insn: u16 op, u16 unused, u32 address of dst, u32 address of src, i32 operand. Constants have addresses
 * as registers have. The operand is an offset, a helper's number, or how far a jump goes from the insn behind it, in bytes.
 */
export const INSN = { op: 0, dst: 4, src: 8, operand: 12, size: 16 } as const;

/** An insn is worth as much as it moves the place in the code, so that code need not count: see run-loop.ts. */
export const EXECUTED_UNIT = INSN.size;

/**
 * A map whose lookups the loop serves by itself, as map-layout.ts has it. The entry of a map is chosen by its address; one
 * whose address is 0 is free.
 */
export const MAP_CACHE = {
  address: 0,
  keySize: 4,
  /** Bytes of a value that the program may read, and write: 0 for none. */
  readable: 8,
  writable: 12,
  cpuStride: 16,
  maxEntries: 20,
  /** An array's values and the bytes from one to the next; 0 for a hash map. */
  values: 24,
  stride: 28,
  buckets: 32,
  bucketMask: 36,
  valueOffset: 40,
  /** Offset of the reference bit, or 0. */
  usedOffset: 44,
  seed: 48,
  first: 52,
  second: 56,
  /** Bytes of a value that an update copies, and nothing else; 0 where there is more to an update. */
  plainValue: 60,
} as const;
export const MAP_CACHE_ENTRY = 64;
export const MAP_CACHE_BITS = 6;
/** Odd, so that addresses that differ by a power of two get entries of their own (Knuth's multiplicative hash). */
export const MAP_CACHE_MULTIPLIER = 0x9e37_79b1 | 0;

export const MACHINE_SIZE = MACHINE.maps + (MAP_CACHE_ENTRY << MAP_CACHE_BITS);

/** Offset in the machine of the entry for the map at `address`. */
export function mapCacheOffset(address: number): number {
  const index = Math.imul(address, MAP_CACHE_MULTIPLIER) >>> (32 - MAP_CACHE_BITS);
  return MACHINE.maps + index * MAP_CACHE_ENTRY;
}
