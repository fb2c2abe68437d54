import { readFile } from 'node:fs/promises';
import { XdpbedError, messageOf } from '../diagnostic.js';
import { ethernetFrames, readWholePackets, type CapturedPacket } from '../../packet/index.js';

/** The Ethernet frames of a capture, all of which must be sound. Throws `file-unreadable` or `pcap-invalid`. */
export async function readFrames(path: string): Promise<CapturedPacket[]> {
  const { packets, damage } = await readWholeFrames(path);
  if (damage !== undefined) throw damage;
  return packets;
}

/** As `readFrames`, up to where the file was cut off or spoilt: what is wrong there is `damage`. */
export async function readWholeFrames(
  path: string,
): Promise<{ readonly packets: CapturedPacket[]; readonly damage: XdpbedError | undefined }> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new XdpbedError('file-unreadable', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
  const capture = inFile(path, () => readWholePackets(bytes));
  return {
    packets: inFile(path, () => ethernetFrames(capture)),
    damage: capture.damage && named(path, capture.damage),
  };
}

function inFile<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof XdpbedError ? named(path, error) : error;
  }
}

/** The same error, with the file's name. */
function named(path: string, error: XdpbedError): XdpbedError {
  const at = error.at !== undefined && 'offset' in error.at ? { ...error.at, file: path } : error.at;
  return new XdpbedError(error.code, error.message, { at, hint: error.hint, cause: error });
}
