import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const root = new URL('..', import.meta.url).pathname;
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  exports: Record<string, string | { types: string }>;
};

/** The source of each entry point of the package: `./dist/src/index.d.ts` is made of `src/index.ts`. */
const entryPoints = Object.values(manifest.exports).flatMap((target) =>
  typeof target === 'string' ? [] : [target.types.replace('./dist/', '').replace('.d.ts', '.ts')],
);

/** Where a built-in plugin may import what others cannot: rendering that reporters share, of no contract. */
const OWN = ['src/report/'];

/** Names that the built-in plugins take from `src`, by the file that declares them, with one that takes it. */
function namesOfBuiltInPlugins(): { file: string; name: string; by: string }[] {
  const found = new Map<string, { file: string; name: string; by: string }>();
  const files = readdirSync(join(root, 'plugins'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts') && !file.includes('fixtures'))
    .map((file) => join('plugins', file));
  for (const by of files) {
    const source = ts.createSourceFile(by, readFileSync(join(root, by), 'utf8'), ts.ScriptTarget.ES2023);
    source.forEachChild((node) => {
      if (!ts.isImportDeclaration(node) && !ts.isExportDeclaration(node)) return;
      if (node.moduleSpecifier === undefined || !ts.isStringLiteral(node.moduleSpecifier)) return;
      const specifier = node.moduleSpecifier.text;
      const file = relative(root, resolve(root, by, '..', specifier)).replace(/\.js$/, '.ts');
      if (!specifier.startsWith('.') || !file.startsWith('src/')) return;
      const clause = ts.isImportDeclaration(node) ? node.importClause?.namedBindings : node.exportClause;
      if (clause === undefined || (!ts.isNamedImports(clause) && !ts.isNamedExports(clause))) return;
      for (const element of clause.elements) {
        const name = (element.propertyName ?? element.name).text;
        found.set(`${file} ${name}`, { file, name, by });
      }
    });
  }
  return [...found.values()];
}

describe('what a plugin in a package of its own can import', () => {
  it('is all that the built-in plugins import', () => {
    const config = ts.readConfigFile(join(root, 'tsconfig.json'), (path) => ts.sys.readFile(path));
    const { options } = ts.parseJsonConfigFileContent(config.config, ts.sys, root);
    const program = ts.createProgram(
      entryPoints.map((entry) => join(root, entry)),
      options,
    );
    const checker = program.getTypeChecker();
    const exported = new Set(
      entryPoints.flatMap((entry) => {
        const symbol = checker.getSymbolAtLocation(program.getSourceFile(join(root, entry))!);
        return checker.getExportsOfModule(symbol!).map((each) => {
          const declared = each.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(each) : each;
          const file = declared.declarations?.[0]?.getSourceFile().fileName ?? '';
          return `${relative(root, file)} ${each.name}`;
        });
      }),
    );
    // Re-exported names are found by where they are declared, so that a namesake elsewhere is no match.
    const names = namesOfBuiltInPlugins();
    expect(names.length).toBeGreaterThan(200);
    const declared = (file: string, name: string): string => {
      const source = program.getSourceFile(join(root, file));
      if (source === undefined) return `${file} ${name}`;
      const symbol = checker.getSymbolAtLocation(source);
      const found = symbol && checker.getExportsOfModule(symbol).find((each) => each.name === name);
      const target = found && found.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(found) : found;
      const home = target?.declarations?.[0]?.getSourceFile().fileName ?? join(root, file);
      return `${relative(root, home)} ${name}`;
    };
    const missing = names
      .filter(
        ({ file, name }) => !OWN.some((own) => file.startsWith(own)) && !exported.has(declared(file, name)),
      )
      .map(({ file, name, by }) => `${name} of ${file}, for ${by}`);
    expect(missing).toEqual([]);
  });
});
