/**
 * What each helper that kernel 6.18 gives to XDP programs takes and returns: pure data. Which helpers these are,
 * and which of them ask for a GPL-compatible license, was read off a running kernel by trying all 211 numbers.
 */

/** What may be passed in one argument register. */
export type HelperArgument =
  /** The program's context, unmodified. */
  | { readonly kind: 'context' }
  /** A map itself, of one of the types that the helper accepts (MAP_TYPES_OF_HELPER). */
  | { readonly kind: 'map' }
  /** Memory of `key_size` bytes of the map in the same call, read. */
  | { readonly kind: 'map-key' }
  /** Memory of `value_size` bytes of the map in the same call; `write` alone means that it need not be initialised. */
  | { readonly kind: 'map-value'; readonly access: MemoryAccess; readonly orNull?: boolean }
  /** Memory whose size is the next argument. */
  | { readonly kind: 'memory'; readonly access: MemoryAccess; readonly orNull?: boolean }
  /** Memory of a fixed size. */
  | { readonly kind: 'fixed-memory'; readonly access: MemoryAccess; readonly bytes: number }
  /** Size in bytes of the memory in the argument before; `zero` if it may be 0. */
  | { readonly kind: 'size'; readonly zero: boolean }
  /** A known constant: the size of what the helper returns. */
  | { readonly kind: 'allocation-size' }
  /** Any initialised scalar; a pointer would leak an address. */
  | { readonly kind: 'scalar' }
  /** The argument is not looked at before it is checked at run time, e.g. an address to probe. */
  | { readonly kind: 'address' }
  /** A string in read-only map memory, with its end in it. */
  | { readonly kind: 'constant-string' }
  /** What `bpf_ringbuf_reserve` returned; the call takes it away. */
  | { readonly kind: 'ringbuf-record' }
  /** A socket of any kind; `release` if the call takes the reference away. */
  | { readonly kind: 'socket'; readonly release?: boolean }
  /** A local function; `parameters` tells what it gets. */
  | { readonly kind: 'callback'; readonly parameters: CallbackParameters }
  /** What is passed through to a callback: a pointer to the stack, or NULL. */
  | { readonly kind: 'callback-context' }
  /** Something that needs BTF of the kernel or of the map's value: nothing xdpbed can check. */
  | { readonly kind: 'unsupported'; readonly what: string };

/** What the helper does with memory it is given. `write` initialises all of it. */
export type MemoryAccess = 'read' | 'write' | 'read-write';

export type CallbackParameters =
  /** `(u64 index, void *context)` */
  | 'loop'
  /** `(map, key, value, context)` */
  | 'map-element';

/** What R0 holds after the call. */
export type HelperReturn =
  | {
      readonly kind: 'scalar';
      readonly min?: number;
      readonly max?: number;
      /** The only numbers it can be. */
      readonly values?: readonly number[];
    }
  /** XDP_REDIRECT, or what the low bits of the flags (R3) say. */
  | { readonly kind: 'redirect-map' }
  /** R0 is a scalar that nothing is known of and that the helper leaves undefined. */
  | { readonly kind: 'void' }
  /** Pointer to the map's value, or NULL; an inner map or socket where the map holds those. */
  | { readonly kind: 'map-value-or-null' }
  /** Memory of the size in the `allocation-size` argument, or NULL; to be given back. */
  | { readonly kind: 'ringbuf-record-or-null' }
  | { readonly kind: 'socket-or-null'; readonly socket: SocketKind; readonly acquires: boolean }
  /** Never returns to the program if it succeeds. */
  | { readonly kind: 'tail-call' };

export type SocketKind =
  'sock_common' | 'sock' | 'tcp_sock' | 'tcp6_sock' | 'tcp_timewait_sock' | 'tcp_request_sock' | 'udp6_sock';

export interface HelperPrototype {
  readonly id: number;
  readonly args: readonly HelperArgument[];
  readonly returns: HelperReturn;
  readonly gplOnly?: boolean;
  /** The packet may have moved: every packet pointer of before is void. */
  readonly changesPacket?: boolean;
  /** Memory arguments may point into the packet. */
  readonly packetMemory?: boolean;
  /** Reaches beyond the packet and the maps: kernel or user memory, or the task that happens to run. */
  readonly privileged?: boolean;
  /** Has to do with a map or a value that only BTF describes, or with dynptrs: xdpbed's verifier refuses it. */
  readonly unsupported?: string;
}

const context: HelperArgument = { kind: 'context' };
const map: HelperArgument = { kind: 'map' };
const mapKey: HelperArgument = { kind: 'map-key' };
const mapValue: HelperArgument = { kind: 'map-value', access: 'read' };
const mapValueOut: HelperArgument = { kind: 'map-value', access: 'write' };
const memory: HelperArgument = { kind: 'memory', access: 'read' };
const memoryOrNull: HelperArgument = { kind: 'memory', access: 'read', orNull: true };
const memoryInOut: HelperArgument = { kind: 'memory', access: 'read-write' };
const memoryOut: HelperArgument = { kind: 'memory', access: 'write' };
const memoryOutOrNull: HelperArgument = { kind: 'memory', access: 'write', orNull: true };
const size: HelperArgument = { kind: 'size', zero: false };
const sizeOrZero: HelperArgument = { kind: 'size', zero: true };
const scalar: HelperArgument = { kind: 'scalar' };
const address: HelperArgument = { kind: 'address' };
const string: HelperArgument = { kind: 'constant-string' };
const socket: HelperArgument = { kind: 'socket' };
const releasedSocket: HelperArgument = { kind: 'socket', release: true };
const callbackContext: HelperArgument = { kind: 'callback-context' };
const fixed = (bytes: number, access: MemoryAccess = 'read'): HelperArgument => ({
  kind: 'fixed-memory',
  access,
  bytes,
});
const number: HelperReturn = { kind: 'scalar' };
const nothing: HelperReturn = { kind: 'void' };

const BTF = 'it needs the types of the running kernel';
const VALUE_BTF = "it needs BTF of the map's value, which xdpbed's maps do not carry";
const DYNPTR = 'dynptrs are not tracked yet';
const CGROUP = 'it works on cgroups, which xdpbed does not have';

/** `struct iphdr`, `struct ipv6hdr`, `struct tcphdr`. */
const IPHDR = fixed(20);
const IPV6HDR = fixed(40);
const TCPHDR = fixed(20);

const PROTOTYPES: readonly HelperPrototype[] = [
  // Maps
  { id: 1, args: [map, mapKey], returns: { kind: 'map-value-or-null' }, packetMemory: true },
  { id: 2, args: [map, mapKey, mapValue, scalar], returns: number, packetMemory: true },
  { id: 3, args: [map, mapKey], returns: number, packetMemory: true },
  { id: 87, args: [map, mapValue, scalar], returns: number, packetMemory: true },
  { id: 88, args: [map, mapValueOut], returns: number },
  { id: 89, args: [map, mapValueOut], returns: number },
  { id: 195, args: [map, mapKey, scalar], returns: { kind: 'map-value-or-null' }, packetMemory: true },
  {
    id: 164,
    args: [map, { kind: 'callback', parameters: 'map-element' }, callbackContext, scalar],
    returns: number,
  },
  {
    id: 181,
    args: [scalar, { kind: 'callback', parameters: 'loop' }, callbackContext, scalar],
    returns: number,
  },

  // Time, random numbers, where the program runs
  { id: 5, args: [], returns: number },
  { id: 7, args: [], returns: number },
  { id: 8, args: [], returns: { kind: 'scalar', min: 0, max: 8191 } },
  { id: 42, args: [], returns: number },
  { id: 118, args: [], returns: number },
  { id: 125, args: [], returns: number },
  { id: 160, args: [], returns: number },
  { id: 208, args: [], returns: number },
  { id: 14, args: [], returns: number },
  { id: 15, args: [], returns: number },
  { id: 16, args: [memoryOut, size], returns: number },
  { id: 17, args: [], returns: number },
  { id: 80, args: [], returns: number },
  { id: 123, args: [scalar], returns: number },
  { id: 120, args: [scalar, scalar, memoryOut, size], returns: number },
  { id: 37, args: [map, scalar], returns: number, unsupported: CGROUP },

  // Where the packet goes
  // The program that is called instead may move the packet, and when it ends, control is back in the caller of the
  // local function that made the call.
  { id: 12, args: [context, map, scalar], returns: { kind: 'tail-call' }, changesPacket: true },
  { id: 23, args: [scalar, scalar], returns: { kind: 'scalar', values: [0, 4] } },
  { id: 51, args: [map, scalar, scalar], returns: { kind: 'redirect-map' } },

  // The packet
  {
    id: 28,
    args: [memoryOrNull, sizeOrZero, memoryOrNull, sizeOrZero, scalar],
    returns: number,
    packetMemory: true,
  },
  { id: 44, args: [context, scalar], returns: number, changesPacket: true },
  { id: 54, args: [context, scalar], returns: number, changesPacket: true },
  { id: 65, args: [context, scalar], returns: number, changesPacket: true },
  { id: 188, args: [context], returns: number },
  { id: 189, args: [context, scalar, memoryOut, size], returns: number },
  { id: 190, args: [context, scalar, memory, size], returns: number },

  // Out to user space
  // R3 … R5 are looked at only as far as the format asks for them, and by nobody who could tell addresses to a guest.
  { id: 6, args: [memory, size], returns: number, gplOnly: true },
  { id: 177, args: [memory, size, memoryOrNull, sizeOrZero], returns: number, gplOnly: true },
  { id: 25, args: [context, map, scalar, memory, sizeOrZero], returns: number, gplOnly: true },
  { id: 22, args: [map, scalar], returns: number, gplOnly: true },
  { id: 55, args: [map, scalar, memoryOut, size], returns: number, gplOnly: true },
  { id: 130, args: [map, memory, sizeOrZero, scalar], returns: number },
  { id: 131, args: [map, { kind: 'allocation-size' }, scalar], returns: { kind: 'ringbuf-record-or-null' } },
  { id: 132, args: [{ kind: 'ringbuf-record' }, scalar], returns: nothing },
  { id: 133, args: [{ kind: 'ringbuf-record' }, scalar], returns: nothing },
  { id: 134, args: [map, scalar], returns: number },

  // Routes and sockets
  { id: 69, args: [context, memoryInOut, size, scalar], returns: number, gplOnly: true },
  {
    id: 163,
    args: [context, scalar, fixed(4, 'read-write'), scalar, scalar],
    returns: number,
    gplOnly: true,
  },
  {
    id: 84,
    args: [context, memory, size, scalar, scalar],
    returns: { kind: 'socket-or-null', socket: 'sock', acquires: true },
    packetMemory: true,
  },
  {
    id: 85,
    args: [context, memory, size, scalar, scalar],
    returns: { kind: 'socket-or-null', socket: 'sock', acquires: true },
    packetMemory: true,
  },
  {
    id: 99,
    args: [context, memory, size, scalar, scalar],
    returns: { kind: 'socket-or-null', socket: 'sock_common', acquires: true },
    packetMemory: true,
  },
  { id: 86, args: [releasedSocket], returns: number },
  { id: 100, args: [socket, memory, size, memory, size], returns: number, gplOnly: true, packetMemory: true },
  { id: 110, args: [socket, memory, size, memory, size], returns: number, gplOnly: true, packetMemory: true },
  { id: 136, args: [socket], returns: { kind: 'socket-or-null', socket: 'tcp6_sock', acquires: false } },
  { id: 137, args: [socket], returns: { kind: 'socket-or-null', socket: 'tcp_sock', acquires: false } },
  {
    id: 138,
    args: [socket],
    returns: { kind: 'socket-or-null', socket: 'tcp_timewait_sock', acquires: false },
  },
  {
    id: 139,
    args: [socket],
    returns: { kind: 'socket-or-null', socket: 'tcp_request_sock', acquires: false },
  },
  { id: 140, args: [socket], returns: { kind: 'socket-or-null', socket: 'udp6_sock', acquires: false } },
  { id: 178, args: [socket], returns: number, unsupported: BTF },
  { id: 196, args: [socket], returns: number, unsupported: BTF },
  { id: 204, args: [IPHDR, memory, sizeOrZero], returns: number, gplOnly: true, packetMemory: true },
  { id: 205, args: [IPV6HDR, memory, sizeOrZero], returns: number, gplOnly: true, packetMemory: true },
  { id: 206, args: [IPHDR, TCPHDR], returns: number, gplOnly: true, packetMemory: true },
  { id: 207, args: [IPV6HDR, TCPHDR], returns: number, gplOnly: true, packetMemory: true },

  // Strings
  { id: 105, args: [memory, size, scalar, fixed(8, 'write')], returns: number },
  { id: 106, args: [memory, size, scalar, fixed(8, 'write')], returns: number },
  {
    id: 165,
    args: [memoryOutOrNull, sizeOrZero, string, memoryOrNull, sizeOrZero],
    returns: number,
    gplOnly: true,
  },
  { id: 182, args: [memory, size, string], returns: number },

  // Beyond the packet and the maps
  { id: 112, args: [memoryOut, sizeOrZero, address], returns: number, gplOnly: true, privileged: true },
  { id: 113, args: [memoryOut, sizeOrZero, address], returns: number, gplOnly: true, privileged: true },
  { id: 114, args: [memoryOut, sizeOrZero, address], returns: number, gplOnly: true, privileged: true },
  { id: 115, args: [memoryOut, sizeOrZero, address], returns: number, gplOnly: true, privileged: true },
  { id: 35, args: [], returns: number, gplOnly: true, privileged: true },
  { id: 109, args: [scalar], returns: number, privileged: true },
  { id: 117, args: [scalar], returns: number, privileged: true },

  // Refused: what they work on is not modelled
  { id: 93, args: [], returns: nothing, unsupported: VALUE_BTF },
  { id: 94, args: [], returns: nothing, unsupported: VALUE_BTF },
  { id: 169, args: [], returns: number, gplOnly: true, unsupported: VALUE_BTF },
  { id: 170, args: [], returns: number, gplOnly: true, unsupported: VALUE_BTF },
  { id: 171, args: [], returns: number, gplOnly: true, unsupported: VALUE_BTF },
  { id: 172, args: [], returns: number, gplOnly: true, unsupported: VALUE_BTF },
  { id: 194, args: [], returns: number, unsupported: VALUE_BTF },
  { id: 141, args: [], returns: number, unsupported: BTF },
  { id: 148, args: [], returns: number, unsupported: 'it may sleep' },
  { id: 149, args: [], returns: number, unsupported: BTF },
  { id: 153, args: [], returns: number, unsupported: BTF },
  { id: 154, args: [], returns: number, unsupported: BTF },
  { id: 156, args: [], returns: number, unsupported: BTF },
  { id: 157, args: [], returns: number, unsupported: BTF },
  { id: 158, args: [], returns: number, gplOnly: true, unsupported: BTF },
  { id: 175, args: [], returns: number, gplOnly: true, unsupported: BTF },
  { id: 176, args: [], returns: number, gplOnly: true, unsupported: BTF },
  { id: 180, args: [], returns: number, unsupported: BTF },
  { id: 191, args: [], returns: number, gplOnly: true, unsupported: 'it may sleep' },
  { id: 197, args: [], returns: number, unsupported: DYNPTR },
  { id: 198, args: [], returns: number, unsupported: DYNPTR },
  { id: 199, args: [], returns: number, unsupported: DYNPTR },
  { id: 200, args: [], returns: number, unsupported: DYNPTR },
  { id: 201, args: [], returns: number, unsupported: DYNPTR },
  { id: 202, args: [], returns: number, unsupported: DYNPTR },
  { id: 203, args: [], returns: number, unsupported: DYNPTR },
  { id: 209, args: [], returns: number, unsupported: DYNPTR },
  { id: 210, args: [], returns: number, unsupported: CGROUP },
  { id: 211, args: [], returns: number, unsupported: CGROUP },
];

/** By number: every helper that an XDP program may name. */
export const XDP_HELPER_PROTOTYPES: ReadonlyMap<number, HelperPrototype> = new Map(
  PROTOTYPES.map((prototype) => [prototype.id, prototype]),
);

/**
 * Which map types a helper's map argument may have, by helper number. A type that is in neither table can be
 * looked up, updated and deleted from.
 */
export const MAP_TYPES_OF_HELPER: ReadonlyMap<number, readonly number[]> = new Map<number, readonly number[]>(
  [
    [12, [3]],
    [22, [4]],
    [25, [4]],
    [55, [4]],
    [37, [8]],
    [51, [14, 16, 17, 25]],
    [87, [22, 23]],
    [88, [22, 23]],
    [89, [22, 23]],
    [130, [27]],
    [131, [27]],
    [134, [27]],
    [164, [1, 2, 5, 6, 9, 10]],
    [195, [5, 6, 10]],
  ],
);

/** Which helpers may be given a map of that type; types that are absent take the helpers of MAP_ELEMENT_HELPERS. */
export const HELPERS_OF_MAP_TYPE: ReadonlyMap<number, readonly number[]> = new Map<number, readonly number[]>(
  [
    [3, [12]],
    [4, [22, 25, 55]],
    [7, []],
    [8, [37]],
    [12, [1]],
    [13, [1]],
    [14, [1, 51]],
    [15, [1, 3]],
    [16, [51]],
    [17, [1, 51]],
    [18, [1, 3]],
    [22, [87, 88, 89]],
    [23, [87, 88, 89]],
    [25, [1, 51]],
    [27, [130, 131, 134]],
  ],
);
