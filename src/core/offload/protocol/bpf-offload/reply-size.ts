import type { BpfRequest } from '../control-protocol.js';
import {
  CAPABILITIES,
  COUNT,
  ELEMENTS,
  HANDLE,
  LINK_INFO,
  MAP_INFO,
  MAX_CURSOR_BYTES,
  OBJECT_INFO,
  PIN_NAME,
  PROG_INFO,
  REPORT,
  VERDICTS,
} from './wire.js';

/** Bytes of cursor in the answer to a look-up batch: a hash map's is a number, an array's a key. */
export function cursorRoom(keySize: number): number {
  return Math.min(Math.max(keySize, 8), MAX_CURSOR_BYTES);
}

/**
 * Bytes of data that the answer to a request takes at most: a device does not carry out what it could not answer. The
 * ids of a program's maps, which may be many, come on top as far as there is room.
 */
export function dataBytes(request: BpfRequest): number {
  switch (request.kind) {
    case 'create-map':
    case 'load-btf':
    case 'load-program':
    case 'create-link':
    case 'open-pinned':
    case 'open-by-id':
      return HANDLE.size;
    case 'lookup-elem':
    case 'lookup-and-delete-elem':
      return request.valueSize;
    case 'get-first':
      return request.keySize;
    case 'get-next':
      return request.key.length;
    case 'lookup-batch':
      return (
        ELEMENTS.size + cursorRoom(request.keySize) + request.count * (request.keySize + request.valueSize)
      );
    case 'update-batch':
    case 'delete-batch':
      return COUNT.size;
    case 'read-records':
      return request.bytes;
    case 'read-btf':
      return request.length;
    case 'next-pinned':
      return PIN_NAME.size;
    case 'next-id':
      return 4;
    case 'get-info':
      return OBJECT_INFO.size + Math.max(MAP_INFO.size, PROG_INFO.size, LINK_INFO.size + VERDICTS.size);
    case 'get-capabilities':
      return CAPABILITIES.size;
    case 'get-report':
      return REPORT.size + VERDICTS.size;
    default:
      return 0;
  }
}
