import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import * as op from '../../src/bpf/opcodes.js';
import { XDP_ABORTED, XDP_REDIRECT } from '../../src/bpf/xdp.js';
import type { Call } from './helper-arguments.js';
import { acquire } from './references.js';
import { arithmetic, join } from './scalar/scalar-arithmetic.js';
import { Scalar } from './scalar/scalar.js';
import type { Simulation } from './simulation.js';
import { holdsLock } from './spin-locks.js';
import { spilledNumber } from './stack-access.js';
import {
  isInnerMap,
  Kind,
  type KnownMap,
  NOT_INIT,
  pointer,
  scalarValue,
  STALE_PACKET,
  UNKNOWN_NUMBER,
  type Value,
} from './value.js';

export function returnValue(sim: Simulation, call: Call): Value {
  const { returns } = call.prototype;
  switch (returns.kind) {
    case 'scalar':
      if (returns.values !== undefined) return scalarValue(joinAll(returns.values));
      if (returns.min === undefined || returns.max === undefined) return UNKNOWN_NUMBER;
      return scalarValue(Scalar.signed(BigInt(returns.min), BigInt(returns.max)));
    case 'redirect-map': {
      // The low two bits of the flags are the verdict when there is nothing to redirect to; bad flags abort.
      const flags = sim.peek(3).scalar;
      const otherwise = arithmetic(op.BPF_AND, flags, Scalar.of(3), false);
      const verdict = join(otherwise, Scalar.of(XDP_REDIRECT));
      return scalarValue(flags.umax <= 3n ? verdict : join(verdict, Scalar.of(XDP_ABORTED)));
    }
    case 'void':
    case 'tail-call':
      // R0 is whatever the helper left there.
      return NOT_INIT;
    case 'map-value-or-null':
      return looked(sim, call);
    case 'ringbuf-record-or-null': {
      const ref = acquire(sim, 'the ring buffer record');
      return pointer(Kind.Memory, { id: ref, ref, size: call.allocation, maybeNull: true });
    }
    case 'socket-or-null': {
      const ref = returns.acquires ? acquire(sim, 'the socket') : heldBy(sim, 1);
      const id = returns.acquires ? ref : sim.newId();
      return pointer(Kind.Socket, { id, ref, maybeNull: true, socket: returns.socket });
    }
  }
}

function joinAll(values: readonly number[]): Scalar {
  return values.map((value) => Scalar.of(value)).reduce(join);
}

function heldBy(sim: Simulation, register: number): number {
  return sim.peek(register).ref;
}

/** What a lookup gives depends on what the map holds. */
function looked(sim: Simulation, call: Call): Value {
  const map = call.map!;
  const parts = { id: sim.newId(), maybeNull: true };
  switch (map.spec.type) {
    case BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS:
    case BPF_MAP_TYPE.BPF_MAP_TYPE_HASH_OF_MAPS:
      return pointer(Kind.Map, { ...parts, map: sim.innerMap(map) });
    case BPF_MAP_TYPE.BPF_MAP_TYPE_XSKMAP:
      return pointer(Kind.XskSocket, parts);
    case BPF_MAP_TYPE.BPF_MAP_TYPE_SOCKMAP:
    case BPF_MAP_TYPE.BPF_MAP_TYPE_SOCKHASH: {
      const ref = acquire(sim, 'the socket');
      return pointer(Kind.Socket, { ...parts, id: ref, ref, socket: 'sock' });
    }
    case BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY:
    case BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY:
      if (call.prototype.id === BPF_FUNC.map_lookup_elem && keyIsInside(sim, call, map))
        return pointer(Kind.MapValue, { map, id: holdsLock(map) ? parts.id : 0 });
      return pointer(Kind.MapValue, { ...parts, map });
    default:
      return pointer(Kind.MapValue, { ...parts, map });
  }
}

/** An array has every element up to its size, so a known index below it is always found. */
function keyIsInside(sim: Simulation, call: Call, map: KnownMap): boolean {
  // What a map of maps holds may be of another size than the map it was created with.
  if (call.keyRegister === undefined || isInnerMap(map)) return false;
  const key = spilledNumber(sim, sim.peek(call.keyRegister), 4);
  const index = key?.scalar.constant;
  if (index === undefined || index >= BigInt(map.spec.maxEntries)) return false;
  // That it is live is seen to with the key argument; states have to agree on the number as well.
  sim.preciseNumber(key!.origin);
  return true;
}

export function invalidatePacketPointers(sim: Simulation): void {
  sim.updateAll((candidate) => {
    switch (candidate.kind) {
      case Kind.Packet:
      case Kind.PacketMeta:
      case Kind.PacketEnd:
      case Kind.PacketLow:
        return STALE_PACKET;
      default:
        return undefined;
    }
  }, undefined);
}
