import { BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG, BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { touchedField } from '../../src/bpf/special-fields.js';
import { type Access, MAX_OFFSET, rejectReadOnly } from './access.js';
import { checkBounds } from './map-access.js';
import { checkPacketAccess } from './packet-access.js';
import type { Simulation } from './simulation.js';
import { checkSocketAccess } from './socket-access.js';
import { rejectStale } from './stale-pointers.js';
import { describeKind } from './value-format.js';
import { isInnerMap, Kind, type KnownMap, type Value } from './value.js';

/**
 * Checks that `size` bytes at register + off are inside what the register points to and may be accessed so.
 * Offsets count from the object's start; a variable part has to be bounded on both sides.
 */
export function checkAccess(
  sim: Simulation,
  register: number,
  base: Value,
  off: number,
  size: number,
  access: Access,
  record = true,
): void {
  const write = access !== 'read';
  rejectNotAccessible(sim, register, base, write);
  const fixed = base.off + off;
  const variable = base.scalar;
  const min = Number(variable.smin) + fixed;
  // `smin` of a pointer is never far below zero (movedPointer sees to it); `umax` may be anything.
  const umax = variable.umax > BigInt(MAX_OFFSET) ? Infinity : Number(variable.umax);
  const max = umax + fixed;
  switch (base.kind) {
    case Kind.Packet:
    case Kind.PacketMeta:
      checkPacketAccess(sim, register, base, fixed, size, write);
      if (record) {
        const region = base.kind === Kind.Packet ? 'packet' : 'packet-meta';
        sim.facts.access(sim.pc, region, write, size, min, max);
      } else if (write) sim.facts.writesPacket = true;
      return;
    case Kind.MapValue: {
      const map = base.map!;
      if (write && (map.spec.flags & BPF_F_RDONLY_PROG) !== 0)
        rejectReadOnly(sim, register, `map ${map.spec.name}`);
      // The values of device maps belong to the kernel.
      const isDeviceMap =
        map.spec.type === BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP ||
        map.spec.type === BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP_HASH;
      if (write && isDeviceMap) rejectReadOnly(sim, register, `the value of device map ${map.spec.name}`);
      if (access !== 'write') rejectWriteOnly(sim, register, map);
      checkBounds(
        sim,
        register,
        base,
        min,
        max,
        size,
        map.spec.valueSize,
        'map-value-bounds',
        `a value of map ${map.spec.name}`,
      );
      rejectSpecialField(sim, register, map, min, max + size);
      if (record) recordMapAccess(sim, map, write, size, min, max);
      return;
    }
    case Kind.MapKey:
      if (write) rejectReadOnly(sim, register, 'the key of a map');
      rejectWriteOnly(sim, register, base.map!);
      checkBounds(sim, register, base, min, max, size, base.map!.spec.keySize, 'memory-bounds', 'the key');
      if (record) sim.facts.access(sim.pc, 'memory', write, size, min, max);
      return;
    case Kind.Memory:
      checkBounds(sim, register, base, min, max, size, base.size, 'memory-bounds', 'the ring buffer record');
      if (record) sim.facts.access(sim.pc, 'memory', write, size, min, max);
      return;
    case Kind.Socket:
    case Kind.XskSocket:
      checkSocketAccess(sim, register, base, fixed, size, write);
      if (record) sim.facts.accessElsewhere(sim.pc);
      return;
    default:
      sim.reject(
        'not-a-pointer',
        `R${register} is ${describeKind(base)}, which is not memory that a program may access`,
        {
          registers: [register],
        },
      );
  }
}

function rejectNotAccessible(sim: Simulation, register: number, base: Value, write: boolean): void {
  const verb = write ? 'written' : 'read';
  if (base.maybeNull) {
    sim.reject(
      'null-dereference',
      `R${register} is ${describeKind(base)}, and memory would be ${verb} through it`,
      {
        registers: [register],
        suggestion: `compare R${register} with 0 first, and do not come here if it is: if (!ptr) return XDP_PASS;`,
      },
    );
  }
  if (base.kind === Kind.Stale) rejectStale(sim, register);
  if (base.kind !== Kind.Scalar) return;
  if (base.isZero) {
    sim.reject(
      'null-dereference',
      `R${register} is NULL on this path, and memory would be ${verb} through it`,
      {
        registers: [register],
        suggestion: 'leave the path on which the pointer was found to be 0 before this access',
      },
    );
  }
  sim.reject(
    'not-a-pointer',
    `R${register} is ${describeKind(base)}, and memory would be ${verb} through it`,
    {
      registers: [register],
      suggestion:
        'memory is reached through pointers that the verifier knows: from the context, the stack, a map lookup or a helper; arithmetic other than + and - turns a pointer into a number',
    },
  );
}

function rejectWriteOnly(sim: Simulation, register: number, { spec }: KnownMap): void {
  if ((spec.flags & BPF_F_WRONLY_PROG) === 0) return;
  sim.reject('write-only', `map ${spec.name} may not be read by programs`, { registers: [register] });
}

/** What only helpers may touch (kernel/bpf/verifier.c, `check_map_access`). */
function rejectSpecialField(
  sim: Simulation,
  register: number,
  { spec, special }: KnownMap,
  first: number,
  end: number,
): void {
  const field = touchedField(special, first, end);
  if (field === undefined) return;
  const what = `${field.name} of map ${spec.name}, a ${field.type}`;
  sim.reject(
    'special-field',
    `bytes ${first} to ${end - 1} of the value touch ${what}, which only helpers may`,
    {
      registers: [register],
      suggestion:
        field.type === 'bpf_spin_lock'
          ? 'access the other members one by one; take and release the lock with bpf_spin_lock and bpf_spin_unlock'
          : `access the other members one by one; what works on a ${field.type} is not modelled here: nothing would act on it`,
    },
  );
}

/** Facts name maps by handle, which what a lookup in a map of maps gave has none of. */
function recordMapAccess(
  sim: Simulation,
  map: KnownMap,
  write: boolean,
  size: number,
  min: number,
  max: number,
): void {
  if (isInnerMap(map)) sim.facts.accessElsewhere(sim.pc);
  else sim.facts.access(sim.pc, 'map-value', write, size, min, max, map.handle);
}
