import {
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  visit,
  type Document,
  type Node,
} from 'yaml';
import { messageOf, type DiagnosticLocation } from '../diagnostic.js';

/** One thing wrong with a testbed file: where, what, and what may have been meant. */
export interface Problem {
  readonly at: Extract<DiagnosticLocation, { line: number }>;
  readonly message: string;
  readonly hint?: string | undefined;
}

/** A path into the document: keys and list indexes. */
export type YamlPath = readonly (string | number)[];

/** Bytes of the largest testbed file that is read. */
const MAX_FILE_SIZE = 1024 * 1024;
/** Nodes that aliases may expand to, all together, before the file is taken for an attack. */
const MAX_ALIAS_COUNT = 100;

/** What the engine throws when the parser recurses too deep. */
const STACK_EXHAUSTED = /maximum call stack/i;

/**
 * A YAML file that knows where each value stands. Reads YAML 1.2 core schema; duplicate keys, tags it does not
 * know and alias bombs are problems, not surprises.
 */
export class YamlSource {
  readonly problems: Problem[] = [];
  /** The content as plain data; undefined when there are syntax problems. */
  readonly value: unknown;
  readonly #document: Document;
  readonly #lines = new LineCounter();

  constructor(
    readonly file: string,
    text: string,
  ) {
    if (text.length > MAX_FILE_SIZE) {
      this.#document = parseDocument('');
      this.problems.push({
        at: this.#at(0),
        message: `${text.length} characters exceed the limit of ${MAX_FILE_SIZE}`,
      });
      return;
    }
    try {
      this.#document = parseDocument(text, {
        lineCounter: this.#lines,
        uniqueKeys: true,
        stringKeys: true,
        prettyErrors: false,
      });
    } catch (error) {
      // The parser recurses; nesting deep enough to exhaust the stack is nothing a person wrote.
      this.#document = parseDocument('');
      this.problems.push({ at: this.#at(0), message: `the file cannot be parsed: ${messageOf(error)}` });
      return;
    }
    for (const issue of [...this.#document.errors, ...this.#document.warnings]) {
      if (STACK_EXHAUSTED.test(issue.message)) {
        // The parser recovers from that and stumbles over everything behind it; none of it helps anybody.
        this.problems.splice(0, Infinity, {
          at: this.#at(issue.pos[0]),
          message: 'the file is nested too deeply to be parsed',
        });
        return;
      }
      this.problems.push({
        at: this.#at(issue.pos[0]),
        message: describeSyntaxError(issue.code, issue.message),
      });
    }
    if (this.problems.length > 0) return;
    try {
      this.value = this.#document.toJS({ maxAliasCount: MAX_ALIAS_COUNT }) as unknown;
    } catch (error) {
      this.problems.push({
        at: this.#at(this.#firstAlias()),
        message: `the file cannot be expanded: ${messageOf(error).split('\n')[0]!.toLowerCase()}`,
        hint: `aliases may expand to ${MAX_ALIAS_COUNT} nodes in all`,
      });
    }
  }

  /** Where the value at a path stands; the nearest ancestor when there is none. */
  locate(path: YamlPath): Problem['at'] {
    return this.#at(this.#node(path).valueOffset);
  }

  /** Where the key at the end of the path stands. */
  locateKey(path: YamlPath): Problem['at'] {
    const { keyOffset, valueOffset } = this.#node(path);
    return this.#at(keyOffset ?? valueOffset);
  }

  #node(path: YamlPath): { keyOffset: number | undefined; valueOffset: number } {
    let node: unknown = this.#document.contents;
    let keyOffset: number | undefined;
    let valueOffset = startOf(node) ?? 0;
    for (const step of path) {
      if (isAlias(node)) node = node.resolve(this.#document);
      let next: unknown;
      if (isMap(node)) {
        const pair = node.items.find(
          (item) => isPair(item) && isScalar(item.key) && String(item.key.value) === String(step),
        );
        if (pair === undefined) break;
        keyOffset = startOf(pair.key);
        next = pair.value;
        valueOffset = startOf(next) ?? keyOffset ?? valueOffset;
      } else if (isSeq(node)) {
        next = node.items[Number(step)];
        if (next === undefined) break;
        keyOffset = undefined;
        valueOffset = startOf(next) ?? valueOffset;
      } else {
        break;
      }
      node = next;
    }
    return { keyOffset, valueOffset };
  }

  #firstAlias(): number {
    let first = 0;
    visit(this.#document, {
      Alias: (_, alias) => {
        first = startOf(alias) ?? 0;
        return visit.BREAK;
      },
    });
    return first;
  }

  #at(offset: number): Problem['at'] {
    const { line, col } = this.#lines.linePos(offset);
    return { file: this.file, line: Math.max(line, 1), col: Math.max(col, 1) };
  }
}

function startOf(node: unknown): number | undefined {
  return (node as Node | null | undefined)?.range?.[0];
}

function describeSyntaxError(code: string, message: string): string {
  if (code === 'DUPLICATE_KEY') return 'this key stands twice in the same map';
  if (code === 'NON_STRING_KEY') return 'a key must be plain text, not a list, a map or an alias';
  if (code === 'MULTIPLE_DOCS') return 'the file holds several documents; a testbed is one';
  const first = message.split('\n')[0]!;
  return first.charAt(0).toLowerCase() + first.slice(1);
}
