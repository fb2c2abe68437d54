import { readFileSync } from 'node:fs';
import ts from 'typescript';

/** A file that was weakened at one place. */
export interface Mutant {
  readonly file: string;
  readonly line: number;
  readonly from: string;
  readonly to: string;
  readonly text: string;
}

const EXCHANGED = new Map<ts.SyntaxKind, string>([
  [ts.SyntaxKind.LessThanToken, '<='],
  [ts.SyntaxKind.LessThanEqualsToken, '<'],
  [ts.SyntaxKind.GreaterThanToken, '>='],
  [ts.SyntaxKind.GreaterThanEqualsToken, '>'],
  [ts.SyntaxKind.EqualsEqualsEqualsToken, '!=='],
  [ts.SyntaxKind.ExclamationEqualsEqualsToken, '==='],
  [ts.SyntaxKind.AmpersandAmpersandToken, '||'],
  [ts.SyntaxKind.BarBarToken, '&&'],
  [ts.SyntaxKind.PlusToken, '-'],
  [ts.SyntaxKind.MinusToken, '+'],
]);

/** Every way to weaken a file: operators exchanged, guards and statements that only call left out. */
export function mutantsOf(file: string): Mutant[] {
  const source = readFileSync(file, 'utf8');
  const tree = ts.createSourceFile(file, source, ts.ScriptTarget.Latest, true);
  const mutants: Mutant[] = [];
  const add = (node: ts.Node, to: string): void => {
    const from = node.getText(tree);
    const start = node.getStart(tree);
    const { line } = tree.getLineAndCharacterOfPosition(start);
    const text = source.slice(0, start) + to + source.slice(node.getEnd());
    mutants.push({ file, line: line + 1, from: from.replace(/\s+/g, ' ').slice(0, 90), to, text });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isBinaryExpression(node)) {
      const to = EXCHANGED.get(node.operatorToken.kind);
      // Text is put together with + as well.
      const isText = node.getText(tree).includes('`') || node.getText(tree).includes("'");
      if (to !== undefined && !isText) add(node.operatorToken, to);
    }
    if (ts.isExpressionStatement(node) && ts.isCallExpression(node.expression)) add(node, ';');
    if (ts.isIfStatement(node) && node.elseStatement === undefined && leaves(node.thenStatement))
      add(node, ';');
    ts.forEachChild(node, visit);
  };
  visit(tree);
  return mutants;
}

/** A guard: it returns, or rejects. */
function leaves(statement: ts.Statement): boolean {
  const last = ts.isBlock(statement) ? statement.statements.at(-1) : statement;
  if (last === undefined) return false;
  if (ts.isReturnStatement(last) || ts.isContinueStatement(last)) return true;
  return (
    ts.isExpressionStatement(last) &&
    ts.isCallExpression(last.expression) &&
    last.expression.expression.getText().toLowerCase().includes('reject')
  );
}
