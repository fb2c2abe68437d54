import { formatElement } from '../../core/program-test/map-dump.js';
import { isGlobalData } from '../../core/testbed/map-values.js';
import type { ProgramSession } from '../../core/program-test/program-session.js';
import { MAX_BPF_STACK } from '../../bpf/opcodes.js';
import type { MapSpec } from '../../bpf/map-spec.js';
import { isResidentMap, type ResidentMap } from '../../bpf/runtime/bpf-map.js';
import { FrameRing } from '../../bpf/runtime/frame-ring.js';
import { FRAME_SLOT } from '../../bpf/runtime/xdp-frame.js';
import { HASH_ELEMENT_KEY } from '../../bpf/runtime/map-layout.js';

interface NamedMap {
  readonly name: string;
  readonly spec: MapSpec | undefined;
  readonly map: ResidentMap;
}

/** What an address of a program's memory is called: `packet+14`, `fp-8`, `rxcnt[17]`, `.bss.total`, `map rxcnt`. */
export class AddressNames {
  readonly #maps: readonly NamedMap[];
  readonly #frame: number | undefined;

  constructor(readonly session: ProgramSession) {
    this.#maps = [...session.maps].flatMap(([name, map]) => {
      const spec = session.object.maps.find((each) => each.name === name);
      return isResidentMap(map) ? [{ name, spec, map }] : [];
    });
    const { frames } = session;
    this.#frame = frames instanceof FrameRing ? frames.address(0) : undefined;
  }

  /** Undefined for what is no address of an object. `depth` is that of the stack frame under way. */
  nameOf(address: number, depth: number): string | undefined {
    const { space } = this.session.bench.runtime;
    const handle = this.#maps.find(({ map }) => map.address === address);
    if (handle !== undefined) return `map ${handle.name}`;
    for (const named of this.#maps) {
      const name = elementName(named, address);
      if (name !== undefined) return name;
    }
    const region = space.regionAt(address);
    if (region?.kind === 'packet' && this.#frame !== undefined) return this.#frameName(address, this.#frame);
    if (region?.kind === 'stack') {
      // What R10 holds: one past the frame's last byte.
      if (address === region.start + (depth + 1) * MAX_BPF_STACK) return 'fp';
      const frame = Math.floor((address - region.start) / MAX_BPF_STACK);
      const below = (frame + 1) * MAX_BPF_STACK - (address - region.start);
      return frame === depth ? `fp-${below}` : `fp-${below} of frame ${frame}`;
    }
    return region?.label;
  }

  #frameName(address: number, frame: number): string {
    const { i32 } = this.session.bench.runtime.space;
    if (address < frame + FRAME_SLOT.hardStart) return `ctx+${address - frame}`;
    const offset = address - (i32[frame >> 2]! >>> 0);
    return offset < 0 ? `packet${offset}` : `packet+${offset}`;
  }
}

function elementName({ name, spec, map }: NamedMap, address: number): string | undefined {
  const { layout, space, attributes } = map;
  if (layout.kind === 'array') {
    const { values, stride, maxEntries, cpuStride } = layout;
    const lane = cpuStride === 0 ? 0 : Math.floor((address - values) / cpuStride);
    const within = address - values - lane * cpuStride;
    if (within < 0 || within >= stride * maxEntries || within % stride >= attributes.valueSize)
      return undefined;
    if (cpuStride !== 0 && lane >= map.syscallValueSize / stride) return undefined;
    const index = Math.floor(within / stride);
    if (spec !== undefined && isGlobalData(spec)) return variableName(spec, within);
    const cpu = cpuStride === 0 ? '' : ` of CPU ${lane}`;
    return `${name}[${index}]${offsetText(within % stride)}${cpu}`;
  }
  if (layout.kind !== 'hash') return undefined;
  const within = address - layout.elements;
  if (within < 0 || within >= layout.stride * layout.maxEntries) return undefined;
  const element = address - (within % layout.stride);
  let offset = (within % layout.stride) - layout.valueOffset;
  let cpu = '';
  if (layout.cpuStride !== 0) {
    cpu = ` of CPU ${Math.floor(offset / layout.cpuStride)}`;
    offset %= layout.cpuStride;
  }
  if (offset < 0 || offset >= attributes.valueSize) return undefined;
  const start = element + HASH_ELEMENT_KEY;
  const key = space.u8.slice(start, start + layout.keySize);
  return `${name}[${formatElement(spec?.keyType, layout.keySize, key)}]${offsetText(offset)}${cpu}`;
}

function variableName({ name, valueType }: MapSpec, at: number): string {
  const section = valueType?.btf.type(valueType.id);
  if (valueType !== undefined && section?.kind === 'DATASEC') {
    for (const { type, offset, size } of section.variables) {
      if (at < offset || at >= offset + size) continue;
      return `${name}.${valueType.btf.type(type).name}${offsetText(at - offset)}`;
    }
  }
  return `${name}${offsetText(at)}`;
}

function offsetText(offset: number): string {
  return offset === 0 ? '' : `+${offset}`;
}
