import {
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  parseDocument,
  Parser,
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

/** Lists and maps in each other. */
const MAX_DEPTH = 64;

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
    if (depthExceeds(text, MAX_DEPTH)) {
      this.#document = parseDocument('');
      this.problems.push({
        at: this.#at(0),
        message: `lists and maps are nested deeper than the limit of ${MAX_DEPTH}`,
      });
      return;
    }
    this.#document = parseDocument(text, {
      lineCounter: this.#lines,
      uniqueKeys: true,
      stringKeys: true,
      prettyErrors: false,
    });
    for (const issue of [...this.#document.errors, ...this.#document.warnings]) {
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

/**
 * Asked before the document is made of the tokens, which recurses: an exhausted stack is no error that could be
 * caught wherever it happens. The engine's regular expressions end the process.
 */
function depthExceeds(text: string, limit: number): boolean {
  const parser = new Parser();
  for (const lexeme of new Lexer().lex(text)) {
    for (const _ of parser.next(lexeme));
    // Below the collections lies the document.
    if (parser.stack.length > limit + 1) return true;
  }
  return false;
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
