import { readFile } from 'node:fs/promises';
import { XdpbedError, messageOf } from '../../core/diagnostic.js';
import { ethernetFrames, readCapture, type CapturedPacket } from '../../packet/index.js';

/** The Ethernet frames of a capture. Throws `file-unreadable` or `pcap-invalid`. */
export async function readFrames(path: string): Promise<CapturedPacket[]> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new XdpbedError('file-unreadable', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
  return ethernetFrames(readCapture(bytes));
}
