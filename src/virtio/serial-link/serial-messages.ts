/**
 * Control commands and their answers over a byte stream, such as a virtio-serial port (virtio 1.3, 5.3), for a guest
 * whose control queue no device of ours reads. A message is a header of 16 bytes, little-endian, and its bytes:
 * ```
 * +0 magic 'XVC' · +3 kind u8 · +4 number u32 · +8 length u32 · +12 room u32 · +16 length bytes
 * ```
 * | kind | from | number | bytes | room |
 * |---|---|---|---|---|
 * | 1 HELLO | driver | the last epoch it heard of, 0 for none | – | 0 |
 * | 2 COMMAND | driver | 1 for the first of an epoch, then one more for each | device-readable bytes | device-writable bytes |
 * | 3 RESET | device | the epoch that begins | – | 0 |
 * | 4 ANSWER | device | that of its command | what the device wrote | 0 |
 * | 5 BROKEN | device | the epoch that is down; 0: this driver is not served | why, UTF-8, at most 256 bytes | 0 |
 *
 * An epoch begins with RESET, and with a HELLO that names it; what lies between belongs to an older one and is
 * skipped, so that after a reset both sides agree where they are whatever was on its way, nonsense included. A driver
 * that comes up, or wants to know whether a channel that was broken works again, says HELLO.
 */
export const SERIAL_HEADER_BYTES = 16;
/** Bytes of one command, and room for one answer: 16 times what the largest of RFC 2019's takes. */
export const MAX_SERIAL_BYTES = 1024 * 1024;
export const MAX_BROKEN_REASON_BYTES = 256;

export const SERIAL_KIND = { HELLO: 1, COMMAND: 2, RESET: 3, ANSWER: 4, BROKEN: 5 } as const;
export type SerialKind = (typeof SERIAL_KIND)[keyof typeof SERIAL_KIND];

export interface SerialHeader {
  /** Whatever byte is there. */
  readonly kind: number;
  readonly number: number;
  readonly length: number;
  readonly room: number;
}

const MAGIC = [0x58, 0x56, 0x43] as const; // XVC

/** What every HELLO begins with, to find one in bytes that are no messages. */
export const HELLO_PREFIX: Uint8Array = Uint8Array.of(...MAGIC, SERIAL_KIND.HELLO);

/** A whole message. */
export function encodeSerialMessage(
  kind: SerialKind,
  number: number,
  parts: readonly Uint8Array[] = [],
  room = 0,
): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const message = new Uint8Array(SERIAL_HEADER_BYTES + length);
  message.set(MAGIC);
  message[3] = kind;
  const view = new DataView(message.buffer);
  view.setUint32(4, number, true);
  view.setUint32(8, length, true);
  view.setUint32(12, room, true);
  let at = SERIAL_HEADER_BYTES;
  for (const part of parts) {
    message.set(part, at);
    at += part.length;
  }
  return message;
}

/** The header that the bytes begin with; undefined when they are no header. At least 16 bytes. */
export function decodeSerialHeader(bytes: Uint8Array): SerialHeader | undefined {
  if (MAGIC.some((byte, index) => bytes[index] !== byte)) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    kind: bytes[3]!,
    number: view.getUint32(4, true),
    length: view.getUint32(8, true),
    room: view.getUint32(12, true),
  };
}
