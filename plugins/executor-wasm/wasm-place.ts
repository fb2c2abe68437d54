/** A position in a module: byte offset of the instruction. */
export interface WasmPlace {
  /** The name in the module's name section. */
  readonly module: string;
  readonly offset: number;
}

const URL = /^wasm:\/\/wasm\/(\w+)-[0-9a-f]+$/;
const FRAME = /wasm:\/\/wasm\/(\w+)-[0-9a-f]+:wasm-function\[\d+\]:0x([0-9a-f]+)/;

/**
 * The innermost wasm frame of an error's stack trace. It asks V8 for the frames themselves, because the text is
 * at the mercy of whoever installed a formatter (source maps, test runners); they are handed out when `stack` is
 * read for the first time. An error that was asked for its stack before has only the text left.
 */
export function wasmPlace(error: Error): WasmPlace | undefined {
  // eslint-disable-next-line @typescript-eslint/unbound-method -- put back as it was found
  const formatter = Error.prepareStackTrace;
  let stack: unknown;
  try {
    Error.prepareStackTrace = (_, frames) => frames;
    stack = error.stack;
  } finally {
    Error.prepareStackTrace = formatter;
  }
  if (!Array.isArray(stack)) return placeInText(String(stack));
  for (const frame of stack as NodeJS.CallSite[]) {
    const match = URL.exec(frame.getScriptNameOrSourceURL() ?? '');
    if (match !== null) return { module: match[1]!, offset: frame.getPosition() };
  }
  return undefined;
}

/** From V8's own text: `wasm://wasm/name-1a2b3c4d:wasm-function[3]:0x1e0`. */
export function placeInText(stack: string): WasmPlace | undefined {
  const match = FRAME.exec(stack);
  return match === null ? undefined : { module: match[1]!, offset: parseInt(match[2]!, 16) };
}
