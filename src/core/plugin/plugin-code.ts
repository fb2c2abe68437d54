import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { childEnvironment } from '../child-process-module.js';
import type { DiagnosticLocation } from '../diagnostic.js';

type SourcePlace = Extract<DiagnosticLocation, { readonly line: number }>;

/** Folders with the code of plugins from elsewhere that this process has imported: URLs that end in a slash. */
const FOLDERS = new Set<string>();

/** Milliseconds that finding a syntax error may take: it is a service, and the module may do anything. */
const FIND_TIMEOUT_MS = 5_000;

/** From now on, what is thrown in this module or beside it has a place (`placeInPlugin`). */
export function rememberPluginCode(module: string): void {
  // Of an installed package all of it; of a module that is named by its path, the folder.
  const [installed] = /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+\//.exec(module) ?? [];
  FOLDERS.add(installed ?? new URL('.', URL.canParse(module) ? module : pathToFileURL(module)).href);
}

/** Where in a plugin's own code an error was thrown: the innermost frame there. Undefined when it was thrown elsewhere. */
export function placeInPlugin(error: unknown): SourcePlace | undefined {
  const stack = stackOf(error);
  const frames = stack.matchAll(/(file:\/\/[^\s()]+?|\/[^\s():]+):(\d+):(\d+)\)?$/gm);
  for (const [, file, line, col] of frames) {
    const url = file!.startsWith('file:') ? file! : `file://${file!}`;
    const folder = [...FOLDERS].find((each) => url.startsWith(each));
    // What a plugin depends on is not the plugin.
    if (folder === undefined || url.slice(folder.length).includes('node_modules/')) continue;
    return placeAt(url, Number(line), Number(col));
  }
  return undefined;
}

/**
 * Where in a plugin's code it is that a module could not be imported: a syntax error, an import of what there is not, or
 * what its top level threw.
 */
export async function placeOfImportError(module: string, error: unknown): Promise<SourcePlace | undefined> {
  return (
    placeInPlugin(error) ??
    placeUnderArrow(stackOf(error)) ??
    placeOfImport(error) ??
    (await placeOfSyntaxError(module, error))
  );
}

/** What Node puts in front of an error whose place is in no frame: file and line, the line, and an arrow at the column. */
function placeUnderArrow(text: string): SourcePlace | undefined {
  const [, file, line, arrow] = /^(file:\/\/\S+):(\d+)\n.*\n( *)\^/.exec(text) ?? [];
  return file === undefined ? undefined : placeAt(file, Number(line), arrow!.length + 1);
}

/** The import of a module that is not there: Node names the importer, but not the line. */
function placeOfImport(error: unknown): SourcePlace | undefined {
  const { code, message } = Object(error) as { code?: unknown; message?: unknown };
  if (code !== 'ERR_MODULE_NOT_FOUND') return undefined;
  const [, missing, importer] =
    /^Cannot find (?:module|package) '(.*?)' imported from (\/.*)$/m.exec(String(message)) ?? [];
  if (missing === undefined || importer === undefined) return undefined;
  let lines: string[];
  try {
    lines = readFileSync(importer, 'utf8').split('\n');
  } catch {
    return undefined;
  }
  const from = new URL(`file://${importer}`);
  const isMissing = (specifier: string): boolean =>
    specifier.startsWith('.')
      ? fileURLToPath(new URL(specifier, from)) === missing
      : specifier === missing || specifier.startsWith(`${missing}/`);
  for (const [index, text] of lines.entries()) {
    for (const { 2: specifier, index: at } of text.matchAll(/(['"])([^'"]+)\1/g)) {
      if (isMissing(specifier!)) return placeAt(from.href, index + 1, at + 1);
    }
  }
  return undefined;
}

/**
 * Node tells the place of a syntax error only to who does not catch it. So the module is imported once more, in a process
 * that does not: with a syntax error in it, or in what it imports, none of its code runs there.
 */
async function placeOfSyntaxError(module: string, error: unknown): Promise<SourcePlace | undefined> {
  if (!(error instanceof SyntaxError)) return undefined;
  const args = ['--input-type=module', '-e', 'await import(process.argv[1])', module];
  const options = { env: childEnvironment(), timeout: FIND_TIMEOUT_MS, killSignal: 'SIGKILL' } as const;
  const printed = await new Promise<string>((resolve) => {
    execFile(process.execPath, args, options, (_, __, stderr) => resolve(stderr));
  });
  return placeUnderArrow(printed);
}

function placeAt(url: string, line: number, col: number): SourcePlace {
  let file = url;
  try {
    file = fileURLToPath(url);
  } catch {
    // No path of this machine; the URL says where it is as well.
  }
  const near = relative(process.cwd(), file);
  return { file: near.startsWith('..') ? file : near, line, col };
}

/** Whatever was thrown, and however its stack is made. */
function stackOf(error: unknown): string {
  try {
    const { stack } = Object(error) as { stack?: unknown };
    return typeof stack === 'string' ? stack : '';
  } catch {
    return '';
  }
}
