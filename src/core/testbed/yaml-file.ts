import { readFile } from 'node:fs/promises';
import { XdpbedError, messageOf } from '../diagnostic.js';
import { ProblemList } from './problem-list.js';
import { YamlSource } from './yaml-source.js';

/**
 * A YAML file whose syntax is sound. It is read as bytes, so that text in another encoding is refused at its place in place of
 * being taken for other text. Throws `file-unreadable`, or `testbed-invalid` with every problem of the syntax.
 */
export async function readYamlFile(file: string): Promise<YamlSource> {
  let content: Uint8Array;
  try {
    content = await readFile(file);
  } catch (cause) {
    throw new XdpbedError('file-unreadable', `cannot read ${file}: ${messageOf(cause)}`, { cause });
  }
  const source = new YamlSource(file, content);
  new ProblemList(source).throwIfAny();
  return source;
}
