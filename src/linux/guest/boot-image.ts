import { runTool } from './run-tool.js';

/**
 * Formats that a kernel (CONFIG_KERNEL_…) or a module is compressed with, by their first bytes and the tool that
 * undoes them.
 */
const FORMATS: readonly {
  readonly magic: readonly number[];
  readonly tool: string;
  readonly words: string[];
}[] = [
  { magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], tool: 'xz', words: ['-dc', '--single-stream'] },
  { magic: [0x28, 0xb5, 0x2f, 0xfd], tool: 'zstd', words: ['-dc', '-q'] },
  { magic: [0x02, 0x21, 0x4c, 0x18], tool: 'lz4', words: ['-dc', '-q'] },
  { magic: [0x1f, 0x8b, 0x08], tool: 'gzip', words: ['-dcq'] },
];
/** Bytes of a kernel or module that is taken. */
const MAX_UNPACKED = 512 * 1024 * 1024;

/** The bytes behind a known compression, or the bytes themselves. Throws `host-unsupported` without the tool for it. */
export async function decompress(bytes: Uint8Array): Promise<Uint8Array> {
  const format = FORMATS.find(({ magic }) => magic.every((byte, index) => bytes[index] === byte));
  if (format === undefined) return bytes;
  return runTool(format.tool, format.words, { input: bytes, maxOutput: MAX_UNPACKED });
}

/**
 * The uncompressed kernel out of a bzImage (Documentation/arch/x86/boot.rst): an ELF file with a PVH entry, which QEMU
 * starts without the decompressor. Undefined where it is none, or cannot be unpacked: then the bzImage boots as well,
 * some two seconds slower without KVM.
 * ```
 * +0x1f1 setup_sects u8 · +0x202 'HdrS' · +0x206 version u16, at least 2.08 · +0x248 payload_offset u32
 * +0x24c payload_length u32: from the end of the setup, (setup_sects + 1) * 512, on
 * ```
 */
export async function uncompressedKernel(image: Uint8Array): Promise<Uint8Array | undefined> {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  if (image.length < 0x250 || view.getUint32(0x202, false) !== HDRS || view.getUint16(0x206, true) < 0x208) {
    return undefined;
  }
  const start = ((image[0x1f1] || 4) + 1) * 512 + view.getUint32(0x248, true);
  const end = start + view.getUint32(0x24c, true);
  if (end > image.length) return undefined;
  // The kernel's build puts the size behind streams that lack one; zstd and lz4 would take it for another frame.
  const hasSizeBehind = image[start] === 0x28 || image[start] === 0x02;
  const payload = image.subarray(start, hasSizeBehind ? end - 4 : end);
  try {
    const kernel = await decompress(payload);
    return hasPvhEntry(kernel) ? kernel : undefined;
  } catch {
    return undefined;
  }
}

const HDRS = 0x48647253;
const PT_NOTE = 4;
/** XEN_ELFNOTE_PHYS32_ENTRY (include/xen/interface/elfnote.h), of a note named `Xen`. */
const PHYS32_ENTRY = 18;

/** A 64-bit little-endian ELF file with the note that QEMU finds the entry by (CONFIG_PVH). */
function hasPvhEntry(kernel: Uint8Array): boolean {
  const view = new DataView(kernel.buffer, kernel.byteOffset, kernel.byteLength);
  if (kernel.length < 64 || view.getUint32(0, false) !== 0x7f454c46 || kernel[4] !== 2 || kernel[5] !== 1)
    return false;
  const table = Number(view.getBigUint64(32, true));
  const size = view.getUint16(54, true);
  const count = view.getUint16(56, true);
  for (let index = 0; index < count; index++) {
    const at = table + index * size;
    if (at + 56 > kernel.length) return false;
    if (view.getUint32(at, true) !== PT_NOTE) continue;
    const from = Number(view.getBigUint64(at + 8, true));
    const to = Math.min(kernel.length, from + Number(view.getBigUint64(at + 32, true)));
    for (let note = from; note + 12 <= to;) {
      const nameBytes = view.getUint32(note, true);
      const isXen = Buffer.from(kernel.subarray(note + 12, note + 16)).toString('latin1') === 'Xen\0';
      if (isXen && view.getUint32(note + 8, true) === PHYS32_ENTRY) return true;
      note += 12 + ((nameBytes + 3) & ~3) + ((view.getUint32(note + 4, true) + 3) & ~3);
    }
  }
  return false;
}
