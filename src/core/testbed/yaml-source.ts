import {
  Composer,
  isAlias,
  isCollection,
  isMap,
  isPair,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  Parser,
  type Alias,
  type CST,
  type Document,
  type Node,
  type Pair,
  type Scalar,
  type YAMLMap,
} from 'yaml';
import type { DiagnosticLocation } from '../diagnostic.js';
import { setOwn } from '../own-property.js';

/** One thing wrong with a testbed file: where, what, and what may have been meant. */
export interface Problem {
  readonly at: Extract<DiagnosticLocation, { line: number }>;
  readonly message: string;
  readonly hint?: string | undefined;
}

/** A path into the document: keys and list indexes. */
export type YamlPath = readonly (string | number)[];

/** Characters of the largest file that is read. */
const MAX_FILE_SIZE = 1024 * 1024;
/**
 * Words, signs, spaces, line ends and escapes. The parser takes microseconds for each and for each error it
 * finds, so this and not the size of the file bounds the time that a file takes.
 */
const MAX_TOKENS = 200_000;
/** Nodes that aliases may expand to, all together, before the file is taken for an attack. */
const MAX_ALIASED_NODES = 10_000;
/** Lists and maps in each other, aliases expanded. */
const MAX_DEPTH = 64;
/** Syntax problems that are told of one file, and characters of the text of each. */
const MAX_PROBLEMS = 100;
const MAX_MESSAGE_LENGTH = 200;

const TOO_DEEP = `lists and maps are nested deeper than the limit of ${MAX_DEPTH}`;

/**
 * A YAML file that knows where each value stands. Reads YAML 1.2 core schema; duplicate keys, tags it does not
 * know and alias bombs are problems, not surprises. Whatever the text, the work is linear in it and bounded.
 */
export class YamlSource {
  readonly problems: Problem[] = [];
  /** The content as plain data, aliases replaced by copies; undefined when there are syntax problems. */
  readonly value: unknown;
  readonly #root: Node | null = null;
  readonly #lines = new LineCounter();
  /** What each alias stands for: the last node with its anchor before it. */
  readonly #targets = new Map<Alias, Node>();
  /** The pairs of each map by key, the first of those that stand twice. */
  readonly #pairs = new Map<YAMLMap, Map<string, Pair>>();

  constructor(
    readonly file: string,
    text: string,
  ) {
    if (text.length > MAX_FILE_SIZE) {
      this.#report(0, `${text.length} characters exceed the limit of ${MAX_FILE_SIZE}`);
      return;
    }
    const tokens = tokenize(text, this.#lines);
    if (typeof tokens === 'string') {
      this.#report(0, tokens);
      return;
    }
    const { document, issues } = composeDocument(tokens, text.length);
    this.#root = document.contents;
    for (const { offset, message } of issues.slice(0, MAX_PROBLEMS)) this.#report(offset, message);
    if (issues.length <= MAX_PROBLEMS) this.#bind(this.#root, new Map());
    if (issues.length > MAX_PROBLEMS) {
      const { offset } = issues[MAX_PROBLEMS]!;
      this.#report(offset, `from here on, ${issues.length - MAX_PROBLEMS} further syntax problems`);
    }
    if (this.problems.length > 0) return;
    const expansion = new Expansion(this.#targets);
    try {
      this.value = expansion.toPlain(this.#root, 0);
    } catch (error) {
      if (!(error instanceof ExpansionError)) throw error;
      this.#report(startOf(error.alias) ?? 0, `the file cannot be expanded: ${error.message}`, error.hint);
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
    let node: unknown = this.#root;
    let keyOffset: number | undefined;
    let valueOffset = startOf(node) ?? 0;
    for (const step of path) {
      if (isAlias(node)) node = this.#targets.get(node);
      let next: unknown;
      if (isMap(node)) {
        const pair = this.#pairs.get(node)?.get(String(step));
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

  /**
   * In the order of the document: finds what aliases stand for, and keys that stand twice. The parser could do
   * the latter, but compares each key with all before it, and finds the former by looking through the document
   * again for each alias.
   */
  #bind(node: unknown, anchors: Map<string, Node>): void {
    if (isAlias(node)) {
      const target = anchors.get(node.source);
      if (target !== undefined) this.#targets.set(node, target);
      return;
    }
    if ((isScalar(node) || isCollection(node)) && node.anchor !== undefined) anchors.set(node.anchor, node);
    if (isMap(node)) {
      const pairs = new Map<string, Pair>();
      this.#pairs.set(node, pairs);
      for (const pair of node.items) {
        if (isScalar(pair.key)) {
          const key = String(pair.key.value);
          if (!pairs.has(key)) pairs.set(key, pair);
          else if (this.problems.length < MAX_PROBLEMS)
            this.#report(startOf(pair.key) ?? 0, 'this key stands twice in the same map');
        }
        this.#bind(pair.key, anchors);
        this.#bind(pair.value, anchors);
      }
    } else if (isSeq(node)) {
      for (const item of node.items) this.#bind(item, anchors);
    }
  }

  #report(offset: number, message: string, hint?: string): void {
    this.problems.push({ at: this.#at(offset), message, ...(hint === undefined ? {} : { hint }) });
  }

  #at(offset: number): Problem['at'] {
    const { line, col } = this.#lines.linePos(offset);
    return { file: this.file, line: Math.max(line, 1), col: Math.max(col, 1) };
  }
}

/**
 * The tokens of a text, or why it is not read. Depth is asked before a document is made of the tokens, which
 * recurses: an exhausted stack is no error that could be caught wherever it happens. The engine's regular
 * expressions end the process.
 */
function tokenize(text: string, lines: LineCounter): CST.Token[] | string {
  const parser = new Parser(lines.addNewLine);
  const tokens: CST.Token[] = [];
  let count = 0;
  lines.addNewLine(0);
  for (const lexeme of new Lexer().lex(text)) {
    count += 1 + (lexeme.startsWith('"') ? lexeme.split('\\').length : 0);
    if (count > MAX_TOKENS) return `more than the limit of ${MAX_TOKENS} words, signs and spaces`;
    for (const token of parser.next(lexeme)) tokens.push(token);
    // Below the collections lies the document.
    if (parser.stack.length > MAX_DEPTH + 1) return TOO_DEEP;
  }
  for (const token of parser.end()) tokens.push(token);
  return tokens;
}

interface SyntaxIssue {
  readonly offset: number;
  readonly message: string;
}

/** The first document of a file, and what is wrong with its syntax. A second document is one of these. */
function composeDocument(
  tokens: readonly CST.Token[],
  endOffset: number,
): { document: Document; issues: SyntaxIssue[] } {
  const composer = new Composer({ uniqueKeys: false, stringKeys: true, prettyErrors: false });
  // An error of the parser is a value to us. A stack for each of a hundred thousand would take most of the time.
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    const documents = composer.compose(tokens, true, endOffset);
    const document = documents.next().value as Document;
    const second = documents.next().value as Document | undefined;
    const issues = [...document.errors, ...document.warnings].map(({ pos, code, message }) => ({
      offset: pos[0],
      message: describeSyntaxError(code, message),
    }));
    if (second !== undefined)
      issues.push({
        offset: second.range?.[0] ?? endOffset,
        message: 'the file holds several documents; a testbed is one',
      });
    return { document, issues };
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

/** Why aliases cannot be replaced by what they stand for. */
class ExpansionError extends Error {
  constructor(
    message: string,
    readonly alias: unknown,
    readonly hint?: string,
  ) {
    super(message);
  }
}

/** Plain data of nodes. Each alias becomes a copy, so that changing one place changes no other. */
class Expansion {
  /** Anchored nodes that are being expanded. */
  readonly #open = new Set<unknown>();
  #aliased = 0;
  #outermost: Alias | undefined;

  constructor(readonly targets: ReadonlyMap<Alias, Node>) {}

  toPlain(node: unknown, depth: number): unknown {
    if (isAlias(node)) return this.#expand(node, depth);
    if (this.#outermost !== undefined && ++this.#aliased > MAX_ALIASED_NODES) {
      throw new ExpansionError(
        'excessive alias count indicates a resource exhaustion attack',
        this.#outermost,
        `aliases may expand to ${MAX_ALIASED_NODES} nodes in all`,
      );
    }
    if (isScalar(node)) return exact(node);
    if (!isCollection(node)) return null;
    if (depth >= MAX_DEPTH) throw new ExpansionError(TOO_DEEP, this.#outermost);
    this.#open.add(node);
    const plain = isSeq(node)
      ? node.items.map((item) => this.toPlain(item, depth + 1))
      : this.#toRecord(node.items, depth + 1);
    this.#open.delete(node);
    return plain;
  }

  #toRecord(items: readonly unknown[], depth: number): Record<string, unknown> {
    const record: Record<string, unknown> = {};
    for (const pair of items) {
      if (!isPair(pair) || !isScalar(pair.key)) continue;
      setOwn(record, String(pair.key.value), this.toPlain(pair.value, depth));
    }
    return record;
  }

  #expand(alias: Alias, depth: number): unknown {
    const target = this.targets.get(alias);
    if (target === undefined) {
      throw new ExpansionError(
        `unresolved alias (the anchor must be set before the alias): ${shorten(alias.source)}`,
        alias,
      );
    }
    if (this.#open.has(target)) throw new ExpansionError('an alias stands within what it stands for', alias);
    const outer = this.#outermost;
    this.#outermost = outer ?? alias;
    const plain = this.toPlain(target, depth);
    this.#outermost = outer;
    return plain;
  }
}

/** An integer that no number of ours is equal to is given as its text: whoever takes such numbers reads all digits. */
function exact({ value, source }: Scalar): unknown {
  if (typeof value !== 'number' || Number.isSafeInteger(value) || source === undefined) return value;
  return /^[-+]?(?:\d+|0x[0-9a-f]+)$/i.test(source) ? source.replace('+', '') : value;
}

function startOf(node: unknown): number | undefined {
  return (node as Node | null | undefined)?.range?.[0];
}

function describeSyntaxError(code: string, message: string): string {
  if (code === 'NON_STRING_KEY') return 'a key must be plain text, not a list, a map or an alias';
  const first = shorten(message.split('\n', 1)[0]!);
  return first.charAt(0).toLowerCase() + first.slice(1);
}

function shorten(text: string): string {
  return text.length <= MAX_MESSAGE_LENGTH ? text : `${text.slice(0, MAX_MESSAGE_LENGTH)}…`;
}
