import ts from 'typescript';

/** One way that control can go in a source file: an arm of an `if`, `?:` or `switch`, of a loop, or of `&&`, `||`, `??`. */
export interface Arm {
  readonly file: string;
  readonly line: number;
  /** `whole`: a logical expression; how often it ends with its first operand is its count less that of `right`. */
  readonly way: 'then' | 'else' | 'case' | 'body' | 'whole' | 'right';
  /** The condition, on one line. */
  readonly text: string;
}

/** JavaScript that counts each arm it takes in the global array COUNTERS, from the index `first` on. */
export interface InstrumentedFile {
  readonly javaScript: string;
  readonly arms: readonly Arm[];
}

/** Name of the array of counters, in the global object. */
export const COUNTERS = 'xdpbedArms';

const LOGICAL: ReadonlySet<ts.SyntaxKind> = new Set([
  ts.SyntaxKind.AmpersandAmpersandToken,
  ts.SyntaxKind.BarBarToken,
  ts.SyntaxKind.QuestionQuestionToken,
]);

const COMPILER_OPTIONS: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2023,
  module: ts.ModuleKind.ESNext,
  experimentalDecorators: true,
  verbatimModuleSyntax: true,
};

/** A TypeScript file as JavaScript, without a look at its types. */
export function transpile(file: string, source: string): string {
  return ts.transpileModule(source, { fileName: file, compilerOptions: COMPILER_OPTIONS }).outputText;
}

/**
 * Finds the arms of a TypeScript file and makes JavaScript that counts them. Left out is what cannot change a verdict:
 * what chooses the words of a rejection (arguments of `reject…(…)`) or of any other text (templates).
 */
export function instrument(file: string, source: string, first: number): InstrumentedFile {
  const arms: Arm[] = [];
  const counting: ts.TransformerFactory<ts.SourceFile> = (context) => (tree) => {
    const { factory } = context;
    const count = (node: ts.Node, way: Arm['way'], shown: ts.Node): ts.Expression => {
      const line = tree.getLineAndCharacterOfPosition(node.getStart(tree)).line + 1;
      arms.push({ file, line, way, text: shown.getText(tree).replace(/\s+/g, ' ').slice(0, 110) });
      return factory.createPostfixIncrement(
        factory.createElementAccessExpression(
          factory.createPropertyAccessExpression(factory.createIdentifier('globalThis'), COUNTERS),
          first + arms.length - 1,
        ),
      );
    };
    const before = (counter: ts.Expression, value: ts.Expression): ts.Expression =>
      factory.createParenthesizedExpression(factory.createComma(counter, value));
    const block = (counter: ts.Expression, statement?: ts.Statement): ts.Block =>
      factory.createBlock([
        factory.createExpressionStatement(counter),
        ...(statement === undefined ? [] : [statement]),
      ]);
    const part = <T extends ts.Node>(node: T): T => ts.visitNode(node, visit) as T;
    const visit = (node: ts.Node): ts.Node => {
      if (ts.isTemplateExpression(node)) return node;
      if (ts.isCallExpression(node) && rejects(node, tree)) return node;
      if (ts.isIfStatement(node)) {
        const { expression, thenStatement, elseStatement } = node;
        return factory.updateIfStatement(
          node,
          part(expression),
          block(count(thenStatement, 'then', expression), part(thenStatement)),
          block(
            count(elseStatement ?? node, 'else', expression),
            elseStatement === undefined ? undefined : part(elseStatement),
          ),
        );
      }
      if (ts.isConditionalExpression(node)) {
        const { condition, whenTrue, whenFalse } = node;
        return factory.updateConditionalExpression(
          node,
          part(condition),
          node.questionToken,
          before(count(whenTrue, 'then', condition), part(whenTrue)),
          node.colonToken,
          before(count(whenFalse, 'else', condition), part(whenFalse)),
        );
      }
      if (ts.isBinaryExpression(node) && LOGICAL.has(node.operatorToken.kind)) {
        const { left, right } = node;
        const whole = count(left, 'whole', node);
        const taken = before(count(right, 'right', node), part(right));
        return before(whole, factory.updateBinaryExpression(node, part(left), node.operatorToken, taken));
      }
      if (ts.isCaseOrDefaultClause(node)) {
        if (node.statements.length === 0) return node;
        const shown = ts.isCaseClause(node) ? node.expression : node.parent.parent.expression;
        const statements = [
          factory.createExpressionStatement(count(node, 'case', shown)),
          ...node.statements.map(part),
        ];
        return ts.isCaseClause(node)
          ? factory.updateCaseClause(node, part(node.expression), statements)
          : factory.updateDefaultClause(node, statements);
      }
      if (ts.isForStatement(node)) {
        return factory.updateForStatement(
          node,
          node.initializer && part(node.initializer),
          node.condition && part(node.condition),
          node.incrementor && part(node.incrementor),
          block(count(node.statement, 'body', node), part(node.statement)),
        );
      }
      return ts.visitEachChild(node, visit, context);
    };
    return ts.visitEachChild(tree, visit, context);
  };
  const { outputText } = ts.transpileModule(source, {
    fileName: file,
    compilerOptions: COMPILER_OPTIONS,
    transformers: { before: [counting] },
  });
  return { javaScript: outputText, arms };
}

/** `sim.reject(…)`, `rejectArgument(…)` and the like. */
function rejects({ expression }: ts.CallExpression, tree: ts.SourceFile): boolean {
  const name = ts.isPropertyAccessExpression(expression) ? expression.name.text : expression.getText(tree);
  return name.startsWith('reject');
}
