import type { Btf } from '../../bpf/btf/btf.js';
import type { BtfMember } from '../../bpf/btf/btf-type.js';
import { formatValue, widestMember } from '../../bpf/btf/format-value.js';
import { isCharacter, littleEndian, valueForm } from '../../bpf/btf/value-types.js';
import type { MapSpec } from '../../bpf/map-spec.js';
import { cpuValues } from '../../bpf/per-cpu-value.js';

/**
 * What an element of a per-CPU map says of all CPUs together, member by member (`''` for a value without members): of an integer
 * the sum of the CPUs' values, as many bits wide as the member, as if one CPU had counted; of anything else (addresses, numbers
 * in network order, enumerators, booleans, text) the values that occur. Members that are 0 on every CPU are left out.
 *
 * Without BTF a value of 1, 2, 4 or 8 bytes is an integer. Of another size the values that are not all zeros count, each as often
 * as it occurs, whichever CPU has it.
 *
 * @param value of all CPUs, as the system call has it
 */
export function overAllCpus(map: MapSpec, value: Uint8Array): ReadonlyMap<string, string> {
  const values = cpuValues(map, value);
  const { valueType: type, valueSize } = map;
  if (type !== undefined && type.btf.sizeOf(type.id) === valueSize) {
    return new Together(type.btf, values).read(type.id);
  }
  if (INTEGER_SIZES.has(valueSize)) {
    const sum = values.reduce((total, own) => total + littleEndian(own), 0n);
    const wrapped = BigInt.asUintN(8 * valueSize, sum);
    return new Map(wrapped === 0n ? [] : [['', String(wrapped)]]);
  }
  const occurring = values.filter(isNotZero).map((own) => Buffer.from(own).toString('hex'));
  return new Map(occurring.length === 0 ? [] : [['', occurring.toSorted().join(', ')]]);
}

const INTEGER_SIZES: ReadonlySet<number> = new Set([1, 2, 4, 8]);
/** Members of one value; types of hostile BTF can nest and repeat far beyond what their bytes warrant. */
const MAX_NODES = 100_000;
const MAX_DEPTH = 32;

class Together {
  readonly #found = new Map<string, string>();
  #nodes = 0;

  constructor(
    readonly btf: Btf,
    readonly values: readonly Uint8Array[],
  ) {}

  read(typeId: number): ReadonlyMap<string, string> {
    this.#read(typeId, 0, '', 0);
    return this.#found;
  }

  /** `offset` is in bytes from the start of the value. */
  #read(typeId: number, offset: number, place: string, depth: number): void {
    this.#nodes++;
    if (depth > MAX_DEPTH || this.#nodes > MAX_NODES || valueForm(this.btf, typeId) !== undefined)
      return this.#occurring(typeId, offset, place);
    const type = this.btf.type(this.btf.resolve(typeId));
    switch (type.kind) {
      case 'INT':
        if (type.encoding === 'bool') this.#occurring(typeId, offset, place);
        else this.#sum(offset * 8 + type.bitOffset, type.bits, type.encoding === 'signed', place);
        return;
      case 'STRUCT':
        for (const member of type.members) this.#member(member, offset, place, depth);
        return;
      case 'UNION': {
        const widest = widestMember(this.btf, type.members);
        if (widest !== undefined) this.#member(widest, offset, place, depth);
        return;
      }
      case 'ARRAY': {
        const size = this.btf.sizeOf(type.type) ?? 0;
        if (size === 0 || isCharacter(this.btf, type.type)) return this.#occurring(typeId, offset, place);
        for (let index = 0; index < type.length && this.#nodes <= MAX_NODES; index++)
          this.#read(type.type, offset + index * size, `${place}[${index}]`, depth + 1);
        return;
      }
      default:
        this.#occurring(typeId, offset, place);
    }
  }

  #member(member: BtfMember, offset: number, place: string, depth: number): void {
    const inner = member.name === '' ? place : `${place}.${member.name}`;
    const bit = offset * 8 + member.bitOffset;
    if (member.bitSize === 0 && bit % 8 === 0) return this.#read(member.type, bit / 8, inner, depth + 1);
    this.#nodes++;
    const type = this.btf.type(this.btf.resolve(member.type));
    const width = member.bitSize !== 0 ? member.bitSize : type.kind === 'INT' ? type.bits : 0;
    if (type.kind === 'INT' && type.encoding !== 'bool') {
      this.#sum(bit, width, type.encoding === 'signed', inner);
      return;
    }
    this.#note(
      inner,
      this.values
        .map((value) => bitsOf(value, bit, width))
        .filter((bits) => bits !== 0n)
        .map(String),
    );
  }

  #sum(bit: number, width: number, isSigned: boolean, place: string): void {
    const sum = this.values.reduce((total, value) => total + bitsOf(value, bit, width), 0n);
    const wrapped = isSigned ? BigInt.asIntN(width, sum) : BigInt.asUintN(width, sum);
    if (wrapped !== 0n) this.#found.set(place, String(wrapped));
  }

  #occurring(typeId: number, offset: number, place: string): void {
    const size = this.btf.sizeOf(typeId) ?? 0;
    const own = this.values.map((value) => value.subarray(offset, offset + size)).filter(isNotZero);
    this.#note(
      place,
      own.map((bytes) => formatValue({ btf: this.btf, id: typeId }, bytes)),
    );
  }

  #note(place: string, texts: readonly string[]): void {
    if (texts.length > 0) this.#found.set(place, [...new Set(texts)].toSorted().join(', '));
  }
}

/** Bits of a little-endian value, counted from its first byte's lowest. */
function bitsOf(bytes: Uint8Array, bit: number, width: number): bigint {
  const first = Math.floor(bit / 8);
  const value = littleEndian(bytes.subarray(first, Math.ceil((bit + width) / 8)));
  return BigInt.asUintN(width, value >> BigInt(bit - first * 8));
}

function isNotZero(bytes: Uint8Array): boolean {
  return bytes.some((byte) => byte !== 0);
}
