import {
  BUFFER,
  BUFFER_BYTES,
  type Home,
  ObjectFunction,
  SCRATCH,
  SLOTS_START,
  sameHome,
  type Thing,
} from './object-function.js';

/** A statement of a generated function, with how often it is chosen. */
interface ObjectStatement {
  readonly weight: number;
  readonly write: (f: ObjectFunction) => void;
}

/** Percent of places at which something is wrong: a check left out, an offset too large, a thing that is gone. */
const FAULT_PERCENT = 2;
const WIDTHS = [1, 2, 4, 8] as const;
const U = (bytes: number): string => `u${8 * bytes}`;
/** Deeper than the eight frames that there may be, now and then. */
const MAX_DEPTH = 3;

export function writeObjectStatements(f: ObjectFunction, count: number): void {
  for (let i = 0; i < count && f.program.left > 0; i++) {
    f.program.left--;
    let at = f.random.below(TOTAL_WEIGHT);
    for (const { weight, write } of STATEMENTS) {
      at -= weight;
      if (at >= 0) continue;
      write(f);
      break;
    }
  }
}

function some(f: ObjectFunction): void {
  writeObjectStatements(f, 1 + f.random.below(3));
}

/** Ends the function, on every way there. */
export function writeObjectEnd(f: ObjectFunction): void {
  const { random } = f;
  if (f.kind === 'callback')
    f.emit(random.chance(97) ? `r0 = ${random.below(2)}` : random.pick(['r0 = 2', 'r0 = r10']), 'exit');
  else if (random.chance(5)) writeResult(f);
  else f.emit(`r0 = ${random.below(5)}`, 'exit');
}

/** Something that is held becomes the result: a number may, a pointer must not. */
function writeResult(f: ObjectFunction): void {
  const thing = f.random.chance(80) ? f.pick('number') : f.things.at(-1);
  if (thing !== undefined) f.pass(thing, 'r0');
  else f.emit(f.random.chance(80) ? 'r0 = 2' : f.random.pick(['r0 = r10', 'r5 = 0']));
  f.emit('exit');
}

// Numbers --------------------------------------------------------------------------------------------------------

/** A number below `size`, or any. */
function number(f: ObjectFunction): void {
  const { random } = f;
  const home = f.freeHome();
  if (home === undefined) return;
  const size = random.pick([1, 4, 8, 16, 64]);
  const way = random.below(5);
  const context = f.pick('context');
  const value = f.pick('value', 'record', 'buffer');
  if (way === 0 && context !== undefined) {
    const register = f.bring(context, 'r1');
    const isOdd = random.chance(2 * FAULT_PERCENT);
    f.emit(
      `r0 = *(${isOdd ? random.pick(['s32', 's32', 'u32', 'u16']) : 'u32'} *)(${register} +${isOdd ? random.pick([12, 12, 20, 20, 24, 2]) : random.pick([12, 16])})`,
    );
  } else if (way === 1 && value !== undefined && value.readable !== false && value.size >= 8) {
    f.emit(`r0 = *(u64 *)(${f.bring(value, 'r1')} +0)`);
  } else if (way === 2) {
    f.emit(`r0 = ${random.below(size)}`);
    f.keep(home, 'r0');
    f.things.push({ kind: 'number', home, size });
    return;
  } else f.emit('call bpf_get_prandom_u32');
  f.emit(random.chance(70) ? `r0 &= ${size - 1}` : `w0 &= ${size - 1}`);
  f.keep(home, 'r0');
  f.things.push({ kind: 'number', home, size });
}

/** `b = a + constant`, a check of one, and an access by the other: both have one origin. */
function relatedNumbers(f: ObjectFunction): void {
  const { random } = f;
  const [home, other] = [f.freeHome(), f.pick('number')];
  const value = f.pick('value', 'record', 'buffer');
  if (home === undefined || other === undefined || value === undefined) return;
  const add = random.pick([0, 1, 2, 4, -1]);
  f.pass(other, 'r0');
  f.emit(`r0 ${random.chance(50) ? '+=' : '-='} ${add}`);
  f.keep(home, 'r0');
  const related: Thing = { kind: 'number', home, size: 64 };
  f.scope(() => {
    f.things.push(related);
    const skip = f.label();
    const checked = random.chance(50) ? other : related;
    const limit = random.below(8);
    const relation = random.pick(['>', '>=', 's>', '!=']);
    f.emit(`if ${f.bring(checked, 'r1')} ${relation} ${limit} goto ${skip}`);
    if (random.chance(30)) some(f);
    if (f.things.includes(value) && f.things.includes(other)) {
      const index = random.chance(70) ? checked : random.pick([other, related]);
      f.pass(value, 'r2');
      f.emit(`r2 += ${f.bring(index, 'r3')}`, `r0 = *(u8 *)(r2 +${random.below(3)})`);
    }
    f.place(skip);
  });
}

// Memory ---------------------------------------------------------------------------------------------------------

function access(f: ObjectFunction): void {
  const thing = f.pick('value', 'record', 'buffer', 'packet', 'key');
  if (thing === undefined) return;
  const { random } = f;
  const bytes = random.pick(WIDTHS);
  const isFault = random.chance(FAULT_PERCENT);
  const room = thing.size - bytes;
  if (room < 0 && !isFault) return;
  let at = random.below(Math.floor(Math.max(0, room) / bytes) + 1) * bytes;
  if (isFault) at = random.pick([-1, thing.size, thing.size - bytes + 1, at + 1]);
  const register = f.bring(thing, 'r1');
  const place = `(${U(bytes)} *)(${register} ${at < 0 ? at : `+${at}`})`;
  const way = random.below(10);
  if (thing.writable === true && way < 4) {
    if (random.chance(50)) f.emit(`*${place} = ${random.below(9)}`);
    else f.emit(...stored(f), `*${place} = r5`);
  } else if (thing.writable === true && way < 6 && (bytes >= 4 || isFault)) {
    const target = thing.kind === 'packet' && !random.chance(FAULT_PERCENT) ? undefined : place;
    if (target !== undefined && bytes >= 4) atomic(f, target, bytes);
  } else if (thing.readable !== false) {
    const isSigned = bytes < 8 && random.chance(20);
    const from = isSigned ? place.replace('(u', '(s') : place;
    f.emit(`r0 = *${from}`);
    if (random.chance(40)) rememberNumber(f, 'r0', bytes === 1 && !isSigned ? 256 : Infinity);
  }
}

/** R5 = a number, or now and then a pointer, which must not get there. */
function stored(f: ObjectFunction): string[] {
  const thing = f.random.chance(FAULT_PERCENT) ? f.things.at(-1) : f.pick('number');
  if (thing === undefined) return ['r5 = 7'];
  f.pass(thing, 'r5');
  return [];
}

function atomic(f: ObjectFunction, place: string, bytes: number): void {
  const { random } = f;
  const name = bytes === 8 ? 'atomic64' : 'atomic';
  const [number] = random.chance(90) ? ['1'] : stored(f);
  if (number !== undefined) f.emit('r5 = 1');
  switch (random.below(4)) {
    case 0:
      f.emit(`lock *${place} += r5`);
      return;
    case 1:
      f.emit(`r5 = ${name}_fetch_add(${place}, r5)`);
      return;
    case 2:
      f.emit(`r5 = ${name}_xchg(${place}, r5)`);
      return;
    default:
      f.emit(random.chance(95) ? 'r0 = 0' : 'r0 = r10', `r0 = ${name}_cmpxchg(${place}, r0, r5)`);
  }
}

function rememberNumber(f: ObjectFunction, register: string, size: number): void {
  const home = f.freeHome();
  if (home === undefined) return;
  f.keep(home, register);
  f.things.push({ kind: 'number', home, size });
}

/** At an offset that depends on a number. */
function variableAccess(f: ObjectFunction): void {
  const { random } = f;
  const thing = f.pick('value', 'record', 'buffer', 'key');
  const index = f.pick('number');
  if (thing === undefined || index === undefined) return;
  const bytes = random.pick(WIDTHS);
  const room = thing.size - bytes;
  const isFault = random.chance(FAULT_PERCENT);
  if (room < 0) return;
  f.pass(thing, 'r2');
  f.pass(index, 'r3');
  if (index.size - 1 > room || isFault) {
    const skip = f.label();
    const way = isFault ? 3 + random.below(2) : random.below(3);
    if (way === 0) f.emit(`r3 &= ${room >= 7 ? 7 : 0}`);
    else f.emit(`if r3 ${way === 3 ? 's>' : '>'} ${room} goto ${skip}`);
    if (way === 1) f.emit('w3 = w3');
    writeVariable(f, thing, bytes);
    f.place(skip);
  } else writeVariable(f, thing, bytes);
}

function writeVariable(f: ObjectFunction, thing: Thing, bytes: number): void {
  const { random } = f;
  const aligned = thing.kind === 'buffer' && bytes > 1 ? [`r3 &= ${8 - bytes}`] : [];
  const moved = random.chance(15) ? ['r2 += 1', 'r2 += r3', 'r2 += -1'] : ['r2 += r3'];
  f.emit(...aligned, ...moved);
  if (thing.writable === true && random.chance(40)) {
    if (random.chance(20) && bytes === 8)
      f.emit('r3 = r10', `*(u64 *)(r2 +0) = ${random.chance(50) ? 'r3' : '1'}`);
    else f.emit(`*(${U(bytes)} *)(r2 +0) = 1`);
  } else if (thing.readable !== false) f.emit(`r0 = *(${U(bytes)} *)(r2 +0)`);
}

/** A copy somewhere else: in a register, or spilled. */
function copy(f: ObjectFunction): void {
  const [thing] = f.things.length === 0 ? [] : [f.random.pick(f.things)];
  const home = f.freeHome();
  if (thing === undefined || home === undefined || thing.kind === 'record') return;
  f.keep(home, f.bring(thing, 'r1'));
  f.things.push({ ...thing, home });
}

/** Half of a spilled number or pointer is read, or overwritten. */
function partOfSlot(f: ObjectFunction): void {
  const { random } = f;
  const spilled = f.things.filter(({ home }) => 'slot' in home);
  if (spilled.length === 0) return;
  const thing = random.pick(spilled);
  if (thing.kind !== 'number' && !random.chance(2 * FAULT_PERCENT)) return;
  const { slot } = thing.home as { slot: number };
  const bytes = random.pick([1, 2, 4]);
  const at = slot + random.below(8 / bytes) * bytes;
  if (random.chance(50)) f.emit(`r0 = *(${U(bytes)} *)(r10 ${at})`);
  else {
    f.emit(random.chance(40) ? `*(${U(bytes)} *)(r10 ${at}) = 0` : `*(${U(bytes)} *)(r10 ${at}) = 5`);
    f.drop((other) => other === thing);
    f.things.push({ kind: 'number', home: thing.home, size: Infinity });
  }
}

/** A 32-bit spill of a number and its way back. */
function narrowSpill(f: ObjectFunction): void {
  const thing = f.pick('number');
  const home = f.freeHome('slot');
  if (thing === undefined || home === undefined || !('slot' in home)) return;
  const register = f.bring(thing, 'r1');
  f.emit(`*(u64 *)(r10 ${home.slot}) = 0`, `*(u32 *)(r10 ${home.slot}) = ${register}`);
  f.emit(`r0 = *(${f.random.pick(['u64', 'u32', 'u32', 'u8'])} *)(r10 ${home.slot})`);
  rememberNumber(f, 'r0', thing.size);
}

function comparePointers(f: ObjectFunction): void {
  const { random } = f;
  const pointers = f.things.filter(({ kind }) => kind !== 'number');
  if (pointers.length === 0) return;
  const a = random.pick(pointers);
  const b = random.chance(97)
    ? random.pick(pointers.filter(({ kind }) => kind === a.kind))
    : random.pick(f.things);
  const skip = f.label();
  f.pass(a, 'r1');
  const r = random.chance(10) ? 'w' : 'r';
  if (random.chance(30)) {
    const zero = random.chance(95) ? 0 : 1;
    const relation = random.chance(95) ? random.pick(['==', '!=']) : '>';
    if (random.chance(70)) f.emit(`if ${r}1 ${relation} ${zero} goto ${skip}`);
    else
      f.emit(
        `r2 = ${zero}`,
        random.chance(50)
          ? `if ${r}2 ${relation} ${r}1 goto ${skip}`
          : `if ${r}1 ${relation} ${r}2 goto ${skip}`,
      );
  } else {
    f.pass(b, 'r2');
    if (random.chance(20) && a.kind !== 'context' && a.kind !== 'inner') f.emit('r1 += 4');
    f.emit(`if ${r}1 ${random.pick(['==', '!=', '>', '<='])} ${r}2 goto ${skip}`);
    if (random.chance(30)) f.emit(`${r}1 -= ${r}2`);
  }
  f.emit('r0 = 1');
  f.place(skip);
}

/** Arithmetic that no pointer is for, or that leaves only half of one. */
function oddArithmetic(f: ObjectFunction): void {
  const { random } = f;
  if (f.things.length === 0 || !random.chance(10 * FAULT_PERCENT)) return;
  const thing = random.pick(f.things);
  f.pass(thing, 'r1');
  const number = f.pick('number');
  if (number === undefined) f.emit('r2 = 4');
  else f.pass(number, 'r2');
  f.emit(
    random.pick([
      'w1 = w1',
      'w1 += 4',
      'r1 -= r2',
      'r1 += r2',
      'r2 -= r1',
      'r2 += r1',
      'r1 *= 2',
      'r1 &= -8',
      'w1 -= w2',
      'w2 -= w1',
      'r1 = -r1',
      'r1 = (s32)r1',
      'r1 += 2000000000',
    ]),
  );
  if (random.chance(50))
    f.emit(random.pick(['r0 = *(u8 *)(r1 +0)', 'r1 -= r2', 'w1 -= w2', 'if r1 == 0 goto pc+0', 'r1 += r1']));
}

/** A pointer to the buffer on the stack. */
function stackPointer(f: ObjectFunction): void {
  const home = f.freeHome();
  if (home === undefined) return;
  // Now and then to where things are spilled, which are lost when it is written.
  const isOverSlots = f.random.chance(10);
  if (!isOverSlots) buffer(f, BUFFER_BYTES);
  f.emit('r1 = r10', `r1 += ${isOverSlots ? SLOTS_START : BUFFER}`);
  f.keep(home, 'r1');
  if (isOverSlots && !f.random.chance(10 * FAULT_PERCENT)) f.drop((thing) => 'slot' in thing.home);
  if (isOverSlots && 'slot' in home) return;
  f.things.push({ kind: 'buffer', home, size: BUFFER_BYTES, readable: true, writable: true });
}

/** On two ways a home comes to hold pointers into different things; then there is an access through it. */
function eitherPointer(f: ObjectFunction): void {
  const { random } = f;
  const things = f.find('value', 'buffer', 'packet', 'record', 'key').filter(({ size }) => size >= 4);
  const home = f.freeHome();
  const number = f.pick('number');
  if (things.length === 0 || home === undefined || number === undefined) return;
  const [a, b] = [random.pick(things), random.pick(things)];
  const [other, join] = [f.label(), f.label()];
  f.emit(`if ${f.bring(number, 'r1')} == ${random.below(4)} goto ${other}`);
  f.keep(home, f.bring(a, 'r2'));
  f.emit(`goto ${join}`);
  f.place(other);
  f.keep(home, f.bring(b, 'r2'));
  f.place(join);
  const way = random.below(3);
  const canWrite = a.writable === true && b.writable === true && way === 0;
  const canRead = a.readable !== false && b.readable !== false;
  const register = f.bring({ ...a, home }, 'r1');
  if (canWrite) f.emit(`*(u32 *)(${register} +0) = 1`);
  else if (canRead) f.emit(`r0 = *(u32 *)(${register} +0)`);
}

// What lookups give ----------------------------------------------------------------------------------------------

/** R2 = a key; R1 = the map. */
function lookup(f: ObjectFunction, map: string, keys: number): void {
  const { random } = f;
  const index = random.below(keys);
  const thing = random.chance(40) ? f.pick('number') : undefined;
  if (thing === undefined) f.emit(`*(u32 *)(r10 ${SCRATCH}) = ${index}`);
  else f.emit(`*(u32 *)(r10 ${SCRATCH}) = ${f.bring(thing, 'r1')}`);
  f.emit('r2 = r10', `r2 += ${SCRATCH}`, `r1 = map[${map}]`);
}

const LOOKED_UP: readonly (readonly [map: string, size: number, readable: boolean, writable: boolean])[] = [
  ['array', 16, true, true],
  ['hash', 16, true, true],
  ['wide', 64, true, true],
  ['percpu', 16, true, true],
  ['lru', 16, true, true],
  ['sink', 16, false, true],
  ['source', 16, true, false],
  ['constants', 32, true, false],
  ['devices', 4, true, false],
  ['devices', 4, true, true],
];

function lookupValue(f: ObjectFunction): void {
  const [map, size, readable, writable] = f.random.pick(LOOKED_UP);
  lookup(f, map, 6);
  if ((map === 'percpu' || map === 'lru') && f.random.chance(50)) {
    f.emit('r3 = 0', 'call bpf_map_lookup_percpu_elem');
  } else f.emit('call bpf_map_lookup_elem');
  whenFound(f, { kind: 'value', size, map, readable, writable }, () => some(f));
}

function directValue(f: ObjectFunction): void {
  const home = f.freeHome();
  if (home === undefined) return;
  const [map, size, writable] = f.random.pick([
    ['wide', 64, true],
    ['constants', 32, false],
  ] as const);
  const offset = f.random.chance(99) ? f.random.pick([0, 0, 8, 16]) : 64;
  f.emit(`r1 = map[${f.random.chance(98) ? map : 'array'}][0]+${offset}`);
  f.keep(home, 'r1');
  f.things.push({ kind: 'value', home, size: size - offset, map, readable: true, writable });
}

function lookupInner(f: ObjectFunction): void {
  const map = f.random.pick(['arrays', 'hashes']);
  lookup(f, map, 4);
  f.emit('call bpf_map_lookup_elem');
  whenFound(f, { kind: 'inner', size: 0, map }, () => {
    if (f.random.chance(70)) inInnerMap(f);
    some(f);
  });
}

/** An element of an inner map, or of one that was found before. */
function inInnerMap(f: ObjectFunction): void {
  const { random } = f;
  const inner = f.pick('inner');
  if (inner === undefined) return;
  lookup(f, 'array', 4);
  f.pass(inner, 'r1');
  if (inner.map === 'hashes' && random.chance(30)) {
    if (random.chance(50)) f.emit('call bpf_map_delete_elem');
    else {
      buffer(f, 16);
      f.emit('r3 = r10', `r3 += ${BUFFER}`, 'r4 = 0', 'call bpf_map_update_elem');
    }
    return;
  }
  f.emit('call bpf_map_lookup_elem');
  whenFound(f, { kind: 'value', size: 16, map: 'inner', readable: true, writable: true }, () => some(f));
}

function lookupXsk(f: ObjectFunction): void {
  lookup(f, 'sockets', 4);
  f.emit('call bpf_map_lookup_elem');
  whenFound(f, { kind: 'xsk', size: 4 }, () => {
    const socket = f.find('xsk').at(-1)!;
    const isOdd = f.random.chance(5 * FAULT_PERCENT);
    const bytes = isOdd ? f.random.pick([2, 8]) : 4;
    const at = isOdd ? f.random.pick([0, 4]) : 0;
    f.emit(`r0 = *(${U(bytes)} *)(${f.bring(socket, 'r1')} +${at})`);
  });
}

/** What is done with R0 if it is not NULL; after it, what was found is out of reach. */
function whenFound(
  f: ObjectFunction,
  found: Omit<Thing, 'home'>,
  inside: () => void,
  otherwise?: () => void,
): void {
  const { random } = f;
  const home = f.freeHome();
  const skip = f.label();
  const isUnchecked = random.chance(FAULT_PERCENT);
  f.scope(() => {
    if (home === undefined) {
      // Only looked at, and let go.
      f.emit(`if r0 == 0 goto ${skip}`);
      otherwise?.();
      return;
    }
    f.keep(home, 'r0');
    const thing: Thing = { ...found, home };
    if (!isUnchecked) check(f, thing, skip);
    f.things.push(thing);
    inside();
    otherwise?.();
  });
  f.place(skip);
}

/** Leaves for `skip` if the thing, whose number is in R0 and in its home, is NULL: all the ways to say so. */
function check(f: ObjectFunction, thing: Thing, skip: string): void {
  const { random } = f;
  const register = random.chance(50) ? 'r0' : f.bring(thing, 'r1');
  switch (random.below(6)) {
    case 0: {
      const found = f.label();
      f.emit(`if ${register} != 0 goto ${found}`, `goto ${skip}`, `${found}: r5 = 0`);
      return;
    }
    case 1:
      f.emit('r5 = 0', `if ${register} == r5 goto ${skip}`);
      return;
    default:
      f.emit(`if ${register} == 0 goto ${skip}`);
  }
}

// References -----------------------------------------------------------------------------------------------------

function record(f: ObjectFunction): void {
  const { random } = f;
  const size = random.pick([8, 16, 24]);
  const unknown = random.chance(FAULT_PERCENT) ? f.pick('number') : undefined;
  if (unknown === undefined) f.emit(`r2 = ${random.chance(FAULT_PERCENT) ? 0x2000_0001 : size}`);
  else f.pass(unknown, 'r2');
  f.emit('r1 = map[ring]', 'r3 = 0', 'call bpf_ringbuf_reserve');
  f.held++;
  let home: Home | undefined;
  whenFound(
    f,
    { kind: 'record', size, readable: true, writable: true },
    () => {
      home = f.find('record').at(-1)!.home;
      some(f);
      if (random.chance(50)) access(f);
    },
    () => release(f, home, 'record'),
  );
  f.held--;
}

/** Gives back what is in the home (in R0 if there is none). */
function release(f: ObjectFunction, home: Home | undefined, what: 'record' | 'socket'): void {
  const { random } = f;
  if (random.chance(FAULT_PERCENT)) return;
  const own = f.things.find((thing) => home !== undefined && sameHome(thing.home, home));
  if (own === undefined) f.emit('r1 = r0');
  else f.pass(own, 'r1');
  if (random.chance(FAULT_PERCENT)) f.emit('r1 += 8');
  if (random.chance(FAULT_PERCENT)) f.emit('r1 = r10', 'r1 += -8');
  if (what === 'socket') f.emit('call bpf_sk_release');
  else f.emit('r2 = 0', `call ${random.pick(['bpf_ringbuf_submit', 'bpf_ringbuf_discard'])}`);
  if (own !== undefined && random.chance(FAULT_PERCENT)) f.emit(`r0 = *(u8 *)(${f.bring(own, 'r1')} +0)`);
}

const SOCKET_LOOKUPS = [
  ['bpf_sk_lookup_tcp', 'sock'],
  ['bpf_sk_lookup_udp', 'sock'],
  ['bpf_skc_lookup_tcp', 'sock_common'],
] as const;
const SOCKET_CASTS = [
  ['bpf_skc_to_tcp_sock', 'tcp_sock'],
  ['bpf_skc_to_tcp6_sock', 'tcp6_sock'],
  ['bpf_skc_to_tcp_timewait_sock', 'tcp_timewait_sock'],
  ['bpf_skc_to_tcp_request_sock', 'tcp_request_sock'],
  ['bpf_skc_to_udp6_sock', 'udp6_sock'],
] as const;

function socket(f: ObjectFunction): void {
  const { random } = f;
  const context = f.pick('context');
  if (context === undefined) return;
  const [helper, kind] = random.pick(SOCKET_LOOKUPS);
  buffer(f, 16);
  f.pass(context, 'r1');
  f.emit('r2 = r10', `r2 += ${BUFFER}`, 'r3 = 12', 'r4 = -1', 'r5 = 0', `call ${helper}`);
  f.held++;
  let home: Home | undefined;
  whenFound(
    f,
    { kind: 'socket', size: 80, socket: kind },
    () => {
      const own = f.find('socket').at(-1)!;
      home = own.home;
      if (random.chance(80)) socketField(f);
      if (random.chance(50)) cast(f, own);
      some(f);
      if (random.chance(20)) syncookie(f, own);
    },
    () => release(f, home, 'socket'),
  );
  f.held--;
}

function socketField(f: ObjectFunction): void {
  const { random } = f;
  const thing = f.pick('socket');
  if (thing === undefined) return;
  const register = f.bring(thing, 'r1');
  const isFull = thing.socket === 'sock' || thing.socket === 'sock_common';
  const [at, bytes] = isFull
    ? random.pick([
        [0, 4],
        [4, 4],
        [4, 1],
        [24, 4],
        [25, 1],
        [26, 2],
        [44, 2],
        [48, 2],
        [49, 1],
        [52, 4],
        [56, 1],
        [72, 1],
        [76, 4],
      ] as const)
    : random.pick([
        [0, 4],
        [0, 8],
        [8, 4],
        [12, 2],
        [14, 2],
        [16, 2],
        [18, 1],
        [20, 4],
      ] as const);
  if (!random.chance(2 * FAULT_PERCENT)) f.emit(`r0 = *(${U(bytes)} *)(${register} +${at})`);
  else if (random.chance(20)) f.emit(`*(u32 *)(${register} +4) = 1`);
  else
    f.emit(
      `r0 = *(${U(random.pick(WIDTHS))} *)(${register} ${random.pick(['-4', '+1', '+8', '+12', '+20', '+45', '+50', '+78', '+80'])})`,
    );
}

/** The same socket as another kind of one; it ends with the first, which either gives back. */
function cast(f: ObjectFunction, own: Thing): void {
  const [helper, kind] = f.random.pick(SOCKET_CASTS);
  f.pass(own, 'r1');
  f.emit(`call ${helper}`);
  whenFound(f, { kind: 'socket', size: 24, socket: kind }, () => socketField(f));
}

function syncookie(f: ObjectFunction, own: Thing): void {
  if (!f.things.includes(own)) return;
  buffer(f, 40);
  f.pass(own, 'r1');
  f.emit('r2 = r10', `r2 += ${BUFFER}`, 'r3 = 20', 'r4 = r10', `r4 += ${BUFFER + 20}`, 'r5 = 20');
  f.emit(`call ${f.random.pick(['bpf_tcp_check_syncookie', 'bpf_tcp_gen_syncookie'])}`);
}

// Helpers --------------------------------------------------------------------------------------------------------

/** The first `bytes` of the buffer, rounded up, hold numbers. */
function buffer(f: ObjectFunction, bytes: number): void {
  for (let at = 0; at < bytes; at += 8) f.emit(`*(u64 *)(r10 ${BUFFER + at}) = ${f.random.below(3)}`);
}

/** Memory and its size in R`memory` and the next register, mostly good. */
function memory(
  f: ObjectFunction,
  memoryRegister: number,
  options: { null?: boolean; zero?: boolean } = {},
): void {
  const { random } = f;
  const target = `r${memoryRegister}`;
  const size = `r${memoryRegister + 1}`;
  const thing = random.chance(35) ? f.pick('value', 'record', 'packet', 'key', 'inner') : undefined;
  if (options.null === true && random.chance(15)) {
    f.emit(`${target} = 0`, `${size} = ${random.chance(90) ? 0 : 4}`);
    return;
  }
  const room = thing === undefined ? BUFFER_BYTES : thing.size;
  if (thing === undefined) {
    buffer(f, BUFFER_BYTES);
    f.emit(`${target} = r10`, `${target} += ${BUFFER}`);
  } else f.pass(thing, target);
  const index = random.chance(30) ? f.pick('number') : undefined;
  if (index !== undefined) {
    f.pass(index, size);
    if (index.size > room) f.emit(`${size} &= ${room >= 8 ? 7 : 3}`);
    if (options.zero !== true && !random.chance(2 * FAULT_PERCENT)) f.emit(`${size} |= 1`);
    if (random.chance(FAULT_PERCENT)) f.emit(random.pick([`${size} -= 4`, `${size} <<= 40`]));
  } else {
    const bytes = 4 * (1 + random.below(Math.max(1, room >> 2)));
    f.emit(
      `${size} = ${random.chance(FAULT_PERCENT) ? random.pick([0, -1, room + 1, 0x2000_0000]) : Math.min(bytes, room)}`,
    );
  }
}

function elementHelper(f: ObjectFunction): void {
  const { random } = f;
  const map = random.pick([
    'array',
    'hash',
    'hash',
    'percpu',
    'lru',
    'sink',
    ...(random.chance(10) ? ['source', 'arrays', 'ring'] : []),
  ]);
  buffer(f, 16);
  const value = f
    .find('value', 'record', 'packet')
    .filter(({ size, readable }) => size >= 16 && readable !== false);
  lookup(f, map, 5);
  if (random.chance(60)) {
    if (value.length > 0 && random.chance(50)) f.pass(random.pick(value), 'r3');
    else f.emit('r3 = r10', `r3 += ${BUFFER}`);
    f.emit(`r4 = ${random.pick([0, 0, 1, 2])}`, 'call bpf_map_update_elem');
  } else f.emit('call bpf_map_delete_elem');
}

function queueHelper(f: ObjectFunction): void {
  const { random } = f;
  const [map, helpers] = random.pick([
    ['queue', ['push', 'pop', 'peek']],
    ['outbox', random.chance(90) ? ['push'] : ['pop', 'peek']],
  ] as const);
  const helper = random.pick(helpers);
  if (helper === 'push' || random.chance(50)) buffer(f, 16);
  f.emit(`r1 = map[${map}]`, 'r2 = r10', `r2 += ${BUFFER}`);
  if (helper === 'push') f.emit('r3 = 0');
  f.emit(`call bpf_map_${helper}_elem`);
}

function oddHelper(f: ObjectFunction): void {
  const { random } = f;
  const context = f.pick('context');
  const withContext = (): boolean => {
    if (context !== undefined) f.pass(context, 'r1');
    return context !== undefined;
  };
  switch (random.below(13)) {
    case 0:
      memory(f, 1, { null: true, zero: true });
      f.emit('r3 = r10', `r3 += ${BUFFER}`, 'r4 = 8', 'r5 = 0');
      return f.emit('call bpf_csum_diff');
    case 1:
      memory(f, 2);
      if (withContext()) f.emit('r4 = 0', 'call bpf_fib_lookup');
      return;
    case 2:
      buffer(f, 8);
      if (withContext())
        f.emit('r2 = 0', 'r3 = r10', `r3 += ${BUFFER}`, 'r4 = 0', 'r5 = 0', 'call bpf_check_mtu');
      return;
    case 3:
      memory(f, 4, { zero: true });
      if (withContext()) f.emit('r2 = map[events]', 'r3 = 0', 'call bpf_perf_event_output');
      return;
    case 4:
      memory(f, 2, { zero: true });
      return f.emit('r1 = map[ring]', 'r4 = 0', 'call bpf_ringbuf_output');
    case 5:
      memory(f, 1, { null: true, zero: true });
      f.emit('r3 = 0', 'r4 = 0', 'r5 = 0', 'call bpf_csum_diff');
      return;
    case 6: {
      memory(f, 1);
      const at = random.pick([0, 0, 0, 5, 6, 20, 31, -1]);
      if (random.chance(95))
        f.emit(`r3 = map[${random.chance(95) ? 'constants' : 'wide'}][0]+${Math.max(0, at)}`);
      else f.emit('r3 = r10');
      if (at === -1) f.emit('r3 += -1');
      return f.emit('call bpf_strncmp');
    }
    case 7:
      buffer(f, 8);
      memory(f, 1);
      return f.emit('r3 = 10', 'r4 = r10', `r4 += ${BUFFER + 8}`, 'call bpf_strtol');
    case 8:
      memory(f, 1);
      f.emit('r3 = 1', 'r4 = 2', 'r5 = 3', 'call bpf_trace_printk');
      return;
    case 9:
      memory(f, 3);
      if (withContext())
        f.emit(
          `r2 = ${random.below(8)}`,
          `call ${random.pick(['bpf_xdp_load_bytes', 'bpf_xdp_store_bytes'])}`,
        );
      return;
    case 10:
      f.emit(
        `r2 = ${random.below(4)}`,
        `r3 = ${random.below(9)}`,
        `r1 = map[${random.pick(['devices', 'sockets'])}]`,
      );
      return f.emit('call bpf_redirect_map');
    case 11:
      if (!random.chance(2 * FAULT_PERCENT)) return;
      memory(f, 1, { zero: true });
      return f.emit(
        'r3 = 0',
        `call ${random.pick(['bpf_probe_read_kernel', 'bpf_spin_lock', 'bpf_skb_load_bytes', '9999'])}`,
      );
    default:
      return f.emit(
        `call ${random.pick(['bpf_ktime_get_ns', 'bpf_get_smp_processor_id', 'bpf_get_prandom_u32'])}`,
      );
  }
}

// The packet -----------------------------------------------------------------------------------------------------

function packet(f: ObjectFunction): void {
  const { random } = f;
  const context = f.pick('context');
  const [data, end] = [f.freeHome(), undefined];
  if (context === undefined || data === undefined) return;
  const register = f.bring(context, 'r1');
  f.emit(`r2 = *(u32 *)(${register} +${random.chance(85) ? 0 : 8})`, `r3 = *(u32 *)(${register} +4)`);
  const index = random.chance(40) ? f.pick('number') : undefined;
  if (index !== undefined) {
    f.pass(index, 'r4');
    f.emit(`r4 &= ${random.pick([7, 63, 0xffff, 0x1_ffff])}`);
    if (random.chance(10)) f.emit('r4 -= 4');
    f.emit('r2 += r4');
  }
  f.emit('r5 = r2');
  const bytes = random.pick([1, 4, 8, 14, 34, 60]);
  f.emit(`r2 += ${bytes}`);
  const skip = f.label();
  const relation = random.below(4);
  if (relation === 3) {
    const inside = f.label();
    f.emit(`if r2 ${random.pick(['<=', '<'])} r3 goto ${inside}`);
    // What is known to lie beyond the end is compared once more.
    if (random.chance(60)) f.emit(`if r2 ${random.pick(['>', '<', '==', '>=', '<='])} r3 goto ${skip}`);
    f.emit(`goto ${skip}`, `${inside}: r1 = 0`);
  } else
    f.emit([`if r2 > r3 goto ${skip}`, `if r3 < r2 goto ${skip}`, `if r2 >= r3 goto ${skip}`][relation]!);
  f.scope(() => {
    f.keep(data, 'r5');
    f.things.push({ kind: 'packet', home: data, size: bytes, readable: true, writable: true });
    const spare = random.chance(30) ? f.freeHome() : end;
    if (spare !== undefined) {
      f.keep(spare, 'r3');
      f.things.push({ kind: 'end', home: spare, size: 0 });
    }
    some(f);
  });
  f.place(skip);
}

/** `data_end - data` in 64 bits, or in 32 as compilers make of a cast. */
function packetLength(f: ObjectFunction): void {
  const { random } = f;
  const context = f.pick('context');
  if (context === undefined) return;
  const register = f.bring(context, 'r1');
  f.emit(`r3 = *(u32 *)(${register} +4)`, `r2 = *(u32 *)(${register} +0)`);
  const w = random.chance(50);
  if (w) {
    if (random.chance(10)) f.emit(`r2 += ${random.pick([-70_000, 0x7fff_ffff])}`);
    f.emit('w3 = w3', 'w2 = w2');
    if (random.chance(20))
      f.emit(
        random.pick([
          'w3 += -2',
          'w3 -= 2',
          'w2 += 1',
          'r3 += 1',
          'if w3 == 0 goto pc+0',
          'if r3 == 0 goto pc+0',
        ]),
      );
    f.emit(random.chance(95) ? 'w3 -= w2' : 'r3 -= r2');
  } else f.emit('r3 -= r2');
  rememberNumber(f, 'r3', Infinity);
}

function metadata(f: ObjectFunction): void {
  const { random } = f;
  const context = f.pick('context');
  if (context === undefined) return;
  const register = f.bring(context, 'r1');
  const skip = f.label();
  f.emit(
    `r2 = *(u32 *)(${register} +8)`,
    `r3 = *(u32 *)(${register} +0)`,
    'r4 = r2',
    `r4 += ${random.pick([4, 8])}`,
  );
  f.emit(`if r4 ${random.pick(['>', '>='])} r3 goto ${skip}`);
  f.emit(random.chance(50) ? 'r0 = *(u32 *)(r2 +0)' : '*(u32 *)(r2 +0) = 1');
  if (random.chance(FAULT_PERCENT)) f.emit('*(u64 *)(r2 +0) = r10');
  f.place(skip);
}

function movePacket(f: ObjectFunction): void {
  const { random } = f;
  const context = f.pick('context');
  if (context === undefined) return;
  f.pass(context, 'r1');
  f.emit(
    `r2 = ${random.pick([0, 4, -4, 8])}`,
    `call ${random.pick(['bpf_xdp_adjust_head', 'bpf_xdp_adjust_tail', 'bpf_xdp_adjust_meta'])}`,
  );
  if (!random.chance(FAULT_PERCENT)) f.drop(({ kind }) => kind === 'packet' || kind === 'end');
}

// Functions ------------------------------------------------------------------------------------------------------

/** Things on the stack that a callee can reach through a pointer to the lowest of them, by their distance from it. */
function reachable(f: ObjectFunction): { readonly lowest: number; readonly slots: readonly Thing[] } {
  const slots = f.things.filter(({ home }) => 'slot' in home && home.slot >= SLOTS_START);
  return { lowest: SLOTS_START, slots };
}

function slotOf(thing: Thing): number {
  return (thing.home as { slot: number }).slot;
}

/** A function that helpers call, or local code: it finds its caller's slots behind `buffer`. */
function writeFunction(
  f: ObjectFunction,
  kind: 'function' | 'callback',
  given: readonly (readonly [register: string, thing: Omit<Thing, 'home'>])[],
  behind:
    { readonly register: string; readonly lowest: number; readonly slots: readonly Thing[] } | undefined,
): { readonly label: string; readonly spoilt: readonly Thing[]; readonly movesPacket: boolean } {
  const { random } = f;
  const callee = new ObjectFunction(f.program, kind, f.depth + 1);
  const label = f.label();
  // Arguments first, as the registers they come in are only for the moment.
  const pointerHome = behind === undefined ? undefined : callee.freeHome('register');
  if (behind !== undefined && pointerHome !== undefined) {
    callee.keep(pointerHome, behind.register);
    callee.things.push({ kind: 'end', home: pointerHome, size: 0 });
  }
  for (const [register, thing] of given) {
    const home = callee.freeHome();
    if (home === undefined || random.chance(20)) continue;
    callee.keep(home, register);
    callee.things.push({ ...thing, home });
  }
  const pointer = callee.things[0];
  const spoilt: Thing[] = [];
  if (behind !== undefined && pointer !== undefined && pointerHome !== undefined) {
    for (const thing of behind.slots) {
      const at = slotOf(thing) - behind.lowest;
      if (!random.chance(50)) continue;
      const home = callee.freeHome();
      if (home === undefined) break;
      callee.emit(`r0 = *(u64 *)(${callee.bring(pointer, 'r5')} +${at})`);
      callee.keep(home, 'r0');
      if (thing.kind !== 'record') callee.things.push({ ...thing, home });
      if (random.chance(25)) {
        // It is changed for its caller: a number goes up, or another thing takes the place.
        const other = random.chance(50) ? callee.pick('number', 'value', 'key', 'buffer') : undefined;
        if (random.chance(2 * FAULT_PERCENT)) callee.emit('r0 = r10');
        else if (other === undefined) callee.emit('r0 = 0');
        else callee.pass(other, 'r0');
        callee.emit(`*(u64 *)(${callee.bring(pointer, 'r5')} +${at}) = r0`);
        spoilt.push(thing);
      }
    }
  }
  callee.drop((thing) => thing === pointer && thing.kind === 'end');
  some(callee);
  const tailCalls = kind === 'function' ? random.chance(25) : random.chance(FAULT_PERCENT);
  const context = callee.pick('context');
  if (tailCalls && context !== undefined && (f.held === 0 || random.chance(FAULT_PERCENT))) {
    callee.pass(context, 'r1');
    callee.emit('r2 = map[programs]', `r3 = ${random.below(3)}`, 'call bpf_tail_call');
  }
  writeObjectEnd(callee);
  const text = callee.lines.join('\n');
  f.program.functions.push(`${label}: r0 = 0\n${text}`);
  return { label, spoilt, movesPacket: /adjust_|tail_call|call l\d/.test(text) };
}

function afterCallee(f: ObjectFunction, spoilt: readonly Thing[], movesPacket: boolean): void {
  const isFault = f.random.chance(FAULT_PERCENT);
  if (isFault) return;
  f.drop(
    (thing) => spoilt.includes(thing) || (movesPacket && (thing.kind === 'packet' || thing.kind === 'end')),
  );
}

function callFunction(f: ObjectFunction): void {
  const { random } = f;
  if (f.depth >= MAX_DEPTH) return;
  const context = random.chance(70) ? f.pick('context') : undefined;
  const passed = f.things.length === 0 ? undefined : random.pick(f.things);
  const behind = reachable(f);
  const given: (readonly [string, Omit<Thing, 'home'>])[] = [];
  if (context !== undefined) given.push(['r1', context]);
  if (passed !== undefined && passed.kind !== 'record') given.push(['r2', passed]);
  const { label, spoilt, movesPacket } = writeFunction(f, 'function', given, { register: 'r3', ...behind });
  if (context === undefined) f.emit('r1 = 0');
  else f.pass(context, 'r1');
  if (passed === undefined) f.emit('r2 = 0');
  else f.pass(passed, 'r2');
  f.emit('r3 = r10', `r3 += ${behind.lowest}`, `call ${label}`);
  afterCallee(f, spoilt, movesPacket);
  if (random.chance(50)) rememberNumber(f, 'r0', Infinity);
}

/** R3 (or R4) = the callback's context: the caller's slots, or nothing. */
function callLoop(f: ObjectFunction): void {
  const { random } = f;
  if (f.depth >= MAX_DEPTH) return;
  const behind = random.chance(80) ? reachable(f) : undefined;
  const count = random.chance(30) ? f.pick('number') : undefined;
  const given = [['r1', { kind: 'number', size: Infinity }]] as const;
  const { label, spoilt, movesPacket } = writeFunction(
    f,
    'callback',
    given,
    behind === undefined ? undefined : { register: 'r2', ...behind },
  );
  if (count === undefined) f.emit(`r1 = ${random.below(5)}`);
  else f.pass(count, 'r1');
  f.emit(`r2 = ${random.chance(99) ? `subprog[${label}]` : '0'}`);
  contextOf(f, 'r3', behind?.lowest);
  f.emit('r4 = 0', 'call bpf_loop');
  afterCallee(f, spoilt, movesPacket);
}

const ITERATED = ['array', 'hash', 'percpu', 'lru', 'source'] as const;

function forEach(f: ObjectFunction): void {
  const { random } = f;
  if (f.depth >= MAX_DEPTH) return;
  const inner = random.chance(25) ? f.pick('inner') : undefined;
  const map = inner === undefined ? random.pick(ITERATED) : 'inner';
  const behind = random.chance(70) ? reachable(f) : undefined;
  const given = [
    ['r2', { kind: 'key', size: 4, readable: true, writable: random.chance(FAULT_PERCENT) }],
    ['r3', { kind: 'value', size: 16, map, readable: true, writable: map !== 'source' }],
    ...(random.chance(20) ? ([['r1', { kind: 'inner', size: 0, map: 'hashes' }]] as const) : []),
  ] as const;
  const { label, spoilt, movesPacket } = writeFunction(
    f,
    'callback',
    given,
    behind === undefined ? undefined : { register: 'r4', ...behind },
  );
  if (inner === undefined) f.emit(`r1 = map[${map}]`);
  else f.pass(inner, 'r1');
  f.emit(`r2 = subprog[${label}]`);
  contextOf(f, 'r3', behind?.lowest);
  f.emit('r4 = 0', 'call bpf_for_each_map_elem');
  afterCallee(f, spoilt, movesPacket);
}

function contextOf(f: ObjectFunction, register: string, lowest: number | undefined): void {
  if (lowest === undefined) f.emit(`${register} = ${f.random.chance(97) ? 0 : 1}`);
  else f.emit(`${register} = r10`, `${register} += ${lowest}`);
}

function tailCall(f: ObjectFunction): void {
  const { random } = f;
  const context = f.pick('context');
  if (context === undefined || f.kind === 'callback' || (f.held > 0 && !random.chance(FAULT_PERCENT))) return;
  f.pass(context, 'r1');
  f.emit('r2 = map[programs]', `r3 = ${random.below(3)}`, 'call bpf_tail_call');
  f.drop(({ kind }) => kind === 'packet' || kind === 'end');
}

// Ways -----------------------------------------------------------------------------------------------------------

/** Two ways to one place, with other things in the same homes on each: what pruning has to tell apart. */
function twoWays(f: ObjectFunction): void {
  const { random } = f;
  const thing = f.pick('number');
  const [other, join] = [f.label(), f.label()];
  if (thing === undefined) return;
  f.emit(`if ${f.bring(thing, 'r1')} ${random.pick(['>', '==', 's<'])} ${random.below(4)} goto ${other}`);
  const before = [...f.things];
  f.scope(() => writeObjectStatements(f, 1 + random.below(2)));
  const afterFirst = f.things;
  f.emit(`goto ${join}`);
  f.place(other);
  f.things = before;
  f.scope(() => writeObjectStatements(f, 1 + random.below(2)));
  f.things = f.things.filter((kept) => afterFirst.includes(kept));
  f.place(join);
  // Jumps and insns enough that a state is stored here.
  for (let i = 0; i < 2; i++) {
    const next = f.label();
    f.emit('r1 = 0', 'r2 = 0', 'r3 = 0', 'r4 = 0', 'r5 = 0', `goto ${next}`);
    f.place(next);
  }
}

function exitEarly(f: ObjectFunction): void {
  const { random } = f;
  const thing = f.pick('number');
  if (thing === undefined || (f.held > 0 && !random.chance(FAULT_PERCENT))) return;
  const over = f.label();
  f.emit(`if ${f.bring(thing, 'r1')} != ${random.below(4)} goto ${over}`);
  writeObjectEnd(f);
  f.place(over);
}

/** A loop with a known end, over the rest of what is held. */
function countedLoop(f: ObjectFunction): void {
  const { random } = f;
  const home = f.freeHome('slot');
  if (home === undefined || !('slot' in home)) return;
  const again = f.label();
  f.emit(`*(u64 *)(r10 ${home.slot}) = 0`);
  f.place(again);
  f.scope(() => {
    // Kept from others for as long as the loop lasts.
    f.things.push({ kind: 'end', home, size: 0 });
    writeObjectStatements(f, 1);
  });
  f.emit(`r1 = *(u64 *)(r10 ${home.slot})`, 'r1 += 1', `*(u64 *)(r10 ${home.slot}) = r1`);
  f.emit(`if r1 < ${1 + random.below(4)} goto ${again}`);
}

/** Two records that are reserved in another order on each way, and given back behind where the ways meet. */
function twoRecords(f: ObjectFunction): void {
  const { random } = f;
  const number = f.pick('number');
  const [other, join] = [f.label(), f.label()];
  if (number === undefined) return;
  const homes: Home[] = [];
  f.scope(() => {
    for (let i = 0; i < 2; i++) {
      const home = f.freeHome();
      if (home === undefined) break;
      homes.push(home);
      f.things.push({ kind: 'end', home, size: 0 });
    }
    const [a, b] = homes;
    if (a === undefined || b === undefined) return;
    const reserve = (home: Home, size: number): void => {
      f.emit('r1 = map[ring]', `r2 = ${size}`, 'r3 = 0', 'call bpf_ringbuf_reserve');
      f.keep(home, 'r0');
    };
    const sizes = random.chance(80) ? [8, 8] : [8, 16];
    f.emit(`if ${f.bring(number, 'r1')} > ${random.below(4)} goto ${other}`);
    reserve(a, sizes[0]!);
    reserve(b, sizes[0]!);
    f.emit(`goto ${join}`);
    f.place(other);
    reserve(b, sizes[1]!);
    reserve(a, sizes[1]!);
    f.place(join);
    const wrong = random.chance(10);
    for (const home of random.chance(50) ? homes : [b, a]) {
      const skip = f.label();
      f.pass({ kind: 'record', home, size: 8 }, 'r1');
      f.emit(`if r1 == 0 goto ${skip}`);
      if (random.chance(50)) f.emit('*(u64 *)(r1 +0) = 1');
      if (wrong) f.pass({ kind: 'record', home: a, size: 8 }, 'r1');
      f.emit('r2 = 0', 'call bpf_ringbuf_submit');
      f.place(skip);
    }
  });
}

/** On one way two lookups, on the other one of which there is a copy; then one is compared with NULL. */
function twoValues(f: ObjectFunction): void {
  const { random } = f;
  const number = f.pick('number');
  const [other, join, out] = [f.label(), f.label(), f.label()];
  const a = f.freeHome();
  if (number === undefined || a === undefined) return;
  f.scope(() => {
    f.things.push({ kind: 'end', home: a, size: 0 });
    const b = f.freeHome();
    if (b === undefined) return;
    f.things.push({ kind: 'end', home: b, size: 0 });
    const find = (home: Home): void => {
      lookup(f, random.pick(['hash', 'hash', 'lru']), 3);
      f.emit('call bpf_map_lookup_elem');
      f.keep(home, 'r0');
    };
    const ways = [
      (): void => [a, b].forEach(find),
      (): void => {
        find(a);
        f.keep(b, f.bring({ kind: 'value', home: a, size: 16 }, 'r1'));
      },
    ];
    if (random.chance(50)) ways.reverse();
    f.emit(`if ${f.bring(number, 'r1')} > ${random.below(4)} goto ${other}`);
    ways[0]!();
    f.emit(`goto ${join}`);
    f.place(other);
    ways[1]!();
    f.place(join);
    for (let i = 0; i < 2; i++) {
      const next = f.label();
      f.emit('r1 = 0', 'r2 = 0', 'r3 = 0', 'r4 = 0', 'r5 = 0', `goto ${next}`);
      f.place(next);
    }
    const [checked, used] = random.chance(80) ? [a, a] : [a, b];
    f.emit(`if ${f.bring({ kind: 'value', home: checked, size: 16 }, 'r1')} == 0 goto ${out}`);
    f.emit(`r0 = *(u64 *)(${f.bring({ kind: 'value', home: used, size: 16 }, 'r1')} +8)`);
  });
  f.place(out);
}

/** What is made of a pointer into the packet after the packet was moved: hardly anything may be. */
function stalePointer(f: ObjectFunction): void {
  const { random } = f;
  const context = f.pick('context');
  const home = f.freeHome('register');
  if (context === undefined || home === undefined || !('register' in home) || !random.chance(20)) return;
  const { register } = home;
  f.emit(`${register} = *(u32 *)(${f.bring(context, 'r1')} +0)`);
  f.pass(context, 'r1');
  f.emit('r2 = 0', 'call bpf_xdp_adjust_head');
  f.drop(({ kind }) => kind === 'packet' || kind === 'end');
  const half = register.replace('r', 'w');
  f.emit(
    random.pick([
      `r1 = ${register}`,
      `*(u64 *)(r10 ${SCRATCH}) = ${register}`,
      `w1 = ${half}`,
      `${register} += 1`,
      `r1 = 1\nr1 -= ${register}`,
      `r1 = r10\nr1 -= ${register}`,
      `${register} -= r10`,
      `r1 = 8\nif ${register} == r1 goto pc+0`,
      `if ${register} == 0 goto pc+0`,
      `r1 = r10\nif r1 == ${register} goto pc+0`,
      `r0 = *(u8 *)(${register} +0)`,
      `${register} = -${register}`,
    ]),
  );
}

/** Functions that call one another, with room on the stack in each: now and then too many, or too much. */
function deepCall(f: ObjectFunction): void {
  const { random } = f;
  const count = random.pick([1, 2, 3, 5, 6, 7, 8]);
  const bytes = 8 * (1 + random.below(random.chance(70) ? 4 : 40));
  const context = f.pick('context');
  const labels = Array.from({ length: count + 1 }, () => f.label());
  for (let at = 0; at < count; at++) {
    const isLast = at === count - 1;
    const tail = isLast && context !== undefined && f.held === 0 && random.chance(30);
    const body = [`${labels[at]}: *(u64 *)(r10 -${bytes}) = r1`];
    if (!isLast) body.push(`call ${random.chance(97) ? labels[at + 1] : labels[0]}`);
    if (tail) body.push('r2 = map[programs]', 'r3 = 1', 'call bpf_tail_call');
    f.program.functions.push([...body, 'r0 = 1', 'exit'].join('\n'));
  }
  if (context === undefined) f.emit('r1 = 0');
  else f.pass(context, 'r1');
  f.emit(`call ${labels[0]}`);
  f.drop(({ kind }) => kind === 'packet' || kind === 'end');
}

/** A loop that may change nothing from round to round. */
function endless(f: ObjectFunction): void {
  const { random } = f;
  const number = f.pick('number');
  if (number === undefined || !random.chance(5 * FAULT_PERCENT)) return;
  const again = f.label();
  f.place(again);
  f.emit('r1 = 0', 'r2 = 0', 'r3 = 0', 'r4 = 0', 'r5 = 0', 'r0 = 0');
  f.emit(random.chance(50) ? `*(u32 *)(r10 ${SCRATCH}) = 0` : 'r0 = 1', 'r0 = 2', 'goto pc+0');
  f.emit(`if ${f.bring(number, 'r1')} ${random.pick(['>', '!='])} 3 goto ${again}`);
}

const STATEMENTS: readonly ObjectStatement[] = [
  { weight: 3, write: oddArithmetic },
  { weight: 4, write: stackPointer },
  { weight: 4, write: eitherPointer },
  { weight: 2, write: twoRecords },
  { weight: 2, write: twoValues },
  { weight: 1, write: stalePointer },
  { weight: 2, write: deepCall },
  { weight: 1, write: endless },
  { weight: 8, write: number },
  { weight: 5, write: relatedNumbers },
  { weight: 12, write: access },
  { weight: 5, write: variableAccess },
  { weight: 6, write: copy },
  { weight: 2, write: partOfSlot },
  { weight: 3, write: narrowSpill },
  { weight: 2, write: comparePointers },
  { weight: 9, write: lookupValue },
  { weight: 3, write: directValue },
  { weight: 5, write: lookupInner },
  { weight: 3, write: inInnerMap },
  { weight: 1, write: lookupXsk },
  { weight: 7, write: record },
  { weight: 5, write: socket },
  { weight: 3, write: socketField },
  { weight: 5, write: elementHelper },
  { weight: 2, write: queueHelper },
  { weight: 8, write: oddHelper },
  { weight: 5, write: packet },
  { weight: 2, write: packetLength },
  { weight: 2, write: metadata },
  { weight: 2, write: movePacket },
  { weight: 5, write: callFunction },
  { weight: 4, write: callLoop },
  { weight: 5, write: forEach },
  { weight: 1, write: tailCall },
  { weight: 6, write: twoWays },
  { weight: 2, write: exitEarly },
  { weight: 3, write: countedLoop },
];
const TOTAL_WEIGHT = STATEMENTS.reduce((sum, { weight }) => sum + weight, 0);
