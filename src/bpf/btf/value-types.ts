import { formatIpv4Address } from '../../packet/ipv4.js';
import { formatIpv6Address } from '../../packet/ipv6.js';
import { formatMac } from '../../packet/mac-address.js';
import type { Btf } from './btf.js';

/**
 * How a type's bytes are written where C's own way of writing them says little. The names of types decide, as they do for
 * who reads the program (include/uapi/linux/types.h, in.h, in6.h); of `unsigned char` arrays the length does.
 *
 * | | type | written as |
 * |---|---|---|
 * | `be16`, `be64` | typedef `__be16`, `in_port_t`, `__be64` | the number, which lies in network order |
 * | `ipv4` | `__be32`, `in_addr_t`, `struct in_addr` | `10.0.0.1`, or the number |
 * | `ipv6` | `struct in6_addr`, 16 bytes | `2001:db8::1` |
 * | `mac` | 6 bytes | `02:00:00:00:00:01` |
 */
export type ValueForm = 'be16' | 'be64' | 'ipv4' | 'ipv6' | 'mac';

const TYPEDEFS: ReadonlyMap<string, { readonly form: ValueForm; readonly size: number }> = new Map([
  ['__be16', { form: 'be16', size: 2 }],
  ['be16', { form: 'be16', size: 2 }],
  ['in_port_t', { form: 'be16', size: 2 }],
  ['__be32', { form: 'ipv4', size: 4 }],
  ['be32', { form: 'ipv4', size: 4 }],
  ['in_addr_t', { form: 'ipv4', size: 4 }],
  ['__be64', { form: 'be64', size: 8 }],
  ['be64', { form: 'be64', size: 8 }],
]);

/** Longest chain of typedefs and qualifiers that is followed; `Btf.resolve` ends as early. */
const MAX_CHAIN = 64;

/** The form in which values of a type are written; undefined: by its kind alone. */
export function valueForm(btf: Btf, typeId: number): ValueForm | undefined {
  let id = typeId;
  for (let steps = 0; steps < MAX_CHAIN; steps++) {
    const type = btf.type(id);
    switch (type.kind) {
      case 'TYPEDEF': {
        const known = TYPEDEFS.get(type.name);
        if (known !== undefined && btf.sizeOf(id) === known.size && isInteger(btf, id)) return known.form;
        id = type.type;
        break;
      }
      case 'VOLATILE':
      case 'CONST':
      case 'RESTRICT':
      case 'TYPE_TAG':
        id = type.type;
        break;
      case 'STRUCT':
        if (type.name === 'in_addr' && type.size === 4) return 'ipv4';
        return type.name === 'in6_addr' && type.size === 16 ? 'ipv6' : undefined;
      case 'ARRAY':
        if (!isByte(btf, type.type)) return undefined;
        return type.length === 6 ? 'mac' : type.length === 16 ? 'ipv6' : undefined;
      default:
        return undefined;
    }
  }
  return undefined;
}

/** The bytes of a value in that form: an address as text, the number that lies in network order. */
export function readForm(form: ValueForm, bytes: Uint8Array): string | bigint {
  switch (form) {
    case 'ipv4':
      return formatIpv4Address(bytes);
    case 'ipv6':
      return formatIpv6Address(bytes);
    case 'mac':
      return formatMac(bytes);
    case 'be16':
    case 'be64':
      return littleEndian(Uint8Array.from(bytes).reverse());
  }
}

export function littleEndian(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
  return value;
}

function isInteger(btf: Btf, typeId: number): boolean {
  return btf.type(btf.resolve(typeId)).kind === 'INT';
}

/** C's `char`, which clang encodes as a signed integer of that name. */
export function isCharacter(btf: Btf, typeId: number): boolean {
  const type = btf.type(btf.resolve(typeId));
  return type.kind === 'INT' && type.size === 1 && (type.encoding === 'char' || type.name === 'char');
}

/** An unsigned integer of one byte that is no `char` and no `bool`: what addresses are made of. */
function isByte(btf: Btf, typeId: number): boolean {
  const type = btf.type(btf.resolve(typeId));
  return type.kind === 'INT' && type.size === 1 && type.encoding === 'unsigned' && !isCharacter(btf, typeId);
}
